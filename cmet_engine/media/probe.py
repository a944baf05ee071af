"""Measure a clip: its size, its exact rate and times, its colours, and what is wrong with it."""

import bisect
import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from av.container import InputContainer

from cmet_engine.choices import GUESSED, InputSpace
from cmet_engine.errors import InvalidInput
from cmet_engine.media.clock import Clock, Picture, Shift, SoundRuns, moved, shifts_of
from cmet_engine.media.colour import chroma_place, colors_of, field_order, mastering_of, orientation_of
from cmet_engine.media.display import Display, display_of
from cmet_engine.media.info import ONE_MOMENT, Colors, Mastering, VideoInfo
from cmet_engine.media.planes import layout, planar_name, turned_place
from cmet_engine.media.sequences import SEQUENCE_RATE, tags_of
from cmet_engine.media.source import Source, decoded_frames, start_of, video_stream
from cmet_engine.media.spaces import guessed, is_float, sentence
from cmet_engine.timecode import Timecode, parse_moment

_MAX_RATE = 1000  # above this a "frame rate" is a time base that the container failed to explain
_HELD_BACK = 4  # pictures that FFmpeg's parser of a stream holds back at the most
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
    first: int | None  # ticks at which the first picture is shown that can be decoded
    tags: dict[str, str]  # of the file, its pictures and its data, names in lower case; the first that has one counts
    chroma_place: int = 0
    field_order: str = ""
    mastering: Mastering = field(default_factory=Mastering)


@dataclass
class _Packets:
    """What a clip holds: the time stamps and lengths of its frames in ticks, in order of display; see `Clock`."""

    stamps: list[int] = field(default_factory=list)
    durations: list[int] = field(default_factory=list)
    stored: int = 0
    unstamped: int = 0
    shifts: dict[int, list[Shift]] = field(default_factory=dict)
    sounds_from: Fraction | None = None
    warnings: list[str] = field(default_factory=list)

    @property
    def frames(self) -> int:
        return len(self.stamps) + self.unstamped


def probe(path: str | Path, *, space: InputSpace = GUESSED) -> VideoInfo:
    """Measure a clip: every packet is read (not decoded) and the first picture is decoded.

    Args:
        path: a clip, a folder of numbered pictures, or a pattern such as `frames/frame_%06d.png`.
        space: what is said about its colours.

    Raises:
        NotFound: there is no such file or sequence.
        InvalidInput: a folder without pictures, an empty file, no video, sound only, or no picture can be decoded.
    """
    return measure(Source.of(path, space))


def measure(source: Source) -> VideoInfo:
    """`probe` of a clip or sequence that was found already, or of the part of it that the source stands for."""
    header, first, packets = _survey(source)
    fps, variable = _rate(packets.stamps, header.time_base, header.rates)
    warnings = [*source.notes, *_warnings(source.path.name, header, packets, fps)]
    colors = colors_of(first)
    display, reason = display_and_reason(source, colors, first.format.name)
    warnings += [sentence(source.path.name, display.name, reason)] if reason else []
    part = slice(source.first, source.end)
    stamps, durations = packets.stamps[part], packets.durations[part]
    frames = max(len(stamps) if source.is_part else packets.frames, 1)
    step = 1 / fps

    def lasts(stamps: list[int], durations: list[int], frames: int) -> Fraction:
        if not variable:
            return frames * step
        return (stamps[-1] - stamps[0]) * header.time_base + (durations[-1] * header.time_base or step)

    begins = beginning = (header.first or 0) * header.time_base
    zero = begins if packets.sounds_from is None else min(begins, packets.sounds_from)
    clock = Clock(zero, packets.shifts)
    if source.is_part:
        begins = stamps[0] * header.time_base
        after = packets.stamps[source.end : source.end + 1] if source.end else []
        clock = Clock(begins, packets.shifts, begins, after[0] * header.time_base if after else None)
    orientation = orientation_of(first)
    turned = orientation.transpose
    lines_lie = not (turned or orientation.up_down)
    if header.field_order and not lines_lie:
        warnings.append(f"{source.path.name} is interlaced and turned; {ONE_MOMENT}.")
    upright_size = (first.height, first.width) if turned else (first.width, first.height)
    place = turned_place(header.chroma_place, layout(first.format.name), upright_size, orientation)
    return VideoInfo(
        path=source.path,
        width=upright_size[0],
        height=upright_size[1],
        fps=fps,
        variable=variable,
        frames=frames,
        duration=float(lasts(stamps, durations, frames)),
        has_audio=header.has_audio,
        rotation=orientation.degrees_clockwise,
        bit_depth=max((c.bits for c in first.format.components), default=8),
        field_order=header.field_order if lines_lie else "",
        codec=header.codec,
        colors=replace(colors, chroma_place=place),
        display=display,
        pixels=planar_name(first.format.name, turned) or "",
        mastering=header.mastering,
        pixel_aspect=1 / header.pixel_aspect if turned else header.pixel_aspect,
        time_base=header.time_base,
        offset=begins - clock.zero,
        begins=float(begins - beginning),
        whole=float(lasts(packets.stamps, packets.durations, max(packets.frames, 1))),
        timecode=_start_timecode(header, fps, round((begins - beginning) * fps), warnings),
        reel=header.tags.get("reel_name", ""),
        created=header.tags.get("creation_time", header.tags.get("modification_date", "")),  # the latter in MXF
        clock=clock,
        warnings=tuple(dict.fromkeys(warnings)),
    )


