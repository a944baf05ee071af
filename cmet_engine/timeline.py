"""The emotion timeline: which emotion, when, how strong.

Text form of one key, as `--emotion` takes it: `NAME[REGIONS][=STRENGTH][@START-END][~EASING][#PERSON]`, seconds, either end open:
`happy`, `sad=0.6`, `happy@0-2.5`, `sarcastic=0.6@2.5-`, `surprised@1-4~natural`. NAME may be a blend: `0.7*happy+0.3*fear`. REGIONS, in square brackets, are
gains of parts of the face: `angry[brows=1.2,mouth=0.6]=0.8@1-3`. PERSON, where there are
several, is the number or the name that `cmet faces` shows: `happy@0-2#anna`, `angry#2`.
"""

import itertools
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from cmet_engine import arkit
from cmet_engine.errors import CmetError, InvalidInput
from cmet_engine.files import read_json

FORMAT = "cmet-timeline/1"
DEFAULT_EASE = 0.3  # seconds; a facial expression takes 0.2 to 0.7 s to its apex (Ekman 2003, Emotions Revealed)
_MOST = 1e12  # of a number in a key; an integer may be too large to become a float
EASINGS = ("smooth", "linear", "step", "natural")
APEX, BRIEF_APEX = 4.0, {"surprised": 1.0}
"""Seconds at the apex of a `natural` key at most: felt expressions last 0.5 to 4 s (Ekman 1984, Expression and the nature of emotion),
and surprise is the briefest of emotions (Ekman & Friesen 1975, Unmasking the face)."""
REMAINS, RELAXING = 0.5, 0.36
"""What is left of it behind the apex (by eye: it still reads), and the time constant of the way there in seconds: three quarters of
the expressions in talking clips fall from 90 to 10 % within 0.8 s, which is 2.2 of them (`tests/benchmarks/time_course.py`)."""
REGIONS: dict[str, tuple[str, ...]] = {
    "brows": arkit.REGIONS["brows"],
    "eyes": arkit.REGIONS["eyes"],
    "cheeks": arkit.REGIONS["cheeks"] + arkit.REGIONS["nose"],
    "mouth": arkit.REGIONS["mouth"] + arkit.REGIONS["jaw"] + arkit.REGIONS["tongue"],
}
"""The parts of the face that a key has gains for, and their coefficients: brows, eyes, cheeks and nose, mouth and jaw."""
MOST_GAIN = 3.0

_LEFT_OUT = ("person", "regions", "strength_keys", "heard")  # of a file, where they are empty
_TIMES = re.compile(r"(?P<start>\d+(?:\.\d*)?|\.\d+)?-(?P<end>\d+(?:\.\d*)?|\.\d+)?")
PERSON = re.compile(r"[1-9]\d{0,3}|[^\W\d_][\w-]{0,39}")
"""The number of a person in a clip, counted from 1, or a name: letters, digits, `_` and `-`, beginning with a letter."""
_TERM = re.compile(r"(?:(?P<weight>[+-]?(?:\d+(?:\.\d*)?|\.\d+))\s*\*\s*)?(?P<sign>-?)(?P<name>[A-Za-z_][\w-]*)")


