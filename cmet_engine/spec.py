"""One description of work. The command line, a batch row, an HTTP body, the add-on and a script all make one of these.

A specification says what to do with which files; where the result goes is given beside it. As JSON it is what clients send:
`EditSpec.read({"clip": "take3.mp4", "emotions": ["happy@0-2.5"]})`. `jobs.execute.execute` does what it says.
"""

import re
from collections.abc import Callable, Iterator, Mapping
from fractions import Fraction
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Discriminator,
    Field,
    Tag,
    ValidationError,
    field_validator,
    model_validator,
)

from cmet_engine import emotions
from cmet_engine.choices import DEVICES, Easing, FbxPreset, Mode, Quality, Renderer, TrackFormat, VideoFormat
from cmet_engine.errors import InvalidInput
from cmet_engine.spec_errors import Called, field_called, sentence, shown
from cmet_engine.timeline import PERSON, EmotionKey, EmotionTimeline

LONGEST_PATH = 4096  # characters; longer than any path that Linux, macOS or Windows opens by default

_DEVICE = re.compile("|".join(DEVICES) + r"|cuda:\d")


def _usable(path: Path) -> Path:
    if "\0" in str(path) or len(str(path)) > LONGEST_PATH:
        raise ValueError("which is not a path")
    return path


def _device(text: str) -> str:
    if not _DEVICE.fullmatch(text):
        raise ValueError(f"not one of {', '.join(DEVICES)}")
    return text


def _printable(text: str) -> str:
    if not all(character.isprintable() for character in text):
        raise ValueError("which holds control characters")
    return text


def _new_name(text: str) -> str:
    if not emotions.NAME.fullmatch(text):
        raise ValueError("use up to 40 letters, digits, '_' and '-', beginning with a letter")
    return text


def _person(text: str) -> str:
    if not PERSON.fullmatch(text):
        raise ValueError(
            "use a person's number, from 1, or a name of letters, digits, '_' and '-', beginning with a letter"
        )
    return text


def _face(value: Any) -> Any:
    """A rank, `#` with a number or name, or the path of a picture, each as the type it has in `Face`."""
    if not isinstance(value, str):
        return value
    text = value.strip()
    if text.lstrip("+-").isdigit():
        return int(text)
    if text.startswith("#"):
        return f"#{_person(text[1:])}"
    return Path(text)


def _form_of_face(value: Any) -> str:
    return "rank" if isinstance(value, int | float) else "person" if isinstance(value, str) else "picture"


def _form_of_keys(value: Any) -> str:
    return "key file" if isinstance(value, str | Path) else "key list"


File = Annotated[Path, AfterValidator(_usable)]
Emotion = Annotated[str, Field(min_length=1, max_length=200), AfterValidator(_printable)]
"""A name, a blend or a key in text form: `happy`, `0.7*happy+0.3*fear`, `sad=0.6@1-2.5`."""
Face = Annotated[
    Annotated[int, Field(ge=0, le=20), Tag("rank")]
    | Annotated[str, Field(pattern="^#"), Tag("person")]
    | Annotated[File, Tag("picture")],
    Discriminator(_form_of_face),
    BeforeValidator(_face),
]
"""Whose face: a rank (0 the largest over the first second that shows any, 1 the next), `#` with the number or the name that
`cmet faces` shows (`#2`, `#anna`), or the path of a picture of the person."""
Person = Annotated[str, AfterValidator(_person)]
Strength = Annotated[float, Field(ge=-10, le=10)]
Device = Annotated[str, AfterValidator(_device)]
RateFactor = Annotated[int, Field(ge=0, le=51)]
"""Constant rate factor of H.264: 0 is the largest file, 51 the smallest."""
Frames = tuple[int, int]
"""First and last scene frame."""
ObjectName = Annotated[
    str, Field(min_length=1, max_length=63), AfterValidator(_printable)
]  # 63: Blender's longest name


class Spec(BaseModel):
    """What every description of work has in common.

    Attributes:
        inputs: names of the fields that hold files or folders to read.
        folders: those of them that may be a folder.
    """

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False, frozen=True)
    inputs: ClassVar[tuple[str, ...]] = ("clip",)
    folders: ClassVar[tuple[str, ...]] = ()

    @classmethod
    def read(cls, values: Mapping[str, Any], called: Called = field_called) -> Self:
        """A specification from plain values, as they come from JSON or a table.

        Args:
            values: by field.
            called: what a field is called in a message.

        Raises:
            InvalidInput: a field is unknown, missing or wrong; the message names it.
        """
        try:
            return cls.model_validate(dict(values))
        except ValidationError as error:
            raise InvalidInput(sentence(error.errors(), called)) from error

    def input_paths(self) -> Iterator[tuple[str, Path]]:
        """Name of the field and path of every file and folder that is read."""
        for name in self.inputs:
            value = getattr(self, name)
            for path in value if isinstance(value, tuple) else (value,):
                if isinstance(path, Path):
                    yield name, path

    def with_inputs(self, change: Callable[[str, Path], Path]) -> Self:
        """A copy whose files are `change(field, path)`."""
        changed: dict[str, Any] = {}
        for name in self.inputs:
            value = getattr(self, name)
            if isinstance(value, Path):
                changed[name] = change(name, value)
            elif isinstance(value, tuple) and value and isinstance(value[0], Path):
                changed[name] = tuple(change(name, path) for path in value)
        return self.model_copy(update=changed)


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


