"""The buttons. Each calls functions of the other modules; what goes wrong is said in the panel and in Info.

Engine jobs: with a window an operator submits, returns, and looks every third of a second (`modal`), so Blender stays
usable; without one `execute` waits. Between, only names are kept: objects may be deleted and undone meanwhile.
"""

import contextlib
import itertools
import shutil
import time
from pathlib import Path
from typing import Any

import bpy
from bpy.props import BoolProperty, EnumProperty, StringProperty
from bpy_extras.io_utils import ExportHelper, ImportHelper

from cmet_engine.errors import CmetError
from cmet_engine.files import whole_file
from cmet_engine.timeline import EmotionKey
from cmet_engine.track import CoefficientTrack

from . import emotion_strips, export, footage, keyframes, mapping, properties, rig, session
from .emotion_tracks import owners, tracks_of
from .engine import FINISHED, Recorder, check, finished

POLL_SECONDS = 0.3
CLIP_FILTER = "*.mp4;*.mov;*.mkv;*.avi;*.webm;*.m4v"


def chosen(context: Any) -> Any:
    """The rig of the scene.

    Raises:
        CmetError: none is chosen, or it was deleted.
    """
    settings = context.scene.cmet
    if settings.rig is None:
        active = context.active_object
        if active is not None and properties._is_rig(None, active):
            settings.rig = active
        else:
            raise CmetError("No rig is chosen; select the mesh of the face and choose it in the Rig panel.")
    if context.scene.objects.get(settings.rig.name) != settings.rig:
        name, settings.rig = settings.rig.name, None
        raise CmetError(f"'{name}' is not in this scene any more; choose another rig.")
    return settings.rig


def still_there(context: Any, name: str) -> Any:
    """The rig that a job was started for.

    Raises:
        CmetError: it was deleted or another was chosen while the job ran.
    """
    obj = context.scene.objects.get(name)
    if obj is None or context.scene.cmet.rig != obj:
        raise CmetError(
            f"'{name}' was deleted or is not the chosen rig any more; nothing was changed. Choose a rig and try again."
        )
    return obj


def clip_path(settings: Any) -> Path:
    """The scene's clip.

    Raises:
        CmetError: none is chosen, or the file is gone.
    """
    if not settings.clip:
        raise CmetError("No clip is chosen; load one in the Footage panel.")
    path = Path(bpy.path.abspath(settings.clip)).resolve()
    if not path.is_file():
        raise CmetError(f"The clip {path} does not exist any more; choose another.")
    return path


def source_track(settings: Any) -> CoefficientTrack:
    """The track of the scene's clip.

    Raises:
        CmetError: none yet, or the file cannot be read.
    """
    if not settings.track:
        raise CmetError("The clip is not tracked yet; press Track, or choose a track file.")
    return CoefficientTrack.load(bpy.path.abspath(settings.track))


def in_plain_words(error: Exception) -> str:
    """A sentence for what went wrong."""
    if isinstance(error, CmetError):
        return str(error)
    if isinstance(error, OSError) and error.filename is not None:
        return f"{error.filename} cannot be used: {error.strerror}; choose another place or change its permissions."
    return f"An internal fault stopped the work ({type(error).__name__}: {error})."


class Said:
    """Tell the user: errors in the panel and in Info, in plain words."""

    def say(self, context: Any, text: str) -> set[str]:
        """Note what was done."""
        context.scene.cmet.message, context.scene.cmet.done = "", text
        self.report({"INFO"}, text)  # type: ignore[attr-defined]
        return {"FINISHED"}

    def fail(self, context: Any, error: Exception) -> set[str]:
        """Note what went wrong; nothing in the scene was changed."""
        text = in_plain_words(error)
        context.scene.cmet.message, context.scene.cmet.done = text, ""
        self.report({"ERROR"}, text)  # type: ignore[attr-defined]
        return {"CANCELLED"}


