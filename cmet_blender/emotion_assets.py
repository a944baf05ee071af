"""Emotions as assets: Actions that hold an emotion's coefficients under their ARKit names, for every face and without the engine."""

import json
import re
from fractions import Fraction
from pathlib import Path
from typing import Any

import bpy
import numpy as np

from cmet_engine import arkit
from cmet_engine.errors import InvalidInput
from cmet_engine.track import CoefficientTrack

from . import actions, emotion_strips, followers, icons, nla
from .actions import INFO
from .frames import scene_fps, scene_of
from .mapping import RigMapping

LIBRARY = "C-MET"
FOLDER = Path(__file__).resolve().parent / "asset_library"
CATALOG = "2f4a0c0e-6f0b-4d55-9d0a-5c1c3e7d9a41"  # of `FOLDER`'s catalogue of emotions
_SHAPE = re.compile(r'(?:key_blocks)?\["(.+?)"\](?:\.value)?')


def make(name: str, coefficients: np.ndarray, *, picture: str = "", catalog: str = "") -> Any:
    """An Action of an emotion, marked as an asset.

    Args:
        name: what the asset is called.
        coefficients: what the emotion adds at strength 1, [N, 52] for N scene frames; a single row is held as long as wanted.
        picture: the emotion of the gallery whose picture it bears; default `name`.
        catalog: identity of the catalogue that it belongs to.
    """
    action = bpy.data.actions.new(name)
    bag = action.layers.new("C-MET").strips.new(type="KEYFRAME").channelbag(action.slots.new("KEY", name), ensure=True)
    for k in np.flatnonzero(np.abs(coefficients).max(0) > 1e-4):
        curve = bag.fcurves.new(followers.shape_path(arkit.NAMES[k]))
        points = np.stack([np.arange(1, len(coefficients) + 1), coefficients[:, k]], 1).astype(np.float32)
        curve.keyframe_points.add(len(points))
        curve.keyframe_points.foreach_set("co", points.ravel())
        curve.keyframe_points.foreach_set("interpolation", np.full(len(points), actions.LINEAR, np.int32))
        curve.update()
    action[INFO] = json.dumps({"asset": name})
    action.use_fake_user = True
    action.asset_mark()
    action.asset_data.tags.new("emotion")
    action.asset_data.description = "What an emotion adds to a face: right click, Add to Face"
    if catalog:
        action.asset_data.catalog_id = catalog
    with bpy.context.temp_override(id=action):
        bpy.ops.ed.lib_id_load_custom_preview(filepath=str(icons.picture(picture or name)))
    return action


def keep(strip: Any, mapping: RigMapping, name: str) -> Any:
    """Make an asset of what a strip on shape keys adds, its own keys and gains included; bones are left out.

    Raises:
        InvalidInput: it moves no shape that the mapping knows.
    """
    found = {_shape(curve): curve for curve in nla.curves_of(strip.action, strip.action_slot) if not curve.mute}
    names = [shape for shape in found if shape in mapping.channels]
    if not names or strip.id_data.id_type != "KEY":
        raise InvalidInput(f"'{name}' moves no shape that the table of the panel Rig knows; there is nothing to keep.")
    frames = np.arange(strip.action_frame_start, strip.action_frame_end + 0.5)
    values = np.array([[found[shape].evaluate(frame) for shape in names] for frame in frames])
    nothing = np.zeros((len(frames), arkit.COUNT))
    coefficients = mapping.invert(values + mapping.values(nothing, names), names, nothing)
    return make(name, coefficients, picture=nla.info_of(strip.action).get("emotion", ""))


def _shape(curve: Any) -> str:
    match = _SHAPE.fullmatch(curve.data_path)
    return match[1].replace('\\"', '"').replace("\\\\", "\\") if match else ""


def coefficients_of(action: Any) -> np.ndarray:
    """What an asset adds, [N, 52], at its frames from the first on.

    Raises:
        InvalidInput: it has no curves under ARKit names.
    """
    slots = [slot for slot in action.slots if slot.target_id_type == "KEY"]
    curves = {_shape(curve): curve for slot in slots for curve in nla.curves_of(action, slot)}
    known = {name: curve for name, curve in curves.items() if name in arkit.INDEX}
    if not known:
        raise InvalidInput(f"The Action '{action.name}' has no curves under ARKit names; it is no emotion.")
    first, last = action.curve_frame_range
    result = np.zeros((int(last - first) + 1, arkit.COUNT), np.float32)
    for name, curve in known.items():
        result[:, arkit.INDEX[name]] = [curve.evaluate(first + k) for k in range(len(result))]
    return result


def add(
    obj: Any, action: Any, part: tuple[float, float], *, strength: float, fade: float, mapping: RigMapping | None = None
) -> Any:
    """Put an asset on a rig as a strip.

    Args:
        obj: an object of the rig.
        action: the asset.
        part: scene frames between which it may lie; a held one fills them, another keeps its length.
        strength, mapping: as `emotion_strips.add` takes them.
        fade: frames in which it comes and goes at ends within the scene's range.

    Returns:
        The strip.
    """
    scene, coefficients = scene_of(obj), coefficients_of(action)
    first = round(part[0])
    last = round(part[1]) if len(coefficients) == 1 else first + len(coefficients) - 1
    if len(coefficients) == 1:
        coefficients = np.repeat(coefficients, max(2, last - first + 1), 0)
    track = CoefficientTrack(Fraction(scene_fps(scene)), coefficients)
    rise, fall = fade if first > scene.frame_start else 0.0, fade if last < scene.frame_end else 0.0
    half = (last - first) / 2
    keys = {float(first): strength, float(last): strength}
    if rise:
        keys |= {float(first): 0.0, first + min(rise, half): strength}
    if fall:
        keys |= {float(last): 0.0, last - min(fall, half): strength}
    return emotion_strips.add(
        obj, action.name, track, first, strength=strength, mapping=mapping, influence=sorted(keys.items()), info={"layer": "asset", "title": action.name}
    )  # fmt: skip


def show_library() -> bool:
    """Let the asset browser list the emotions that come with the add-on; returns whether it did not before."""
    libraries = bpy.context.preferences.filepaths.asset_libraries
    if any(Path(library.path) == FOLDER for library in libraries):
        return False
    libraries.new(name=LIBRARY, directory=str(FOLDER))
    return True
