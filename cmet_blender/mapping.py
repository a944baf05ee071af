"""Which shape key or bone of a rig takes which of the 52 coefficients, how strongly, and what is left over.

A mapping is one linear map. For a frame's coefficients c [52], with gain g, offset o and limits of each row,
the channels of the rig are

    u = clip(g * c + o, minimum, maximum)          values = u @ W

where a channel is a shape key by its name, or one axis of a bone written `BONE/move.X` or `BONE/rotate.Z`
(moves in units of the rig's face, turns in degrees, along the armature's axes: X to the character's left,
Y to its back, Z up). Splits (`browInnerUp` to two shapes) and merges (two coefficients to one shape) are
columns and rows of W, so everything inverts by least squares.

Conventions and saved mappings are the same kind of file, `rigs/*.json`. Nothing here needs `bpy`.
"""

import difflib
import json
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from cmet_engine import arkit
from cmet_engine.errors import CmetError
from cmet_engine.files import whole_file

FORMAT = "cmet-rig/1"
EXACT, CONVENTION, GUESSED, SPREAD, MANUAL, MISSING = "exact", "convention", "guessed", "spread", "manual", "missing"
KINDS = (EXACT, CONVENTION, GUESSED, SPREAD, MANUAL, MISSING)

GUESS_THRESHOLD = 0.62  # below this a guess is more often wrong than right on the rigs in the tests
SPREAD_SMALLEST = 0.06  # shares below this only add keys that nobody sees
SPREAD_WORTH = (
    0.4  # combinations that show less than this share of the motion did more harm than good on the tests' rigs
)
RIDGE = 0.02  # relative to the mean energy of the shapes: keeps the shares from cancelling each other
STRANGER = 8.0  # times the ridge for shapes of another part or side of the face: they take part only for a good reason

_WORD = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+")
_NOISE = {"facs", "bs", "ctrl", "jnt", "expressions", "expression", "blendshape", "blendshapes", "shape", "div", "key", "morph", "target"}  # fmt: skip
_SIDES = {"l": "left", "left": "left", "lft": "left", "r": "right", "right": "right", "rgt": "right"}
_SYNONYMS = {
    "lip": "mouth", "lips": "mouth", "lid": "eye", "eyes": "eye", "eyelid": "eye", "eyebrow": "brow", "brows": "brow",
    "chin": "jaw", "cheeks": "cheek", "nostril": "nose", "close": "blink", "closed": "blink", "shut": "blink",
    "raise": "up", "raised": "up", "raiser": "up", "lower": "lower", "drop": "down", "lowered": "down", "frowning": "frown",
    "sad": "frown", "grin": "smile", "happy": "smile", "widen": "wide", "puffed": "puff", "blow": "puff", "wrinkle": "sneer",
    "scrunch": "sneer", "fwd": "forward", "thrust": "forward", "kiss": "pucker", "purse": "pucker", "opened": "open",
    "mid": "inner", "middle": "inner", "in": "inner", "out": "outer", "press": "press", "tighten": "press", "squeeze": "squint",
}  # fmt: skip
_REGIONS = ("brow", "eye", "cheek", "nose", "jaw", "mouth", "tongue")
_CHANNEL = re.compile(r"(?P<bone>.+)/(?P<how>move|rotate)\.(?P<axis>[XYZ])")
_AXIS = re.compile(r"[+-][XYZ]")


@dataclass(frozen=True)
class Row:
    """What one coefficient drives.

    Attributes:
        coefficient: one of the 52 names.
        channels: weight of each channel at coefficient 1: shape keys by name, bones as `BONE/rotate.X` (degrees).
        kind: how it was found: `exact`, `convention`, `guessed`, `spread` (least squares), `manual` or `missing`.
        confidence: 0..1; for `spread` the share of the motion that the combination shows.
        gain, offset: the channel gets `gain * value + offset`.
        minimum, maximum: limits after gain and offset; None is no limit.
    """

    coefficient: str
    channels: dict[str, float] = field(default_factory=dict)
    kind: str = MISSING
    confidence: float = 0.0
    gain: float = 1.0
    offset: float = 0.0
    minimum: float | None = None
    maximum: float | None = None


@dataclass(frozen=True)
class Rotation:
    """A bone or object that turns with the head or an eye.

    Attributes:
        target: name of a pose bone of the rig's armature, or of an object; empty for none.
        yaw, pitch, roll: the axis each angle turns about, such as `-Z`: yaw above 0 is to the character's own right,
            pitch above 0 down, roll above 0 towards its right shoulder; it faces -Y.
        strength: factor on the angles.
    """

    target: str = ""
    yaw: str = "-Z"
    pitch: str = "+X"
    roll: str = "-Y"
    strength: float = 1.0


ROTATIONS = ("head", "leftEye", "rightEye")


