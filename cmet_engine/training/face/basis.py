"""The mean face, and how each coefficient moves the landmarks."""

from pathlib import Path

import numpy as np
from scipy.optimize import linear_sum_assignment

from cmet_engine import arkit
from cmet_engine.face import pose
from cmet_engine.face.blendshapes import BASIS_FILE, BLIND, UNSURE, mirror_motion, read_back, rest_face
from cmet_engine.face.pose import TEMPLATE_FILE, Template, fit_similarity, normalise, pose_terms
from cmet_engine.face.smooth import smooth, window_half
from cmet_engine.training.face.samples import STILLS, Sample, load_observations, read_names, write_asset
from cmet_engine.training.rig_shapes import rig_shapes

LEAST_FRAMES = 10  # of a clip that the basis learns from
BASIS_ROUNDS = 2  # of reading coefficients back and fitting anew
SHAPE_STRENGTH = 1.0  # of the rig's shape of a coefficient against the observations, in square roots of frames
BLIND_STRENGTH = 20.0  # times that, for coefficients that the teacher does not report
UNSURE_STRENGTH = 3.0  # times that, for those it reports with low scores: large eyes must not pass for widened ones
PICTURES_WEIGHT = 10.0  # of the pictures against a clip of as many frames
TURNING_STRENGTH = 0.05  # times that, towards zero, for the terms of the head's turning
OTHER_SIDE_STRENGTH = 50.0  # times the strength, for a coefficient of one side on the other side's landmarks
MIDDLE = 0.15  # outer-eye distances from the middle to where the other side begins in full
_BOTH_SIDES = ("jawLeft", "jawRight", "mouthLeft", "mouthRight")  # a direction, not a side of the face


def train_template(observations: Path, *, test_clips: Path | None = None) -> None:
    """The mean face, and which landmarks sit on bone; writes `face_template.safetensors`.

    Generalised Procrustes analysis (Gower 1975) with the weights of `Template`; left and right are averaged.
    """
    samples = load_observations(observations, read_names(test_clips), test=False)
    flip, sides = np.array([1.0, -1.0, -1.0]), np.array([-1.0, 1.0, 1.0])
    stills = np.concatenate([s.landmarks[~s.varied] for s in samples if not s.clip]).astype(np.float64) * flip
    clips = [s.landmarks[~s.varied][::10].astype(np.float64) * flip for s in samples if s.clip]
    points = stills[0] - stills[0].mean(0)
    points /= np.linalg.norm(points[33] - points[263])
    weights = np.ones(pose.LANDMARKS)
    mirror = np.arange(pose.LANDMARKS)

    def aligned(x: np.ndarray) -> np.ndarray:
        scale, rotation, offset = fit_similarity(x, points, weights)
        return ((x - offset[:, None]) / scale[:, None, None]) @ rotation

    for step in range(15):
        points = np.median(aligned(stills), 0)
        if step < 5:
            reflected = points * sides
            reflected += (points - reflected).mean(0)
            distance = np.linalg.norm(reflected[:, None] - points[None], axis=2)
            mirror = linear_sum_assignment(distance)[1]
        points = (points + (points * sides)[mirror]) / 2
        points[:, 0] -= points[[33, 263], 0].mean()
        points /= np.linalg.norm(points[33] - points[263])
        if step >= 5:
            variance = np.median([aligned(c).var(0).sum(1) for c in clips], axis=0)
            variance = (variance + variance[mirror]) / 2
            weights = 1 / (variance + 1e-4)
            weights /= weights.max()
    write_asset(
        TEMPLATE_FILE,
        {
            "points": points.astype(np.float32),
            "weights": weights.astype(np.float32),
            "mirror": mirror.astype(np.int64),
            "turning": np.zeros((pose.POSE_TERMS, pose.LANDMARKS, 3), np.float32),
        },
    )
    pose.template.cache_clear()


def train_basis(observations: Path, rig: Path, *, test_clips: Path | None = None) -> Path:
    """How each coefficient moves the landmarks, and how turning the head seems to move them; writes basis and template,
    and returns the file of the basis.

    The mean face is made first where there are pictures of many people; a solver that was trained on another mean face must be trained anew.

    Ridge regression over the clips, and over pictures of many people, towards the shapes of a rig (ICT-FaceKit). Coefficients of
    clips come first from the teacher, then are read back from the landmarks (`blendshapes.read_back`), in turns. Left and right
    are mirror images of each other.

    Args:
        observations: folder that `observe` wrote.
        rig: `ict_facekit_light.npz`.
        test_clips: file with the names of the held-out clips.
    """
    if (observations / STILLS).exists():
        train_template(observations, test_clips=test_clips)
    else:
        _reset_turning()
    samples = load_observations(observations, read_names(test_clips), test=False)
    points, terms, scores = _clip_motion([s for s in samples if s.clip])
    among_people = [
        PICTURES_WEIGHT * side for side in _normal_equations(*_differences([s for s in samples if not s.clip]))
    ]
    shapes = rig_shapes(rig).reshape(arkit.COUNT, -1)
    strength = np.full(arkit.COUNT + pose.POSE_TERMS, SHAPE_STRENGTH)
    strength[arkit.columns(BLIND)] *= BLIND_STRENGTH
    strength[arkit.columns(UNSURE)] *= UNSURE_STRENGTH
    strength[arkit.COUNT :] = TURNING_STRENGTH
    target = np.concatenate([shapes, np.zeros((pose.POSE_TERMS, shapes.shape[1]))])
    coefficients = [c.copy() for c in scores]
    components, turning = shapes, np.zeros((pose.POSE_TERMS, shapes.shape[1]))
    for step in range(BASIS_ROUNDS):
        if step:
            for i, x in enumerate(points):
                still = x - terms[i] @ turning
                rest = rest_face(still, scores[i], components)
                coefficients[i] = read_back((still - rest) @ components.T, scores[i], components)
        within = _normal_equations(points, coefficients, terms)
        left, right = (a + b for a, b in zip(within, among_people, strict=True))
        solved = _solve_by_side(left, right, strength, target)
        components, turning = solved[: arkit.COUNT], solved[arkit.COUNT :]
        components = (components + mirror_motion(components)[list(arkit.MIRROR)]) / 2
        turning = (turning + mirror_motion(turning) * pose.POSE_MIRROR[:, None]) / 2
    path = write_asset(BASIS_FILE, {"components": components.reshape(arkit.COUNT, -1, 3).astype(np.float32)})
    _write_template(pose.template(), turning)
    return path


