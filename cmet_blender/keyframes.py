"""Coefficient tracks as keys on a rig, and back.

`apply_track` makes one new Action with a slot for every datablock it animates (the shape keys of each mesh, the
armature, objects that turn with the head) and never touches an earlier one. Keys lie at the frame's own time in the
scene's rate, between whole frames if need be. `read_track` reads evaluated values: NLA, drivers and curve modifiers
included.
"""

import json
import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

import bpy
import numpy as np
from bpy.utils import escape_identifier
from mathutils import Matrix, Quaternion, Vector

from cmet_engine import arkit
from cmet_engine.errors import CmetError
from cmet_engine.progress import Stage
from cmet_engine.track import CoefficientTrack

from . import mapping as mapping_module
from . import rig
from .mapping import RigMapping, Rotation, split_channel

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
    groups: dict[str, str] = field(default_factory=dict)


def scene_fps(scene: Any) -> Fraction:
    """The scene's frames a second, exact where Blender's base stands for 1.001."""
    base = scene.render.fps_base
    exact = Fraction(1001, 1000) if abs(base - 1.001) < 1e-5 else Fraction(base).limit_denominator(100_000)
    return Fraction(scene.render.fps) / exact


def key_positions(times: np.ndarray, start_frame: float, fps: Fraction) -> np.ndarray:
    """Positions, float32 [N], in scene frames of moments `times` [N] s after `start_frame`.

    Single precision is what Blender stores; writing and reading through this one function hits the same moments.
    """
    return (start_frame + np.asarray(times, np.float64) * float(fps)).astype(np.float32)


def scene_of(obj: Any) -> Any:
    """The scene to work in: the current one if the object is in it, else one that holds it."""
    scene = bpy.context.scene
    if scene is not None and scene.objects.get(obj.name) == obj:
        return scene
    return obj.users_scene[0] if obj.users_scene else scene


def apply_track(
    obj: Any,
    track: CoefficientTrack,
    mapping: RigMapping | None = None,
    start_frame: float = 1,
    *,
    simplify: float = 0.0,
    rotations: bool = True,
    name: str | None = None,
    scene: Any = None,
) -> Any:
    """Write a track as keys on a rig, as a new Action; earlier Actions stay in the file.

    Args:
        obj: an object of the rig: its face mesh, or the armature or empty above it.
        track: what to write, at its own frame rate.
        mapping: default `mapping.match(obj)`.
        start_frame: scene frame of the track's first frame.
        simplify: largest error in coefficient units (degrees / 100 for angles) that leaving out keys may cause; 0 keeps all.
        rotations: also turn the head and eye bones or objects that the mapping names.
        name: of the Action; default from the object and the track's source.
        scene: whose frame rate counts; default the object's.

    Returns:
        The Action. Its custom property `cmet` holds JSON with `fps`, `frames`, `notes` (what was left alone and why).

    Raises:
        CmetError: linked data, no shape of the mapping on the rig, everything locked or driven, an empty track.
    """
    rig.check_editable(obj)
    if len(track) == 0:
        raise CmetError("The track has no frames; nothing was applied.")
    mapping = mapping or mapping_module.match(obj)
    scene = scene or scene_of(obj)
    positions = key_positions(track.times, start_frame, scene_fps(scene))
    notes: list[str] = []
    parts = _shape_curves(obj, mapping, mapping.values, track.coefficients, notes)
    parts += _bone_curves(obj, mapping, track.coefficients)
    if rotations:
        parts = _merge(parts + _rotation_curves(obj, mapping, track, scene, notes))
    if not any(part.curves for part in parts):
        raise CmetError(_nothing(obj, mapping, notes))
    label = name or f"{obj.name} {track.meta.get('source') or 'C-MET'}"
    info = {"fps": str(track.fps), "frames": len(track), "notes": notes}
    action = write_action(label, parts, positions, simplify=simplify, info=info)
    from . import emotion_strips  # which writes its strips with this module

    for part in parts:
        emotion_strips.refresh_rest(part.owner, set(part.curves))
    return action


def _nothing(obj: Any, mapping: RigMapping, notes: list[str]) -> str:
    if notes:
        return f"Nothing on '{obj.name}' could be keyed: {' '.join(notes)}"
    return (
        f"No shape key of '{obj.name}' takes any of the mapping's channels; match the rig again or correct the table."
    )