@dataclass
class RigMapping:
    """The whole mapping of a rig: a row for each of the 52 coefficients, rotations, and the shapes nobody drives."""

    rows: dict[str, Row] = field(default_factory=dict)
    unused: tuple[str, ...] = ()
    rotations: dict[str, Rotation] = field(default_factory=dict)
    name: str = ""
    unit: tuple[str, str] | None = None

    def __post_init__(self) -> None:
        unknown = [name for name in self.rows if name not in arkit.INDEX]
        if unknown:
            raise CmetError(f"'{unknown[0]}' is not one of the 52 ARKit coefficients.")
        self.rows = {name: self.rows.get(name) or Row(name) for name in arkit.NAMES}

    # What was found

    def of_kind(self, *kinds: str) -> list[str]:
        """Names of the coefficients whose row is of one of `kinds`."""
        return [name for name, row in self.rows.items() if row.kind in kinds]

    @property
    def matched(self) -> list[str]:
        """Coefficients with a shape by name, convention or the user's word."""
        return self.of_kind(EXACT, CONVENTION, MANUAL)

    @property
    def guessed(self) -> list[str]:
        """Coefficients with a shape by likeness of names."""
        return self.of_kind(GUESSED)

    @property
    def spread(self) -> list[str]:
        """Coefficients without a shape, shown by a combination of others."""
        return self.of_kind(SPREAD)

    @property
    def missing(self) -> list[str]:
        """Coefficients that nothing on the rig shows."""
        return self.of_kind(MISSING)

    @property
    def shapes(self) -> dict[str, str]:
        """Main shape of each coefficient that has one."""
        return {n: max(r.channels, key=lambda c: abs(r.channels[c])) for n, r in self.rows.items() if r.channels}

    @property
    def channels(self) -> list[str]:
        """Every channel that some row drives, in order of first use."""
        return list(dict.fromkeys(channel for row in self.rows.values() for channel in row.channels))

    def table(self) -> list[dict[str, Any]]:
        """One dictionary per coefficient (`coefficient`, `channels`, `kind`, `confidence`), then one per unused shape."""
        rows = [
            {"coefficient": n, "channels": dict(r.channels), "kind": r.kind, "confidence": r.confidence}
            for n, r in self.rows.items()
        ]
        return rows + [
            {"coefficient": "", "channels": {shape: 0.0}, "kind": "unused", "confidence": 0.0} for shape in self.unused
        ]

    def report(self) -> str:
        """What matched and what did not, in a few lines for a person."""
        lines = [
            f"{len(self.matched)} of {arkit.COUNT} coefficients have their shape"
            + (f" ({self.name})" if self.name else "")
            + "."
        ]
        if self.guessed:
            names = ", ".join(f"{n} → {self.shapes[n]} ({self.rows[n].confidence:.0%})" for n in self.guessed)
            lines.append(f"{len(self.guessed)} guessed, please check: {names}.")
        if self.spread:
            names = ", ".join(f"{n} ({self.rows[n].confidence:.0%})" for n in self.spread)
            lines.append(f"{len(self.spread)} have no shape and are shown by others (share of the motion): {names}.")
        if self.missing:
            lines.append(f"{len(self.missing)} have no shape and are not shown: {', '.join(self.missing)}.")
        if any(r.target and r.strength == 0 for r in self.rotations.values()):
            lines.append("The eyes turn by their shapes; their bones are left alone (strength 0).")
        if self.unused:
            lines.append(f"{len(self.unused)} shapes of the rig are not used: {', '.join(self.unused)}.")
        return "\n".join(lines)

    # Corrections

    def set(self, coefficient: str, channels: Mapping[str, float] | str | None = None, **settings: Any) -> None:
        """Correct one row: other channels (a shape's name, weights by channel, or `{}` for none), or gain, offset, limits.

        Raises:
            CmetError: no such coefficient or setting, or a value that is not a number.
        """
        if coefficient not in self.rows:
            raise CmetError(f"'{coefficient}' is not one of the 52 ARKit coefficients.")
        unknown = settings.keys() - {"gain", "offset", "minimum", "maximum"}
        if unknown:
            raise CmetError(
                f"'{sorted(unknown)[0]}' is not a setting of a mapping row; use gain, offset, minimum, maximum."
            )
        row = self.rows[coefficient]
        if channels is not None:
            weights = {channels: 1.0} if isinstance(channels, str) else {str(k): float(v) for k, v in channels.items()}
            row = replace(
                row, channels=weights, kind=MANUAL if weights else MISSING, confidence=1.0 if weights else 0.0
            )
            freed = set(self.rows[coefficient].channels)
            self.rows[coefficient] = row
            used = set(self.channels)
            self.unused = tuple(
                n for n in dict.fromkeys([*self.unused, *sorted(freed)]) if n not in used and "/" not in n
            )
        for key, value in settings.items():
            if value is not None and not math.isfinite(float(value)):
                raise CmetError(f"{coefficient}: {key} is {value}; it must be a number.")
        self.rows[coefficient] = replace(row, **settings)

    # The linear map

    def matrix(self, channels: Sequence[str] | None = None) -> np.ndarray:
        """W, float64 [52, K]: what each coefficient adds to each of `channels` (default: `self.channels`)."""
        channels = self.channels if channels is None else list(channels)
        index = {channel: k for k, channel in enumerate(channels)}
        result = np.zeros((arkit.COUNT, len(channels)))
        for i, row in enumerate(self.rows.values()):
            for channel, weight in row.channels.items():
                if channel in index:
                    result[i, index[channel]] += weight
        return result

    def _settings(self) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        rows = self.rows.values()
        return (
            np.array([r.gain for r in rows]),
            np.array([r.offset for r in rows]),
            np.array([-np.inf if r.minimum is None else r.minimum for r in rows]),
            np.array([np.inf if r.maximum is None else r.maximum for r in rows]),
        )

    def values(
        self, coefficients: np.ndarray, channels: Sequence[str] | None = None, *, delta: bool = False
    ) -> np.ndarray:
        """Channel values, float64 [N, K], of coefficients [N, 52].

        Args:
            coefficients: [N, 52] in the order of `arkit.NAMES`.
            channels: default `self.channels`.
            delta: the coefficients are a difference: offset and limits do not apply to it.
        """
        gain, offset, low, high = self._settings()
        coefficients = np.asarray(coefficients, np.float64)
        driven = coefficients * gain if delta else np.clip(coefficients * gain + offset, low, high)
        return driven @ self.matrix(channels)

    def invert(
        self, values: np.ndarray, channels: Sequence[str] | None = None, reference: np.ndarray | None = None
    ) -> np.ndarray:
        """Coefficients, float64 [N, 52], that give these channel values [N, K]; least squares where several do.

        Args:
            values: [N, K] as read from the rig.
            channels: names of the K columns; default `self.channels`.
            reference: coefficients [N, 52] that the rig was driven from. The answer is then the reference plus the
                smallest change that explains the difference, so what the rig cannot show is kept from it. Without
                it coefficients that have no shape of their own are 0.
        """
        values = np.asarray(values, np.float64)
        gain, offset, low, high = self._settings()
        matrix = self.matrix(channels)
        usable = (np.abs(matrix).sum(1) > 0) & (np.abs(gain) > 1e-9)
        if reference is None:
            own = usable & np.array([r.kind != SPREAD for r in self.rows.values()])
            base, target = np.zeros((len(values), arkit.COUNT)), values
        else:
            own, base = usable, np.asarray(reference, np.float64)
            target = values - self.values(base, channels)
        driven = np.zeros((len(values), arkit.COUNT))
        driven[:, own] = target @ np.linalg.pinv(matrix[own], rcond=1e-6)
        safe_gain = np.where(usable, gain, 1.0)
        if reference is None:
            return np.where(own, (driven - offset) / safe_gain, 0.0)
        at_limit = np.clip(base * gain + offset, low, high)
        changed = np.abs(driven) > 1e-7
        # where a limit cut the reference, a change starts from the limit, and no change means what it was
        return np.where(own & changed, (at_limit + driven - offset) / safe_gain, base)

    # Files

    def to_json(self) -> str:
        """The mapping as the text of a `rigs/*.json` file; the same mapping gives the same bytes."""
        rows = {}
        for name, row in self.rows.items():
            entry: dict[str, Any] = {"channels": row.channels, "kind": row.kind, "confidence": round(row.confidence, 4)}
            for key, default in (("gain", 1.0), ("offset", 0.0), ("minimum", None), ("maximum", None)):
                if getattr(row, key) != default:
                    entry[key] = getattr(row, key)
            if row.channels or len(entry) > 3:
                rows[name] = entry
        document: dict[str, Any] = {"format": FORMAT, "name": self.name, "rows": rows, "unused": list(self.unused)}
        document["rotations"] = {k: vars(r) for k, r in self.rotations.items()}
        if self.unit:
            document["unit"] = list(self.unit)
        return json.dumps(document, indent=1, ensure_ascii=False) + "\n"

    def save(self, path: str | Path, *, force: bool = True) -> Path:
        """Write the mapping as a file that `load` reads and others may share.

        Raises:
            CmetError: the file cannot be written.
        """
        with whole_file(path, force=force) as temporary:
            temporary.write_text(self.to_json(), "utf-8")
        return Path(path)

    @classmethod
    def load(cls, path: str | Path) -> "RigMapping":
        """Read a saved mapping, or a convention file as a mapping of exactly its names.

        Raises:
            CmetError: the file is missing, not of this format, or a field is wrong; the message names it.
        """
        path = Path(path)
        document = _document(path)
        try:
            if "rows" not in document:
                return _convention(path).mapping()
            rows = {}
            for name, entry in document["rows"].items():
                if name not in arkit.INDEX:
                    raise CmetError(f"row '{name}' is not one of the 52 ARKit coefficients.")
                weights = {str(k): float(v) for k, v in entry.get("channels", {}).items()}
                kind = entry.get("kind", MANUAL)
                if kind not in KINDS:
                    raise CmetError(f"row '{name}': kind '{kind}' is not one of {', '.join(KINDS)}.")
                options = {
                    key: None if entry[key] is None else float(entry[key])
                    for key in ("gain", "offset", "minimum", "maximum")
                    if key in entry
                }
                if not all(v is None or math.isfinite(v) for v in [*weights.values(), *options.values()]):
                    raise CmetError(f"row '{name}' holds a value that is not finite.")
                rows[name] = Row(name, weights, kind, float(entry.get("confidence", 1.0)), **options)  # type: ignore[arg-type]
            rotations = {k: _rotation(k, v) for k, v in document.get("rotations", {}).items()}
            unit = document.get("unit")
            return cls(
                rows,
                tuple(document.get("unused", ())),
                rotations,
                str(document.get("name", "")),
                tuple(unit) if unit else None,
            )
        except CmetError as error:
            raise CmetError(f"{path.name}: {error}") from error
        except (AttributeError, TypeError, ValueError) as error:
            raise CmetError(f"{path.name}: a field is not of the kind it should be ({error}).") from error


