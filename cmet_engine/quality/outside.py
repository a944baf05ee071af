"""How well an edited video keeps what lies outside the face."""

import itertools
from pathlib import Path

from cmet_engine.face.geometry import FaceGeometry
from cmet_engine.media.reader import VideoReader
from cmet_engine.media.source import Source
from cmet_engine.media.spaces import of_result
from cmet_engine.quality.metrics import psnr
from cmet_engine.quality.regions import outside


def psnr_of_video(clip: Path | Source, video: Path, geometry: FaceGeometry, frames: int) -> float | None:
    """dB by which the first frames of a written video equal the clip's outside the face; see `metrics.psnr`.

    Raises:
        CmetError: the video cannot be read back.
    """
    source = Source.of(clip)
    reader = VideoReader(source)
    suffix = Source.of(video).first_file.suffix
    written = VideoReader(video, space=of_result(reader.info, suffix, source.space))
    read = (itertools.islice(one, frames) for one in (reader, written))
    return psnr(
        (a.image, b.image, outside(geometry, a.index, a.image.shape))
        for a, b in zip(*read, strict=False)
        if a.image.shape == b.image.shape and geometry.valid[a.index]
    )
