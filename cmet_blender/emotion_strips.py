"""Emotions as additive NLA strips over the actor's own performance.

The performance is the active Action, so its curves stay at hand in the graph editor; it is added on top of the
stack. Below it lie, from the bottom: one track that holds every used channel at rest (see `emotion_tracks.refresh_rest`),
and one track for each emotion with its delta at strength 1. The strip's influence is the emotion's strength: key, move,
trim, split, copy or mute it like any strip; the sum of all is shown.

All lie on the shape keys of the leading mesh, which the other meshes follow by drivers (`followers`). Where an emotion
also moves bones, the armature has strips too, which `layers.keep` holds to the leader's.
"""

import json
import math
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import bpy
import numpy as np

from cmet_engine.errors import InvalidInput
from cmet_engine.progress import Stage
from cmet_engine.timeline import EmotionKey, EmotionTimeline
from cmet_engine.track import CoefficientTrack

from . import actions, bones, followers, keyframes, nla, rig
from . import mapping as mapping_module
from .actions import Curves
from .emotion_tracks import animated, carrier, check_not_tweaked, layers, mute, owners, prepare
from .frames import check_range, frame_restored, frames_at, key_positions, scene_fps, scene_of
from .influence import carry, keyed, set_influence
from .mapping import RigMapping
from .nla import PREFIX, info_of, tracks_of

EXACT = "exact"
MODE = "edit_mode"  # meta key of an edited track: add or replace
RAMP_ERROR = 0.01  # of the strength, by which keys may miss the influence of a strip


def add(
    obj: Any,
    name: str,
    delta_track: CoefficientTrack,
    start_frame: float = 1,
    *,
    strength: float = 1.0,
    mapping: RigMapping | None = None,
    markers: bool = True,
    part: tuple[float, float] | None = None,
    fade: float = 0.0,
    influence: list[tuple[float, float]] | None = None,
    info: dict[str, Any] | None = None,
) -> Any:
    """Add an emotion to the rig as a strip of its delta at strength 1; returns the leading NLA strip.

    Args:
        obj: an object of the rig.
        name: the emotion's name; the strip and its track carry it.
        delta_track: edited minus neutral coefficients, and head and eye rotation where they change.
        start_frame: scene frame of the delta's first frame.
        strength: the strip's influence over its whole length, as keys to start from.
        mapping: default `mapping.match(obj)`.
        markers: set a timeline marker at the start.
        part: scene frames between which the strip lies, as far as the delta reaches; default the whole delta.
        fade: frames in which the influence rises and falls at ends that are not the delta's own.
        influence: keys (scene frame, strength) in place of `strength` and `fade`.
        info: what the strip's Action says about itself; default the emotion's name.

    Raises:
        CmetError: the rig may not be animated, nothing of the mapping is on it, or the delta has no frames there.
    """
    rig.check_editable(obj)
    if len(delta_track) == 0:
        raise InvalidInput(f"The delta of '{name}' has no frames; nothing was added.")
    if not math.isfinite(strength):
        raise InvalidInput(f"The strength of '{name}' is {strength}; it must be a number.")
    mapping = mapping or mapping_module.match(obj)
    scene, notes = scene_of(obj), list[str]()
    positions = key_positions(delta_track.times, start_frame, scene_fps(scene))
    whole = float(positions[0]), float(positions[-1])
    first, last = _within(part, whole, name)
    parts = curves(obj, mapping, delta_track, scene, notes)
    if not parts:
        raise InvalidInput(" ".join(notes) or f"'{name}' moves nothing that '{obj.name}' has.")
    mode = {"mode": delta_track.meta[MODE]} if MODE in delta_track.meta else {}
    info = {**(info or {"emotion": name}), **mode, "notes": notes}
    action = actions.write_action(f"{PREFIX}{name}", parts, positions, info=info, assign=False)
    title = free_name(obj, name)
    found = [_new_strip(one, action, slot, title, (first, last)) for one, slot in zip(parts, action.slots, strict=True)]
    for strip in found:
        strip.influence = strength
        set_influence(strip, influence or _ramps((first, last), whole, strength, fade))
        carry(strip.id_data)
    if markers and not any(m.name == title and m.frame == round(first) for m in scene.timeline_markers):
        scene.timeline_markers.new(title, frame=round(first))
    open_sliders(obj)
    return found[0]