def format_weights(weights: Mapping[str, float]) -> str:
    """Channels as a person writes them: `browInnerUp_L; browInnerUp_R=0.5`."""
    return "; ".join(name if weight == 1 else f"{name}={weight:g}" for name, weight in weights.items())


def parse_weights(text: str) -> dict[str, float]:
    """Read what `format_weights` writes.

    Raises:
        CmetError: a weight is not a number.
    """
    weights = {}
    for part in filter(None, (p.strip() for p in text.split(";"))):
        name, equals, weight = part.rpartition("=")
        if not equals:
            weights[part] = 1.0
            continue
        try:
            weights[name.strip()] = float(weight)
        except ValueError as error:
            raise CmetError(f"'{part}' is not a shape with a weight; write NAME or NAME=0.5.") from error
    return weights


def split_channel(channel: str) -> tuple[str, str, int] | None:
    """(bone, `move` or `rotate`, axis 0..2) of a bone's channel; None for a shape key."""
    match = _CHANNEL.fullmatch(channel)
    return (match["bone"], match["how"], "XYZ".index(match["axis"])) if match else None


def _rotation(key: str, entry: Mapping[str, Any]) -> Rotation:
    if key not in ROTATIONS:
        raise CmetError(f"rotation '{key}' is not one of {', '.join(ROTATIONS)}.")
    axis = {a: str(entry.get(a, getattr(Rotation, a))) for a in ("yaw", "pitch", "roll")}
    result = Rotation(str(entry.get("target", "")), **axis, strength=float(entry.get("strength", 1.0)))
    axes = (result.yaw, result.pitch, result.roll)
    if not all(_AXIS.fullmatch(a) for a in axes) or len({a[1] for a in axes}) != 3:
        raise CmetError(
            f"rotation '{key}': the axes {', '.join(axes)} must be three different ones such as -Z, +X, -Y."
        )
    return result


