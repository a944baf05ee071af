"""Arguments that several commands share, and the specification that a command's arguments make."""

import argparse
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, get_args

from cmet_engine.choices import COLOR_SPACES, DEVICES, Codec, Quality, VideoFormat
from cmet_engine.errors import InvalidInput
from cmet_engine.processes import JOBS

if TYPE_CHECKING:  # brings pydantic, which `cmet --help` does not wait for
    from cmet_engine.spec import Spec

    AnySpec = TypeVar("AnySpec", bound=Spec)

Adder = Callable[..., argparse.ArgumentParser]
"""`command(name, run, text)` adds a command; see `main.build_parser`."""

POSITIONAL = ("clip", "paths")
"""Fields of specifications that the command line takes without an option's name."""

_OPTIONS = {
    "emotions": "--emotion",
    "corrections": "--correct",
    "range_from": "--from",
    "range_to": "--to",
    "names": "--name",
    "take_format": "--format",
}
"""Options that are called otherwise than their fields."""

RENDERER_HELP = (
    "how the video is made: warp moves the frame's own pixels; liveportrait, performrecast and edtalk draw the face anew with "
    "published weights (see `cmet models list`); auto is warp (default warp)"
)
PERSONAL = ("strength", "mode", "quality", "track", "source")
"""Options that may be given several times, with `#` and the person behind for whom each is."""

SUPPRESS = argparse.SUPPRESS  # what is not given is left to the specification, which knows its defaults


def clip_arguments(sub: argparse.ArgumentParser) -> None:
    """The footage, its face, and whether earlier results may be replaced."""
    sub.add_argument("clip", type=Path, metavar="CLIP", help="video with a talking face")
    sub.add_argument(
        "--face",
        default=SUPPRESS,
        metavar="WHO",
        help="whose face when there are several: a rank, 0 the largest where the clip begins (default 0); #2 or #anna, the number or "
        "the name that `cmet faces` shows; or the path of a picture of the person",
    )
    colour_arguments(sub)
    sub.add_argument("--force", action="store_true", help="replace earlier results")


def colour_arguments(sub: argparse.ArgumentParser) -> None:
    """The colour space of the footage."""
    sub.add_argument(
        "--colorspace",
        default=SUPPRESS,
        metavar="NAME",
        help=f"colour space of the footage: {', '.join(COLOR_SPACES)}, or a name that the OpenColorIO configuration knows (default: from the clip's tags)",
    )
    sub.add_argument(
        "--ocio",
        type=Path,
        default=SUPPRESS,
        metavar="FILE",
        help="OpenColorIO configuration (default: $OCIO, else the built-in ACES configuration)",
    )


def part_arguments(sub: argparse.ArgumentParser) -> None:
    """Which part of the clip is worked on."""
    add = sub.add_argument
    add("--from", dest="range_from", default=SUPPRESS, metavar="MOMENT", help="work on a part of the clip only: its first frame, as seconds (2.5), frames from the beginning (120f) or a timecode (01:00:10:00)")  # fmt: skip
    add("--to", dest="range_to", default=SUPPRESS, metavar="MOMENT", help="the frame behind the last one of the part, likewise (default: to the end)")  # fmt: skip
    add("--handles", type=int, default=SUPPRESS, metavar="N", help="N frames more at either end of the part, as far as the clip has them (default 0)")  # fmt: skip


def rest_arguments(sub: argparse.ArgumentParser) -> None:
    """Whether the rest of the face is taken off, and where it rests."""
    add = sub.add_argument
    add("--calibrate", action="store_true", default=SUPPRESS, help="take off what the relaxed face reads, so that rest is 0; the result says what was taken off (of an edit: a take, or --renderer none)")  # fmt: skip
    add("--rest-frame", default=SUPPRESS, metavar="FRAME[-FRAME]", help="calibrate by this frame, at which the face rests, or by several such as 10-40, counted from the first that is tracked (default: what the face returns to most)")  # fmt: skip


def personal_argument(
    sub: argparse.ArgumentParser, name: str, metavar: str, text: str, *, required: bool = False
) -> None:
    """An option that people may have settings of their own for: `--mode add --mode replace#anna`."""
    sub.add_argument(name, action="append", default=SUPPRESS, required=required, metavar=metavar, help=text)


def output_argument(sub: argparse.ArgumentParser, metavar: str, text: str, *, required: bool = True) -> None:
    """Where the result goes."""
    sub.add_argument("-o", "--output", type=Path, required=required, metavar=metavar, help=text)


def device_argument(
    sub: argparse.ArgumentParser, text: str = "where the networks run (default auto: a CUDA GPU if there is one)"
) -> None:
    """Where networks run."""
    sub.add_argument("--device", default=SUPPRESS, metavar=f"{{{','.join(DEVICES)}}}", help=text)


