"""Emotions as strips, emotions of the user's own, and the result of all strips together."""

import contextlib
import itertools
import math
from pathlib import Path
from typing import Any

import bpy
from bpy.props import BoolProperty, EnumProperty, FloatProperty, IntProperty, StringProperty
from bpy_extras.io_utils import ImportHelper

from cmet_engine.emotions import LIKE
from cmet_engine.errors import CmetError, InvalidInput, NotFound
from cmet_engine.files import read_json
from cmet_engine.timeline import BRIEF_APEX, REGIONS, EmotionKey, EmotionTimeline
from cmet_engine.track import CoefficientTrack

from .. import emotion_strips, export, modes, performers, rig, session
from ..frames import scene_fps
from ..nla import PREFIX
from ..recorder import Recorder
from ..rig_settings import MODES
from .base import (
    EngineOperator,
    SimpleOperator,
    chosen,
    clip_path,
    colour_field,
    face_of,
    keep_result,
    mapping_of,
    source_track,
    still_there,
)
from .track import TAKE_FILTER


class CMET_OT_refresh_emotions(SimpleOperator, bpy.types.Operator):
    """Ask the engine what its library of emotions holds"""

    bl_idname = "cmet.refresh_emotions"
    panel = "emotion"
    bl_label = "Refresh"

    def work(self, context: Any) -> str:
        service = session.engine()
        service.start()
        service.wait(20)
        session.STATE.emotions = service.emotions()
        return f"The library holds {len(session.STATE.emotions)} emotions."


def edit_request(settings: Any, **keys: Any) -> dict[str, Any]:
    """A request for the tracks of an edit of the scene's clip, or of the take where there is none; no video."""
    one = performers.current(settings)
    keys |= {"bearing": True} if settings.bearing else {}
    if not settings.clip and one.track:
        return {"kind": "edit", "clip": _absolute(one.track), "mode": one.mode, **keys} | session.device_field()
    request = {"kind": "edit", "clip": str(clip_path(settings)), "face": face_of(settings), "renderer": "none", **keys}
    return request | {"mode": performers.current(settings).mode} | colour_field(settings) | session.device_field()


def gains_of(settings: Any) -> dict[str, float]:
    """The gains of regions for a new emotion that are not 1."""
    gains = {region: round(getattr(settings, f"gain_{region}"), 3) for region in REGIONS}
    return {region: gain for region, gain in gains.items() if gain != 1}


def choose_layer(one: Any, strip: Any) -> None:
    """Choose the layer of a new strip in the list."""
    tracks = strip.id_data.animation_data.nla_tracks
    one.active_layer = next(k for k, track in enumerate(tracks) if strip.name in track.strips)


def part_of(scene: Any) -> tuple[float, float] | None:
    """Scene frames between which a new strip is to lie; None for the whole take.

    Raises:
        InvalidInput: the scene has no preview range, and one is asked for.
    """
    if scene.cmet.place == "range":
        if not scene.use_preview_range:
            raise InvalidInput("The scene has no preview range; set one in the timeline (P), or choose another place.")
        return scene.frame_preview_start, scene.frame_preview_end
    return (scene.frame_current_final, float("inf")) if scene.cmet.place == "frame" else None


def _absolute(path: str) -> str:
    return str(Path(bpy.path.abspath(path)).resolve())


def difference(state: dict[str, Any]) -> CoefficientTrack:
    """What a finished edit adds to the actor's own curves."""
    edited, source = (CoefficientTrack.load(state["files"][name]) for name in ("edited.npz", "source.npz"))
    return emotion_strips.delta(edited, source)


def keep_source(one: Any, settings: Any, state: dict[str, Any]) -> None:
    """Keep the actor's own curves of a finished edit as the track of a performer who has none."""
    if not one.track:
        one.track = str(keep_result(state, "source.npz", f"{Path(settings.clip).stem}_track"))


def natural_course(
    scene: Any, emotion: str, delta: CoefficientTrack, part: tuple[float, float] | None
) -> list[tuple[float, float]] | None:
    """Keys of a new strip whose apex relaxes, where the panel asks for that."""
    settings, rate = scene.cmet, float(scene_fps(scene))
    begins, ends = ((frame - settings.start_frame) / rate for frame in part or (0, math.inf))
    begins, fade = max(begins, 0.0), settings.fade / rate
    if not settings.natural or not begins < min(ends, delta.duration):
        return None
    name = emotion if emotion in BRIEF_APEX else "other"  # a name of a user's own need not be one of a timeline
    end = ends if ends < delta.duration else None
    key = EmotionKey(name, settings.strength, begins, end, fade, fade, "natural")
    return emotion_strips.influence_of(key, delta.duration, settings.start_frame, rate)


