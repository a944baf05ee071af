"""Pose-free landmarks: where a face's 478 landmarks lie once position, size and rotation of the head are taken away.

Axes of the pose-free space: x to the right of the picture (the person's left), y up, z towards the viewer; one unit
is the distance between the outer corners of the eyes of the mean face. Pixels have y downwards and MediaPipe's z
away from the viewer; both are turned around here and nowhere else.
"""

import functools
from dataclasses import dataclass

import numpy as np

from cmet_engine.errors import InvalidInput
from cmet_engine.face.landmarks import LANDMARKS
from cmet_engine.models.assets import asset
from cmet_engine.models.tensors import read_arrays

TEMPLATE_FILE = "face_template.safetensors"
_FLIP = np.array([1.0, -1.0, -1.0])  # pixels and MediaPipe's z -> x right, y up, z towards the viewer


@dataclass(frozen=True)
class Template:
    """The mean face that poses are measured against.

    Attributes:
        points: float64 [478, 3], symmetric about x = 0, in outer-eye distances.
        weights: float64 [478] in 0..1, how far a landmark can be trusted to move with the skull: one over its
            variance within a clip of a talking head after the pose was removed.
        mirror: int [478], the landmark at the same place on the other half of the face.
        turning: float64 [5, 478, 3], what MediaPipe adds to a face's shape when the head turns (its outline slides along
            the cheek, its depth is a guess), for each of `pose_terms`.
    """

    points: np.ndarray
    weights: np.ndarray
    mirror: np.ndarray
    turning: np.ndarray


@dataclass(frozen=True)
class Pose:
    """Position, size and rotation of a head in every frame: pixels = flip(scale · R · x + offset).

    Attributes:
        scale: float64 [N], pixels a unit (the outer-eye distance of the mean face).
        rotation: float64 [N, 3, 3], from the face to the camera.
        offset: float64 [N, 3], pixels, y up.
    """

    scale: np.ndarray
    rotation: np.ndarray
    offset: np.ndarray

    def __getitem__(self, frames: slice | np.ndarray) -> "Pose":
        return Pose(self.scale[frames], self.rotation[frames], self.offset[frames])

    def degrees(self) -> np.ndarray:
        """float32 [N, 3]: yaw, pitch, roll of the head; see `rotation_degrees`."""
        return rotation_degrees(self.rotation)


@functools.cache
def template() -> Template:
    """The mean face, read once."""
    arrays, _ = read_arrays(asset(TEMPLATE_FILE))
    return Template(
        arrays["points"].astype(np.float64),
        arrays["weights"].astype(np.float64),
        arrays["mirror"],
        arrays["turning"].astype(np.float64),
    )


POSE_TERMS = 5
POSE_MIRROR = np.array([-1.0, 1.0, 1.0, 1.0, -1.0])
"""Signs of `pose_terms` for the same head in a mirror."""
_FURTHEST = 0.5  # sine of the angle beyond which turning adds no more: the training clips hold nothing further


def pose_terms(rotation: np.ndarray) -> np.ndarray:
    """How far a head is turned, as [N, 5]: sine of yaw y and of pitch p (both clipped), y², p², y·p."""
    y = np.clip(rotation[:, 0, 2], -_FURTHEST, _FURTHEST)
    p = np.clip(rotation[:, 1, 2], -_FURTHEST, _FURTHEST)
    return np.stack([y, p, y * y, p * p, y * p], 1)


def as_landmarks(landmarks: np.ndarray) -> np.ndarray:
    """`landmarks` as float64 [N, 478, 3].

    Raises:
        InvalidInput: another shape.
    """
    landmarks = np.asarray(landmarks, np.float64)
    if landmarks.ndim != 3 or landmarks.shape[1:] != (LANDMARKS, 3):
        raise InvalidInput(
            f"Landmarks have shape {list(landmarks.shape)}; expected [frames, {LANDMARKS}, 3] in pixels."
        )
    return landmarks