def display_and_reason(source: Source, colors: Colors, pixels: str) -> tuple[Display, str]:
    """How a clip is shown, and where its colour space was guessed and is not ordinary SDR, why.

    Args:
        source: the clip.
        colors: of its first picture.
        pixels: FFmpeg's name of its format.

    Raises:
        CmetError: see `display_of`.
    """
    floats = is_float(pixels)
    guess, reason = guessed(colors, floats, source.first_file if floats else None)
    return display_of(source.space, guess), "" if source.space.name else reason


def part_of(clip: Path, begin: str | None, end: str | None, handles: int = 0, space: InputSpace = GUESSED) -> Source:
    """The part of a clip between two moments, as `timecode.parse_moment` reads them; the whole clip where both are None.

    Args:
        clip: a clip or an image sequence.
        begin: the first frame of the part.
        end: the frame behind its last one; at or behind the end of the clip all that follow are taken.
        handles: frames more at either end, as far as the clip has them.
        space: what is said about its colours.

    Raises:
        InvalidInput: a moment is none, the part holds no frame, or the clip has no time stamps.
    """
    source = Source.of(clip, space)
    if begin is None and end is None:
        return source
    info = measure(source)
    header, _, packets = _survey(source)
    if packets.unstamped:
        raise InvalidInput(
            f"{clip.name} has frames without time stamps, so no part of it can be chosen; convert it first."
        )
    first = 0 if begin is None else _frame_of(begin, info, packets, header)
    after = len(packets.stamps) if end is None else min(_frame_of(end, info, packets, header), len(packets.stamps))
    if not 0 <= first < after:
        label = f", timecode {info.timecode}" if info.timecode else ""
        raise InvalidInput(
            f"From {begin or 'the beginning'} to {end or 'the end'} {clip.name} has no frame; it begins at 0 s{label}, and "
            f"has {info.frames} frames in {info.duration:.2f} s."
        )
    first, after = max(0, first - handles), after + handles
    return replace(source, first=first, end=after if after < len(packets.stamps) else None)


def _frame_of(moment: str, info: VideoInfo, packets: _Packets, header: _Header) -> int:
    """The number of the first frame at or after a moment; negative before the clip."""
    value = parse_moment(moment)
    if isinstance(value, int):
        return value
    if isinstance(value, str):
        return Timecode.parse(info.timecode or "00:00:00:00", info.fps).until(value)
    early = header.time_base if info.variable else 1 / info.fps / 4  # stamps are rounded to ticks
    return bisect.bisect_left(packets.stamps, packets.stamps[0] + (value - early) / header.time_base)


def _survey(source: Source) -> tuple[_Header, av.VideoFrame, _Packets]:
    """Everything that is read of a file, kept for the next step of the work as long as the file is the same."""
    if source.pictures is not None or not source.path.is_file():
        header, first = _header(source)
        return header, first, _packets(source, header)
    about = source.path.stat()
    return _surveyed(source.path.absolute(), source.path, about.st_ino, about.st_size, about.st_mtime_ns)


@functools.lru_cache(maxsize=4)
def _surveyed(place: Path, path: Path, *about: int) -> tuple[_Header, av.VideoFrame, _Packets]:
    header, first = _header(Source(path))
    return header, first, _packets(Source(path), header)


def _header(source: Source) -> tuple[_Header, av.VideoFrame]:
    """The header, read before anything is decoded, and the first picture."""
    with source.open() as container:
        stream = video_stream(container, source.path)
        promised = source.images or stream.frames
        if stream.duration and stream.guessed_rate:  # an edit list leaves out some of the frames that are stored
            lasts = stream.duration * stream.time_base * stream.guessed_rate
            promised = min(promised, math.ceil(lasts - Fraction(1, 2)))
        header = _Header(
            promised=promised,
            time_base=Fraction(stream.time_base),
            rates=[stream.guessed_rate, stream.average_rate, stream.base_rate],
            has_audio=bool(container.streams.audio),
            codec=stream.codec_context.name,
            pixel_aspect=Fraction(stream.sample_aspect_ratio or 1),
            first=None,
            tags=_tags(container, stream),
        )
        first = next((f for f in decoded_frames(container, stream) if f is not None), None)
        if first is not None:
            header.mastering = mastering_of(first)
            header.chroma_place, header.field_order = chroma_place(first, stream), field_order(first, stream)
    if first is None:
        raise InvalidInput(f"{source.path}: not one frame can be decoded; export or copy the clip again.")
    tags = header.tags
    if source.pictures is not None:  # the pictures of a sequence have their own; in films they are the encoder's
        tags = {k.lower(): v for k, v in first.metadata.items()} | tags | tags_of(source.first_file)
    return replace(header, first=first.pts if first.pts is not None else first.dts, tags=tags), first