def added(
    context: Any,
    rig_name: str,
    title: str,
    state: dict[str, Any],
    part: tuple[float, float] | None,
    info: dict[str, Any],
) -> str:
    """Put what a finished edit adds on the rig as a strip; returns what was done."""
    settings, one = context.scene.cmet, still_there(context, rig_name)
    delta = difference(state)
    strip = emotion_strips.add(
        one.rig, title, delta, settings.start_frame, strength=settings.strength, mapping=mapping_of(one), part=part,
        fade=settings.fade, influence=natural_course(context.scene, title, delta, part), info=info,
    )  # fmt: skip
    choose_layer(one, strip)
    keep_source(one, settings, state)
    return f"Strip '{strip.name}' added; key its influence in the NLA editor."


class CMET_OT_add_emotion(EngineOperator, bpy.types.Operator):
    """Add the chosen emotion to the rig as a strip: its influence is the strength"""

    bl_idname = "cmet.add_emotion"
    panel = "emotion"
    bl_label = "Add Emotion"
    bl_options = {"REGISTER"}

    emotion: StringProperty(name="Emotion", options={"SKIP_SAVE"})

    def request(self, context: Any) -> tuple[str, dict[str, Any]]:
        settings = context.scene.cmet
        obj = chosen(context).rig
        rig.check_editable(obj)
        self._rig, self._part = obj.name, part_of(context.scene)
        self.emotion = self.emotion or settings.emotion
        self._regions = gains_of(settings)
        title = EmotionKey(self.emotion, regions=self._regions).title
        return f"Emotion {self.emotion}", edit_request(settings, emotions=[title])

    def receive(self, context: Any, state: dict[str, Any]) -> str:
        info = {"emotion": self.emotion, "regions": self._regions}
        return added(context, self._rig, self.emotion, state, self._part, info)


class CMET_OT_from_face(EngineOperator, bpy.types.Operator):
    """Put the expression of the chosen picture, clip or take on the rig as a strip; a clip or a take is followed in time"""

    bl_idname = "cmet.from_face"
    panel = "face"
    bl_label = "From a Face"
    bl_options = {"REGISTER"}

    def request(self, context: Any) -> tuple[str, dict[str, Any]]:
        settings = context.scene.cmet
        obj = chosen(context).rig
        rig.check_editable(obj)
        if not settings.reference:
            raise InvalidInput("No face is chosen; choose a picture, a clip or a take as Reference.")
        self._rig, self._part, self._regions = obj.name, part_of(context.scene), gains_of(settings)
        self._like = _absolute(settings.reference)
        asked = {"emotions": [EmotionKey(LIKE, regions=self._regions).title], "like": self._like}
        return f"Expression of {Path(settings.reference).name}", edit_request(settings, **asked)

    def receive(self, context: Any, state: dict[str, Any]) -> str:
        title = Path(context.scene.cmet.reference).stem
        info = {"layer": "file", "like": self._like, "regions": self._regions}
        return added(context, self._rig, title, state, self._part, info)


class CMET_OT_from_voice(EngineOperator, bpy.types.Operator):
    """Put what is heard in the voice on the rig: a strip for each emotion, its influence keyed as it comes and goes"""

    bl_idname = "cmet.from_voice"
    panel = "emotion"
    bl_label = "From the Voice"
    bl_options = {"REGISTER"}

    follow: BoolProperty(
        name="Follow Recording",
        description="Follow the chosen recording moment by moment instead of the clip's own sound",
        options={"SKIP_SAVE"},
    )

    def request(self, context: Any) -> tuple[str, dict[str, Any]]:
        settings = context.scene.cmet
        obj = chosen(context).rig
        rig.check_editable(obj)
        self._rig = obj.name
        self.panel = "voice" if self.follow else "emotion"
        if self.follow and not settings.voice:
            raise InvalidInput("No recording to follow is chosen; choose or record one as Voice.")
        asked = {"speech": _absolute(settings.voice), "follow": True} if self.follow else {"emotions": ["auto"]}
        neutral = {"neutral": _absolute(settings.neutral_voice)} if settings.neutral_voice else {}
        return "Hearing the voice", edit_request(settings, **asked) | neutral

    def further(self, context: Any, states: list[dict[str, Any]]) -> list[tuple[str, dict[str, Any]]]:
        if len(states) > 1:
            return []
        names = _heard(states[0]).names()
        return [(f"Emotion {name}", edit_request(context.scene.cmet, emotions=[name])) for name in names]

    def receive_all(self, context: Any, states: list[dict[str, Any]]) -> str:
        settings, one, timeline = context.scene.cmet, still_there(context, self._rig), _heard(states[0])
        for name, state in zip(timeline.names(), states[1:], strict=True):
            keys = EmotionTimeline([key for key in timeline.keys if key.emotion == name])
            strip = emotion_strips.add_heard(
                one.rig, keys, difference(state), settings.start_frame, mapping=mapping_of(one)
            )
            choose_layer(one, strip)
        keep_source(one, settings, states[0])
        return f"Heard: {', '.join(timeline.names())}; key the influence of the strips in the NLA editor."


