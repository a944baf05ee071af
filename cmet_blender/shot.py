"""A shot that the studio hands over: its clip behind the camera, the performance on a character, the emotions as strips."""

from pathlib import Path
from typing import Any

import bpy

from cmet_engine.client import HANDOVER
from cmet_engine.emotions import LIKE
from cmet_engine.errors import InvalidInput
from cmet_engine.files import read_json
from cmet_engine.timeline import EmotionKey
from cmet_engine.track import FACE_PLACE, CoefficientTrack

from . import emotion_strips, footage, footage_view, keyframes, mapping
from .commands.rigs import open_rig
from .frames import scene_fps

DEMO_HEAD = "demo_head.blend"
START = 1  # scene frame of the clip's first frame
BRIGHT = "paint.sl"  # the light of solid views in which skin is about as bright as in a render; in the default one it is much darker
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
    if not isinstance(document, dict) or document.get("format") != HANDOVER:
        raise InvalidInput(f"{path.name} is not a shot of the studio.")
    rig = Path(document["rig"]) if document["rig"] else mapping.rigs_folder() / DEMO_HEAD
    obj, _ = open_rig(rig)
    scene = bpy.context.scene
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
    seen = source.meta.get(FACE_PLACE) or footage_view.USUAL_PLACE
    footage_view.show(scene, about["clip"], footage_view.BESIDE, footage_view.place_of(obj, found), seen)
    notes = [*about["notes"], *source.notes, *keyframes.notes_of(action)]
    return {"object": obj.name, "strips": strips, "frames": len(source), "notes": notes}


def _layer(obj: Any, values: dict[str, Any] | None, delta: CoefficientTrack, found: mapping.RigMapping) -> Any:
    """The strip of one key of the timeline, or of the corrected curves (None)."""
    if values is None:
        return emotion_strips.add(obj, CORRECTIONS, delta, START, mapping=found, markers=False, info={"layer": "file"})
    key, rate = EmotionKey(**values), float(scene_fps(bpy.context.scene))
    end = min(delta.duration, key.end if key.end is not None else delta.duration)
    part = START + key.start * rate, START + end * rate
    influence = emotion_strips.influence_of(key, delta.duration, START, rate)
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


def show(obj: Any) -> None:
    """Show the face beside the clip, and its strips, in the window; once that is drawn (before, Blender crashes)."""
    for other in bpy.context.view_layer.objects:
        other.select_set(other == obj)
    bpy.context.view_layer.objects.active = obj
    window = bpy.context.window_manager.windows[0]
    window.workspace = bpy.data.workspaces.get("Animation") or window.workspace
    bpy.app.timers.register(_arrange, first_interval=DRAWN_SECONDS)


def _arrange() -> None:
    """Give the editors of a window that is drawn what they are to show: strips, the add-on's tab, the face beside the clip."""
    window = bpy.context.window_manager.windows[0]
    areas = list(window.screen.areas)
    sheets = [area for area in areas if area.type == "DOPESHEET_EDITOR"]
    if sheets:
        largest = max(sheets, key=lambda area: area.height)
        largest.type = "NLA_EDITOR"
        largest.spaces.active.dopesheet.show_only_selected = True
    views = [area for area in areas if area.type == "VIEW_3D"]
    if views:
        widest = max(views, key=lambda area: area.width)
        widest.spaces.active.show_region_ui = True
        bpy.app.timers.register(_look, first_interval=DRAWN_SECONDS)


def show_colors(shading: Any) -> None:
    """Let a 3D view show faces in the colours of their vertices, about as bright as a render where it is solid."""
    shading.color_type = "VERTEX"
    if shading.type == "SOLID" and shading.light == "STUDIO":
        shading.studio_light = BRIGHT


def _look() -> None:
    """Look at the face beside the clip, in its colours where its vertices have some, now that the sidebar is drawn."""
    window = bpy.context.window_manager.windows[0]
    if getattr(window.view_layer.objects.active.data, "color_attributes", None):
        for area in (area for area in window.screen.areas if area.type == "VIEW_3D"):
            show_colors(area.spaces.active.shading)
    for region in (region for area in window.screen.areas if area.type == "VIEW_3D" for region in area.regions):
        if region.type == "UI" and region.width > 1 and hasattr(bpy.context.scene, "cmet"):
            region.active_panel_category = "C-MET"
    for area in (area for area in window.screen.areas if area.type == "NLA_EDITOR"):
        channels = next(region for region in area.regions if region.type == "CHANNELS")
        with bpy.context.temp_override(window=window, area=area, region=channels):
            bpy.ops.anim.channels_expand(all=True)
    camera = bpy.data.objects.get(footage_view.CAMERA)
    if camera is not None:
        with bpy.context.temp_override(window=window):
            footage_view.look(camera, beside=True)
    for area in window.screen.areas:
        area.tag_redraw()
