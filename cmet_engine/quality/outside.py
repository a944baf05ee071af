"""How well an edited video keeps what lies outside the face."""

import itertools
from pathlib import Path

from cmet_engine.choices import GUESSED, InputSpace
from cmet_engine.face.geometry import FaceGeometry
from cmet_engine.media.reader import VideoReader
from cmet_engine.media.spaces import of_result
from cmet_engine.quality.metrics import psnr
from cmet_engine.quality.regions import outside


def psnr_of_video(
    clip: Path, video: Path, geometry: FaceGeometry, frames: int, space: InputSpace = GUESSED
) -> float | None:
    """dB by which the first frames of a written video equal the clip's outside the face; see `metrics.psnr`.

    `space` is what is said about the colours of both; the video is in those of the clip.

    Raises:
        CmetError: the video cannot be read back.
    """
    source = VideoReader(clip, space=space)
    first = next(iter(sorted(video.iterdir()))) if video.is_dir() else video
    written = VideoReader(video, space=of_result(source.info, first.suffix, space))
    read = (itertools.islice(reader, frames) for reader in (source, written))
    return psnr(
        (a.image, b.image, outside(geometry, a.index, a.image.shape))
        for a, b in zip(*read, strict=False)
        if a.image.shape == b.image.shape and geometry.valid[a.index]
    )