def _clip_motion(clips: list[Sample]) -> tuple[list[np.ndarray], list[np.ndarray], list[np.ndarray]]:
    """Of every clip: landmarks away from the mean face [n, 1434], pose terms [n, P], smoothed scores [n, 52]."""
    mean = pose.template()
    points, terms, scores = [], [], []
    for sample in clips:
        frames = sample.only(~sample.varied)
        if len(frames.landmarks) < LEAST_FRAMES:
            continue
        x, head = normalise(frames.landmarks)
        points.append((x - mean.points).reshape(len(x), -1))
        terms.append(pose_terms(head.rotation))
        scores.append(smooth(frames.scores[..., None].astype(np.float64), window_half(25.0))[..., 0])
    return points, terms, scores


def _differences(pictures: list[Sample]) -> tuple[list[np.ndarray], list[np.ndarray], list[np.ndarray]]:
    """Of pictures as they are: landmarks away from the mean face [n, 1434], scores [n, 52], pose terms [n, P].

    People differ by expression, among other things, and many of them tell what each coefficient does.
    """
    points, scores, terms = [], [], []
    for sample in pictures:
        plain = sample.only(~sample.varied)
        x, head = normalise(plain.landmarks)
        points.append((x - pose.template().points).reshape(len(x), -1))
        terms.append(pose_terms(head.rotation))
        scores.append(plain.scores.astype(np.float64))
    return points, scores, terms


def _normal_equations(
    points: list[np.ndarray], coefficients: list[np.ndarray], terms: list[np.ndarray]
) -> tuple[np.ndarray, np.ndarray]:
    """Both sides of the least squares of motion over coefficients and pose terms, each clip also mirrored."""
    count = arkit.COUNT + pose.POSE_TERMS
    left, right = np.zeros((count, count)), np.zeros((count, points[0].shape[1] if points else 3 * pose.LANDMARKS))
    for x, c, t in zip(points, coefficients, terms, strict=True):
        for mirrored in (False, True):
            if mirrored:
                x, c, t = mirror_motion(x), c[:, arkit.MIRROR], t * pose.POSE_MIRROR
            rows = np.concatenate([c, t], 1)
            rows, motion = rows - rows.mean(0), x - x.mean(0)
            weight = len(rows) ** -0.5  # a long clip counts more than a short one, but not in proportion
            left, right = left + weight * rows.T @ rows, right + weight * rows.T @ motion
    return left, right


def _solve_by_side(left: np.ndarray, right: np.ndarray, strength: np.ndarray, target: np.ndarray) -> np.ndarray:
    """Ridge regression towards `target`, held harder to it where a coefficient of one side would move the other.

    Real faces nearly always blink and smile with both sides, so that the data alone do not separate the sides.
    """
    solved = np.linalg.solve(left + np.diag(strength), right + strength[:, None] * target)
    across = np.repeat(pose.template().points[:, 0], 3)  # above 0: the person's left
    for side, inward in (("Right", 1), ("Left", -1)):
        held = strength.copy()
        held[[i for i, name in enumerate(arkit.NAMES) if name.endswith(side) and name not in _BOTH_SIDES]] *= (
            OTHER_SIDE_STRENGTH
        )
        other = np.linalg.solve(left + np.diag(held), right + held[:, None] * target)
        share = np.clip(inward * across / MIDDLE, 0, 1)
        solved += share**2 * (3 - 2 * share) * (other - solved)
    return solved


def _reset_turning() -> None:
    mean = pose.template()
    _write_template(mean, np.zeros_like(mean.turning))


def _write_template(mean: Template, turning: np.ndarray) -> None:
    write_asset(
        TEMPLATE_FILE,
        {
            "points": mean.points.astype(np.float32),
            "weights": mean.weights.astype(np.float32),
            "mirror": mean.mirror.astype(np.int64),
            "turning": turning.reshape(pose.POSE_TERMS, pose.LANDMARKS, 3).astype(np.float32),
        },
    )
    pose.template.cache_clear()
