"""Landmarks and scores of pictures and clips, by the tracker and by MediaPipe's landmarker: what solver and basis learn from.

Every picture is also observed bent, turned, blurred and mirrored (`varied`). A smooth random displacement of the pixels
makes a face of another build with another expression that is still a photograph, and both observe the same one. Half of these
have been given an expression by the `warp` renderer first (`moved`): few pictures show anger, or a mouth in mid-word.
"""

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from cmet_engine import arkit
from cmet_engine.errors import InvalidInput
from cmet_engine.face.mesh import Landmarker, Mesh, box_of
from cmet_engine.face.pose import LANDMARKS
from cmet_engine.face.tracker import track
from cmet_engine.media.reader import VideoReader
from cmet_engine.progress import Progress, Stage
from cmet_engine.render.motion import landmark_motion
from cmet_engine.render.warp import facing_weights, warp
from cmet_engine.track import CoefficientTrack
from cmet_engine.training.blendshape_teacher import OUTPUTS
from cmet_engine.training.face.samples import canonical
from cmet_engine.training.motion.data import draw_changes

VARIANTS = 2  # of every picture, beside the picture itself
CLIP_STEP = 10  # frames between those of a clip that are also observed varied
BEND = 0.035  # standard deviation of the displacement in picture widths, at its largest
TURN = 25.0  # degrees either way in the plane
MOVED = 0.5  # share of the bent pictures that are given an expression first
STRENGTHS = (0.7, 1.6)  # times the change of expression that was drawn
FURTHEST = 0.35  # of the face's width: nothing moves further


def varied(image: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """The picture bent, turned, stretched, mirrored, darkened, blurred, by chance."""
    height, width = image.shape[:2]
    size = max(height, width)
    scale, stretch = np.exp(random.normal(0, 0.08)), np.exp(random.normal(0, 0.05))
    angle = np.radians(random.uniform(-TURN, TURN)) * random.random()
    turn = (
        np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
        @ np.diag([stretch, 1 / stretch])
        / scale
    )
    grid_y, grid_x = np.mgrid[0:height, 0:width].astype(np.float32)
    centre = np.array([width / 2, height / 2]) + random.normal(0, 0.03, 2) * size
    x, y = grid_x - centre[0], grid_y - centre[1]
    x, y = turn[0, 0] * x + turn[0, 1] * y + centre[0], turn[1, 0] * x + turn[1, 1] * y + centre[1]
    strength = BEND * size * random.random()
    for grid, share in ((4, 0.7), (8, 0.35)):  # the build of the face, and its features
        coarse = random.normal(0, strength * share, (grid, grid, 2)).astype(np.float32)
        field = cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)
        x, y = x + field[..., 0], y + field[..., 1]
    bent = cv2.remap(
        image, x.astype(np.float32), y.astype(np.float32), cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
    )
    if random.random() < 0.5:
        bent = bent[:, ::-1]
    light: Any = np.clip(bent * random.uniform(0.7, 1.25) + random.uniform(-20, 20), 0, 255).astype(np.uint8)
    if random.random() < 0.3:
        light = cv2.GaussianBlur(light, (0, 0), random.uniform(0.4, 1.2))
    return np.ascontiguousarray(light)


def moved(
    image: np.ndarray, landmarks: np.ndarray, scores: np.ndarray, recorded: np.ndarray, random: np.random.Generator
) -> np.ndarray:
    """The picture with another expression: an emotion, some single shapes, or a moment of a recording.

    Args:
        image: uint8 [H, W, 3].
        landmarks: [478, 3] pixels.
        scores: [52] of the picture, canonical order.
        recorded: [N, 52] coefficients that faces have been seen with; N may be 0.
        random: of all chance.
    """
    change = draw_changes(scores[None], random)[0]
    if len(recorded) and random.random() < 0.5:
        change = recorded[random.integers(len(recorded))] - scores
    change = np.clip(scores + change * random.uniform(*STRENGTHS), 0, 1) - scores
    points = landmarks[None].astype(np.float64)
    motion = landmark_motion(points, change[None], scores[None])[0] * facing_weights(points)[0][:, None]
    return image if np.abs(motion).max() > FURTHEST * np.ptp(points[0, :, 0]) else warp(image, points[0], motion)


def recorded_frames(takes: Sequence[Path]) -> np.ndarray:
    """Coefficients float32 [N, 52] of the frames with a face in recordings of any application."""
    tracks = [CoefficientTrack.load(take) for take in takes]
    frames = [np.clip(track.coefficients[track.valid], 0, 1) for track in tracks]
    return np.concatenate([np.zeros((0, arkit.COUNT), np.float32), *frames])


