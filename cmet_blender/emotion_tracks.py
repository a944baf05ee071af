"""The stack that emotions lie on: whose it is, and the track at rest below them."""

from typing import Any

import bpy
import numpy as np

from cmet_engine.errors import InvalidInput

from . import followers, rig
from .actions import Curves, write_action
from .nla import REST, curves_of, is_ours, tracks_of

SOLO = "cmet_solo"  # custom property of an owner: JSON with what counted before one layer was soloed


def owners(obj: Any) -> list[Any]:
    """Datablocks of the rig that carry curves and strips: the shape keys of the leading mesh, then the armature."""
    first, skeleton = followers.leader(obj), rig.armature(obj)
    return ([first.data.shape_keys] if first is not None else []) + ([skeleton] if skeleton is not None else [])


def carrier(obj: Any) -> Any:
    """The one of them whose NLA stack is the face's: that with emotions, else the first; None without any."""
    found = owners(obj)
    return next((owner for owner in found if tracks_of(owner)), found[0] if found else None)


def layers(obj: Any) -> list[Any]:
    """NLA tracks of the emotions of a rig, from the bottom, without the rest below them."""
    owner = carrier(obj)
    return [track for track in tracks_of(owner) if track.name != REST] if owner is not None else []


def mute(owner: Any) -> list[str]:
    """Mute the emotions of a datablock, so that its active Action alone is seen; returns the names of those that were not."""
    animation = owner.animation_data
    animation.action_blend_type, animation.action_influence = "REPLACE", 1.0
    if SOLO in owner:
        del owner[SOLO]
    shown = [track.name for track in tracks_of(owner) if not track.mute]
    for track in tracks_of(owner):
        track.is_solo = False
        track.mute = True
    return shown


def check_not_tweaked(owner: Any) -> None:
    """Raise where one of its strips is being tweaked.

    Raises:
        InvalidInput: it is.
    """
    if owner.animation_data is not None and owner.animation_data.use_tweak_mode:
        raise InvalidInput(f"'{owner.name}' is in NLA tweak mode; leave it (Tab in the NLA editor) and try again.")


def prepare(part: Curves) -> None:
    """Make the datablock ready for additive strips: its active Action adds, and a track at the bottom holds rest."""
    check_not_tweaked(part.owner)
    animation = part.owner.animation_data or part.owner.animation_data_create()
    kind = "ADD" if part.slot_type == "KEY" else "COMBINE"
    if not any(t.name == REST for t in animation.nla_tracks):
        animation.nla_tracks.new().name = REST
    next(t for t in animation.nla_tracks if t.name == REST).mute = False  # a bake mutes it
    animation.action_blend_type = kind
    animation.action_extrapolation = "HOLD"
    refresh_rest(part.owner, set(part.curves) | animated(part.owner))


def refresh_rest(owner: Any, channels: set[tuple[str, int]]) -> None:
    """See that the rest track holds these channels, whose curves are written as they should be seen.

    Blender 5.0 and 5.1 add to a shape key's default of 1, others to 0; on rest all of them add to 0.
    A channel that the animator keys by hand later is left out: Blender has measured those keys from what lies below.
    """
    animation = owner.animation_data
    rest = next((t for t in animation.nla_tracks if t.name == REST), None)
    if rest is None or owner.id_type != "KEY":
        return
    # what the user's own tracks below already hold is theirs
    theirs = {
        (curve.data_path, curve.array_index)
        for track in animation.nla_tracks
        if not is_ours(track)
        for strip in track.strips
        for curve in curves_of(strip.action, strip.action_slot)
    }
    wanted = {c for c in channels - theirs if c[0].startswith("key_blocks[")}
    if not wanted:
        return
    if rest.strips:
        curves = curves_of(rest.strips[0].action, rest.strips[0].action_slot)
        have = {(curve.data_path, curve.array_index) for curve in curves}
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


def animated(owner: Any) -> set[tuple[str, int]]:
    """Every (data path, index) that the active Action or an NLA strip of a datablock animates."""
    animation = owner.animation_data
    if animation is None:
        return set()
    found = curves_of(animation.action, animation.action_slot)
    for track in animation.nla_tracks:
        for strip in track.strips:
            found += curves_of(strip.action, strip.action_slot)
    return {(curve.data_path, curve.array_index) for curve in found}
