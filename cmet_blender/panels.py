"""The tab "C-MET" in the sidebar of the 3D view, in the order of the work: Footage, Emotion, Rig, Video, Export."""

from pathlib import Path
from typing import Any

import bpy

from . import emotion_strips, footage, mapping, operators, session
from .export import PRESETS

_ICONS = {
    mapping.EXACT: "CHECKMARK", mapping.CONVENTION: "CHECKMARK", mapping.MANUAL: "GREASEPENCIL", mapping.GUESSED: "QUESTION",
    mapping.SPREAD: "PARTICLE_DATA", mapping.MISSING: "X",
}  # fmt: skip


class _Panel:
    bl_space_type = "VIEW_3D"
    bl_region_type = "UI"
    bl_category = "C-MET"


def _wrapped(layout: Any, text: str, width: int, icon: str = "NONE") -> None:
    """A sentence over several lines."""
    layout = layout.column(align=True)
    line, first = "", True
    characters = max(20, int(width / (7.5 * bpy.context.preferences.system.ui_scale)) - 4)
    for word in [*text.split(), None]:
        if word is None or len(line) + len(word) + 1 > characters:
            if line:
                layout.label(text=line, icon=icon if first else "BLANK1" if icon != "NONE" else "NONE")
                first = False
            line = ""
        if word is not None:
            line = f"{line} {word}".strip()


class CMET_PT_footage(_Panel, bpy.types.Panel):
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
        column = layout.column(align=True)
        row = column.row(align=True)
        row.enabled = bool(settings.clip)
        row.operator("cmet.track", icon="TRACKER", text="Track Again" if settings.track else "Track")
        if not settings.clip:
            column.label(text="Load a clip to track it", icon="INFO")
        column.prop(settings, "track")
        job = session.STATE.job
        if job is not None:
            box = layout.box()
            box.progress(factor=job.factor, type="BAR", text=job.text())
            box.operator("cmet.cancel", icon="CANCEL")
        if settings.message:
            _wrapped(layout.box(), settings.message, width, "ERROR")
        elif settings.done:
            _wrapped(layout.box(), settings.done, width, "CHECKMARK")


class CMET_PT_emotion(_Panel, bpy.types.Panel):
    """Emotions as strips on the timeline"""

    bl_label = "Emotion"
    bl_idname = "CMET_PT_emotion"

    def draw(self, context: Any) -> None:
        """Gallery, strips of the rig, bake."""
        layout, settings = self.layout, context.scene.cmet
        layout.use_property_split = True
        layout.use_property_decorate = False
        row = layout.row(align=True)
        row.template_icon_view(settings, "emotion", show_labels=True, scale=4.0, scale_popup=3.5)
        column = row.column(align=True)
        column.operator("cmet.refresh_emotions", icon="FILE_REFRESH", text="")
        layout.prop(settings, "emotion")
        layout.prop(settings, "strength", slider=True)
        ready = settings.rig is not None and bool(settings.clip)
        column = layout.column(align=True)
        row = column.row(align=True)
        row.enabled = ready
        row.operator("cmet.add_emotion", icon="ADD")
        row = column.row(align=True)
        row.enabled = settings.rig is not None
        row.operator("cmet.add_emotion_file", icon="FILE_FOLDER")
        if not ready:
            column.label(text="Needs a rig and a clip" if settings.rig is None else "Needs a clip", icon="INFO")
        if settings.rig is None:
            return
        found = emotion_strips.strips(settings.rig)
        if found:
            box = layout.box()
            for title, strips in found.items():
                strip = strips[0]
                row = box.row(align=True)
                row.prop(strip, "mute", text="", icon="HIDE_ON" if strip.mute else "HIDE_OFF", emboss=False)
                row.label(text=title)
                row.prop(strip, "influence", text="", slider=True)
            row = layout.row(align=True)
            row.operator("cmet.bake", icon="RENDER_ANIMATION")
            exact = row.row(align=True)
            exact.enabled = bool(settings.clip)
            exact.operator("cmet.recompute", icon="FILE_REFRESH")
            if not settings.clip:
                layout.label(text="Recompute needs a clip", icon="INFO")


