"""Scene frames and time: the scene of an object, its rate, and a walk through its frames."""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from fractions import Fraction
from typing import Any

import bpy
import numpy as np

from cmet_engine.errors import InvalidInput


def scene_fps(scene: Any) -> Fraction:
    """The scene's frames a second, exact where Blender's base stands for 1.001."""
    base = scene.render.fps_base
    exact = Fraction(1001, 1000) if abs(base - 1.001) < 1e-5 else Fraction(base).limit_denominator(100_000)
    return Fraction(scene.render.fps) / exact


def set_rate(scene: Any, fps: Fraction) -> None:
    """Give the scene a rate, exact for whole rates and those over 1.001."""
    whole = max(1, round(fps))
    scene.render.fps = whole
    scene.render.fps_base = float(Fraction(whole) / fps)


def check_range(first: int, last: int) -> None:
    """Check a range of scene frames, both included.

    Raises:
        InvalidInput: it is empty.
    """
    if last < first:
        raise InvalidInput(f"The frame range {first} to {last} is empty; the last frame must not be before the first.")


def key_positions(times: np.ndarray, start_frame: float, fps: Fraction) -> np.ndarray:
    """Positions, float32 [N], in scene frames of moments `times` [N] s after `start_frame`.

    Single precision is what Blender stores; writing and reading through this one function hits the same moments.
    """
    return (start_frame + np.asarray(times, np.float64) * float(fps)).astype(np.float32)


def scene_of(obj: Any) -> Any:
    """The scene to work in: the current one if the object is in it, else one that holds it."""
    scene = bpy.context.scene
    if scene is not None and scene.objects.get(obj.name) == obj:
        return scene
    return obj.users_scene[0] if obj.users_scene else scene


@contextmanager
def frame_restored(scene: Any) -> Iterator[None]:
    """Put the scene's current frame back at the end."""
    frame, subframe = scene.frame_current, scene.frame_subframe
    try:
        yield
    finally:
        scene.frame_set(frame, subframe=subframe)


def frames_at(scene: Any, positions: np.ndarray) -> Iterator[Any]:
    """Go to each position (scene frames, fractions allowed) and yield the evaluated dependency graph."""
    view_layer = scene.view_layers[0] if bpy.context.scene != scene else bpy.context.view_layer
    for position in np.asarray(positions, np.float32):
        whole = math.floor(position)
        scene.frame_set(int(whole), subframe=float(position - np.float32(whole)))
        yield view_layer.depsgraph