class _Simple(Said):
    """An operator whose `work` either does it and returns a sentence, or raises."""

    def execute(self, context: Any) -> set[str]:
        """Do it."""
        try:
            return self.say(context, self.work(context))
        except (CmetError, ReferenceError, OSError, RuntimeError) as error:
            if isinstance(error, ReferenceError):
                error = CmetError("The object was deleted in the meantime; choose another rig.")
            return self.fail(context, error)

    def work(self, context: Any) -> str:
        raise NotImplementedError


class _Job(Said):
    """An operator whose work the engine does: `prepare` submits and returns (id, title), `receive` uses the result."""

    _timer: Any = None
    _rig = ""  # name of the rig that the result is for

    @classmethod
    def poll(cls, context: Any) -> bool:
        if session.STATE.job is not None:
            cls.poll_message_set("Another job is under way; wait for it or cancel it")  # type: ignore[attr-defined]
            return False
        return True

    def request(self, context: Any) -> tuple[str, str, tuple[Any, ...], dict[str, Any]]:
        """Title, kind, arguments and parameters of the job."""
        raise NotImplementedError

    def receive(self, context: Any, state: dict[str, Any]) -> str:
        """Use the finished job; returns what was done."""
        raise NotImplementedError

    def execute(self, context: Any) -> set[str]:
        """Do it and wait: for scripts and background mode."""
        try:
            _, kind, arguments, parameters = self.request(context)
            service = self._engine(context)
            state = service.run(kind, *arguments, **parameters)
            session.STATE.health = service.health() or session.STATE.health
            return self.say(context, self.receive(context, state))
        except (CmetError, ReferenceError, OSError) as error:
            return self.fail(context, error)

    def _engine(self, context: Any) -> Any:
        settings = context.scene.cmet
        places = [
            Path(bpy.path.abspath(p)).resolve().parent
            for p in (settings.clip, settings.voice, settings.neutral_voice)
            if p
        ]
        return session.engine(*places)

    def invoke(self, context: Any, event: Any) -> set[str]:
        """Submit and watch."""
        if bpy.app.background:
            return self.execute(context)
        try:
            self._request = self.request(context)
            self._service = self._engine(context)
            self._service.start()
        except (CmetError, ReferenceError, OSError) as error:
            return self.fail(context, error)
        self._scene = context.scene.name
        session.STATE.job = session.Job(self._request[0], stage="starting the engine")
        manager = context.window_manager
        self._timer = manager.event_timer_add(POLL_SECONDS, window=context.window)
        manager.modal_handler_add(self)
        return {"RUNNING_MODAL"}

    def modal(self, context: Any, event: Any) -> set[str]:
        """Look at the job."""
        if event.type != "TIMER":
            return {"PASS_THROUGH"}
        job = session.STATE.job
        if job is None:
            return self._end(context, {"CANCELLED"})
        if self._scene not in bpy.data.scenes:
            if job.identity:
                with contextlib.suppress(CmetError):
                    self._service.cancel(job.identity)
            return self._end(context, {"CANCELLED"})
        # the user may look at another scene by now
        with context.temp_override(scene=bpy.data.scenes[self._scene]):
            return self._step(bpy.context, job)

    def _step(self, context: Any, job: Any) -> set[str]:
        try:
            state = self._look(job)
            _redraw(context)
            if state is None:
                return {"PASS_THROUGH"}
            if state["state"] == "cancelled":
                self.say(context, f"{job.title}: cancelled; nothing was changed.")
                return self._end(context, {"CANCELLED"})
            text = self.receive(context, finished(state))
            if bpy.ops.ed.undo_push.poll():
                bpy.ops.ed.undo_push(message=f"C-MET: {job.title}")
            self.say(context, text)
            return self._end(context, {"FINISHED"})
        except (CmetError, ReferenceError, OSError, RuntimeError) as error:
            self.fail(context, error)
            return self._end(context, {"CANCELLED"})

    def _look(self, job: Any) -> dict[str, Any] | None:
        """The job's state once it is finished."""
        if not job.identity:
            if job.cancelled:
                return {"state": "cancelled"}
            if self._service.ready():
                session.STATE.health = self._service.health() or session.STATE.health
                _, kind, arguments, parameters = self._request
                job.identity = self._service.submit(kind, *arguments, **parameters)
            return None
        if job.cancelled:
            self._service.cancel(job.identity)
        state = self._service.look(job.identity)
        if state is None:
            job.stage = "the engine ended and was started again"
            return None
        job.stage, job.done, job.total = state["stage"] or "waiting", state["done"], state["total"]
        job.eta = state["eta_seconds"]
        return state if state["state"] in FINISHED else None

    def _end(self, context: Any, result: set[str]) -> set[str]:
        session.STATE.job = None
        if self._timer is not None:
            context.window_manager.event_timer_remove(self._timer)
        _redraw(context)
        return result


