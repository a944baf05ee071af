"""Emotions in the asset browser."""

from typing import Any

import bpy

from cmet_engine.errors import InvalidInput

from .. import emotion_assets, emotion_strips, rig
from .base import SimpleOperator, chosen, mapping_of
from .emotions import NewLayer, choose_layer, part_of
from .layers import LayerOperator


class CMET_OT_keep_asset(LayerOperator, bpy.types.Operator):
    """Make an asset of the chosen layer, which every face can take from the asset browser"""

    bl_idname = "cmet.keep_asset"
    bl_label = "Keep as Asset"

    def work(self, context: Any) -> str:
        one, track = self.found(context)
        title = emotion_strips.title_of(track)
        if not track.strips:
            raise InvalidInput(f"'{title}' has no strip to keep.")
        emotion_assets.keep(track.strips[0], mapping_of(one), title)
        return f"'{title}' is an asset of this file now; the asset browser shows it."


class CMET_OT_add_asset(NewLayer, SimpleOperator, bpy.types.Operator):
    """Put the active asset of the asset browser on the chosen rig as a layer"""

    bl_idname = "cmet.add_asset"
    bl_label = "Add to Face"
    bl_options = {"REGISTER", "UNDO"}
    panel = "emotion"

    @classmethod
    def poll(cls, context: Any) -> bool:
        asset = getattr(context, "asset", None)
        return asset is not None and asset.id_type == "ACTION"

    def work(self, context: Any) -> str:
        one, asset, settings = chosen(context), context.asset, context.scene.cmet
        rig.check_editable(one.rig)
        self.take_from_panel(settings)
        action = asset.local_id
        if action is None:
            with bpy.data.libraries.load(asset.full_library_path, link=False) as (_, wanted):
                wanted.actions = [asset.name]
            (action,) = wanted.actions
        try:
            strip = emotion_assets.add(
                one.rig, action, frames_of(context.scene), strength=self.strength, fade=self.fade, mapping=mapping_of(one)
            )  # fmt: skip
        finally:
            if asset.local_id is None:
                bpy.data.actions.remove(action)
        choose_layer(one, strip)
        return f"Strip '{strip.name}' added; key its influence in the NLA editor."


def frames_of(scene: Any) -> tuple[float, float]:
    """Scene frames that a new layer may fill, as the panel's place says; at the most to the scene's end."""
    first, last = part_of(scene) or (scene.frame_start, scene.frame_end)
    return first, last if last < float("inf") else max(scene.frame_end, first + 1)


class CMET_OT_show_assets(SimpleOperator, bpy.types.Operator):
    """Let the asset browser list the emotions that come with the add-on, as a library of the preferences"""

    bl_idname = "cmet.show_assets"
    bl_label = "Emotions in the Asset Browser"
    panel = "emotion"

    def work(self, context: Any) -> str:
        emotion_assets.show_library()
        return f"The asset browser has the library '{emotion_assets.LIBRARY}': right click on an emotion, Add to Face."
