"""The square around a face that LivePortrait's networks were trained on, from our landmarks, and the published way back."""

import cv2
import numpy as np
import scipy

from cmet_engine.face.geometry import FaceGeometry
from cmet_engine.face.landmarks import COARSE_EYES, COARSE_LIPS, FOREHEAD_LINES, OUTER_LIP_CORNERS, OVAL
from cmet_engine.render.crops import CropPath

SIZE = 512  # pixels of the crop
SCALE, UP = 2.3, 0.125  # side over the larger extent of the landmarks; the middle's way up, in sides
RECAST_SCALE = 1.5  # of PerformRecast
SMOOTHING_SECONDS = 0.25  # standard deviation of the smoothing over time

_EYES = ((0, 6, 12, 18), (24, 30, 36, 42))  # of the published 203 landmarks
_LIP_CORNERS = (48, 66)
_JAW = tuple(
    point
    for point in OVAL
    if point
    not in {row for line in FOREHEAD_LINES for row in line} | {338, 297, 332, 284, 251, 21, 54, 103, 67, 109, 10}
)
_BROWS = (70, 63, 105, 66, 107, 336, 296, 334, 293, 300)
FACE = (*_JAW, *_BROWS, *COARSE_EYES[0], *COARSE_EYES[1], *COARSE_LIPS)
"""Landmarks of jaw, brows, eyes and lips: the published ones do not reach up the forehead."""


def crop_matrix(points: np.ndarray, scale: float = SCALE) -> np.ndarray:
    """The matrix [3, 3] from pixels of the frame to those of the 512 crop, from the 203 published landmarks [N, 2]."""
    points = np.asarray(points, np.float64)[:, :2]
    eyes = np.mean([points[list(eye)].mean(0) for eye in _EYES], 0)
    return matrix_of(square(eyes, points[list(_LIP_CORNERS)].mean(0), points, scale))


def square(eyes: np.ndarray, lips: np.ndarray, points: np.ndarray, scale: float = SCALE) -> np.ndarray:
    """The upright square around a face: [x, y, side, angle in radians].

    Args:
        eyes, lips: the middle of both eyes, and of the corners of the lips [2].
        points: landmarks [N, 2] that it shall hold.
        scale: side over their larger extent.
    """
    down = (lips - eyes) / np.linalg.norm(lips - eyes)
    axes = np.stack([[down[1], -down[0]], down])  # right, down
    along = points @ axes.T
    low, high = along.min(0), along.max(0)
    side = (high - low).max() * scale
    middle = (low + high) / 2 - [0, UP * side]
    return np.array([*(middle @ axes), side, np.arctan2(-down[0], down[1])])


def matrix_of(place: np.ndarray, size: int = SIZE) -> np.ndarray:
    """The similarity [3, 3] that maps a `square` to a crop of `size` pixels."""
    x, y, side, angle = place
    cos, sin = np.cos(angle) * size / side, np.sin(angle) * size / side
    linear = np.array([[cos, sin], [-sin, cos]])
    offset = size / 2 - linear @ [x, y]
    return np.vstack([np.column_stack([linear, offset]), [0, 0, 1]])


def follow(geometry: FaceGeometry, scale: float = SCALE, size: int = SIZE) -> CropPath:
    """The squares of a whole clip, smoothed within each shot; frames without the face lie between their neighbours."""
    places = np.full((len(geometry), 4), np.nan)
    for part, landmarks in geometry.chunks():
        for index, points in zip(range(part.start, part.stop), landmarks[..., :2].astype(np.float64), strict=True):
            if np.isfinite(points).all():
                eyes = np.mean([points[list(eye)].mean(0) for eye in COARSE_EYES], 0)
                places[index] = square(eyes, points[list(OUTER_LIP_CORNERS)].mean(0), points[list(FACE)], scale)
    places[:, 2] = np.log(places[:, 2])
    known = geometry.valid & np.isfinite(places).all(1)
    for first, last in geometry.shots():
        here = first + np.flatnonzero(known[first:last])
        if len(here):
            places[here, 3] = np.unwrap(places[here, 3])
            frames = np.arange(first, last)
            filled = np.column_stack([np.interp(frames, here, column) for column in places[here].T])
            places[first:last] = scipy.ndimage.gaussian_filter1d(
                filled, SMOOTHING_SECONDS * float(geometry.fps), axis=0, mode="nearest"
            )
    places[:, 2] = np.exp(places[:, 2])
    return CropPath(np.stack([matrix_of(place, size)[:2] for place in places]), size)


def mask_template() -> np.ndarray:
    """The published mask of the paste, uint8 [512, 512]: 255 inside, falling to 0 over 16 pixels at the border."""
    place = np.arange(SIZE)
    beyond = np.maximum(np.maximum(16 - place, place - 496), 0).astype(np.float64)
    away = np.hypot(beyond[:, None], beyond)
    return np.floor(255 * np.clip(1 - away / 16, 0, 1)).astype(np.uint8)


def paste(picture: np.ndarray, to_frame: np.ndarray, frame: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """The published paste of a whole crop into its frame.

    Args:
        picture: uint8 [512, 512, 3].
        to_frame: [3, 3], from pixels of the crop to those of the frame.
        frame: uint8 [H, W, 3].
        mask: uint8 [512, 512].

    Returns:
        uint8 [H, W, 3].
    """
    size = (frame.shape[1], frame.shape[0])
    moved, weight = (
        cv2.warpAffine(p, np.asarray(to_frame, np.float64)[:2], size, flags=cv2.INTER_LINEAR) for p in (picture, mask)
    )
    share = weight[..., None].astype(np.float32) / 255
    return np.clip(share * moved + (1 - share) * frame, 0, 255).astype(np.uint8)
