"""What lies outside the face, and how well an edited video keeps it."""

import itertools
from collections.abc import Iterable
from pathlib import Path

import cv2
import numpy as np

from cmet_engine.face.tracker import FaceGeometry
from cmet_engine.media.reader import VideoReader
from cmet_engine.render import mesh

GROWN = 0.5
"""Outside is what lies beyond the hull of the face grown by this share of its size."""


def outside(geometry: FaceGeometry, index: int, shape: tuple[int, ...]) -> np.ndarray:
    """bool [H, W], what lies beyond the grown hull of the face in one frame."""
    points = np.ascontiguousarray(geometry.landmarks[index][: mesh.SKIN, :2], np.float32)
    hull = cv2.convexHull(points)[:, 0]
    grown = hull.mean(0) + (1 + GROWN) * (hull - hull.mean(0))
    mask = np.ones(shape[:2], np.uint8)
    cv2.fillConvexPoly(mask, np.round(grown).astype(np.int32), (0,))
    return mask.astype(bool)


def psnr(geometry: FaceGeometry, frames: Iterable[tuple[int, np.ndarray, np.ndarray]]) -> float | None:
    """dB by which pictures equal others outside the face.

    Args:
        geometry: where the face is.
        frames: (index, uint8 [H, W, 3] as it was, uint8 [H, W, 3] as it is).

    Returns:
        `inf` where every pixel is equal, None where there is nothing to compare.
    """
    error, count = 0.0, 0
    for index, before, after in frames:
        if before.shape != after.shape or not geometry.valid[index]:
            continue
        mask = outside(geometry, index, before.shape)
        difference = before[mask].astype(np.float32) - after[mask]
        error, count = error + float((difference**2).sum(dtype=np.float64)), count + difference.size
    if not count:
        return None
    return float(10 * np.log10(255**2 * count / error)) if error else float("inf")


def psnr_of_video(clip: Path, video: Path, geometry: FaceGeometry, frames: int) -> float | None:
    """dB by which the first frames of a written video equal the clip's outside the face; see `psnr`."""
    read = (itertools.islice(VideoReader(path), frames) for path in (clip, video))
    return psnr(geometry, ((a.index, a.image, b.image) for a, b in zip(*read, strict=False)))
