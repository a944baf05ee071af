"""The mode of the emotions that are on a rig, changed at once: each keeps what replacing the actor's expression moves beyond adding.

That difference is added to the curves of the emotion's Action, or taken away again, so that keys made by hand in it stay.
"""

import json
from typing import Any

import numpy as np

from cmet_engine.emotions import LIKE
from cmet_engine.track import CoefficientTrack

from . import actions, emotion_strips, gains, nla
from .actions import INFO, Curves
from .emotion_tracks import animated, check_not_tweaked, layers, owners, refresh_rest
from .frames import key_positions, scene_fps, scene_of
from .mapping import RigMapping

MODE = "mode"  # what an Action of a layer says about itself: add or replace
DIFFERENCE = "cmet_replace"  # custom property of such an Action: the Action with what `replace` moves beyond `add`


def emotions(obj: Any) -> list[Any]:
    """Actions of the rig's layers that the engine can compute in either mode, from the lowest layer up."""
    found = dict.fromkeys(strip.action for track in layers(obj) for strip in track.strips)
    return [action for action in found if question(action)]


def question(action: Any) -> dict[str, Any]:
    """What the engine is asked for the emotion of an Action; empty where it came from elsewhere."""
    info = nla.info_of(action)
    if "emotion" in info:
        return {"emotions": [info["emotion"]]}
    if info.get("layer") == emotion_strips.EXACT and "keys" in info:
        return {"keys": info["keys"]}
    return {"emotions": [LIKE], "like": info["like"]} if "like" in info else {}


def others(obj: Any, mode: str) -> list[Any]:
    """Those of `emotions` that are in another mode."""
    return [action for action in emotions(obj) if nla.info_of(action).get(MODE, mode) != mode]


def follow(obj: Any, mapping: RigMapping, mode: str) -> None:
    """Bring the emotions that keep their difference to a mode.

    Raises:
        InvalidInput: a strip of the rig is being tweaked.
    """
    wanted = [action for action in others(obj, mode) if action.get(DIFFERENCE) is not None]
    if not wanted:
        return
    for owner in owners(obj):
        check_not_tweaked(owner)
    for action in wanted:
        _shift(obj, action, mapping, 1.0 if mode == "replace" else -1.0)
        action[INFO] = json.dumps({**nla.info_of(action), MODE: mode})
    for owner in owners(obj):
        if owner.animation_data is not None:
            refresh_rest(owner, animated(owner))
    emotion_strips.open_sliders(obj)


def keep(
    obj: Any, action: Any, add: CoefficientTrack, replace: CoefficientTrack, start_frame: float, mapping: RigMapping
) -> None:
    """Keep with the Action of an emotion the difference between the two modes.

    Args:
        obj: an object of the rig.
        action: of the emotion.
        add, replace: what the emotion adds to the actor's curves in either mode, of the same times.
        start_frame: scene frame of their first frame.
        mapping: of the rig.
    """
    tables = [_by_owner(emotion_strips.curves(obj, mapping, track, scene_of(obj), [])) for track in (add, replace)]
    parts = []
    for owner in {**tables[0], **tables[1]}:
        here, there = (table.get(owner, {}) for table in tables)
        difference = {
            c: there.get(c, emotion_strips.rest_value(c)) - here.get(c, emotion_strips.rest_value(c))
            for c in {**here, **there}
        }
        moving = {channel: np.asarray(values) for channel, values in difference.items() if np.abs(values).max() > 1e-7}
        parts.append(Curves(owner, owner.id_type, owner.name, moving))
    positions = key_positions(add.times, start_frame, scene_fps(scene_of(obj)))
    kept = actions.write_action(f"{action.name} replace", parts, positions, assign=False)
    kept.use_fake_user = False  # the Action of the emotion uses it
    action[DIFFERENCE] = kept


def _by_owner(parts: list[Curves]) -> dict[Any, dict[tuple[str, int], np.ndarray]]:
    return {part.owner: part.curves for part in parts}


def _shift(obj: Any, action: Any, mapping: RigMapping, sign: float) -> None:
    """Add the difference that an Action keeps to its curves, by the gains of their regions, or take it away."""
    difference = action[DIFFERENCE]
    for owner in owners(obj):
        slot = next((slot for slot in difference.slots if slot.target_id_type == owner.id_type), None)
        kept = nla.curves_of(difference, slot)
        if not kept:
            continue
        curves = nla.slot_made(action, owner)[0].fcurves
        factors = gains.factors(action, owner, mapping) if owner.id_type == "KEY" else {}
        for change in kept:
            points = _points(change)
            curve = curves.find(change.data_path, index=change.array_index)
            if curve is None:
                curve = _at_rest(curves, change, points[:, 0])
            _raise(curve, points, sign * factors.get(change.data_path, 1.0))


def _points(curve: Any) -> np.ndarray:
    points = np.empty(2 * len(curve.keyframe_points), np.float32)
    curve.keyframe_points.foreach_get("co", points)
    return points.reshape(-1, 2)


def _at_rest(curves: Any, change: Any, frames: np.ndarray) -> Any:
    """A new curve at rest with keys at these frames."""
    curve = curves.new(change.data_path, index=change.array_index)
    curve.keyframe_points.add(len(frames))
    rest = emotion_strips.rest_value((change.data_path, change.array_index))
    curve.keyframe_points.foreach_set("co", np.stack([frames, np.full_like(frames, rest)], 1).ravel())
    curve.keyframe_points.foreach_set("interpolation", np.full(len(frames), actions.LINEAR, np.int32))
    curve.update()
    return curve


def _raise(curve: Any, change: np.ndarray, factor: float) -> None:
    """Add `change` [N, 2] (frame, value) times a factor to the keys of a curve, with their handles."""
    moved = np.interp(_points(curve)[:, 0], change[:, 0], change[:, 1]) * factor
    for name in ("co", "handle_left", "handle_right"):
        values = np.empty(2 * len(moved), np.float32)
        curve.keyframe_points.foreach_get(name, values)
        values[1::2] += moved
        curve.keyframe_points.foreach_set(name, values)
    curve.update()