def _document(path: Path) -> dict[str, Any]:
    try:
        document = json.loads(path.read_text("utf-8"))
    except OSError as error:
        raise CmetError(f"Cannot read {path}: {error.strerror}.") from error
    except (ValueError, RecursionError) as error:
        raise CmetError(f"{path.name}: not valid JSON.") from error
    if not isinstance(document, dict) or document.get("format") != FORMAT:
        raise CmetError(f'{path.name}: not a rig mapping; it needs "format": "{FORMAT}".')
    return document


# Conventions


@dataclass(frozen=True)
class Convention:
    """How one kind of character names its shapes or bones; see `rigs/*.json`."""

    name: str
    shapes: dict[str, dict[str, float]]
    bones: dict[str, dict[str, float]]
    rotations: dict[str, dict[str, Any]]
    unit: tuple[str, str] | None

    def mapping(self) -> RigMapping:
        """A mapping of exactly these names."""
        rows = {n: Row(n, w, CONVENTION, 1.0) for n, w in {**self.bones, **self.shapes}.items()}
        rotations = {
            key: _rotation(key, {**entry, "target": entry["bones"][0]}) for key, entry in self.rotations.items()
        }
        return RigMapping(rows, (), rotations, self.name, self.unit)


def rigs_folder() -> Path:
    """The folder of mapping files: inside the installed add-on, or beside the package in the project.

    Raises:
        CmetError: neither is there.
    """
    import sys

    package = Path(__file__).resolve().parent
    for folder in (package / "rigs", package.parent / "rigs", Path(sys.prefix) / "share" / "cmet" / "rigs"):
        if (folder / "arkit.json").is_file():
            return folder
    raise CmetError(f"The folder of rig mappings is missing beside {package}; install the add-on again.")


def _convention(path: Path) -> Convention:
    document = _document(path)
    unit = document.get("unit")
    for part in ("shapes", "bones"):
        for name in document.get(part, {}):
            if name not in arkit.INDEX:
                raise CmetError(f"'{name}' in '{part}' is not one of the 52 ARKit coefficients.")
    return Convention(
        str(document.get("name", path.stem)),
        document.get("shapes", {}),
        document.get("bones", {}),
        document.get("rotations", {}),
        tuple(unit) if unit else None,
    )


@lru_cache(maxsize=1)
def conventions() -> tuple[Convention, ...]:
    """Every convention of `rigs/`, plain ARKit first."""
    files = sorted(rigs_folder().glob("*.json"), key=lambda p: (p.stem != "arkit", p.stem))
    return tuple(_convention(path) for path in files if "rows" not in _document(path))


