"""The NLA tracks that emotions lie on, and the track at rest below them."""

from collections.abc import Iterator
from typing import Any

import bpy
import numpy as np

from cmet_engine.errors import InvalidInput

from . import rig
from .actions import Curves, write_action

PREFIX = "C-MET: "
REST = PREFIX + "rest"


def owners(obj: Any) -> list[Any]:
    """Datablocks of the rig that may carry emotion strips: shape keys of every mesh, the armature; the leader first."""
    found = [mesh.data.shape_keys for mesh in rig.meshes(obj)]
    skeleton = rig.armature(obj)
    return list(dict.fromkeys(found + ([skeleton] if skeleton is not None else [])))


def tracks_of(owner: Any) -> list[Any]:
    """NLA tracks of a datablock that hold emotions or the rest below them."""
    if owner.animation_data is None:
        return []
    return [track for track in owner.animation_data.nla_tracks if track.name.startswith(PREFIX)]


def mute(owner: Any) -> None:
    """Mute the emotions of a datablock, so that its active Action alone is seen."""
    owner.animation_data.action_blend_type = "REPLACE"
    for track in tracks_of(owner):
        track.mute = True


def prepare(part: Curves) -> None:
    """Make the datablock ready for additive strips: its active Action adds, and a track at the bottom holds rest."""
    animation = part.owner.animation_data or part.owner.animation_data_create()
    if animation.use_tweak_mode:
        raise InvalidInput(f"'{part.owner.name}' is in NLA tweak mode; leave it (Tab in the NLA editor) and try again.")
    kind = "ADD" if part.slot_type == "KEY" else "COMBINE"
    if not any(t.name == REST for t in animation.nla_tracks):
        animation.nla_tracks.new().name = REST
    next(t for t in animation.nla_tracks if t.name == REST).mute = False  # a bake mutes it
    animation.action_blend_type = kind
    animation.action_extrapolation = "HOLD"
    refresh_rest(part.owner, set(part.curves) | animated(part.owner))


def refresh_rest(owner: Any, channels: set[tuple[str, int]]) -> None:
    """See that the rest track holds these channels, whose curves are written as they should be seen.

    A channel that the animator keys by hand later is left out: Blender has measured those keys from what lies below.
    """
    animation = owner.animation_data
    rest = next((t for t in animation.nla_tracks if t.name == REST), None)
    if rest is None or owner.id_type != "KEY":
        return
    # what the user's own tracks below already hold is theirs
    theirs = {
        channel
        for track in animation.nla_tracks
        if not track.name.startswith(PREFIX)
        for strip in track.strips
        for channel in _channels(strip.action, strip.action_slot)
    }
    wanted = {c for c in channels - theirs if c[0].startswith("key_blocks[")}
    if not wanted:
        return
    if rest.strips:
        have = set(_channels(rest.strips[0].action, rest.strips[0].action_slot))
        if wanted <= have:
            return
        old = rest.strips[0].action
        rest.strips.remove(rest.strips[0])
        if old.users == 0 or (old.users == 1 and old.use_fake_user):
            bpy.data.actions.remove(old)
        wanted |= have
    part = Curves(owner, "KEY", owner.name, {c: np.zeros(1, np.float32) for c in sorted(wanted)})
    action = write_action(f"{REST} {owner.name}", [part], np.array([0.0], np.float32), assign=False)
    strip = rest.strips.new("rest", 0, action)
    strip.action_slot = action.slots[0]
    strip.blend_type = "REPLACE"
    strip.extrapolation = "HOLD"


def _channels(action: Any, slot: Any) -> Iterator[tuple[str, int]]:
    if action is None or slot is None:
        return
    for layer in action.layers:
        for strip in layer.strips:
            bag = strip.channelbag(slot)
            if bag is not None:
                for curve in bag.fcurves:
                    yield curve.data_path, curve.array_index


def animated(owner: Any) -> set[tuple[str, int]]:
    """Every (data path, index) that the active Action or an NLA strip of a datablock animates."""
    animation = owner.animation_data
    if animation is None:
        return set()
    found = set(_channels(animation.action, animation.action_slot))
    for track in animation.nla_tracks:
        for strip in track.strips:
            found |= set(_channels(strip.action, strip.action_slot))
    return found
