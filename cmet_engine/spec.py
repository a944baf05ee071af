"""One description of work. The command line, a batch row, an HTTP body, the add-on and a script all make one of these.

A specification says what to do with which files; where the result goes is given beside it. As JSON it is what clients send:
`EditSpec.read({"clip": "take3.mp4", "emotions": ["happy@0-2.5"]})`.
"""

from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator

from cmet_engine.errors import InvalidInput
from cmet_engine.timeline import EmotionKey, EmotionTimeline


def _usable(path: Path) -> Path:
    if "\0" in str(path) or len(str(path)) > 4096:
        raise ValueError("is no path")
    return path


File = Annotated[Path, AfterValidator(_usable)]
Emotion = Annotated[str, Field(min_length=1, max_length=200, pattern=r"^[^\x00-\x1f\x7f]*$")]
"""A name, a blend or a key in text form: `happy`, `0.7*happy+0.3*fear`, `sad=0.6@1-2.5`."""
Face = Annotated[int, Field(ge=0, le=20)]
Strength = Annotated[float, Field(ge=-10, le=10)]
Device = Annotated[str, Field(pattern=r"^(auto|cpu|mps|cuda(:\d{1,2})?)$")]
Mode = Literal["add", "replace"]
Quality = Literal["auto", "draft", "standard", "best"]
VideoFormat = Literal["mp4", "m4v", "mov", "mkv", "png", "exr"]
"""The last two are numbered pictures."""
TrackFormat = Literal["npz", "csv", "json"]
RateFactor = Annotated[int, Field(ge=0, le=51)]
"""Constant rate factor of H.264: 0 is the largest file, 51 the smallest."""


