"""One face, one set of curves: the shape keys of the leading mesh carry them, and those of every other mesh follow by drivers.

A driver copies the value of one shape key of the leader, with NLA, drivers and modifiers of curves; so whatever Blender
does to the leader's curves or strips, every mesh shows. A shape that the leader lacks (a tongue's `tongueOut`) has its
curves on a custom property of the leader's shape keys. Drivers name the leading object, not its data: library overrides,
duplicates and appended copies follow their own leader.
"""

from collections.abc import Iterator
from typing import Any

from bpy.utils import escape_identifier

from . import rig
from .nla import copy_curve, copy_track, curves_of, is_ours, slot_made

_VARIABLE = "cmet"  # of our drivers, which tells them from the user's
_WIDE = 10.0  # sliders of followers are as wide as Blender allows: the leader's own limits count


def leader(obj: Any) -> Any:
    """The mesh whose shape keys carry the curves of the face: the one that others follow, else that with most; or None."""
    parts = rig.meshes(obj)
    followed = (_followed(mesh) for mesh in parts)
    return next((one for one in followed if one in parts), None) or max(
        parts, key=lambda mesh: len(mesh.data.shape_keys.key_blocks), default=None
    )


def _our_drivers(keys: Any) -> dict[str, Any]:
    """The variable of each of our drivers, by the data path of the shape key that it sets."""
    if keys.animation_data is None:
        return {}
    drivers = keys.animation_data.drivers
    first = ((curve.data_path, next(iter(curve.driver.variables), None)) for curve in drivers)
    return {path: variable for path, variable in first if variable is not None and variable.name == _VARIABLE}


def _followed(mesh: Any) -> Any | None:
    targets = (variable.targets[0].id for variable in _our_drivers(mesh.data.shape_keys).values())
    return next((target for target in targets if target is not None), None)


def shape_path(shape: str) -> str:
    """Data path of a shape key's value."""
    return f'key_blocks["{escape_identifier(shape)}"].value'


def channel(keys: Any, shape: str) -> str:
    """Data path on the leader's shape keys that carries the curves of a shape: its value, or a custom property."""
    return shape_path(shape) if shape in keys.key_blocks else f'["{escape_identifier(shape)}"]'


def owned(obj: Any) -> dict[Any, list[str]]:
    """Shape keys of each other mesh of the face that have strips or curves of their own, as earlier versions made them."""
    first = leader(obj)
    found: dict[Any, list[str]] = {}
    if first is None:
        return found
    for keys in _others(obj, first):
        animation = keys.animation_data
        if animation is not None:
            names = [track.name for track in animation.nla_tracks if is_ours(track)]
            names += [animation.action.name] if _same_take(keys, first.data.shape_keys) else []
            if names:
                found[keys] = names
    return found


def _others(obj: Any, first: Any) -> Iterator[Any]:
    """Shape keys of the other meshes, each once: objects may share a mesh."""
    keys = dict.fromkeys(mesh.data.shape_keys for mesh in rig.meshes(obj))
    return (one for one in keys if one != first.data.shape_keys)


def _same_take(keys: Any, leading: Any) -> bool:
    """Whether two datablocks play the same Action."""
    actions = [one.animation_data.action if one.animation_data else None for one in (keys, leading)]
    return actions[0] is not None and actions[0] == actions[1]


def connect(obj: Any, names: set[str]) -> tuple[Any | None, dict[str, str], list[str]]:
    """Let every mesh of the face follow the leading one in these shapes, as far as they are free.

    Strips and takes that an earlier version put on the other meshes go to the leader; other curves of theirs stay in the
    file as Actions.

    Args:
        obj: an object of the rig.
        names: of shape keys, on whichever mesh.

    Returns:
        The leading mesh (None where no mesh has shape keys), the data path on its shape keys that carries each shape that
        may be keyed, and what was left alone or moved, in plain words.
    """
    first = leader(obj)
    if first is None:
        return None, {}, []
    keys = first.data.shape_keys
    own, locked, driven = _free(first, keys, names)
    paths = {name: shape_path(name) for name in own}
    notes, missing = [], names - set(keys.key_blocks.keys())
    for other in _others(obj, first):
        if other.library is not None:
            notes += [] if _our_drivers(other) else [_linked(obj, other)]
            continue
        mesh = next(mesh for mesh in rig.meshes(obj) if mesh.data.shape_keys == other)
        free, more_locked, more_driven = _free(mesh, other, names)
        locked, driven = locked + more_locked, driven + more_driven
        for name in free:
            if name in missing:
                _add_property(keys, name)
                paths[name] = channel(keys, name)
        _take_over(keys, other, {shape_path(name): channel(keys, name) for name in free})
        notes += _let_go(keys, other, mesh, {shape_path(name) for name in free})
        for name in free:
            _follow(other, name, first, channel(keys, name))
        other.update_tag()
    keys.update_tag()  # curves that came to an Action in use are not seen by themselves
    return first, paths, notes + rig.left_alone(locked, driven)


