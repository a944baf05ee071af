"""Specifications of work on voices; see `cmet_engine.spec`."""

from typing import Annotated, ClassVar, Literal

from pydantic import AfterValidator, Field

from cmet_engine.spec_base import Device, File, Spec, new_name


class HearSpec(Spec):
    """What is felt in a recording, or in the sound of a clip, when and how strongly: an emotion timeline.

    Attributes:
        clip: the recording or clip.
        neutral: neutral speech of the same voice, a recording or a folder of them; None: the voice alone.
    """

    inputs: ClassVar[tuple[str, ...]] = ("clip", "neutral")
    folders: ClassVar[tuple[str, ...]] = ("neutral",)
    kind: Literal["hear"] = "hear"
    clip: File
    neutral: File | None = None

    @property
    def output_name(self) -> str:
        """Name of the result where none is given."""
        return "timeline.json"


class VectorSpec(Spec):
    """Add an emotion to the library of the user, from recordings.

    Attributes:
        paths: recordings with the emotion, or folders of them.
        neutral: the same voices without it; none takes the library's neutral.
        name: of the new emotion.
        replace: an emotion of the user's with the same name.
        device: makes no difference; the speech encoder runs on the processor, and gives every machine the same vector.
    """

    inputs: ClassVar[tuple[str, ...]] = ("paths", "neutral")
    folders: ClassVar[tuple[str, ...]] = ("paths", "neutral")
    kind: Literal["vector"] = "vector"
    paths: Annotated[tuple[File, ...], Field(min_length=1, max_length=1000)]
    neutral: Annotated[tuple[File, ...], Field(max_length=1000)] = ()
    name: Annotated[str, AfterValidator(new_name)]
    replace: bool = False
    device: Device = "cpu"