def _tags(container: InputContainer, stream: Any) -> dict[str, str]:
    """What the file says about itself: on the stream of pictures, as a whole, on its tracks of data."""
    data = [s for s in container.streams if s.type == "data"]
    parts = (*reversed(data), container, stream)
    return {k.lower().removeprefix("comment_"): v for part in parts for k, v in part.metadata.items()}  # MXF's prefix


def _start_timecode(header: _Header, fps: Fraction, first: int, warnings: list[str]) -> str:
    """The label of frame `first`; empty, with a warning, where the file's own is none at its rate."""
    text = header.tags.get("timecode", "")
    if not text:
        return ""
    try:
        return str(Timecode.parse(text, fps) + first)
    except InvalidInput as error:
        warnings.append(f"The start timecode is left out: {error}")
        return ""


def _packets(source: Source, header: _Header) -> _Packets:
    """Read every packet of pictures and sound, and put the pictures in order."""
    found, name = _Packets(), source.path.name
    pictures: list[Picture] = []
    corrupt: list[int] = []
    with source.open() as container:
        stream = video_stream(container, source.path)
        sounds = {s.index: SoundRuns() for s in container.streams.audio}
        began = [start_of(s) for s in container.streams.audio if s.start_time is not None]
        try:
            for packet in container.demux([stream, *container.streams.audio]):
                if packet.size == 0:
                    continue
                if packet.stream_index != stream.index:
                    sounds[packet.stream_index].add(packet)
                    continue
                if packet.is_corrupt:
                    corrupt.append(len(pictures))
                counts = tuple(sound.count for sound in sounds.values())
                if packet.is_discard:
                    pictures.append(Picture(None, None, counts))
                else:
                    pictures.append(Picture(packet.pts, packet.dts, counts, packet.duration or 0))
                    found.unstamped += pictures[-1].stamp is None
        except (av.error.FFmpegError, OSError):
            found.warnings.append(f"{name} is cut off.")
        index = stream.index
    found.stored = len(pictures)
    found.sounds_from = min(began or [run.start for sound in sounds.values() for run in sound.runs[:1]], default=None)
    rate = next((Fraction(r) for r in header.rates if r and 0 < r <= _MAX_RATE), None)
    found.shifts, joins = shifts_of(index, header.time_base, rate, pictures, sounds)
    # At a join a packet seems corrupt because what follows is not numbered on from it.
    corrupt = [place for place in corrupt if not any(join - _HELD_BACK <= place <= join for join in joins)]
    if found.stored - 1 in corrupt:
        found.warnings.append(f"{name} is cut off: its last picture is incomplete.")
    elif corrupt:
        found.warnings.append(f"{name}: pictures are damaged ({len(corrupt)} of {found.stored}).")
    _put_in_order(found, header, pictures, found.shifts.get(index, ()))
    places = [float(found.stamps[min(join, len(found.stamps) - 1)] - found.stamps[0]) for join in joins]
    if places:
        found.warnings.append(
            f"{name}: its clock jumps at {', '.join(f'{p * float(header.time_base):.2f} s' for p in places)}, where "
            "recordings were joined; time goes on from the last picture there."
        )
    elif found.shifts.keys() - {index}:
        found.warnings.append(f"{name}: the clock of its sound jumps; the sound goes on from where it was.")
    return found


def _put_in_order(found: _Packets, header: _Header, pictures: Sequence[Picture], shifts: Sequence[Shift]) -> None:
    """Time stamps and lengths in order of display, from the first picture on that can be decoded."""
    order = sorted(
        (p.stamp + round(moved(shifts, place) / header.time_base), p.duration)
        for place, p in enumerate(pictures)
        if p.stamp is not None
    )
    # What comes before it refers to pictures that are not in the file.
    order = [one for one in order if header.first is None or one[0] >= header.first] or order
    found.stamps, found.durations = [stamp for stamp, _ in order], [duration for _, duration in order]


def _warnings(name: str, header: _Header, packets: _Packets, fps: Fraction) -> list[str]:
    """Sentences about what is wrong with a file, or with the work on it."""
    warnings, stamps, frames = list(packets.warnings), packets.stamps, packets.frames
    # AVI counts pictures that were dropped on purpose; a file that reaches its promised end is whole.
    reached = (stamps[-1] - stamps[0]) * header.time_base * fps + 1.5 if stamps else frames
    if header.promised > max(frames, packets.stored, reached):
        warnings = [f"{name} promises {header.promised} frames, but {frames} can be read; it may be cut off."]
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
