"""What is refused, settled and said before any work on a clip begins."""

import logging
from pathlib import Path
from typing import Any, TypeVar

from cmet_engine.choices import MATTE_CHANNEL
from cmet_engine.emotion.clip_emotions import VOICE
from cmet_engine.emotions import LIKE
from cmet_engine.errors import InvalidInput, NotFound
from cmet_engine.files import check_apart
from cmet_engine.media import audio, codecs
from cmet_engine.media.container_limits import limits
from cmet_engine.media.source import Source
from cmet_engine.media.writer import check_output, picture_limits
from cmet_engine.render.choose import check_weights
from cmet_engine.render.shot_data import opentimelineio
from cmet_engine.spec import EditSpec, RenderSpec
from cmet_engine.spec_base import credential_files

AnyVideoSpec = TypeVar("AnyVideoSpec", EditSpec, RenderSpec)

log = logging.getLogger(__name__)


def check_inputs(spec: EditSpec) -> None:
    """Refuse files that cannot be used, and a renderer whose weights are missing, before anything else is done.

    Raises:
        CmetError: one sentence that names the file or the weights.
    """
    check_weights(spec.renderer, emotions=True)
    if spec.renderer != "none":
        check_output(spec.clip, Path(spec.video_name), spec.codec)
    matte_of(spec, spec.video_name, Path())
    if spec.shot_data is not None:
        opentimelineio()
    for name in ("lips", "portrait"):
        path = getattr(spec, name)
        if path is not None and not path.is_file():
            raise NotFound(f"There is no file {path}; --{name} takes the path of one.")
    if spec.lips is not None and not audio.has_sound(spec.lips):
        raise InvalidInput(f"{spec.lips} has no sound; --lips takes a recording of speech.")
    if spec.portrait is not None:
        from cmet_engine.render.edtalk.portrait import portrait_landmarks, read_portrait  # brings torch

        portrait_landmarks(read_portrait(spec.portrait))


def check_beside(spec: RenderSpec, output: Path, *, force: bool) -> None:
    """Check that what is written beside a rendered video may stand there: credentials, and with shot data the matte, too.

    Raises:
        CmetError: a file is an input, or there already and `force` is off; or OpenTimelineIO is missing.
    """
    others = credential_files(output)
    if spec.shot_data is not None:
        opentimelineio()
        others = spec.outputs(output)[1:]
    for path in others:
        check_apart(path)
        if path.exists() and not force:
            raise InvalidInput(f"{path} exists already; choose another name or add --force to replace it.")


def matte_of(spec: EditSpec | RenderSpec, video: str, folder: Path) -> dict[str, Any]:
    """What `VideoOutput` is told about the matte of a video, by the video's name and the folder of results.

    Raises:
        InvalidInput: there is no video of the clip's frames, or it shall be a channel, and the video is not OpenEXR.
    """
    if spec.matte is not None and isinstance(spec, EditSpec) and (spec.renderer == "none" or spec.portrait is not None):
        raise InvalidInput(
            "A matte needs a video of the clip's own frames; leave it out, or the portrait or the renderer none."
        )
    if spec.matte == MATTE_CHANNEL:
        if not video.lower().endswith(".exr"):
            raise InvalidInput(
                f"{video} has no channels of its own; --matte channel goes into .exr, others need a name."
            )
        return {"matte_channel": True}
    return {"matte": folder / spec.matte} if spec.matte else {}


def say_limits(footage: Source | None, sound: Source, path: Path, codec: str | None) -> None:
    """Say, before the work, what of clips a result will not hold; its messages say it again.

    Args:
        footage: the clip whose pictures are edited, if any.
        sound: the clip whose sound goes with them.
        path: of the video.
        codec: as in `choices.Codec`; None is the usual one.

    Raises:
        CmetError: a clip cannot be opened.
    """
    pictures = picture_limits(footage, path, codec) if footage else []
    for sentence in [*pictures, *limits(sound, path.suffix)]:
        log.warning(sentence)


def like_source(spec: AnyVideoSpec, suffix: str | None = None) -> AnyVideoSpec:
    """A specification whose format and codec are those nearest to the clip's own, if it asks for that and does not name them.

    Args:
        spec: what to do.
        suffix: of the file to write, where that is settled already.

    Raises:
        CmetError: the clip cannot be read.
    """
    if not spec.like_source or spec.codec is not None:
        return spec
    if suffix is None and "format" in spec.model_fields_set:
        suffix = f".{spec.format}"
    suffix, codec = codecs.like(spec.clip, suffix)
    return spec.model_copy(update={"format": suffix.removeprefix("."), "codec": codec})


def people_asked(spec: EditSpec) -> list[str | None]:
    """Whom the keys of an edit are for: `EmotionKey.person` of each; a voice and a reference without a key of its own are for `spec.face`.

    Raises:
        CmetError: they are for several people, and the renderer cannot do that.
    """
    timeline = spec.timeline()
    asked = timeline.people()
    unnamed = [
        name for name, given in ((VOICE, spec.speech), (LIKE, spec.like)) if given and name not in timeline.names()
    ]
    if not asked or (unnamed and None not in asked):
        asked.append(None)
    if spec.corrections and spec.renderer == "edtalk":
        raise InvalidInput("Corrections are points of curves, which the renderer edtalk does not use; use warp.")
    if len(asked) > 1 and spec.renderer == "edtalk":
        raise InvalidInput("The renderer edtalk edits one person of a clip; use warp for several.")
    faces = [spec.of(person).face for person in asked]
    for own in spec.people:
        if f"#{own.person}" not in faces:
            raise InvalidInput(
                f"There are settings for {own.person}, but no emotion; write the same behind # everywhere."
            )
    return asked


def name_of_face(face: int | str | Path) -> str:
    """What the person whom keys without a person are for is called beside others."""
    return f"face{face}" if isinstance(face, int) else face[1:] if isinstance(face, str) else face.stem
