"""The panel Video."""

from pathlib import Path
from typing import Any

import bpy

from cmet_engine.choices import RATE_FACTOR_CODECS

from .. import footage, performers, session
from ..operators.engine import engine_text
from ..properties import LIKE_SOURCE, codecs_of
from ..wrapping import wrapped
from .base import Panel, fields, news

BADGES = {
    "valid": ("signed, unchanged", "CHECKMARK"),
    "changed": ("changed since signed", "ERROR"),
    "none": ("not signed", "QUESTION"),
    "unreadable": ("credentials damaged", "ERROR"),
}
"""What the panel says of a verified file, by `credentials` of the engine's answer."""

RATED = (LIKE_SOURCE, "mp4", "m4v", "mkv", "webm")
"""Formats whose automatic codec has a rate factor, or may have one."""


class CMET_PT_video(Panel, bpy.types.Panel):
    """The photoreal clip from the same curves"""

    bl_label = "Video"
    bl_idname = "CMET_PT_video"

    def draw(self, context: Any) -> None:
        """Render, before and after, the engine."""
        layout, settings = fields(self.layout), context.scene.cmet
        layout.prop(settings, "renderer")
        if settings.renderer == "warp":
            layout.prop(settings, "quality")
        layout.prop(settings, "video_format")
        codecs = codecs_of(settings.video_format)
        if codecs:
            layout.prop(settings, "codec")
        row = layout.row()
        row.enabled = settings.codec in RATE_FACTOR_CODECS or (
            settings.codec == "auto" and settings.video_format in RATED
        )
        row.prop(settings, "rate_factor")
        people = performers.ready(settings)
        if settings.people:
            missing = [] if people else ["someone with a rig and a track"]
        else:
            wanted = (("a clip", settings.clip), ("a take", settings.track), ("a rig", settings.rig))
            missing = [word for word, there in wanted if not there]
        layout.prop(settings, "consent")
        layout.prop(settings, "watermark")
        column = layout.column(align=True)
        row = column.row()
        row.scale_y = 1.3
        row.enabled = not missing
        row.operator("cmet.render_video", icon="RENDER_ANIMATION")
        if missing:
            wrapped(column, "Needs " + " and ".join(missing), context.region.width, "INFO")
        elif settings.people:
            wrapped(column, "Edits " + ", ".join(map(performers.called, people)), context.region.width, "USER")
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
        layout.operator("cmet.verify", icon="VIEWZOOM")
        if settings.badge:
            text, icon = BADGES[settings.badge]
            wrapped(layout, f"{Path(settings.verified).name}: {text}", context.region.width, icon)
        _draw_engine(layout, context.region.width)
        news(layout, context, "video")


def _draw_engine(layout: Any, width: int) -> None:
    """Whether the engine runs; start, stop and check."""
    health = session.STATE.health
    row = layout.row(align=True)
    row.label(
        text=engine_text(health) if health else "Engine not started",
        icon="PLUGIN" if health else "UNLINKED",
    )
    row.operator("cmet.engine_stop" if health else "cmet.engine_start", text="", icon="SNAP_FACE" if health else "PLAY")
    row.operator("cmet.engine_check", text="", icon="CHECKMARK")
    if health.get("mismatch"):
        wrapped(layout, health["mismatch"], width, "ERROR")


class CMET_PT_range(Panel, bpy.types.Panel):
    """The part of the clip that is rendered, and what is written beside the video"""

    bl_label = "Range and Delivery"
    bl_idname = "CMET_PT_range"
    bl_parent_id = "CMET_PT_video"
    bl_options = {"DEFAULT_CLOSED"}

    def draw(self, context: Any) -> None:
        """From, to, handles; matte and shot data."""
        layout, settings = fields(self.layout), context.scene.cmet
        column = layout.column(align=True)
        column.prop(settings, "range_from", placeholder="the beginning")
        column.prop(settings, "range_to", placeholder="the end")
        row = column.row(align=True)
        row.enabled = bool(settings.range_from or settings.range_to)
        row.prop(settings, "handles")
        layout.operator("cmet.use_preview_range", icon="PREVIEW_RANGE")
        column = layout.column(heading="Also Write")
        column.prop(settings, "matte")
        column.prop(settings, "shot_data")
