"""The panel Footage, with the people of the clip."""

from pathlib import Path
from typing import Any

import bpy

from .. import performers
from ..operators.track import to_track
from .base import Panel, fields, news


class CMET_UL_people(bpy.types.UIList):
    """The people of the clip"""

    def draw_item(
        self,
        context: Any,
        layout: Any,
        data: Any,
        item: Any,
        icon: Any,
        active_data: Any,
        active: Any,
        index: int = 0,
        flag: int = 0,
    ) -> None:
        """Picture, name and times; paler without a rig."""
        split = layout.split(factor=0.58)
        split.active = item.rig is not None
        picture = 0 if item.picture is None else split.icon(item.picture)
        split.prop(item, "name", text="", emboss=False, icon_value=picture)
        digits = 1 if item.last < 10 else 0
        split.label(text=f"{item.first:.{digits}f}-{item.last:.{digits}f} s")


class CMET_PT_footage(Panel, bpy.types.Panel):
    """Clip, people, tracking, and what is under way"""

    bl_label = "Footage"
    bl_idname = "CMET_PT_footage"

    def draw(self, context: Any) -> None:
        """Clip, people, track, job, messages."""
        layout, settings = fields(self.layout), context.scene.cmet
        layout.operator(
            "cmet.load_footage", icon="FILE_MOVIE", text="Load Clip" if not settings.clip else Path(settings.clip).name
        )
        column = layout.column(align=True)
        row = column.row(align=True)
        row.prop(settings, "start_frame")
        if performers.current(settings).track:
            row.operator("cmet.start_at_timecode", icon="TIME", text="")
        column.prop(settings, "match_rate")
        column.prop(settings, "colorspace")
        if settings.clip:
            row = layout.row(align=True)
            row.prop(settings, "footage_place")
            row.operator("cmet.view_footage", icon="VIEW_CAMERA", text="")
        _draw_people(layout, settings)
        one = performers.current(settings)
        column = layout.column(align=True)
        row = column.row(align=True)
        row.enabled = bool(settings.clip)
        text = "Track Footage Again" if one.track else "Track Footage"
        if settings.people:
            count = len(to_track(settings))
            text = "Track 1 Person" if count == 1 else f"Track {count} People"
        row.operator("cmet.track", icon="TRACKER", text=text)
        if not settings.clip:
            column.label(text="Load a clip to track it", icon="INFO")
        column.prop(one, "track")
        row = column.row(align=True)
        row.enabled = bool(one.track)
        row.operator("cmet.calibrate", icon="ORIENTATION_VIEW")
        row.operator("cmet.calibrate", text="At This Frame").here = True
        row = column.row(align=True)
        row.enabled = bool(one.track)
        row.operator("cmet.clean_up", icon="BRUSH_DATA")
        news(layout, context, "footage")


def _draw_people(layout: Any, settings: Any) -> None:
    """Whom of the clip: the list, or a face of one's own choice."""
    if not settings.people:
        column = layout.column(align=True)
        column.prop(settings, "face")
        column.prop(settings, "person")
        row = column.row(align=True)
        row.enabled = bool(settings.clip)
        row.operator("cmet.find_people", icon="COMMUNITY")
        return
    row = layout.row()
    row.template_list("CMET_UL_people", "", settings, "people", settings, "active_person", rows=3)
    column = row.column(align=True)
    column.operator("cmet.find_people", icon="FILE_REFRESH", text="")
    column.operator("cmet.forget_people", icon="X", text="")
    one = performers.current(settings)
    row = layout.row()
    if one.picture is not None:
        row.template_icon(icon_value=row.icon(one.picture), scale=3.0)
    column = row.column(align=True)
    column.label(text=f"#{one.number}, seen in {one.share:.0%}")
    column.prop(one, "rig", text="")