def words(name: str) -> list[str]:
    """`Eye_Blink_L`, `facs_bs_EyeBlinkLeft_div2` and `rig:eyeBlinkLeft` all give [eye, blink, left]."""
    parts = re.split(r"[.:|]|__", name)
    tail = next((part for part in reversed(parts) if len(part) > 2 and not part.isdigit()), parts[-1])
    if parts[-1] in ("L", "R", "l", "r") and tail != parts[-1]:
        tail += "_" + parts[-1]
    found = [w.lower() for w in _WORD.findall(tail)]
    found = [_SIDES.get(w, w) for w in found]
    return [w for w in found if w not in _NOISE and not w.isdigit() and not (len(w) == 1 and w in "abt")]


def _key(tokens: Sequence[str]) -> str:
    """One text for a name: words together, a single side at the end; two sides keep their places."""
    sides = [w for w in tokens if w in ("left", "right")]
    if len(sides) != 1:
        return "".join(tokens)
    return "".join(w for w in tokens if w not in ("left", "right")) + "|" + sides[0]


def _without_common_prefix(names: Sequence[str], mesh: str = "") -> dict[str, list[str]]:
    """Words of each name, without leading ones that nearly all share (`Head_blink`, `Head_smile`) or that name the mesh."""
    table = {name: words(name) for name in names}
    own = words(mesh) if mesh else []
    if own:
        table = {n: w[len(own) :] if w[: len(own)] == own and len(w) > len(own) + 1 else w for n, w in table.items()}
    while len(table) >= 5:
        first = [w[0] for w in table.values() if len(w) > 1]
        if len(first) < 0.8 * len(table):
            break
        common = max(set(first), key=first.count)
        if first.count(common) < 0.8 * len(table) or common in _REGIONS:
            break
        table = {n: w[1:] if len(w) > 1 and w[0] == common else w for n, w in table.items()}
    return table


def _with_sides_joined(key: str) -> list[str]:
    return [f"{key}|left", f"{key}|right"]


def _match_names(names: Sequence[str], mesh: str = "") -> tuple[dict[str, Row], str]:
    """Rows that the names of one mesh give, and the convention that fits best."""
    table = _without_common_prefix(names, mesh)
    by_key: dict[str, str] = {}
    for name, tokens in table.items():
        by_key.setdefault(_key(tokens), name)
    present = set(names)

    def find(shape: str) -> tuple[dict[str, float], float]:
        """Channels and confidence of one conventional name on this rig."""
        if shape in present:
            return {shape: 1.0}, 1.0
        key = _key(words(shape))
        if key in by_key:
            return {by_key[key]: 1.0}, 0.97
        if "|" not in key and all(k in by_key for k in _with_sides_joined(key)):
            return {by_key[k]: 1.0 for k in _with_sides_joined(key)}, 0.95
        stem, _, side = key.partition("|")
        if side and stem in by_key:  # the rig has one shape for both sides
            return {by_key[stem]: 0.5}, 0.9
        return {}, 0.0

    def resolve(convention: Convention) -> dict[str, Row]:
        rows = {}
        for coefficient, shapes in convention.shapes.items():
            channels: dict[str, float] = {}
            scores = []
            for shape, weight in shapes.items():
                found, score = find(shape)
                scores.append(score)
                for channel, share in found.items():
                    channels[channel] = channels.get(channel, 0.0) + weight * share
            if not channels and len(shapes) > 1:  # the unsplit form: Mouth_Funnel for Mouth_Funnel_Up_L and three more
                stems = {
                    "".join(w for w in words(s) if w not in ("left", "right", "up", "down", "upper", "lower"))
                    for s in shapes
                }
                stem = stems.pop() if len(stems) == 1 else None
                if stem in by_key:
                    channels, scores = {by_key[stem]: 1.0}, [0.9]
            if channels:
                exact = coefficient in channels and len(channels) == 1
                confidence = sum(scores) / len(scores)
                rows[coefficient] = Row(coefficient, channels, EXACT if exact else CONVENTION, confidence)
        return rows

    resolved = [(resolve(c), c.name) for c in conventions()]

    def quality(entry: tuple[dict[str, Row], str]) -> float:
        return sum(row.confidence for row in entry[0].values())

    resolved.sort(key=quality, reverse=True)
    best, label = resolved[0]
    rows = dict(best)
    taken = {c for row in rows.values() for c in row.channels}
    for other, _ in resolved[1:]:
        for coefficient, row in other.items():
            if coefficient not in rows and not taken & set(row.channels):
                rows[coefficient] = row
                taken |= set(row.channels)
    _guess(rows, {n: t for n, t in table.items() if n not in taken})
    return rows, label if rows else ""


def _plain(tokens: Sequence[str]) -> list[str]:
    """Words with their synonyms replaced; a jaw that drops is an open jaw, a brow that drops goes down."""
    jaw = {"drop": "open", "down": "open"} if "jaw" in tokens or "chin" in tokens else {}
    return [jaw.get(w) or _SYNONYMS.get(w, w) for w in tokens]


