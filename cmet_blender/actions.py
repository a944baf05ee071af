"""Actions: curves of datablocks written as one new Action with a slot for each."""

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import bpy
import numpy as np
from bpy.utils import escape_identifier

from cmet_engine.errors import InvalidInput

LINEAR = 1  # index of 'LINEAR' in the enumeration that keyframe_points.foreach_set takes
INFO = "cmet"  # custom property of our Actions: JSON with what made them
_MARGIN = 1.001  # slider limits are single precision; a value exactly at them must not be cut


@dataclass
class Curves:
    """Curves of one datablock: values by (data path, index), all over the same frames."""

    owner: Any
    slot_type: str
    name: str
    curves: dict[tuple[str, int], np.ndarray] = field(default_factory=dict)


def merged(parts: list[Curves]) -> list[Curves]:
    """One entry for each datablock."""
    table: dict[Any, Curves] = {}
    for part in parts:
        if part.owner in table:
            table[part.owner].curves.update(part.curves)
        else:
            table[part.owner] = part
    return list(table.values())


def write_action(
    name: str,
    parts: Sequence[Curves],
    positions: np.ndarray,
    *,
    simplify: float = 0.0,
    info: dict[str, Any] | None = None,
    assign: bool = True,
) -> Any:
    """A new Action with a slot and its curves for every part.

    Args:
        name: of the Action.
        parts: what to key.
        positions: float32 [N] scene frames of the keys.
        simplify: see `apply_track`.
        info: JSON values kept in the custom property `cmet`.
        assign: make it the active Action of each owner (an earlier one is kept in the file), and open sliders.
    """
    action = bpy.data.actions.new(name)
    action.use_fake_user = True  # survives saving when another take becomes the active one
    layer = action.layers.new("C-MET")
    strip = layer.strips.new(type="KEYFRAME")
    interpolation = np.full(len(positions), LINEAR, np.int32)
    points = np.empty((len(positions), 2), np.float32)
    points[:, 0] = positions
    written = whole = 0
    for part in parts:
        if not part.curves:
            continue
        slot = action.slots.new(id_type=part.slot_type, name=part.name)
        bag = strip.channelbag(slot, ensure=True)
        for (path, index), values in part.curves.items():
            curve = bag.fcurves.new(path, index=index)
            points[:, 1] = values
            data, count, how = points, len(points), interpolation
            if simplify > 0:
                error = simplify * _unit_of_error(path, values)
                kept = simplified(positions.astype(np.float64), values.astype(np.float64), error)
                data, count = points[kept], len(kept)
                how = interpolation[:count]
            curve.keyframe_points.add(count)
            curve.keyframe_points.foreach_set("co", data.ravel())
            curve.keyframe_points.foreach_set("interpolation", how)
            curve.update()
            written, whole = written + count, whole + len(positions)
        if assign:
            assign_action(part.owner, action, slot)
            _open_sliders(part)
    info = dict(info or {})
    if simplify > 0:
        note = f"Simplified to {written} of {whole} keys; no curve is off by more than {simplify:g} of a shape."
        info["notes"] = [*info.get("notes", ()), note]
    action[INFO] = json.dumps(info)
    return action


def _unit_of_error(path: str, values: np.ndarray) -> float:
    """What an error of 1 is on a curve: a whole shape, a hundred degrees, or the way that a bone moves at the most."""
    if path.endswith("rotation_quaternion"):
        return math.radians(100) / 4  # half of an angle is what a quaternion holds, and its four errors add up
    if "rotation" in path:
        return math.radians(100)
    if path.endswith("location"):
        return float(np.ptp(values))
    return 1.0


def _open_sliders(part: Curves) -> None:
    if part.slot_type != "KEY":
        return
    for block in part.owner.key_blocks:
        values = part.curves.get((f'key_blocks["{escape_identifier(block.name)}"].value', 0))
        if values is not None and len(values):
            widen(part.owner, block.name, float(values.min()), float(values.max()))


def widen(keys: Any, shape: str, low: float, high: float) -> None:
    """Open a shape key's slider so that values from `low` to `high` are not cut."""
    block = keys.key_blocks[shape]
    if low < block.slider_min:
        block.slider_min = max(-10.0, low * _MARGIN)
    if high > block.slider_max:
        block.slider_max = min(10.0, high * _MARGIN)


def assign_action(owner: Any, action: Any, slot: Any) -> None:
    """Make `action` the active one of a datablock; the Action that it had is kept in the file."""
    animation = owner.animation_data or owner.animation_data_create()
    if animation.use_tweak_mode:
        raise InvalidInput(f"'{owner.name}' is in NLA tweak mode; leave it (Tab in the NLA editor) and try again.")
    if animation.action is not None and animation.action.library is None:
        animation.action.use_fake_user = True
    animation.action = action
    animation.action_slot = slot


def simplified(positions: np.ndarray, values: np.ndarray, error: float) -> np.ndarray:
    """Indices of the points to keep so that straight lines between them stay within `error` of all (Ramer 1972)."""
    keep = np.zeros(len(values), bool)
    keep[[0, -1]] = True
    stack = [(0, len(values) - 1)]
    while stack:
        a, b = stack.pop()
        if b - a < 2:
            continue
        line = values[a] + (values[b] - values[a]) * (positions[a : b + 1] - positions[a]) / (
            positions[b] - positions[a]
        )
        distance = np.abs(values[a : b + 1] - line)
        worst = int(distance.argmax())
        if distance[worst] > error:
            keep[a + worst] = True
            stack += [(a, a + worst), (a + worst, b)]
    return np.flatnonzero(keep)
