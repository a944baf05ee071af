"""Small pictures of emotions for the gallery, drawn from what the face does: no files, any emotion."""

import zlib
from typing import Any

import numpy as np

SIZE = 64  # pixels

# mouth corners up, mouth open, inner brow up, brow down, eyes open, one-sidedness
LOOKS: dict[str, tuple[float, float, float, float, float, float]] = {
    "neutral": (0, 0, 0, 0, 1, 0),
    "happy": (1, 0.35, 0.2, 0, 0.8, 0),
    "sad": (-0.8, 0, 1, 0, 0.7, 0),
    "angry": (-0.5, 0.15, 0, 1, 0.9, 0),
    "fear": (-0.4, 0.5, 1, 0, 1.4, 0),
    "surprised": (0, 1, 0.9, -0.6, 1.5, 0),
    "disgusted": (-0.7, 0.2, 0, 0.7, 0.5, 0.3),
    "contempt": (0.3, 0, 0, 0.2, 0.7, 1),
    "charismatic": (0.9, 0.2, 0.3, 0, 1, 0.2),
    "desirous": (0.3, 0.15, 0.3, 0, 0.5, 0),
    "empathetic": (0.3, 0, 0.9, 0, 0.8, 0),
    "envious": (-0.4, 0, 0, 0.6, 0.6, 0.6),
    "romantic": (0.6, 0, 0.4, 0, 0.5, 0),
    "sarcastic": (0.6, 0, 0, 0.3, 0.6, 1),
}

_collection: Any = None


def draw(name: str) -> np.ndarray:
    """A face, float32 [SIZE, SIZE, 4] RGBA 0..1, first row at the bottom; unknown names get a face of their own colour."""
    corners, opened, inner, down, eyes, one_sided = LOOKS.get(name, (0.3, 0.1, 0.1, 0, 1, 0))
    y, x = np.mgrid[0:SIZE, 0:SIZE] / (SIZE - 1) * 2 - 1  # -1..1, y up
    hue = (zlib.crc32(name.encode()) % 360) / 60
    skin = (
        np.array([0.98, 0.80, 0.45]) if name in LOOKS else 0.6 + 0.3 * np.cos(np.pi / 3 * (hue - np.array([0, 2, 4])))
    )
    ink = np.array([0.16, 0.11, 0.10])
    image = np.zeros((SIZE, SIZE, 4), np.float32)

    def paint(distance: np.ndarray, colour: np.ndarray) -> None:
        cover = np.clip(0.5 - distance * SIZE / 2, 0, 1)[..., None]
        image[..., :3] = image[..., :3] * (1 - cover) + colour * cover
        image[..., 3:] = np.maximum(image[..., 3:], cover)

    paint(np.hypot(x, y) - 0.95, skin)
    for side in (-1, 1):
        ex, ey = x - side * 0.36, y - 0.2
        height = 0.17 * max(eyes, 0.15)
        paint((np.hypot(ex / 0.13, ey / height) - 1) * min(0.13, height), ink)
        lift = 0.14 * inner - 0.10 * down
        slope = -side * (0.35 * down - 0.45 * inner)
        raised = 0.12 * one_sided * (side > 0)
        brow = 0.52 + lift * (0.6 - 0.4 * side * ex / 0.2) + raised - slope * ex * 0.8
        paint(np.maximum(np.abs(y - brow) - 0.045, np.abs(ex) - 0.2), ink)
    width = 0.42 + 0.08 * max(corners, 0) - 0.12 * opened
    curve = -0.42 + 0.55 * (corners + 0.9 * one_sided * np.sign(x) * (np.abs(x) > 0.02)) * (x**2 - 0.1)
    half = 0.04 + 0.22 * opened * np.sqrt(np.clip(1 - (x / width) ** 2, 0, 1))
    paint(np.maximum(np.abs(y - curve) - half, np.abs(x) - width), ink)
    return image


def icon(name: str) -> int:
    """Icon number for Blender's menus; 0 where there is no window to draw in."""
    import bpy

    global _collection
    if bpy.app.background:
        return 0
    if _collection is None:
        import bpy.utils.previews

        _collection = bpy.utils.previews.new()
    if name not in _collection:
        preview = _collection.new(name)
        preview.icon_size = preview.image_size = (SIZE, SIZE)
        pixels = draw(name).ravel()
        preview.icon_pixels_float.foreach_set(pixels)
        preview.image_pixels_float.foreach_set(pixels)
    return _collection[name].icon_id


def forget() -> None:
    """Free the pictures, when the add-on is switched off."""
    global _collection
    if _collection is not None:
        import bpy.utils.previews

        bpy.utils.previews.remove(_collection)
        _collection = None