def notes_of(action: Any) -> list[str]:
    """What `apply_track` left alone, in plain words."""
    return list(json.loads(action.get(INFO, "{}")).get("notes", ()))


def _shape_curves(
    obj: Any, mapping: RigMapping, values_of: Any, coefficients: np.ndarray, notes: list[str]
) -> list[Curves]:
    shapes = [c for c in mapping.channels if split_channel(c) is None]
    table, found_notes = rig.writable(obj, set(shapes))
    notes += found_notes
    wanted = list(dict.fromkeys(n for names in table.values() for n in names))
    values = values_of(coefficients, wanted).astype(np.float32)
    column = {n: k for k, n in enumerate(wanted)}
    parts = []
    for mesh, names in table.items():
        keys = mesh.data.shape_keys
        part = Curves(keys, keys.id_type, keys.name)
        for shape in names:
            part.curves[f'key_blocks["{escape_identifier(shape)}"].value', 0] = values[:, column[shape]]
        parts.append(part)
    return parts


def widen(keys: Any, shape: str, low: float, high: float) -> None:
    """Open a shape key's slider so that values from `low` to `high` are not cut."""
    block = keys.key_blocks[shape]
    if low < block.slider_min:
        block.slider_min = max(-10.0, low * _MARGIN)
    if high > block.slider_max:
        block.slider_max = min(10.0, high * _MARGIN)


# Bones


def face_unit(skeleton: Any, unit: tuple[str, str] | None) -> float:
    """Length in armature units of one unit of a bone's `move`: the distance between the two bones of `unit`."""
    bones = skeleton.data.bones
    if unit and all(name in bones for name in unit):
        distance = (bones[unit[0]].head_local - bones[unit[1]].head_local).length
        if distance > 0:
            return float(distance)
    return float(max(skeleton.dimensions)) * 0.035 or 1.0  # eyes are a 27th of a person's height apart


def _upright(skeleton: Any) -> Matrix:
    """Turn from our axes (Z up, facing -Y) to the armature's own: imported ones are often Y up, facing Z."""
    up = skeleton.matrix_world.to_3x3().normalized().inverted() @ Vector((0, 0, 1))
    if abs(up.y) > abs(up.z) and up.y > 0:
        return Matrix(((1, 0, 0), (0, 0, 1), (0, -1, 0)))
    return Matrix.Identity(3)


def _bone_frame(skeleton: Any, bone: str) -> Matrix:
    """Turn from our axes to a bone's own rest axes."""
    rest = skeleton.data.bones[bone].matrix_local.to_3x3().normalized()
    return rest.inverted() @ _upright(skeleton)


def _bone_channels(mapping: RigMapping, skeleton: Any) -> dict[str, list[str]]:
    table: dict[str, list[str]] = {}
    for channel in mapping.channels:
        part = split_channel(channel)
        if part and part[0] in skeleton.pose.bones:
            table.setdefault(part[0], []).append(channel)
    return table


def _bone_curves(obj: Any, mapping: RigMapping, coefficients: np.ndarray, *, delta: bool = False) -> list[Curves]:
    skeleton = rig.armature(obj)
    if skeleton is None or not any(split_channel(c) for c in mapping.channels):
        return []
    rig.check_editable(skeleton)
    unit = face_unit(skeleton, mapping.unit)
    part = Curves(skeleton, "OBJECT", skeleton.name)
    for bone, channels in _bone_channels(mapping, skeleton).items():
        values = mapping.values(coefficients, channels, delta=delta)
        moves, turns = np.zeros((len(values), 3)), np.zeros((len(values), 3))
        for column, channel in enumerate(channels):
            _, how, axis = split_channel(channel)  # type: ignore[misc]
            (moves if how == "move" else turns)[:, axis] = values[:, column]
        frame = np.array(_bone_frame(skeleton, bone))
        if any("/move" in c for c in channels):
            for axis, curve in enumerate((moves * unit @ frame.T).T):
                part.curves[_bone_path(bone, "location"), axis] = curve.astype(np.float32)
        if any("/rotate" in c for c in channels):
            vectors = np.radians(turns) @ frame.T
            _add_rotation(part, skeleton.pose.bones[bone], bone, [_from_vector(v) for v in vectors])
    return [part]