class Spec(BaseModel):
    """What every description of work has in common."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False, frozen=True)
    inputs: ClassVar[tuple[str, ...]] = ("clip",)
    """Names of the fields that hold files which are read."""

    @classmethod
    def read(cls, values: dict[str, Any]) -> Self:
        """A specification from plain values, as they come from JSON or a table.

        Raises:
            InvalidInput: a field is unknown, missing or wrong; the message names it.
        """
        try:
            return cls.model_validate(values)
        except ValidationError as error:
            raise InvalidInput(sentence(error)) from error


class KeySpec(Spec):
    """One key of the emotion timeline; see `cmet_engine.timeline.EmotionKey`."""

    inputs: ClassVar[tuple[str, ...]] = ()
    emotion: Emotion
    strength: Strength = 1.0
    start: Annotated[float, Field(ge=0, le=1e6)] = 0.0
    end: Annotated[float, Field(gt=0, le=1e6)] | None = None
    ease_in: Annotated[float, Field(ge=0, le=60)] = 0.3
    ease_out: Annotated[float, Field(ge=0, le=60)] = 0.3
    easing: Literal["smooth", "linear", "step"] = "smooth"


class TrackSpec(Spec):
    """Footage to coefficients."""

    kind: Literal["track"] = "track"
    clip: File
    face: Face = 0
    format: TrackFormat = "npz"

    @property
    def output_name(self) -> str:
        """Name of the result where none is given."""
        return f"track.{self.format}"


class EditSpec(Spec):
    """Edit the emotion of a clip.

    Attributes:
        clip: footage with a talking face.
        face: which face, 0 the largest.
        emotions: keys in text form, as `--emotion` takes them.
        keys: further keys: a list of them, or a timeline file (.json).
        strength: multiplies every key.
        speech: a recording, or a folder of them, that sounds like the wanted emotion.
        neutral: recordings of the same voice without it; None takes the clip's own sound, else the library's neutral.
        mode: `add` keeps the actor's own expression underneath; `replace` removes the standing expression first.
        renderer: `warp`, `edtalk`, or `none` for the tracks alone.
        quality: of `warp`: `draft`, `standard`, `best`, or `auto`.
        lips: a recording that the lips shall speak instead of the clip's own sound (`edtalk` only).
        portrait: a picture that shall speak; the clip gives head motion and expression (`edtalk` only).
        device: `auto`, `cpu`, `cuda` or `mps` for the networks.
        format: of the video.
        rate_factor: of H.264; None is the writer's own.
    """

    inputs: ClassVar[tuple[str, ...]] = ("clip", "keys", "speech", "neutral", "lips", "portrait")
    kind: Literal["edit"] = "edit"
    clip: File
    face: Face = 0
    emotions: Annotated[tuple[Emotion, ...], Field(max_length=200)] = ()
    keys: Annotated[tuple[KeySpec, ...], Field(max_length=1000)] | File = ()
    strength: Strength = 1.0
    speech: File | None = None
    neutral: File | None = None
    mode: Mode = "add"
    renderer: Literal["warp", "edtalk", "none"] = "warp"
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
                raise ValueError(f"{name}: it needs the renderer edtalk; choose that, or leave it out")
        if self.renderer == "edtalk" and self.mode != "add":
            raise ValueError("mode: the renderer edtalk adds to the expression that is there; use mode add with it")
        return self

    def timeline(self) -> EmotionTimeline:
        """The keys of `keys` and `emotions`, each with its own strength (`strength` is not applied).

        Raises:
            CmetError: a key is wrong, or the timeline file cannot be read.
        """
        if isinstance(self.keys, Path):
            keys = EmotionTimeline.load(self.keys).keys
        else:
            keys = [EmotionKey(**key.model_dump()) for key in self.keys]
        return EmotionTimeline([*keys, *EmotionTimeline.parse(self.emotions).keys])

    @property
    def video_name(self) -> str:
        """Name of the video in the folder of results; numbered pictures have a folder of their own."""
        return video_name(self.format)


class RenderSpec(Spec):
    """Render a clip with the curves of a track.

    Attributes:
        clip: the footage.
        track: the wanted curves; brought to the clip's frames in time where their rate or length differs.
        source: the clip's own curves that `track` was made from; tracked anew where None.
        face, quality, device, format, rate_factor: see `EditSpec`.
    """

    inputs: ClassVar[tuple[str, ...]] = ("clip", "track", "source")
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
    """Add an emotion to the library of the user, from recordings."""

    inputs: ClassVar[tuple[str, ...]] = ("paths", "neutral")
    kind: Literal["vector"] = "vector"
    paths: Annotated[tuple[File, ...], Field(min_length=1, max_length=1000)]
    neutral: Annotated[tuple[File, ...], Field(max_length=1000)] = ()  # none: the library's neutral
    name: Annotated[str, Field(min_length=1, max_length=40)]
    replace: bool = False
    device: Device = "auto"


class ExportSpec(Spec):
    """Write a track in another format, or put it on a rig.

    Attributes:
        track: .npz, .csv or .json.
        rig: a character: .blend, .glb, .gltf or .fbx; None writes a track file.
        apply: keep the keys on the character in a .blend, instead of exporting the animation.
    """

    inputs: ClassVar[tuple[str, ...]] = ("track", "rig")
    kind: Literal["export"] = "export"
    track: File
    rig: File | None = None
    apply: bool = False


def video_name(kind: str) -> str:
    """Name of an edited video in a folder of results, by its format."""
    return f"frames/%06d.{kind}" if kind in ("png", "exr") else f"edited.{kind}"


def sentence(error: ValidationError) -> str:
    """The first thing that is wrong, in a sentence that names the field."""
    first = error.errors()[0]
    where = ".".join(str(part) for part in first["loc"])
    if first["type"] == "extra_forbidden":
        return f"The field '{where}' is unknown."
    if first["type"] == "missing":
        return f"The field '{where}' is missing."
    if first["type"] == "value_error" and not where:
        return f"{str(first['ctx']['error']).rstrip('.')}."
    given = str(first.get("input"))[:80]
    return f"{where}: '{given}' cannot be used; {first['msg'][0].lower()}{first['msg'][1:]}."
