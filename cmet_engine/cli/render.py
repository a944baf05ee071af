"""`cmet render`."""

import argparse
from typing import Any, get_args

from cmet_engine.choices import CurvesRenderer
from cmet_engine.cli.options import (
    RENDERER_HELP,
    SUPPRESS,
    Adder,
    clip_arguments,
    consent_argument,
    output_argument,
    part_arguments,
    personal_argument,
    shot_data_argument,
    spec_of,
    use_jobs,
    video_arguments,
)


def add_command(command: Adder) -> None:
    """Add the command."""
    sub = command("render", run, "render a clip with the curves of a track")
    clip_arguments(sub)
    part_arguments(sub)
    personal_argument(sub, "--track", "EDITED[#PERSON]", "the wanted curves; of several people several times, each with whom they are for", required=True)  # fmt: skip
    personal_argument(sub, "--source", "SOURCE[#PERSON]", "the clip's own curves that EDITED was made from (default: tracked anew)")  # fmt: skip
    sub.add_argument("--renderer", choices=get_args(CurvesRenderer), default=SUPPRESS, help=RENDERER_HELP)
    video_arguments(sub)
    shot_data_argument(sub)
    consent_argument(sub)
    output_argument(sub, "VIDEO", "video to write, its suffix chooses the format; or a folder for edited.mp4")


def run(options: argparse.Namespace) -> dict[str, Any]:
    """Render a clip."""
    from cmet_engine.jobs.execute import execute
    from cmet_engine.preparation import like_source
    from cmet_engine.spec import RenderSpec

    use_jobs(options.jobs)
    spec = like_source(spec_of(RenderSpec, options))
    output = options.output / spec.output_name if options.output.is_dir() else options.output
    result = execute(spec, output, force=options.force, progress=options.progress)
    return {"video": output, **result.files, **result.figures, "note": result.messages}
