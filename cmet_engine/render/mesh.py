"""The face mesh of MediaPipe's 478 landmarks as the renderer needs it: triangles, openings, a ring around the face.

The 852 triangles are `FaceLandmarksConnections.FACE_LANDMARKS_TESSELATION` read three edges at a time; the eyes and the
inner mouth are holes in it.
"""

import itertools
from functools import cache

import numpy as np

from cmet_engine.face.landmarks import (
    OPENINGS,
    OVAL,
    SKIN,
)

RING_REACH = (1.10, 1.22, 1.36)
"""Rings around the outline, as multiples of the way from the face's centre."""

RING_SHARE = (0.6, 0.2, 0.0)
"""What each ring keeps of the motion of the outline."""


@cache
def triangles() -> np.ndarray:
    """int32 [852, 3], corners of the mesh."""
    from mediapipe.tasks.python.vision.face_landmarker import FaceLandmarksConnections

    edges = FaceLandmarksConnections.FACE_LANDMARKS_TESSELATION
    corners = np.array([edge.start for edge in edges], np.int32).reshape(-1, 3)
    corners.setflags(write=False)
    return corners


def _strip(first: tuple[int, ...], second: tuple[int, ...]) -> list[tuple[int, int, int]]:
    """Triangles between two lines of points of equal length; those that share a point collapse and are left out."""
    result = []
    for i in range(len(first) - 1):
        for corner in ((first[i], first[i + 1], second[i]), (second[i], first[i + 1], second[i + 1])):
            if len(set(corner)) == 3:
                result.append(corner)
    return result


@cache
def layers() -> tuple[np.ndarray, np.ndarray]:
    """Triangles over face, holes and rings, and the same without the face.

    Returns:
        int32 [T, 3] over `LANDMARKS - 10 + 36 * len(RING_REACH)` points: the rings (outermost first), the face, the fillings
        of the holes; and int32 [T], 0 for rings, 1 for the face, 2 for the fillings.
    """
    n = len(OVAL)
    lines = [OVAL] + [tuple(range(SKIN + n * r, SKIN + n * (r + 1))) for r in range(len(RING_REACH))]
    rings: list[tuple[int, int, int]] = []
    for inner, outer in reversed(list(itertools.pairwise(lines))):
        rings += _strip((*inner, inner[0]), (*outer, outer[0]))
    holes: list[tuple[int, int, int]] = []
    for upper, lower in OPENINGS:
        holes += _strip(upper, lower)
    parts = [np.array(rings, np.int32), triangles(), np.array(holes, np.int32)]
    kind = np.concatenate([np.full(len(part), i, np.int32) for i, part in enumerate(parts)])
    return np.concatenate(parts), kind


def gradients(
    corners: tuple[np.ndarray, np.ndarray, np.ndarray], values: tuple[np.ndarray, np.ndarray, np.ndarray], least: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """How values that are linear within triangles change with the place.

    Args:
        corners: three times [T, 2], places of the corners.
        values: three times [T, C], the values there.
        least: twice the area below which a triangle counts as flat.

    Returns:
        Change with x [T, C] and with y [T, C], 0 in flat triangles; and which are flat, bool [T].
    """
    a, b, c = corners
    e1, e2 = b - a, c - a
    area = e1[:, 0] * e2[:, 1] - e1[:, 1] * e2[:, 0]
    flat = np.abs(area) < least
    area = np.where(flat, np.inf, area)[:, None]
    f1, f2 = values[1] - values[0], values[2] - values[0]
    return (f1 * e2[:, 1:] - f2 * e1[:, 1:]) / area, (f2 * e1[:, :1] - f1 * e2[:, :1]) / area, flat


FLAT = 0.05
"""Square pixels: triangles of half of it or less show one value."""


def interpolated(points: np.ndarray, values: np.ndarray, corners: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """Values that are linear within triangles, at the pixels of a picture: float32 [h, w, 2], 0 where no triangle lies.

    Args:
        points: [K, 2], places in pixels.
        values: [K, 2], the values there.
        corners: [T, 3], the triangles; each hides those before it.
        shape: height and width of the picture.
    """
    rows, columns = shape
    points = points.astype(np.float32)
    both = values.astype(np.float32).view(np.complex64)[:, 0]  # NumPy moves both values of a place as one number
    downwards = np.argsort(points[:, 1].take(corners), axis=1)  # an edge is then the same in both of its triangles
    corners = np.take_along_axis(corners, downwards, 1)
    a, b, c = (points.take(corners[:, k], 0) for k in range(3))
    va, vb, vc = (both.take(corners[:, k])[:, None] for k in range(3))
    gx, gy, flat = gradients((a, b, c), (va, vb, vc), FLAT)
    # the rows of every triangle
    first = np.maximum(np.ceil(a[:, 1]), 0).astype(np.intp)
    count = np.maximum(np.minimum(np.floor(c[:, 1]), rows - 1).astype(np.intp) + 1 - first, 0)
    count[flat] = 0
    which = np.repeat(np.arange(len(corners)), count)
    y = np.arange(len(which)) - np.repeat(np.cumsum(count) - count - first, count)
    # in each the pixels from one edge to the other
    slopes = [
        (q[:, 0] - p[:, 0]) / np.maximum(q[:, 1] - p[:, 1], np.float32(1e-9)) for p, q in ((a, c), (a, b), (b, c))
    ]
    ax, ay, bx, by, long, upper, lower = (column.take(which) for column in (*a.T, *b.T, *slopes))
    height = y.astype(np.float32)
    down = height - ay
    one = ax + down * long
    other = np.where(height < by, ax + down * upper, bx + (height - by) * lower)
    left = np.maximum(np.ceil(np.minimum(one, other)), 0)
    count = np.maximum(np.minimum(np.floor(np.maximum(one, other)), columns - 1) + 1 - left, 0).astype(np.intp)
    step, downward, corner = (column[:, 0].take(which) for column in (gx, gy, va))
    start = corner + step * (left - ax) + downward * down
    before = np.cumsum(count) - count
    at = np.arange(int(count.sum()))
    pixels = np.repeat(step, count)
    pixels *= (at - np.repeat(before, count)).astype(np.float32)
    pixels += np.repeat(start, count)
    at += np.repeat(y * columns + left.astype(np.intp) - before, count)
    result = np.zeros(rows * columns, np.complex64)
    result[at] = pixels
    return result.view(np.float32).reshape(rows, columns, 2)
