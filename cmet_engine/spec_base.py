"""What specifications are made of: their base, and the kinds of values that fields take, with the checks that each makes."""

import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, ClassVar, Self, get_args

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Discriminator, Field, Tag, ValidationError

from cmet_engine import emotions
from cmet_engine.choices import DEVICES, MATTE_CHANNEL, PICTURES, VideoFormat
from cmet_engine.corrections import Correction
from cmet_engine.errors import InvalidInput
from cmet_engine.spec_errors import Called, field_called, sentence
from cmet_engine.timecode import parse_moment
from cmet_engine.timeline import PERSON

LONGEST_PATH = 4096  # characters; longer than any path that Linux, macOS or Windows opens by default

AUTO = "auto"
"""Of `shot_data`: named after the video."""

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


def _matte(text: str) -> str:
    path = Path(_printable(text))
    if text == MATTE_CHANNEL:
        return text
    if path.is_absolute() or ".." in path.parts or path.drive:
        raise ValueError("not a name in the folder of the result")
    suffix = path.suffix.lower().removeprefix(".")
    if suffix not in get_args(VideoFormat):
        raise ValueError(f"use {MATTE_CHANNEL}, or a name that ends in one of {', '.join(get_args(VideoFormat))}")
    if suffix in PICTURES and "%" not in path.name:
        raise ValueError(f"numbered pictures need a place for the number, such as {path.stem}/%06d.{suffix}")
    return text


def _as_text(value: Any) -> Any:
    return format(value, "f") if isinstance(value, int | float) and not isinstance(value, bool) else value


def _moment(text: str) -> str:
    try:
        parse_moment(text)
    except InvalidInput as error:
        raise ValueError("write seconds (2.5), frames (120f) or a timecode (01:00:10:00)") from error
    return text


def _correction(text: str) -> str:
    Correction.parse(_printable(text))
    return text


def new_name(text: str) -> str:
    """Check the name of a new emotion."""
    if not emotions.NAME.fullmatch(text):
        raise ValueError("use up to 40 letters, digits, '_' and '-', beginning with a letter")
    return text


def _shot_data(text: Any) -> Any:
    return AUTO if text is True else text


def _json_beside(text: str) -> str:
    path = Path(_printable(text))
    outside = path.is_absolute() or ".." in path.parts or path.drive
    if text != AUTO and (outside or path.suffix.lower() != ".json" or path.name == "report.json"):
        raise ValueError("not a name of your own that ends in .json, in the folder of the result")
    return text


def _person(text: str) -> str:
    if not PERSON.fullmatch(text):
        raise ValueError(
            "use a person's number, from 1, or a name of letters, digits, '_' and '-', beginning with a letter"
        )
    return text


def _named_person(text: str) -> str:
    number, _, name = text.partition("=")
    if not (number.isascii() and number.isdigit()) or name[:1].isdigit() or not PERSON.fullmatch(name):
        raise ValueError(
            "write N=NAME such as 2=anna, the name in letters, digits, '_' and '-', beginning with a letter"
        )
    return text


def _rest_frame(text: str) -> str:
    first, _, last = text.partition("-")
    if last and int(last) < int(first):
        raise ValueError("the last frame comes before the first")
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


def _consent(value: Any) -> Any:
    """A sentence, or the path of a consent file; each as the type it has in `Consent`."""
    return Path(value) if isinstance(value, str) and value.lower().endswith(".json") else value