@dataclass(frozen=True)
class EmotionKey:
    """One emotion over a stretch of time.

    Attributes:
        emotion: the library's name of it, or a blend of names (`0.7*happy+0.3*fear`).
        strength: 1 is the emotion as learned; 0 nothing; above 1 saturates softly; negative is the opposite.
        start, end: seconds from the start of the clip; `end` None is the end of the clip.
        ease_in, ease_out: seconds of the ramps, inside [start, end]; a ramp at the clip's own start or end is not drawn.
        easing: `smooth` (cosine), `linear`, `step`, or `natural`: smooth, and the apex relaxes (`relaxed`).
        person: number or name of whom it is for; None is the one whom the edit is about.
        regions: gain on the strength by `REGIONS`, 0 to `MOST_GAIN`; 1 where none is given.
        strength_keys: pairs (seconds from `start`, factor on the strength from 0 to 10) in order of time; straight lines between
            them, and beyond them the first and the last factor hold.
        heard: of a key that was heard in a voice: probability of the likeliest emotions by name, the key's own first. It changes
            nothing of an edit.

    Raises:
        InvalidInput: a value is out of range; the message names the field.
    """

    emotion: str
    strength: float = 1.0
    start: float = 0.0
    end: float | None = None
    ease_in: float = DEFAULT_EASE
    ease_out: float = DEFAULT_EASE
    easing: str = "smooth"
    person: str | None = None
    regions: Mapping[str, float] = field(default_factory=dict, hash=False)
    strength_keys: tuple[tuple[float, float], ...] = ()
    heard: Mapping[str, float] = field(default_factory=dict, hash=False)

    def __post_init__(self) -> None:
        for name in ("strength", "start", "ease_in", "ease_out"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) < _MOST:
                raise InvalidInput(f"emotion '{self.emotion}': {name} is '{value}'; it must be a number.")
        if not -10 <= self.strength <= 10:
            raise InvalidInput(f"emotion '{self.emotion}': strength {self.strength:g} is outside -10 to 10.")
        if self.start < 0 or self.ease_in < 0 or self.ease_out < 0:
            raise InvalidInput(f"emotion '{self.emotion}': times must not be negative.")
        if self.end is not None and not (isinstance(self.end, int | float) and self.start < self.end < _MOST):
            raise InvalidInput(
                f"emotion '{self.emotion}': it ends at {self.end} s, not after its start at {self.start:g} s."
            )
        if self.easing not in EASINGS:
            raise InvalidInput(f"emotion '{self.emotion}': easing '{self.easing}' is not one of {', '.join(EASINGS)}.")
        if self.person is not None and not (isinstance(self.person, str) and PERSON.fullmatch(self.person)):
            raise InvalidInput(
                f"emotion '{self.emotion}': person is '{self.person}'; it is the number or the name that cmet faces shows."
            )
        self._check_regions()
        self._check_strength_keys()
        self._check_heard()
        parse_blend(self.emotion)

    def _check_heard(self) -> None:
        pairs = self.heard.items() if isinstance(self.heard, Mapping) else [("", None)]
        for _, share in pairs:
            if isinstance(share, bool) or not isinstance(share, int | float) or not 0 <= share <= 1:
                raise InvalidInput(
                    f"emotion '{self.emotion}': heard must be probabilities by name, 0 to 1, such as angry: 0.6."
                )

    def _check_regions(self) -> None:
        if not isinstance(self.regions, Mapping):
            raise InvalidInput(f"emotion '{self.emotion}': regions must be gains by region, such as brows=1.2.")
        for region, gain in self.regions.items():
            if region not in REGIONS:
                raise InvalidInput(f"emotion '{self.emotion}': region '{region}' is not one of {', '.join(REGIONS)}.")
            if isinstance(gain, bool) or not isinstance(gain, int | float) or not 0 <= gain <= MOST_GAIN:
                raise InvalidInput(
                    f"emotion '{self.emotion}': the gain of {region} is '{gain}'; it must be 0 to {MOST_GAIN:g}."
                )

    def _check_strength_keys(self) -> None:
        try:
            pairs = tuple((float(time), float(factor)) for time, factor in self.strength_keys)
        except (TypeError, ValueError):
            pairs = ((-1.0, 0.0),)
        later = all(first[0] < second[0] for first, second in itertools.pairwise(pairs))
        if not later or not all(0 <= time < _MOST and 0 <= factor <= 10 for time, factor in pairs):
            raise InvalidInput(
                f"emotion '{self.emotion}': strength_keys must be pairs of seconds from its start, increasing, and a factor from 0 to 10."
            )
        object.__setattr__(self, "strength_keys", pairs)

    @property
    def title(self) -> str:
        """The emotion with its gains, as in the text form: `angry[brows=1.2]`."""
        gains = ",".join(f"{region}={gain:g}" for region, gain in self.regions.items())
        return f"{self.emotion}[{gains}]" if gains else self.emotion

    @classmethod
    def parse(cls, text: str) -> "EmotionKey":
        """Read the text form, e.g. `sarcastic=0.6@2.5-`.

        Raises:
            InvalidInput: the text is not of that form.
        """
        key, sharp, person = text.strip().partition("#")
        key, wave, easing = key.partition("~")
        rest, at, times = key.partition("@")
        name, equals, strength, gains = _named(rest)
        usage = f"'{text}' is not an emotion key; write NAME, NAME=STRENGTH or NAME=STRENGTH@START-END, such as happy=0.8@0-2.5, [brows=1.2,mouth=0.6] behind the name for regions, ~natural for a natural course, and #PERSON behind it where there are several."
        if not name.strip() or gains is None or (sharp and not person.strip()):
            raise InvalidInput(usage)
        values: dict[str, Any] = {"person": person.strip() or None, "regions": gains}
        if wave:
            values["easing"] = easing.strip()
        if equals:
            try:
                values["strength"] = float(strength)
            except ValueError as error:
                raise InvalidInput(usage) from error
        if at:
            match = _TIMES.fullmatch(times.strip())
            if not match or not (match["start"] or match["end"]):
                raise InvalidInput(usage)
            values["start"] = float(match["start"] or 0)
            values["end"] = float(match["end"]) if match["end"] else None
        return cls(name.strip(), **values)

    def gain(self, region: str | None) -> float:
        """Gain on the strength in a region; None is the face as a whole."""
        return 1.0 if region is None else float(self.regions.get(region, 1.0))

    def envelope(self, times: np.ndarray, duration: float) -> np.ndarray:
        """Strength at `times` [N] seconds of a clip of `duration` seconds: float32 [N], ramps included."""
        times = np.asarray(times, np.float64)
        open_end = self.end is None or self.end >= duration
        end = duration if self.end is None else self.end
        inside = (times >= self.start - 1e-9) & ((times < end - 1e-9) | open_end)
        shape = inside.astype(np.float64)
        if self.easing != "step":
            length = max(min(end, duration) - self.start, 0.0)
            scale = min(1.0, length / max(self.ease_in + self.ease_out, 1e-9)) if length else 0.0
            ramp_in, ramp_out = self.ease_in * scale, self.ease_out * scale
            if self.start > 0 and ramp_in > 1e-9:
                shape = np.minimum(shape, np.clip((times - self.start) / ramp_in, 0, 1))
            if not open_end and ramp_out > 1e-9:
                shape = np.minimum(shape, np.clip((end - times) / ramp_out, 0, 1))
            if self.easing != "linear":
                shape = 0.5 - 0.5 * np.cos(np.pi * shape)
            if self.easing == "natural":
                shape = shape * relaxed(
                    parse_blend(self.emotion), times - self.start - (ramp_in if self.start > 0 else 0.0)
                )
        if self.strength_keys:
            moments, factors = zip(*self.strength_keys, strict=True)
            shape = shape * np.interp(times - self.start, moments, factors)
        return (self.strength * shape * inside).astype(np.float32)


