"""The face mesh of MediaPipe's 478 landmarks as the renderer needs it: triangles, openings, a ring around the face.

The 852 triangles are `FaceLandmarksConnections.FACE_LANDMARKS_TESSELATION` read three edges at a time; the eyes and the
inner mouth are holes in it.
"""

import itertools
from functools import cache

import numpy as np

LANDMARKS = 478
SKIN = 468  # the mesh without the ten points of the irises

OVAL: tuple[int, ...] = (
    10, 338, 297, 332, 284, 251, 389, 356, 454, 323, 361, 288, 397, 365, 379, 378, 400, 377,
    152, 148, 176, 149, 150, 136, 172, 58, 132, 93, 234, 127, 162, 21, 54, 103, 67, 109,
)  # fmt: skip
"""Outline of the face, from the middle of the forehead over the person's left temple around."""

UPPER_LIP_INNER: tuple[int, ...] = (78, 191, 80, 81, 82, 13, 312, 311, 310, 415, 308)
LOWER_LIP_INNER: tuple[int, ...] = (78, 95, 88, 178, 87, 14, 317, 402, 318, 324, 308)
UPPER_LIP_OUTER: tuple[int, ...] = (61, 185, 40, 39, 37, 0, 267, 269, 270, 409, 291)
LOWER_LIP_OUTER: tuple[int, ...] = (61, 146, 91, 181, 84, 17, 314, 405, 321, 375, 291)
RIGHT_EYE_UPPER: tuple[int, ...] = (33, 246, 161, 160, 159, 158, 157, 173, 133)
RIGHT_EYE_LOWER: tuple[int, ...] = (33, 7, 163, 144, 145, 153, 154, 155, 133)
LEFT_EYE_UPPER: tuple[int, ...] = (362, 398, 384, 385, 386, 387, 388, 466, 263)
LEFT_EYE_LOWER: tuple[int, ...] = (362, 382, 381, 380, 374, 373, 390, 249, 263)
"""Both lids and both lips run from the left of the picture (of an upright face) to its right, corner to corner."""

OPENINGS: tuple[tuple[tuple[int, ...], tuple[int, ...]], ...] = (
    (RIGHT_EYE_UPPER, RIGHT_EYE_LOWER),
    (LEFT_EYE_UPPER, LEFT_EYE_LOWER),
    (UPPER_LIP_INNER, LOWER_LIP_INNER),
)
RIGHT_IRIS, LEFT_IRIS = 468, 473
"""Centres; the four landmarks that follow each lie on the iris's edge."""

IRIS = slice(SKIN, LANDMARKS)
LEFT_EYE_CORNER = 263
"""The outer one."""

EARS, NOSE = (234, 454), 4
CHIN: tuple[int, ...] = (17, 18, 200, 199)

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