Keys = Annotated[
    Annotated[Annotated[tuple[KeySpec, ...], Field(max_length=1000)], Tag("key list")]
    | Annotated[File, Tag("key file")],
    Discriminator(_form_of_keys),
]
"""Keys of a timeline, or a timeline file (.json)."""


class TrackSpec(Spec):
    """Footage to coefficients.

    Attributes:
        clip: footage with a face.
        face: whose; see `Face`.
        format: of the track, where no name of a file says it.
    """

    inputs: ClassVar[tuple[str, ...]] = ("clip", "face")
    kind: Literal["track"] = "track"
    clip: File
    face: Face = 0
    format: TrackFormat = "npz"

    @property
    def output_name(self) -> str:
        """Name of the result where none is given."""
        return f"track.{self.format}"


class TimelineSpec(Spec):
    """A clip and the emotions that it shall show.

    Attributes:
        clip: footage with a talking face.
        face: whose; see `Face`. Keys that name a person are for that one instead.
        emotions: keys in text form, as `--emotion` takes them.
        keys: further keys: a list of them, or a timeline file (.json).
        strength: multiplies every key.
        mode: `add` keeps the actor's own expression underneath; `replace` removes the standing expression first.
    """

    inputs: ClassVar[tuple[str, ...]] = ("clip", "face", "keys")
    clip: File
    face: Face = 0
    emotions: Annotated[tuple[Emotion, ...], Field(max_length=200)] = ()
    keys: Keys = ()
    strength: Strength = 1.0
    mode: Mode = "add"

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

    def with_keys_read(self) -> Self:
        """A copy that holds the keys of its timeline file instead of the file's path.

        Raises:
            CmetError: the timeline file cannot be read, or a key in it is wrong.
        """
        if not isinstance(self.keys, Path):
            return self
        keys = tuple(KeySpec.read(vars(key)) for key in EmotionTimeline.load(self.keys).keys)
        return self.model_copy(update={"keys": keys})


class EditSpec(TimelineSpec):
    """Edit the emotion of a clip.

    Attributes:
        clip, face, emotions, keys, strength, mode: see `TimelineSpec`.
        speech: a recording, or a folder of them, that sounds like the wanted emotion.
        neutral: recordings of the same voice without it; None takes the clip's own sound, else the library's neutral.
        renderer: `warp`, `edtalk`, or `none` for the tracks alone.
        quality: of `warp`: `draft`, `standard`, `best`, or `auto`.
        lips: a recording that the lips shall speak instead of the clip's own sound (`edtalk` only).
        portrait: a picture that shall speak; the clip gives head motion and expression (`edtalk` only).
        device: `auto`, `cpu`, `cuda` or `mps` for the networks.
        format: of the video.
        rate_factor: of H.264; None is the writer's own.
    """

    inputs: ClassVar[tuple[str, ...]] = ("clip", "face", "keys", "speech", "neutral", "lips", "portrait")
    folders: ClassVar[tuple[str, ...]] = ("speech", "neutral")
    kind: Literal["edit"] = "edit"
    speech: File | None = None
    neutral: File | None = None
    renderer: Renderer = "warp"
    quality: Quality = "auto"
    lips: File | None = None
    portrait: File | None = None
    device: Device = "auto"
    format: VideoFormat = "mp4"
    rate_factor: RateFactor | None = None

    @model_validator(mode="after")
    def _together(self) -> Self:
        for name in ("lips", "portrait"):
            if getattr(self, name) is not None and self.renderer != "edtalk":
                raise ValueError(f"{{{name}}} needs the renderer edtalk; choose that, or leave it out")
        if self.renderer == "edtalk" and self.mode != "add":
            raise ValueError(
                "{mode} is 'replace', but the renderer edtalk adds to the expression that is there; use add with it"
            )
        return self

    @property
    def video_name(self) -> str:
        """Name of the video in the folder of results; numbered pictures have a folder of their own."""
        return video_name(self.format)


class LiveSpec(TimelineSpec):
    """Read an edit at one moment of a clip that was tracked before.

    Attributes:
        clip, face, emotions, keys, strength, mode: see `TimelineSpec`.
        time: seconds from the start of the clip.
    """

    time: Annotated[float, Field(ge=0, le=1e6)]


class RenderSpec(Spec):
    """Render a clip with the curves of a track.

    Attributes:
        clip: the footage.
        track: the wanted curves; brought to the clip's frames in time where their rate or length differs.
        source: the clip's own curves that `track` was made from; tracked anew where None.
        face, quality, device, rate_factor: see `EditSpec`.
        format: of the video, where no name of a file says it.
    """

    inputs: ClassVar[tuple[str, ...]] = ("clip", "face", "track", "source")
    kind: Literal["render"] = "render"
    clip: File
    track: File
    source: File | None = None
    face: Face = 0
    renderer: Literal["warp"] = "warp"
    quality: Quality = "auto"
    device: Device = "auto"
    format: VideoFormat = "mp4"
    rate_factor: RateFactor | None = None

    @property
    def output_name(self) -> str:
        """Name of the result where none is given."""
        return video_name(self.format)


