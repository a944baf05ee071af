"""The list of layers of a rig, below the gallery."""

from typing import Any

import bpy

from .. import emotion_strips, followers, layers
from ..emotion_tracks import carrier
from ..nla import info_of
from ..wrapping import wrapped


class CMET_UL_layers(bpy.types.UIList):
    """The layers of a rig, the topmost first"""

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
        """Solo, title, influence at the current frame, mute; pale where nothing of it is seen."""
        owner = item.id_data
        alone = layers.is_solo(owner, item)
        seen = not item.mute and (alone or not any(layers.is_solo(owner, other) for other in data.nla_tracks))
        row = layout.row(align=True)
        row.operator(
            "cmet.solo_layer", text="", icon="SOLO_ON" if alone else "SOLO_OFF", emboss=False
        ).track = item.name
        split = row.split(factor=0.55, align=True)
        split.active = seen
        split.label(text=emotion_strips.title_of(item))
        strip = layers.shown_strip(item, context.scene.frame_current_final)
        part = split.row(align=True)
        part.enabled = seen and strip is not None and not strip.mute
        if strip is not None:
            part.prop(strip, "influence", text="", slider=True)
        row.prop(item, "mute", text="", icon="HIDE_ON" if item.mute else "HIDE_OFF", emboss=False)

    def filter_items(self, context: Any, data: Any, name: str) -> tuple[list[int], list[int]]:
        """Only layers, in the order of the NLA editor."""
        tracks = list(getattr(data, name))
        shown = [layers.is_layer(track) for track in tracks]
        flags = [self.bitflag_filter_item if one else 0 for one in shown]
        return flags, [len(tracks) - 1 - k for k in range(len(tracks))]


def draw_layers(layout: Any, one: Any, settings: Any, width: int) -> None:
    """The layers of a rig, what can be done with the chosen one, and bake and recompute."""
    older = followers.owned(one.rig)
    if older:
        box = layout.box()
        count = len(older)
        wrapped(
            box,
            f"Strips of an earlier version lie on {count + 1} meshes of this face, each with its own.",
            width,
            "ERROR",
        )
        box.operator("cmet.connect_meshes", icon="LINKED")
    owner = carrier(one.rig)
    found = layers.layers(one.rig)
    if found:
        row = layout.row()
        row.template_list("CMET_UL_layers", "", owner.animation_data, "nla_tracks", one, "active_layer", rows=4)
        column = row.column(align=True)
        column.operator("cmet.add_hand_layer", icon="ADD", text="")
        column.operator("cmet.remove_layer", icon="REMOVE", text="")
        column.separator()
        column.operator("cmet.move_layer", icon="TRIA_UP", text="").direction = "UP"
        column.operator("cmet.move_layer", icon="TRIA_DOWN", text="").direction = "DOWN"
        column.separator()
        column.operator("cmet.keep_asset", icon="ASSET_MANAGER", text="")
        tracks = owner.animation_data.nla_tracks
        if 0 <= one.active_layer < len(tracks) and tracks[one.active_layer] in found:
            _draw_chosen(layout, one, owner, tracks[one.active_layer])
    baked = emotion_strips.baked(one.rig) if found else None
    if baked is not None:
        box = layout.box()
        wrapped(box, f"Baked: '{baked.name}' is played, the layers are off.", width, "INFO")
        box.operator("cmet.unbake", icon="LOOP_BACK")
        return
    row = layout.row(align=True)
    if found:
        row.operator("cmet.bake", icon="RENDER_ANIMATION")
        exact = row.row(align=True)
        exact.enabled = bool(settings.clip or one.track) and bool(emotion_strips.emotions(one.rig))
        exact.operator("cmet.recompute", icon="FILE_REFRESH")
        if not (settings.clip or one.track):
            layout.label(text="Recompute needs a clip or a take", icon="INFO")
        else:
            for note in emotion_strips.not_kept(one.rig):
                wrapped(layout, f"Recompute: {note}", width, "INFO")
    else:
        row.operator("cmet.add_hand_layer", icon="ADD")


def _draw_chosen(layout: Any, one: Any, owner: Any, track: Any) -> None:
    """Strength and fades of the chosen layer, and its keys."""
    tweaked = owner.animation_data.use_tweak_mode
    column = layout.column(align=True)
    column.enabled = not track.mute and bool(track.strips) and not tweaked
    column.prop(one, "layer_strength", slider=True)
    row = column.row(align=True)
    row.use_property_split = False
    row.prop(one, "fade_in")
    row.prop(one, "fade_out")
    of = info_of(track.strips[0].action).get("of", []) if track.strips else []
    if of:
        layout.label(text="In place of " + ", ".join(name.removeprefix("C-MET: ") for name in of), icon="INFO")
    row = layout.row()
    row.enabled = tweaked or (not track.mute and bool(track.strips))
    row.operator(
        "cmet.edit_layer",
        text="Close Keys" if tweaked else "Edit Keys",
        icon="CHECKMARK" if tweaked else "ACTION_TWEAK",
    )
