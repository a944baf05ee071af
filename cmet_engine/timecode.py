"""SMPTE timecode (ST 12-1): labels of frames, `HH:MM:SS:FF`, and their numbers.

Frames are counted from midnight in whole frames a second: a clip of 30000/1001 frames a second counts in 30. Drop-frame, written
`HH:MM:SS;FF`, leaves out labels, never frames: two (of 60: four) at the beginning of every minute that is no tenth one, so that
labels keep up with the clock.
"""

import math
import re
from dataclasses import dataclass
from fractions import Fraction

from cmet_engine.errors import InvalidInput

_FRAMES = re.compile(r"(\d{1,9})f")
_SECONDS = re.compile(r"\d{1,7}(?:\.\d{1,9})?|\.\d{1,9}")
_FORM = re.compile(r"(\d{1,2}):(\d{2}):(\d{2})([:;.,])(\d{2,3})")
_MINUTES = 1440  # of a day


def nominal(rate: Fraction | float) -> int:
    """Whole frames a second in which timecode counts at a rate: 30 for 30000/1001."""
    return max(1, math.floor(rate + Fraction(1, 2)))


def can_drop(rate: Fraction | float) -> bool:
    """Whether drop-frame numbering exists for a rate: 30000/1001 and its multiples."""
    whole = nominal(rate)
    return whole % 30 == 0 and abs(float(rate) - whole * 1000 / 1001) < 1e-3 * whole / 2


def parse_moment(text: str) -> Fraction | int | str:
    """A moment of a clip: seconds (`2.5`), a number of frames from its beginning (`120f`) or a timecode (`01:00:10:00`).

    Returns:
        Seconds as a Fraction, frames as an int, a timecode as text.

    Raises:
        InvalidInput: the text is none of them.
    """
    text = text.strip()
    if match := _FRAMES.fullmatch(text):
        return int(match[1])
    if _SECONDS.fullmatch(text):
        return Fraction(text)
    if _FORM.fullmatch(text):
        return text
    raise InvalidInput(
        f"'{text}' is no moment of a clip; write seconds (2.5), frames (120f) or a timecode (01:00:10:00)."
    )


@dataclass(frozen=True)
class Timecode:
    """The label of a frame.

    Attributes:
        frames: its number from midnight, 0 and up; a day later it begins anew.
        rate: frames a second.
        drop: numbered with drop-frame.
    """

    frames: int
    rate: Fraction
    drop: bool = False

    @classmethod
    def parse(cls, text: str, rate: Fraction | float) -> "Timecode":
        """Read `HH:MM:SS:FF`, or `HH:MM:SS;FF` for drop-frame (a plain label where the rate has no drop-frame).

        Raises:
            InvalidInput: the text is no timecode, or there is no such label at this rate.
        """
        rate = Fraction(rate).limit_denominator(1_000_000)
        match = _FORM.fullmatch(text.strip())
        if not match:
            raise InvalidInput(f"'{text}' is not a timecode; write HH:MM:SS:FF, or HH:MM:SS;FF for drop-frame.")
        hours, minutes, seconds, frame = (int(match[place]) for place in (1, 2, 3, 5))
        whole, drop = nominal(rate), match[4] != ":" and can_drop(rate)
        if hours > 23 or minutes > 59 or seconds > 59 or frame >= whole:
            raise InvalidInput(
                f"'{text}' is no timecode at {float(rate):g} frames a second: a number in it is too large."
            )
        left_out = whole // 15 if drop else 0
        if drop and minutes % 10 and seconds == 0 and frame < left_out:
            raise InvalidInput(
                f"'{text}' is left out by drop-frame numbering; the next label ends with ;{left_out:02d}."
            )
        count = ((hours * 60 + minutes) * 60 + seconds) * whole + frame
        passed = hours * 60 + minutes
        return cls(count - left_out * (passed - passed // 10), rate, drop)

    def __add__(self, frames: int) -> "Timecode":
        return Timecode((self.frames + frames) % self._day, self.rate, self.drop)

    def __str__(self) -> str:
        whole = nominal(self.rate)
        count = self.frames % self._day
        if self.drop:
            left_out = whole // 15
            tens, rest = divmod(count, 600 * whole - 9 * left_out)
            single = max(0, rest - left_out) // (60 * whole - left_out)  # minutes of these ten that have begun
            count += left_out * (9 * tens + single)
        seconds, frame = divmod(count, whole)
        minutes, seconds = divmod(seconds, 60)
        return f"{minutes // 60:02d}:{minutes % 60:02d}:{seconds:02d}{';' if self.drop else ':'}{frame:02d}"

    def until(self, label: str) -> int:
        """Frames from this one to the one with a label, in this one's numbering; negative where that comes before.

        Raises:
            InvalidInput: the text is no timecode, or there is no such label at this rate.
        """
        other = Timecode.parse(label[:-3] + (";" if self.drop else ":") + label[-2:], self.rate)
        if not self.drop:
            other = Timecode(other.frames, self.rate)
        half = self._day // 2
        return (other.frames - self.frames + half) % self._day - half

    @property
    def seconds(self) -> Fraction:
        """The label as a time of day, its frames as parts of a second."""
        text = str(self)
        hours, minutes, seconds, frame = (int(part) for part in re.split("[:;]", text))
        return hours * 3600 + minutes * 60 + seconds + Fraction(frame, nominal(self.rate))

    @property
    def _day(self) -> int:
        whole = nominal(self.rate)
        left_out = whole // 15 if self.drop else 0
        return _MINUTES * 60 * whole - left_out * (_MINUTES - _MINUTES // 10)