class CMET_PT_voice(_Panel, bpy.types.Panel):
    """An emotion of your own, from recordings"""

    bl_label = "Own Emotion"
    bl_idname = "CMET_PT_voice"
    bl_parent_id = "CMET_PT_emotion"
    bl_options = {"DEFAULT_CLOSED"}

    def draw(self, context: Any) -> None:
        """Recordings and a name."""
        layout, settings = self.layout, context.scene.cmet
        layout.use_property_split = True
        layout.use_property_decorate = False
        column = layout.column(align=True)
        for name in ("voice", "neutral_voice"):
            row = column.row(align=True)
            row.prop(settings, name)
            row.operator("cmet.record", icon="REC", text="").into = name
        column.prop(settings, "record_seconds")
        job = session.STATE.job
        if job is not None and job.title.startswith("Recording"):
            box = layout.box()
            box.progress(factor=job.factor, type="BAR", text=job.text())
            box.operator("cmet.cancel", icon="CANCEL")
        layout.prop(settings, "voice_name")
        row = layout.row()
        row.enabled = bool(settings.voice and settings.neutral_voice)
        row.operator("cmet.new_emotion", icon="SPEAKER")
        if not row.enabled:
            layout.label(text="Choose or record both", icon="INFO")


class CMET_UL_rows(bpy.types.UIList):
    """The mapping table"""

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
        """Coefficient, shapes, how sure."""
        split = layout.split(factor=0.42)
        split.label(text=item.name, icon="ERROR" if item.fault else _ICONS[item.kind])
        row = split.row(align=True)
        row.prop(item, "channels", text="", emboss=False)
        if item.kind in (mapping.GUESSED, mapping.SPREAD):
            row.label(text=f"{item.confidence:.0%}")

    def filter_items(self, context: Any, data: Any, name: str) -> tuple[list[int], list[int]]:
        """Search by name; what needs a look comes first when sorted."""
        items = getattr(data, name)
        flags = (
            bpy.types.UI_UL_list.filter_items_by_name(self.filter_name, self.bitflag_filter_item, items, "name")
            if self.filter_name
            else []
        )
        order = []
        if self.use_filter_sort_alpha:
            weight = {mapping.MISSING: 0, mapping.GUESSED: 1, mapping.SPREAD: 2}
            order = bpy.types.UI_UL_list.sort_items_helper(
                [(i, weight.get(row.kind, 3)) for i, row in enumerate(items)], lambda pair: pair[1]
            )
        return flags, order


class CMET_PT_rig(_Panel, bpy.types.Panel):
    """Which shape takes which coefficient, and the keys"""

    bl_label = "Rig"
    bl_idname = "CMET_PT_rig"

    def draw(self, context: Any) -> None:
        """Rig, table, apply."""
        layout, settings = self.layout, context.scene.cmet
        layout.use_property_split = True
        layout.use_property_decorate = False
        layout.prop(settings, "rig")
        if settings.rows:
            kinds = [row.kind for row in settings.rows]
            good = sum(k in (mapping.EXACT, mapping.CONVENTION, mapping.MANUAL) for k in kinds)
            parts = [f"{good} matched"]
            for kind, word in (
                (mapping.GUESSED, "guessed"),
                (mapping.SPREAD, "shown by others"),
                (mapping.MISSING, "missing"),
            ):
                if kind in kinds:
                    parts.append(f"{kinds.count(kind)} {word}")
            unused = [n for n in settings.unused.split("; ") if n]
            if unused:
                parts.append(f"{len(unused)} unused")
            column = layout.column(align=True)
            if settings.mapping_name:
                column.label(text=settings.mapping_name, icon="OUTLINER_OB_ARMATURE")
            column.label(text=", ".join(parts))
            layout.template_list("CMET_UL_rows", "", settings, "rows", settings, "active_row", rows=6)
            if 0 <= settings.active_row < len(settings.rows):
                row = settings.rows[settings.active_row]
                if row.fault:
                    _wrapped(layout, row.fault, context.region.width, "ERROR")
                column = layout.column(align=True)
                column.prop(row, "gain")
                column.prop(row, "offset")
                column.prop(row, "limited")
                if row.limited:
                    column.prop(row, "minimum")
                    column.prop(row, "maximum")
            row = layout.row(align=True)
            row.operator("cmet.match", icon="FILE_REFRESH")
            row.operator("cmet.load_mapping", icon="FILE_FOLDER", text="Load")
            row.operator("cmet.save_mapping", icon="FILE_TICK", text="Save")
        layout.prop(settings, "simplify")
        column = layout.column(align=True)
        row = column.row()
        row.scale_y = 1.3
        row.enabled = settings.rig is not None and bool(settings.track)
        row.operator("cmet.apply_track", icon="KEY_HLT")
        if not row.enabled:
            column.label(text="Needs a rig" if settings.rig is None else "Needs a track: see Footage", icon="INFO")


