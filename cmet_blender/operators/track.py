"""Load a clip, track it, and cancel what is under way."""

from fractions import Fraction
from pathlib import Path
from typing import Any

import bpy
from bpy.props import BoolProperty, FloatProperty, IntProperty, StringProperty
from bpy_extras.io_utils import ImportHelper

from cmet_engine.cleanup import PARTS, cleaned
from cmet_engine.errors import InvalidInput, NotFound
from cmet_engine.rest import calibrated, rest_of
from cmet_engine.track import START_SECONDS, CoefficientTrack

from .. import footage, performers, session
from ..frames import scene_fps
from .base import (
    EngineOperator,
    SimpleOperator,
    check_apart,
    chosen,
    clip_path,
    colour_field,
    face_of,
    keep_result,
    new_result,
    source_track,
    there,
)
from .rig import apply

MAXFRAME = 1_048_574  # of a scene in Blender
CLIPS = (".mp4", ".mov", ".mkv", ".avi", ".webm", ".m4v", ".mxf")
CLIP_FILTER = ";".join(f"*{suffix}" for suffix in CLIPS)
TAKES = (".npz", ".csv", ".tsv", ".txt", ".json")
TAKE_FILTER = ";".join(f"*{suffix}" for suffix in TAKES)


class CMET_OT_load_footage(SimpleOperator, bpy.types.Operator, ImportHelper):
    """Show a clip behind the camera and in the sequencer, in sync, with sound"""

    bl_idname = "cmet.load_footage"
    bl_label = "Load Clip"
    bl_options = {"REGISTER", "UNDO"}

    filter_glob: StringProperty(default=CLIP_FILTER, options={"HIDDEN"})

    def invoke(self, context: Any, event: Any) -> set[str]:
        """Ask for a file, unless one was dropped."""
        return self.execute(context) if self.filepath else super().invoke(context, event)

    def work(self, context: Any) -> str:
        settings = context.scene.cmet
        about = footage.load(context.scene, self.filepath, settings.start_frame, match_rate=settings.match_rate)
        settings.clip = self.filepath
        performers.forget(settings, same_clip=False)
        settings.track = ""
        performers.refresh_footage(settings, view=not bpy.app.background)
        sound = "with sound" if about["has_sound"] else "without sound"
        text = f"{Path(self.filepath).name}: {about['frames']} frames at {float(about['fps']):g} a second, {sound}."
        return " ".join([text, *about["notes"]])


class CMET_OT_import_take(SimpleOperator, bpy.types.Operator, ImportHelper):
    """Read a take, the curves of a face as an application recorded them, and put it on the chosen rig as keys"""

    bl_idname = "cmet.import_take"
    bl_label = "Import Face Take"
    bl_options = {"REGISTER", "UNDO"}

    filter_glob: StringProperty(default=TAKE_FILTER, options={"HIDDEN"})
    start_frame: IntProperty(name="Start Frame", default=1, description="Scene frame of the take's first frame")
    simplify: FloatProperty(
        name="Simplify", default=0.0, min=0.0, soft_max=0.05, precision=3, description="Leave out keys where straight lines stay within this error; 0 keeps every frame"
    )  # fmt: skip

    def invoke(self, context: Any, event: Any) -> set[str]:
        """Ask for a file, unless one was dropped."""
        self.start_frame, self.simplify = context.scene.cmet.start_frame, context.scene.cmet.simplify
        return self.execute(context) if self.filepath else super().invoke(context, event)

    def work(self, context: Any) -> str:
        settings = context.scene.cmet
        one, track = performers.current(settings), CoefficientTrack.load(self.filepath)
        one.track, settings.start_frame, settings.simplify = self.filepath, self.start_frame, self.simplify
        if one.rig is None and not (context.active_object and performers.is_rig(None, context.active_object)):
            about = f"{len(track)} frames at {float(track.fps):g} a second. Choose a rig, then press Apply Take."
            return " ".join([about, *track.notes])
        return apply(context, chosen(context))


