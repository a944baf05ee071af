"""`cmet faces`."""

import argparse
from pathlib import Path
from typing import Any

from cmet_engine.cli.options import SUPPRESS, Adder, colour_arguments, output_argument, spec_of


def add_command(command: Adder) -> None:
    """Add the command."""
    sub = command("faces", run, "everyone in a clip, with numbers and names to choose them by")
    add = sub.add_argument
    add("clip", type=Path, metavar="CLIP", help="video with faces")
    add("--name", dest="names", action="append", default=SUPPRESS, metavar="N=NAME", help="call person N so, as in --face '#anna'; kept beside the clip in CLIP.faces.json; may be given several times")  # fmt: skip
    colour_arguments(sub)
    output_argument(sub, "DIR", "folder for a picture of each person and a sheet of all", required=False)
    add("--force", action="store_true", help="replace earlier pictures")


def run(options: argparse.Namespace) -> Any:
    """List the people of a clip."""
    from cmet_engine.jobs.execute import execute
    from cmet_engine.spec import FacesSpec

    spec = spec_of(FacesSpec, options)
    result = execute(spec, options.output, force=options.force, progress=options.progress)
    people = result.figures["people"]
    if options.json:
        return {"people": people, **result.files}
    lines = [
        f"#{p['id']}{'' if p['name'] is None else ' ' + p['name']}: {p['first']:.2f} to {p['last']:.2f} s, in {p['share']:.0%} of the "
        f"frames, {p['size']:.0f} pixels"
        for p in people
    ]
    return {"person": lines, **result.files}
