"""The parts of a rig in a Blender scene: its meshes with shape keys, its armature, and whether they may be changed."""

import re
from collections.abc import Iterator
from typing import Any

import numpy as np

from cmet_engine.errors import InvalidInput, NotFound

_DRIVEN = re.compile(r'key_blocks\["(.+)"\]\.value')


def meshes(obj: Any) -> list[Any]:
    """The meshes with shape keys that make one face, `obj` first if it is one of them.

    They are below the same topmost parent, or bound to the same armature.
    """
    family = _family(obj)
    found = [o for o in family if o.type == "MESH" and shape_keys(o) is not None]
    found.sort(key=lambda o: (o != obj, -len(o.data.shape_keys.key_blocks), o.name))
    return found


def shape_keys(obj: Any) -> Any | None:
    """The mesh's shape-key datablock if it has more than its base; else None."""
    keys = getattr(obj.data, "shape_keys", None)
    return keys if keys is not None and len(keys.key_blocks) > 1 else None


def _family(obj: Any) -> list[Any]:
    top = obj
    while top.parent is not None and not _holds_characters(top.parent):
        top = top.parent
    family = list(dict.fromkeys([obj, top, *top.children_recursive]))
    bound = armature_of_mesh(obj)
    if bound is not None and bound not in family:
        family.append(bound)
    if obj.type == "ARMATURE" or bound is not None:
        skeleton = obj if obj.type == "ARMATURE" else bound
        users = obj.users_scene[0].objects if obj.users_scene else ()
        family += [o for o in users if o not in family and armature_of_mesh(o) == skeleton]
    heads = _heads(family)
    return family if len(heads) < 2 else _of_head(_head_of(obj, heads), heads, family)


def _heads(family: list[Any]) -> list[Any]:
    """The faces of a family that stand apart from each other: more than one where an empty holds several characters."""
    faces = [o for o in family if o.type == "MESH" and shape_keys(o) is not None]
    faces.sort(key=lambda o: (-len(o.data.shape_keys.key_blocks), -len(o.data.vertices), o.name))
    found: list[Any] = []
    for face in faces:
        same = not found or _alike(face, found[0])
        if same and not any(_meet(face, head) or _share_armature(face, head) for head in found):
            found.append(face)
    return found


def _alike(face: Any, first: Any) -> bool:
    """Whether a mesh has most of the shapes of another."""
    names, wanted = (set(one.data.shape_keys.key_blocks.keys()) for one in (face, first))
    return len(names & wanted) > len(wanted) / 2


def _share_armature(face: Any, head: Any) -> bool:
    bound = armature_of_mesh(face)
    return bound is not None and bound == armature_of_mesh(head)


def _footprint(obj: Any) -> np.ndarray:
    """Least and largest x and y of an object in the scene: [2, 2]."""
    world = np.array(obj.matrix_world)
    corners = np.array([tuple(corner) for corner in obj.bound_box]) @ world[:3, :3].T + world[:3, 3]
    return np.stack([corners.min(0)[:2], corners.max(0)[:2]])


def _meet(one: Any, other: Any) -> bool:
    """Whether the middle of one of two objects lies above or below the other, or near it, as that of an eye does in its head."""
    a, b = _footprint(one), _footprint(other)
    near = 0.2 * max(float(np.ptp(a, axis=0).max()), float(np.ptp(b, axis=0).max()))
    inside = ((np.abs(a.mean(0) - b.mean(0)) <= np.ptp(box, axis=0) / 2 + near).all() for box in (a, b))
    return any(inside)


def _head_of(obj: Any, heads: list[Any]) -> Any:
    """The head that an object belongs to: that which it holds or hangs on, else the nearest."""
    related = [
        h
        for h in heads
        if h in (obj, *obj.children_recursive) or obj in h.children_recursive or armature_of_mesh(h) == obj
    ]
    place = _footprint(obj).mean(0)
    return min(related or heads, key=lambda head: float(np.linalg.norm(_footprint(head).mean(0) - place)))


def _of_head(head: Any, heads: list[Any], family: list[Any]) -> list[Any]:
    """Those of a family that belong to a head, and what holds all heads."""
    holds_all = [o for o in family if all(h in o.children_recursive for h in heads)]
    return [o for o in family if o in holds_all or _head_of(o, heads) == head]


def _holds_characters(top: Any) -> bool:
    """Whether an empty stands above several characters, each with an armature and a face of its own."""

    def whole(branch: Any) -> bool:
        parts = [branch, *branch.children_recursive]
        faces = any(o.type == "MESH" and shape_keys(o) is not None for o in parts)
        return faces and any(o.type == "ARMATURE" for o in parts)

    return top.type == "EMPTY" and sum(whole(branch) for branch in top.children) > 1


def armature_of_mesh(obj: Any) -> Any | None:
    """The armature object that deforms a mesh."""
    for modifier in getattr(obj, "modifiers", ()):
        if modifier.type == "ARMATURE" and modifier.object is not None:
            return modifier.object
    return None


def armature(obj: Any) -> Any | None:
    """The armature object of the rig that `obj` belongs to."""
    if obj.type == "ARMATURE":
        return obj
    return armature_of_mesh(obj) or next((o for o in _family(obj) if o.type == "ARMATURE"), None)


def members(obj: Any) -> list[Any]:
    """Every object of the character: what an exporter must select."""
    return [o for o in _family(obj) if o.type in {"MESH", "ARMATURE", "EMPTY"}]


def names_by_mesh(obj: Any) -> dict[str, list[str]]:
    """Names of the shape keys of every mesh of the rig, without the base shapes."""
    result = {}
    for mesh in meshes(obj):
        keys = mesh.data.shape_keys
        result[mesh.name] = [block.name for block in keys.key_blocks if block != keys.reference_key]
    return result


