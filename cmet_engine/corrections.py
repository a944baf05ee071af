"""Corrections of edited curves by hand: a coefficient passes through a value at a moment, and the curve around it goes along.

Text form, as `--correct` takes it: `NAME=VALUE@SECONDS`, with `~REACH` behind it for the seconds to either side over which the curve
goes along, and `#PERSON` where there are several: `jawOpen=0.2@1.4`, `mouthSmileLeft=0.5@3~0.4#anna`.
"""

import itertools
import re
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from cmet_engine import arkit
from cmet_engine.errors import InvalidInput
from cmet_engine.smoothstep import smoothstep
from cmet_engine.timeline import PERSON
from cmet_engine.track import CoefficientTrack

REACH = 0.2  # seconds
_NUMBER = r"\d+(?:\.\d*)?|\.\d+"
_FORM = re.compile(
    rf"(?P<name>\w+)=(?P<value>{_NUMBER})@(?P<time>{_NUMBER})(?:~(?P<reach>{_NUMBER}))?(?:#(?P<person>{PERSON.pattern}))?"
)


@dataclass(frozen=True)
class Correction:
    """One point that an edited curve passes through.

    Attributes:
        name: the coefficient, one of `arkit.NAMES`.
        value: 0 to 1.
        time: seconds from the start of the clip.
        reach: seconds to either side over which the curve goes along, 0.01 to 10.
        person: number or name of whom it is for; None is the one whom the edit is about.
    """

    name: str
    value: float
    time: float
    reach: float = REACH
    person: str | None = None

    @classmethod
    def parse(cls, text: str) -> "Correction":
        """Read the text form.

        Raises:
            InvalidInput: the text is not of that form, or a value is out of range.
        """
        match = _FORM.fullmatch(text.strip())
        if not match:
            raise InvalidInput(f"'{text}' is not a correction; write NAME=VALUE@SECONDS, such as jawOpen=0.2@1.4.")
        reach = float(match["reach"] or REACH)
        made = cls(match["name"], float(match["value"]), float(match["time"]), reach, match["person"])
        if made.name not in arkit.NAMES:
            raise InvalidInput(f"'{text}': '{made.name}' is not the name of a coefficient, such as jawOpen.")
        if made.value > 1 or made.time > 1e6 or not 0.01 <= reach <= 10:
            raise InvalidInput(f"'{text}': the value is 0 to 1, and the reach 0.01 to 10 s.")
        return made

    def __str__(self) -> str:
        person = f"#{self.person}" if self.person else ""
        return f"{self.name}={self.value:.4g}@{self.time:.6g}~{self.reach:.4g}{person}"


def corrected(
    track: CoefficientTrack, corrections: Iterable[Correction], *, begins: float = 0.0, person: str | None = None
) -> CoefficientTrack:
    """A track whose curves pass through the corrections for one person; those beyond its ends are passed over.

    Between two corrections of a coefficient that reach each other the change goes smoothly from one to the other.

    Args:
        track: the edited curves.
        corrections: of anyone.
        begins: seconds of the clip at which the track begins.
        person: whose track it is, as `Correction.person`.
    """
    mine = sorted((c for c in corrections if c.person == person), key=lambda c: c.time)
    inside = [c for c in mine if begins <= c.time <= begins + track.duration]
    if not inside:
        return track
    result = track.copy()
    times = np.asarray(track.times, float) + begins
    for name in dict.fromkeys(c.name for c in inside):
        points = list({c.time: c for c in inside if c.name == name}.values())  # the last of one moment holds
        column = arkit.NAMES.index(name)
        curve = track.coefficients[:, column].astype(float)
        offsets = [c.value - float(np.interp(c.time, times, curve)) for c in points]
        result.coefficients[:, column] = np.clip(curve + _offset(times, points, offsets), 0, 1)
    return result


def _offset(times: np.ndarray, points: list[Correction], offsets: list[float]) -> np.ndarray:
    """What is added to a curve at `times` [N] so that it passes through `points`, which are in order of time."""
    nodes = [(points[0].time - points[0].reach, 0.0)]
    for point, offset, following in zip(points, offsets, [*points[1:], None], strict=True):
        nodes.append((point.time, offset))
        end = point.time + point.reach
        if following is None:
            nodes.append((end, 0.0))
        elif following.time - following.reach > end:
            nodes += [(end, 0.0), (following.time - following.reach, 0.0)]
    total = np.zeros(len(times))
    for (start, low), (end, high) in itertools.pairwise(nodes):
        among = (times >= start) & (times <= end)
        total[among] = low + (high - low) * smoothstep(times[among], start, end)
    return total