class CMET_PT_unused(_Panel, bpy.types.Panel):
    """Shape keys of the rig that no coefficient uses"""

    bl_label = "Unused Shapes"
    bl_idname = "CMET_PT_unused"
    bl_parent_id = "CMET_PT_rig"
    bl_options = {"DEFAULT_CLOSED"}

    @classmethod
    def poll(cls, context: Any) -> bool:
        """Only where there are some."""
        return bool(context.scene.cmet.unused)

    def draw(self, context: Any) -> None:
        """Their names."""
        _wrapped(self.layout, context.scene.cmet.unused.replace("; ", ", "), context.region.width)


class CMET_PT_rotations(_Panel, bpy.types.Panel):
    """Bones or objects that turn with head and eyes"""

    bl_label = "Head and Eyes"
    bl_idname = "CMET_PT_rotations"
    bl_parent_id = "CMET_PT_rig"
    bl_options = {"DEFAULT_CLOSED"}

    def draw(self, context: Any) -> None:
        """Target, strength and axes of each."""
        layout, settings = self.layout, context.scene.cmet
        layout.use_property_split = True
        layout.use_property_decorate = False
        from . import rig

        skeleton = rig.armature(settings.rig) if settings.rig is not None else None
        for entry in settings.rotations:
            column = layout.column(align=True)
            column.label(
                text={"head": "Head", "leftEye": "Left Eye", "rightEye": "Right Eye"}.get(entry.name, entry.name)
            )
            if skeleton is not None:
                column.prop_search(entry, "target", skeleton.data, "bones")
            else:
                column.prop_search(entry, "target", context.scene, "objects")
            column.prop(entry, "strength")
            row = column.row(align=True)
            for axis in ("yaw", "pitch", "roll"):
                row.prop(entry, axis, text="")


class CMET_PT_video(_Panel, bpy.types.Panel):
    """The photoreal clip from the same curves"""

    bl_label = "Video"
    bl_idname = "CMET_PT_video"

    def draw(self, context: Any) -> None:
        """Render, before and after, the engine."""
        layout, settings = self.layout, context.scene.cmet
        layout.use_property_split = True
        layout.use_property_decorate = False
        layout.prop(settings, "renderer")
        layout.prop(settings, "video_format")
        row = layout.row()
        row.enabled = settings.video_format != "mov"
        row.prop(settings, "video_quality")
        if not row.enabled:
            layout.label(text="ProRes has one quality", icon="INFO")
        missing = [
            word
            for word, there in (("a clip", settings.clip), ("its track", settings.track), ("a rig", settings.rig))
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
            text=operators.engine_text(health) if health else "Engine not started",
            icon="PLUGIN" if health else "UNLINKED",
        )
        row.operator(
            "cmet.engine_stop" if health else "cmet.engine_start", text="", icon="SNAP_FACE" if health else "PLAY"
        )
        row.operator("cmet.engine_check", text="", icon="CHECKMARK")
        if health.get("mismatch"):
            _wrapped(layout, health["mismatch"], context.region.width, "ERROR")


class CMET_PT_export(_Panel, bpy.types.Panel):
    """The rig with its animation as a file"""

    bl_label = "Export"
    bl_idname = "CMET_PT_export"

    def draw(self, context: Any) -> None:
        """File, preset, what the program expects."""
        layout, settings = self.layout, context.scene.cmet
        layout.use_property_split = True
        layout.use_property_decorate = False
        layout.prop(settings, "export_path")
        if settings.export_path.lower().endswith(".fbx"):
            layout.prop(settings, "preset")
            if settings.preset in PRESETS:
                _wrapped(layout.box(), PRESETS[settings.preset].expects, context.region.width, "INFO")
        column = layout.column(align=True)
        row = column.row()
        row.scale_y = 1.3
        row.enabled = settings.rig is not None
        row.operator("cmet.export", icon="EXPORT")
        if settings.rig is None:
            column.label(text="Needs a rig", icon="INFO")


CLASSES = (
    CMET_PT_footage,
    CMET_PT_emotion,
    CMET_PT_voice,
    CMET_UL_rows,
    CMET_PT_rig,
    CMET_PT_unused,
    CMET_PT_rotations,
    CMET_PT_video,
    CMET_PT_export,
)
