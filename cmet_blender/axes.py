"""Which axes of a bone or an object turn a head or an eye which way, found by looking."""

from collections.abc import Mapping
from dataclasses import replace
from fractions import Fraction
from typing import Any

import numpy as np

from cmet_engine import arkit
from cmet_engine.errors import InvalidInput
from cmet_engine.track import CoefficientTrack

from .actions import Curves
from .bones import rotation_curves
from .mapping import RigMapping, Rotation

WAYS = {
    "right": ("yaw", "+", "To Its Right", "The face looks to the character's own right"),
    "left": ("yaw", "-", "To Its Left", "The face looks to the character's own left"),
    "down": ("pitch", "+", "Down", "The face looks down"),
    "up": ("pitch", "-", "Up", "The face looks up"),
    "lean_right": ("roll", "+", "Leans Right", "It leans to the character's own right shoulder, or an eye rolls that way"),
    "lean_left": ("roll", "-", "Leans Left", "It leans to the character's own left shoulder, or an eye rolls that way"),
}  # fmt: skip
"""Which angle, in which sign, each way of turning is, what it is called, and what that means."""

_TRIAL = 20.0  # degrees


def axes_of(ways: Mapping[str, str]) -> dict[str, str]:
    """Axes of `Rotation` from what was seen when it was turned about each.

    Args:
        ways: by X, Y and Z: one of `WAYS`.

    Raises:
        InvalidInput: two axes turn it alike.
    """
    found: dict[str, str] = {}
    for axis, way in ways.items():
        angle, sign, *_ = WAYS[way]
        if angle in found:
            raise InvalidInput(
                f"About {found[angle][1]} and {axis} it cannot both turn to the sides, nod, or lean; look again at one."
            )
        found[angle] = sign + axis
    return found


def ways_of(rotation: Any) -> dict[str, str]:
    """What turning about each axis looks like where a rotation's axes are right."""
    found = {}
    for way, (angle, sign, *_) in WAYS.items():
        text = getattr(rotation, angle)
        if text[0] == sign:
            found[text[1]] = way
    return found


def trial(obj: Any, mapping: RigMapping, key: str, axis: str, scene: Any) -> list[Curves]:
    """What turns the head or an eye of a rig by 20 degrees about +X, +Y or +Z.

    Raises:
        InvalidInput: the mapping names no bone or object for it, or none that can be turned.
    """
    rotation = mapping.rotations.get(key, Rotation())
    others = iter(set("XYZ") - {axis})
    turned = replace(rotation, yaw=f"+{axis}", pitch=f"+{next(others)}", roll=f"+{next(others)}", strength=1.0)
    row = CoefficientTrack(
        Fraction(30), np.zeros((1, arkit.COUNT)), np.array([[_TRIAL, 0, 0]]), np.array([[_TRIAL, 0, _TRIAL, 0]])
    )
    notes: list[str] = []
    parts = rotation_curves(obj, replace(mapping, rotations={key: turned}), row, scene, notes)
    if not parts:
        raise InvalidInput(notes[0] if notes else "Choose the bone or object that turns first.")
    return parts
