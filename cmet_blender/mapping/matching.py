"""From an object or a list of names to a mapping: by names, then by the rig's geometry."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from cmet_engine import arkit
from cmet_engine.errors import InvalidInput

from .. import rig
from .by_name import match_names
from .conventions import Convention, bone_convention, find_rotations, rigs_folder
from .least_squares import spread_missing, transferred
from .rig_mapping import RigMapping
from .rows import CONVENTION, EXACT, GUESSED, Row

SAMPLES = 4000  # points of a rig that take part in the least squares; more cost seconds and change nothing


def match(obj_or_names: Any) -> RigMapping:
    """Find which shape key takes which coefficient.

    Args:
        obj_or_names: an object of the rig (mesh, or armature or empty above meshes), names of shape keys, or names by
            mesh (`{"Head": [...], "Teeth": [...]}`) for shapes that several meshes share.

    Returns:
        The mapping: exact names, then known conventions, then guesses with a confidence. Bones of a Rigify face are
        used where the rig has no shapes; head and eye bones are filled in where known names are found.

    Raises:
        InvalidInput: the object has no shape keys and no face bones; choose another, or add shape keys.
    """
    is_object = hasattr(obj_or_names, "type") and hasattr(obj_or_names, "data")
    bones: Sequence[str] = rig.bone_names(obj_or_names) if is_object else ()
    by_mesh = _names_by_mesh(obj_or_names, is_object, bones)
    rows, label, offered = _shape_rows(by_mesh)
    unit = None
    bone_rig = bone_convention(bones) if not rows else None
    if bone_rig:
        rows, label, unit = _bone_rows(bone_rig, set(bones)), bone_rig.name, bone_rig.unit
    used = {c for row in rows.values() for c in row.channels}
    unused = tuple(n for n in dict.fromkeys(n for names in by_mesh.values() for n in names) if n not in used)
    rotations = find_rotations(bones, label)
    for key, side in (("leftEye", "Left"), ("rightEye", "Right")):
        gaze = {c for n in arkit.GAZE if n.endswith(side) and n in rows for c in rows[n].channels}
        if key in rotations and is_object and rig.eyeball_shapes(obj_or_names, gaze):
            rotations[key] = replace(rotations[key], strength=0.0)  # shapes and bone together would turn the eye twice
    return RigMapping(rows, unused, rotations, label, unit, offered)


def _names_by_mesh(obj_or_names: Any, is_object: bool, bones: Sequence[str]) -> dict[str, list[str]]:
    """Names of shape keys by mesh, without the base shapes; see `match`."""
    if is_object:
        by_mesh = rig.names_by_mesh(obj_or_names)
        if not by_mesh and not bone_convention(bones):
            raise InvalidInput(
                f"'{obj_or_names.name}' has no shape keys, and neither has the rest of its rig; choose the mesh of the face, or "
                "add shape keys named like ARKit's."
            )
    elif isinstance(obj_or_names, Mapping):
        by_mesh = {str(mesh): [str(n) for n in names] for mesh, names in obj_or_names.items()}
    else:
        by_mesh = {"": [str(n) for n in obj_or_names]}
    return {mesh: [n for n in names if n != "Basis"] for mesh, names in by_mesh.items()}


def _shape_rows(by_mesh: Mapping[str, Sequence[str]]) -> tuple[dict[str, Row], str, dict[str, Row]]:
    """Rows of all meshes together, the convention of the mesh that gives most of them, and guesses that are only offered."""
    rows: dict[str, Row] = {}
    offered: dict[str, Row] = {}
    label, most = "", -1
    for mesh, names in sorted(by_mesh.items(), key=lambda item: -len(item[1])):
        found, name, unsure = match_names(names, mesh)
        offered = {**unsure, **offered}
        if len(found) > most:
            label, most = name, len(found)
        for coefficient, row in found.items():
            there = rows.get(coefficient)
            if there is None or (there.kind == GUESSED and row.kind != GUESSED):
                rows[coefficient] = row
            elif row.kind != GUESSED:
                rows[coefficient] = replace(there, channels={**row.channels, **there.channels})
    return rows, label, {name: row for name, row in offered.items() if name not in rows}


def _bone_rows(convention: Convention, bones: set[str]) -> dict[str, Row]:
    """Rows for a face of bones: the channels of the convention whose bone exists."""
    rows = {}
    for coefficient, weights in convention.bones.items():
        present = {c: w for c, w in weights.items() if c.rpartition("/")[0] in bones}
        if present:
            rows[coefficient] = Row(coefficient, present, CONVENTION, len(present) / len(weights))
    return rows


def spread(obj: Any, mapping: RigMapping) -> RigMapping:
    """Show coefficients without a shape by combinations of the rig's own shapes, where its geometry allows it.

    What each coefficient should do comes from the demo head's shapes, carried over to this rig; see
    `transferred`. Returns the mapping itself when nothing is missing or the reference is not installed.
    """
    if not mapping.missing or not mapping.matched:
        return mapping
    reference = reference_motion()
    if reference is None:
        return mapping
    points, deltas = rig.geometry(obj)
    if not deltas:
        return mapping
    # geometry is in the space of the first mesh
    upright = np.array(rig.meshes(obj)[0].matrix_world.to_3x3().normalized())
    points, deltas = points @ upright.T, {n: d @ upright.T for n, d in deltas.items()}
    moving = np.flatnonzero(np.max([np.abs(d).max(1) for d in deltas.values()], axis=0) > 1e-6 * np.ptp(points))
    kept = np.random.default_rng(0).permutation(moving)[:SAMPLES]
    sampled = {n: d[kept] for n, d in deltas.items()}
    wanted = transferred(mapping, points[kept], sampled, *reference)
    for name in mapping.missing:  # the rig's own other side is a better measure than another head
        other = mapping.rows[arkit.mirrored(name)]
        if other.coefficient != name and other.kind in (EXACT, CONVENTION, GUESSED) and len(other.channels) == 1:
            shape = next(iter(other.channels))
            if shape in deltas:
                wanted[name] = _mirrored(points, deltas[shape], kept)
    return spread_missing(mapping, sampled, wanted)


def _mirrored(points: np.ndarray, delta: np.ndarray, at: np.ndarray) -> np.ndarray:
    """Motion [len(at), 3] of the points `at` when the other half of the face makes the motion `delta` [V, 3]."""
    from mathutils.kdtree import KDTree

    middle = (points[:, 0].min() + points[:, 0].max()) / 2
    tree = KDTree(len(points))
    for i, point in enumerate(points):
        tree.insert(point, i)
    tree.balance()
    seen = points[at] * [-1, 1, 1] + [2 * middle, 0, 0]
    return delta[[tree.find(point)[1] for point in seen]] * [-1, 1, 1]


def reference_motion() -> tuple[np.ndarray, dict[str, np.ndarray]] | None:
    """Rest points [R, 3] of the demo head and its motion [R, 3] by coefficient, Z up and facing -Y; None when absent."""
    path = rigs_folder() / "reference_motion.npz"
    if not path.is_file():
        return None
    with np.load(path, allow_pickle=False) as data:
        motion = data["motion"].astype(np.float64)
        return data["points"].astype(np.float64), {str(n): motion[i] for i, n in enumerate(data["names"])}