class CMET_OT_start_at_timecode(SimpleOperator, bpy.types.Operator):
    """Let the take start at the scene frame that its timecode names; then apply it again"""

    bl_idname = "cmet.start_at_timecode"
    bl_label = "Start at Timecode"
    bl_options = {"REGISTER", "UNDO"}

    def work(self, context: Any) -> str:
        settings = context.scene.cmet
        seconds = source_track(performers.current(settings)).meta.get(START_SECONDS)
        if seconds is None:
            raise InvalidInput("The take has no timecode; give its first frame as Start.")
        frame = round(Fraction(seconds) * scene_fps(context.scene))
        if frame > MAXFRAME:
            raise InvalidInput(
                f"The timecode names frame {frame}, and Blender's last is {MAXFRAME}; give its first frame as Start."
            )
        settings.start_frame = frame
        return f"The take starts at frame {frame}. Apply the take again."


class CMET_OT_view_footage(SimpleOperator, bpy.types.Operator):
    """Look at clip and face together in the 3D view"""

    bl_idname = "cmet.view_footage"
    bl_label = "View Footage"

    def work(self, context: Any) -> str:
        clip_path(context.scene.cmet)
        performers.refresh_footage(performers.current(context.scene.cmet), view=True)
        return "The 3D view shows the clip and the face."


class CMET_OT_find_people(EngineOperator, bpy.types.Operator):
    """List everyone in the clip, with pictures and times, to give each a rig and emotions of their own"""

    bl_idname = "cmet.find_people"
    bl_label = "Find People"
    bl_options = {"REGISTER"}

    def request(self, context: Any) -> tuple[str, dict[str, Any]]:
        settings = context.scene.cmet
        return "Finding people", {"kind": "faces", "clip": str(clip_path(settings))} | colour_field(settings)

    def receive(self, context: Any, state: dict[str, Any]) -> str:
        settings, found = context.scene.cmet, state["result"]["people"]
        if len(found) == 1:
            performers.forget(settings)
            return "There is one person in the clip."
        performers.fill(settings, found, state["files"])
        return f"There are {len(found)} people in the clip; choose a rig for each who shall be edited."


class CMET_OT_forget_people(SimpleOperator, bpy.types.Operator):
    """Clear the list of people; the scene goes on with the person that is chosen in it"""

    bl_idname = "cmet.forget_people"
    bl_label = "Clear"
    bl_options = {"REGISTER", "UNDO"}

    def work(self, context: Any) -> str:
        performers.forget(context.scene.cmet)
        return "The list of people is cleared."


class CMET_OT_track(EngineOperator, bpy.types.Operator):
    """Read the coefficients of the face from the clip, in the engine; those of several people go onto their rigs"""

    bl_idname = "cmet.track"
    bl_label = "Track Footage"
    bl_options = {"REGISTER"}

    _people: list[int] = []  # numbers of those who are tracked; empty for the scene's own person

    def requests(self, context: Any) -> list[tuple[str, dict[str, Any]]]:
        settings = context.scene.cmet
        request = {"kind": "track", "clip": str(clip_path(settings))} | colour_field(settings)
        people = to_track(settings)
        check_apart(people)
        self._people = [one.number for one in people]
        if not people:
            return [("Tracking", request | {"face": face_of(settings)})]
        return [(f"Tracking {performers.called(one)}", request | {"face": f"#{one.number}"}) for one in people]

    def receive_all(self, context: Any, states: list[dict[str, Any]]) -> str:
        settings = context.scene.cmet
        stem = f"{Path(settings.clip).stem}_track"
        if not self._people:
            path = keep_result(states[0], "track.npz", stem)
            settings.track = str(path)
            performers.refresh_footage(settings)
            return f"{_seen(states[0])}; kept as {path}." + session.kept_elsewhere(path)
        listed = {one.number: one for one in settings.people}
        done = []
        for number, state in zip(self._people, states, strict=True):
            if (one := listed.get(number)) is not None:
                one.track = str(keep_result(state, "track.npz", f"{stem}_{number}"))
                done.append((one, f"{performers.called(one)}: {_seen(state)}."))
        if not done:
            raise NotFound("The people who were tracked are no longer listed; nothing was changed.")
        texts = [text if one.rig is None else f"{text} {apply(context, there(context, one))}" for one, text in done]
        return " ".join(texts) + session.kept_elsewhere(Path(done[0][0].track))


