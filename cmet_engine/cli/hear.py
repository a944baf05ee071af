"""`cmet hear`."""

import argparse
from pathlib import Path
from typing import Any

from cmet_engine.cli.options import SUPPRESS, Adder, output_argument, spec_of


def add_command(command: Adder) -> None:
    """Add the command."""
    sub = command("hear", run, "what is felt in a voice when, and how strongly: a table, and an emotion timeline")
    add = sub.add_argument
    add("clip", type=Path, metavar="CLIP", help="a recording, or a video with sound")
    add("--neutral", type=Path, default=SUPPRESS, metavar="PATH", help="neutral speech of the same voice, a recording or a folder of them, which makes it surer")  # fmt: skip
    output_argument(sub, "FILE.json", "emotion timeline to write, which --keys takes", required=False)
    add("--force", action="store_true", help="replace an earlier timeline")


def run(options: argparse.Namespace) -> Any:
    """Hear a recording."""
    from cmet_engine.jobs.execute import execute
    from cmet_engine.spec import HearSpec

    spec = spec_of(HearSpec, options)
    result = execute(spec, options.output, force=options.force, progress=options.progress)
    if options.json:
        return {**result.figures, "note": result.messages, **result.files}
    lines = [f"{'from':>7} {'to':>7}  {'emotion':<12} {'strength':>8}  heard as (probability)"]
    for key in result.figures["keys"]:
        heard = ", ".join(f"{name} {share:.2f}" for name, share in key["heard"].items())
        lines.append(
            f"{key['start']:7.2f} {key['end'] or result.figures['seconds']:7.2f}  {key['emotion']:<12} {key['strength']:8.2f}  {heard}"
        )
    lines += [f"note: {message}" for message in result.messages]
    return "\n".join([*lines, *(f"{name}: {path}" for name, path in result.files.items())])
