"""One description of work. The command line, a batch row, an HTTP body, the add-on and a script all make one of these.

A specification says what to do with which files; where the result goes is given beside it. As JSON it is what clients send:
`EditSpec.read({"clip": "take3.mp4", "emotions": ["happy@0-2.5"]})`. `jobs.execute.execute` does what it says.
"""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import (
    AfterValidator,
    Discriminator,
    Field,
    Tag,
    field_validator,
    model_validator,
)

from cmet_engine import takes
from cmet_engine.choices import (
    Codec,
    CurvesRenderer,
    Easing,
    InputSpace,
    Mode,
    Quality,
    Renderer,
    TrackFormat,
    VideoFormat,
    View,
)
from cmet_engine.corrections import Correction
from cmet_engine.errors import InvalidInput
from cmet_engine.spec_base import (
    ColorSpace,
    Consent,
    CorrectionText,
    Device,
    Emotion,
    Face,
    File,
    Matte,
    Moment,
    NamedPerson,
    Person,
    RateFactor,
    RestSpec,
    ShotData,
    Spec,
    Strength,
    credential_files,
)
from cmet_engine.spec_errors import Called, field_called, shown
from cmet_engine.spec_people import PersonCurves, PersonSettings, with_people
from cmet_engine.spec_results import beside, matte_files, shot_file, video_name, with_otio
from cmet_engine.spec_rig import ApplySpec, BakeSpec, ExportSpec, MatchSpec, ReadSpec, RenderRigSpec, RigWork
from cmet_engine.spec_voice import HearSpec, VectorSpec
from cmet_engine.timeline import MOST_GAIN, EmotionKey, EmotionTimeline

CURVES = (".npz", *takes.SUFFIXES)
"""Suffixes of files that hold curves and no footage."""


def _form_of_keys(value: Any) -> str:
    return "key file" if isinstance(value, str | Path) else "key list"


def _settled(renderer: str) -> str:
    return "warp" if renderer == "auto" else renderer


class KeySpec(Spec):
    """One key of the emotion timeline; see `cmet_engine.timeline.EmotionKey`."""

    inputs: ClassVar[tuple[str, ...]] = ()
    emotion: Emotion
    strength: Strength = 1.0
    start: Annotated[float, Field(ge=0, le=1e6)] = 0.0
    end: Annotated[float, Field(gt=0, le=1e6)] | None = None
    ease_in: Annotated[float, Field(ge=0, le=60)] = 0.3
    ease_out: Annotated[float, Field(ge=0, le=60)] = 0.3
    easing: Easing = "smooth"
    person: Person | None = None
    regions: dict[str, Annotated[float, Field(ge=0, le=MOST_GAIN)]] = Field(default_factory=dict)
    strength_keys: Annotated[tuple[tuple[float, float], ...], Field(max_length=1000)] = ()
    heard: dict[str, Annotated[float, Field(ge=0, le=1)]] = Field(default_factory=dict, max_length=20)


Keys = Annotated[
    Annotated[Annotated[tuple[KeySpec, ...], Field(max_length=1000)], Tag("key list")]
    | Annotated[File, Tag("key file")],
    Discriminator(_form_of_keys),
]
"""Keys of a timeline, or a timeline file (.json)."""


class FootageSpec(Spec):
    """What is done with footage.

    Attributes:
        colorspace: name of its colour space; None is guessed from its tags or header.
        ocio: an OpenColorIO configuration that knows the name; None is that of `$OCIO`, else the built-in one.
    """

    inputs: ClassVar[tuple[str, ...]] = ("clip", "ocio")
    colorspace: ColorSpace | None = None
    ocio: File | None = None

    @model_validator(mode="after")
    def _space_named(self) -> Self:
        if self.ocio is not None and self.colorspace is None:
            raise ValueError("{ocio} needs {colorspace}; name the colour space of the clip in that configuration")
        return self

    @property
    def space(self) -> InputSpace:
        """What is said about the colours of the footage."""
        return InputSpace(self.colorspace, self.ocio)


