"""Keys for what is done often; Blender's preferences show them, where they can be changed."""

from typing import Any

import bpy
import rna_keymap_ui

SHORTCUTS = (  # operator, and the key that is pressed with Ctrl, Shift and Alt
    ("cmet.add_emotion", "E"),
    ("cmet.edit_layer", "K"),
    ("cmet.live_record", "R"),
    ("cmet.compare", "B"),
)
_items: list[tuple[Any, Any]] = []


def draw(layout: Any) -> None:
    """The keys, as Blender's own preferences show keys."""
    configuration = bpy.context.window_manager.keyconfigs.user
    keymap = configuration.keymaps.get("Window") if configuration is not None else None
    if keymap is None:  # without a window
        return
    column = layout.column(align=True)
    column.use_property_split = False
    for name, _ in SHORTCUTS:
        item = next((item for item in keymap.keymap_items if item.idname == name), None)
        if item is not None:
            rna_keymap_ui.draw_kmi(["ADDON", "USER", "DEFAULT"], configuration, keymap, item, column, 0)


def register() -> None:
    """Add them; without a window there are none."""
    configuration = bpy.context.window_manager.keyconfigs.addon
    if configuration is None:
        return
    keymap = configuration.keymaps.new("Window")
    for name, key in SHORTCUTS:
        _items.append((keymap, keymap.keymap_items.new(name, key, "PRESS", ctrl=True, shift=True, alt=True)))


def unregister() -> None:
    """Take them away."""
    for keymap, item in _items:
        keymap.keymap_items.remove(item)
    _items.clear()
