"""Text over several lines of a panel."""

import textwrap
from typing import Any

import bpy


def wrapped(layout: Any, text: str, width: int, icon: str = "NONE") -> None:
    """A sentence over several lines; a word that is longer than one, such as a path, is broken."""
    layout = layout.column(align=True)
    scale = bpy.context.preferences.system.ui_scale or 1.0  # 0 without a window
    characters = max(20, int(width / (7.5 * scale)) - 4)  # a letter of Blender's font is about 7.5 pixels wide
    for number, line in enumerate(textwrap.wrap(text, characters, break_on_hyphens=False)):
        layout.label(text=line, icon=icon if not number else "BLANK1" if icon != "NONE" else "NONE")