def _bone_path(bone: str, what: str) -> str:
    return f'pose.bones["{escape_identifier(bone)}"].{what}'


def _from_vector(vector: np.ndarray) -> Quaternion:
    angle = float(np.linalg.norm(vector))
    return Quaternion(Vector(vector / angle), angle) if angle > 1e-12 else Quaternion()


def _add_rotation(part: Curves, owner: Any, bone: str | None, turns: Sequence[Quaternion]) -> None:
    """Curves of the turns [N] in the owner's own rotation mode, without flips between frames."""
    mode = owner.rotation_mode
    table: list[Sequence[float]] = []
    previous: Any = None
    for turn in turns:
        if mode == "QUATERNION":
            value = turn.copy()
            if previous is not None:
                value.make_compatible(previous)
            table.append(tuple(value))
        elif mode == "AXIS_ANGLE":
            axis, angle = turn.to_axis_angle()
            table.append((angle, *axis))
            continue
        else:
            value = turn.to_euler(mode, previous) if previous is not None else turn.to_euler(mode)
            table.append(tuple(value))
        previous = value
    what = {"QUATERNION": "rotation_quaternion", "AXIS_ANGLE": "rotation_axis_angle"}.get(mode, "rotation_euler")
    path = _bone_path(bone, what) if bone else what
    for axis, curve in enumerate(np.array(table, np.float32).T):
        part.curves[path, axis] = curve


def _axis(text: str) -> np.ndarray:
    vector = np.zeros(3)
    vector["XYZ".index(text[1])] = -1.0 if text[0] == "-" else 1.0
    return vector


def compose(rotation: Rotation, degrees: np.ndarray) -> Quaternion:
    """Turn of a bone for (yaw, pitch, roll) in degrees: roll first, yaw last, as the tracker takes them apart."""
    result = Quaternion()
    for text, angle in zip((rotation.yaw, rotation.pitch, rotation.roll), degrees, strict=True):
        result = result @ Quaternion(Vector(_axis(text)), math.radians(float(angle)) * rotation.strength)
    return result


def decompose(rotation: Rotation, turn: Quaternion) -> np.ndarray:
    """(yaw, pitch, roll) in degrees of a turn; the inverse of `compose`."""
    axes = [_axis(t) for t in (rotation.yaw, rotation.pitch, rotation.roll)]
    basis = np.stack(axes, 1)  # columns are the axes; as a right-handed frame the turn is Rx(a) Ry(b) Rz(c) in it
    if np.linalg.det(basis) < 0:
        basis = np.stack([axes[0], axes[1], -axes[2]], 1)
    local = basis.T @ np.array(turn.to_matrix()) @ basis
    second = math.asin(max(-1.0, min(1.0, local[0, 2])))
    first = math.atan2(-local[1, 2], local[2, 2])
    third = math.atan2(-local[0, 1], local[0, 0])
    if np.linalg.det(np.stack(axes, 1)) < 0:
        third = -third
    return np.degrees([first, second, third]) / (rotation.strength or 1.0)


def _angles(track: CoefficientTrack, key: str) -> np.ndarray:
    """[N, 3] yaw, pitch, roll of one of `mapping.ROTATIONS`."""
    if key == "head":
        return track.head_rotation.astype(np.float64)
    eyes = track.eye_rotation[:, :2] if key == "leftEye" else track.eye_rotation[:, 2:]
    return np.concatenate([eyes.astype(np.float64), np.zeros((len(track), 1))], 1)


def _rotation_curves(
    obj: Any, mapping: RigMapping, track: CoefficientTrack, scene: Any, notes: list[str]
) -> list[Curves]:
    skeleton = rig.armature(obj)
    parts = []
    for key, rotation in mapping.rotations.items():
        degrees = _angles(track, key)
        if not rotation.target or rotation.strength == 0 or not degrees.any():
            continue
        turns = [compose(rotation, row) for row in degrees]
        if skeleton is not None and rotation.target in skeleton.pose.bones:
            if skeleton.library is not None:
                notes.append(f"'{skeleton.name}' is linked; the {key} was not turned.")
                continue
            frame = _bone_frame(skeleton, rotation.target).to_quaternion()
            part = Curves(skeleton, "OBJECT", skeleton.name)
            local = [frame @ turn @ frame.inverted() for turn in turns]
            _add_rotation(part, skeleton.pose.bones[rotation.target], rotation.target, local)
        else:
            target = scene.objects.get(rotation.target)
            if target is None or target.library is not None:
                notes.append(
                    f"'{rotation.target}' is not a bone of the rig or an object that can be animated here; the {key} was not turned."
                )
                continue
            part = Curves(target, "OBJECT", target.name)
            rest = _rest_rotation(target)
            _add_rotation(part, target, None, [turn @ rest for turn in turns])
        parts.append(part)
    return parts


