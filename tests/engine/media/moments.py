"""Clips in which a flash and a click happen at one moment, and when each is found in a file."""

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np

RATE = 48000
CLICK = 0.3  # of full scale; codecs soften it


def write_moments(
    path: Path,
    moments: Sequence[float],
    *,
    seconds: float = 2.0,
    fps: int = 25,
    codec: str = "libx264",
    options: dict[str, str] | None = None,
    sound: str = "aac",
    container_options: dict[str, str] | None = None,
) -> Path:
    """Write a dark, silent clip of 64 x 48 pixels that flashes and clicks at some moments, in seconds."""
    with av.open(str(path), "w", options=container_options or {}) as out:
        video: Any = out.add_stream(codec, rate=fps, options=options or {})
        video.width, video.height, video.pix_fmt = 64, 48, "yuv420p"
        track: Any = out.add_stream(sound, rate=RATE)
        track.layout = "mono"
        out.start_encoding()
        wave = np.zeros(round(seconds * RATE), np.int16)
        for moment in moments:
            start = round(moment * RATE)
            wave[start : start + RATE // 25] = (
                20000 * np.sin(np.arange(len(wave[start : start + RATE // 25])) * 0.4)
            ).astype(np.int16)
        block = track.codec_context.frame_size or 1024
        resampler = av.AudioResampler(format=track.codec_context.format.name, layout="mono", rate=RATE)
        written = 0
        for index in range(round(seconds * fps)):
            lit = any(abs(index / fps - moment) < 0.5 / fps for moment in moments)
            frame = av.VideoFrame.from_ndarray(np.full((48, 64, 3), 235 if lit else 20, np.uint8))
            frame.pts, frame.time_base = index, Fraction(1, fps)
            out.mux(video.encode(frame))
            while written < min(len(wave), (index + 1) * RATE // fps):
                part: Any = av.AudioFrame.from_ndarray(
                    wave[None, written : written + block], format="s16", layout="mono"
                )
                part.sample_rate, part.pts, part.time_base = RATE, written, Fraction(1, RATE)
                written += block
                for resampled in resampler.resample(part):
                    out.mux(track.encode(resampled))
        out.mux(video.encode(None))
        out.mux(track.encode(None))
    return path


def flashes(path: Path) -> list[float]:
    """Seconds of the file's clock at which a picture is lit that follows a dark one."""
    found, dark = [], True
    with av.open(str(path)) as container:
        for frame in container.decode(container.streams.video[0]):
            lit = frame.to_ndarray(format="gray").mean() > 120
            if lit and dark:
                found.append(float(frame.time))
            dark = not lit
    return found


def clicks(path: Path, track: int = 0) -> list[float]:
    """Seconds of the file's clock at which it becomes loud after a tenth of a second of quiet."""
    found: list[float] = []
    loud_until = -1.0
    with av.open(str(path)) as container:
        for frame in container.decode(container.streams.audio[track]):
            samples = frame.to_ndarray()
            wave = samples.mean(0) if frame.format.is_planar else samples.reshape(-1, frame.layout.nb_channels).mean(1)
            wave = np.abs(wave) / (1.0 if samples.dtype.kind == "f" else float(np.iinfo(samples.dtype).max))
            for place in np.flatnonzero(wave > CLICK):
                at = float(frame.time) + int(place) / frame.sample_rate
                if at > loud_until + 0.1:
                    found.append(at)
                loud_until = at
    return found
