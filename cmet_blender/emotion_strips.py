"""Emotions as additive NLA strips over the actor's own performance.

The performance is the active Action, so its curves stay at hand in the graph editor; it is added on top of the
stack. Below it lie, from the bottom: one track that holds every used channel at rest (the value that Blender assumes
under a stack differs between versions), and one track for each emotion with its delta at strength 1. The strip's
influence is the emotion's strength: key, move, trim or mute it like any strip; the sum of all is shown.

A rig of several meshes has a strip on each; the first mesh's strip leads and `sync` carries its timing and influence
to the others.
"""

import json
import math
from typing import Any

import numpy as np
from bpy.utils import escape_identifier

from cmet_engine.errors import InvalidInput
from cmet_engine.progress import Stage
from cmet_engine.timeline import EmotionKey, EmotionTimeline
from cmet_engine.track import CoefficientTrack

from . import actions, bones, keyframes, rig
from . import mapping as mapping_module
from .actions import Curves
from .emotion_tracks import PREFIX, REST, animated, mute, owners, prepare, tracks_of
from .frames import check_range, frame_restored, frames_at, key_positions, scene_fps, scene_of
from .mapping import RigMapping


def add(
    obj: Any,
    name: str,
    delta_track: CoefficientTrack,
    start_frame: float = 1,
    *,
    strength: float = 1.0,
    mapping: RigMapping | None = None,
    markers: bool = True,
) -> Any:
    """Add an emotion to the rig as a strip of its delta at strength 1.

    Args:
        obj: an object of the rig.
        name: the emotion's name; the strip and its track carry it.
        delta_track: edited minus neutral coefficients, and head and eye rotation where they change.
        start_frame: scene frame of the delta's first frame.
        strength: the strip's influence over its whole length, as two keys to start from.
        mapping: default `mapping.match(obj)`.
        markers: set a timeline marker at the start.

    Returns:
        The leading NLA strip.

    Raises:
        CmetError: the rig may not be animated, nothing of the mapping is on it, or the delta has no frames.
    """
    rig.check_editable(obj)
    if len(delta_track) == 0:
        raise InvalidInput(f"The delta of '{name}' has no frames; nothing was added.")
    if not math.isfinite(strength):
        raise InvalidInput(f"The strength of '{name}' is {strength}; it must be a number.")
    mapping = mapping or mapping_module.match(obj)
    scene = scene_of(obj)
    positions = key_positions(delta_track.times, start_frame, scene_fps(scene))
    notes: list[str] = []

    def values(coefficients: np.ndarray, channels: list[str]) -> np.ndarray:
        return mapping.values(coefficients, channels, delta=True)

    parts = keyframes.shape_curves(obj, mapping, values, delta_track.coefficients, notes)
    parts += bones.bone_curves(obj, mapping, delta_track.coefficients, delta=True)
    parts = actions.merged(parts + bones.rotation_curves(obj, mapping, delta_track, scene, notes))
    for part in parts:  # a channel that the emotion leaves alone needs no curve
        part.curves = {k: v for k, v in part.curves.items() if np.abs(v - _rest_value(k)).max() > 1e-7}
    parts = [part for part in parts if part.curves]
    if not parts:
        raise InvalidInput(" ".join(notes) or f"'{name}' moves nothing that '{obj.name}' has.")
    action = actions.write_action(
        f"{PREFIX}{name}", parts, positions, info={"emotion": name, "notes": notes}, assign=False
    )
    title = _free_name(obj, name)
    found = [_new_strip(part, action, slot, title, positions) for part, slot in zip(parts, action.slots, strict=True)]
    for strip in found:
        strip.influence = strength
        set_influence(strip, [(positions[0], strength), (positions[-1], strength)])
    if markers and not any(m.name == title and m.frame == round(positions[0]) for m in scene.timeline_markers):
        scene.timeline_markers.new(title, frame=round(float(positions[0])))
    open_sliders(obj)
    return found[0]


def _new_strip(part: Curves, action: Any, slot: Any, title: str, positions: np.ndarray) -> Any:
    """An additive strip of an Action's slot on a track of its own, from the first to the last of `positions` [N]."""
    prepare(part)
    track = part.owner.animation_data.nla_tracks.new()
    track.name = PREFIX + title
    strip = track.strips.new(title, math.floor(positions[0]), action)
    strip.action_slot = slot
    strip.frame_start_raw = float(positions[0])
    strip.frame_end_raw = float(positions[-1])
    strip.blend_type = "ADD" if part.slot_type == "KEY" else "COMBINE"
    strip.extrapolation = "NOTHING"
    strip.use_animated_influence = True
    return strip


