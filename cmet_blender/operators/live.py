"""A live face: show it on the rig, record it."""

import re
import socket
from typing import Any

import bpy
from bpy.props import BoolProperty, EnumProperty, IntProperty, StringProperty

from cmet_engine.errors import CmetError, InvalidInput
from cmet_engine.live_capture import IFACIALMOCAP_PORT, LIVE_LINK_PORT, LOOPBACK

from .. import session
from ..live import Live
from .base import Reporter, SimpleOperator, chosen, mapping_of, new_result, redraw, still_there
from .rig import apply

_PORTS = {"live_link": LIVE_LINK_PORT, "ifacialmocap": IFACIALMOCAP_PORT}
_SECONDS = 1 / 60


def own_address() -> str:
    """This machine's address in its network, as a phone is told it; empty without one. Nothing is sent."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))  # an address that is kept for documentation
            return str(probe.getsockname()[0])
        except OSError:
            return ""


class CMET_OT_live(Reporter, bpy.types.Operator):
    """Let the rig follow a face that Live Link Face or iFacialMocap sends; Esc ends it, and the rig is as before"""

    bl_idname = "cmet.live"
    panel = "live"
    bl_label = "Go Live"
    bl_options = {"REGISTER"}

    app: EnumProperty(
        name="App",
        items=[
            ("live_link", "Live Link Face", f"Sends to port {LIVE_LINK_PORT}"),
            ("ifacialmocap", "iFacialMocap", f"Sends to port {IFACIALMOCAP_PORT}"),
        ],
        description="Whose port is used; what comes is recognised by itself",
    )
    port: IntProperty(name="Port", default=0, min=0, max=65535, description="0 is the app's usual one")
    network: BoolProperty(
        name="From the Network",
        description="Listen to other devices in the network, such as a phone; off listens to this machine alone",
    )
    phone: StringProperty(
        name="Phone", description="Address of a phone with iFacialMocap, which is then asked to send; empty where it sends by itself"
    )  # fmt: skip

    _timer: Any = None
    _live: Any = None

    def invoke(self, context: Any, event: Any) -> set[str]:
        """Ask how."""
        return context.window_manager.invoke_props_dialog(self, width=360, confirm_text="Go Live")

    def draw(self, context: Any) -> None:
        """App and port; with the network, what that means."""
        layout = self.layout
        layout.use_property_split = True
        layout.use_property_decorate = False
        layout.prop(self, "app")
        layout.prop(self, "port")
        layout.prop(self, "network")
        if not self.network:
            return
        if self.app == "ifacialmocap":
            layout.prop(self, "phone")
        layout.label(text="Every device in the network can then move this face.", icon="ERROR")
        layout.label(text=f"Tell the phone this address: {own_address() or 'no network was found'}")

    def execute(self, context: Any) -> set[str]:
        """Listen; with a window, show what comes until Esc."""
        try:
            if session.STATE.live is not None:
                raise InvalidInput("A live face is shown already; end it first (Esc).")
            if self.network and not getattr(bpy.app, "online_access", True):
                raise InvalidInput(
                    "Other devices are listened to only with Blender's online access (Preferences > System > Network > "
                    "Allow Online Access)."
                )
            one = chosen(context)
            port = self.port or _PORTS[self.app]
            asked = self.phone if self.network and self.app == "ifacialmocap" else ""
            self._live = Live(one.rig, mapping_of(one), port, "" if self.network else LOOPBACK, asked)
        except (CmetError, OSError) as error:
            return self.report_error(context, error)
        session.STATE.live = self._live
        where = "the network" if self.network else "this machine"
        self.report_done(context, f"Listening to {where} on port {port}; Esc ends it.")
        if bpy.app.background:  # a script calls `Live.step`
            return {"FINISHED"}
        self._timer = context.window_manager.event_timer_add(_SECONDS, window=context.window)
        context.window_manager.modal_handler_add(self)
        return {"RUNNING_MODAL"}

    def modal(self, context: Any, event: Any) -> set[str]:
        """Show what came; everything else goes on to Blender."""
        if session.STATE.live is not self._live:
            return self._end(context)
        if event.type == "ESC" and event.value == "PRESS":
            bpy.ops.cmet.live_end()
            return self._end(context)
        if event.type == "TIMER":
            try:
                self._live.step()
            except (CmetError, ReferenceError) as error:
                session.end_live()
                self.report_error(context, error)
                return self._end(context)
            redraw(context)
        return {"PASS_THROUGH"}

    def _end(self, context: Any) -> set[str]:
        context.window_manager.event_timer_remove(self._timer)
        redraw(context)
        return {"CANCELLED"}  # nothing is left in the scene that could be undone

    def cancel(self, context: Any) -> None:
        """Blender ends it: another file is loaded, or the window closed."""
        if session.STATE.live is self._live:
            session.end_live()


class CMET_OT_live_end(SimpleOperator, bpy.types.Operator):
    """Stop listening; the rig is as before, and a take that is being recorded is kept"""

    bl_idname = "cmet.live_end"
    panel = "live"
    bl_label = "End"
    bl_options = {"REGISTER"}

    def work(self, context: Any) -> str:
        live, kept = session.STATE.live, ""
        try:
            if live is not None and live.recording is not None:
                kept = f" {_keep_take(context, live)}"
        finally:
            session.end_live()
        return f"The live face ended.{kept}"


class CMET_OT_live_record(SimpleOperator, bpy.types.Operator):
    """Record the live face, or end the recording: the take becomes the rig's action, and earlier actions are kept"""

    bl_idname = "cmet.live_record"
    panel = "live"
    bl_label = "Record"
    bl_options = {"REGISTER"}  # only its end changes the scene

    def work(self, context: Any) -> str:
        live = session.STATE.live
        if live is None:
            raise InvalidInput("No live face is shown; press Go Live first.")
        if live.recording is None:
            live.record()
            return "Recording."
        return _keep_take(context, live)


def _keep_take(context: Any, live: Live) -> str:
    """End the recording, and keep the take as a file and on the rig; returns what was done."""
    live.step()  # what is on its way
    track = live.recorded()
    one = still_there(context, live.rig)
    name = re.sub(r"\W+", "_", str(track.meta["source"])).strip("_") or "live"
    path = track.save(new_result(f"{name}.npz"))
    one.track = str(path)
    live.restore()
    done = apply(context, one)
    bpy.ops.ed.undo_push(message="Record")
    return f"{done} Kept as {path}." + session.kept_elsewhere(path)
