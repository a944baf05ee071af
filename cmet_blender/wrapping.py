"""Text over several lines of a panel."""

from typing import Any

import bpy


def wrapped(layout: Any, text: str, width: int, icon: str = "NONE") -> None:
    """A sentence over several lines."""
    layout = layout.column(align=True)
    line, first = "", True
    scale = bpy.context.preferences.system.ui_scale or 1.0  # 0 without a window
    characters = max(20, int(width / (7.5 * scale)) - 4)  # a letter of Blender's font is about 7.5 pixels wide
    for word in [*text.split(), None]:
        if word is None or len(line) + len(word) + 1 > characters:
            if line:
                layout.label(text=line, icon=icon if first else "BLANK1" if icon != "NONE" else "NONE")
                first = False
            line = ""
        if word is not None:
            line = f"{line} {word}".strip()