def _likeness(tokens: Sequence[str], wanted: Sequence[str]) -> float:
    """0..1: how alike two names are, words and their synonyms first, spelling second; 0 for another side or region."""
    a, b = _plain(tokens), _plain(wanted)
    if [w for w in a if w in ("left", "right")] != [w for w in b if w in ("left", "right")]:
        return 0.0
    regions_a, regions_b = {w for w in a if w in _REGIONS}, {w for w in b if w in _REGIONS}
    if regions_a and regions_b and not regions_a & regions_b:
        return 0.0
    words_a, words_b = set(a) - {"left", "right"}, set(b) - {"left", "right"}
    if not words_a or not (words_a & words_b) - set(_REGIONS):  # only the region in common, or a misspelling
        spelled = difflib.SequenceMatcher(None, "".join(a), "".join(b)).ratio()
        return spelled if spelled > 0.85 else 0.0
    jaccard = len(words_a & words_b) / len(words_a | words_b)
    return 0.65 * jaccard + 0.35 * difflib.SequenceMatcher(None, "".join(a), "".join(b)).ratio()


def _guess(rows: dict[str, Row], left: Mapping[str, Sequence[str]]) -> None:
    """Give coefficients without a row the most alike of the names left over, best pairs first.

    Besides single names the candidates are pairs (`cheek_blow.L` with `.R` for `cheekPuff`) and, for a coefficient
    with a side, names without one (`lip_smile` for both smiles, half each).
    """
    speech = ("viseme", "phoneme", "vrc", "v")
    names = {n: list(t) for n, t in left.items() if t and t[0] not in speech}
    candidates: list[tuple[list[str], dict[str, float], frozenset[str]]] = []
    stems: dict[str, dict[str, str]] = {}
    for name, tokens in names.items():
        sides = [w for w in tokens if w in ("left", "right")]
        candidates.append((tokens, {name: 1.0}, frozenset([name])))
        if len(sides) == 1:
            stems.setdefault(" ".join(w for w in tokens if w not in ("left", "right")), {})[sides[0]] = name
        elif not sides:
            candidates += [([*tokens, side], {name: 0.5}, frozenset([f"{name}|{side}"])) for side in ("left", "right")]
    candidates += [
        (stem.split(), dict.fromkeys(both.values(), 1.0), frozenset(both.values()))
        for stem, both in stems.items()
        if len(both) == 2
    ]
    pairs = sorted(
        (
            (_likeness(tokens, words(coefficient)), coefficient, number)
            for coefficient in arkit.NAMES
            if coefficient not in rows
            for number, (tokens, _, _) in enumerate(candidates)
        ),
        key=lambda p: (-p[0], p[1], p[2]),
    )
    taken: set[str] = set()
    for score, coefficient, number in pairs:
        if score < GUESS_THRESHOLD:
            break
        _, channels, claims = candidates[number]
        names_only = {c.partition("|")[0] for c in claims}
        blocked = claims & taken or (names_only != claims and names_only & taken)
        if (
            coefficient not in rows
            and not blocked
            and not any(f"{n}|{s}" in taken for n in claims for s in ("left", "right"))
        ):
            rows[coefficient] = Row(coefficient, dict(channels), GUESSED, round(min(score, 0.9), 3))
            taken |= claims


def match(obj_or_names: Any) -> RigMapping:
    """Find which shape key takes which coefficient.

    Args:
        obj_or_names: an object of the rig (mesh, or armature or empty above meshes), names of shape keys, or names by
            mesh (`{"Head": [...], "Teeth": [...]}`) for shapes that several meshes share.

    Returns:
        The mapping: exact names, then known conventions, then guesses with a confidence. Bones of a Rigify face are
        used where the rig has no shapes; head and eye bones are filled in where known names are found.

    Raises:
        CmetError: the object has no shape keys and no face bones; the message says what to do.
    """
    bones: Sequence[str] = ()
    rig: Any = None
    if hasattr(obj_or_names, "type") and hasattr(obj_or_names, "data"):
        from . import rig

        by_mesh = rig.names_by_mesh(obj_or_names)
        bones = rig.bone_names(obj_or_names)
        if not by_mesh and not _bone_convention(bones):
            raise CmetError(
                f"'{obj_or_names.name}' has no shape keys, nor has anything in its rig; choose the mesh of the face, or "
                "add shape keys named like ARKit's."
            )
    elif isinstance(obj_or_names, Mapping):
        by_mesh = {str(mesh): [str(n) for n in names] for mesh, names in obj_or_names.items()}
    else:
        by_mesh = {"": [str(n) for n in obj_or_names]}
    by_mesh = {mesh: [n for n in names if n != "Basis"] for mesh, names in by_mesh.items()}

    rows: dict[str, Row] = {}
    label, most = "", -1
    for mesh, names in sorted(by_mesh.items(), key=lambda item: -len(item[1])):
        found, name = _match_names(names, mesh)
        if len(found) > most:
            label, most = name, len(found)
        for coefficient, row in found.items():
            there = rows.get(coefficient)
            if there is None or (there.kind == GUESSED and row.kind != GUESSED):
                rows[coefficient] = row
            elif row.kind != GUESSED:
                rows[coefficient] = replace(there, channels={**row.channels, **there.channels})
    unit = None
    bone_rig = _bone_convention(bones) if not rows else None
    if bone_rig:
        have = set(bones)
        label, unit = bone_rig.name, bone_rig.unit
        for coefficient, weights in bone_rig.bones.items():
            present = {c: w for c, w in weights.items() if c.rpartition("/")[0] in have}
            if present:
                rows[coefficient] = Row(coefficient, present, CONVENTION, len(present) / len(weights))
    used = {c for row in rows.values() for c in row.channels}
    unused = tuple(n for n in dict.fromkeys(n for names in by_mesh.values() for n in names) if n not in used)
    rotations = _find_rotations(bones, label)
    for key, side in (("leftEye", "Left"), ("rightEye", "Right")):
        gaze = {c for n in arkit.GAZE if n.endswith(side) and n in rows for c in rows[n].channels}
        if key in rotations and rig is not None and rig.eyeball_shapes(obj_or_names, gaze):
            rotations[key] = replace(rotations[key], strength=0.0)  # shapes and bone together would turn the eye twice
    return RigMapping(rows, unused, rotations, label, unit)


