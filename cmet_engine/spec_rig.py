"""Specifications of work on characters, which Blender does; see `cmet_engine.spec`."""

from fractions import Fraction
from typing import Annotated, ClassVar, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from cmet_engine.choices import Codec, ExportFormat, FbxPreset, Quality, TakeFormat
from cmet_engine.cleanup import read_strengths
from cmet_engine.errors import InvalidInput
from cmet_engine.spec_base import Consent, Device, Emotion, Face, File, Frames, ObjectName, RateFactor, Spec
from cmet_engine.take_formats import FORMATS


def _strengths(text: str) -> str:
    try:
        read_strengths(text)
    except InvalidInput as error:
        raise ValueError("write a strength from 0 to 1, or regions with theirs, such as brows=1,mouth=0.3") from error
    return text


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

    inputs: ClassVar[tuple[str, ...]] = ("track", "rig", "mapping", "consent")
    track: File
    fps: Annotated[Fraction, Field(gt=0)] | None = None
    start: int = 1
    simplify: Annotated[float, Field(ge=0, le=1)] = 0.0
    steady: Annotated[str, Field(max_length=200), AfterValidator(_strengths)] = ""
    mirror: bool = False
    consent: Consent | None = None


class ExportSpec(_OnRig):
    """Write a track in another format, or the animation of a character that it moves.

    Attributes:
        track: .npz, or a recording that `takes` reads: .csv .tsv .txt .json.
        rig: see `RigSpec`; None writes the track itself.
        fps: frames a second of the scene, such as 24 or 24000/1001; None is the scene's, or the track's for imported rigs. Without a
            rig the track is written at this rate.
        start: scene frame of the track's first frame.
        simplify: leave out keys, with an error of at most this; 0 keeps all.
        steady: take jitter off, by region: `brows=1,mouth=0.3`, or `0.5` for all; see `cleanup`.
        mirror: exchange the sides of the face.
        frames: first and last scene frame; None is what is animated.
        preset: FBX as that program expects it.
        take_format: without a rig: as which application writes it; None is what the suffix says.
        format: of the result, where no name of a file says it; None is FBX with a rig, else CSV.
        consent: of the person whose performance it is; see `spec.EditSpec`. Tracks alone carry no Content Credentials.
    """

    kind: Literal["export"] = "export"
    frames: Frames | None = None
    preset: FbxPreset | None = None
    take_format: TakeFormat | None = None
    format: ExportFormat | None = None

    @model_validator(mode="after")
    def _with_rig(self) -> Self:
        return self  # none is needed here

    @property
    def output_name(self) -> str:
        """Name of the result where none is given."""
        if self.rig is None and self.take_format is not None:
            return f"edited{FORMATS[self.take_format].suffix}"
        return f"edited.{self.format or ('csv' if self.rig is None else 'fbx')}"


class ApplySpec(_OnRig):
    """Put a track on a character and keep it as a .blend; for its fields see `ExportSpec`."""

    kind: Literal["apply"] = "apply"


class BakeSpec(RigSpec):
    """Fold the performance and the emotion strips of a character into one action, and write it; `consent` as in `ExportSpec`."""

    inputs: ClassVar[tuple[str, ...]] = ("rig", "mapping", "consent")
    kind: Literal["bake"] = "bake"
    frames: Frames | None = None
    preset: FbxPreset | None = None
    consent: Consent | None = None


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
        face, quality, device, codec, rate_factor, consent: see `EditSpec`.
    """

    inputs: ClassVar[tuple[str, ...]] = ("clip", "face", "rig", "mapping", "source", "consent")
    kind: Literal["render_rig"] = "render_rig"
    clip: File
    source: File | None = None
    frames: Frames | None = None
    face: Face = 0
    quality: Quality = "auto"
    device: Device = "auto"
    codec: Codec | None = None
    rate_factor: RateFactor | None = None
    consent: Consent | None = None


class SealSpec(Spec):
    """Sign what Blender exported, and put it on record: what an export that is not by `ExportSpec` asks a running engine for.

    Attributes:
        file: the exported file; its credentials go beside it.
        track: the curves that the character was driven by, if it was.
        rig: the file of the character, if it has one.
        emotions: names of the emotions that were laid over them.
        consent: see `ExportSpec`.
        force: replace credentials that lie there.
    """

    inputs: ClassVar[tuple[str, ...]] = ("file", "track", "rig", "consent")
    kind: Literal["seal"] = "seal"
    file: File
    track: File | None = None
    rig: File | None = None
    emotions: Annotated[tuple[Emotion, ...], Field(max_length=200)] = ()
    consent: Consent | None = None
    force: bool = False


RigWork = ExportSpec | ApplySpec | BakeSpec | ReadSpec | MatchSpec | RenderRigSpec
"""What Blender does in a process of its own; an export without a rig excepted."""
