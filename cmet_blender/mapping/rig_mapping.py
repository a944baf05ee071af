"""The mapping of a whole rig: a linear map from the 52 coefficients to its channels, and its inverse."""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from cmet_engine import arkit
from cmet_engine.errors import CmetError, InvalidInput
from cmet_engine.files import whole_file

from .conventions import FORMAT, read_convention, read_document
from .rows import (
    CONVENTION,
    EXACT,
    GUESSED,
    KINDS,
    MANUAL,
    MISSING,
    SPREAD,
    Rotation,
    Row,
    format_weights,
    parse_rotation,
)


@dataclass
class RigMapping:
    """The whole mapping of a rig: a row for each of the 52 coefficients, rotations, and the shapes that no row drives.

    `offered` holds guesses, by coefficient, that are not sure enough to be used; `accept` uses one.
    """

    rows: dict[str, Row] = field(default_factory=dict)
    unused: tuple[str, ...] = ()
    rotations: dict[str, Rotation] = field(default_factory=dict)
    name: str = ""
    unit: tuple[str, str] | None = None
    offered: dict[str, Row] = field(default_factory=dict)

    def __post_init__(self) -> None:
        unknown = [name for name in self.rows if name not in arkit.INDEX]
        if unknown:
            raise InvalidInput(f"'{unknown[0]}' is not one of the 52 ARKit coefficients.")
        self.rows = {name: self.rows.get(name) or Row(name) for name in arkit.NAMES}

    # What was found

    def of_kind(self, *kinds: str) -> list[str]:
        """Names of the coefficients whose row is of one of `kinds`."""
        return [name for name, row in self.rows.items() if row.kind in kinds]

    @property
    def matched(self) -> list[str]:
        """Coefficients with a shape by name, by convention or by hand."""
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
        if self.serving_both:
            lines.append(
                f"{len(self.serving_both)} shapes have no side and serve both: {', '.join(self.serving_both)}."
            )
        if self.offered:
            names = ", ".join(
                f"{n} → {format_weights(r.channels)} ({r.confidence:.0%})" for n, r in self.offered.items()
            )
            lines.append(
                f"{len(self.offered)} guesses are not sure and not used; accept those that are right: {names}."
            )
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

    @property
    def serving_both(self) -> list[str]:
        """Channels that a coefficient of the left and its mirror on the right both drive."""
        return [
            channel
            for left, right in arkit.PAIRS
            if SPREAD not in (self.rows[left].kind, self.rows[right].kind)
            for channel in self.rows[left].channels
            if channel in self.rows[right].channels
        ]

    # Corrections

    def accept(self, coefficient: str) -> None:
        """Use the guess that is offered for a coefficient.

        Raises:
            InvalidInput: none is.
        """
        if coefficient not in self.offered:
            raise InvalidInput(f"No guess is offered for '{coefficient}'.")
        self.set(coefficient, self.offered.pop(coefficient).channels)

    def set(self, coefficient: str, channels: Mapping[str, float] | str | None = None, **settings: Any) -> None:
        """Correct one row: other channels (a shape's name, weights by channel, or `{}` for none), or gain, offset, limits.

        Raises:
            InvalidInput: no such coefficient or setting, or a value that is not a number.
        """
        if coefficient not in self.rows:
            raise InvalidInput(f"'{coefficient}' is not one of the 52 ARKit coefficients.")
        unknown = settings.keys() - {"gain", "offset", "minimum", "maximum"}
        if unknown:
            raise InvalidInput(
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
                raise InvalidInput(f"{coefficient}: {key} is {value}; it must be a number.")
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
        document = read_document(path)
        if "rows" not in document:
            convention = read_convention(path)
            return cls(convention.rows(), (), convention.first_rotations(), convention.name, convention.unit)
        return cls.of_document(document, path.name)

    @classmethod
    def of_document(cls, document: dict[str, Any], called: str) -> "RigMapping":
        """The mapping of a parsed document, which messages call `called`.

        Raises:
            InvalidInput: a field is wrong.
        """
        try:
            rows = {}
            for name, entry in document["rows"].items():
                if name not in arkit.INDEX:
                    raise InvalidInput(f"row '{name}' is not one of the 52 ARKit coefficients.")
                weights = {str(k): float(v) for k, v in entry.get("channels", {}).items()}
                kind = entry.get("kind", MANUAL)
                if kind not in KINDS:
                    raise InvalidInput(f"row '{name}': kind '{kind}' is not one of {', '.join(KINDS)}.")
                options = {
                    key: None if entry[key] is None else float(entry[key])
                    for key in ("gain", "offset", "minimum", "maximum")
                    if key in entry
                }
                if not all(v is None or math.isfinite(v) for v in [*weights.values(), *options.values()]):
                    raise InvalidInput(f"row '{name}' holds a value that is not finite.")
                rows[name] = Row(name, weights, kind, float(entry.get("confidence", 1.0)), **options)  # type: ignore[arg-type]
            rotations = {k: parse_rotation(k, v) for k, v in document.get("rotations", {}).items()}
            unit = document.get("unit")
            return cls(
                rows,
                tuple(document.get("unused", ())),
                rotations,
                str(document.get("name", "")),
                tuple(unit) if unit else None,
            )
        except CmetError as error:
            raise InvalidInput(f"{called}: {error}") from error
        except (AttributeError, TypeError, ValueError, KeyError) as error:
            raise InvalidInput(f"{called}: a field is not of the kind it should be ({error}).") from error