def _linked(obj: Any, keys: Any) -> str:
    """A sentence on a mesh that cannot follow."""
    name = next(mesh.name for mesh in rig.meshes(obj) if mesh.data.shape_keys == keys)
    return f"'{name}' is linked from {keys.library.filepath} and does not follow the face; make it local, or press Connect Meshes in that file."


def free_shapes(mesh: Any, keys: Any, names: set[str]) -> list[str]:
    """Shapes of a mesh, of these names, that neither a driver sets nor a lock keeps."""
    driven = rig.driven_names(keys)
    return [name for name in _free(mesh, keys, names)[0] if name not in driven]


def _free(mesh: Any, keys: Any, names: set[str]) -> tuple[list[str], list[str], list[str]]:
    """Shapes of a mesh that may be set; those that are locked, and that drivers of the user set, with the mesh's name."""
    free, locked, driven = [], [], []
    users = rig.driven_names(keys, besides=set(_our_drivers(keys)))
    for block in keys.key_blocks:
        if block == keys.reference_key or block.name not in names:
            continue
        if block.name in users:
            driven.append(f"{mesh.name}: {block.name}")
        elif getattr(block, "lock_shape", False):
            locked.append(f"{mesh.name}: {block.name}")
        else:
            free.append(block.name)
    return free, locked, driven


def _add_property(keys: Any, name: str) -> None:
    if name not in keys:
        keys[name] = 0.0
        keys.id_properties_ui(name).update(default=0.0, soft_min=0.0, soft_max=1.0, description="Shape of other meshes")
        keys.property_overridable_library_set(channel(keys, name), True)


def _follow(keys: Any, name: str, first: Any, path: str) -> None:
    """See that a driver sets a shape key to what the leader has."""
    block = keys.key_blocks[name]
    block.slider_min, block.slider_max = -_WIDE, _WIDE
    variable = _our_drivers(keys).get(shape_path(name))
    if variable is None:
        driver = block.driver_add("value").driver
        driver.type = "SUM"
        variable = driver.variables.new()
        variable.name = _VARIABLE
    target = variable.targets[0]
    path = f"data.shape_keys.{path}".replace(".[", "[")
    if (target.id, target.data_path) != (first, path):
        target.id, target.data_path = first, path


def _take_over(leading: Any, keys: Any, paths: dict[str, str]) -> None:
    """Give the leader what only another mesh had: curves of shapes that the leader lacks, and strips of an emotion in them."""
    animation = keys.animation_data
    alone = {old: new for old, new in paths.items() if old != new}
    if animation is None or not alone:
        return
    ours = leading.animation_data or leading.animation_data_create()
    parts = [(animation.action, animation.action_slot, None)]
    parts += [
        (s.action, s.action_slot, track) for track in animation.nla_tracks if is_ours(track) for s in track.strips
    ]
    for action, slot, track in parts:
        curves = [curve for curve in curves_of(action, slot) if curve.data_path in alone]
        if not curves or action.library is not None:
            continue
        bag, target = slot_made(action, leading)
        for curve in curves:
            if bag.fcurves.find(alone[curve.data_path]) is None:
                copy_curve(curve, bag.fcurves.new(alone[curve.data_path]))
        if track is None and ours.action is None:
            ours.action, ours.action_slot = action, target
        elif track is not None and track.name not in ours.nla_tracks:
            copy_track(track, ours, lambda strip, target=target: target)


def _let_go(leading: Any, keys: Any, mesh: Any, paths: set[str]) -> list[str]:
    """Take the curves of these shapes off a mesh that follows from now on; what is not the leader's as well is named."""
    animation = keys.animation_data
    if animation is None:
        return []
    for track in [track for track in animation.nla_tracks if is_ours(track)]:
        animation.nla_tracks.remove(track)
    action = animation.action
    moved = {curve.data_path for curve in curves_of(action, animation.action_slot)}
    if not moved or not moved <= paths:
        return []
    shared = _same_take(keys, leading)
    action.use_fake_user = True
    animation.action = None
    if shared:
        return []
    return [f"'{mesh.name}' follows the face now; its own keys are kept in the file as the action '{action.name}'."]