def bone_names(obj: Any) -> list[str]:
    """Names of the bones of the rig's armature, if it has one."""
    skeleton = armature(obj)
    return [bone.name for bone in skeleton.data.bones] if skeleton is not None else []


def driven_names(keys: Any, besides: set[str] = frozenset()) -> set[str]:  # type: ignore[assignment]
    """Names of shape keys whose value a driver sets, other than those on these data paths."""
    if keys.animation_data is None:
        return set()
    paths = {curve.data_path for curve in keys.animation_data.drivers} - besides
    found = (_DRIVEN.fullmatch(path) for path in paths)
    return {match[1].replace('\\"', '"').replace("\\\\", "\\") for match in found if match}


def check_editable(obj: Any) -> None:
    """Raise unless the rig's data may be animated in this file. Small meshes of the face may be linked: see `followers.connect`.

    Raises:
        CmetError: the object was deleted, or it or the shape keys of the face are linked from another file.
    """
    try:
        owners = [obj, *([obj.data] if obj.data is not None else [])]
        largest = max(meshes(obj), key=lambda mesh: len(mesh.data.shape_keys.key_blocks), default=None)
        owners += [largest, largest.data.shape_keys] if largest is not None else []
    except ReferenceError:
        raise NotFound("The object was deleted in the meantime; choose another rig.") from None
    for owner in owners:
        if owner.library is not None:
            raise InvalidInput(
                f"'{owner.name}' is linked from {owner.library.filepath} and cannot be animated here; "
                + ("press Connect Meshes (F3) to make its shapes a library override, " if obj.override_library else "")
                + "make it local (Object > Relations > Make Local) or work in that file."
            )
        override = owner.override_library
        if override is not None and override.is_system_override:
            raise InvalidInput(
                f"'{owner.name}' is a library override that is not editable; make it editable "
                "(Outliner > Library Override > Make > Selected & Content) or make it local."
            )


def override_shapes(mesh: Any) -> bool:
    """Make the linked shapes of a mesh object that is an editable library override editable too; returns whether it did."""
    override = mesh.override_library
    if override is None or override.is_system_override or getattr(mesh.data, "library", None) is None:
        return False
    return mesh.data.override_create(remap_local_usages=True) is not None


def left_alone(locked: list[str], driven: list[str]) -> list[str]:
    """Sentences on shape keys that may not be keyed, given as `mesh: shape`."""
    notes = []
    if locked:
        notes.append(
            f"{_count(locked, 'shape key is', 'shape keys are')} locked and left alone ({_some(locked)}); unlock to animate."
        )
    if driven:
        notes.append(
            f"{_count(driven, 'shape key is', 'shape keys are')} set by drivers and left alone ({_some(driven)}); remove the drivers to animate."
        )
    return notes


def _count(items: list[str], one: str, many: str) -> str:
    return f"{len(items)} {one if len(items) == 1 else many}"


def _some(items: list[str], most: int = 4) -> str:
    return ", ".join(items[:most]) + (" …" if len(items) > most else "")


def geometry(obj: Any) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Rest positions [V, 3] of all meshes of the rig in the space of the first, and each shape's motion [V, 3].

    Shapes of one name on several meshes move together; a mesh without a shape stands still in it.
    """
    parts = meshes(obj)
    if not parts:
        return np.zeros((0, 3)), {}
    inverse = np.array(parts[0].matrix_world.inverted())
    counts = [len(m.data.vertices) for m in parts]
    total = sum(counts)
    points = np.zeros((total, 3))
    deltas: dict[str, np.ndarray] = {}
    for (mesh, start), count in zip(_starts(parts, counts), counts, strict=True):
        keys = mesh.data.shape_keys
        to_first = inverse @ np.array(mesh.matrix_world)
        rest = _positions(keys.reference_key, count)
        points[start : start + count] = rest @ to_first[:3, :3].T + to_first[:3, 3]
        for block in keys.key_blocks:
            if block == keys.reference_key:
                continue
            base = _positions(block.relative_key, count) if block.relative_key != keys.reference_key else rest
            delta = deltas.setdefault(block.name, np.zeros((total, 3)))
            delta[start : start + count] = (_positions(block, count) - base) @ to_first[:3, :3].T
    return points, deltas


def _starts(parts: list[Any], counts: list[int]) -> Iterator[tuple[Any, int]]:
    start = 0
    for part, count in zip(parts, counts, strict=True):
        yield part, start
        start += count


def _positions(block: Any, count: int) -> np.ndarray:
    flat = np.empty(count * 3, np.float32)
    block.data.foreach_get("co", flat)
    return flat.reshape(-1, 3).astype(np.float64)


def moving_shapes(mesh: Any) -> set[str]:
    """Names of the shapes that move a point of this mesh; eyes and teeth often carry the face's names with empty shapes."""
    keys, count = mesh.data.shape_keys, len(mesh.data.vertices)
    rest = _positions(keys.reference_key, count)
    size = max(float(np.ptp(rest, axis=0).max()), 1e-9) if count else 1.0
    return {b.name for b in keys.key_blocks if count and np.abs(_positions(b, count) - rest).max() > 1e-5 * size}


def eyeball_shapes(obj: Any, shapes: set[str]) -> bool:
    """Whether one of these shapes turns a whole eyeball: moves nearly every point of a mesh of its own."""
    for mesh in meshes(obj):
        keys, count = mesh.data.shape_keys, len(mesh.data.vertices)
        for name in shapes & set(keys.key_blocks.keys()):
            moved = np.abs(_positions(keys.key_blocks[name], count) - _positions(keys.reference_key, count)).max(1)
            if (moved > 0.05 * max(float(moved.max()), 1e-9)).mean() > 0.8 and moved.max() > 0:
                return True
    return False