def _redraw(context: Any) -> None:
    for window in context.window_manager.windows:
        for area in window.screen.areas:
            if area.type in {"VIEW_3D", "PREFERENCES"}:
                area.tag_redraw()


def _keep(state: dict[str, Any], name: str, target: str) -> Path:
    """Copy a job's file into the folder of results, never over an earlier one."""
    made = Path(state["files"][name])
    folder = session.results_folder()
    path = folder / f"{target}{made.suffix}"
    number = 1
    while path.exists():
        number += 1
        path = folder / f"{target}_{number}{made.suffix}"
    with whole_file(path) as temporary:
        shutil.copyfile(made, temporary)
    return path


# Footage


class CMET_OT_load_footage(_Simple, bpy.types.Operator, ImportHelper):
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


class CMET_OT_track(_Job, bpy.types.Operator):
    """Read the face's coefficients from the clip, in the engine"""

    bl_idname = "cmet.track"
    bl_label = "Track"
    bl_options = {"REGISTER"}

    def request(self, context: Any) -> tuple[str, str, tuple[Any, ...], dict[str, Any]]:
        settings = context.scene.cmet
        return "Tracking", "track", (clip_path(settings),), {"face": settings.face}

    def receive(self, context: Any, state: dict[str, Any]) -> str:
        settings = context.scene.cmet
        path = _keep(state, "track.npz", f"{Path(settings.clip).stem}_track")
        settings.track = str(path)
        found = state.get("result", {})
        text = f"Tracked {found.get('frames', '?')} frames, a face in {found.get('frames_with_face', '?')}; kept as {path}."
        return text + session.kept_elsewhere(path)


class CMET_OT_cancel(_Simple, bpy.types.Operator):
    """Stop the engine's job; the scene stays as it is"""

    bl_idname = "cmet.cancel"
    bl_label = "Cancel"

    def work(self, context: Any) -> str:
        if session.STATE.job is None:
            raise CmetError("Nothing is under way.")
        session.STATE.job.cancelled = True
        return "Cancelling."


# Rig


class CMET_OT_match(_Simple, bpy.types.Operator):
    """Find which shape key takes which coefficient, by names and then by shapes"""

    bl_idname = "cmet.match"
    bl_label = "Match Again"
    bl_options = {"REGISTER", "UNDO"}

    def work(self, context: Any) -> str:
        obj = chosen(context)
        found = mapping.spread(obj, mapping.match(obj))
        properties.show_mapping(context.scene.cmet, found)
        return found.report().splitlines()[0]


class CMET_OT_save_mapping(_Simple, bpy.types.Operator, ExportHelper):
    """Save the table as a file, for other scenes and other people"""

    bl_idname = "cmet.save_mapping"
    bl_label = "Save Mapping"

    filename_ext = ".json"
    filter_glob: StringProperty(default="*.json", options={"HIDDEN"})

    def work(self, context: Any) -> str:
        path = properties.shown_mapping(context.scene.cmet).save(self.filepath)
        return f"Mapping kept as {path}."


class CMET_OT_load_mapping(_Simple, bpy.types.Operator, ImportHelper):
    """Take the table from a file"""

    bl_idname = "cmet.load_mapping"
    bl_label = "Load Mapping"
    bl_options = {"REGISTER", "UNDO"}

    filter_glob: StringProperty(default="*.json", options={"HIDDEN"})

    def work(self, context: Any) -> str:
        found = mapping.RigMapping.load(self.filepath)
        properties.show_mapping(context.scene.cmet, found)
        return f"Mapping '{found.name or Path(self.filepath).stem}' loaded."


