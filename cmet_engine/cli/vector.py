"""`cmet vector`."""

import argparse
from pathlib import Path
from typing import Any

from cmet_engine.cli.options import Adder, device_argument, spec_of


def add_command(command: Adder) -> None:
    """Add the command."""
    sub = command("vector", run, "add an emotion to your library, from how voices sound")
    sub.add_argument(
        "paths", nargs="*", type=Path, metavar="PATH", help="recordings with the emotion, or folders of them"
    )
    sub.add_argument(
        "--neutral",
        type=Path,
        nargs="+",
        action="extend",
        metavar="PATH",
        help="recordings of the same voices without it, or folders of them, after those with it (default: the library's "
        "neutral, which leaves the speaker in)",
    )
    sub.add_argument("--name", required=True, help="name of the new emotion")
    device_argument(sub, "makes no difference: the speech encoder runs on the processor")
    sub.add_argument("--force", dest="replace", action="store_true", help="replace an emotion of the same name")


def run(options: argparse.Namespace) -> dict[str, Any]:
    """Add an emotion."""
    from cmet_engine.jobs.execute import execute
    from cmet_engine.spec import VectorSpec

    spec = spec_of(VectorSpec, options)
    result = execute(spec, progress=options.progress)
    about = {"emotion": spec.name, "stored": next(iter(result.files.values())), "about": result.figures["about"]}
    return {**about, **result.figures} if options.json else about
