"""`cmet track`."""

import argparse
from typing import Any

from cmet_engine.cli.options import (
    Adder,
    clip_arguments,
    output_argument,
    part_arguments,
    rest_arguments,
    spec_of,
)


def add_command(command: Adder) -> None:
    """Add the command."""
    sub = command("track", run, "footage to coefficients")
    clip_arguments(sub)
    part_arguments(sub)
    rest_arguments(sub)
    output_argument(sub, "TRACK", "track to write: .npz, .csv (Live Link Face) or .json (Audio2Face)")


def run(options: argparse.Namespace) -> dict[str, Any]:
    """Track a clip."""
    from cmet_engine.jobs.execute import execute
    from cmet_engine.spec import TrackSpec

    spec = spec_of(TrackSpec, options)
    result = execute(spec, options.output, force=options.force, progress=options.progress)
    with_face = result.figures.pop("frames_with_face")
    return {"track": options.output, **result.figures, "frames with a face": with_face, "note": result.messages}