class CMET_OT_apply_track(_Simple, bpy.types.Operator):
    """Write the clip's track as keys on the rig, as a new action; earlier ones stay"""

    bl_idname = "cmet.apply_track"
    bl_label = "Apply Track"
    bl_options = {"REGISTER", "UNDO"}

    def work(self, context: Any) -> str:
        settings = context.scene.cmet
        obj = chosen(context)
        track = source_track(settings)
        action = keyframes.apply_track(
            obj, track, _mapping(settings), settings.start_frame, simplify=settings.simplify, scene=context.scene
        )
        notes = keyframes.notes_of(action)
        return " ".join([f"{len(track)} frames on '{obj.name}' as action '{action.name}'.", *notes])


def _mapping(settings: Any) -> mapping.RigMapping:
    if not settings.rows:
        obj = settings.rig
        properties.show_mapping(settings, mapping.spread(obj, mapping.match(obj)))
    return properties.shown_mapping(settings)


# Emotions


class CMET_OT_refresh_emotions(_Simple, bpy.types.Operator):
    """Ask the engine what its library of emotions holds"""

    bl_idname = "cmet.refresh_emotions"
    bl_label = "Refresh"

    def work(self, context: Any) -> str:
        service = session.engine()
        service.start()
        service.wait(20)
        session.STATE.emotions = service.emotions()
        return f"The library holds {len(session.STATE.emotions)} emotions."


class CMET_OT_add_emotion(_Job, bpy.types.Operator):
    """Add the chosen emotion to the rig as a strip: its influence is the strength"""

    bl_idname = "cmet.add_emotion"
    bl_label = "Add Emotion"
    bl_options = {"REGISTER"}

    emotion: StringProperty(name="Emotion", options={"SKIP_SAVE"})

    def request(self, context: Any) -> tuple[str, str, tuple[Any, ...], dict[str, Any]]:
        settings = context.scene.cmet
        obj = chosen(context)
        rig.check_editable(obj)
        self._rig = obj.name
        self.emotion = self.emotion or settings.emotion
        parameters = {"emotions": [self.emotion], "renderer": "none", "face": settings.face}
        return f"Emotion {self.emotion}", "edit", (clip_path(settings),), parameters

    def receive(self, context: Any, state: dict[str, Any]) -> str:
        settings = context.scene.cmet
        edited, source = (CoefficientTrack.load(state["files"][n]) for n in ("edited.npz", "source.npz"))
        strip = emotion_strips.add(still_there(context, self._rig), self.emotion, emotion_strips.delta(edited, source), settings.start_frame, strength=settings.strength, mapping=_mapping(settings))  # fmt: skip
        if not settings.track:
            settings.track = str(_keep(state, "source.npz", f"{Path(settings.clip).stem}_track"))
        return f"Strip '{strip.name}' added; key its influence in the NLA editor."


class CMET_OT_add_emotion_file(_Simple, bpy.types.Operator, ImportHelper):
    """Add an emotion from an edited track file: works without the engine"""

    bl_idname = "cmet.add_emotion_file"
    bl_label = "From Edited Track"
    bl_options = {"REGISTER", "UNDO"}

    filter_glob: StringProperty(default="*.npz;*.csv;*.json", options={"HIDDEN"})

    def work(self, context: Any) -> str:
        settings = context.scene.cmet
        edited = CoefficientTrack.load(self.filepath)
        beside = Path(self.filepath).with_name("source.npz")
        source = CoefficientTrack.load(beside) if beside.is_file() else source_track(settings)
        strip = emotion_strips.add(chosen(context), Path(self.filepath).stem, emotion_strips.delta(edited, source), settings.start_frame, strength=settings.strength, mapping=_mapping(settings))  # fmt: skip
        return f"Strip '{strip.name}' added."


