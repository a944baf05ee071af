"""Check, start and stop the engine."""

import time
from typing import Any

import bpy

from cmet_engine.errors import CmetError

from .. import session
from ..engine_check import check
from .base import SimpleOperator


class CMET_OT_engine_check(SimpleOperator, bpy.types.Operator):
    """Check whether the engine can run, and what to do if not"""

    bl_idname = "cmet.engine_check"
    panel = "video"
    bl_label = "Check"

    def work(self, context: Any) -> str:
        session.STATE.findings = check(session.engine())
        wrong = [finding.text for finding in session.STATE.findings if not finding.ok]
        if wrong:
            raise CmetError(" ".join(wrong))
        return "The engine can run."


class CMET_OT_engine_start(SimpleOperator, bpy.types.Operator):
    """Start the engine, or use the one that runs"""

    bl_idname = "cmet.engine_start"
    panel = "video"
    bl_label = "Start Engine"

    def work(self, context: Any) -> str:
        service = session.engine()
        service.start()
        end = time.monotonic() + 20
        while not service.ready() and time.monotonic() < end:
            time.sleep(0.1)
        session.STATE.health = service.health()
        return session.STATE.health["mismatch"] or engine_text(session.STATE.health)


def engine_text(health: dict[str, Any]) -> str:
    """Version, device and memory in a line."""
    memory = health.get("device_memory_bytes")
    device = f"{health.get('device', '?')}" + (f" with {memory / 2**30:.0f} GB" if memory else "")
    return f"Engine {health.get('version', '?')} on {device}."


class CMET_OT_engine_stop(SimpleOperator, bpy.types.Operator):
    """End the engine that this Blender started"""

    bl_idname = "cmet.engine_stop"
    panel = "video"
    bl_label = "Stop Engine"

    def work(self, context: Any) -> str:
        session.close()
        session.STATE.health = {}
        return "The engine is stopped."
