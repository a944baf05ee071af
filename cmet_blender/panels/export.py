"""The panel Export."""

from typing import Any

import bpy

from ..export import PRESETS
from ..wrapping import wrapped
from .base import Panel, fields, news, whose


class CMET_PT_export(Panel, bpy.types.Panel):
    """The rig with its animation as a file"""

    bl_label = "Export"
    bl_idname = "CMET_PT_export"

    def draw(self, context: Any) -> None:
        """File, preset, what the program expects."""
        layout, settings = fields(self.layout), context.scene.cmet
        one = whose(layout, settings)
        layout.prop(settings, "export_path", placeholder="RIG.fbx")
        if not settings.export_path or settings.export_path.lower().endswith(".fbx"):
            layout.prop(settings, "preset")
            if settings.preset in PRESETS:
                wrapped(layout.box(), PRESETS[settings.preset].expects, context.region.width, "INFO")
        layout.prop(settings, "consent")
        column = layout.column(align=True)
        row = column.row()
        row.scale_y = 1.3
        row.enabled = one.rig is not None
        row.operator("cmet.export", icon="EXPORT")
        if one.rig is None:
            column.label(text="Needs a rig", icon="INFO")
        news(layout, context, "export")