def add_heard(
    obj: Any,
    timeline: EmotionTimeline,
    delta_track: CoefficientTrack,
    start_frame: float = 1,
    *,
    mapping: RigMapping | None = None,
) -> Any:
    """Add an emotion that comes and goes as a strip, its influence keyed where the strength turns.

    Args:
        obj, delta_track, start_frame, mapping: see `add`.
        timeline: keys of the one emotion; where they overlap they add.

    Returns:
        The leading NLA strip.

    Raises:
        CmetError: see `add`.
    """
    (name,) = timeline.names()
    rate = float(scene_fps(scene_of(obj)))
    frames = start_frame + np.arange(max(2, math.ceil(delta_track.duration * rate)))
    level = timeline.weights((frames - start_frame) / rate, delta_track.duration)[name].astype(np.float64)
    corners = actions.simplified(frames, level, RAMP_ERROR)
    keys = [(float(frames[n]), float(level[n])) for n in corners]
    return add(obj, name, delta_track, start_frame, strength=float(level.max()), mapping=mapping, influence=keys)


def influence_of(key: EmotionKey, duration: float, start_frame: float, rate: float) -> list[tuple[float, float]]:
    """Keys (scene frame, strength) of a strip for one key of a timeline.

    Args:
        key: its times count from `start_frame`.
        duration: seconds of the performance.
        rate: frames a second of the scene.
    """
    end = duration if key.end is None else min(duration, key.end)
    frames = np.arange(math.floor(start_frame + key.start * rate), math.ceil(start_frame + end * rate) + 1)
    level = key.envelope((frames - start_frame) / rate, duration).astype(np.float64)
    return [(float(frames[n]), float(level[n])) for n in actions.simplified(frames, level, RAMP_ERROR)]


def _within(part: tuple[float, float] | None, whole: tuple[float, float], name: str) -> tuple[float, float]:
    """The scene frames of `part` that a delta over the frames `whole` reaches.

    Raises:
        InvalidInput: there are none.
    """
    first, last = (max(part[0], whole[0]), min(part[1], whole[1])) if part else whole
    if part and first >= last:
        raise InvalidInput(
            f"'{name}' covers the frames {whole[0]:g} to {whole[1]:g}, none of them from {part[0]:g} to {part[1]:g}; move the current frame or the range."
        )
    return first, last


def curves(obj: Any, mapping: RigMapping, track: CoefficientTrack, scene: Any, notes: list[str]) -> list[Curves]:
    """What a delta moves, by datablock; a channel that it leaves alone needs no curve."""

    def values(coefficients: np.ndarray, channels: list[str]) -> np.ndarray:
        return mapping.values(coefficients, channels, delta=True)

    parts = keyframes.shape_curves(obj, mapping, values, track.coefficients, notes)
    parts += bones.bone_curves(obj, mapping, track.coefficients, delta=True)
    parts = actions.merged(parts + bones.rotation_curves(obj, mapping, track, scene, notes))
    for part in parts:
        part.curves = {k: v for k, v in part.curves.items() if np.abs(v - rest_value(k)).max() > 1e-7}
    return [part for part in parts if part.curves]


def _ramps(
    span: tuple[float, float], whole: tuple[float, float], strength: float, fade: float
) -> list[tuple[float, float]]:
    """Keys (scene frame, strength) of a strip over `span`: faded where it ends before the `whole` of its emotion does."""
    (first, last), half = span, (span[1] - span[0]) / 2
    rise, fall = (min(fade, half) if apart > 0.5 else 0.0 for apart in (first - whole[0], whole[1] - last))
    keys = ([(first, 0.0)] if rise else []) + [(first + rise, strength)]
    return keys + ([(last - fall, strength)] if last - fall > first + rise else []) + ([(last, 0.0)] if fall else [])


def _new_strip(part: Curves, action: Any, slot: Any, title: str, span: tuple[float, float]) -> Any:
    """An additive strip of an Action's slot on a track of its own, playing what the Action has over `span`."""
    prepare(part)
    track = part.owner.animation_data.nla_tracks.new()
    track.name = PREFIX + title
    strip = track.strips.new(title, math.floor(span[0]), action)
    strip.action_slot = slot
    strip.action_frame_start, strip.action_frame_end = span
    strip.frame_start_raw, strip.frame_end_raw = span
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
        {**source.meta, **{key: value for key, value in edited.meta.items() if key == MODE}},
    )


def rest_value(channel: tuple[str, int]) -> float:
    """Value of a channel at rest: the first of a quaternion is 1, everything else 0."""
    path, index = channel
    return 1.0 if path.endswith("rotation_quaternion") and index == 0 else 0.0


