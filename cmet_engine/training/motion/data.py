"""What the motion model is trained on: people, how their landmarks move, changes to ask for, and warped faces."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from cmet_engine import arkit
from cmet_engine.emotion import facs
from cmet_engine.emotions import LIBRARY
from cmet_engine.face.pose import LANDMARKS, denormalise_motion, normalise, template
from cmet_engine.progress import Progress, Stage
from cmet_engine.render import mesh
from cmet_engine.render.motion import IRIS, Motion
from cmet_engine.render.warp import facing_weights, warp
from cmet_engine.smoothstep import smoothstep
from cmet_engine.training.face.samples import canonical
from cmet_engine.training.face_estimator import FaceEstimator
from cmet_engine.training.labelled_pictures import group_of

COMPONENTS, CODE, HIDDEN = 60, 40, 192  # of the motion, of its input, width of the layers
SIZE = LANDMARKS * 3


@dataclass(frozen=True)
class Person:
    """Pictures of one person, or frames of one clip: landmarks [N, 478, 3] pixels, and the teacher's scores [N, 52]."""

    name: str
    landmarks: np.ndarray
    scores: np.ndarray
    clip: bool


def people(folder: Path, test_clips: frozenset[str] | set[str]) -> list[Person]:
    """Everybody of the training side in the folder that `observe` wrote, one entry per person or clip."""
    result = []
    with np.load(folder / "stills.npz") as data:
        names = [str(n) for n in data["names"]]
        landmarks, scores, who = data["landmarks"], canonical(data["teacher_scores"], names), data["person"]
        plain = data["variant"] == 0 if "variant" in data else True  # a bent picture is no expression of that person
    good = np.isfinite(landmarks).all((1, 2)) & np.isfinite(scores).all(1) & plain
    for name in np.unique(who[good]):
        if group_of(str(name)):
            rows = good & (who == name)
            result.append(Person(str(name), landmarks[rows], scores[rows], False))
    for path in sorted((folder / "clips").glob("*.npz")):
        if path.stem in test_clips:
            continue
        with np.load(path) as data:
            landmarks, scores = data["landmarks"], canonical(data["teacher_scores"], [str(n) for n in data["names"]])
        good = np.isfinite(landmarks).all((1, 2)) & np.isfinite(scores).all(1)
        result.append(Person(path.stem, landmarks[good], scores[good], True))
    return result


@dataclass(frozen=True)
class Warped:
    """Warped faces: pose-free landmarks and motions [K, 478, 3], estimated scores before and after [K, 52]."""

    points: np.ndarray
    motion: np.ndarray
    before: np.ndarray
    after: np.ndarray


def taking_part() -> np.ndarray:
    """How far a landmark takes part in any motion [478].

    It fades towards temples and ears, keeps a part under the hairline and all of it at the chin.
    """
    points = template().points  # y up
    away = np.sqrt(((points[:, None, :2] - points[list(mesh.OVAL), :2]) ** 2).sum(-1)).min(1)
    height = -points[:, 1]
    weights = np.maximum(smoothstep(away, 0.0, 0.22), smoothstep(height, 0.55, 0.95))
    weights = np.maximum(weights, 0.4 * smoothstep(height, -0.2, -0.45))
    weights[IRIS] = 1
    return weights


def motion_prior(everybody: Iterable[Person]) -> tuple[np.ndarray, np.ndarray]:
    """Principal components [1434, 60] of how landmarks move within a person, and their variances [60]."""
    covariance, total = np.zeros((SIZE, SIZE)), 0.0
    mirror = template().mirror
    for person in everybody:
        if len(person.landmarks) < 2:
            continue
        step = max(1, len(person.landmarks) // 300) * 2 if person.clip else 1
        points = normalise(person.landmarks[::step])[0]
        if len(points) < 2:
            continue
        away = points - points.mean(0)
        share = 40.0 if person.clip else float(min(len(points), 4))  # a clip must not count as hundreds of people
        for rows in (away, (away * [-1, 1, 1])[:, mirror]):
            rows = rows.reshape(len(rows), -1)
            covariance += rows.T @ rows * (share / (len(rows) - 1))
            total += share
    values, vectors = np.linalg.eigh(covariance / total)
    components = vectors[:, ::-1][:, :COMPONENTS].reshape(LANDMARKS, 3, COMPONENTS).copy()
    components[IRIS] = 0  # eyes look where they looked
    return components.reshape(SIZE, COMPONENTS), values[::-1][:COMPONENTS].copy()


def draw_changes(source: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Random changes [N, 52] to ask of faces with coefficients `source` [N, 52]: emotions, mixtures of two, single shapes."""
    left = [arkit.INDEX[a] for a, _ in arkit.PAIRS]
    right = [arkit.INDEX[b] for _, b in arkit.PAIRS]
    change = np.zeros_like(source)
    for row, now in zip(change, source, strict=True):
        kind = rng.random()
        if kind < 0.7:
            names = rng.choice(LIBRARY, 1 if kind < 0.55 else 2, replace=False)
            for name in names:
                strength = rng.uniform(0.3, 1.3) / (1 if len(names) == 1 else 1.4)
                row += strength * (
                    facs.mean_expression(name) * rng.normal(1, 0.25, arkit.COUNT)
                    - np.broadcast_to(facs.relaxed_share(name), arkit.COUNT) * now
                )
        else:
            columns = rng.choice(arkit.COUNT, rng.integers(1, 6), replace=False)
            row[columns] = rng.uniform(-0.5, 0.9, len(columns))
        lean = rng.normal(1, 0.1)
        row[left] *= lean
        row[right] *= 2 - lean
    change = np.clip(source + change, 0, 0.97) - np.clip(source, 0, 0.97)
    change[:, arkit.columns(arkit.GAZE)] = 0
    return change.astype(np.float32)


def render_samples(
    pictures: Iterable[tuple[np.ndarray, np.ndarray]],
    motion: Motion,
    landmarker: Path,
    *,
    seed: int = 0,
    each: int = 2,
    progress: Progress | None = None,
) -> Warped:
    """Warp faces by what a motion model predicts, scaled and disturbed, and estimate the scores of the pictures.

    Args:
        pictures: (uint8 [H, W, 3], landmarks [478, 3] pixels) of people of the training side.
        motion: a first or earlier model.
        landmarker: MediaPipe's `face_landmarker.task`.
        seed: of the drawing.
        each: warps of every picture.
        progress: called as `progress(Stage.WARP, pictures done, None)`.
    """
    rng, estimator = np.random.default_rng(seed), FaceEstimator(landmarker)
    rows: list[tuple[np.ndarray, ...]] = []
    for done, (image, landmarks) in enumerate(pictures):
        if progress:
            progress(Stage.WARP, done, None)
        before = estimator([image])[1]
        if not np.isfinite(before).all():
            continue
        points, pose = normalise(landmarks[None])
        for _ in range(each):
            move = motion.pose_free(points, draw_changes(before, rng) * rng.uniform(0.7, 1.6))
            move = move * (1 if rng.random() < 0.5 else rng.uniform(0.5, 1.3))
            if rng.random() < 0.4:
                move = move + 0.5 * (motion.components @ rng.normal(size=COMPONENTS)).reshape(1, LANDMARKS, 3)
            move = move * facing_weights(landmarks[None])[..., None]
            if np.abs(move).max() > 0.3:
                continue
            after = estimator([warp(image, landmarks.astype(np.float64), denormalise_motion(move, pose)[0])])[1]
            if np.isfinite(after).all():
                rows.append((points[0], move[0], before[0], after[0]))
    return Warped(*(np.array(column, np.float32) for column in zip(*rows, strict=True)))