class CMET_OT_new_emotion(_Job, bpy.types.Operator):
    """Make an emotion of your own from a recording of a voice"""

    bl_idname = "cmet.new_emotion"
    bl_label = "Learn from Voice"
    bl_options = {"REGISTER"}

    def request(self, context: Any) -> tuple[str, str, tuple[Any, ...], dict[str, Any]]:
        settings = context.scene.cmet
        if not settings.voice or not settings.neutral_voice:
            raise CmetError("Choose a recording with the emotion and one of the same voice speaking neutrally.")
        voice, neutral = (str(Path(bpy.path.abspath(p)).resolve()) for p in (settings.voice, settings.neutral_voice))
        return f"Learning {settings.voice_name}", "vector", ([voice], [neutral], settings.voice_name), {}

    def receive(self, context: Any, state: dict[str, Any]) -> str:
        with contextlib.suppress(CmetError):
            session.STATE.emotions = session.engine().emotions()
        return f"The emotion '{context.scene.cmet.voice_name}' is in the library."


class CMET_OT_record(_Job, bpy.types.Operator):
    """Record a voice from the microphone of this computer; nothing is kept when it is cancelled"""

    bl_idname = "cmet.record"
    bl_label = "Record"
    bl_options = {"REGISTER"}

    into: EnumProperty(
        name="Into",
        items=[
            ("voice", "Voice", "The voice with the emotion"),
            ("neutral_voice", "Neutral", "The same voice without"),
        ],
        description="Which recording it becomes",
    )

    def _engine(self, context: Any) -> Any:
        return Recorder(session.engine())

    def request(self, context: Any) -> tuple[str, str, tuple[Any, ...], dict[str, Any]]:
        settings = context.scene.cmet
        folder = session.results_folder()
        names = (folder / f"{self.into}_{number}.wav" for number in itertools.count(1))
        path = next(path for path in names if not path.exists())
        return "Recording, speak now", "record", (path,), {"seconds": settings.record_seconds}

    def receive(self, context: Any, state: dict[str, Any]) -> str:
        (path,) = state["files"].values()
        setattr(context.scene.cmet, self.into, path)
        return f"Recorded as {path}." + session.kept_elsewhere(Path(path))


class CMET_OT_bake(_Simple, bpy.types.Operator):
    """Fold the performance and all emotions into one new action; strips are muted, nothing is erased"""

    bl_idname = "cmet.bake"
    bl_label = "Bake"
    bl_options = {"REGISTER", "UNDO"}

    def work(self, context: Any) -> str:
        obj = chosen(context)
        action = emotion_strips.bake(obj, export.frame_span(obj))
        return f"Baked into the action '{action.name}'."


class CMET_OT_recompute(_Job, bpy.types.Operator):
    """Ask the engine for the exact result of all strips together, which is not their plain sum"""

    bl_idname = "cmet.recompute"
    bl_label = "Recompute"
    bl_options = {"REGISTER"}

    def request(self, context: Any) -> tuple[str, str, tuple[Any, ...], dict[str, Any]]:
        settings = context.scene.cmet
        obj = chosen(context)
        self._rig = obj.name
        timeline = emotion_strips.timeline(obj, settings.start_frame)
        if not timeline.keys:
            raise CmetError("There is no emotion strip on the rig; add one first.")
        keys = [{name: getattr(key, name) for name in EmotionKey.__dataclass_fields__} for key in timeline.keys]
        return "Recomputing", "edit", (clip_path(settings),), {"keys": keys, "renderer": "none", "face": settings.face}

    def receive(self, context: Any, state: dict[str, Any]) -> str:
        settings = context.scene.cmet
        obj = still_there(context, self._rig)
        edited = CoefficientTrack.load(state["files"]["edited.npz"])
        action = keyframes.apply_track(
            obj, edited, _mapping(settings), settings.start_frame, name=f"{obj.name} recomputed", scene=context.scene
        )
        for owner in owners(obj):
            if owner.animation_data is not None:
                owner.animation_data.action_blend_type = "REPLACE"
                for track in tracks_of(owner):
                    track.mute = True
        return f"The exact result is the action '{action.name}'; the strips are muted."


# Video