class VectorSpec(Spec):
    """Add an emotion to the library of the user, from recordings.

    Attributes:
        paths: recordings with the emotion, or folders of them.
        neutral: the same voices without it; none takes the library's neutral.
        name: of the new emotion.
        replace: an emotion of the user's with the same name.
        device: see `EditSpec`; the CPU is fast enough, and gives every machine the same vector.
    """

    inputs: ClassVar[tuple[str, ...]] = ("paths", "neutral")
    folders: ClassVar[tuple[str, ...]] = ("paths", "neutral")
    kind: Literal["vector"] = "vector"
    paths: Annotated[tuple[File, ...], Field(min_length=1, max_length=1000)]
    neutral: Annotated[tuple[File, ...], Field(max_length=1000)] = ()
    name: Annotated[str, AfterValidator(_new_name)]
    replace: bool = False
    device: Device = "cpu"


class RigSpec(Spec):
    """Work on a character, which Blender does in a process of its own.

    Attributes:
        rig: a character: .blend, .glb, .gltf, .fbx or .usd*.
        object: name of the object in it; None is the one with most of the shapes.
        mapping: a saved mapping; None matches shapes by their names.
        spread: show coefficients without a shape of their own by others.
    """

    inputs: ClassVar[tuple[str, ...]] = ("rig", "mapping")
    rig: File | None = None
    object: ObjectName | None = None
    mapping: File | None = None
    spread: bool = True

    @model_validator(mode="after")
    def _with_rig(self) -> Self:
        if self.rig is None:
            raise ValueError("{rig} is missing; name the file of a character")
        return self


class _OnRig(RigSpec):
    """A track on a character."""

    inputs: ClassVar[tuple[str, ...]] = ("track", "rig", "mapping")
    track: File
    fps: Annotated[Fraction, Field(gt=0)] | None = None
    start: int = 1
    simplify: Annotated[float, Field(ge=0, le=1)] = 0.0


class ExportSpec(_OnRig):
    """Write a track in another format, or the animation of a character that it moves.

    Attributes:
        track: .npz, Live Link Face .csv or Audio2Face .json.
        rig: see `RigSpec`; None writes the track itself.
        fps: frames a second of the scene, such as 24 or 24000/1001; None is the scene's, or the track's for imported rigs.
        start: scene frame of the track's first frame.
        simplify: leave out keys, with an error of at most this; 0 keeps all.
        frames: first and last scene frame; None is what is animated.
        preset: FBX as that program expects it.
    """

    kind: Literal["export"] = "export"
    frames: Frames | None = None
    preset: FbxPreset | None = None

    @model_validator(mode="after")
    def _with_rig(self) -> Self:
        return self  # none is needed here


class ApplySpec(_OnRig):
    """Put a track on a character and keep it as a .blend; for its fields see `ExportSpec`."""

    kind: Literal["apply"] = "apply"


class BakeSpec(RigSpec):
    """Fold the performance and the emotion strips of a character into one action, and write it."""

    kind: Literal["bake"] = "bake"
    frames: Frames | None = None
    preset: FbxPreset | None = None


class ReadSpec(RigSpec):
    """Read what a character does, as a track."""

    kind: Literal["read"] = "read"
    frames: Frames | None = None


class MatchSpec(RigSpec):
    """Write which shape of a character takes which coefficient."""

    kind: Literal["match"] = "match"


class RenderRigSpec(RigSpec):
    """Render a clip with the curves of a character.

    Attributes:
        clip: the footage.
        source: the track that the character was driven from; what it cannot show is kept from there.
        frames: first and last scene frame; None is the scene's range.
        face, quality, device, rate_factor: see `EditSpec`.
    """

    inputs: ClassVar[tuple[str, ...]] = ("clip", "face", "rig", "mapping", "source")
    kind: Literal["render_rig"] = "render_rig"
    clip: File
    source: File | None = None
    frames: Frames | None = None
    face: Face = 0
    quality: Quality = "auto"
    device: Device = "auto"
    rate_factor: RateFactor | None = None


RigWork = ExportSpec | ApplySpec | BakeSpec | ReadSpec | MatchSpec | RenderRigSpec
"""What Blender does in a process of its own; an export without a rig excepted."""

Work = TrackSpec | EditSpec | RenderSpec | VectorSpec | RigWork
"""Everything that `jobs.execute.execute` does."""

KINDS: dict[str, type[Work]] = {
    "edit": EditSpec, "track": TrackSpec, "render": RenderSpec, "vector": VectorSpec, "export": ExportSpec, "apply": ApplySpec,
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


def video_name(kind: str) -> str:
    """Name of an edited video in a folder of results, by its format."""
    return f"frames/%06d.{kind}" if kind in ("png", "exr") else f"edited.{kind}"
