"""Small pictures of emotions for the gallery: the demo head, rendered by `rigs/build_gallery.py`."""

from pathlib import Path
from typing import Any

import bpy
import bpy.utils.previews

FOLDER = Path(__file__).resolve().parent / "gallery"
OWN = "own"  # the picture of every emotion that the user added

_collection: Any = None


def picture(name: str) -> Path:
    """The picture of an emotion; those of the user share one."""
    path = FOLDER / f"{name}.jpg"
    return path if path.is_file() else FOLDER / f"{OWN}.jpg"


def icon(name: str) -> int:
    """Icon number for Blender's menus; 0 where there is no window to draw in."""
    global _collection
    if bpy.app.background:
        return 0
    if _collection is None:
        _collection = bpy.utils.previews.new()
    if name not in _collection:
        _collection.load(name, str(picture(name)), "IMAGE")
    return _collection[name].icon_id


def forget() -> None:
    """Free the pictures, when the add-on is switched off."""
    global _collection
    if _collection is not None:
        bpy.utils.previews.remove(_collection)
        _collection = None
