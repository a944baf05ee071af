"""What is done to the layers of a rig: solo, remove, reorder, keys by hand; and what is kept right behind Blender's own edits."""

import contextlib
import json
from collections.abc import Iterator
from typing import Any

import bpy

from cmet_engine.errors import InvalidInput

from . import actions, influence, nla
from .actions import INFO
from .emotion_strips import free_name, title_of
from .emotion_tracks import SOLO, carrier, check_not_tweaked, layers, owners, prepare
from .frames import scene_of
from .nla import PREFIX, REST, copy_track, info_of, tracks_of


def is_layer(track: Any) -> bool:
    """Whether an NLA track is listed: it is ours and not the rest below the others."""
    return nla.is_ours(track) and track.name != REST


def carried_by_bones(track: Any) -> bool:
    """Whether a layer lies on an armature, whose curves belong to no region."""
    return track.id_data.id_type != "KEY"


def adds_to_zero() -> bool:
    """Whether this Blender adds strips to 0 where nothing lies below; 5.0 and 5.1 add to a shape key's default of 1."""
    return bpy.types.ShapeKey.bl_rna.properties["value"].default == 0


def is_solo(owner: Any, track: Any) -> bool:
    """Whether a layer is the only one that is shown."""
    return track.is_solo or json.loads(owner.get(SOLO, "{}")).get("track") == track.name


def solo(owner: Any, track: Any, on: bool) -> None:
    """Show a layer alone, or all as before.

    By Blender's own star where that shows it over a face at rest; where it would add it to shapes of 1 (`adds_to_zero`), by
    muting the others and taking the influence of the active Action away.
    """
    animation = owner.animation_data
    if owner.id_type != "KEY" or adds_to_zero():
        track.is_solo = on
        return
    before = json.loads(owner.get(SOLO, "{}"))
    if before:
        for other in animation.nla_tracks:
            other.mute = other.name in before["muted"]
        animation.action_influence = before["influence"]
        del owner[SOLO]
    if on:
        muted = [other.name for other in animation.nla_tracks if other.mute]
        owner[SOLO] = json.dumps({"track": track.name, "muted": muted, "influence": animation.action_influence})
        for other in animation.nla_tracks:
            other.mute = other not in (track, _rest(animation))
        animation.action_influence = 0.0


def _rest(animation: Any) -> Any | None:
    return next((track for track in animation.nla_tracks if track.name == REST), None)


def shown_strip(track: Any, frame: float) -> Any | None:
    """The strip of a track that plays at a scene frame; else the first."""
    here = (strip for strip in track.strips if strip.frame_start <= frame <= strip.frame_end)
    return next(here, track.strips[0] if track.strips else None)


def tweak(obj: Any, track: Any) -> bool:
    """Open a layer's Action for keying while all that lies above it is seen, or close it; returns whether it is open now."""
    animation = carrier(obj).animation_data
    if animation.use_tweak_mode:
        animation.use_tweak_mode = False
        return False
    if not track.strips:
        raise InvalidInput(f"'{title_of(track)}' has no strip to open.")
    for other in animation.nla_tracks:
        other.select = other == track
        for strip in other.strips:
            strip.select = other == track and strip == track.strips[0]
    animation.nla_tracks.active = track
    with _nla_editor():  # Blender offers this only there; without it the performance on top would not be seen
        bpy.ops.nla.tweakmode_enter(use_upper_stack_evaluation=True)
    animation.use_tweak_mode = True  # where the editor could not see the layer
    return True


@contextlib.contextmanager
def _nla_editor() -> Iterator[None]:
    """A context of the NLA editor: an area of the window is one for a moment, not that of the panel if there are others."""
    window = bpy.context.window or bpy.context.window_manager.windows[0]
    area = next((one for one in window.screen.areas if one != bpy.context.area), bpy.context.area)
    kind, area.type = area.type, "NLA_EDITOR"
    area.spaces.active.dopesheet.show_only_selected = False
    region = next(region for region in area.regions if region.type == "WINDOW")
    try:
        with bpy.context.temp_override(window=window, area=area, region=region):
            yield
    finally:
        area.type = kind


def remove(obj: Any, track: Any) -> None:
    """Take a layer off the rig; its Action stays in the file while something uses it."""
    owner = carrier(obj)
    check_not_tweaked(owner)
    if is_solo(owner, track):
        solo(owner, track, False)
    title = title_of(track)
    markers = scene_of(obj).timeline_markers
    for marker in [
        m for m in markers if m.name == title and any(m.frame == round(s.frame_start) for s in track.strips)
    ]:
        markers.remove(marker)
    owner.animation_data.nla_tracks.remove(track)
    keep(obj)


def move(obj: Any, track: Any, up: bool) -> Any:
    """Put a layer above or below its neighbour in the stack; returns its track, which is a new one.

    Raises:
        InvalidInput: there is no layer to pass, or a meta strip is in the way.
    """
    owner, found = carrier(obj), layers(obj)
    check_not_tweaked(owner)
    place = found.index(track) + (1 if up else -1)
    if not 0 <= place < len(found):
        raise InvalidInput(f"'{title_of(track)}' is the {'top' if up else 'lowest'} layer already.")
    if nla.has_meta(owner):
        raise InvalidInput(
            "A meta strip cannot be moved to another track here; take it apart in the NLA editor (Alt+Ctrl+G)."
        )
    below, above = (track, found[place]) if up else (found[place], track)
    name = track.name
    moved = _to_above(owner.animation_data, below, above)
    keep(obj)
    return moved if up else next(t for t in layers(obj) if t.name == name)