def _heard(state: dict[str, Any]) -> EmotionTimeline:
    """The timeline of a finished edit, with the keys that were heard."""
    report = read_json(state["files"]["report.json"])
    return EmotionTimeline([EmotionKey(**key) for key in report["timeline"]["keys"]])


class NewLayer:
    """An operator that adds a layer at once: its strength and fade are the panel's, and can be changed behind it (F9)."""

    strength: FloatProperty(
        name="Strength", soft_min=0.0, soft_max=1.5, options={"SKIP_SAVE"}, description="Influence of the new strip"
    )
    fade: IntProperty(
        name="Fade", min=0, soft_max=50, options={"SKIP_SAVE"}, description="Frames in which it comes and goes at ends within the take"
    )  # fmt: skip

    def take_from_panel(self, settings: Any) -> None:
        """Give what was not asked for the panel's value."""
        for name in ("strength", "fade"):
            if not self.properties.is_property_set(name):  # type: ignore[attr-defined]
                setattr(self, name, getattr(settings, name))


class CMET_OT_add_emotion_file(NewLayer, SimpleOperator, bpy.types.Operator, ImportHelper):
    """Add an emotion from the file of an edited take; works without the engine"""

    bl_idname = "cmet.add_emotion_file"
    panel = "emotion"
    bl_label = "From Edited Take"
    bl_options = {"REGISTER", "UNDO"}

    filter_glob: StringProperty(default=TAKE_FILTER, options={"HIDDEN"})

    def work(self, context: Any) -> str:
        settings, one = context.scene.cmet, chosen(context)
        self.take_from_panel(settings)
        edited = CoefficientTrack.load(self.filepath)
        beside = Path(self.filepath).with_name("source.npz")
        source = CoefficientTrack.load(beside) if beside.is_file() else source_track(one)
        strip = emotion_strips.add(
            one.rig, Path(self.filepath).stem, emotion_strips.delta(edited, source), settings.start_frame, strength=self.strength,
            mapping=mapping_of(one), part=part_of(context.scene), fade=self.fade, info={"layer": "file"},
        )  # fmt: skip
        choose_layer(one, strip)
        return f"Strip '{strip.name}' added."


class CMET_OT_new_emotion(EngineOperator, bpy.types.Operator):
    """Add an emotion of your own to the library, from recordings of a voice"""

    bl_idname = "cmet.new_emotion"
    panel = "voice"
    bl_label = "Add to Library"
    bl_options = {"REGISTER"}

    def request(self, context: Any) -> tuple[str, dict[str, Any]]:
        settings = context.scene.cmet
        if not settings.voice:
            raise InvalidInput("No recording with the emotion is chosen; choose or record one.")
        paths, neutral = ([_absolute(p)] if p else [] for p in (settings.voice, settings.neutral_voice))
        request = {"kind": "vector", "paths": paths, "neutral": neutral, "name": settings.voice_name}
        if settings.replace_emotion:
            request["replace"] = True
        return f"Adding {settings.voice_name}", request | session.device_field()

    def receive(self, context: Any, state: dict[str, Any]) -> str:
        with contextlib.suppress(CmetError):
            session.STATE.emotions = session.engine().emotions()
        return f"The emotion '{context.scene.cmet.voice_name}' is in the library."


