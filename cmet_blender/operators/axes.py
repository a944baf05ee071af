"""The guided test of axes."""

from typing import Any

import bpy
from bpy.props import EnumProperty

from cmet_engine.errors import CmetError

from .. import axes, rig, session
from ..live import Shown
from .base import SimpleOperator, chosen, mapping_of, redraw

_PARTS = [("head", "Head", ""), ("leftEye", "Left Eye", ""), ("rightEye", "Right Eye", "")]


def _turn(self: Any, context: Any) -> None:
    """Show the turn about the chosen axis."""
    self.end()
    one = chosen(context)
    session.STATE.trial = Shown()
    for part in axes.trial(one.rig, mapping_of(one), self.part, self.about, context.scene):
        session.STATE.trial.put(part)
    redraw(context)


def _way(axis: str) -> Any:
    return EnumProperty(
        name=f"About {axis}",
        items=[(name, title, about) for name, (_, _, title, about) in axes.WAYS.items()],
        description=f"Which way it goes when it turns about {axis}",
        options={"SKIP_SAVE"},
    )


class CMET_OT_find_axes(SimpleOperator, bpy.types.Operator):
    """Turn the head or an eye about each axis and say which way it went: finds axes and signs"""

    bl_idname = "cmet.find_axes"
    panel = "rig"
    bl_label = "Find Axes"
    bl_options = {"REGISTER", "UNDO"}

    part: EnumProperty(name="Turns", items=_PARTS, options={"SKIP_SAVE"})
    about: EnumProperty(
        name="Show Turn About", items=[(axis, axis, f"Turn it about {axis}") for axis in "XYZ"], update=_turn, options={"SKIP_SAVE"}
    )  # fmt: skip
    x: _way("X")
    y: _way("Y")
    z: _way("Z")

    def invoke(self, context: Any, event: Any) -> set[str]:
        """Show the turn about X, and ask."""
        try:
            one = chosen(context)
            rig.check_editable(one.rig)
            for axis, way in axes.ways_of(one.rotations[self.part]).items():
                setattr(self, axis.lower(), way)
            _turn(self, context)
        except (CmetError, ReferenceError, KeyError) as error:
            self.end()
            return self.report_error(context, error)
        return context.window_manager.invoke_props_dialog(self, width=340, confirm_text="Use These Axes")

    def draw(self, context: Any) -> None:
        """Which turn is shown; an answer for each."""
        layout = self.layout
        layout.prop(self, "about", expand=True)
        layout.label(text="Which way does it go, seen as the character?")
        column = layout.column()
        column.use_property_split = True
        column.use_property_decorate = False
        for axis in "xyz":
            column.prop(self, axis)

    def cancel(self, context: Any) -> None:
        """It was closed."""
        self.end()

    def end(self) -> None:
        """The rig is as before."""
        if session.STATE.trial is not None:
            session.STATE.trial.restore()
        session.STATE.trial = None

    def work(self, context: Any) -> str:
        self.end()
        one = chosen(context)
        mapping_of(one)
        entry = one.rotations[self.part]
        for angle, axis in axes.axes_of({"X": self.x, "Y": self.y, "Z": self.z}).items():
            setattr(entry, angle, axis)
        return f"{entry.target or self.part}: yaw {entry.yaw}, pitch {entry.pitch}, roll {entry.roll}. Apply the take again."
