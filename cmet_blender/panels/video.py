"""The panel Video."""

from typing import Any

import bpy

from .. import footage, session
from ..operators.engine import engine_text
from .base import Panel, wrapped


class CMET_PT_video(Panel, bpy.types.Panel):
    """The photoreal clip from the same curves"""

    bl_label = "Video"
    bl_idname = "CMET_PT_video"

    def draw(self, context: Any) -> None:
        """Render, before and after, the engine."""
        layout, settings = self.layout, context.scene.cmet
        layout.use_property_split = True
        layout.use_property_decorate = False
        layout.prop(settings, "quality")
        layout.prop(settings, "video_format")
        row = layout.row()
        row.enabled = settings.video_format not in ("mov", "mxf")
        row.prop(settings, "rate_factor")
        if not row.enabled:
            layout.label(text="ProRes and DNxHR have no rate factor", icon="INFO")
        layout.prop(settings, "watermark")
        missing = [
            word
            for word, there in (
                ("a clip", settings.clip),
                ("a coefficient track", settings.track),
                ("a rig", settings.rig),
            )
            if not there
        ]
        column = layout.column(align=True)
        row = column.row()
        row.scale_y = 1.3
        row.enabled = not missing
        row.operator("cmet.render_video", icon="RENDER_ANIMATION")
        if missing:
            column.label(text="Needs " + " and ".join(missing), icon="INFO")
        strip = footage.edited(context.scene)
        row = layout.row()
        row.enabled = strip is not None
        row.operator(
            "cmet.compare",
            icon="ARROW_LEFTRIGHT",
            text="Before / After" if strip is None else "Show After" if strip.mute else "Show Before",
        )
        if strip is None and not missing:
            layout.label(text="After the first render", icon="INFO")
        health = session.STATE.health
        row = layout.row(align=True)
        row.label(
            text=engine_text(health) if health else "Engine not started",
            icon="PLUGIN" if health else "UNLINKED",
        )
        row.operator(
            "cmet.engine_stop" if health else "cmet.engine_start", text="", icon="SNAP_FACE" if health else "PLAY"
        )
        row.operator("cmet.engine_check", text="", icon="CHECKMARK")
        if health.get("mismatch"):
            wrapped(layout, health["mismatch"], context.region.width, "ERROR")