class PartSpec(FootageSpec):
    """A clip, or a part of it: nothing else of it is tracked, edited or written, and the sound is cut to it.

    Attributes:
        clip: the footage.
        range_from: the first frame of the part; None is the clip's first.
        range_to: the frame behind its last one; None is the end of the clip.
        handles: frames more at either end, as far as the clip has them.
        colorspace, ocio: see `FootageSpec`.
    """

    clip: File
    range_from: Moment | None = None
    range_to: Moment | None = None
    handles: Annotated[int, Field(ge=0, le=100_000)] = 0

    @model_validator(mode="after")
    def _handles_of_a_part(self) -> Self:
        if self.handles and self.range_from is None and self.range_to is None:
            raise ValueError("{handles} needs {range_from} or {range_to}; a whole clip has no frames beyond its ends")
        return self

    @property
    def part(self) -> tuple[str | None, str | None, int]:
        """What `media.probe.part_of` takes beside the clip."""
        return self.range_from, self.range_to, self.handles


class FacesSpec(FootageSpec):
    """Everyone in a clip, with numbers and names to choose them by.

    Attributes:
        clip: the footage.
        colorspace, ocio: see `FootageSpec`.
        names: to give to people, as number and name: `2=anna`; they are kept beside the clip in CLIP.faces.json.
    """

    kind: Literal["faces"] = "faces"
    clip: File
    names: Annotated[tuple[NamedPerson, ...], Field(max_length=1000)] = ()


class TrackSpec(PartSpec, RestSpec):
    """Footage to coefficients.

    Attributes:
        clip, range_from, range_to, handles: see `PartSpec`; the footage shows a face.
        face: whose; see `Face`.
        colorspace, ocio: see `FootageSpec`.
        calibrate, rest_frame: see `RestSpec`.
        format: of the track, where no name of a file says it.
    """

    inputs: ClassVar[tuple[str, ...]] = ("clip", "face")
    kind: Literal["track"] = "track"
    face: Face = 0
    format: TrackFormat = "npz"

    @property
    def output_name(self) -> str:
        """Name of the result where none is given."""
        return f"track.{self.format}"


class TimelineSpec(FootageSpec):
    """A clip and the emotions that it shall show.

    Attributes:
        clip: footage with a talking face.
        colorspace, ocio: see `FootageSpec`.
        face: whose; see `Face`. Keys that name a person are for that one instead.
        emotions: keys in text form, as `--emotion` takes them.
        keys: further keys: a list of them, or a timeline file (.json).
        strength: multiplies every key.
        mode: `add` keeps the actor's own expression underneath; `replace` removes the standing expression first.
        corrections: points that edited curves pass through, in text form; see `corrections`.
        like: a picture of a face, a clip or a take (curves), whose expression is put on; keys named `like` say when and how strongly.
        people: settings of their own for people; as plain values `strength`, `mode` and `quality` take them too, with the person
            behind: `replace#anna`, or several in a list.
    """

    inputs: ClassVar[tuple[str, ...]] = ("clip", "ocio", "face", "keys", "like")
    clip: File
    face: Face = 0
    emotions: Annotated[tuple[Emotion, ...], Field(max_length=200)] = ()
    keys: Keys = ()
    strength: Strength = 1.0
    mode: Mode = "add"
    corrections: Annotated[tuple[CorrectionText, ...], Field(max_length=10_000)] = ()
    like: File | None = None
    people: Annotated[tuple[PersonSettings, ...], Field(max_length=100)] = ()

    @model_validator(mode="before")
    @classmethod
    def _settings_of_people(cls, values: Any) -> Any:
        return with_people(values, ("strength", "mode", "quality"))

    @field_validator("emotions", "keys")
    @classmethod
    def _valid_keys(cls, given: Any) -> Any:
        for key in given if isinstance(given, tuple) else ():
            EmotionKey.parse(key) if isinstance(key, str) else EmotionKey(**key.model_dump())
        return given

    def timeline(self) -> EmotionTimeline:
        """The keys of `keys` and `emotions`, each with its own strength (`strength` is not applied).

        Raises:
            CmetError: the timeline file cannot be read, or a key in it is wrong.
        """
        if isinstance(self.keys, Path):
            keys = EmotionTimeline.load(self.keys).keys
        else:
            keys = [EmotionKey(**key.model_dump()) for key in self.keys]
        return EmotionTimeline([*keys, *EmotionTimeline.parse(self.emotions).keys])

    @property
    def corrected_points(self) -> list[Correction]:
        """The corrections, read."""
        return [Correction.parse(text) for text in self.corrections]

    def of(self, person: str | None) -> Self:
        """What is asked for one person alone, as `EmotionKey.person`: their face, and the settings that hold for them."""
        named = self.face[1:] if person is None and isinstance(self.face, str) else person
        own = {k: v for p in self.people if p.person == named for k, v in vars(p).items() if v is not None}
        face = self.face if person is None else f"#{person}"
        own = {k: v for k, v in own.items() if k in type(self).model_fields}
        return self.model_copy(update={"face": face, "people": (), **own})

    def strengthened(self, timeline: EmotionTimeline) -> EmotionTimeline:
        """A timeline with the strength of every key multiplied by what is asked for its person."""
        keys = [replace(key, strength=key.strength * self.of(key.person).strength) for key in timeline.keys]
        return replace(timeline, keys=keys)

    def with_keys_read(self) -> Self:
        """A copy that holds the keys of its timeline file instead of the file's path.

        Raises:
            CmetError: the timeline file cannot be read, or a key in it is wrong.
        """
        if not isinstance(self.keys, Path):
            return self
        keys = tuple(KeySpec.read(vars(key)) for key in EmotionTimeline.load(self.keys).keys)
        return self.model_copy(update={"keys": keys})


