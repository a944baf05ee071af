"""Load a clip, track it, and cancel what is under way."""

from pathlib import Path
from typing import Any

import bpy
from bpy.props import StringProperty
from bpy_extras.io_utils import ImportHelper

from cmet_engine.errors import NotFound

from .. import footage, session
from .base import EngineOperator, SimpleOperator, clip_path, colour_field, face_of, keep_result

CLIP_FILTER = "*.mp4;*.mov;*.mkv;*.avi;*.webm;*.m4v"


class CMET_OT_load_footage(SimpleOperator, bpy.types.Operator, ImportHelper):
    """Show a clip behind the camera and in the sequencer, in sync, with sound"""

    bl_idname = "cmet.load_footage"
    bl_label = "Load Clip"
    bl_options = {"REGISTER", "UNDO"}

    filter_glob: StringProperty(default=CLIP_FILTER, options={"HIDDEN"})

    def work(self, context: Any) -> str:
        settings = context.scene.cmet
        about = footage.load(context.scene, self.filepath, settings.start_frame, match_rate=settings.match_rate)
        settings.clip = self.filepath
        settings.track = ""
        sound = "with sound" if about["has_sound"] else "without sound"
        text = f"{Path(self.filepath).name}: {about['frames']} frames at {float(about['fps']):g} a second, {sound}."
        return " ".join([text, *about["notes"]])


class CMET_OT_track(EngineOperator, bpy.types.Operator):
    """Read the face's coefficients from the clip, in the engine"""

    bl_idname = "cmet.track"
    bl_label = "Track Footage"
    bl_options = {"REGISTER"}

    def request(self, context: Any) -> tuple[str, dict[str, Any]]:
        settings = context.scene.cmet
        request = {"kind": "track", "clip": str(clip_path(settings)), "face": face_of(settings)}
        return "Tracking", request | colour_field(settings)

    def receive(self, context: Any, state: dict[str, Any]) -> str:
        settings = context.scene.cmet
        path = keep_result(state, "track.npz", f"{Path(settings.clip).stem}_track")
        settings.track = str(path)
        found = state.get("result", {})
        text = f"Tracked {found.get('frames', '?')} frames, a face in {found.get('frames_with_face', '?')}; kept as {path}."
        return text + session.kept_elsewhere(path)


class CMET_OT_cancel(SimpleOperator, bpy.types.Operator):
    """Stop the engine's job; the scene is not changed"""

    bl_idname = "cmet.cancel"
    bl_label = "Cancel"

    def work(self, context: Any) -> str:
        if session.STATE.job is None:
            raise NotFound("Nothing is under way.")
        session.STATE.job.cancelled = True
        return "Cancelling."