def observe_pictures(
    folder: Path,
    task: Path,
    output: Path,
    *,
    variants: int = VARIANTS,
    takes: Sequence[Path] = (),
    seed: int = 0,
    progress: Progress | None = None,
) -> None:
    """Observe every picture that `folder/index.csv` names (columns path, person) and write the observations.

    The .npz holds `person`, `paths`, `variant` (0: the picture itself), `landmarks` of the tracker, `teacher_landmarks`,
    `teacher_scores` and `names`. Beside every picture `variants` bent copies are observed, some of them `moved`, also as `takes` say.

    Raises:
        CmetError: the index is missing or names no picture.
    """
    try:
        with (folder / "index.csv").open(newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
    except OSError as error:
        raise InvalidInput(f"Cannot read {folder / 'index.csv'}: {error.strerror}.") from error
    mesh, landmarker, recorded = Mesh(), Landmarker(task), recorded_frames(takes)
    seen = _Observations()
    for i, row in enumerate(rows):
        image = cv2.imread(str(folder / row["path"]))
        if image is None:
            continue
        random = np.random.default_rng([seed, i])
        plain = np.asarray(cv2.cvtColor(image, cv2.COLOR_BGR2RGB))
        found = landmarker.detect(plain)
        seen.add(row["person"], 0, mesh, found, plain, row["path"])
        scores = canonical(np.asarray(found[1])[None], list(OUTPUTS))[0] if found else None
        for variant in range(1, variants + 1):
            picture = plain
            if found and scores is not None and random.random() < MOVED:
                picture = moved(plain, found[0], scores, recorded, random)
            picture = varied(picture, random)
            seen.add(row["person"], variant, mesh, landmarker.detect(picture), picture, row["path"])
        if progress:
            progress(Stage.OBSERVE, i + 1, len(rows))
    seen.save(output)
    mesh.close()
    landmarker.close()


def observe_clip(
    clip: Path, task: Path, output: Path, *, variants: int = 1, seed: int = 0, progress: Progress | None = None
) -> None:
    """Observe a clip with the tracker and the landmarker and write the observations; see `observe_pictures`.

    Also holds `track` int [N]: the frame's number for frames of the clip itself, -1 for varied single frames.
    """
    geometry = track(clip, progress=progress)
    mesh, landmarker, single = Mesh(), Landmarker(task, clip=True), Landmarker(task)
    seen = _Observations()
    random = np.random.default_rng([seed, len(geometry)])
    for frame in VideoReader(clip):
        found = landmarker.detect(frame.image, round(float(frame.time) * 1000))
        if found and geometry.valid[frame.index]:
            seen.append(clip.stem, 0, geometry.landmarks[frame.index], *found)
        if frame.index % CLIP_STEP == 0:
            for variant in range(1, variants + 1):
                picture = varied(frame.image, random)
                seen.add(clip.stem, variant, mesh, single.detect(picture), picture)
    seen.save(output)
    for graph in (mesh, landmarker, single):
        graph.close()


def observe(
    data: Path,
    output: Path,
    *,
    variants: int = VARIANTS,
    takes: Sequence[Path] = (),
    seed: int = 0,
    progress: Progress | None = None,
) -> None:
    """Observe all pictures and clips of a data folder; what is there already is not done again.

    Args:
        data: holds `faces/stills`, `clips/*.mp4` and `models/face_landmarker.task`.
        output: folder for `stills.npz` and `clips/*.npz`.
        variants: bent copies of every picture, see `observe_pictures`.
        takes: recordings of any application, of whose moments some of these copies show one.
        seed: of the bent pictures.
        progress: see `tracker.track`.
    """
    task = data / "models" / "face_landmarker.task"
    if not (output / "stills.npz").exists():
        observe_pictures(
            data / "faces" / "stills",
            task,
            output / "stills.npz",
            variants=variants,
            takes=takes,
            seed=seed,
            progress=progress,
        )
    for clip in sorted((data / "clips").glob("*.mp4")):
        seen = output / "clips" / f"{clip.stem}.npz"
        if not seen.exists():
            observe_clip(clip, task, seen, seed=seed, progress=progress)


class _Observations:
    """Rows of observations."""

    def __init__(self) -> None:
        self._rows: list[tuple[str, int, np.ndarray, np.ndarray, np.ndarray, str]] = []

    def append(self, name: str, variant: int, landmarks: np.ndarray, teacher: np.ndarray, scores: np.ndarray) -> None:
        self._rows.append((name, variant, landmarks, teacher, scores, ""))

    def add(
        self,
        name: str,
        variant: int,
        mesh: Mesh,
        found: tuple[np.ndarray, np.ndarray] | None,
        picture: np.ndarray,
        path: str = "",
    ) -> None:
        """Observe with the tracker's mesh where the landmarker found a face."""
        if found is None:
            return
        mesh.forget()
        points = mesh.find(picture, box_of(found[0]))
        if points is not None:
            self._rows.append((name, variant, points, *found, path))

    def save(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        rows = self._rows
        temporary = path.with_suffix(".part.npz")
        np.savez(
            temporary,
            person=np.array([row[0] for row in rows]),
            variant=np.array([row[1] for row in rows], np.int16),
            landmarks=np.array([row[2] for row in rows], np.float32).reshape(-1, LANDMARKS, 3),
            teacher_landmarks=np.array([row[3] for row in rows], np.float32).reshape(-1, LANDMARKS, 3),
            teacher_scores=np.array([row[4] for row in rows], np.float32).reshape(-1, len(OUTPUTS)),
            paths=np.array([row[5] for row in rows]),
            names=np.array(OUTPUTS),
        )
        temporary.replace(path)
