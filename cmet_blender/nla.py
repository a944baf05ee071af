"""Tracks and strips of Blender's NLA: which are ours, what they move, and copies of them."""

import contextlib
import json
import math
from collections.abc import Callable
from typing import Any

from .actions import INFO

PREFIX = "C-MET: "
REST = PREFIX + "rest"

_LAYER = {"emotion", "layer"}  # what an Action of a layer says about itself, one of them

_TIMING = (  # the setters of the action's part move the end, so the place on the timeline comes last
    "action_frame_start", "action_frame_end", "scale", "repeat", "frame_end_raw", "frame_start_raw", "frame_end_raw",
)  # fmt: skip
_HOW = (
    "blend_type", "extrapolation", "use_auto_blend", "blend_in", "blend_out", "use_reverse", "mute", "select",
    "use_animated_influence", "use_animated_time", "use_animated_time_cyclic", "influence", "strip_time",
)  # fmt: skip


def info_of(action: Any) -> dict[str, Any]:
    """What an Action of ours says about itself; empty for others."""
    return json.loads(action.get(INFO, "{}")) if action is not None else {}


def is_ours(track: Any) -> bool:
    """Whether an NLA track holds a layer of ours: by its name, or, where Blender made the track for a copy, by its strips."""
    return track.name.startswith(PREFIX) or (
        len(track.strips) > 0 and all(_LAYER & info_of(strip.action).keys() for strip in track.strips)
    )


def tracks_of(owner: Any) -> list[Any]:
    """NLA tracks of a datablock that hold emotions or the rest below them, from the bottom."""
    return [track for track in owner.animation_data.nla_tracks if is_ours(track)] if owner.animation_data else []


def has_meta(owner: Any) -> bool:
    """Whether some strips are held in a meta strip, as Blender does while they are dragged."""
    return any(strip.type == "META" for track in owner.animation_data.nla_tracks for strip in track.strips)


def curves_of(action: Any, slot: Any) -> list[Any]:
    """Curves that an Action has for a slot."""
    if action is None or slot is None:
        return []
    bags = (strip.channelbag(slot) for layer in action.layers for strip in layer.strips)
    return [curve for bag in bags if bag is not None for curve in bag.fcurves]


def slot_of(action: Any, owner: Any) -> Any | None:
    """The slot of an Action that is meant for a datablock."""
    slots = [slot for slot in action.slots if slot.target_id_type == owner.id_type]
    return next((slot for slot in slots if slot.name_display == owner.name), None)


def slot_made(action: Any, owner: Any) -> tuple[Any, Any]:
    """The channelbag and the slot of an Action that a datablock uses; made where it has none."""
    animation = owner.animation_data
    used = [(animation.action, animation.action_slot)]
    used += [(strip.action, strip.action_slot) for track in animation.nla_tracks for strip in track.strips]
    slot = next((slot for one, slot in used if one == action), None) or slot_of(action, owner)
    slot = slot or action.slots.new(id_type=owner.id_type, name=owner.name)
    return action.layers[0].strips[0].channelbag(slot, ensure=True), slot


def copy_curve(source: Any, target: Any) -> None:
    """Make a curve like another: keys, handles, modifiers."""
    points = target.keyframe_points
    while len(points):
        points.remove(points[0], fast=True)
    points.add(len(source.keyframe_points))
    for old, new in zip(source.keyframe_points, points, strict=True):
        new.co, new.interpolation, new.easing = old.co, old.interpolation, old.easing
        new.handle_left_type, new.handle_right_type = old.handle_left_type, old.handle_right_type
        new.handle_left, new.handle_right = old.handle_left, old.handle_right
    target.extrapolation = source.extrapolation
    for old in source.modifiers:
        new = target.modifiers.new(old.type)
        for entry in old.bl_rna.properties:
            if not entry.is_readonly and entry.identifier != "active":
                with contextlib.suppress(AttributeError, TypeError, ValueError):
                    setattr(new, entry.identifier, getattr(old, entry.identifier))
    target.update()


def copy_strip(strip: Any, track: Any, slot: Any) -> Any:
    """Copy a strip onto a track that is free from its start on, playing `slot` of its Action."""
    new = track.strips.new(strip.name, math.ceil(strip.frame_start), strip.action)
    new.name = strip.name
    new.action_slot = slot
    for name in (*_TIMING, *_HOW):
        with contextlib.suppress(AttributeError):  # the time of a strip can be set only where it is animated
            if getattr(new, name) != getattr(strip, name):
                setattr(new, name, getattr(strip, name))
    for curve in strip.fcurves:
        target = new.fcurves.find(curve.data_path)
        if target is not None:
            copy_curve(curve, target)
    return new


def copy_track(
    track: Any, animation: Any, slot: Callable[[Any], Any | None], after: Any | None = None, name: str | None = None
) -> Any:
    """Copy a track into the stack of a datablock: behind another or on top, each strip with the slot that `slot` gives for it."""
    new = animation.nla_tracks.new(prev=after)
    new.name, new.mute = name or track.name, track.mute
    for strip in track.strips:
        if slot(strip) is not None:
            copy_strip(strip, new, slot(strip))
    return new
