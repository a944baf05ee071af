"""The surface that the watermark lies on: one smooth mask, posed as the head is.

It has the coordinates x (to the person's left) and y (up) of the pose-free space (`face.pose`: one unit is the distance of the
outer corners of the eyes), and a depth that is a polynomial of them. It knows no expression, so a face that was edited, cropped,
scaled or encoded again has the same surface as before, as far as its pose is found.
"""

from typing import Any

import cv2
import numpy as np

from cmet_engine.face.pose import Pose

DENSITY = 32
"""Samples a unit."""
WIDE, HIGH = 0.9, 1.0
"""Reach of the surface from the middle, in units."""
COLUMNS, ROWS = round(2 * WIDE * DENSITY), round(2 * HIGH * DENSITY)

_MIDDLE, _BESIDE, _FAR = (0.4734, 0.2776, -0.5874, -0.0245, 0.1999), (-0.1409, 0.8537, -0.6735), -0.9081
"""The depth: polynomials of y, the highest power first, the second times x², the last a constant times x⁴. Least squares through
the mean face."""
_DOWN, _DOWN_BESIDE = (np.polyder(line) for line in (_MIDDLE, _BESIDE))
_STEPS = 4
_COARSE = 10  # pixels between the points at which Newton's method runs
_LEAST_SLOPE = 0.2  # of the surface towards the camera: what turns away further is left out
_NOWHERE = -1e4

_X, _Y = np.meshgrid(
    (np.arange(COLUMNS) + 0.5) / DENSITY - WIDE, HIGH - (np.arange(ROWS) + 0.5) / DENSITY
)  # fmt: skip


def _polynomial(factors: Any, y: np.ndarray) -> np.ndarray:
    """Value of a polynomial, the highest power first, by Horner's method."""
    first, second, *others = factors
    value: np.ndarray = first * y + second
    for factor in others:
        value *= y
        value += factor
    return value


def _depth(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    square = x * x
    return np.asarray(_polynomial(_MIDDLE, y) + square * (_polynomial(_BESIDE, y) + square * _FAR))


def _slopes(x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """How the depth changes across and down."""
    square = x * x
    across = 2 * x * (_polynomial(_BESIDE, y) + square * (2 * _FAR))
    return across, np.asarray(_polynomial(_DOWN, y) + square * _polynomial(_DOWN_BESIDE, y))


_Z = _depth(_X, _Y)


def unrolled(luma: np.ndarray, pose: Pose, index: int) -> np.ndarray:
    """The surface as a picture shows it: float32 [ROWS, COLUMNS].

    Args:
        luma: [H, W], any type.
        pose: of the head.
        index: the frame in `pose`.
    """
    scale, turn, offset = pose.scale[index], pose.rotation[index], pose.offset[index]
    x, y = (scale * (turn[k, 0] * _X + turn[k, 1] * _Y + turn[k, 2] * _Z) + offset[k] for k in (0, 1))
    height, width = luma.shape
    left, top = (int(np.clip(v.min() - 4, 0, m - 1)) for v, m in ((x, width), (-y, height)))
    right, bottom = (int(np.clip(v.max() + 5, 1, m)) for v, m in ((x, width), (-y, height)))
    part: Any = luma[top : max(bottom, top + 1), left : max(right, left + 1)].astype(np.float32)
    x, y = x - left, -y - top
    if (shrink := 1.5 * DENSITY / scale) < 1:
        rows, columns = part.shape
        part = cv2.resize(
            part, (max(round(columns * shrink), 1), max(round(rows * shrink), 1)), interpolation=cv2.INTER_AREA
        )
        x, y = (x + 0.5) * (part.shape[1] / columns) - 0.5, (y + 0.5) * (part.shape[0] / rows) - 0.5
    return cv2.remap(
        part, x.astype(np.float32), y.astype(np.float32), cv2.INTER_LINEAR if shrink < 1 else cv2.INTER_CUBIC,
        borderMode=cv2.BORDER_REPLICATE,
    )  # fmt: skip


def places(pose: Pose, index: int, box: tuple[int, int, int, int], shrink: int = 1) -> tuple[np.ndarray, np.ndarray]:
    """Where on the surface, in its samples, the pixels of a region lie: two float32 [h, w], far outside where they do not.

    Args:
        pose, index: see `unrolled`.
        box: left, top, right and bottom of the region.
        shrink: pixels that one value stands for, across and down.
    """
    left, top, right, bottom = box
    scale, turn, offset = pose.scale[index], pose.rotation[index], pose.offset[index]
    columns, rows = (max((high - low) // _COARSE, 4) for low, high in ((left, right), (top, bottom)))
    across = (np.arange(columns) + 0.5) * (right - left) / columns + left - 0.5
    down = (np.arange(rows) + 0.5) * (bottom - top) / rows + top - 0.5
    u, v = np.meshgrid((across - offset[0]) / scale, (-down - offset[1]) / scale)
    x, y = turn[0, 0] * u + turn[1, 0] * v, turn[0, 1] * u + turn[1, 1] * v
    for _ in range(_STEPS):
        x, y = np.clip(x, -1.3 * WIDE, 1.3 * WIDE), np.clip(y, -1.3 * HIGH, 1.3 * HIGH)
        z, (slope_x, slope_y) = _depth(x, y), _slopes(x, y)
        miss_u, miss_v = (t - (r[0] * x + r[1] * y + r[2] * z) for t, r in ((u, turn[0]), (v, turn[1])))
        a, b = turn[0, 0] + turn[0, 2] * slope_x, turn[0, 1] + turn[0, 2] * slope_y
        c, d = turn[1, 0] + turn[1, 2] * slope_x, turn[1, 1] + turn[1, 2] * slope_y
        slope = a * d - b * c
        safe = np.maximum(slope, _LEAST_SLOPE)
        x, y = x + (d * miss_u - b * miss_v) / safe, y + (a * miss_v - c * miss_u) / safe
    lost = (slope < _LEAST_SLOPE) | (np.abs(miss_u) + np.abs(miss_v) > 0.02)
    at_x, at_y = (x + WIDE) * DENSITY - 0.5, (HIGH - y) * DENSITY - 0.5
    at_x[lost] = _NOWHERE
    size = (-(-(right - left) // shrink), -(-(bottom - top) // shrink))
    return cv2.resize(at_x.astype(np.float32), size), cv2.resize(at_y.astype(np.float32), size)
