"""The panels Emotion and Own Emotion."""

from typing import Any

import bpy

from cmet_engine.timeline import REGIONS

from .. import emotion_strips, layers, modes, performers
from .base import Panel, fields, news, whose
from .layers import draw_layers


class CMET_PT_emotion(Panel, bpy.types.Panel):
    """Emotions as strips on the timeline"""

    bl_label = "Emotion"
    bl_idname = "CMET_PT_emotion"

    def draw(self, context: Any) -> None:
        """Gallery, strips of the rig, bake."""
        layout, settings = fields(self.layout), context.scene.cmet
        one = whose(layout, settings)
        row = layout.row(align=True)
        row.template_icon_view(settings, "emotion", show_labels=True, scale=4.0, scale_popup=4.6)
        column = row.column(align=True)
        column.operator("cmet.refresh_emotions", icon="FILE_REFRESH", text="")
        column.operator("cmet.show_assets", icon="ASSET_MANAGER", text="")
        layout.prop(settings, "emotion")
        layout.prop(settings, "strength", slider=True)
        layout.prop(settings, "place")
        layout.prop(settings, "fade")
        layout.prop(settings, "natural")
        layout.prop(one, "mode")
        if one.rig is not None and modes.others(one.rig, one.mode):
            row = layout.row()
            row.enabled = bool(settings.clip or one.track)
            row.operator("cmet.follow_mode", icon="FILE_REFRESH")
        layout.prop(settings, "bearing")
        ready = one.rig is not None and bool(settings.clip or one.track)
        column = layout.column(align=True)
        row = column.row(align=True)
        row.enabled = ready
        row.operator("cmet.add_emotion", icon="ADD")
        row = column.row(align=True)
        row.enabled = one.rig is not None and bool(settings.clip)
        row.operator("cmet.from_voice", icon="SOUND")
        row = column.row(align=True)
        row.enabled = one.rig is not None
        row.operator("cmet.add_emotion_file", icon="FILE_FOLDER")
        if not ready:
            column.label(
                text="Needs a rig and a clip or a take" if one.rig is None else "Needs a clip or a take", icon="INFO"
            )
        news(layout, context, "emotion")
        if one.rig is None:
            return
        draw_layers(layout, one, settings, context.region.width)


class CMET_PT_regions(Panel, bpy.types.Panel):
    """How strong the chosen layer, and a new emotion, is in each part of the face"""

    bl_label = "Strength by Region"
    bl_idname = "CMET_PT_regions"
    bl_parent_id = "CMET_PT_emotion"
    bl_options = {"DEFAULT_CLOSED"}

    def draw(self, context: Any) -> None:
        """A gain for each region, of the chosen layer and of a new one."""
        layout, settings = fields(self.layout), context.scene.cmet
        one = performers.current(settings)
        track = performers.active_layer(one)
        if track is not None and track.strips and not layers.carried_by_bones(track):
            column = layout.column(align=True)
            column.label(text=emotion_strips.title_of(track), icon="NLA")
            for region in REGIONS:
                column.prop(one, f"layer_{region}", slider=True)
        column = layout.column(align=True)
        column.label(text="New Emotion", icon="ADD")
        for region in REGIONS:
            column.prop(settings, f"gain_{region}", slider=True)


class CMET_PT_face(Panel, bpy.types.Panel):
    """The expression of another face"""

    bl_label = "From a Face"
    bl_idname = "CMET_PT_face"
    bl_parent_id = "CMET_PT_emotion"
    bl_options = {"DEFAULT_CLOSED"}

    def draw(self, context: Any) -> None:
        """A reference, and the button that puts its expression on."""
        layout, settings = fields(self.layout), context.scene.cmet
        one = performers.current(settings)
        layout.prop(settings, "reference")
        row = layout.row()
        row.enabled = bool(settings.reference and one.rig is not None and (settings.clip or one.track))
        row.operator("cmet.from_face", icon="USER", text="Add as Strip")
        if not settings.reference:
            layout.label(text="Choose a picture, clip or take", icon="INFO")
        news(layout, context, "face")


class CMET_PT_voice(Panel, bpy.types.Panel):
    """An emotion of your own, from recordings"""

    bl_label = "Own Emotion"
    bl_idname = "CMET_PT_voice"
    bl_parent_id = "CMET_PT_emotion"
    bl_options = {"DEFAULT_CLOSED"}

    def draw(self, context: Any) -> None:
        """Recordings and a name."""
        layout, settings = fields(self.layout), context.scene.cmet
        column = layout.column(align=True)
        for name in ("voice", "neutral_voice"):
            row = column.row(align=True)
            row.prop(settings, name)
            row.operator("cmet.record", icon="REC", text="").into = name
        column.prop(settings, "record_seconds")
        column = layout.column(align=True)
        column.prop(settings, "voice_name")
        column.prop(settings, "replace_emotion")
        row = layout.row()
        row.enabled = bool(settings.voice)
        row.operator("cmet.new_emotion", icon="SPEAKER")
        row = layout.row()
        row.enabled = bool(settings.voice and (settings.clip or performers.current(settings).track))
        row.operator("cmet.from_voice", icon="SOUND", text="Follow Recording").follow = True
        if not settings.voice:
            layout.label(text="Choose or record a voice", icon="INFO")
        news(layout, context, "voice")
