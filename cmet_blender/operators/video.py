"""The edited video, from the curves that the rig has now."""

import math
from fractions import Fraction
from pathlib import Path
from typing import Any

import bpy

from cmet_engine.choices import MATTE_CHANNEL, PICTURES
from cmet_engine.errors import InvalidInput

from .. import footage, keyframes, performers, properties, session
from ..frames import scene_fps
from .base import (
    EngineOperator,
    SimpleOperator,
    check_apart,
    chosen,
    clip_path,
    colour_field,
    consent_field,
    face_of,
    keep_results,
    mapping_of,
    new_result,
    source_track,
    there,
)


class CMET_OT_render_video(EngineOperator, bpy.types.Operator):
    """Render the clip with exactly the curves that the rigs have now"""

    bl_idname = "cmet.render_video"
    panel = "video"
    bl_label = "Render Edited Video"
    bl_options = {"REGISTER"}

    def request(self, context: Any) -> tuple[str, dict[str, Any]]:
        settings = context.scene.cmet
        clip = clip_path(settings)
        curves: dict[str, Any]
        if settings.people:
            people = [there(context, one) for one in performers.ready(settings)]
            check_apart(people)
            if not people:
                raise InvalidInput("Nobody in the clip has a rig and a track; choose rigs, and press Track.")
            curves = {"people": [{"person": str(one.number), **_curves(context, one, clip)} for one in people]}
        else:
            curves = {"face": face_of(settings), **_curves(context, chosen(context), clip)}
        request = {
            "kind": "render",
            "clip": str(clip),
            "renderer": settings.renderer,
            "quality": settings.quality,
            **curves,
            **output_fields(settings),
            "watermark": settings.watermark,
        }
        return "Rendering", request | consent_field(settings) | colour_field(settings) | session.device_field()

    def receive(self, context: Any, state: dict[str, Any]) -> str:
        settings = context.scene.cmet
        paths = keep_results(state, f"{Path(settings.clip).stem}_edited")
        credentials = (".c2pa", ".sha256")
        shown = [path for path in paths if path.suffix not in credentials]
        video = next((path for path in shown if path.stem == "edited"), shown[0])
        pictures = [path for path in shown if path.parent.name == "frames"]
        begins = state.get("result", {}).get("begins", 0.0)
        footage.show_edited(context.scene, pictures or video, settings.start_frame, begins)
        performers.refresh_footage(performers.current(settings))
        result = video if len(paths) == 1 else video.parent if video.stem == "edited" else video.parent.parent
        return f"The edited clip is {result} and in the sequencer." + session.kept_elsewhere(result)


def _curves(context: Any, one: Any, clip: Path) -> dict[str, str]:
    """The files of the curves that a `Performer`'s rig has now, and of the clip's own."""
    settings, source = context.scene.cmet, source_track(one)
    context.window_manager.progress_begin(0, len(source))
    try:
        track = keyframes.read_track(
            one.rig, (settings.start_frame, settings.start_frame + 1), mapping_of(one), fps=source.fps, times=source.times,
            reference=source, scene=context.scene,
            progress=lambda stage, done, total: context.window_manager.progress_update(done),
        )  # fmt: skip
    finally:
        context.window_manager.progress_end()
    behind = f"_{one.number}" if performers.called(one) else ""
    edited = track.save(new_result(f"{clip.stem}_edited{behind}.npz"), force=False)
    original = source.save(new_result(f"{clip.stem}_source{behind}.npz"), force=False)
    return {"track": str(edited), "source": str(original)}


def output_fields(settings: Any) -> dict[str, Any]:
    """What a request says about the result: format, codec, part of the clip, and what is written beside the video."""
    fields: dict[str, Any] = {"rate_factor": properties.RATE_FACTORS[settings.rate_factor]}
    if settings.video_format == properties.LIKE_SOURCE:
        fields["like_source"] = True
    else:
        fields["format"] = settings.video_format
    if settings.codec != "auto":
        fields["codec"] = settings.codec
    for name in ("range_from", "range_to"):
        if getattr(settings, name).strip():
            fields[name] = getattr(settings, name).strip()
    if fields.keys() & {"range_from", "range_to"}:
        fields["handles"] = settings.handles
    if settings.matte:
        pictures = f"matte/%06d.{settings.video_format}" if settings.video_format in PICTURES else "matte.mkv"
        fields["matte"] = MATTE_CHANNEL if settings.video_format == "exr" else pictures
    return fields | ({"shot_data": "auto"} if settings.shot_data else {})


class CMET_OT_use_preview_range(SimpleOperator, bpy.types.Operator):
    """Render the part of the clip that is the preview range of the scene"""

    bl_idname = "cmet.use_preview_range"
    panel = "video"
    bl_label = "Use Preview Range"
    bl_options = {"REGISTER", "UNDO"}

    @classmethod
    def poll(cls, context: Any) -> bool:
        if not context.scene.use_preview_range:
            cls.poll_message_set("The scene has no preview range; set one in the timeline (P)")
            return False
        return True

    def work(self, context: Any) -> str:
        scene, settings = context.scene, context.scene.cmet
        start, rate = settings.start_frame, scene_fps(scene)
        moments = [(frame - start) / rate for frame in (scene.frame_preview_start, scene.frame_preview_end + 1)]
        if moments[1] <= 0:
            raise InvalidInput("The preview range ends before the clip begins; move it.")
        settings.range_from, settings.range_to = (_seconds(moment) for moment in moments)
        return f"From {settings.range_from or '0'} to {settings.range_to} s of the clip is rendered."


def _seconds(moment: Fraction) -> str:
    """A moment as seconds to a microsecond below, which no frame begins in between; empty at or before 0."""
    return f"{math.floor(moment * 1_000_000) / 1_000_000:.6f}".rstrip("0").rstrip(".") if moment > 0 else ""


class CMET_OT_verify(SimpleOperator, bpy.types.Operator):
    """Verify the Content Credentials of the active strip in the sequencer, or of the edited clip"""

    bl_idname = "cmet.verify"
    panel = "video"
    bl_label = "Verify"
    bl_options = {"REGISTER"}

    def work(self, context: Any) -> str:
        path = footage.shown_file(context.scene)
        service = session.engine(path.parent)
        service.start()
        service.wait()
        answer = service.provenance(path)
        settings = context.scene.cmet
        settings.verified, settings.badge = str(path), answer["credentials"]
        return " ".join(answer["sentences"])


class CMET_OT_compare(SimpleOperator, bpy.types.Operator):
    """Show the clip before or after the edit, in the sequencer and beside or behind the face"""

    bl_idname = "cmet.compare"
    panel = "video"
    bl_label = "Before / After"
    bl_options = {"REGISTER", "UNDO"}

    def work(self, context: Any) -> str:
        seen = footage.compare(context.scene)
        performers.refresh_footage(performers.current(context.scene.cmet))
        return f"The clip is shown {seen} the edit."
