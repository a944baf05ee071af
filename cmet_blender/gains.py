"""How strong a layer is in each part of the face: its Action's own curves, scaled."""

import json
from typing import Any

import numpy as np

from cmet_engine.timeline import REGIONS

from . import followers
from .actions import INFO
from .mapping import RigMapping
from .nla import curves_of, info_of

_LEAST = 1e-3  # curves are scaled by no less, so that they can be scaled back; at a gain of 0 they are muted


def gains(action: Any) -> dict[str, float]:
    """Gains of an Action's emotion by region, as far as they are not 1."""
    return dict(info_of(action).get("regions", {}))


def gain(strip: Any, region: str) -> float:
    """Gain of the emotion of a strip in one of `REGIONS`."""
    return float(gains(strip.action).get(region, 1.0))


def set_gain(strip: Any, mapping: RigMapping, region: str, value: float) -> None:
    """Scale what a strip's Action moves in a region; keys made by hand in it are scaled, too.

    Args:
        strip: on the shape keys of the leading mesh.
        mapping: whose shapes belong to which coefficient.
        region: one of `REGIONS`.
        value: 0 is nothing, 1 the emotion as it is.
    """
    factor = max(value, _LEAST) / max(gain(strip, region), _LEAST)
    paths = _paths(strip.id_data, mapping, region)
    for curve in curves_of(strip.action, strip.action_slot):
        if curve.data_path in paths:
            _scale(curve, factor)
            curve.mute = value == 0
    kept = {**gains(strip.action), region: round(value, 4)}
    info = {**info_of(strip.action), "regions": {name: one for name, one in kept.items() if one != 1}}
    strip.action[INFO] = json.dumps(info)


def factors(action: Any, keys: Any, mapping: RigMapping) -> dict[str, float]:
    """By what the curves of an emotion's Action are scaled: factors by data path, as far as a gain is not 1."""
    return {path: max(one, _LEAST) for region, one in gains(action).items() for path in _paths(keys, mapping, region)}


def _paths(keys: Any, mapping: RigMapping, region: str) -> set[str]:
    """Data paths of the shapes that take most of their motion from the coefficients of a region."""
    most: dict[str, tuple[float, str]] = {}
    for name, row in mapping.rows.items():
        for channel, weight in row.channels.items():
            most[channel] = max(most.get(channel, (0.0, "")), (abs(weight), name))
    return {followers.channel(keys, channel) for channel, (_, name) in most.items() if name in REGIONS[region]}


def _scale(curve: Any, factor: float) -> None:
    points = curve.keyframe_points
    for name in ("co", "handle_left", "handle_right"):
        values = np.empty(2 * len(points), np.float32)
        points.foreach_get(name, values)
        values[1::2] *= factor
        points.foreach_set(name, values)
    curve.update()
