"""A shot that the studio hands over: its clip behind the camera, the performance on a character, the emotions as strips."""

import math
from pathlib import Path
from typing import Any

import bpy
import numpy as np
from mathutils import Euler, Vector

from cmet_engine.emotions import LIKE
from cmet_engine.errors import InvalidInput
from cmet_engine.files import read_json
from cmet_engine.timeline import EmotionKey
from cmet_engine.track import CoefficientTrack

from . import actions, emotion_strips, followers, footage, keyframes, mapping
from .commands.rigs import open_rig
from .frames import scene_fps

FORMAT = "cmet-shot/1"
DEMO_HEAD = "demo_head.blend"
START = 1  # scene frame of the clip's first frame
FILLED = 0.8  # distance of a camera from a face, in what would just show the whole of it twice as large
DRAWN_SECONDS = 0.5  # after which a change of the window is drawn
CORRECTIONS = "corrections"  # title of the layer that stands for corrected curves


def open_shot(path: Path) -> dict[str, Any]:
    """Open the character of a shot and put everything in place; the scene gets the clip's rate, length and size.

    Args:
        path: the shot's file (.json): `clip`, `rig` (empty for the demo head), `source` (a track beside it), `mode`, and `layers`, each with
            `key` (of the timeline) and `edited` (the track with that emotion at strength 1 over the whole clip). Of the one for corrected
            curves `key` is null, and `below` the track that they correct.

    Returns:
        `object`, titles of the `strips`, `frames`, and `notes` as sentences.

    Raises:
        CmetError: a file is missing or damaged, or the character has no face that can be animated.
    """
    document = read_json(path)
    if not isinstance(document, dict) or document.get("format") != FORMAT:
        raise InvalidInput(f"{path.name} is not a shot of the studio.")
    rig = Path(document["rig"]) if document["rig"] else mapping.rigs_folder() / DEMO_HEAD
    obj, _ = open_rig(rig)
    scene = bpy.context.scene
    own_camera = scene.camera is not None
    about = footage.load(scene, document["clip"], START)
    source = CoefficientTrack.load(path.with_name(document["source"]))
    found = mapping.spread(obj, mapping.match(obj))
    action = keyframes.apply_track(obj, source, found, START, scene=scene)
    strips = []
    for layer in document["layers"]:
        edited, below = (
            CoefficientTrack.load(path.with_name(layer.get(k, document["source"]))) for k in ("edited", "below")
        )
        strips.append(_layer(obj, layer["key"], emotion_strips.delta(edited, below), found).name)
    _show_in_panels(scene, obj, document, path)
    scene.frame_set(START)
    low, high = _bounds(obj)
    if not own_camera:
        _before(scene.camera, low, high)
    notes = [*about["notes"], *source.notes, *keyframes.notes_of(action)]
    return {"object": obj.name, "strips": strips, "frames": len(source), "notes": notes}


def _layer(obj: Any, values: dict[str, Any] | None, delta: CoefficientTrack, found: mapping.RigMapping) -> Any:
    """The strip of one key of the timeline, or of the corrected curves (None)."""
    if values is None:
        return emotion_strips.add(obj, CORRECTIONS, delta, START, mapping=found, markers=False, info={"layer": "file"})
    key, rate = EmotionKey(**values), float(scene_fps(bpy.context.scene))
    end = min(delta.duration, key.end if key.end is not None else delta.duration)
    part = START + key.start * rate, START + end * rate
    frames = np.arange(math.floor(part[0]), math.ceil(part[1]) + 1)
    level = key.envelope((frames - START) / rate, delta.duration).astype(np.float64)
    corners = actions.simplified(frames, level, emotion_strips.RAMP_ERROR)
    influence = [(float(frames[n]), float(level[n])) for n in corners]
    info = {"layer": "file"} if key.emotion == LIKE else {"emotion": key.emotion}
    return emotion_strips.add(
        obj, key.emotion, delta, START, strength=key.strength, mapping=found, part=part, influence=influence, info=info
    )


def _show_in_panels(scene: Any, obj: Any, document: dict[str, Any], path: Path) -> None:
    """Fill the add-on's panels, where they are."""
    settings = getattr(scene, "cmet", None)
    if settings is not None:
        settings.clip, settings.track = document["clip"], str(path.with_name(document["source"]))
        settings.start_frame, settings.rig, settings.mode = START, obj, document["mode"]


def _bounds(obj: Any) -> tuple[Any, Any]:
    """Least and largest corner of the character's face in the world."""
    face = followers.leader(obj) or obj
    corners = np.array([face.matrix_world @ Vector(corner) for corner in face.bound_box])
    return corners.min(0), corners.max(0)


def _before(camera: Any, low: Any, high: Any) -> None:
    """Put a camera before a face that looks along -Y, as characters in Blender do."""
    away = FILLED * max(high[0] - low[0], high[2] - low[2]) / math.tan(camera.data.angle / 2)
    camera.location = ((low[0] + high[0]) / 2, low[1] - away, (low[2] + high[2]) / 2)
    camera.rotation_euler = (math.pi / 2, 0.0, 0.0)


def show(obj: Any) -> None:
    """Show the face from the front, and its strips, in the window; once that is drawn (before, Blender crashes)."""
    low, high = _bounds(obj)
    for other in bpy.context.view_layer.objects:
        other.select_set(other == obj)
    bpy.context.view_layer.objects.active = obj
    window = bpy.context.window_manager.windows[0]
    workspace = bpy.data.workspaces.get("Animation") or window.workspace
    window.workspace = workspace
    areas = [area for screen in workspace.screens for area in screen.areas]
    for space in (area.spaces.active for area in areas if area.type == "VIEW_3D"):
        space.overlay.show_overlays = True
        if space.region_3d.view_perspective != "CAMERA":
            space.show_region_ui = True
            space.region_3d.view_rotation = Euler((math.pi / 2, 0.0, 0.0)).to_quaternion()
            space.region_3d.view_location = (low + high) / 2
            space.region_3d.view_distance = 4 * FILLED * float(max(high - low))
    bpy.app.timers.register(_show_strips, first_interval=DRAWN_SECONDS)


def _show_strips() -> None:
    """Show the strips, and the add-on's tab beside the face, in a window that is drawn."""
    areas = [area for window in bpy.context.window_manager.windows for area in window.screen.areas]
    sheets = [area for area in areas if area.type == "DOPESHEET_EDITOR"]
    if sheets:
        largest = max(sheets, key=lambda area: area.height)
        largest.type = "NLA_EDITOR"
        largest.spaces.active.dopesheet.show_only_selected = True
    for region in (region for area in areas if area.type == "VIEW_3D" for region in area.regions):
        if region.type == "UI" and region.width > 1 and hasattr(bpy.context.scene, "cmet"):
            region.active_panel_category = "C-MET"
