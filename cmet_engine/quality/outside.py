"""How well an edited video keeps what lies outside the face."""

import itertools
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from cmet_engine.face.geometry import FaceGeometry
from cmet_engine.media.reader import VideoReader
from cmet_engine.media.source import Source
from cmet_engine.media.spaces import of_result
from cmet_engine.quality.metrics import psnr
from cmet_engine.quality.regions import outside


def psnr_of_video(clip: Path | Source, video: Path, people: Sequence[FaceGeometry], frames: int) -> float | None:
    """dB by which the first frames of a written video equal the clip's outside the faces; see `metrics.psnr`.

    Args:
        clip, video: before and after.
        people: where the edited faces are.
        frames: that are compared.

    Raises:
        CmetError: the video cannot be read back.
    """
    source = Source.of(clip)
    reader = VideoReader(source)
    suffix = Source.of(video).first_file.suffix
    written = VideoReader(video, space=of_result(reader.info, suffix, source.space))
    read = (itertools.islice(one, frames) for one in (reader, written))
    return psnr(
        (
            a.image,
            b.image,
            np.logical_and.reduce([outside(g, a.index, a.image.shape) for g in people if g.valid[a.index]]),
        )
        for a, b in zip(*read, strict=False)
        if a.image.shape == b.image.shape and any(g.valid[a.index] for g in people)
    )
