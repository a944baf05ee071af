"""The panel Footage."""

from pathlib import Path
from typing import Any

import bpy

from .. import session
from .base import Panel, wrapped


class CMET_PT_footage(Panel, bpy.types.Panel):
    """Clip, tracking, and what is under way"""

    bl_label = "Footage"
    bl_idname = "CMET_PT_footage"

    def draw(self, context: Any) -> None:
        """Clip, track, job, messages."""
        layout, settings = self.layout, context.scene.cmet
        layout.use_property_split = True
        layout.use_property_decorate = False
        width = context.region.width
        layout.operator(
            "cmet.load_footage", icon="FILE_MOVIE", text="Load Clip" if not settings.clip else Path(settings.clip).name
        )
        column = layout.column(align=True)
        column.prop(settings, "start_frame")
        column.prop(settings, "match_rate")
        column.prop(settings, "face")
        column.prop(settings, "person")
        column.prop(settings, "colorspace")
        column = layout.column(align=True)
        row = column.row(align=True)
        row.enabled = bool(settings.clip)
        row.operator("cmet.track", icon="TRACKER", text="Track Footage Again" if settings.track else "Track Footage")
        if not settings.clip:
            column.label(text="Load a clip to track it", icon="INFO")
        column.prop(settings, "track", text="Track File")
        job = session.STATE.job
        if job is not None:
            box = layout.box()
            box.progress(factor=job.factor, type="BAR", text=job.text())
            box.operator("cmet.cancel", icon="CANCEL")
        if settings.message:
            wrapped(layout.box(), settings.message, width, "ERROR")
        elif settings.done:
            wrapped(layout.box(), settings.done, width, "CHECKMARK")