def _bone_convention(bones: Iterable[str]) -> Convention | None:
    """The convention whose face bones are here: at least half of them."""
    have = set(bones)
    for convention in conventions():
        wanted = {c.rpartition("/")[0] for weights in convention.bones.values() for c in weights}
        if wanted and len(wanted & have) >= 0.5 * len(wanted):
            return convention
    return None


def _find_rotations(bones: Iterable[str], label: str) -> dict[str, Rotation]:
    have = {b.lower(): b for b in bones}
    result: dict[str, Rotation] = {}
    for convention in sorted(conventions(), key=lambda c: c.name != label):
        for key, entry in convention.rotations.items():
            found = next((have[b.lower()] for b in entry["bones"] if b.lower() in have), None)
            if key not in result and found:
                result[key] = _rotation(key, {**entry, "target": found})
    return result


# Coefficients without a shape


def spread_missing(
    mapping: RigMapping,
    shape_deltas: Mapping[str, np.ndarray],
    wanted: Mapping[str, np.ndarray],
) -> RigMapping:
    """Show missing coefficients by combinations of the shapes that exist, by least squares on their deltas.

    For each missing coefficient with motion d, the shares a >= 0 minimise |d - sum_j a_j d_j|^2 + ridge |a|^2.

    Args:
        mapping: a mapping of the rig; it is not changed.
        shape_deltas: motion of each shape of the rig, [V, 3] each, over one set of points.
        wanted: motion that each coefficient should make, [V, 3] each, over the same points; see `transferred`.

    Returns:
        A mapping whose missing rows that can be shown are of kind `spread`, their confidence the share of the motion
        (1 - residual energy / energy) that the combination shows.
    """
    owner = {shape: n for n, r in mapping.rows.items() if r.kind != SPREAD for shape in r.channels}
    aside = {"tongueOut", *arkit.GAZE}  # an expression must not move the eyes or the tongue
    usable = [
        shape
        for shape, delta in shape_deltas.items()
        # speech shapes are combinations themselves; shapes nobody could name may take part
        if words(shape)[:1] not in (["viseme"], ["v"]) and owner.get(shape) not in aside and np.abs(delta).max() > 0
    ]
    if not usable:
        return mapping
    stack = np.stack([np.asarray(shape_deltas[n], np.float64).ravel() for n in usable])  # [J, 3V]
    plain = stack @ stack.T
    ridge = RIDGE * np.trace(plain) / len(usable)
    rows = dict(mapping.rows)
    for name in mapping.missing:
        motion = wanted.get(name)
        if motion is None:
            continue
        motion = np.asarray(motion, np.float64).ravel()
        energy = float(motion @ motion)
        if energy <= 0:
            continue
        weight = [1.0 if _kin(name, owner.get(shape)) else STRANGER for shape in usable]
        shares = _non_negative(plain + ridge * np.diag(weight), stack @ motion)
        shares[shares < SPREAD_SMALLEST] = 0
        shown = 1 - float(((motion - shares @ stack) ** 2).sum()) / energy
        if shown >= SPREAD_WORTH and shares.any():
            channels = {usable[j]: round(float(shares[j]), 4) for j in np.flatnonzero(shares)}
            rows[name] = replace(rows[name], channels=channels, kind=SPREAD, confidence=round(shown, 3))
    used = {c for row in rows.values() for c in row.channels}
    unused = tuple(n for n in mapping.unused if n not in used)
    return RigMapping(rows, unused, dict(mapping.rotations), mapping.name, mapping.unit)


