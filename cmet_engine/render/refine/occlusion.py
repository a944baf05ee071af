"""What lies in front of the face: places that look unlike the same place of the face in the rest of the clip.

Every frame is laid onto the mean face, small, and compared with the clip's own median there, in units of how much that
place varies in the clip. Hands, microphones and hair that come and go are found so; what covers the face all the time is
taken for the face, and what has the skin's own colour is missed.
"""

from dataclasses import dataclass
from functools import cache

import cv2
import numpy as np

from cmet_engine.face.pose import template
from cmet_engine.render import mesh
from cmet_engine.render.refine.canonical_crop import Raster, rasterise, to_square
from cmet_engine.render.refine.reference_frames import Crops
from cmet_engine.render.refine.sources import remap

SIZE = 64
"""Side of the small picture of the face."""

LEAST_FRAMES = 8
"""With fewer frames nothing is known about what is usual."""

USUAL = 4.0
"""So many times the usual variation of a place, plus `FLOOR`, is unusual."""

FLOOR = 11.0
"""Brightness, of 255."""

WEAK, LEAST_SURE = 0.5, 12
"""What is connected to at least so many surely unusual places is unusual from this share of what is allowed on."""

COVERED = 0.2
"""A frame counts as covered from this share of eyes or mouth on."""


@cache
def _mean_face() -> tuple[np.ndarray, Raster]:
    points = template().points * [100.0, -100.0, -100.0]
    square = to_square(points, SIZE)
    return square, rasterise(points, square, SIZE)


@dataclass(frozen=True)
class Usual:
    """How the face of a clip usually looks: median and allowed deviation, float32 [64, 64, 3]; None where too little is known."""

    median: np.ndarray | None
    allowed: np.ndarray | None

    def unusual(self, image: np.ndarray, landmarks: np.ndarray) -> np.ndarray:
        """Where something else lies over the face: float32 [64, 64] on the mean face, 0 usual to 1 surely covered."""
        if self.median is None or self.allowed is None:
            return np.zeros((SIZE, SIZE), np.float32)
        seen = _laid(image, landmarks)
        away = (np.abs(seen - self.median) / self.allowed).max(2)
        away = cv2.GaussianBlur(away, (0, 0), 1.2) * (_mean_face()[1].inward() > 0.1)
        weak = (away > WEAK).astype(np.uint8)
        count, parts = cv2.connectedComponents(weak)
        sure = np.bincount(parts[away > 1], minlength=count)[:count] >= LEAST_SURE
        sure[0] = False
        found = cv2.dilate(sure[parts].astype(np.float32), np.ones((5, 5), np.uint8)) * _mean_face()[1].inside
        return cv2.GaussianBlur(found, (0, 0), 1.2)


def learn(crops: Crops) -> Usual:
    """The usual look of the face from the frames of a bank."""
    if len(crops) < LEAST_FRAMES:
        return Usual(None, None)
    laid = np.stack([_laid(image, points) for image, points in zip(crops.images, crops.landmarks, strict=True)])
    median = np.median(laid, axis=0)
    spread = 1.48 * np.median(np.abs(laid - median), axis=0)
    # eyes and mouth look different all the time, and not only to the median: their neighbourhood decides for them
    spread = np.maximum(spread, cv2.GaussianBlur(spread, (0, 0), 1.5))
    changing = cv2.dilate((_mean_face()[1].opening > 0).astype(np.float32), np.ones((7, 7), np.uint8))
    allowed = USUAL * spread + FLOOR * (1 + 0.5 * changing[..., None])
    return Usual(median.astype(np.float32), allowed.astype(np.float32))


def covered_share(unusual: np.ndarray) -> float:
    """The larger of the shares of the upper and of the lower half of the face that are covered."""
    raster = _mean_face()[1]
    height = raster.canonical()[..., 1]
    inside = raster.inward() > 0.3
    return max(float(unusual[inside & half].mean()) for half in (height > 0.1, height <= 0.1))


def onto(unusual: np.ndarray, raster: Raster) -> np.ndarray:
    """What was found on the mean face, on a target's square: float32 [R, R]."""
    square, _ = _mean_face()
    points = template().points[: mesh.SKIN] * [100.0, -100.0, -100.0]
    places = points[:, :2] @ square[:, :2].T + square[:, 2]
    result: np.ndarray = remap(unusual, raster.values(places)) * raster.inside
    return result


def _laid(image: np.ndarray, landmarks: np.ndarray) -> np.ndarray:
    """A face on the mean face, its brightness brought to a common level: float32 [64, 64, 3]."""
    raster = _mean_face()[1]
    laid = remap(image, raster.sources(landmarks)).astype(np.float32)
    inside = raster.inward() > 0.3
    level = np.median(laid[inside], axis=0)
    result: np.ndarray = laid * (110.0 / np.maximum(level, 8.0))
    return result