def free_name(obj: Any, name: str) -> str:
    """The name, with a number where a layer of the rig has it already."""
    taken = {track.name for owner in owners(obj) for track in tracks_of(owner)}
    number, title = 1, name
    while PREFIX + title in taken:
        number += 1
        title = f"{name} {number}"
    return title


def title_of(track: Any) -> str:
    """What a layer is called."""
    return track.name.removeprefix(PREFIX)


def strips(obj: Any) -> dict[str, list[Any]]:
    """NLA strips of every layer of the rig by its title."""
    return {title_of(track): list(track.strips) for track in layers(obj) if track.strips}


def open_sliders(obj: Any) -> None:
    """Open the leading mesh's sliders of all shapes that strips add to, so that a sum is not cut at 0 or 1."""
    first = followers.leader(obj)
    keys: Any = first.data.shape_keys if first is not None else None
    paths = {path for path, _ in animated(keys)} if keys is not None else set()
    for block in keys.key_blocks if paths else ():
        if followers.shape_path(block.name) in paths:
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
    for owner in owners(obj):
        check_not_tweaked(owner)
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
    before = {owner: owner.animation_data.action for owner, _ in sources}
    action = actions.write_action(name or f"{obj.name} baked", parts, positions, assign=True)
    kept = [{"from": one.name if one else None, "layers": mute(owner)} for owner, one in before.items()]
    action[actions.INFO] = json.dumps({"baked": True, "frames": len(positions), "kept": kept})
    return action


def baked(obj: Any) -> Any | None:
    """The Action that the rig plays instead of its layers since a bake; None where it plays those."""
    owner = carrier(obj)
    action = owner.animation_data.action if owner is not None and owner.animation_data else None
    return action if info_of(action).get("baked") and not any(not track.mute for track in layers(obj)) else None


def unbake(obj: Any) -> Any | None:
    """Play performance and layers as they were before the bake, which stays in the file; returns the performance's Action.

    Raises:
        InvalidInput: nothing is baked.
    """
    action = baked(obj)
    if action is None:
        raise InvalidInput(f"'{obj.name}' does not play a baked action; its layers count as they are.")
    owners_of = [owner for owner in owners(obj) if owner.animation_data and owner.animation_data.action == action]
    for owner, kept in zip(owners_of, info_of(action).get("kept", []), strict=False):
        animation = owner.animation_data
        performance = bpy.data.actions.get(kept["from"] or "")
        slot = nla.slot_of(performance, owner) if performance is not None else None
        animation.action = performance if slot is not None else None
        if slot is not None:
            animation.action_slot = slot
        animation.action_blend_type = "ADD" if owner.id_type == "KEY" else "COMBINE"
        for track in tracks_of(owner):
            track.mute = track.name not in kept["layers"]
    return carrier(obj).animation_data.action


def _resolve(owner: Any, path: str, index: int) -> float:
    try:
        value = owner.path_resolve(path)
    except ValueError:  # a channel of a shape or bone that is gone
        return 0.0
    return value[index] if hasattr(value, "__len__") else value


def exact_of(obj: Any) -> tuple[Any | None, list[str]]:
    """The layer that stands for others since a Recompute, and the names of the tracks that it stands for."""
    for track in layers(obj):
        info = info_of(track.strips[0].action) if track.strips else {}
        if info.get("layer") == EXACT and not track.mute:
            return track, list(info["of"])
    return None, []


def add_exact(
    obj: Any,
    delta_track: CoefficientTrack,
    of: list[str],
    start_frame: float,
    mapping: RigMapping,
    keys: list[dict[str, Any]] | None = None,
) -> Any:
    """Add the exact result of the tracks `of` together as one layer, and switch them off; an earlier one makes way.

    The performance below stays as it is, with everything that was keyed by hand. `keys` is the timeline that gave the result,
    which the layer needs to be brought to another mode.

    Returns:
        The strip.
    """
    owner, earlier = carrier(obj), exact_of(obj)[0]
    check_not_tweaked(owner)
    if earlier is not None:
        owner.animation_data.nla_tracks.remove(earlier)
    info = {"layer": EXACT, "of": of, **({"keys": keys} if keys else {})}
    strip = add(obj, EXACT, delta_track, start_frame, mapping=mapping, markers=False, info=info)
    for track in layers(obj):
        if track.name in of:
            track.mute = True
    return strip