_REST = "cmet_rest_rotation"  # custom property: an object's turn before the first track was applied


def _rest_rotation(target: Any) -> Quaternion:
    if _REST not in target:
        target[_REST] = list(target.matrix_basis.to_quaternion())
    return Quaternion(target[_REST])


def _merge(parts: list[Curves]) -> list[Curves]:
    """One entry for each datablock."""
    table: dict[Any, Curves] = {}
    for part in parts:
        if part.owner in table:
            table[part.owner].curves.update(part.curves)
        else:
            table[part.owner] = part
    return list(table.values())


# Actions


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
                kept = _simplified(positions.astype(np.float64), values.astype(np.float64), error)
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
        said = f"Simplified to {written} of {whole} keys; no curve is off by more than {simplify:g} of a shape."
        info["notes"] = [*info.get("notes", ()), said]
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


def assign_action(owner: Any, action: Any, slot: Any) -> None:
    """Make `action` the active one of a datablock; the Action it had stays in the file."""
    animation = owner.animation_data or owner.animation_data_create()
    if animation.use_tweak_mode:
        raise CmetError(f"'{owner.name}' is in NLA tweak mode; leave it (Tab in the NLA editor) and try again.")
    if animation.action is not None and animation.action.library is None:
        animation.action.use_fake_user = True
    animation.action = action
    animation.action_slot = slot


def _simplified(positions: np.ndarray, values: np.ndarray, error: float) -> np.ndarray:
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


# Reading back


@contextmanager
def frame_restored(scene: Any) -> Iterator[None]:
    """Put the scene's current frame back at the end."""
    frame, subframe = scene.frame_current, scene.frame_subframe
    try:
        yield
    finally:
        scene.frame_set(frame, subframe=subframe)


def frames_at(scene: Any, positions: np.ndarray) -> Iterator[Any]:
    """Go to each position (scene frames, fractions allowed) and yield the evaluated dependency graph."""
    view_layer = scene.view_layers[0] if bpy.context.scene != scene else bpy.context.view_layer
    for position in np.asarray(positions, np.float32):
        whole = math.floor(position)
        scene.frame_set(int(whole), subframe=float(position - np.float32(whole)))
        yield view_layer.depsgraph


