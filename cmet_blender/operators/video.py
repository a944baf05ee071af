"""The edited video, from the curves that the rig has now."""

from pathlib import Path
from typing import Any

import bpy

from .. import emotion_strips, footage, keyframes, properties, session
from .base import (
    EngineOperator,
    SimpleOperator,
    chosen,
    clip_path,
    colour_field,
    face_of,
    keep_result,
    mapping_of,
    new_result,
    source_track,
)


class CMET_OT_render_video(EngineOperator, bpy.types.Operator):
    """Render the clip with exactly the curves that the rig has now"""

    bl_idname = "cmet.render_video"
    bl_label = "Render Edited Video"
    bl_options = {"REGISTER"}

    def request(self, context: Any) -> tuple[str, dict[str, Any]]:
        settings = context.scene.cmet
        clip, obj, source = clip_path(settings), chosen(context), source_track(settings)
        emotion_strips.sync(obj)
        context.window_manager.progress_begin(0, len(source))
        try:
            track = keyframes.read_track(
                obj, (settings.start_frame, settings.start_frame + 1), mapping_of(settings), fps=source.fps, times=source.times,
                reference=source, scene=context.scene,
                progress=lambda stage, done, total: context.window_manager.progress_update(done),
            )  # fmt: skip
        finally:
            context.window_manager.progress_end()
        edited = track.save(new_result(f"{clip.stem}_edited.npz"), force=False)
        original = source.save(new_result(f"{clip.stem}_source.npz"), force=False)
        request = {
            "kind": "render",
            "clip": str(clip),
            "track": str(edited),
            "source": str(original),
            "face": face_of(settings),
            "quality": settings.quality,
            "format": settings.video_format,
            "rate_factor": properties.RATE_FACTORS[settings.rate_factor],
            "watermark": settings.watermark,
        }
        return "Rendering", request | colour_field(settings) | session.device_field()

    def receive(self, context: Any, state: dict[str, Any]) -> str:
        settings = context.scene.cmet
        path = keep_result(state, next(iter(state["files"])), f"{Path(settings.clip).stem}_edited")
        footage.show_edited(context.scene, path, settings.start_frame)
        return f"The edited clip is {path} and in the sequencer." + session.kept_elsewhere(path)


class CMET_OT_compare(SimpleOperator, bpy.types.Operator):
    """Show the clip before or after the edit in the sequencer"""

    bl_idname = "cmet.compare"
    bl_label = "Before / After"
    bl_options = {"REGISTER", "UNDO"}

    def work(self, context: Any) -> str:
        return f"The sequencer shows the clip {footage.compare(context.scene)} the edit."
