"""The clip beside or behind the face in the 3D view: a camera of its own, placed so that rig and clip show the face alike."""

import contextlib
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import bpy
import numpy as np
from mathutils import Vector

from cmet_engine.errors import CmetError
from cmet_engine.track import FACE_PLACE, CoefficientTrack

from . import followers, footage
from .mapping import RigMapping

CAMERA = "C-MET footage"
BESIDE, BEHIND, SCENE_CAMERA = "BESIDE", "BEHIND", "CAMERA"
USUAL_PLACE = ((0.5, 0.42), (0.5, 0.62))
"""Where eyes and mouth of a face that was not tracked are taken to be, from the top left in parts of the picture."""
_EYES = ("eyeBlinkLeft", "eyeBlinkRight")  # shapes that tell where eyes and mouth are
_MOUTH = ("mouthPucker", "mouthFunnel", "mouthClose", "jawOpen")
_LENS, _SENSOR = 85.0, 36.0  # millimetres; a portrait's
_HEADER = 60  # pixels of a view that its headers cover


@dataclass(frozen=True)
class Place:
    """Where a face is in the scene: between its eyes, its mouth, and the direction in which it looks."""

    eyes: Vector
    mouth: Vector
    forward: Vector


def place_of(obj: Any, mapping: RigMapping) -> Place | None:
    """That of a rig's leading mesh at rest; None where it lacks the shapes that tell."""
    mesh = followers.leader(obj)
    if mesh is None:
        return None
    shapes = mapping.shapes
    eyes = [point for name in _EYES if (point := _moved(mesh, shapes.get(name, ""))) is not None]
    mouth = next((point for name in _MOUTH if (point := _moved(mesh, shapes.get(name, ""))) is not None), None)
    if not eyes or mouth is None:
        return None
    turned = (mesh.parent or mesh).matrix_world.to_3x3()
    forward = turned @ Vector((0, -1, 0))
    if abs(forward.z) > 0.7 * forward.length:  # Y is up in the rig's own space
        forward = turned @ Vector((0, 0, 1))
    forward = Vector((forward.x, forward.y, 0)).normalized()
    return Place(mesh.matrix_world @ Vector(np.mean(eyes, 0)), mesh.matrix_world @ Vector(mouth), forward)


def _moved(mesh: Any, shape: str) -> np.ndarray | None:
    """The middle of the way of what a shape moves most, in the mesh's space: of a blink, between the lids."""
    keys = mesh.data.shape_keys
    if shape not in keys.key_blocks:
        return None
    rest, moved = _positions(keys.reference_key), _positions(keys.key_blocks[shape])
    weight = np.linalg.norm(moved - rest, axis=1) ** 4
    return weight @ (rest + moved) / 2 / weight.sum() if weight.sum() > 0 else None


def _positions(block: Any) -> np.ndarray:
    flat = np.empty(len(block.data) * 3, np.float32)
    block.data.foreach_get("co", flat)
    return flat.reshape(-1, 3).astype(np.float64)


def show(scene: Any, clip: Any, where: str, face: Place | None = None, seen: Any = USUAL_PLACE) -> Any:
    """Show a clip on the footage's camera, which is placed before the face of a rig, or on the scene's.

    Args:
        scene: the scene; its picture size counts.
        clip: a movie clip.
        where: `BESIDE` the face, to its left; `BEHIND` it, where the clip has it; or on the scene's camera (`SCENE_CAMERA`), which
            is left where it is.
        face: where the rig's face is; without one the camera stays where it is.
        seen: where the clip shows its eyes and its mouth, as `USUAL_PLACE`.

    Returns:
        The camera object.
    """
    own = bpy.data.objects.get(CAMERA)
    if where == SCENE_CAMERA and scene.camera is not None:
        camera = scene.camera
    else:
        camera = own or bpy.data.objects.new(CAMERA, bpy.data.cameras.new(CAMERA))
        if camera.name not in scene.objects:
            scene.collection.objects.link(camera)
        scene.camera = scene.camera or camera
    _background(camera.data, clip, (-1.0, 0.0) if where == BESIDE else (0.0, 0.0))
    if face is not None and camera.name == CAMERA:
        _frame(camera, face, (scene.render.resolution_x, scene.render.resolution_y), tuple(clip.size), seen)
    return camera


def _before(settings: Any) -> Any | None:
    """The movie clip of the scene's clip."""
    path = bpy.path.abspath(settings.clip)
    return next((c for c in bpy.data.movieclips if path and bpy.path.abspath(c.filepath) == path), None)


def _after(scene: Any) -> Any | None:
    """The movie clip of the edited video while the sequencer shows that."""
    strip = footage.edited(scene)
    if strip is None or strip.mute or strip.type != "MOVIE":
        return None
    clip = bpy.data.movieclips.load(bpy.path.abspath(strip.filepath), check_existing=True)
    clip.frame_start = int(strip.frame_final_start)
    return clip


