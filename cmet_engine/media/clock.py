"""The clock of a clip: where joined recordings follow each other, when its first picture and sound come, which part is read.

Recordings that were joined into one file (transport streams above all) keep their own clocks, so time jumps at the join: back to
where it began, or hours ahead. Here it goes on from the last picture before the join, and the sound moves with the pictures.
"""

import itertools
import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any, NamedTuple

from av.container import InputContainer

BACK = Fraction(1, 10)  # seconds by which a clock may go back without having been set anew (FFmpeg's own limit)
AHEAD = 10  # seconds by which it may go ahead (FFmpeg's -dts_delta_threshold)
_SOUND_AHEAD = 1  # seconds without sound that begin a new stretch of it
_NEAR = 2  # seconds by which the jump of the sound may differ from that of the pictures
_PLAUSIBLE = Fraction(1, 50)  # by which the measured length of a frame may differ from the header's


class Shift(NamedTuple):
    """From packet `first` of a stream on, `seconds` are added to its time stamps."""

    first: int
    seconds: Fraction


@dataclass(frozen=True)
class Clock:
    """How the time stamps of a file are read. Times are seconds of its clock, after the shifts.

    Attributes:
        zero: where time 0 of an output lies: the first picture or sound, or the first picture of the part that is read.
        shifts: by number of the stream, where its stamps are moved; the order of packets is that of the file.
        start, end: the part that is read: pictures from `start` on, up to and without `end`; None where it is not limited.
    """

    zero: Fraction = Fraction(0)
    shifts: Mapping[int, Sequence[Shift]] = field(default_factory=dict)
    start: Fraction | None = None
    end: Fraction | None = None

    def packets(self, container: InputContainer, streams: Sequence[Any]) -> Iterator[Any]:
        """The packets of some streams of a file that was just opened, with continuous time stamps."""
        counts: dict[int, int] = {}
        for packet in container.demux(streams):
            shifts = self.shifts.get(packet.stream_index, ())
            if shifts and packet.size:
                count = counts[packet.stream_index] = counts.get(packet.stream_index, -1) + 1
                ticks = round(moved(shifts, count) / packet.time_base)
                if packet.pts is not None:
                    packet.pts += ticks
                if packet.dts is not None:
                    packet.dts += ticks
            yield packet


class Run(NamedTuple):
    """Sound without a gap: its first packet, and where it begins and ends in seconds."""

    first: int
    start: Fraction
    end: Fraction


class SoundRuns:
    """The stretches of one stream of sound, packet by packet as they come."""

    def __init__(self) -> None:
        self.count = 0
        self.runs: list[Run] = []

    def add(self, packet: Any) -> None:
        """Take the next packet."""
        stamp = packet.pts if packet.pts is not None else packet.dts
        if stamp is not None:
            start = stamp * packet.time_base
            end = start + (packet.duration or 0) * packet.time_base
            if self.runs and -BACK <= start - self.runs[-1].end <= _SOUND_AHEAD:
                self.runs[-1] = self.runs[-1]._replace(end=max(end, self.runs[-1].end))
            else:
                self.runs.append(Run(self.count, start, end))
        self.count += 1


class Picture(NamedTuple):
    """The packet of a picture: times of showing and of decoding in ticks, and how many packets of each sound came before.

    Both times are None where an edit list leaves the picture out.
    """

    shown: int | None
    decoded: int | None
    sounds: tuple[int, ...]
    duration: int = 0

    @property
    def stamp(self) -> int | None:
        """When it is shown, as far as it says."""
        return self.decoded if self.shown is None else self.shown


