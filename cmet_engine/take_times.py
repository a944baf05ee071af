"""When the rows of a recording were: frame rate and seconds from timecodes, seconds, milliseconds or frame numbers."""

import math
import re
from collections.abc import Sequence
from fractions import Fraction
from typing import Any, NamedTuple

import numpy as np

from cmet_engine.errors import InvalidInput

_TIMECODE = re.compile(r"(\d{1,2}):(\d{1,2}):(\d{1,2})(?:[:;.](\d{1,3}(?:[.,]\d+)?))?")
_LONGEST_STEP = 10.0  # seconds between two frames; beyond it a file is no recording of a face
_BACKWARD_SHARE = 0.1  # of rows whose time does not move forward: more, and the times are not times
_RATES = tuple(
    Fraction(r)
    for r in (
        "12", "15", "24000/1001", "24", "25", "30000/1001", "30", "48", "50", "60000/1001", "60", "90", "100", "120",
    )
)  # fmt: skip


class Times(NamedTuple):
    """When rows were.

    Attributes:
        fps: frames a second.
        kept: the rows that move forward in time, int [M].
        meta: `frame_times` where the rows are not evenly spaced, `start_seconds` where a timecode says so.
        notes: sentences for the user.
    """

    fps: Fraction
    kept: np.ndarray
    meta: dict[str, Any]
    notes: list[str]


def usual_rate(rate: float) -> Fraction:
    """The usual rate within 0.002 of `rate`, or `rate` itself."""
    near = min(_RATES, key=lambda r: abs(float(r) - rate))
    return near if abs(float(near) - rate) < 0.002 else Fraction(rate).limit_denominator(1001)


def parse_timecode(text: str) -> tuple[float, float]:
    """Whole seconds and frames of `01:02:03:04.567`; NaN where it is no timecode."""
    match = _TIMECODE.fullmatch(text.strip())
    if not match:
        return math.nan, math.nan
    hours, minutes, seconds = (int(g) for g in match.groups()[:3])
    return hours * 3600 + minutes * 60 + seconds, float((match.group(4) or "0").replace(",", "."))


def of_timecodes(stamps: Sequence[tuple[float, float]], lines: np.ndarray, texts: Sequence[str]) -> Times:
    """Times from timecodes, pairs of seconds and frames.

    The counter's base is not written in the file: it is the usual one above the largest frame number that makes the steps
    between rows most even, in parts of a step, across the turn of a second; the smallest of several.

    Raises:
        InvalidInput: most are no timecodes, or they do not move forward.
    """
    array = np.array(stamps, np.float64).reshape(-1, 2)
    known = np.flatnonzero(np.isfinite(array).all(1))
    wrong = np.flatnonzero(~np.isfinite(array).all(1))
    notes = []
    if len(wrong):
        what = f"line {lines[wrong[0]]}: {texts[wrong[0]][:20]!r} is not a timecode like 01:02:03:04.567"
        if len(wrong) * 2 >= len(array):
            raise InvalidInput(f"{what}.")
        notes.append(f"{what[0].upper()}{what[1:]}; {len(wrong)} rows are left out.")
    base = _base(array[known])
    return _spaced(_seconds(array[known], base), known, lines, notes, base)


def _seconds(stamps: np.ndarray, base: float) -> np.ndarray:
    times = stamps[:, 0] + stamps[:, 1] / base
    return times + 86400 * np.cumsum(np.r_[0, np.diff(times) < -43200])  # past midnight


def _base(stamps: np.ndarray) -> int:
    """Frames a second that the timecodes [N, 2] count in."""
    largest = stamps[:, 1].max()
    bases = [b for b in (24, 25, 30, 48, 50, 60, 90, 100, 120, 240, 1000) if b > largest] or [math.ceil(largest) + 1]
    if len(stamps) == 1:
        return max(30, bases[0])

    def unevenness(base: int) -> float:
        steps = np.diff(_seconds(stamps, base))
        usual = np.median(steps)
        return round(float(np.abs(steps - usual).mean() / usual), 5) if usual > 0 else math.inf

    return min(bases, key=lambda base: (unevenness(base), base))