class EditSpec(TimelineSpec, PartSpec, RestSpec):
    """Edit the emotion of a clip, or of a take: a coefficient track, or what an application recorded (`takes`), without any footage.

    Attributes:
        range_from, range_to, handles: see `PartSpec`; keys count from the start of the clip, not of the part.
        clip, face, colorspace, ocio, emotions, keys, strength, mode, corrections, like, people: see `TimelineSpec`.
        speech: a recording, or a folder of them, that sounds like the wanted emotion.
        follow: follow `speech`, one recording, moment by moment: what is felt in it when, and how strongly.
        bearing: head, gaze and blinks go with the emotions, too; for characters, without a video.
        calibrate, rest_frame: see `RestSpec`; of the actor's own curves, before the edit, without a video.
        neutral: recordings of the same voice without it; None takes the clip's own sound, else the library's neutral.
        renderer: `warp` (also as `auto`), `liveportrait`, `performrecast`, `edtalk`, or `none` for the tracks alone.
        quality: of `warp`: `draft`, `standard`, `best`, or `auto`.
        lips: a recording that the lips shall speak instead of the clip's own sound (`edtalk` only).
        portrait: a picture that shall speak; the clip gives head motion and expression (`edtalk` only).
        device: `auto`, `cpu`, `cuda` or `mps` for the networks.
        format: of the video.
        codec: of the video; None is the one of the format that loses least.
        like_source: take format and codec nearest to the clip's own, where they are not given.
        rate_factor: of H.264, HEVC and VP9; None is the writer's own.
        matte: a clip or numbered pictures beside the video for the mask of what was changed, or `channel` of OpenEXR files.
        shot_data: file beside the video for in and out, timecode and names (JSON, and OpenTimelineIO beside it); `auto` names it
            after the video.
        consent: of the person shown; see `spec_base.Consent`. It goes into the result's Content Credentials.
        watermark: the edited faces carry an invisible mark with an id; see `provenance.watermark`.
    """

    inputs: ClassVar[tuple[str, ...]] = (
        "clip", "ocio", "face", "keys", "speech", "like", "neutral", "lips", "portrait", "consent",
    )  # fmt: skip
    folders: ClassVar[tuple[str, ...]] = ("speech", "neutral")
    kind: Literal["edit"] = "edit"
    speech: File | None = None
    follow: bool = False
    bearing: bool = False
    neutral: File | None = None
    renderer: Annotated[Renderer, AfterValidator(_settled)] = "warp"
    quality: Quality = "auto"
    lips: File | None = None
    portrait: File | None = None
    device: Device = "auto"
    format: VideoFormat = "mp4"
    codec: Codec | None = None
    like_source: bool = False
    rate_factor: RateFactor | None = None
    matte: Matte | None = None
    shot_data: ShotData | None = None
    consent: Consent | None = None
    watermark: bool = True

    @property
    def is_take(self) -> bool:
        """Curves are edited and no footage; the result is curves."""
        return self.clip.suffix.lower() in CURVES

    @model_validator(mode="after")
    def _curves_alone(self) -> Self:
        if self.is_take:
            pictures = (
                "renderer", "range_from", "range_to", "lips", "portrait", "matte", "shot_data", "like_source", "codec",
            )  # fmt: skip
            for name in pictures:
                if name in self.model_fields_set and getattr(self, name) not in ("none", None, False):
                    raise ValueError(f"{{{name}}} is about footage, and {{clip}} is the take of a face; leave it out")
            object.__setattr__(self, "renderer", "none")
        return self

    @model_validator(mode="after")
    def _together(self) -> Self:
        if self.follow and self.speech is None:
            raise ValueError("{follow} needs {speech}; give the recording that is to be followed")
        for name in ("lips", "portrait"):
            if getattr(self, name) is not None and self.renderer != "edtalk":
                raise ValueError(f"{{{name}}} needs the renderer edtalk; choose that, or leave it out")
        for name in ("bearing", "calibrate", "rest_frame"):
            if getattr(self, name) and self.renderer != "none":
                raise ValueError(
                    f"{{{name}}} is for a character's curves, and footage keeps its own; use the renderer none with it"
                )
        if self.renderer == "edtalk" and self.like is not None:
            raise ValueError(
                "{like} is an expression in curves, which the renderer edtalk does not edit; use warp with it"
            )
        if self.renderer == "edtalk" and "replace" in (self.mode, *(person.mode for person in self.people)):
            raise ValueError(
                "{mode} is 'replace', but the renderer edtalk adds to the expression that is there; use add with it"
            )
        return self

    @property
    def video_name(self) -> str:
        """Name of the video in the folder of results; numbered pictures have a folder of their own."""
        return video_name(self.format)

    def outputs(self, output: Path) -> list[Path]:
        """See `Spec.outputs`; the result goes into a folder."""
        video = [] if self.renderer == "none" else [self.video_name, *matte_files(self.matte)]
        tracks = ["source.npz", "edited.npz", *(["edited.csv"] if self.is_take else [])]
        files = [output / name for name in (*video, *tracks, "report.html", "report.json")]
        credentials = credential_files(output / self.video_name) if video else []
        return [*files, *with_otio(self.shot_file(output)), *credentials]

    def shot_file(self, output: Path) -> Path | None:
        """The JSON file of the shot data, in the folder of results; None where they are not asked for."""
        return shot_file(self.shot_data, output / self.video_name, output)


