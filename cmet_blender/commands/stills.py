"""`stills`: pictures of a rig's face in the frames of a track, rendered without a window."""

import argparse
from typing import Any

import bpy
import numpy as np
from mathutils import Vector

from cmet_engine.errors import InvalidInput
from cmet_engine.track import CoefficientTrack

from .. import keyframes, rig
from ..frames import set_rate
from .rigs import mapping_of, open_rig

LENS, SENSOR = 85.0, 36.0  # mm, as portraits are taken
AROUND = 1.45
"""Side of the picture over the height of what moves in the face."""

MOVES = 0.05
"""A point belongs to the face where a shape moves it by this share of the furthest that the shape moves any."""

LIGHTS = ((-0.7, 0.8, 1.0, 15.0), (1.0, 0.3, 1.2, 5.0), (0.0, 0.0, 0.6, 2.0))
"""Soft lights: to the side, upwards (in distances of the camera), size, watts at a distance of a metre."""


def stills(options: argparse.Namespace) -> dict[str, Any]:
    """Render every frame of a short track; returns what to print.

    Raises:
        CmetError: rig or track cannot be read, or the folder holds something.
    """
    if options.output.exists() and (not options.output.is_dir() or any(options.output.iterdir())):
        raise InvalidInput(f"{options.output} is there and not empty; name another folder.")
    track = CoefficientTrack.load(options.track)
    obj, _ = open_rig(options.rig, options.object)
    scene, mapping = bpy.context.scene, mapping_of(options, obj)
    set_rate(scene, track.fps)
    furnish(obj, options.size, options.samples)
    action = keyframes.apply_track(obj, track, mapping)
    options.output.mkdir(parents=True, exist_ok=True)
    for number in range(len(track)):
        scene.frame_set(number + 1)
        scene.render.filepath = str((options.output / f"{number:04d}.png").resolve())
        bpy.ops.render.render(write_still=True)
    return {"file": options.output, "object": obj.name, "frames": len(track), "notes": keyframes.notes_of(action)}


def furnish(obj: Any, size: int, samples: int) -> None:
    """Put camera and lights before the face of a rig, and settings for quick pictures of `size` pixels; lights of the file go."""
    scene = bpy.context.scene
    for thing in [o for o in scene.objects if o.type in ("LIGHT", "CAMERA")]:
        bpy.data.objects.remove(thing)
    middle, ahead, height = face_of(obj)
    distance = AROUND * height * LENS / SENSOR
    camera = bpy.data.objects.new("camera", bpy.data.cameras.new("camera"))
    camera.data.lens, camera.data.sensor_width = LENS, SENSOR
    camera.data.clip_start, camera.data.clip_end = 0.01 * distance, 100 * distance
    camera.location = middle + ahead * distance
    camera.rotation_euler = (-ahead).to_track_quat("-Z", "Y").to_euler()
    scene.collection.objects.link(camera)
    scene.camera = camera
    side = Vector((0, 0, 1)).cross(ahead)
    for across, up, extent, watts in LIGHTS:
        lamp = bpy.data.lights.new("light", "AREA")
        lamp.energy, lamp.size = watts * distance**2, extent * distance
        thing = bpy.data.objects.new("light", lamp)
        thing.location = middle + distance * (ahead + across * side + Vector((0, 0, up)))
        thing.rotation_euler = (middle - thing.location).to_track_quat("-Z", "Y").to_euler()
        scene.collection.objects.link(thing)
    scene.world = bpy.data.worlds.new("stills")
    scene.world.color = (0.15, 0.15, 0.15)
    scene.render.engine, scene.cycles.device = "CYCLES", "CPU"
    scene.cycles.samples, scene.cycles.use_denoising, scene.cycles.max_bounces = samples, True, 2
    scene.render.resolution_x = scene.render.resolution_y = size
    scene.render.resolution_percentage, scene.render.use_persistent_data = 100, True
    scene.render.image_settings.file_format, scene.render.image_settings.color_mode = "PNG", "RGB"
    scene.view_settings.view_transform = "Standard"


def face_of(obj: Any) -> tuple[Vector, Vector, float]:
    """Middle of a rig's face, the direction in which it looks (level), and its height, in the world's space.

    Raises:
        InvalidInput: no shape moves anything.
    """
    points, deltas = rig.geometry(obj)
    moved = [np.linalg.norm(delta, axis=1) for delta in deltas.values()]
    face = np.any([far > MOVES * far.max() for far in moved if far.max() > 0], axis=0) if moved else np.zeros(0, bool)
    if not np.any(face):
        raise InvalidInput(f"{obj.name} has no shape that moves a face.")
    world = np.array(rig.meshes(obj)[0].matrix_world)
    points = points @ world[:3, :3].T + world[:3, 3]
    low, high = np.quantile(points[face], 0.01, 0), np.quantile(points[face], 0.99, 0)
    ahead = (low + high)[:2] / 2 - (points.min(0) + points.max(0))[:2] / 2
    axis = int(np.abs(ahead).argmax())
    direction = Vector((0, 0, 0))
    direction[axis] = np.sign(ahead[axis]) or -1.0
    return Vector((low + high) / 2), direction, float(high[2] - low[2])
