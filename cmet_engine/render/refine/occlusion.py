"""What covers the face: places that look unlike the same place of the face in the rest of the clip.

Every frame is warped to the mean face at a small size, and compared with the clip's own median there, in units of how much
that place varies in the clip. This finds hands, microphones and hair that come and go. What covers the face all the time is
taken for the face, and what has the skin's own colour is missed.
"""

from dataclasses import dataclass
from functools import cache

import cv2
import numpy as np

from cmet_engine.face.crop import apply, crop_transform
from cmet_engine.face.landmarks import SKIN
from cmet_engine.face.pose import template
from cmet_engine.render.refine.canonical_crop import Raster, rasterise
from cmet_engine.render.refine.reference_frames import ReferenceFrames
from cmet_engine.render.refine.sources import remap

SIZE = 64
"""Side of the small picture of the face."""

LEAST_FRAMES = 8
"""With fewer reference frames nothing is detected."""

USUAL = 4.0
"""A deviation of this many times the usual one of a place, plus `FLOOR`, is unusual."""

FLOOR = 11.0
"""Brightness, of 255."""

WEAK, LEAST_SURE = 0.5, 12
"""Hysteresis: from this share of the allowed deviation, pixels connected to at least so many unusual ones are unusual too."""

COVERED = 0.2
"""A frame counts as covered from this share of eyes or mouth on."""


@cache
def _mean_face() -> tuple[np.ndarray, Raster]:
    """The mean face in its small crop: the transform [2, 3] and the rasterised mesh."""
    points = template().points * [100.0, -100.0, -100.0]
    transform = crop_transform(points, SIZE)
    return transform, rasterise(points, transform, SIZE)


@dataclass(frozen=True)
class Usual:
    """The usual appearance of a clip's face: median and allowed deviation, float32 [64, 64, 3]; None with too few frames."""

    median: np.ndarray | None
    allowed: np.ndarray | None

    def unusual(self, image: np.ndarray, landmarks: np.ndarray) -> np.ndarray:
        """Where something covers the face: float32 [64, 64] on the mean face, 0 usual to 1 surely covered."""
        if self.median is None or self.allowed is None:
            return np.zeros((SIZE, SIZE), np.float32)
        pixels = _on_mean_face(image, landmarks)
        away = (np.abs(pixels - self.median) / self.allowed).max(2)
        away = cv2.GaussianBlur(away, (0, 0), 1.2) * (_mean_face()[1].inward() > 0.1)
        weak = (away > WEAK).astype(np.uint8)
        count, parts = cv2.connectedComponents(weak)
        sure = np.bincount(parts[away > 1], minlength=count)[:count] >= LEAST_SURE
        sure[0] = False
        found = cv2.dilate(sure[parts].astype(np.float32), np.ones((5, 5), np.uint8)) * _mean_face()[1].inside
        return cv2.GaussianBlur(found, (0, 0), 1.2)


def learn(crops: ReferenceFrames) -> Usual:
    """The usual appearance of the face in the reference frames."""
    if len(crops) < LEAST_FRAMES:
        return Usual(None, None)
    pixels = np.stack(
        [_on_mean_face(image, points) for image, points in zip(crops.images, crops.landmarks, strict=True)]
    )
    median = np.median(pixels, axis=0)
    spread = 1.48 * np.median(np.abs(pixels - median), axis=0)
    # eyes and mouth change all the time: their neighbourhood decides for them
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
    """A map on the mean face [64, 64], warped to a target's crop: float32 [R, R]."""
    transform, _ = _mean_face()
    points = template().points[:SKIN] * [100.0, -100.0, -100.0]
    places = apply(transform, points)
    result: np.ndarray = remap(unusual, raster.values(places)) * raster.inside
    return result


def _on_mean_face(image: np.ndarray, landmarks: np.ndarray) -> np.ndarray:
    """A face warped to the mean face, its brightness brought to a common level: float32 [64, 64, 3]."""
    raster = _mean_face()[1]
    pixels = remap(image, raster.sources(landmarks)).astype(np.float32)
    inside = raster.inward() > 0.3
    level = np.median(pixels[inside], axis=0)
    result: np.ndarray = pixels * (110.0 / np.maximum(level, 8.0))
    return result