class CMET_OT_record(EngineOperator, bpy.types.Operator):
    """Record a voice from the microphone of this computer; nothing is kept when it is cancelled"""

    bl_idname = "cmet.record"
    panel = "voice"
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

    def request(self, context: Any) -> tuple[str, dict[str, Any]]:
        settings = context.scene.cmet
        folder = session.results_folder()
        names = (folder / f"{self.into}_{number}.wav" for number in itertools.count(1))
        path = next(path for path in names if not path.exists())
        return "Recording, speak now", {"kind": "record", "path": path, "seconds": settings.record_seconds}

    def receive(self, context: Any, state: dict[str, Any]) -> str:
        (path,) = state["files"].values()
        setattr(context.scene.cmet, self.into, path)
        return f"Recorded as {path}." + session.kept_elsewhere(Path(path))


class CMET_OT_follow_mode(EngineOperator, bpy.types.Operator):
    """Bring the emotions on the rig to the chosen mode; the engine is asked once for each, then both modes are at hand"""

    bl_idname = "cmet.follow_mode"
    panel = "emotion"
    bl_label = "Bring Layers to Mode"
    bl_options = {"REGISTER"}

    _asked: list[str]  # names of the Actions whose two modes are asked for

    def requests(self, context: Any) -> list[tuple[str, dict[str, Any]]]:
        settings, one = context.scene.cmet, chosen(context)
        rig.check_editable(one.rig)
        unknown = [one for one in modes.others(one.rig, one.mode) if one.get(modes.DIFFERENCE) is None]
        if not unknown:
            raise NotFound("Every emotion on the rig is in the chosen mode, or both of its modes are known.")
        self._rig, self._asked = one.rig.name, [action.name for action in unknown]
        alike = {"bearing": False}  # head, gaze and blinks go with either mode
        asked = [edit_request(settings, **modes.question(action)) | alike for action in unknown]
        return [("Mode", request | {"mode": mode}) for request in asked for mode in MODES]

    def receive_all(self, context: Any, states: list[dict[str, Any]]) -> str:
        one, start = still_there(context, self._rig), context.scene.cmet.start_frame
        both = [difference(state) for state in states]
        for name, add, replace in zip(self._asked, both[::2], both[1::2], strict=True):
            if (action := bpy.data.actions.get(name)) is not None:
                modes.keep(one.rig, action, add, replace, start, mapping_of(one))
        modes.follow(one.rig, mapping_of(one), one.mode)
        return f"The emotions on the rig are in the mode {one.mode.capitalize()}."


class CMET_OT_bake(SimpleOperator, bpy.types.Operator):
    """Bake the performance and all emotions into one new action; the strips are muted, nothing is erased"""

    bl_idname = "cmet.bake"
    panel = "emotion"
    bl_label = "Bake"
    bl_options = {"REGISTER", "UNDO"}

    def work(self, context: Any) -> str:
        obj = chosen(context).rig
        action = emotion_strips.bake(obj, export.frame_span(obj))
        return f"Baked into the action '{action.name}'."


class CMET_OT_recompute(EngineOperator, bpy.types.Operator):
    """Ask the engine for the exact result of all emotions together, as one layer in their place; the performance and keys made by hand are kept"""

    bl_idname = "cmet.recompute"
    panel = "emotion"
    bl_label = "Recompute"
    bl_options = {"REGISTER"}

    _of: list[str]  # names of the tracks that the result stands for

    def request(self, context: Any) -> tuple[str, dict[str, Any]]:
        settings = context.scene.cmet
        obj = chosen(context).rig
        if emotion_strips.baked(obj) is not None:
            raise InvalidInput("The layers are off since the bake; press Back to Layers, then Recompute.")
        self._rig, self._of = obj.name, [track.name for track in emotion_strips.emotions(obj)]
        timeline = emotion_strips.timeline(obj, settings.start_frame)
        if not timeline.keys:
            raise NotFound("There is no emotion on the rig that is switched on; add one or switch it on.")
        self._keys = [{name: getattr(key, name) for name in EmotionKey.__dataclass_fields__} for key in timeline.keys]
        return "Recomputing", edit_request(settings, keys=self._keys)

    def receive(self, context: Any, state: dict[str, Any]) -> str:
        one = still_there(context, self._rig)
        notes = emotion_strips.not_kept(one.rig)
        strip = emotion_strips.add_exact(
            one.rig, difference(state), self._of, context.scene.cmet.start_frame, mapping_of(one), self._keys
        )
        choose_layer(one, strip)
        names = ", ".join(name.removeprefix(PREFIX) for name in self._of)
        return " ".join([f"The layer '{strip.name}' is the exact result of {names}, which are switched off.", *notes])
