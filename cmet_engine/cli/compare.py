"""`cmet compare`."""

import argparse
from pathlib import Path
from typing import Any

from cmet_engine.cli.options import Adder, device_argument, output_argument
from cmet_engine.errors import InvalidInput


def add_command(command: Adder) -> None:
    """Add the command."""
    sub = command(
        "compare", run, "edit the beginning of a clip with every installed renderer, side by side on one page"
    )
    sub.add_argument("clip", type=Path, metavar="CLIP", help="video with a talking face")
    sub.add_argument("--emotion", action="append", required=True, metavar="NAME[=STRENGTH]", help="as of `cmet edit`; may be given several times")  # fmt: skip
    sub.add_argument("--seconds", type=float, default=2.0, metavar="S", help="how much of the clip (default 2)")
    sub.add_argument("--force", action="store_true", help="replace an earlier comparison")
    device_argument(sub)
    output_argument(sub, "DIR", "folder for compare.html, compare.json and the clips")


def run(options: argparse.Namespace) -> Any:
    """Compare the renderers."""
    from cmet_engine.evaluation.compare import MEASURES, compare

    if not 0.1 <= options.seconds <= 60:
        raise InvalidInput(f"--seconds is {options.seconds:g}; it takes 0.1 to 60.")
    rows, messages = compare(
        options.clip, options.emotion, options.output, seconds=options.seconds, device=getattr(options, "device", "auto"),
        force=options.force, progress=options.progress,
    )  # fmt: skip
    options.progress.close()
    if options.json:
        return {"page": options.output / "compare.html", "renderers": rows, "note": messages}
    for row in rows:
        print(row["renderer"], ", ".join(f"{name} {row[name]}" for name in MEASURES if row[name] is not None))
    return {"page": options.output / "compare.html", "note": messages}
