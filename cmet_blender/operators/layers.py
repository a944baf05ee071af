"""The list of layers: solo, remove, reorder, keys by hand; back from a bake; and one set of curves for an older rig."""

from typing import Any

import bpy
from bpy.props import BoolProperty, EnumProperty, StringProperty

from cmet_engine.errors import NotFound

from .. import emotion_strips, followers, layers, rig
from ..emotion_tracks import carrier
from ..mapping import split_channel
from .base import SimpleOperator, chosen, mapping_of


class LayerOperator(SimpleOperator):
    """An operator about one layer: the named one, else the one that is chosen in the list."""

    bl_options = {"REGISTER", "UNDO"}
    panel = "emotion"

    track: StringProperty(name="Layer", options={"SKIP_SAVE", "HIDDEN"}, description="Name of the layer's NLA track")

    def found(self, context: Any) -> tuple[Any, Any]:
        """The `Performer` and the track.

        Raises:
            NotFound: there is no such layer.
        """
        one = chosen(context)
        tracks = {track.name: track for track in layers.layers(one.rig)}
        owner = carrier(one.rig)
        if not self.track and owner is not None and owner.animation_data is not None:
            everything = owner.animation_data.nla_tracks
            self.track = everything[one.active_layer].name if 0 <= one.active_layer < len(everything) else ""
        if self.track not in tracks:
            raise NotFound("No layer is chosen; choose one in the list.")
        return one, tracks[self.track]

    def choose(self, one: Any, track: Any) -> None:
        """Choose a layer in the list."""
        one.active_layer = list(carrier(one.rig).animation_data.nla_tracks).index(track)


class CMET_OT_solo_layer(LayerOperator, bpy.types.Operator):
    """Show this layer alone, or all again"""

    bl_idname = "cmet.solo_layer"
    bl_label = "Solo Layer"

    def work(self, context: Any) -> str:
        one, track = self.found(context)
        owner = carrier(one.rig)
        on = not layers.is_solo(owner, track)
        layers.solo(owner, track, on)
        layers.keep(one.rig)
        return f"'{emotion_strips.title_of(track)}' is shown alone." if on else "All layers are shown again."


class CMET_OT_remove_layer(LayerOperator, bpy.types.Operator):
    """Remove the chosen layer from the whole face"""

    bl_idname = "cmet.remove_layer"
    bl_label = "Remove Layer"

    def work(self, context: Any) -> str:
        one, track = self.found(context)
        title = emotion_strips.title_of(track)
        layers.remove(one.rig, track)
        last = layers.layers(one.rig)
        if last:
            self.choose(one, last[-1])
        return f"Layer '{title}' removed."


class CMET_OT_move_layer(LayerOperator, bpy.types.Operator):
    """Move the chosen layer up or down in the stack"""

    bl_idname = "cmet.move_layer"
    bl_label = "Move Layer"

    direction: EnumProperty(
        name="Direction", items=[("UP", "Up", "Above the next one"), ("DOWN", "Down", "Below the next one")], description="Which way"
    )  # fmt: skip

    def work(self, context: Any) -> str:
        one, track = self.found(context)
        moved = layers.move(one.rig, track, self.direction == "UP")
        self.choose(one, moved)
        return f"Layer '{emotion_strips.title_of(moved)}' moved {self.direction.lower()}."


class CMET_OT_add_hand_layer(SimpleOperator, bpy.types.Operator):
    """Add an empty layer on top for keys of your own; new takes, Bake and Recompute keep it"""

    bl_idname = "cmet.add_hand_layer"
    panel = "emotion"
    bl_label = "Add Hand Layer"
    bl_options = {"REGISTER", "UNDO"}

    edit: BoolProperty(name="Open", default=True, description="Open the layer for keying at once")

    def work(self, context: Any) -> str:
        one = chosen(context)
        rig.check_editable(one.rig)
        track = layers.add_by_hand(one.rig)
        one.active_layer = list(carrier(one.rig).animation_data.nla_tracks).index(track)
        if self.edit:
            layers.tweak(one.rig, track)
        return f"Layer '{emotion_strips.title_of(track)}' added; key the shapes of '{followers.leader(one.rig).name}'."


class CMET_OT_edit_layer(LayerOperator, bpy.types.Operator):
    """Open the keys of the chosen layer for editing (tweak mode), or close them"""

    bl_idname = "cmet.edit_layer"
    bl_label = "Edit Keys"

    def work(self, context: Any) -> str:
        one = chosen(context)
        owner = carrier(one.rig)
        tweaked = owner is not None and owner.animation_data is not None and owner.animation_data.use_tweak_mode
        track = None if tweaked else self.found(context)[1]
        on = layers.tweak(one.rig, track)
        return f"The keys of '{emotion_strips.title_of(track)}' are open." if on else "The layer is closed."


class CMET_OT_unbake(SimpleOperator, bpy.types.Operator):
    """Play the performance and the layers again instead of the baked action, which is kept"""

    bl_idname = "cmet.unbake"
    panel = "emotion"
    bl_label = "Back to Layers"
    bl_options = {"REGISTER", "UNDO"}

    def work(self, context: Any) -> str:
        action = emotion_strips.unbake(chosen(context).rig)
        return f"The layers count again, over '{action.name}'." if action else "The layers count again."


class CMET_OT_connect_meshes(SimpleOperator, bpy.types.Operator):
    """Let every mesh of the face follow the curves of one; strips that an earlier version put on each of them become one set"""

    bl_idname = "cmet.connect_meshes"
    panel = "emotion"
    bl_label = "Connect Meshes"
    bl_options = {"REGISTER", "UNDO"}

    def work(self, context: Any) -> str:
        one = chosen(context)
        overridden = rig.override_shapes(followers.leader(one.rig) or one.rig)
        rig.check_editable(one.rig)
        older = len(followers.owned(one.rig))
        names = {name for name in mapping_of(one).channels if split_channel(name) is None}
        first, _, notes = followers.connect(one.rig, names)
        if first is None:
            return f"'{one.rig.name}' has no mesh with shape keys; there is nothing to connect."
        found = layers.layers(one.rig)
        if found:
            one.active_layer = list(carrier(one.rig).animation_data.nla_tracks).index(found[-1])
        done = [f"All meshes of the face follow '{first.name}'."]
        if older:
            done.append(
                f"Strips and curves of {older} other {'mesh is' if older == 1 else 'meshes are'} one set with its own now."
            )
        if overridden:
            done.append("Its shapes were made a library override.")
        return " ".join([*done, *notes])
