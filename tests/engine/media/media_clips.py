"""Pictures and tones of which test clips are made, and ways to copy and compare clips."""

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import av
import numpy as np

from cmet_engine.media.info import Frame
from cmet_engine.media.reader import VideoReader
from cmet_engine.media.writer import VideoWriter

MakeClip = Callable[..., Path]
"""The fixture `make_clip`: writes a clip and returns its path."""


def picture(index: int, width: int, height: int) -> np.ndarray:
    """uint8 [H, W, 3]: smooth colours that move, brightest in the upper left corner, so turning it shows."""
    y, x = np.mgrid[0:height, 0:width].astype(np.float64)
    x, y = x / max(width, 2), y / max(height, 2)
    red = 220 * (1 - x) * (1 - y) + 20
    green = 120 + 80 * np.sin(3 * x + 0.2 * index)
    blue = 60 + 120 * y * np.cos(0.1 * index) ** 2
    return np.stack([red, green, blue], 2).clip(0, 255).astype(np.uint8)


def tone(seconds: float, rate: int, channels: int = 1) -> np.ndarray:
    """int16 [S, C]: a tone that rises, a different one in each channel."""
    t = np.arange(round(seconds * rate)) / rate
    return np.stack(
        [(9000 * np.sin(2 * np.pi * (220 + 110 * c + 40 * t) * t)).astype(np.int16) for c in range(channels)], 1
    )


def psnr(a: np.ndarray, b: np.ndarray) -> float:
    return float(10 * np.log10(255**2 / max(((a.astype(np.float64) - b) ** 2).mean(), 1e-9)))


def copy(source: Path, target: Path, **options: Any) -> tuple[list[Frame], VideoWriter]:
    """Write every frame of a clip into another, unchanged."""
    reader = VideoReader(source)
    frames = []
    with VideoWriter(
        target, reader.info.width, reader.info.height, reader.info.fps, sound_from=source, **options
    ) as writer:
        for frame in reader:
            writer.write(frame.image, frame.time)
            frames.append(frame)
    return frames, writer


def sound_packets(path: Path) -> list[bytes]:
    with av.open(str(path)) as container:
        return [bytes(p) for p in container.demux(container.streams.audio[0]) if p.size]


def same_pictures(before: Iterable[Frame], after: Iterable[Frame], least: float = 40) -> None:
    for a, b in zip(before, after, strict=True):
        assert a.time == b.time
        assert psnr(a.image, b.image) >= least