class CMET_OT_render_video(_Job, bpy.types.Operator):
    """Render the clip with exactly the curves that the rig has now"""

    bl_idname = "cmet.render_video"
    bl_label = "Render Edited Video"
    bl_options = {"REGISTER"}

    def request(self, context: Any) -> tuple[str, str, tuple[Any, ...], dict[str, Any]]:
        settings = context.scene.cmet
        clip, obj, source = clip_path(settings), chosen(context), source_track(settings)
        emotion_strips.sync(obj)
        context.window_manager.progress_begin(0, len(source))
        try:
            track = keyframes.read_track(
                obj, (settings.start_frame, settings.start_frame + 1), _mapping(settings), fps=source.fps, times=source.times,
                reference=source, scene=context.scene,
                progress=lambda stage, done, total: context.window_manager.progress_update(done),
            )  # fmt: skip
        finally:
            context.window_manager.progress_end()
        folder = session.results_folder()
        edited = track.save(folder / f"{clip.stem}_edited.npz")
        original = source.save(folder / f"{clip.stem}_source.npz")
        parameters = {
            "source": str(original),
            "renderer": settings.renderer,
            "format": settings.video_format,
            "rate_factor": properties.QUALITIES[settings.video_quality],
            "face": settings.face,
        }
        return "Rendering", "render", (clip, edited), parameters

    def receive(self, context: Any, state: dict[str, Any]) -> str:
        settings = context.scene.cmet
        path = _keep(state, next(iter(state["files"])), f"{Path(settings.clip).stem}_edited")
        footage.show_edited(context.scene, path, settings.start_frame)
        return f"The edited clip is {path} and in the sequencer." + session.kept_elsewhere(path)


class CMET_OT_compare(_Simple, bpy.types.Operator):
    """Show the clip before or after the edit in the sequencer"""

    bl_idname = "cmet.compare"
    bl_label = "Before / After"
    bl_options = {"REGISTER", "UNDO"}

    def work(self, context: Any) -> str:
        return f"The sequencer shows the clip {footage.compare(context.scene)} the edit."


# Export


class CMET_OT_export(_Simple, bpy.types.Operator):
    """Write the rig with its animation, or what it does as a track; the suffix says the format"""

    bl_idname = "cmet.export"
    bl_label = "Export"

    replace: BoolProperty(
        name="Replace", description="Replace a file that is there", default=False, options={"SKIP_SAVE"}
    )

    def invoke(self, context: Any, event: Any) -> set[str]:
        path = Path(bpy.path.abspath(context.scene.cmet.export_path))
        if path.exists() and not bpy.app.background:
            self.replace = True
            return context.window_manager.invoke_confirm(
                self, event, title="Replace File?", message=f"{path.name} exists already."
            )
        return self.execute(context)

    def work(self, context: Any) -> str:
        settings = context.scene.cmet
        if settings.export_path.startswith("//") and not bpy.data.filepath:
            raise CmetError(
                "The file's place is relative to the .blend, which is not saved yet; save it or choose another place."
            )
        path = Path(bpy.path.abspath(settings.export_path))
        preset = None if settings.preset == "none" else settings.preset
        export.write(chosen(context), path, preset=preset, mapping=_mapping(settings), force=self.replace)
        return f"Written: {path}."


# Engine


class CMET_OT_engine_check(_Simple, bpy.types.Operator):
    """See whether the engine can run, and what to do if not"""

    bl_idname = "cmet.engine_check"
    bl_label = "Check"

    def work(self, context: Any) -> str:
        session.STATE.findings = check(session.engine())
        wrong = [finding.text for finding in session.STATE.findings if not finding.ok]
        if wrong:
            raise CmetError(" ".join(wrong))
        return "The engine is well."


class CMET_OT_engine_start(_Simple, bpy.types.Operator):
    """Start the engine, or use the one that runs"""

    bl_idname = "cmet.engine_start"
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


class CMET_OT_engine_stop(_Simple, bpy.types.Operator):
    """End the engine that this Blender started"""

    bl_idname = "cmet.engine_stop"
    bl_label = "Stop Engine"

    def work(self, context: Any) -> str:
        session.close()
        session.STATE.health = {}
        return "The engine is stopped."


CLASSES = tuple(
    c
    for c in list(globals().values())
    if isinstance(c, type) and issubclass(c, bpy.types.Operator) and c is not bpy.types.Operator
)