class CMET_OT_calibrate(SimpleOperator, bpy.types.Operator):
    """Make the relaxed face of the take its rest, so that rest is 0 and the head looks ahead; the earlier take is kept"""

    bl_idname = "cmet.calibrate"
    bl_label = "Calibrate Rest"
    bl_options = {"REGISTER", "UNDO"}

    here: BoolProperty(
        name="At the Current Frame",
        description="The face rests at the current frame of the scene, or over its preview range where it has one; off finds what the face returns to most",
        options={"SKIP_SAVE"},
    )

    def work(self, context: Any) -> str:
        one, scene = performers.current(context.scene.cmet), context.scene
        track = source_track(one)
        seconds: Any = None
        if self.here and scene.use_preview_range:
            frames = scene.frame_preview_start, scene.frame_preview_end
            seconds = tuple(float((frame - scene.cmet.start_frame) / scene_fps(scene)) for frame in frames)
        elif self.here:
            seconds = (scene.frame_current_final - scene.cmet.start_frame) / float(scene_fps(scene))
        rest = rest_of(track, seconds)
        path = new_result(f"{Path(one.track).stem}_rest.npz")
        calibrated(track, rest).save(path)
        one.track = str(path)
        taken = sorted(rest.described()["coefficients"].items(), key=lambda item: -item[1])[:3]
        yaw, pitch, roll = rest.head
        named = ", ".join(f"{name} {value:.2f}" for name, value in taken)
        return f"Taken off: {named}; head {yaw:.0f}°, {pitch:.0f}°, {roll:.0f}°. Apply the take again."


def _steadiness(name: str, what: str) -> Any:
    return FloatProperty(
        name=name,
        default=0.5,
        min=0.0,
        max=1.0,
        subtype="FACTOR",
        description=f"How much jitter is taken off {what}: 1 is all that is not larger than it; fast motion stays sharp",
    )


class CMET_OT_clean_up(SimpleOperator, bpy.types.Operator):
    """Take jitter off the take, mirror it, or sample it at the scene's frames; the earlier take is kept"""

    bl_idname = "cmet.clean_up"
    bl_label = "Clean Up"
    bl_options = {"REGISTER", "UNDO"}

    brows: _steadiness("Brows", "the brows")
    eyes: _steadiness("Eyes", "lids and gaze")
    cheeks: _steadiness("Cheeks and Nose", "cheeks and nose")
    mouth: _steadiness("Mouth", "mouth and jaw")
    head: _steadiness("Head", "the turning of head and eyes")
    mirror: BoolProperty(name="Mirror", description="Exchange the sides of the face", options={"SKIP_SAVE"})
    resample: BoolProperty(
        name="At the Scene's Frames",
        description="One value for every frame of the scene, also of a take that was recorded at another rate",
    )

    def invoke(self, context: Any, event: Any) -> set[str]:
        """Ask how."""
        return context.window_manager.invoke_props_dialog(self, confirm_text="Clean Up")

    def draw(self, context: Any) -> None:
        """Strengths, then what else."""
        layout = self.layout
        layout.use_property_split = True
        layout.use_property_decorate = False
        column = layout.column(align=True)
        column.label(text="Jitter taken off")
        for name in PARTS:
            column.prop(self, name)
        layout.prop(self, "mirror")
        layout.prop(self, "resample")

    def work(self, context: Any) -> str:
        one = performers.current(context.scene.cmet)
        before = source_track(one)
        strengths = {name: value for name in PARTS if (value := getattr(self, name)) > 0}
        if not (strengths or self.mirror or self.resample):
            raise InvalidInput("Nothing was asked for; raise a strength, or tick a box.")
        rate = scene_fps(context.scene) if self.resample else None
        track = cleaned(before, strengths, mirror=self.mirror, fps=rate)
        path = new_result(f"{Path(one.track).stem}_clean.npz")
        track.save(path)
        one.track = str(path)
        return f"{len(track)} frames at {float(track.fps):g} a second, kept as {path.name}. Apply the take again."


def to_track(settings: Any) -> list[Any]:
    """The people who are tracked: those with a rig, or all where nobody has one."""
    return [one for one in settings.people if one.rig is not None] or list(settings.people)


def _seen(state: dict[str, Any]) -> str:
    found = state.get("result", {})
    return f"Tracked {found.get('frames', '?')} frames, a face in {found.get('frames_with_face', '?')}"


class CMET_OT_cancel(SimpleOperator, bpy.types.Operator):
    """Stop the engine's job; the scene is not changed"""

    bl_idname = "cmet.cancel"
    bl_label = "Cancel"

    def work(self, context: Any) -> str:
        if session.STATE.job is None:
            raise NotFound("Nothing is under way.")
        session.STATE.job.cancelled = True
        self.panel = session.STATE.job.panel
        return "Cancelling."