def delta(edited: CoefficientTrack, source: CoefficientTrack) -> CoefficientTrack:
    """Edited minus source, for `add`.

    Raises:
        CmetError: the tracks differ in length or rate.
    """
    if len(edited) != len(source) or edited.fps != source.fps:
        raise InvalidInput(
            f"The tracks do not belong together: {len(edited)} frames at {float(edited.fps):g} and {len(source)} at {float(source.fps):g}."
        )
    return CoefficientTrack(
        edited.fps,
        edited.coefficients - source.coefficients,
        edited.head_rotation - source.head_rotation,
        edited.eye_rotation - source.eye_rotation,
        edited.valid & source.valid,
        dict(source.meta),
    )


def set_influence(strip: Any, keys: list[tuple[float, float]]) -> None:
    """Replace the strength curve of a strip by keys (scene frame, strength), straight between them."""
    strip.use_animated_influence = True
    curve = strip.fcurves.find("influence")
    points = curve.keyframe_points
    while len(points):
        points.remove(points[0])
    points.add(len(keys))
    points.foreach_set("co", [v for key in keys for v in key])
    points.foreach_set("interpolation", [actions.LINEAR] * len(keys))
    curve.update()


def _rest_value(channel: tuple[str, int]) -> float:
    """Value of a channel at rest: the first of a quaternion is 1, everything else 0."""
    path, index = channel
    return 1.0 if path.endswith("rotation_quaternion") and index == 0 else 0.0


def _free_name(obj: Any, name: str) -> str:
    taken = {track.name for owner in owners(obj) for track in tracks_of(owner)}
    number, title = 1, name
    while PREFIX + title in taken:
        number += 1
        title = f"{name} {number}"
    return title


def strips(obj: Any) -> dict[str, list[Any]]:
    """NLA strips of every emotion of the rig by title, the leading one first."""
    table: dict[str, list[Any]] = {}
    for owner in owners(obj):
        for track in tracks_of(owner):
            if track.name != REST:
                table.setdefault(track.name[len(PREFIX) :], []).extend(track.strips)
    return {title: found for title, found in table.items() if found}


def sync(obj: Any) -> None:
    """Carry timing, muting and influence of each leading strip to the strips of the other meshes."""
    muted = {t.name: t.mute for owner in owners(obj)[:1] for t in tracks_of(owner)}
    for owner in owners(obj)[1:]:
        for track in tracks_of(owner):
            if track.name in muted and track.mute != muted[track.name]:
                track.mute = muted[track.name]
    for found in strips(obj).values():
        leader = found[0]
        wanted = _state(leader)
        for follower in found[1:]:
            if _state(follower) == wanted:
                continue
            # the setters of the action's part move the end, so the place on the timeline comes last
            for value in (
                "action_frame_start",
                "action_frame_end",
                "scale",
                "repeat",
                "frame_end_raw",
                "frame_start_raw",
                "frame_end_raw",
                "mute",
            ):
                setattr(follower, value, getattr(leader, value))
            curve = leader.fcurves.find("influence")
            if curve is not None:
                set_influence(follower, [tuple(p.co) for p in curve.keyframe_points])
                target = follower.fcurves.find("influence").keyframe_points
                for source, point in zip(curve.keyframe_points, target, strict=True):
                    point.interpolation = source.interpolation
                    point.handle_left_type, point.handle_right_type = source.handle_left_type, source.handle_right_type
                    point.handle_left, point.handle_right = source.handle_left, source.handle_right


def _state(strip: Any) -> tuple[Any, ...]:
    curve = strip.fcurves.find("influence")
    keys = (
        tuple(
            (tuple(p.co), p.interpolation, tuple(p.handle_left), tuple(p.handle_right)) for p in curve.keyframe_points
        )
        if curve
        else ()
    )
    return (
        strip.frame_start_raw,
        strip.frame_end_raw,
        strip.action_frame_start,
        strip.action_frame_end,
        strip.mute,
        keys,
    )


def open_sliders(obj: Any) -> None:
    """Open the sliders of all shapes that strips add to, so that a sum is not cut at 0 or 1."""
    for mesh in rig.meshes(obj):
        keys = mesh.data.shape_keys
        paths = {path for path, _ in animated(keys)}
        for block in keys.key_blocks:
            if f'key_blocks["{escape_identifier(block.name)}"].value' in paths:
                actions.widen(keys, block.name, -1.0, 2.0)


