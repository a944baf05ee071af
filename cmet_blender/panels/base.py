"""Where the panels stand, and text over several lines."""

from typing import Any

import bpy

from .. import performers


class Panel:
    """In the tab C-MET of the sidebar."""

    bl_space_type = "VIEW_3D"
    bl_region_type = "UI"
    bl_category = "C-MET"


def whose(layout: Any, settings: Any) -> Any:
    """The `Performer` whom a panel is about, said at its top where there are several."""
    one = performers.current(settings)
    if performers.called(one):
        layout.label(text=performers.called(one), icon="USER")
    return one


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