def fit_similarity(source: np.ndarray, target: np.ndarray, weights: np.ndarray) -> tuple[np.ndarray, ...]:
    """The similarity that takes `target` onto `source`, weighted least squares, one per frame.

    Source of the closed form: Umeyama, "Least-squares estimation of transformation parameters between two point
    patterns", PAMI 1991, equations 40 to 43. The scale is the symmetric one of Horn (1987, section 4), which does
    not shrink under noise, so that going there and back is exact.

    Args:
        source: float64 [N, L, 3].
        target: float64 [L, 3] or [N, L, 3].
        weights: float64 [L].

    Returns:
        scale [N], rotation [N, 3, 3] and offset [N, 3] with source ≈ scale · rotation · target + offset.
    """
    w = weights / weights.sum()
    target = np.broadcast_to(target, source.shape)
    source_mean, target_mean = np.einsum("l,nlc->nc", w, source), np.einsum("l,nlc->nc", w, target)
    a, b = source - source_mean[:, None], target - target_mean[:, None]
    covariance = (a * w[:, None]).transpose(0, 2, 1) @ b  # [N, 3, 3]
    u, _, vt = np.linalg.svd(covariance)
    sign = np.ones((len(source), 3))
    sign[:, 2] = np.sign(np.linalg.det(u) * np.linalg.det(vt))
    rotation = (u * sign[:, None, :]) @ vt
    scale = np.sqrt(np.einsum("l,nlc->n", w, a**2) / np.einsum("l,nlc->n", w, b**2))
    offset = source_mean - scale[:, None] * np.einsum("nij,nj->ni", rotation, target_mean)
    return scale, rotation, offset


def normalise(landmarks: np.ndarray) -> tuple[np.ndarray, Pose]:
    """Take position, size and rotation of the head away, and what turning it does to MediaPipe's shape.

    Args:
        landmarks: [N, 478, 3] pixels (MediaPipe's z in pixels too). Rows with NaN give NaN.

    Returns:
        float64 [N, 478, 3] in outer-eye distances, and the pose that `denormalise` puts back.

    Raises:
        InvalidInput: the array has another shape.
    """
    x = as_landmarks(landmarks) * _FLIP
    mean = template()
    bad = ~np.isfinite(x).all((1, 2))
    bad |= np.ptp(np.nan_to_num(x), axis=1).max(1) <= 0  # all landmarks in one place have no pose
    x = np.where(bad[:, None, None], mean.points, x)
    scale, rotation, offset = fit_similarity(x, mean.points, mean.weights)
    scale, rotation, offset = (
        np.where(bad.reshape(-1, *[1] * (v.ndim - 1)), np.nan, v) for v in (scale, rotation, offset)
    )
    pose = Pose(scale, rotation, offset)
    turning = np.tensordot(pose_terms(rotation), mean.turning, 1)
    return ((x - offset[:, None]) / scale[:, None, None]) @ rotation - turning, pose


def denormalise(points: np.ndarray, pose: Pose) -> np.ndarray:
    """Put position, size and rotation back: float64 [N, 478, 3] pixels; the inverse of `normalise`."""
    points = points + np.tensordot(pose_terms(pose.rotation), template().turning, 1)
    return (pose.scale[:, None, None] * (points @ pose.rotation.transpose(0, 2, 1)) + pose.offset[:, None]) * _FLIP


def denormalise_motion(motion: np.ndarray, pose: Pose) -> np.ndarray:
    """Turn and scale a pose-free motion [N, L, 3] (outer-eye distances) into pixels in the picture."""
    return pose.scale[:, None, None] * (motion @ pose.rotation.transpose(0, 2, 1)) * _FLIP


def mirrored(landmarks: np.ndarray, width: float) -> np.ndarray:
    """Landmarks [N, 478, 3] of the same picture seen in a mirror, `width` pixels wide."""
    flipped = np.asarray(landmarks)[:, template().mirror] * np.array([-1, 1, 1], np.asarray(landmarks).dtype)
    flipped[..., 0] += width
    return flipped


def rotation_degrees(rotation: np.ndarray) -> np.ndarray:
    """Yaw, pitch and roll of rotations from the face to the camera.

    Yaw above 0: the head turns to the person's own right (to the left of the picture). Pitch above 0: it looks
    down. Roll above 0: it leans towards the person's own right shoulder (counter-clockwise in the picture). These are
    the signs of Live Link Face's eye angles, checked on recordings against eyeLookOut and eyeLookDown; gaze in the
    picture is head plus eye. The rotation is R = Ry(-yaw) · Rx(pitch) · Rz(roll): roll first, yaw last.

    Args:
        rotation: [N, 3, 3].

    Returns:
        float32 [N, 3] degrees.
    """
    yaw = np.arctan2(-rotation[:, 0, 2], rotation[:, 2, 2])
    pitch = np.arcsin(np.clip(-rotation[:, 1, 2], -1, 1))
    roll = np.arctan2(rotation[:, 1, 0], rotation[:, 1, 1])
    return np.degrees(np.stack([yaw, pitch, roll], 1)).astype(np.float32)
