"""Neighbouring frames brought to one geometry, so that what is left between them is not motion."""

from collections.abc import Iterator, Sequence

import numpy as np

from cmet_engine.face.crop import crop_transform
from cmet_engine.face.landmarks import SKIN
from cmet_engine.quality.metrics import Pair
from cmet_engine.render.refine.canonical_crop import rasterise
from cmet_engine.render.refine.sources import remap

MARGIN = 1.2
"""Side of the crop that both frames are brought to, in sizes of the face, so that its scale is about that of the frame."""
LEAST_SIDE, SIDE_STEP = 64, 16
"""Pixels: the crop's least side, and what the side is a multiple of."""
INWARD = 0.3
"""Compared is what lies further inside the face than this, of 1 at its middle: the outline is where tracking errs most."""


def neighbours(pictures: Sequence[np.ndarray], landmarks: Sequence[np.ndarray]) -> Iterator[Pair]:
    """Each picture and the next one, the earlier brought to the geometry of the later by the face mesh.

    Args:
        pictures: uint8 [H, W, 3], neighbouring frames in order.
        landmarks: [478, 3] pixels, of each.

    Yields:
        (earlier, later, where): uint8 [S, S, 3] twice, and bool [S, S], where the face is.
    """
    for before, after, old, new in zip(pictures, pictures[1:], landmarks, landmarks[1:], strict=False):
        side = float(np.ptp(new[:SKIN, :2], axis=0).max()) * MARGIN
        size = max(LEAST_SIDE, SIDE_STEP * round(side / SIDE_STEP))
        raster = rasterise(new, crop_transform(new, size), size)
        earlier, later = (remap(picture, raster.sources(points)) for picture, points in ((before, old), (after, new)))
        yield earlier, later, raster.inward() > INWARD
