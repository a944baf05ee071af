"""The mapping table of the rig, and the keys on it."""

import math
from pathlib import Path
from typing import Any

import bpy
from bpy.props import EnumProperty, StringProperty
from bpy_extras.io_utils import ExportHelper, ImportHelper

from cmet_engine import arkit
from cmet_engine.errors import InvalidInput

from .. import keyframes, mapping, performers, rig
from .base import SimpleOperator, chosen, mapping_of, source_track


class CMET_OT_match(SimpleOperator, bpy.types.Operator):
    """Find which shape key takes which coefficient, by names and then by shapes"""

    bl_idname = "cmet.match"
    panel = "rig"
    bl_label = "Match Again"
    bl_options = {"REGISTER", "UNDO"}

    def work(self, context: Any) -> str:
        one = chosen(context)
        found = mapping.spread(one.rig, mapping.match(one.rig))
        performers.show_mapping(one, found)
        return found.report().splitlines()[0]


class CMET_OT_accept_guess(SimpleOperator, bpy.types.Operator):
    """Use the shape that its name suggests for this coefficient"""

    bl_idname = "cmet.accept_guess"
    panel = "rig"
    bl_label = "Use the Guess"
    bl_options = {"REGISTER", "UNDO"}

    coefficient: StringProperty(options={"SKIP_SAVE"})

    @classmethod
    def description(cls, context: Any, properties: Any) -> str:
        """The tooltip names the shape."""
        row = performers.current(context.scene.cmet).rows.get(properties.coefficient)
        return f"Not sure enough to be used by itself: let {row.offer} take {row.name}" if row else cls.__doc__ or ""

    def work(self, context: Any) -> str:
        row = performers.current(context.scene.cmet).rows.get(self.coefficient)
        if row is None or not row.offer:
            raise InvalidInput(f"No guess is offered for '{self.coefficient}'.")
        row.channels, row.offer = row.offer, ""
        return f"{row.name} is taken by {row.channels}."


class CMET_OT_assign_shape(SimpleOperator, bpy.types.Operator):
    """Let the active shape key take a coefficient"""

    bl_idname = "cmet.assign_shape"
    bl_label = "Take Coefficient"
    bl_options = {"REGISTER", "UNDO"}
    bl_property = "coefficient"
    panel = "rig"

    coefficient: EnumProperty(
        name="Coefficient", items=[(name, name, "") for name in arkit.NAMES], description="One of the 52 ARKit coefficients"
    )  # fmt: skip

    @classmethod
    def poll(cls, context: Any) -> bool:
        return context.object is not None and getattr(context.object, "active_shape_key_index", 0) > 0

    def invoke(self, context: Any, event: Any) -> set[str]:
        """Search the coefficients by name."""
        context.window_manager.invoke_search_popup(self)
        return {"RUNNING_MODAL"}

    def work(self, context: Any) -> str:
        one, shape = chosen(context), context.object.active_shape_key.name
        if context.object not in rig.meshes(one.rig):
            raise InvalidInput(
                f"'{context.object.name}' is not part of the rig '{one.rig.name}'; choose its rig first."
            )
        mapping_of(one)
        one.rows[self.coefficient].channels = mapping.format_weights({shape: 1.0})
        return f"{shape} takes {self.coefficient}."


class CMET_OT_save_mapping(SimpleOperator, bpy.types.Operator, ExportHelper):
    """Save the table as a file, for other scenes and other people"""

    bl_idname = "cmet.save_mapping"
    panel = "rig"
    bl_label = "Save Mapping"

    filename_ext = ".json"
    filter_glob: StringProperty(default="*.json", options={"HIDDEN"})

    def work(self, context: Any) -> str:
        path = performers.shown_mapping(performers.current(context.scene.cmet)).save(self.filepath)
        return f"Mapping kept as {path}."


class CMET_OT_load_mapping(SimpleOperator, bpy.types.Operator, ImportHelper):
    """Take the table from a file"""

    bl_idname = "cmet.load_mapping"
    panel = "rig"
    bl_label = "Load Mapping"
    bl_options = {"REGISTER", "UNDO"}

    filter_glob: StringProperty(default="*.json", options={"HIDDEN"})

    def work(self, context: Any) -> str:
        found = mapping.RigMapping.load(self.filepath)
        performers.show_mapping(performers.current(context.scene.cmet), found)
        return f"Mapping '{found.name or Path(self.filepath).stem}' loaded."


class CMET_OT_apply_track(SimpleOperator, bpy.types.Operator):
    """Write the take as keys on the rig, as a new action; earlier actions are kept"""

    bl_idname = "cmet.apply_track"
    panel = "rig"
    bl_label = "Apply Take"
    bl_options = {"REGISTER", "UNDO"}

    def work(self, context: Any) -> str:
        return apply(context, chosen(context))


def apply(context: Any, one: Any) -> str:
    """Write the track of a `Performer` as keys on their rig; returns what was done."""
    settings, track = context.scene.cmet, source_track(one)
    action = keyframes.apply_track(
        one.rig,
        track,
        mapping_of(one),
        settings.start_frame,
        simplify=settings.simplify,
        name=Path(one.track).stem,
        scene=context.scene,
    )
    notes = [*track.notes, *keyframes.notes_of(action), *_grown(context.scene, action)]
    return " ".join([f"{len(track)} frames on '{one.rig.name}' as action '{action.name}'.", *notes])


def _grown(scene: Any, action: Any) -> list[str]:
    """Let the scene end no earlier than a take; returns a sentence where it grew."""
    last = math.floor(action.frame_range[1] + 1e-3)
    if last <= scene.frame_end:
        return []
    scene.frame_end = last
    return [f"The scene ends at frame {last} now."]