def refresh(one: Any, mapping: RigMapping | None, *, view: bool = False) -> None:
    """Show the scene's clip, or the edited video, whichever the sequencer shows, with the rig of a `Performer`, where their take says that the face is; nothing without a clip.

    Args:
        one: whom the panels are about.
        mapping: of their rig, where they have one.
        view: also look there in the 3D view.
    """
    scene = one.id_data
    settings = scene.cmet
    clip = _after(scene) or _before(settings)
    if clip is None:
        return
    seen = None
    if one.track:
        with contextlib.suppress(CmetError, OSError):
            seen = CoefficientTrack.load(Path(bpy.path.abspath(one.track))).meta.get(FACE_PLACE)
    face = place_of(one.rig, mapping) if one.rig is not None and mapping is not None else None
    camera = show(scene, clip, settings.footage_place, face, seen or USUAL_PLACE)
    if view:
        look(camera, settings.footage_place == BESIDE)


def _background(data: Any, clip: Any, offset: tuple[float, float]) -> None:
    image = next((b for b in data.background_images if b.source == "MOVIE_CLIP"), None)
    if image is None:
        image = data.background_images.new()
        image.source = "MOVIE_CLIP"
    image.clip, image.alpha, image.frame_method, image.offset = clip, 1.0, "FIT", offset
    data.show_background_images = True
    if data.name.startswith(CAMERA):
        data.show_passepartout = False  # beside the camera's frame there is the clip


def _frame(camera: Any, face: Place, frame: tuple[int, int], size: tuple[int, int], seen: Any) -> None:
    """Place a camera so that the face stands in its frame where it is `seen` in a picture of `size`, fitted into the frame."""
    (width, height), most = frame, max(frame)
    scale = min(width / size[0], height / size[1])
    part = np.array([size[0] * scale / width, size[1] * scale / height])
    eyes, mouth = (0.5 + (np.array(point) - 0.5) * part for point in seen)
    x, y = (eyes + mouth) / 2
    whole = abs(face.eyes.z - face.mouth.z) / max(float(abs(mouth - eyes)[1]), 0.02)  # height of the frame at the face
    middle = (face.eyes + face.mouth) / 2
    data = camera.data
    data.lens, data.sensor_width, data.sensor_fit = _LENS, _SENSOR, "AUTO"
    data.shift_x, data.shift_y = (0.5 - x) * width / most, (y - 0.5) * height / most
    distance = whole * most / height * _LENS / _SENSOR
    data.clip_start, data.clip_end = distance / 1000, distance * 1000
    data.display_size = whole / 4
    camera.location = middle + face.forward * distance
    camera.rotation_mode = "XYZ"
    camera.rotation_euler = (-face.forward).to_track_quat("-Z", "Y").to_euler()


def look(camera: Any, beside: bool) -> None:
    """Look through the camera in the largest 3D view of the window, so that clip and face are both seen."""
    window = bpy.context.window
    areas = [area for area in window.screen.areas if area.type == "VIEW_3D"] if window is not None else []
    if not areas:
        return
    area = max(areas, key=lambda one: one.width * one.height)
    space = area.spaces.active
    region = next(r for r in area.regions if r.type == "WINDOW")
    space.use_local_camera = camera != bpy.context.scene.camera
    if space.use_local_camera:
        space.camera = camera
    view = space.region_3d
    view.view_perspective = "CAMERA"
    left, right = (_covered(area, region, kind) for kind in ("TOOLS", "UI"))
    frame = np.array((bpy.context.scene.render.resolution_x, bpy.context.scene.render.resolution_y), float)
    frame *= max(region.width, region.height) / frame.max()  # at a factor of 1
    free = region.width - left - right, region.height - 2 * _HEADER
    factor = 0.95 * min(free[0] / (frame[0] * (2 if beside else 1)), free[1] / frame[1])
    aside = (left - right) / 2 + (frame[0] * factor / 2 if beside else 0)
    view.view_camera_zoom = _zoom(factor)
    view.view_camera_offset = (-aside / (2 * factor * region.width), 0.0)


def _covered(area: Any, region: Any, kind: str) -> int:
    """Pixels of a view's width that a region over it covers."""
    over = next((r for r in area.regions if r.type == kind and r.width > 1), None)
    return over.width if over is not None and region.x <= over.x < region.x + region.width else 0


def _zoom(factor: float) -> float:
    """What Blender keeps for a view that shows the camera's frame by a factor: 1 is as large as the view is."""
    return max(-30.0, (math.sqrt(4 * factor) - math.sqrt(2)) * 50)
