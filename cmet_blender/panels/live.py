"""The panel Live, below Footage."""

from typing import Any

import bpy

from .. import session
from ..wrapping import wrapped
from .base import Panel, news


class CMET_PT_live(Panel, bpy.types.Panel):
    """A face that a phone sends, on the rig at once"""

    bl_label = "Live"
    bl_idname = "CMET_PT_live"
    bl_parent_id = "CMET_PT_footage"
    bl_options = {"DEFAULT_CLOSED"}

    def draw(self, context: Any) -> None:
        """Go live; then who sends, record, end."""
        layout, live = self.layout, session.STATE.live
        if live is None:
            layout.operator("cmet.live", icon="OUTLINER_OB_CAMERA")
            news(layout, context, "live")
            return
        receiver = live.receiver
        text = f"Waiting on port {receiver.port}" if receiver.silent else f"{receiver.sender}, {live.rate:.0f} a second"
        layout.label(text=text, icon="LINKED" if not receiver.silent else "UNLINKED")
        if receiver.silent and receiver.refused:
            wrapped(layout, f"{receiver.refused} packets are of another kind.", context.region.width, "ERROR")
        recording = live.recording
        row = layout.row()
        row.scale_y = 1.3
        text = "Record" if recording is None else f"Stop ({recording.seconds:.1f} s)"
        row.operator("cmet.live_record", icon="REC" if recording is None else "SNAP_FACE", text=text)
        layout.operator("cmet.live_end", icon="CANCEL")
        news(layout, context, "live")