def emotions(obj: Any) -> list[Any]:
    """The tracks that Recompute takes together: emotions of the engine that are on, or stood for by its last result."""
    _, stood_for = exact_of(obj)
    shown = [track for track in layers(obj) if not track.mute or track.name in stood_for]
    return [track for track in shown if any("emotion" in info_of(strip.action) for strip in track.strips)]


def not_kept(obj: Any) -> list[str]:
    """What of the strips a Recompute cannot keep, in sentences: it computes emotions where they are on the timeline, and adds them."""
    notes = []
    for track in emotions(obj):
        for strip in (strip for strip in track.strips if "emotion" in info_of(strip.action)):
            moved = abs(strip.frame_start_raw - strip.action_frame_start) > 0.01
            if moved or abs(strip.scale - 1) > 1e-4 or strip.repeat != 1 or strip.use_reverse:
                notes.append(f"'{strip.name}' was moved or stretched: its motion is computed anew for where it is now.")
            if strip.blend_type not in ("ADD", "COMBINE"):
                notes.append(f"'{strip.name}' blends by {strip.blend_type.capitalize()}: the result is added.")
    return notes


def timeline(obj: Any, start_frame: float = 1) -> EmotionTimeline:
    """The emotions on the rig as keys of the engine's timeline, seconds from `start_frame`.

    A strip becomes one key where its influence rises, stays and falls; else the sum of several, which follow it.
    """
    rate = float(scene_fps(scene_of(obj)))
    return EmotionTimeline(
        [
            key
            for track in emotions(obj)
            for strip in track.strips
            if not strip.mute and "emotion" in info_of(strip.action)
            for key in _keys_of(strip, start_frame, rate)
        ]
    )


def _keys_of(strip: Any, start_frame: float, rate: float) -> Iterable[EmotionKey]:
    """The keys of one strip; none where its influence is 0 all along."""
    info = info_of(strip.action)
    emotion, regions = info["emotion"], info.get("regions", {})
    first, last = strip.frame_start_raw, strip.frame_end_raw
    frames = np.linspace(first, last, max(2, math.ceil(last - first) + 1))
    curve = keyed(strip)
    if curve is not None:
        level = np.array([curve.evaluate(frame) for frame in frames])
    else:
        level = np.full(len(frames), strip.influence)
    times = (frames - start_frame) / rate
    if np.abs(level).max() < 1e-6 or times[-1] <= 0:
        return []
    one = _trapezoid(emotion, times, level, 1 / rate)
    inside = (times >= 0) & (times < one.end)
    if np.abs(one.envelope(times[inside], times[-1] + 1) - level[inside]).max(initial=0.0) < RAMP_ERROR:
        return [replace(one, regions=regions)]
    return [replace(key, regions=regions) for key in _hats(emotion, times, level, 1 / rate)]


_NOT_THE_START = 1e-6  # seconds; a ramp at the clip's own start is not drawn


def _trapezoid(emotion: str, times: np.ndarray, level: np.ndarray, frame: float) -> EmotionKey:
    """One key over the span where `level` [N] at `times` [N] is not 0: its largest value and the ramps at both ends."""
    peak = float(level[np.abs(level).argmax()])
    on = np.flatnonzero(np.abs(level) > 1e-6)
    full = np.flatnonzero(np.abs(level) > 0.99 * abs(peak))
    start, end = times[max(on[0] - 1, 0)], times[on[-1]] + frame
    ease_in = max(0.0, times[full[0]] - start)
    ease_out = max(0.0, end - (times[full[-1]] + frame))
    start = max(_NOT_THE_START if ease_in else 0.0, start)
    return EmotionKey(emotion, round(peak, 4), start, end, ease_in, ease_out, "linear")


def _hats(emotion: str, times: np.ndarray, level: np.ndarray, frame: float) -> Iterable[EmotionKey]:
    """Keys whose sum runs straight between the corners of `level` [N]: each rises from one corner to the next and falls again."""
    corners = actions.simplified(times, level, RAMP_ERROR)
    for k, corner in enumerate(corners):
        if abs(level[corner]) < 1e-6:
            continue
        here = times[corner]
        before = times[corners[k - 1]] if k else here
        after = times[corners[k + 1]] if k + 1 < len(corners) else here + frame
        start = max(before, _NOT_THE_START if k else 0.0)
        if after > max(start, 0.0):
            fall = after - here if k + 1 < len(corners) else 0.0
            yield EmotionKey(
                emotion, round(float(level[corner]), 4), start, after, max(0.0, here - start), fall, "linear"
            )
