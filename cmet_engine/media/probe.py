"""Measure a clip: its size, its exact rate and times, its colours, and what is wrong with it."""

from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np

from cmet_engine.errors import CmetError
from cmet_engine.media.colour import colors_of, degrees_clockwise, orientation_of
from cmet_engine.media.info import VideoInfo
from cmet_engine.media.sequences import SEQUENCE_RATE
from cmet_engine.media.source import Source, decoded_frames, first_start, start_of, video_stream

_MAX_RATE = 1000  # above this a "frame rate" is a time base that the container failed to explain
_HDR = {16, 18}  # AVCOL_TRC_SMPTE2084 (PQ), AVCOL_TRC_ARIB_STD_B67 (HLG)


def probe(path: str | Path) -> VideoInfo:
    """Measure a clip: every packet is read (not decoded) and the first picture is decoded.

    Args:
        path: a clip, a folder of numbered pictures, or a pattern such as `frames/frame_%06d.png`.

    Raises:
        CmetError: missing, a folder without pictures, empty, not a video, sound only, or no picture can be decoded.
    """
    return measure(Source.of(path))


def measure(source: Source) -> VideoInfo:
    """`probe` of a clip or sequence that was found already."""
    path = source.path
    warnings: list[str] = []
    with source.open() as container:
        stream = video_stream(container, path)
        promised = stream.frames if not source.images else source.images
        time_base = Fraction(stream.time_base)
        rates = [stream.guessed_rate, stream.average_rate, stream.base_rate]
        has_audio = bool(container.streams.audio)
        codec = stream.codec_context.name
        pixel_aspect = Fraction(stream.sample_aspect_ratio or 1)
        offset = start_of(stream) - first_start(container, path)
        first = next((f for f in decoded_frames(container, stream) if f is not None), None)
    if first is None:
        raise CmetError(f"{path}: not one frame can be decoded; export or copy the clip again.")
    stamps: list[int] = []
    durations: list[int] = []
    unstamped = 0
    with source.open() as container:
        stream = video_stream(container, path)
        try:
            for packet in container.demux(stream):
                if packet.size == 0 or packet.is_discard:
                    continue
                if packet.is_corrupt:
                    warnings.append(f"{path.name} is cut off: its last picture is incomplete.")
                stamp = packet.pts if packet.pts is not None else packet.dts
                if stamp is None:
                    unstamped += 1
                else:
                    stamps.append(stamp)
                    durations.append(packet.duration or 0)
        except (av.error.FFmpegError, OSError):
            warnings.append(f"{path.name} is cut off.")
    frames = len(stamps) + unstamped
    stamps, durations = zip(*sorted(zip(stamps, durations, strict=True)), strict=True) if stamps else ([], [])  # type: ignore[assignment]
    fps, variable = _rate(list(stamps), time_base, rates)
    step = 1 / fps
    # AVI counts pictures that were dropped on purpose; a file that reaches its promised end is whole.
    reached = (stamps[-1] - stamps[0]) * time_base * fps + 1.5 if stamps else frames
    if promised > max(frames, reached):
        warnings = [f"{path.name} promises {promised} frames, but {frames} can be read; it may be cut off."]
    if first.interlaced_frame:
        warnings.append(
            f"{path.name} is interlaced; its half pictures are made into whole ones, and the result is progressive."
        )
    if colors_of(first).transfer in _HDR:
        warnings.append(
            f"{path.name} is HDR; pictures are worked on with 8 bits a colour, so smooth skies may show steps."
        )
    last = durations[-1] * time_base if variable and durations[-1] else step
    duration = (stamps[-1] - stamps[0]) * time_base + last if variable else max(frames, 1) * step
    orientation = orientation_of(first)
    width, height = (first.height, first.width) if orientation[0] else (first.width, first.height)
    if orientation[0]:
        pixel_aspect = 1 / pixel_aspect
    return VideoInfo(
        path=path,
        width=width,
        height=height,
        fps=fps,
        variable=variable,
        frames=max(frames, 1),
        duration=float(duration),
        has_audio=has_audio,
        rotation=degrees_clockwise(orientation),
        bit_depth=max((c.bits for c in first.format.components), default=8),
        codec=codec,
        colors=colors_of(first),
        pixel_aspect=pixel_aspect,
        time_base=time_base,
        offset=offset,
        warnings=tuple(dict.fromkeys(warnings)),
    )


def _rate(stamps: list[int], time_base: Fraction, header: list[Any]) -> tuple[Fraction, bool]:
    """Frames a second, and whether the frames are unevenly spaced.

    A rate is believed when every time stamp lies within one tick (and a quarter of a frame) of where it puts it; the
    header's rates are tried first, then the usual ones. If none fits, the rate is the mean.
    """
    usual = [Fraction(r) for r in (24, 25, 30, 50, 60, 48, 12, 15, 10, 20, 90, 100, 120, 240)]
    usual += [Fraction(n * 1000, 1001) for n in (24, 30, 60, 48, 120)]
    header = [Fraction(r) for r in header if r and 0 < r <= _MAX_RATE]
    # Matroska keeps a frame's length in nanoseconds, which FFmpeg turns into 19001/317 instead of 60000/1001.
    header = [next((u for u in usual if abs(u / r - 1) < 2e-6), r) for r in header]
    if len(stamps) < 2:
        return (header[0] if header else SEQUENCE_RATE), False
    offsets = np.array(stamps, np.float64) - stamps[0]
    index = np.arange(len(stamps))
    mean = (len(stamps) - 1) / ((stamps[-1] - stamps[0]) * time_base) if stamps[-1] > stamps[0] else SEQUENCE_RATE
    for rate in [*header, *usual, mean]:
        step = 1 / float(rate * time_base)  # ticks of one frame
        if np.abs(offsets - index * step).max() <= min(1, 0.25 * step) + 1e-6:
            return rate, False
    return max(min(mean, Fraction(_MAX_RATE)).limit_denominator(1001), Fraction(1, 1000)), True
