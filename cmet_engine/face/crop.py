"""The canonical crop of a face, and affine maps between a frame and it."""

import cv2
import numpy as np

from cmet_engine.face.landmarks import CHIN_TIP, FOREHEAD, SKIN
from cmet_engine.media.info import Frame

REACH = 1.22
"""Side of the crop over the larger side of the landmarks' box: room for a jaw that drops."""


def crop_transform(landmarks: np.ndarray, size: int) -> np.ndarray:
    """The similarity from pixels of the frame to pixels of the canonical crop: square, upright, the face in its middle.

    Args:
        landmarks: [478, 3] pixels.
        size: side of the crop, pixels.

    Returns:
        float64 [2, 3].
    """
    points = np.asarray(landmarks[:SKIN, :2], np.float64)
    down = points[CHIN_TIP] - points[FOREHEAD]
    down /= np.linalg.norm(down) + 1e-9
    turn = np.array([[down[1], -down[0]], [down[0], down[1]]])  # `down` becomes (0, 1)
    upright = points @ turn.T
    low, high = upright.min(0), upright.max(0)
    scale = size / (REACH * float((high - low).max()) + 1e-9)
    return np.column_stack([turn * scale, size / 2 - scale * (low + high) / 2])


def cut_crop(image: np.ndarray | Frame, transform: np.ndarray, size: int) -> np.ndarray:
    """The canonical crop [R, R, C] of a frame [H, W, C], by the `transform` [2, 3] of `crop_transform`."""
    if isinstance(image, Frame):  # only the face's region of it is looked at
        low, high = _around(transform, size, image.shape)
        image = image.part((*low, *high))
        transform = np.column_stack([transform[:, :2], transform[:, :2] @ low + transform[:, 2]])
    scale = float(np.sqrt(abs(np.linalg.det(transform[:, :2]))))
    if scale < 0.65:  # averaged down before it is sampled
        low, high = _around(transform, size, image.shape)
        part = image[low[1] : high[1], low[0] : high[0]]
        w, h = max(2, round(part.shape[1] * scale)), max(2, round(part.shape[0] * scale))
        sx, sy = w / part.shape[1], h / part.shape[0]
        image = cv2.resize(part, (w, h), interpolation=cv2.INTER_AREA)
        # small (u, v) = ((x - low + .5) * s - .5)
        back = np.array([[1 / sx, 0, low[0] + 0.5 / sx - 0.5], [0, 1 / sy, low[1] + 0.5 / sy - 0.5]])
        transform = np.column_stack([transform[:, :2] @ back[:, :2], transform[:, :2] @ back[:, 2] + transform[:, 2]])
    result: np.ndarray = cv2.warpAffine(
        image, transform, (size, size), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
    )
    return result


def _around(transform: np.ndarray, size: int, shape: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
    """The first pixel (x, y) of what a crop shows of a frame, and the one after the last."""
    corners = apply(inverse(transform), np.array([[0, 0], [size, 0], [0, size], [size, size]]))
    low = np.clip(np.floor(corners.min(0)).astype(int) - 2, 0, np.array(shape[1::-1]) - 2)
    return low, np.clip(np.ceil(corners.max(0)).astype(int) + 3, low + 2, shape[1::-1])


def region_of_crop(landmarks: np.ndarray, shape: tuple[int, ...], room: float) -> tuple[int, int, int, int]:
    """The region left, top, right, bottom of a picture that the canonical crop is cut from, grown by a share of its sides.

    Args:
        landmarks: [478, 3] pixels.
        shape: of the picture, (height, width, …).
        room: that share.
    """
    low, high = _around(crop_transform(landmarks, 1), 1, shape)
    grown = np.ceil(room * (high - low)).astype(int)
    low, high = np.maximum(low - grown, 0), np.minimum(high + grown, shape[1::-1])
    return int(low[0]), int(low[1]), int(high[0]), int(high[1])


def inverse(matrix: np.ndarray) -> np.ndarray:
    """The inverse of an affine map [2, 3]: float64 [2, 3]."""
    linear = np.linalg.inv(matrix[:, :2])
    return np.column_stack([linear, -linear @ matrix[:, 2]])


def apply(matrix: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Apply an affine map [2, 3] to points [..., 2]; further columns are left out."""
    result: np.ndarray = points[..., :2] @ matrix[:, :2].T + matrix[:, 2]
    return result