def _to_above(animation: Any, track: Any, other: Any) -> Any:
    """Move a track directly above another: a copy takes its place, for Blender reorders tracks only in the NLA editor."""
    name, starred, strips = track.name, track.is_solo, [strip.name for strip in track.strips]
    new = copy_track(track, animation, lambda strip: strip.action_slot, after=other)
    animation.nla_tracks.remove(track)
    new.name, new.is_solo = name, starred
    for strip, called in zip(new.strips, strips, strict=True):
        strip.name = called  # free again
    return new


def add_by_hand(obj: Any, name: str = "by hand") -> Any:
    """An empty layer on top, over the scene's range, for keys of the animator's own; returns its track.

    Keys are added to what lies below. New takes and Recompute leave it as it is.
    """
    owner, scene = carrier(obj), scene_of(obj)
    if owner is None:
        raise InvalidInput(f"'{obj.name}' has no shape keys and no armature; choose a rig.")
    prepare(actions.Curves(owner, owner.id_type, owner.name))
    title = free_name(obj, name)
    action = bpy.data.actions.new(PREFIX + title)
    action.layers.new("C-MET").strips.new(type="KEYFRAME")
    slot = action.slots.new(id_type=owner.id_type, name=owner.name)
    action[INFO] = json.dumps({"layer": "hand"})
    track = owner.animation_data.nla_tracks.new()
    track.name = PREFIX + title
    strip = track.strips.new(title, scene.frame_start, action)
    strip.action_slot = slot
    span = float(scene.frame_start), float(max(scene.frame_end, scene.frame_start + 1))
    strip.use_sync_length = False
    strip.action_frame_start, strip.action_frame_end = span
    strip.frame_start_raw, strip.frame_end_raw = span
    strip.blend_type = "ADD" if owner.id_type == "KEY" else "COMBINE"
    strip.extrapolation = "HOLD"
    influence.set_influence(strip, [(span[0], 1.0), (span[1], 1.0)])
    influence.carry(owner)
    return track


def keep(obj: Any) -> None:
    """Put right what Blender's own edits of strips leave behind; without effect while strips are dragged or tweaked.

    Influence keys go with a strip that was moved or scaled; a copy that Blender put below the rest track comes above it and
    gets a name; bones follow where an emotion moves them; a starred layer is shown over a face at rest.
    """
    owner = carrier(obj)
    found = [one for one in owners(obj) if one.animation_data is not None]
    if owner is None or any(one.animation_data.use_tweak_mode or nla.has_meta(one) for one in found):
        return
    if not tracks_of(owner):
        _mirror(obj, owner)
        return
    animation = owner.animation_data
    starred = next((track for track in animation.nla_tracks if track.is_solo), None)
    if starred is not None and owner.id_type == "KEY" and not adds_to_zero():
        starred.is_solo = False
        solo(owner, starred, starred.name != json.loads(owner.get(SOLO, "{}")).get("track"))
    rest = _rest(animation)
    for track in tracks_of(owner):
        if not track.name.startswith(PREFIX):
            info = info_of(track.strips[0].action)
            track.name = PREFIX + free_name(obj, info.get("emotion") or info.get("title") or info["layer"])
    if rest is not None:
        order = list(animation.nla_tracks)
        for name in [track.name for track in order[: order.index(rest)] if nla.is_ours(track)]:
            _to_above(animation, animation.nla_tracks[name], _rest(animation))
    influence.carry(owner)
    _mirror(obj, owner)


def _mirror(obj: Any, owner: Any) -> None:
    """Give the armature the strips of the leading mesh whose emotions also move bones, where it has others."""
    for other in owners(obj):
        if other == owner:
            continue

        def slot(strip: Any, other: Any = other) -> Any | None:
            return nla.slot_of(strip.action, other) if strip.action is not None else None

        wanted = [track for track in layers(obj) if any(slot(strip) is not None for strip in track.strips)]
        mine = [track for track in tracks_of(other) if track.name != REST]
        if _state(wanted, slot) == _state(mine, slot):
            continue
        animation = other.animation_data or other.animation_data_create()
        for track in mine:
            animation.nla_tracks.remove(track)
        for track in wanted:
            new = copy_track(track, animation, slot)
            for strip in new.strips:
                strip.blend_type = "COMBINE"


def _state(tracks: list[Any], slot: Any) -> list[Any]:
    """What of tracks is to agree between datablocks: order, mute, and of each strip its place, part, mute and influence."""
    return [
        (track.name, track.mute, [_strip_state(strip) for strip in track.strips if slot(strip) is not None])
        for track in tracks
    ]


def _strip_state(strip: Any) -> tuple[Any, ...]:
    curve = influence.keyed(strip)
    points = curve.keyframe_points if curve is not None else ()
    keys = [(*p.co, *p.handle_left, *p.handle_right, p.interpolation) for p in points]
    place = (strip.frame_start_raw, strip.frame_end_raw, strip.action_frame_start, strip.action_frame_end)
    how = (strip.scale, strip.repeat, strip.mute, strip.use_reverse, 0.0 if keys else strip.influence)
    return (strip.action, *place, *how, keys)
