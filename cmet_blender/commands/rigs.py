"""Opens the character that a command works on, and finds its mapping."""

import argparse
import contextlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import bpy

from cmet_engine.errors import InvalidInput, NotFound

from .. import export, mapping, rig
from ..mapping.conventions import bone_convention


def open_rig(path: Path | None, name: str | None = None) -> tuple[Any, bool]:
    """Open or import a character and choose its object; also whether it was imported into an empty scene.

    Raises:
        NotFound: the file or the object does not exist.
        InvalidInput: the file is of an unknown kind, or holds nothing that could be animated.
    """
    imported = path is not None and _open(path)
    objects = bpy.context.scene.objects
    if name is not None:
        if name not in objects:
            there = ", ".join(o.name for o in list(objects)[:8]) or "none"
            raise NotFound(f"There is no object '{name}' in the scene; it has {there}.")
        return objects[name], imported
    best = _best_face(objects)
    if best is None:
        where = path.name if path else "The scene"
        raise InvalidInput(f"{where} holds no mesh with face shape keys and no Rigify face; name one with --object.")
    return best, imported


def _open(path: Path) -> bool:
    """Open a .blend, or import another kind of file into an empty scene; returns whether it was imported."""
    if not path.is_file():
        raise NotFound(f"The rig {path} does not exist.")
    path = path.absolute()  # Blender 4.5 takes others from $PWD, which need not be the working folder
    suffix = path.suffix.lower()
    importers: dict[str, Callable[[], Any]] = {
        ".blend": lambda: bpy.ops.wm.open_mainfile(filepath=str(path), load_ui=False),
        ".glb": lambda: bpy.ops.import_scene.gltf(filepath=str(path)),
        ".gltf": lambda: bpy.ops.import_scene.gltf(filepath=str(path)),
        ".fbx": lambda: _import_fbx(path),
    }
    usd = (".usd", ".usda", ".usdc", ".usdz")
    importers |= dict.fromkeys(usd, lambda: bpy.ops.wm.usd_import(filepath=str(path)))
    if suffix not in importers:
        raise InvalidInput(f"{path.name}: a rig cannot be read from '{suffix}'; use one of {' '.join(importers)}.")
    if suffix in (".glb", ".gltf"):
        _check_gltf(path)
    if suffix != ".blend":
        bpy.ops.wm.read_homefile(use_empty=True)
        for module in ("io_scene_gltf2", "io_scene_fbx"):
            export.enable(module)
    try:
        importers[suffix]()
    except RuntimeError as error:
        raise InvalidInput(f"{path.name} cannot be read: {export.reason_of(error)}") from error
    return suffix != ".blend"


def _check_gltf(path: Path) -> None:
    """Refuse a glTF file that Blender cannot read because of its compression.

    Raises:
        InvalidInput: it needs meshopt to be decoded.
    """
    data = path.read_bytes()
    if data[:4] == b"glTF" and len(data) >= 20:
        data = data[20 : 20 + int.from_bytes(data[12:16], "little")]
    with contextlib.suppress(ValueError, AttributeError, TypeError):  # what is damaged, the importer says
        needed = [str(name) for name in json.loads(data).get("extensionsRequired", ())]
        if any("meshopt" in name for name in needed):
            raise InvalidInput(
                f"{path.name} is compressed with meshopt, which Blender does not read; write it anew without "
                "(gltfpack: without -c and -cc), or with Draco compression."
            )


def _import_fbx(path: Path) -> None:
    """Import an FBX file; with Blender's newer importer what the older one refuses, such as text and old versions.

    Raises:
        RuntimeError: neither reads it.
    """
    try:
        bpy.ops.import_scene.fbx(filepath=str(path), use_anim=False)
    except RuntimeError as error:
        refused = error
    else:
        return
    advice = "write it anew as binary FBX of version 7.4, or as glTF"
    try:
        bpy.ops.wm.read_homefile(use_empty=True)
        bpy.ops.wm.fbx_import(filepath=str(path), use_anim=False)
    except (AttributeError, RuntimeError):  # a Blender without it, or it refuses, too
        raise RuntimeError(f"{export.reason_of(refused).rstrip('.')}; {advice}.") from refused
    if not bpy.context.scene.objects:
        raise RuntimeError(f"{export.reason_of(refused).rstrip('.')}; {advice}.") from refused


def _best_face(objects: Any) -> Any | None:
    """The mesh that most of the shapes move, the largest of equals; else an armature with a Rigify face."""
    best, most = None, (0, 0)
    for obj in objects:
        if obj.type == "MESH" and rig.shape_keys(obj) is not None:
            moved = rig.moving_shapes(obj)
            found = mapping.match([block.name for block in obj.data.shape_keys.key_blocks][1:])
            named = [row for row in found.rows.values() if row.channels]
            score = (sum(not moved.isdisjoint(row.channels) for row in named), len(obj.data.vertices))
            if named and score > most:
                best, most = obj, score
    if best is None:
        best = next((o for o in objects if o.type == "ARMATURE" and bone_convention(rig.bone_names(o))), None)
    return best


def mapping_of(options: argparse.Namespace, obj: Any) -> mapping.RigMapping:
    """The mapping that the options name, or the one that matches."""
    if options.mapping is not None:
        return mapping.RigMapping.load(options.mapping)
    found = mapping.match(obj)
    return found if options.no_spread else mapping.spread(obj, found)