File = Annotated[Path, AfterValidator(_usable)]
Consent = Annotated[
    Annotated[Annotated[str, Field(min_length=1, max_length=1000), AfterValidator(_printable)], Tag("sentence")]
    | Annotated[File, Tag("consent file")],
    Discriminator(lambda value: "consent file" if isinstance(value, Path) else "sentence"),
    BeforeValidator(_consent),
]
"""Who agreed to the edit, when and how, in a sentence; or a consent file (.json), see `provenance.consent`."""
ColorSpace = Annotated[str, Field(min_length=1, max_length=200), AfterValidator(_printable)]
Emotion = Annotated[str, Field(min_length=1, max_length=200), AfterValidator(_printable)]
"""A name, a blend or a key in text form: `happy`, `0.7*happy+0.3*fear`, `sad=0.6@1-2.5`."""
CorrectionText = Annotated[str, Field(min_length=1, max_length=200), AfterValidator(_correction)]
"""A point that an edited curve passes through: `jawOpen=0.2@1.4`; see `cmet_engine.corrections`."""
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
NamedPerson = Annotated[str, Field(max_length=60), AfterValidator(_named_person)]
"""Number and name of a person: `2=anna`."""
Strength = Annotated[float, Field(ge=-10, le=10)]
Device = Annotated[str, AfterValidator(_device)]
Matte = Annotated[str, Field(min_length=1, max_length=200), AfterValidator(_matte)]
"""A file or pattern in the folder of the result, or `channel`."""
RateFactor = Annotated[int, Field(ge=0, le=51)]
"""Constant rate factor of H.264, HEVC and VP9: 0 is the largest file, 51 the smallest."""
ShotData = Annotated[
    str, Field(min_length=1, max_length=200), BeforeValidator(_shot_data), AfterValidator(_json_beside)
]
"""A file in the folder of the result, or `auto`."""
Moment = Annotated[str, BeforeValidator(_as_text), Field(max_length=32), AfterValidator(_moment)]
"""A moment of a clip: seconds (`2.5`), frames from its beginning (`120f`) or a timecode (`01:00:10:00`)."""
RestFrame = Annotated[
    str, BeforeValidator(_as_text), Field(pattern=r"^[0-9]{1,8}(-[0-9]{1,8})?$"), AfterValidator(_rest_frame)
]
"""A frame at which a face rests (`12`), or the first and last of several (`10-40`)."""
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

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False, frozen=True, defer_build=True)
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
            for part in value if isinstance(value, tuple) else (value,):
                if isinstance(part, Path):
                    yield name, part
                elif isinstance(part, Spec):
                    yield from part.input_paths()

    def outputs(self, output: Path) -> list[Path]:
        """The files and patterns that the work writes, given where its result goes."""
        return [output]

    def with_inputs(self, change: Callable[[str, Path], Path]) -> Self:
        """A copy whose files are `change(field, path)`."""

        def moved(name: str, value: Any) -> Any:
            if isinstance(value, tuple):
                return tuple(moved(name, part) for part in value)
            if isinstance(value, Spec):
                return value.with_inputs(change)
            return change(name, value) if isinstance(value, Path) else value

        return self.model_copy(update={name: moved(name, getattr(self, name)) for name in self.inputs})


class RestSpec(Spec):
    """Curves whose rest may be made 0.

    Attributes:
        calibrate: take off what a relaxed face reads, so that rest is 0 and full is 1; see `rest`.
        rest_frame: a frame at which the face rests, or the first and last of several, counted from the first that is tracked;
            given, it calibrates. None finds the rest.
    """

    calibrate: bool = False
    rest_frame: RestFrame | None = None

    @property
    def rests(self) -> tuple[int, int] | None:
        """The first and the last frame at which the face rests, as far as that is said."""
        first, _, last = (self.rest_frame or "").partition("-")
        return (int(first), int(last or first)) if first else None


EMBEDDED = {
    ".mp4": "video/mp4", ".m4v": "video/x-m4v", ".mov": "video/quicktime", ".png": "image/png", ".jpg": "image/jpeg",
    ".jpeg": "image/jpeg", ".tif": "image/tiff", ".tiff": "image/tiff",
}  # fmt: skip
"""Files that hold Content Credentials themselves, and their media types; others have them in a file beside."""
SIDECAR, LIST = ".c2pa", ".sha256"
"""Credentials beside a file, and the list of numbered pictures that they are about."""


def credential_files(path: Path) -> list[Path]:
    """The files beside an output that hold its Content Credentials: of numbered pictures their list, and the credentials."""
    if "%" in path.name:
        stem = re.sub(r"%0?\d*d", "", path.stem).strip("._- ") or path.parent.name or "pictures"
        return [path.with_name(f"{stem}{LIST}"), path.with_name(f"{stem}{SIDECAR}")]
    if path.suffix.lower() in EMBEDDED:
        return []
    movie = path.suffix.lower().removeprefix(".") in get_args(VideoFormat)
    return [path.with_suffix(SIDECAR) if movie else path.with_name(path.name + SIDECAR)]