def _spaced(times: np.ndarray, rows: np.ndarray, lines: np.ndarray, notes: list[str], base: float = 0) -> Times:
    """Rate and kept rows of `times` [N] in seconds, those of `rows`."""
    forward = np.r_[True, times[1:] > np.maximum.accumulate(times)[:-1]]
    if not forward.all():
        line = lines[rows[int(np.argmin(forward))]]
        dropped = int((~forward).sum())
        if dropped > max(1, _BACKWARD_SHARE * len(times)):
            raise InvalidInput(f"line {line}: the time does not move forward.")
        notes = [*notes, f"Line {line}: the time does not move forward; {dropped} rows are left out."]
        times, rows = times[forward], rows[forward]
    meta: dict[str, Any] = {"start_seconds": float(times[0])} if base else {}
    if len(times) == 1:
        return Times(Fraction(base or 30), rows, meta, notes)
    step = float(np.median(np.diff(times)))
    if step > _LONGEST_STEP:
        raise InvalidInput(f"the rows lie {step:g} s apart; a recording has a row for every frame.")
    fps = _rate(times, step)
    relative = times - times[0]
    if np.abs(relative - np.arange(len(rows)) / float(fps)).max() > 0.5 / float(fps):
        meta["frame_times"] = [round(float(t), 6) for t in relative]  # frames were dropped: every row at its own time
    return Times(fps, rows, meta, notes)


def _rate(times: np.ndarray, step: float) -> Fraction:
    rate = 1 / step
    near = min(_RATES, key=lambda r: abs(float(r) - rate))
    if abs(float(near) - rate) / rate < 2e-4:
        return near
    mean_rate = (len(times) - 1) / (times[-1] - times[0])
    near = min(_RATES, key=lambda r: abs(float(r) - mean_rate))
    return near if abs(float(near) - mean_rate) / mean_rate < 0.01 else Fraction(rate).limit_denominator(1001)


def times_of(values: np.ndarray, name: str, lines: np.ndarray, rate: Fraction, said: bool = False) -> Times:
    """Times from a column of numbers: seconds, parts of them, or frame numbers, told by its name and its steps.

    Args:
        values: [N], NaN where a row has none.
        name: of the column, in small letters.
        lines: [N] numbers of the rows in the file.
        rate: of a file without times.
        said: the file itself says the rate.

    Raises:
        InvalidInput: the times do not move forward, or lie too far apart.
    """
    known = np.flatnonzero(np.isfinite(values))
    untimed = [] if said else [f"The file holds no times; {float(rate):g} frames a second are assumed."]
    if len(known) * 2 < len(values) or len(known) < 2:
        return Times(rate, np.arange(len(values)), {}, untimed)
    unit = _unit(name, float(np.median(np.abs(np.diff(values[known])))))
    if unit == 0:
        spaced = _spaced(values[known] / float(rate), known, lines, untimed)
        return spaced._replace(fps=rate)
    return _spaced(values[known] * unit, known, lines, [])


def _unit(name: str, step: float) -> float:
    """Seconds of one step of the column's numbers; 0 for numbers of frames."""
    if "frame" in name or (step == 1 and not name.endswith(("ms", "seconds"))):
        return 0
    for ending, unit in (("milliseconds", 1e-3), ("microseconds", 1e-6), ("nanoseconds", 1e-9), ("ms", 1e-3), ("us", 1e-6), ("ns", 1e-9)):  # fmt: skip
        if name.endswith(ending) and name != "timens":
            return unit
    if step < 1 or name.endswith("seconds"):
        return 1.0
    return 1e-3 if step < 1e3 else 1e-6 if step < 1e6 else 1e-9
