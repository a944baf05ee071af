"""The panel Rig: the mapping table and what belongs to it."""

from typing import Any

import bpy

from .. import mapping, performers, rig
from ..wrapping import wrapped
from .base import Panel, fields, news, whose

_ICONS = {
    mapping.EXACT: "CHECKMARK", mapping.CONVENTION: "CHECKMARK", mapping.MANUAL: "GREASEPENCIL", mapping.GUESSED: "QUESTION",
    mapping.SPREAD: "PARTICLE_DATA", mapping.MISSING: "X",
}  # fmt: skip


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
        """Coefficient, shapes, how sure; both in one where they are called alike."""
        if item.channels == item.name and not item.fault:
            layout.prop(item, "channels", text="", emboss=False, icon=_ICONS[item.kind])
            return
        split = layout.split(factor=0.42)
        split.label(text=item.name, icon="ERROR" if item.fault else _ICONS[item.kind])
        row = split.row(align=True)
        row.prop(item, "channels", text="", emboss=False)
        if item.kind in (mapping.GUESSED, mapping.SPREAD):
            row.label(text=f"{item.confidence:.0%}")
        if item.offer and item.kind != mapping.MANUAL:
            row.operator("cmet.accept_guess", text="", icon="QUESTION", emboss=False).coefficient = item.name

    def filter_items(self, context: Any, data: Any, name: str) -> tuple[list[int], list[int]]:
        """Search by name; rows to check come first when sorted."""
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


class CMET_PT_rig(Panel, bpy.types.Panel):
    """Which shape takes which coefficient, and the keys"""

    bl_label = "Rig"
    bl_idname = "CMET_PT_rig"

    def draw(self, context: Any) -> None:
        """Rig, table, apply."""
        layout, settings = fields(self.layout), context.scene.cmet
        one = whose(layout, settings)
        layout.prop(one, "rig")
        if one.rows:
            kinds = [row.kind for row in one.rows]
            good = sum(k in (mapping.EXACT, mapping.CONVENTION, mapping.MANUAL) for k in kinds)
            parts = [f"{good} matched"]
            for kind, label in (
                (mapping.GUESSED, "guessed"),
                (mapping.SPREAD, "shown by others"),
                (mapping.MISSING, "missing"),
            ):
                if kind in kinds:
                    parts.append(f"{kinds.count(kind)} {label}")
            unused = [n for n in one.unused.split("; ") if n]
            if unused:
                parts.append(f"{len(unused)} unused")
            column = layout.column(align=True)
            if one.mapping_name:
                column.label(text=one.mapping_name, icon="OUTLINER_OB_ARMATURE")
            column.label(text=", ".join(parts))
            layout.template_list("CMET_UL_rows", "", one, "rows", one, "active_row", rows=6)
            if 0 <= one.active_row < len(one.rows):
                row = one.rows[one.active_row]
                if row.fault:
                    wrapped(layout, row.fault, context.region.width, "ERROR")
                column = layout.column(align=True)
                column.prop(row, "gain")
                column.prop(row, "offset")
                column.prop(row, "limited")
                if row.limited:
                    column.prop(row, "minimum")
                    column.prop(row, "maximum")
            row = layout.row(align=True)
            row.operator("cmet.match", icon="FILE_REFRESH", text="Match")
            row.operator("cmet.load_mapping", icon="FILE_FOLDER", text="Load")
            row.operator("cmet.save_mapping", icon="FILE_TICK", text="Save")
        layout.prop(settings, "simplify")
        column = layout.column(align=True)
        row = column.row()
        row.scale_y = 1.3
        row.enabled = one.rig is not None and bool(one.track)
        row.operator("cmet.apply_track", icon="KEY_HLT")
        if not row.enabled:
            column.label(text="Needs a rig" if one.rig is None else "Needs a take: see Footage", icon="INFO")
        news(layout, context, "rig")


class CMET_PT_unused(Panel, bpy.types.Panel):
    """Shape keys of the rig that no coefficient uses"""

    bl_label = "Unused Shapes"
    bl_idname = "CMET_PT_unused"
    bl_parent_id = "CMET_PT_rig"
    bl_options = {"DEFAULT_CLOSED"}

    @classmethod
    def poll(cls, context: Any) -> bool:
        """Only where there are some."""
        return bool(performers.current(context.scene.cmet).unused)

    def draw(self, context: Any) -> None:
        """Their names."""
        unused = performers.current(context.scene.cmet).unused
        wrapped(self.layout, unused.replace("; ", ", "), context.region.width)


class CMET_PT_rotations(Panel, bpy.types.Panel):
    """Bones or objects that turn with head and eyes"""

    bl_label = "Head and Eyes"
    bl_idname = "CMET_PT_rotations"
    bl_parent_id = "CMET_PT_rig"
    bl_options = {"DEFAULT_CLOSED"}

    def draw(self, context: Any) -> None:
        """Target, strength and axes of each."""
        layout, one = fields(self.layout), performers.current(context.scene.cmet)
        if one.rig is None:
            layout.label(text="Needs a rig", icon="INFO")
        skeleton = rig.armature(one.rig) if one.rig is not None else None
        for entry in one.rotations:
            column = layout.column(align=True)
            column.label(
                text={"head": "Head", "leftEye": "Left Eye", "rightEye": "Right Eye"}.get(entry.name, entry.name)
            )
            if skeleton is not None:
                column.prop_search(entry, "target", skeleton.data, "bones")
            else:
                column.prop_search(entry, "target", context.scene, "objects")
            column.prop(entry, "strength")
            for axis in ("yaw", "pitch", "roll"):
                column.prop(entry, axis)
            if entry.target:
                column.operator("cmet.find_axes", icon="ORIENTATION_GIMBAL").part = entry.name