def shifts_of(
    video: int, time_base: Fraction, rate: Fraction | None, pictures: Sequence[Picture], sounds: Mapping[int, SoundRuns]
) -> tuple[dict[int, list[Shift]], list[int]]:
    """Where the time stamps of a clip must be moved so that time goes on at the joins; empty where there are none.

    Args:
        video: number of the stream of pictures.
        time_base: seconds of its ticks.
        rate: frames a second as the header has it.
        pictures: its packets in the order of the file.
        sounds: by number of the stream, the stretches of each sound.

    Returns:
        The shifts by number of the stream, and the numbers of the pictures' packets at which another recording begins.
    """
    stamps = [p.decoded for p in pictures]
    step = _step([p.stamp for p in pictures], time_base, rate)
    joins, spikes = _jumps(stamps, step, time_base, sounds)
    if not joins and not spikes:
        return {}, []
    result: dict[int, list[Shift]] = {index: [] for index in (video, *sounds)}
    used = dict.fromkeys(sounds, 0)  # runs of each sound that lie before the present join
    shift, bounds = Fraction(0), [0, *joins, len(pictures)]
    for number, first in enumerate(joins):
        before = _shown(pictures[bounds[number] : first], spikes, bounds[number])
        step = _step(before, time_base, rate)
        after = _shown(pictures[first : bounds[number + 2]], spikes, first)
        jump = min(after) * time_base - max(before) * time_base - step
        shift -= jump
        result[video].append(Shift(first, shift))
        for place, (index, sound) in enumerate(sounds.items()):
            packet, used[index] = _sound_join(sound.runs, used[index], jump, pictures[first].sounds[place])
            result[index].append(Shift(packet, shift))
    for place in spikes:  # one wrong stamp among right ones: the picture follows the one before
        around = moved(result[video], place)
        wrong = (stamps[place] - stamps[place - 1]) * time_base - step  # type: ignore[operator]
        result[video] += [Shift(place, around - wrong), Shift(place + 1, around)]
    result[video].sort(key=lambda s: s.first)
    return result, joins


def _step(stamps: Sequence[int | None], time_base: Fraction, rate: Fraction | None) -> Fraction:
    """Seconds of one frame: the header's where the stamps agree with it."""
    known = sorted(stamp for stamp in stamps if stamp is not None)
    steps = [b - a for a, b in itertools.pairwise(known) if b > a]
    measured = statistics.median_low(steps) * time_base if steps else Fraction(0)
    if rate and (not measured or abs(measured * rate - 1) <= _PLAUSIBLE):
        return 1 / rate
    return measured


def moved(shifts: Sequence[Shift], count: int) -> Fraction:
    """Seconds that are added to the stamps of packet `count` of a stream."""
    return next((s.seconds for s in reversed(shifts) if s.first <= count), Fraction(0))


def _jumps(
    stamps: Sequence[int | None], step: Fraction, time_base: Fraction, sounds: Mapping[int, SoundRuns]
) -> tuple[list[int], list[int]]:
    """Numbers of the packets at which another recording begins, and of those whose stamp alone is wrong."""
    joins: list[int] = []
    spikes: list[int] = []

    def follows(place: int, before: int, frames: int) -> bool:
        stamp = stamps[place]
        return stamp is None or -BACK <= (stamp - before) * time_base <= AHEAD + frames * step

    before: int | None = None
    for place, stamp in enumerate(stamps):
        if stamp is None:
            continue
        if before is None or follows(place, before, 1):
            before = stamp
        elif place + 1 < len(stamps) and stamps[place + 1] is not None and follows(place + 1, before, 2):
            spikes.append(place)
        else:
            if stamp < before or not _heard(sounds, before * time_base + step, stamp * time_base):
                joins.append(place)
            before = stamp
    return joins, spikes


def _heard(sounds: Mapping[int, SoundRuns], start: Fraction, end: Fraction) -> bool:
    """Whether sound goes on through more than half of a gap, so that a picture stands still there and no clock jumps."""
    none = Fraction(0)
    return any(
        2 * sum((max(none, min(r.end, end) - max(r.start, start)) for r in sound.runs), none) > end - start
        for sound in sounds.values()
    )


def _shown(pictures: Sequence[Picture], spikes: Sequence[int], first: int) -> list[int]:
    """Times of showing, those of wrong stamps left out."""
    times = [p.stamp for i, p in enumerate(pictures, first) if i not in spikes]
    return [time for time in times if time is not None]


def _sound_join(runs: Sequence[Run], used: int, jump: Fraction, otherwise: int) -> tuple[int, int]:
    """The packet of a sound at which a join lies, and the number of its stretches up to there.

    It is where the sound's clock jumps as far as the pictures' does; `otherwise` where it nowhere does.
    """
    for number in range(used + 1, len(runs)):
        if abs(runs[number].start - runs[number - 1].end - jump) <= _NEAR:
            return runs[number].first, number
    return otherwise, used
