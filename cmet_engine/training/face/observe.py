"""Landmarks and scores of pictures and clips, by the tracker and by MediaPipe's landmarker: what solver and basis learn from.

Every picture is also observed bent, turned, blurred and mirrored (`varied`). A smooth random displacement of the pixels
makes a face of another build with another expression that is still a photograph, and both observe the same one.
"""

import csv
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from cmet_engine.errors import InvalidInput
from cmet_engine.face.mesh import Landmarker, Mesh, box_of
from cmet_engine.face.pose import LANDMARKS
from cmet_engine.face.tracker import track
from cmet_engine.media.reader import VideoReader
from cmet_engine.progress import Progress, Stage
from cmet_engine.training.blendshape_teacher import OUTPUTS

VARIANTS = 2  # of every picture, beside the picture itself
CLIP_STEP = 10  # frames between those of a clip that are also observed varied
BEND = 0.035  # standard deviation of the displacement in picture widths, at its largest
TURN = 25.0  # degrees either way in the plane


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


def observe_pictures(
    folder: Path, task: Path, output: Path, *, variants: int = VARIANTS, seed: int = 0, progress: Progress | None = None
) -> None:
    """Observe every picture that `folder/index.csv` names (columns path, person) and write the observations.

    The .npz holds `person`, `paths`, `variant` (0: the picture itself), `landmarks` of the tracker, `teacher_landmarks`,
    `teacher_scores` and `names`.

    Raises:
        CmetError: the index is missing or names no picture.
    """
    try:
        with (folder / "index.csv").open(newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
    except OSError as error:
        raise InvalidInput(f"Cannot read {folder / 'index.csv'}: {error.strerror}.") from error
    mesh, landmarker = Mesh(), Landmarker(task)
    seen = _Observations()
    for i, row in enumerate(rows):
        image = cv2.imread(str(folder / row["path"]))
        if image is None:
            continue
        random = np.random.default_rng([seed, i])
        for variant in range(variants + 1):
            plain = np.asarray(cv2.cvtColor(image, cv2.COLOR_BGR2RGB))
            picture = varied(plain, random) if variant else plain
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


def observe(data: Path, output: Path, *, seed: int = 0, progress: Progress | None = None) -> None:
    """Observe all pictures and clips of a data folder; what is there already is not done again.

    Args:
        data: holds `faces/stills`, `clips/*.mp4` and `models/face_landmarker.task`.
        output: folder for `stills.npz` and `clips/*.npz`.
        seed: of the bent pictures.
        progress: see `tracker.track`.
    """
    task = data / "models" / "face_landmarker.task"
    if not (output / "stills.npz").exists():
        observe_pictures(data / "faces" / "stills", task, output / "stills.npz", seed=seed, progress=progress)
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
