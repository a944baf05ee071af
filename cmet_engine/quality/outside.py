"""How well an edited video keeps what lies outside the face."""

import itertools
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from cmet_engine.face.geometry import FaceGeometry
from cmet_engine.media.info import Frame
from cmet_engine.media.reader import VideoReader
from cmet_engine.media.source import Source
from cmet_engine.media.spaces import of_result
from cmet_engine.quality.metrics import psnr
from cmet_engine.quality.regions import outside

COMPARED = 640
"""Pixels along the longer side of a picture that are compared at the least: of larger ones every second, every third and so on."""


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
    read = (itertools.islice(one.frames(whole=False), frames) for one in (reader, written))
    step = max(max(reader.info.width, reader.info.height) // COMPARED, 1)

    def seen(frame: Frame) -> np.ndarray:
        return frame.sparse(step) if step > 1 else frame.image

    return psnr(
        (seen(a), seen(b), _beyond(people, a.index, a.shape)[::step, ::step])
        for a, b in zip(*read, strict=False)
        if a.shape == b.shape and any(g.valid[a.index] for g in people)
    )


def _beyond(people: Sequence[FaceGeometry], index: int, shape: tuple[int, ...]) -> np.ndarray:
    """bool [H, W], what lies outside all faces of a frame."""
    return np.logical_and.reduce([outside(g, index, shape) for g in people if g.valid[index]])
