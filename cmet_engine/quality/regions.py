"""Which part of a picture is looked at: the face, its mouth and eyes, and what lies outside."""

from collections.abc import Sequence

import cv2
import numpy as np

from cmet_engine.face import landmarks as at
from cmet_engine.face.geometry import FaceGeometry

GROWN = 0.5
"""Outside is what lies beyond the hull of the face grown by this share of its size."""

MOUTH_MARGIN, EYE_MARGIN = 0.03, 0.04
"""How far mouth and eyes reach beyond their landmarks, in sizes of the face."""


def outside(geometry: FaceGeometry, index: int, shape: tuple[int, ...]) -> np.ndarray:
    """bool [H, W], what lies beyond the grown hull of the face in one frame."""
    points = np.ascontiguousarray(geometry.landmarks[index][: at.SKIN, :2], np.float32)
    hull = cv2.convexHull(points)[:, 0]
    grown = hull.mean(0) + (1 + GROWN) * (hull - hull.mean(0))
    mask = np.ones(shape[:2], np.uint8)
    cv2.fillConvexPoly(mask, np.round(grown).astype(np.int32), (0,))
    return mask.astype(bool)


def face_regions(landmarks: np.ndarray, shape: tuple[int, ...]) -> dict[str, np.ndarray]:
    """Where `mouth`, `eyes` and `face` are in a picture: bool [H, W] each.

    Args:
        landmarks: [478, 3] pixels.
        shape: of the picture.
    """
    size = float(np.ptp(landmarks[: at.SKIN, :2], axis=0).max())

    def hull(points: Sequence[int], margin: float) -> np.ndarray:
        outline = cv2.convexHull(landmarks[list(points), :2].astype(np.float32))[:, 0]
        away = outline - outline.mean(0)
        outline = outline + away * (margin * size / (np.linalg.norm(away, axis=1, keepdims=True) + 1e-6))
        drawn = np.zeros(shape[:2], np.uint8)
        cv2.fillConvexPoly(drawn, np.round(outline).astype(np.int32), (1,))
        return drawn.astype(bool)

    return {
        "mouth": hull(at.UPPER_LIP_OUTER + at.LOWER_LIP_OUTER, MOUTH_MARGIN),
        "eyes": hull(at.RIGHT_EYE_UPPER + at.RIGHT_EYE_LOWER, EYE_MARGIN)
        | hull(at.LEFT_EYE_UPPER + at.LEFT_EYE_LOWER, EYE_MARGIN),
        "face": hull(at.OVAL, 0.0),
    }