def _kin(name: str, other: str | None) -> bool:
    """Whether two coefficients are of one part of the face (mouth and jaw are one, as are cheeks, nose and mouth) and side."""
    if other is None:
        return True
    below = {"jaw", "mouth", "cheeks", "nose"}
    region, other_region = (next(r for r, names in arkit.REGIONS.items() if n in names) for n in (name, other))
    sides = [next((side for side in ("Left", "Right") if n.endswith(side)), "") for n in (name, other)]
    same_part = region == other_region or {region, other_region} <= below or {region, other_region} == {"eyes", "brows"}
    return same_part and (sides[0] == sides[1] or "" in sides)


def _non_negative(gram: np.ndarray, correlation: np.ndarray, sweeps: int = 300) -> np.ndarray:
    """argmin over a >= 0 of a.G.a / 2 - a.b by coordinate descent; G [J, J] positive definite, b [J]."""
    shares = np.zeros(len(correlation))
    for _ in range(sweeps):
        before = shares.copy()
        for j in range(len(shares)):
            shares[j] = max(0.0, shares[j] + (correlation[j] - gram[j] @ shares) / gram[j, j])
        if np.abs(shares - before).max() < 1e-7:
            break
    return shares


def transferred(
    mapping: RigMapping,
    points: np.ndarray,
    shape_deltas: Mapping[str, np.ndarray],
    reference_points: np.ndarray,
    reference_deltas: Mapping[str, np.ndarray],
) -> dict[str, np.ndarray]:
    """Motion [V, 3] of every coefficient of a reference head, carried over to this rig's points.

    The two heads are brought together by the centres of motion of the shapes that both have (a smile moves the same
    place on every face) with a similarity transform (Umeyama 1991), then each point takes the motion of the nearest
    points of the reference. The size of motion is matched over the shared shapes.

    Args:
        mapping: says which shape of the rig is which coefficient.
        points: the rig's rest positions [V, 3].
        shape_deltas: motion of the rig's shapes, [V, 3] each.
        reference_points: rest positions [R, 3] of the reference head.
        reference_deltas: its motion by coefficient, [R, 3] each.
    """
    shared = [
        (name, next(iter(row.channels)))
        for name, row in mapping.rows.items()
        if row.kind in (EXACT, CONVENTION, MANUAL)
        and len(row.channels) == 1
        and name in reference_deltas
        and next(iter(row.channels)) in shape_deltas
    ]

    def centre(at: np.ndarray, motion: np.ndarray) -> np.ndarray:
        weight = (np.asarray(motion, np.float64) ** 2).sum(1)
        return (weight[:, None] * at).sum(0) / max(weight.sum(), 1e-30)

    shared = [(n, s) for n, s in shared if np.abs(shape_deltas[s]).max() > 0 and np.abs(reference_deltas[n]).max() > 0]
    if len(shared) < 6:
        return {}
    there = np.stack([centre(reference_points, reference_deltas[n]) for n, _ in shared])
    here = np.stack([centre(points, shape_deltas[s]) for _, s in shared])
    mean_there, mean_here = there.mean(0), here.mean(0)
    u, singular, vt = np.linalg.svd((here - mean_here).T @ (there - mean_there))
    sign = np.array([1, 1, np.sign(np.linalg.det(u @ vt))])
    turn = u @ np.diag(sign) @ vt
    scale = float((singular * sign).sum() / max(((there - mean_there) ** 2).sum(), 1e-30))
    moved = (np.asarray(reference_points) - mean_there) @ turn.T * scale + mean_here
    active = np.flatnonzero(np.max([np.abs(d).max(1) for d in reference_deltas.values()], axis=0) > 1e-6)
    nearest, share = _nearest(np.asarray(points, np.float64), moved[active])
    carried = {}
    for name, delta in reference_deltas.items():
        turned = np.asarray(delta, np.float64)[active] @ turn.T * scale
        carried[name] = (turned[nearest] * share[:, :, None]).sum(1)
    sizes = [float(np.linalg.norm(shape_deltas[s])) / max(float(np.linalg.norm(carried[n])), 1e-12) for n, s in shared]
    ratio = float(np.median(sizes))
    return {name: delta * ratio for name, delta in carried.items()}


def _nearest(points: np.ndarray, others: np.ndarray, count: int = 3) -> tuple[np.ndarray, np.ndarray]:
    """Indices [V, count] of the nearest `others` and weights [V, count] by inverse distance, fading far away."""
    count = min(count, len(others))
    index = np.empty((len(points), count), np.int64)
    weight = np.empty((len(points), count))
    extent = float(np.linalg.norm(np.ptp(others, axis=0)))
    for start in range(0, len(points), 256):  # 256 rows at a time keep the distance table small
        block = points[start : start + 256]
        distance = np.sqrt(np.maximum(((block[:, None] - others[None]) ** 2).sum(2), 0))
        order = np.argpartition(distance, count - 1, axis=1)[:, :count]
        near = np.take_along_axis(distance, order, 1)
        index[start : start + 256] = order
        inverse = 1 / (near + 1e-6 * extent)
        far = np.exp(-((near[:, :1] / (0.05 * extent)) ** 2))  # the back of the head does not smile
        weight[start : start + 256] = inverse / inverse.sum(1, keepdims=True) * far
    return index, weight