@dataclass
class EmotionTimeline:
    """Emotion keys over a clip; where keys overlap, their emotions add.

    Attributes:
        keys: on the clip's own clock.
        begins, whole: where a part of a clip is edited: seconds of the clip at which it begins, and that the clip lasts.
    """

    keys: list[EmotionKey] = field(default_factory=list)
    begins: float = 0.0
    whole: float | None = None

    @classmethod
    def parse(cls, texts: Iterable[str]) -> "EmotionTimeline":
        """A timeline of keys in text form; see `EmotionKey.parse`."""
        return cls([EmotionKey.parse(text) for text in texts])

    @classmethod
    def load(cls, path: str | Path) -> "EmotionTimeline":
        """Read a `.json` timeline: `{"format": "cmet-timeline/1", "keys": [{"emotion": …, "start": …}, …]}`.

        Raises:
            NotFound: the file is missing.
            InvalidInput: it is not JSON, or a key is wrong; the message names the field.
        """
        path = Path(path)
        document = read_json(path)
        if (
            not isinstance(document, dict)
            or document.get("format") != FORMAT
            or not isinstance(document.get("keys"), list)
        ):
            raise InvalidInput(
                f'{path.name}: not an emotion timeline; it needs "format": "{FORMAT}" and a list "keys".'
            )
        keys = []
        for number, entry in enumerate(document["keys"], 1):
            if not isinstance(entry, dict) or not isinstance(entry.get("emotion"), str):
                raise InvalidInput(f'{path.name}: key {number} has no text "emotion".')
            unknown = entry.keys() - EmotionKey.__dataclass_fields__.keys()
            if unknown:
                raise InvalidInput(f"{path.name}: key {number} has an unknown field '{sorted(unknown)[0]}'.")
            try:
                keys.append(EmotionKey(**entry))
            except CmetError as error:
                raise InvalidInput(f"{path.name}: key {number}: {error}") from error
        return cls(keys)

    def to_json(self) -> str:
        """The text of a `.json` timeline that `load` reads."""
        keys = [
            {name: value for name, value in asdict(key).items() if name not in _LEFT_OUT or value} for key in self.keys
        ]
        return json.dumps({"format": FORMAT, "keys": keys}, indent=2) + "\n"

    def people(self) -> list[str | None]:
        """Whom the keys are for, each once, in order of appearance; see `EmotionKey.person`."""
        return list(dict.fromkeys(key.person for key in self.keys))

    def of(self, person: str | None) -> "EmotionTimeline":
        """The keys that are for one person."""
        return replace(self, keys=[key for key in self.keys if key.person == person])

    def within(self, duration: float) -> "EmotionTimeline":
        """The keys that act in a part of `duration` seconds, on that part's own clock, to show."""
        moved = []
        for key in self.keys:
            end = None if key.end is None else key.end - self.begins
            if key.start - self.begins < duration and (end is None or end > 0):
                moved.append(replace(key, start=max(0.0, key.start - self.begins), end=end))
        return EmotionTimeline(moved)

    def names(self) -> list[str]:
        """Names of the emotions used, blends taken apart, each once, in order of appearance."""
        return list(dict.fromkeys(name for key in self.keys for name in parse_blend(key.emotion)))

    def regions(self) -> dict[str | None, tuple[str, ...]]:
        """The regions whose strengths differ, and their coefficients; the whole face, None, where no key has gains."""
        if any(key.regions for key in self.keys):
            return dict(REGIONS.items())
        return {None: arkit.NAMES}

    def weights(self, times: np.ndarray, duration: float, region: str | None = None) -> dict[str, np.ndarray]:
        """Summed strength of every emotion at `times` [N] seconds: name -> float32 [N]; may pass 1 where keys overlap.

        Args:
            times: from the first frame of what is edited.
            duration: seconds of it.
            region: with the gains of this one of `REGIONS`.

        Raises:
            InvalidInput: a key starts at or after the end of the clip, or none acts in the part that is edited.
        """
        total: dict[str, np.ndarray] = {}
        whole = duration if self.whole is None else self.whole
        if self.whole is not None and self.keys and not self.within(duration).keys:
            raise InvalidInput(
                f"No emotion acts from {self.begins:.2f} to {self.begins + duration:.2f} s; keys count from the start of the clip."
            )
        for key in self.keys:
            if key.start >= whole:
                raise InvalidInput(
                    f"emotion '{key.emotion}' starts at {key.start:g} s, but the clip ends at {whole:.2f} s."
                )
            envelope = key.envelope(np.asarray(times) + self.begins, whole) * np.float32(key.gain(region))
            for name, weight in parse_blend(key.emotion).items():
                total[name] = total.get(name, np.zeros(len(envelope), np.float32)) + np.float32(weight) * envelope
        return total