class LiveSpec(TimelineSpec):
    """Read an edit at one moment of a clip that was tracked before.

    Attributes:
        clip, face, colorspace, ocio, emotions, keys, strength, mode, corrections, like, people: see `TimelineSpec`.
        time: seconds from the start of the clip.
        view: what the picture shows.
        size: pixels on the long side of the picture, at most. Up to 640 it may come from a small copy of the clip, which is quick.
    """

    time: Annotated[float, Field(ge=0, le=1e6)]
    view: View = "edited"
    size: Annotated[int, Field(ge=64, le=4096)] = 960


class CurvesSpec(TimelineSpec):
    """Read what a timeline shows of an edit of a clip that was tracked before: curves, sound, speech, blinks and cuts.

    Attributes:
        clip, face, colorspace, ocio, emotions, keys, strength, mode, corrections, like, people: see `TimelineSpec`.
        points: of each curve and of the waveform, at most; evenly spaced over the clip.
        most: how many curves, those that the edit moves most; corrected ones come first.
    """

    points: Annotated[int, Field(ge=2, le=10_000)] = 1000
    most: Annotated[int, Field(ge=1, le=52)] = 6


class RenderSpec(PartSpec):
    """Render a clip with the curves of a track.

    Attributes:
        clip, range_from, range_to, handles: see `PartSpec`.
        track: the wanted curves; brought to the clip's frames in time where their rate or length differs. As long as the whole
            clip they begin with it, else with the part that is rendered.
        source: the clip's own curves that `track` was made from; tracked anew where None.
        renderer: as of `EditSpec`; `edtalk` renders one person.
        face, colorspace, ocio, quality, device, codec, like_source, rate_factor, matte, shot_data, consent, watermark: see `EditSpec`.
        people: further people whose curves are rendered in the same pass; as plain values `track`, `source` and `quality` take
            them too, with the person behind: `anna.npz#anna`, or several in a list.
        format: of the video, where no name of a file says it.
    """

    inputs: ClassVar[tuple[str, ...]] = ("clip", "ocio", "face", "track", "source", "people", "consent")
    kind: Literal["render"] = "render"
    track: File
    source: File | None = None
    face: Face = 0
    renderer: Annotated[CurvesRenderer, AfterValidator(_settled)] = "warp"
    quality: Quality = "auto"
    device: Device = "auto"
    format: VideoFormat = "mp4"
    codec: Codec | None = None
    like_source: bool = False
    rate_factor: RateFactor | None = None
    matte: Matte | None = None
    shot_data: ShotData | None = None
    consent: Consent | None = None
    watermark: bool = True
    people: Annotated[tuple[PersonCurves, ...], Field(max_length=100)] = ()

    @model_validator(mode="before")
    @classmethod
    def _curves_of_people(cls, values: Any) -> Any:
        values = with_people(values, ("track", "source", "quality"))
        people = values.get("people") if isinstance(values, dict) else None
        if not isinstance(people, list | tuple) or not all(isinstance(person, dict) for person in people):
            return values
        if any("track" not in person for person in people):
            raise ValueError("{track} is missing for a person; give one for each")
        if people and "track" not in values:  # the first of them takes the place of `face`
            if "face" in values:
                raise ValueError("{face} is whom a {track} without # is for; leave it out")
            own = {name: value for name, value in people[0].items() if name != "person" and value is not None}
            values |= {"face": f"#{people[0].get('person')}", **own, "people": people[1:]}
        return values

    @model_validator(mode="after")
    def _one_person(self) -> Self:
        if self.people and self.renderer == "edtalk":
            raise ValueError("{renderer} is 'edtalk', which edits one person of a clip; use warp for several")
        return self

    def everyone(self) -> list[tuple[str | None, "RenderSpec"]]:
        """What is asked for each person alone, with whom `people` names; the first is whom `face` means."""
        alone: list[tuple[str | None, RenderSpec]] = [(None, self)]
        for person in self.people:
            own = {"track": person.track, "source": person.source, "quality": person.quality or self.quality}
            alone.append((person.person, self.model_copy(update={"face": f"#{person.person}", **own})))
        return alone

    @property
    def output_name(self) -> str:
        """Name of the result where none is given."""
        return video_name(self.format)

    def outputs(self, output: Path) -> list[Path]:
        """See `Spec.outputs`; matte and shot data lie beside the video, or beside the folder of its pictures."""
        mattes = [beside(output) / name for name in matte_files(self.matte)]
        return [output, *mattes, *with_otio(self.shot_file(output)), *credential_files(output)]

    def shot_file(self, output: Path) -> Path | None:
        """The JSON file of the shot data, beside the video or the folder of its pictures; None where they are not asked for."""
        return shot_file(self.shot_data, output, beside(output))


Work = FacesSpec | TrackSpec | EditSpec | RenderSpec | HearSpec | VectorSpec | RigWork
"""Everything that `jobs.execute.execute` does."""

KINDS: dict[str, type[Work]] = {
    "edit": EditSpec, "faces": FacesSpec, "track": TrackSpec, "render": RenderSpec, "hear": HearSpec, "vector": VectorSpec, "export": ExportSpec, "apply": ApplySpec,
    "bake": BakeSpec, "read": ReadSpec, "match": MatchSpec, "render_rig": RenderRigSpec,
}  # fmt: skip


def read_work(values: Mapping[str, Any], called: Called = field_called) -> Work:
    """The specification that plain values describe; their `kind` says which it is (default `edit`).

    Raises:
        InvalidInput: the kind or a field is unknown, or a field is missing or wrong; the message names it.
    """
    kind = values.get("kind", "edit")
    if not isinstance(kind, str) or kind not in KINDS:
        raise InvalidInput(f"{called('kind')} is '{shown(kind)}', not one of {', '.join(KINDS)}.")
    return KINDS[kind].read(values, called)
