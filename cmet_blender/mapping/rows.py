"""One row of a mapping, the channels it drives, and how both are written as text."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from cmet_engine.errors import InvalidInput

EXACT, CONVENTION, GUESSED, SPREAD, MANUAL, MISSING = "exact", "convention", "guessed", "spread", "manual", "missing"
KINDS = (EXACT, CONVENTION, GUESSED, SPREAD, MANUAL, MISSING)


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

_CHANNEL = re.compile(r"(?P<bone>.+)/(?P<how>move|rotate)\.(?P<axis>[XYZ])")


def split_channel(channel: str) -> tuple[str, str, int] | None:
    """(bone, `move` or `rotate`, axis 0..2) of a bone's channel; None for a shape key."""
    match = _CHANNEL.fullmatch(channel)
    return (match["bone"], match["how"], "XYZ".index(match["axis"])) if match else None


_AXIS = re.compile(r"[+-][XYZ]")


def parse_rotation(key: str, entry: Mapping[str, Any]) -> Rotation:
    """A rotation from the fields of a file.

    Args:
        key: one of `ROTATIONS`.
        entry: `target`, `yaw`, `pitch`, `roll`, `strength`; each has a default.

    Raises:
        InvalidInput: the key is unknown, or the axes are not three different ones.
    """
    if key not in ROTATIONS:
        raise InvalidInput(f"rotation '{key}' is not one of {', '.join(ROTATIONS)}.")
    axis = {a: str(entry.get(a, getattr(Rotation, a))) for a in ("yaw", "pitch", "roll")}
    result = Rotation(str(entry.get("target", "")), **axis, strength=float(entry.get("strength", 1.0)))
    axes = (result.yaw, result.pitch, result.roll)
    if not all(_AXIS.fullmatch(a) for a in axes) or len({a[1] for a in axes}) != 3:
        raise InvalidInput(
            f"rotation '{key}': the axes {', '.join(axes)} must be three different ones such as -Z, +X, -Y."
        )
    return result


def format_weights(weights: Mapping[str, float]) -> str:
    """Channels as a person writes them: `browInnerUp_L; browInnerUp_R=0.5`."""
    return "; ".join(name if weight == 1 else f"{name}={weight:g}" for name, weight in weights.items())


def parse_weights(text: str) -> dict[str, float]:
    """Read what `format_weights` writes.

    Raises:
        InvalidInput: a weight is not a number.
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
            raise InvalidInput(f"'{part}' is not a shape with a weight; write NAME or NAME=0.5.") from error
    return weights
