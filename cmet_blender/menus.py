"""The add-on outside its tab: File > Import and Export, dropped files, context menus, and the status bar."""

from typing import Any

import bpy

from . import layers, performers, session
from .emotion_tracks import carrier
from .operators.track import CLIPS, TAKES


class CMET_FH_take(bpy.types.FileHandler):
    """Takes that are dropped into the 3D view or an editor of curves"""

    bl_idname = "CMET_FH_take"
    bl_label = "Face Take"
    bl_import_operator = "cmet.import_take"
    bl_file_extensions = ";".join(TAKES)

    @classmethod
    def poll_drop(cls, context: Any) -> bool:
        """Where faces are seen or keyed."""
        return context.area is not None and context.area.type in {"VIEW_3D", "DOPESHEET_EDITOR", "GRAPH_EDITOR", "NLA_EDITOR"}  # fmt: skip


class CMET_FH_clip(bpy.types.FileHandler):
    """Clips that are dropped into a 3D view whose tab C-MET is open"""

    bl_idname = "CMET_FH_clip"
    bl_label = "Face Clip"
    bl_import_operator = "cmet.load_footage"
    bl_file_extensions = ";".join(CLIPS)

    @classmethod
    def poll_drop(cls, context: Any) -> bool:
        """Elsewhere Blender's own way with a dropped clip counts."""
        area = context.area
        if area is None or area.type != "VIEW_3D" or not area.spaces.active.show_region_ui:
            return False
        return any(r.type == "UI" and r.active_panel_category == "C-MET" for r in area.regions)


class CMET_MT_strip(bpy.types.Menu):
    """What can be done with the layer of the active strip"""

    bl_idname = "CMET_MT_strip"
    bl_label = "C-MET Layer"

    def draw(self, context: Any) -> None:
        """Keys, solo, order, removal; then what concerns all layers."""
        layout, track = self.layout, _active_layer(context)
        if track is None:
            return
        for name in ("edit_layer", "solo_layer", "keep_asset", "remove_layer"):
            layout.operator(f"cmet.{name}").track = track.name
        for text, direction in (("Move Layer Up", "UP"), ("Move Layer Down", "DOWN")):
            entry = layout.operator("cmet.move_layer", text=text)
            entry.track, entry.direction = track.name, direction
        layout.separator()
        for name in ("add_hand_layer", "recompute", "bake"):
            layout.operator(f"cmet.{name}")


CLASSES = (CMET_FH_take, CMET_FH_clip, CMET_MT_strip)


def _active_layer(context: Any) -> Any | None:
    """The layer of the chosen rig that is active in the NLA editor."""
    one = performers.current(context.scene.cmet)
    owner = carrier(one.rig) if one.rig is not None else None
    if owner is None or owner.animation_data is None:
        return None
    track = next((t for t in owner.animation_data.nla_tracks if t.active), None)
    return track if track is not None and layers.is_layer(track) else None


def _strip_menu(menu: Any, context: Any) -> None:
    if _active_layer(context) is not None:
        menu.layout.separator()
        menu.layout.menu("CMET_MT_strip")


def _asset_menu(menu: Any, context: Any) -> None:
    asset = getattr(context, "asset", None)
    if asset is not None and asset.id_type == "ACTION":
        menu.layout.operator("cmet.add_asset")
        menu.layout.separator()


def _shape_menu(menu: Any, context: Any) -> None:
    menu.layout.separator()
    menu.layout.operator("cmet.assign_shape", text="C-MET: Take Coefficient")
    menu.layout.operator("cmet.match", text="C-MET: Match Shapes Again")


def _import_menu(menu: Any, context: Any) -> None:
    menu.layout.operator("cmet.import_take", text=f"Face Take ({', '.join(TAKES)})")
    menu.layout.operator("cmet.load_footage", text="Face Clip (.mp4, .mov, …)")


def _export_menu(menu: Any, context: Any) -> None:
    menu.layout.operator("cmet.export_take", text="Face Take (.csv, .json, .txt)")


def _status_bar(header: Any, context: Any) -> None:
    """The job that is under way, wherever its panel is."""
    job = session.STATE.job
    if job is None:
        return
    row = header.layout.row()
    row.ui_units_x = 14
    row.progress(factor=job.factor, type="BAR", text=job.text())
    header.layout.operator("cmet.cancel", text="", icon="X", emboss=False)


_MENUS = {
    "TOPBAR_MT_file_import": _import_menu,
    "TOPBAR_MT_file_export": _export_menu,
    "NLA_MT_context_menu": _strip_menu,
    "MESH_MT_shape_key_context_menu": _shape_menu,
    "ASSETBROWSER_MT_context_menu": _asset_menu,
    "STATUSBAR_HT_header": _status_bar,
}


def register() -> None:
    """Put the entries in."""
    for name, draw in _MENUS.items():
        menu = getattr(bpy.types, name)
        (menu.prepend if draw is _asset_menu else menu.append)(draw)  # Blender's own on Actions are many


def unregister() -> None:
    """Take them out."""
    for name, draw in _MENUS.items():
        getattr(bpy.types, name).remove(draw)
