"""Measure a clip: its size, its exact rate and times, its colours, and what is wrong with it."""

from dataclasses import dataclass, field, replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np

from cmet_engine.errors import InvalidInput
from cmet_engine.media.colour import chroma_place, colors_of, mastering_of, orientation_of
from cmet_engine.media.info import Mastering, VideoInfo
from cmet_engine.media.planes import layout, planar_name, turned_place
from cmet_engine.media.sequences import SEQUENCE_RATE
from cmet_engine.media.source import Source, decoded_frames, first_start, start_of, video_stream

_MAX_RATE = 1000  # above this a "frame rate" is a time base that the container failed to explain
_USUAL_RATES = [Fraction(r) for r in (24, 25, 30, 50, 60, 48, 12, 15, 10, 20, 90, 100, 120, 240)]
_USUAL_RATES += [Fraction(n * 1000, 1001) for n in (24, 30, 60, 48, 120)]


@dataclass
class _Header:
    """What a clip says about itself."""

    promised: int  # frames
    time_base: Fraction
    rates: list[Any]
    has_audio: bool
    codec: str
    pixel_aspect: Fraction
    offset: Fraction
    chroma_place: int = 0
    mastering: Mastering = field(default_factory=Mastering)


@dataclass
class _Packets:
    """What a clip holds: the time stamps and lengths of its frames in ticks, in order of display."""

    stamps: list[int] = field(default_factory=list)
    durations: list[int] = field(default_factory=list)
    unstamped: int = 0
    warnings: list[str] = field(default_factory=list)

    @property
    def frames(self) -> int:
        return len(self.stamps) + self.unstamped


def probe(path: str | Path) -> VideoInfo:
    """Measure a clip: every packet is read (not decoded) and the first picture is decoded.

    Args:
        path: a clip, a folder of numbered pictures, or a pattern such as `frames/frame_%06d.png`.

    Raises:
        NotFound: there is no such file or sequence.
        InvalidInput: a folder without pictures, an empty file, no video, sound only, or no picture can be decoded.
    """
    return measure(Source.of(path))


def measure(source: Source) -> VideoInfo:
    """`probe` of a clip or sequence that was found already."""
    header, first = _header(source)
    packets = _packets(source)
    stamps, durations = packets.stamps, packets.durations
    fps, variable = _rate(stamps, header.time_base, header.rates)
    warnings = _warnings(source.path.name, header, packets, fps, first)
    step = 1 / fps
    last = durations[-1] * header.time_base if variable and durations[-1] else step
    duration = (stamps[-1] - stamps[0]) * header.time_base + last if variable else max(packets.frames, 1) * step
    orientation = orientation_of(first)
    turned = orientation.transpose
    upright_size = (first.height, first.width) if turned else (first.width, first.height)
    place = turned_place(header.chroma_place, layout(first.format.name), upright_size, orientation)
    return VideoInfo(
        path=source.path,
        width=upright_size[0],
        height=upright_size[1],
        fps=fps,
        variable=variable,
        frames=max(packets.frames, 1),
        duration=float(duration),
        has_audio=header.has_audio,
        rotation=orientation.degrees_clockwise,
        bit_depth=max((c.bits for c in first.format.components), default=8),
        codec=header.codec,
        colors=replace(colors_of(first), chroma_place=place),
        pixels=planar_name(first.format.name, turned) or "",
        mastering=header.mastering,
        pixel_aspect=1 / header.pixel_aspect if turned else header.pixel_aspect,
        time_base=header.time_base,
        offset=header.offset,
        warnings=tuple(dict.fromkeys(warnings)),
    )


def _header(source: Source) -> tuple[_Header, av.VideoFrame]:
    """The header, read before anything is decoded, and the first picture."""
    with source.open() as container:
        stream = video_stream(container, source.path)
        header = _Header(
            promised=source.images or stream.frames,
            time_base=Fraction(stream.time_base),
            rates=[stream.guessed_rate, stream.average_rate, stream.base_rate],
            has_audio=bool(container.streams.audio),
            codec=stream.codec_context.name,
            pixel_aspect=Fraction(stream.sample_aspect_ratio or 1),
            offset=start_of(stream) - first_start(container, source.path),
        )
        first = next((f for f in decoded_frames(container, stream) if f is not None), None)
        if first is not None:
            header.chroma_place, header.mastering = chroma_place(first, stream), mastering_of(first)
    if first is None:
        raise InvalidInput(f"{source.path}: not one frame can be decoded; export or copy the clip again.")
    return header, first


def _packets(source: Source) -> _Packets:
    found, name = _Packets(), source.path.name
    with source.open() as container:
        stream = video_stream(container, source.path)
        try:
            for packet in container.demux(stream):
                if packet.size == 0 or packet.is_discard:
                    continue
                if packet.is_corrupt:
                    found.warnings.append(f"{name} is cut off: its last picture is incomplete.")
                stamp = packet.pts if packet.pts is not None else packet.dts
                if stamp is None:
                    found.unstamped += 1
                else:
                    found.stamps.append(stamp)
                    found.durations.append(packet.duration or 0)
        except (av.error.FFmpegError, OSError):
            found.warnings.append(f"{name} is cut off.")
    order = sorted(zip(found.stamps, found.durations, strict=True))
    found.stamps, found.durations = [stamp for stamp, _ in order], [duration for _, duration in order]
    return found


def _warnings(name: str, header: _Header, packets: _Packets, fps: Fraction, first: av.VideoFrame) -> list[str]:
    """Sentences about what is wrong with a file, or with the work on it."""
    warnings, stamps, frames = packets.warnings, packets.stamps, packets.frames
    # AVI counts pictures that were dropped on purpose; a file that reaches its promised end is whole.
    reached = (stamps[-1] - stamps[0]) * header.time_base * fps + 1.5 if stamps else frames
    if header.promised > max(frames, reached):
        warnings = [f"{name} promises {header.promised} frames, but {frames} can be read; it may be cut off."]
    if first.interlaced_frame:
        warnings.append(
            f"{name} is interlaced; its half pictures are made into whole ones, and the result is progressive."
        )
    return warnings


def _rate(stamps: list[int], time_base: Fraction, header: list[Any]) -> tuple[Fraction, bool]:
    """Frames a second, and whether the frames are unevenly spaced.

    A rate is believed when every time stamp lies within one tick (and a quarter of a frame) of where it puts it; the
    header's rates are tried first, then the usual ones. If none fits, the rate is the mean.
    """
    header = [Fraction(r) for r in header if r and 0 < r <= _MAX_RATE]
    # Matroska keeps a frame's length in nanoseconds, which FFmpeg turns into 19001/317 instead of 60000/1001.
    header = [next((u for u in _USUAL_RATES if abs(u / r - 1) < 2e-6), r) for r in header]
    if len(stamps) < 2:
        return (header[0] if header else SEQUENCE_RATE), False
    offsets = np.array(stamps, np.float64) - stamps[0]
    index = np.arange(len(stamps))
    mean = (len(stamps) - 1) / ((stamps[-1] - stamps[0]) * time_base) if stamps[-1] > stamps[0] else SEQUENCE_RATE
    for rate in [*header, *_USUAL_RATES, mean]:
        step = 1 / float(rate * time_base)  # ticks of one frame
        if np.abs(offsets - index * step).max() <= min(1, 0.25 * step) + 1e-6:
            return rate, False
    return max(min(mean, Fraction(_MAX_RATE)).limit_denominator(1001), Fraction(1, 1000)), True