def video_arguments(sub: argparse.ArgumentParser) -> None:
    """How a video is rendered and written."""
    personal_argument(
        sub,
        "--quality",
        f"{{{','.join(get_args(Quality))}}}[#PERSON]",
        "draft moves the frame's own pixels; standard refines them with other frames of the clip; best fits to the clip first; "
        "auto is standard on a GPU, else draft (default auto)",
    )
    device_argument(sub)
    sub.add_argument(
        "--jobs",
        type=int,
        metavar="N",
        help="frames that are rendered at the same time, each on a core of its own; the result is the same for every N "
        "(default: one for each core, 8 at the most)",
    )
    sub.add_argument(
        "--matte",
        default=SUPPRESS,
        metavar="FILE",
        help="write the mask of what was changed beside the video: a clip (matte.mkv, .mov, .mp4), numbered pictures "
        "(matte/%%06d.png, .exr), or the word channel for a channel of .exr results",
    )
    sub.add_argument(
        "--rate-factor",
        type=int,
        default=SUPPRESS,
        metavar="N",
        help="of H.264, HEVC and VP9, from 0 (the largest file) to 51 (the smallest)",
    )
    sub.add_argument(
        "--codec",
        choices=get_args(Codec),
        default=SUPPRESS,
        metavar="NAME",
        help=f"of the video: {', '.join(get_args(Codec))} (default: the one of the format that loses least)",
    )
    sub.add_argument(
        "--like-source", action="store_true", default=SUPPRESS, help="write the format and codec nearest to CLIP's own"
    )
    sub.add_argument(
        "--no-watermark", dest="watermark", action="store_false", default=SUPPRESS,
        help="do not mark the edited faces invisibly as edited",
    )  # fmt: skip


def shot_data_argument(sub: argparse.ArgumentParser) -> None:
    """Shot data beside the video."""
    sub.add_argument(
        "--shot-data",
        nargs="?",
        const="auto",
        default=SUPPRESS,
        metavar="NAME.json",
        help="write in and out, timecode, names and what was edited beside the video, as JSON and OpenTimelineIO (default name: "
        "the video's, such as edited.shot.json)",
    )


def consent_argument(sub: argparse.ArgumentParser) -> None:
    """Consent of the person shown."""
    sub.add_argument("--consent", default=SUPPRESS, metavar="TEXT|FILE", help='consent of the person shown: "who, when, how", or a consent file (.json); it goes into the Content Credentials')  # fmt: skip


def format_argument(sub: argparse.ArgumentParser, text: str) -> None:
    """The format of a video, with or without a dot."""
    sub.add_argument(
        "--format", type=lambda text: text.removeprefix("."), choices=get_args(VideoFormat), default=SUPPRESS, help=text
    )


def rig_arguments(sub: argparse.ArgumentParser) -> None:
    """How a track is put on a character."""
    add = sub.add_argument
    add(
        "--rig",
        type=Path,
        default=SUPPRESS,
        metavar="RIG",
        help="character to put the track on: .blend, .glb, .gltf or .fbx",
    )
    add(
        "--object",
        default=SUPPRESS,
        metavar="NAME",
        help="object of the rig (default: the one with most of the shapes)",
    )
    add(
        "--mapping",
        type=Path,
        default=SUPPRESS,
        metavar="FILE",
        help="saved mapping of shapes (default: by their names)",
    )
    add(
        "--no-spread",
        dest="spread",
        action="store_false",
        default=SUPPRESS,
        help="leave coefficients without a shape out instead of showing them by others",
    )
    add("--fps", default=SUPPRESS, metavar="F", help="scene rate, such as 24 or 24000/1001 (default: the scene's; the track's for imported rigs); without a rig, the rate of the written track")  # fmt: skip
    add("--start", type=int, default=SUPPRESS, metavar="N", help="scene frame of the first frame (default 1)")
    add(
        "--simplify",
        type=float,
        default=SUPPRESS,
        metavar="E",
        help="leave out keys, with an error of at most E (default 0: keep all)",
    )
    add("--steady", default=SUPPRESS, metavar="S", help="take jitter off: a strength from 0 to 1, or regions with theirs such as brows=1,mouth=0.3 (brows, eyes, cheeks, mouth, head)")  # fmt: skip
    add("--mirror", action="store_true", default=SUPPRESS, help="exchange the sides of the face")


def spec_of(kind: "type[AnySpec]", options: argparse.Namespace) -> "AnySpec":
    """The specification that a command's arguments make; arguments that were not given keep its defaults.

    Raises:
        InvalidInput: an argument cannot be used; the message names its option.
    """
    given: dict[str, Any] = {**vars(options), "emotions": getattr(options, "emotion", None)}
    for name in PERSONAL:  # given once for everyone, or several times with people behind
        if isinstance(given.get(name), list) and len(given[name]) == 1:
            given[name] = given[name][0]
    return kind.read({name: given[name] for name in kind.model_fields if given.get(name) is not None}, option_called)


def use_jobs(count: int | None) -> None:
    """Let the work of this process, and of those that it starts, keep so many cores busy; None leaves it as it is.

    Raises:
        InvalidInput: it is none.
    """
    if count is None:
        return
    if count < 1:
        raise InvalidInput(f"--jobs {count}: use 1 or more.")
    os.environ[JOBS] = str(count)


def option_called(name: str) -> str:
    """What the command line calls a field of a specification."""
    field = name.partition(".")[0]
    if field in POSITIONAL:
        return {"clip": "CLIP", "paths": "PATH"}[field]
    return _OPTIONS.get(field, f"--{field.replace('_', '-')}")


def joined(arguments: Sequence[str]) -> list[str]:
    """The arguments, with an emotion that begins with a minus (the opposite) joined to its `--emotion`.

    Otherwise argparse would take it for an option.
    """
    result: list[str] = []
    for argument in arguments:
        if result and result[-1] == "--emotion" and argument.startswith("-") and not argument.startswith("--"):
            result[-1] += f"={argument}"
        else:
            result.append(argument)
    return result