def _named(text: str) -> tuple[str, str, str, dict[str, float] | None]:
    """Name, `=`, strength and gains of the first part of a key's text; no gains where they cannot be read."""
    name, bracket, rest = text.partition("[")
    if not bracket:
        name, equals, strength = text.partition("=")
        return name, equals, strength, {}
    inside, closed, behind = rest.partition("]")
    behind, equals, strength = behind.partition("=")
    pairs = [part.partition("=") for part in inside.split(",")]
    try:
        gains = {region.strip(): float(gain) for region, _, gain in pairs}
    except ValueError:
        return name, equals, strength, None
    return name, equals, strength, gains if closed and not behind.strip() else None


def relaxed(emotions: Iterable[str], seconds: np.ndarray) -> np.ndarray:
    """What is left [N] of an expression of `emotions` `seconds` [N] after it came to its apex: 1, and later towards `REMAINS`."""
    apex = min(BRIEF_APEX.get(name, APEX) for name in emotions)
    left: np.ndarray = REMAINS + (1 - REMAINS) * np.exp(-np.maximum(seconds - apex, 0) / RELAXING)
    return left


def parse_blend(text: str) -> dict[str, float]:
    """Weights by name of an emotion or blend: `happy` -> {happy: 1}; `0.7*happy+0.3*fear`; `-sad` is the opposite.

    Raises:
        InvalidInput: the text is not a name or a sum of weighted names.
    """
    result: dict[str, float] = {}
    for term in re.split(r"\+|(?<=[\w])\s*(?=-\s*[\d.]+\s*\*)", text.replace(" ", "")):
        match = _TERM.fullmatch(term)
        if not match:
            raise InvalidInput(f"'{text}' is not an emotion's name or a blend such as 0.7*happy+0.3*fear.")
        weight = float(match["weight"] or 1) * (-1 if match["sign"] else 1)
        result[match["name"]] = result.get(match["name"], 0.0) + weight
    return result