def read_track(
    obj: Any,
    frame_range: tuple[int, int] | None = None,
    mapping: RigMapping | None = None,
    *,
    fps: Fraction | None = None,
    times: np.ndarray | None = None,
    reference: CoefficientTrack | None = None,
    scene: Any = None,
    progress: Any = None,
) -> CoefficientTrack:
    """Read what the rig does as a track: evaluated values, NLA, drivers and curve modifiers included.

    Args:
        obj: an object of the rig.
        frame_range: first and last scene frame, both read; default the scene's.
        mapping: default `mapping.match(obj)`.
        fps: rate of the track; default the scene's. Another rate is sampled in time, between frames.
        times: float64 [N] seconds after the first frame to read at, instead of an even rate.
        reference: the track that the rig was driven from, sample for sample: what the rig cannot show is kept from it.
        scene: default the object's.
        progress: `(stage, done, total)`; raising cancels.

    Raises:
        CmetError: the range is empty, or the reference has another length.
    """
    mapping = mapping or mapping_module.match(obj)
    scene = scene or scene_of(obj)
    first, last = frame_range or (scene.frame_start, scene.frame_end)
    if last < first:
        raise CmetError(f"The frame range {first} to {last} is empty; the last frame must not be before the first.")
    rate = scene_fps(scene)
    fps = Fraction(fps) if fps else rate
    if times is None:
        count = math.floor((last - first) / float(rate) * float(fps) + 1e-6) + 1
        times = np.arange(count) * float(1 / fps)
    times = np.asarray(times, np.float64)
    if reference is not None and len(reference) != len(times):
        raise CmetError(
            f"The reference track has {len(reference)} frames, the range {len(times)}; choose the range it was applied to."
        )
    shapes = [c for c in mapping.channels if split_channel(c) is None]
    parts = []
    seen: set[Any] = set()
    for mesh in rig.meshes(obj):
        keys = mesh.data.shape_keys
        names = [n for n in shapes if n in keys.key_blocks]
        if names and keys not in seen:
            seen.add(keys)
            parts.append((keys, names))
    skeleton = rig.armature(obj)
    bone_channels = _bone_channels(mapping, skeleton) if skeleton is not None else {}
    channels = list(dict.fromkeys(n for _, names in parts for n in names)) + [
        c for cs in bone_channels.values() for c in cs
    ]
    column = {c: k for k, c in enumerate(channels)}
    values = np.zeros((len(times), len(channels)))
    angles = {key: np.zeros((len(times), 3)) for key in mapping.rotations}
    if progress:
        progress(Stage.READ_RIG, 0, len(times))
    with frame_restored(scene):
        for i, graph in enumerate(frames_at(scene, key_positions(times, first, rate))):
            done: set[str] = set()
            for keys, names in parts:
                blocks = keys.evaluated_get(graph).key_blocks
                for shape in names:
                    if shape not in done:
                        values[i, column[shape]] = blocks[shape].value
                        done.add(shape)
            if skeleton is not None:
                _read_bones(skeleton.evaluated_get(graph), skeleton, mapping, bone_channels, column, values[i])
            for key, rotation in mapping.rotations.items():
                angles[key][i] = _read_rotation(rotation, skeleton, scene, graph)
            if progress:
                progress(Stage.READ_RIG, i + 1, len(times))
    coefficients = mapping.invert(values, channels, None if reference is None else reference.coefficients)
    zeros = np.zeros((len(times), 3))
    left, right = angles.get("leftEye", zeros), angles.get("rightEye", zeros)
    head, eyes = angles.get("head", zeros), np.concatenate([left[:, :2], right[:, :2]], 1)
    if reference is not None:
        head = head if "head" in angles else reference.head_rotation
        eyes = eyes if "leftEye" in angles else reference.eye_rotation
    meta = dict(reference.meta) if reference is not None else {"source": f"blender: {obj.name}"}
    valid = reference.valid if reference is not None else np.ones(len(times), bool)
    return CoefficientTrack(fps, coefficients.astype(np.float32), head, eyes, valid, meta)


def _read_bones(
    evaluated: Any,
    skeleton: Any,
    mapping: RigMapping,
    table: dict[str, list[str]],
    column: dict[str, int],
    row: np.ndarray,
) -> None:
    unit = face_unit(skeleton, mapping.unit)
    for bone, channels in table.items():
        basis = evaluated.pose.bones[bone].matrix_basis
        back = _bone_frame(skeleton, bone).inverted()
        move = back @ basis.to_translation() / unit
        axis, angle = basis.to_quaternion().to_axis_angle()
        angle = (angle + math.pi) % (2 * math.pi) - math.pi
        turn = back @ (axis * math.degrees(angle))
        for channel in channels:
            _, how, which = split_channel(channel)  # type: ignore[misc]
            row[column[channel]] = (move if how == "move" else turn)[which]


def _read_rotation(rotation: Rotation, skeleton: Any, scene: Any, graph: Any) -> np.ndarray:
    if skeleton is not None and rotation.target in skeleton.pose.bones:
        frame = _bone_frame(skeleton, rotation.target).to_quaternion()
        local = skeleton.evaluated_get(graph).pose.bones[rotation.target].matrix_basis.to_quaternion()
        return decompose(rotation, frame.inverted() @ local @ frame)
    target = scene.objects.get(rotation.target)
    if target is None:
        return np.zeros(3)
    turn = target.evaluated_get(graph).matrix_basis.to_quaternion()
    return decompose(rotation, turn @ _rest_rotation_of(target).inverted())


def _rest_rotation_of(target: Any) -> Quaternion:
    return Quaternion(target[_REST]) if _REST in target else Quaternion()


def coefficient_names() -> tuple[str, ...]:
    """The 52 names, for scripts that have only the add-on at hand."""
    return arkit.NAMES
