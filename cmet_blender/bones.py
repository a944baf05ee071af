"""Bones and objects that move with coefficients or turn with the head and the eyes, written and read."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from bpy.utils import escape_identifier
from mathutils import Matrix, Quaternion, Vector

from cmet_engine.track import CoefficientTrack

from . import rig
from .actions import Curves
from .mapping import RigMapping, Rotation, split_channel


def face_unit(skeleton: Any, unit: tuple[str, str] | None) -> float:
    """Length in armature units of one unit of a bone's `move`: the distance between the two bones of `unit`."""
    bones = skeleton.data.bones
    if unit and all(name in bones for name in unit):
        distance = (bones[unit[0]].head_local - bones[unit[1]].head_local).length
        if distance > 0:
            return float(distance)
    return (
        float(max(skeleton.dimensions)) * 0.035 or 1.0
    )  # the distance between the eyes is about a 27th of a person's height


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


def bone_channels(mapping: RigMapping, skeleton: Any) -> dict[str, list[str]]:
    """Channels of a mapping by bone, of the bones that an armature has."""
    table: dict[str, list[str]] = {}
    for channel in mapping.channels:
        part = split_channel(channel)
        if part and part[0] in skeleton.pose.bones:
            table.setdefault(part[0], []).append(channel)
    return table


def bone_curves(obj: Any, mapping: RigMapping, coefficients: np.ndarray, *, delta: bool = False) -> list[Curves]:
    """Curves of the bones that coefficients [N, 52] move or turn; with `delta` they are a difference from rest."""
    skeleton = rig.armature(obj)
    if skeleton is None or not any(split_channel(c) for c in mapping.channels):
        return []
    rig.check_editable(skeleton)
    unit = face_unit(skeleton, mapping.unit)
    part = Curves(skeleton, "OBJECT", skeleton.name)
    for bone, channels in bone_channels(mapping, skeleton).items():
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
    """Turn of a bone for (yaw, pitch, roll) in degrees: roll first, yaw last, the order of the tracker's angles."""
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


def rotation_curves(
    obj: Any, mapping: RigMapping, track: CoefficientTrack, scene: Any, notes: list[str]
) -> list[Curves]:
    """Curves of the bones or objects that turn with the head and the eyes; what cannot be turned is added to `notes`."""
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


def _rest_rotation_of(target: Any) -> Quaternion:
    return Quaternion(target[_REST]) if _REST in target else Quaternion()


def read_bones(
    evaluated: Any,
    skeleton: Any,
    mapping: RigMapping,
    table: dict[str, list[str]],
    column: dict[str, int],
    row: np.ndarray,
) -> None:
    """Write the values of bone channels, read from an evaluated armature, into their columns of `row`."""
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


def read_rotation(rotation: Rotation, skeleton: Any, scene: Any, graph: Any) -> np.ndarray:
    """(yaw, pitch, roll) in degrees of a bone or an object as evaluated; zeros where it does not exist."""
    if skeleton is not None and rotation.target in skeleton.pose.bones:
        frame = _bone_frame(skeleton, rotation.target).to_quaternion()
        local = skeleton.evaluated_get(graph).pose.bones[rotation.target].matrix_basis.to_quaternion()
        return decompose(rotation, frame.inverted() @ local @ frame)
    target = scene.objects.get(rotation.target)
    if target is None:
        return np.zeros(3)
    turn = target.evaluated_get(graph).matrix_basis.to_quaternion()
    return decompose(rotation, turn @ _rest_rotation_of(target).inverted())
