"""`cmet edit`."""

import argparse
import time
from pathlib import Path
from typing import Any, get_args

from cmet_engine.choices import Mode, Renderer
from cmet_engine.cli.options import (
    RENDERER_HELP,
    SUPPRESS,
    Adder,
    clip_arguments,
    consent_argument,
    format_argument,
    output_argument,
    part_arguments,
    personal_argument,
    rest_arguments,
    shot_data_argument,
    spec_of,
    use_jobs,
    video_arguments,
)


def add_command(command: Adder) -> None:
    """Add the command."""
    sub = command(
        "edit", run, "edit the emotion of a clip, or of a take (a track, or a recording as .csv .tsv .txt .json)"
    )
    clip_arguments(sub)
    part_arguments(sub)
    rest_arguments(sub)
    add = sub.add_argument
    add("--emotion", action="append", metavar="NAME[=STRENGTH][@T0-T1][#PERSON]", help="an emotion, its strength (1 = as learned), with [brows=1.2,mouth=0.6] behind the name for gains of brows, eyes, cheeks (and nose) and mouth, its time in seconds from the start of the clip (with --from too) and, where there are several people, whom it is for (see `cmet faces`); may be given several times; a blend like 0.7*happy+0.3*fear is a NAME too, and auto stands for what is heard in the clip's own sound")  # fmt: skip
    add("--speech", type=Path, default=SUPPRESS, metavar="PATH", help="a recording that sounds like the wanted emotion, or a folder of them")  # fmt: skip
    add("--follow", action="store_true", default=SUPPRESS, help="follow the recording of --speech moment by moment: what is felt in it when, and how strongly (by time where it is as long as CLIP, else by the words)")  # fmt: skip
    add("--like", type=Path, default=SUPPRESS, metavar="FILE", help="a picture of a face, a clip or a take (curves): its expression is put on, of a clip moment by moment; a key named like in --emotion says when and how strongly")  # fmt: skip
    add("--bearing", action="store_true", default=SUPPRESS, help="head, gaze and blinks go with the emotions, too: sadness looks down and blinks slowly, fear and surprise blink less; for characters (a take, or --renderer none)")  # fmt: skip
    add("--neutral", type=Path, default=SUPPRESS, metavar="PATH", help="the same voice without the emotion (default: the clip's own sound)")  # fmt: skip
    add("--keys", type=Path, default=SUPPRESS, metavar="FILE", help="an emotion timeline (.json)")
    add("--correct", action="append", dest="corrections", metavar="NAME=VALUE@T[~REACH][#PERSON]", help="a point that the edited curve of a coefficient passes through, such as jawOpen=0.2@1.4, and the seconds around it over which the curve goes along (default 0.2); may be given several times")  # fmt: skip
    personal_argument(sub, "--strength", "S[#PERSON]", "multiplies all strengths, or those of one person in place of that; may be given several times (default 1)")  # fmt: skip
    personal_argument(sub, "--mode", f"{{{','.join(get_args(Mode))}}}[#PERSON]", "keep the actor's own expression underneath, or remove it first; of all, or of one person (default add)")  # fmt: skip
    add("--renderer", choices=get_args(Renderer), default=SUPPRESS, help=f"{RENDERER_HELP}; none writes the tracks alone")  # fmt: skip
    add("--lips", type=Path, default=SUPPRESS, metavar="FILE", help="a recording that the lips shall speak (with --renderer edtalk)")  # fmt: skip
    add("--portrait", type=Path, default=SUPPRESS, metavar="FILE", help="a picture that shall speak; CLIP gives its head motion and expression (with --renderer edtalk)")  # fmt: skip
    video_arguments(sub)
    shot_data_argument(sub)
    consent_argument(sub)
    format_argument(
        sub,
        "H.264 or HEVC in mp4, m4v or mkv, ProRes in mov, DNxHR in mxf, VP9 in webm, or numbered png, tif, dpx or exr pictures (default mp4)",
    )
    output_argument(sub, "DIR", "folder for the video, the tracks and the report")


def run(options: argparse.Namespace) -> dict[str, Any]:
    """Edit a clip."""
    from cmet_engine.jobs.execute import execute
    from cmet_engine.spec import EditSpec

    use_jobs(options.jobs)
    spec = spec_of(EditSpec, options)
    started = time.perf_counter()
    result = execute(spec, options.output, force=options.force, progress=options.progress)
    seconds = round(time.perf_counter() - started, 1)
    return {"result": options.output, **result.files, **result.figures, "note": result.messages, "seconds": seconds}