def bake(obj: Any, frame_range: tuple[int, int] | None = None, *, name: str | None = None, progress: Any = None) -> Any:
    """Fold the performance and all emotions into one new Action, at whole scene frames.

    The emotion tracks are muted, not removed, and the performance's Action is kept in the file.

    Args:
        obj: an object of the rig.
        frame_range: first and last scene frame; default the scene's.
        name: of the new Action.
        progress: `(stage, done, total)`; raising cancels and leaves everything as it was.

    Raises:
        CmetError: nothing is animated, or the range is empty.
    """
    rig.check_editable(obj)
    sync(obj)
    scene = scene_of(obj)
    first, last = frame_range or (scene.frame_start, scene.frame_end)
    check_range(first, last)
    sources = [(owner, sorted(animated(owner))) for owner in owners(obj)]
    sources = [(owner, channels) for owner, channels in sources if channels]
    if not sources:
        raise InvalidInput(f"Nothing on '{obj.name}' is animated; apply a track first.")
    positions = np.arange(first, last + 1, dtype=np.float32)
    values = {owner: np.zeros((len(channels), len(positions)), np.float32) for owner, channels in sources}
    with frame_restored(scene):
        for i, graph in enumerate(frames_at(scene, positions)):
            for owner, channels in sources:
                evaluated = owner.evaluated_get(graph)
                for k, (path, index) in enumerate(channels):
                    values[owner][k, i] = _resolve(evaluated, path, index)
            if progress:
                progress(Stage.BAKE, i + 1, len(positions))
    parts = []
    for owner, channels in sources:
        curves = {channel: values[owner][k] for k, channel in enumerate(channels)}
        parts.append(Curves(owner, owner.id_type, owner.name, curves))
    action = actions.write_action(
        name or f"{obj.name} baked", parts, positions, info={"baked": True, "frames": len(positions)}
    )
    for owner, _ in sources:
        mute(owner)
    return action


def _resolve(owner: Any, path: str, index: int) -> float:
    try:
        value = owner.path_resolve(path)
    except ValueError:  # a channel of a shape or bone that is gone
        return 0.0
    return value[index] if hasattr(value, "__len__") else value


def timeline(obj: Any, start_frame: float = 1) -> EmotionTimeline:
    """The emotions on the rig as keys of the engine's timeline, seconds from `start_frame`.

    A strip becomes one key: its span where the influence is not 0, its largest influence, its ramps at both ends.
    """
    sync(obj)
    rate = float(scene_fps(scene_of(obj)))
    muted = {t.name for owner in owners(obj)[:1] for t in tracks_of(owner) if t.mute}
    leaders = {title: found[0] for title, found in strips(obj).items()}
    keys = [
        _key_of(strip, title, start_frame, rate)
        for title, strip in leaders.items()
        if not strip.mute and PREFIX + title not in muted
    ]
    return EmotionTimeline([key for key in keys if key is not None])


def _key_of(strip: Any, title: str, start_frame: float, rate: float) -> EmotionKey | None:
    """The key of one strip; None where its influence is 0 all along."""
    emotion = json.loads(strip.action.get(actions.INFO, "{}")).get("emotion", title) if strip.action else title
    first, last = strip.frame_start_raw, strip.frame_end_raw
    frames = np.linspace(first, last, max(2, math.ceil(last - first) + 1))
    curve = strip.fcurves.find("influence") if strip.use_animated_influence else None
    if curve is not None and len(curve.keyframe_points):
        level = np.array([curve.evaluate(frame) for frame in frames])
    else:
        level = np.full(len(frames), strip.influence)
    if np.abs(level).max() < 1e-6:
        return None
    peak = float(level[np.abs(level).argmax()])
    on = np.flatnonzero(np.abs(level) > 1e-6)
    full = np.flatnonzero(np.abs(level) > 0.99 * abs(peak))
    start, end = (frames[max(on[0] - 1, 0)] - start_frame) / rate, (frames[on[-1]] + 1 - start_frame) / rate
    ease_in = max(0.0, (frames[full[0]] - start_frame) / rate - start)
    ease_out = max(0.0, end - (frames[full[-1]] + 1 - start_frame) / rate)
    return EmotionKey(emotion, round(peak, 4), max(0.0, start), end, ease_in, ease_out, "linear")
