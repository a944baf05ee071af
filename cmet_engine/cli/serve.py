"""`cmet serve`."""

import argparse
from pathlib import Path

from cmet_engine.cli.options import Adder
from cmet_engine.files import user_folder


def add_command(command: Adder) -> None:
    """Add the command."""
    sub = command("serve", run, "the engine process that Blender and scripts talk to")
    add = sub.add_argument
    add("--root", type=Path, metavar="DIR", help="folder for jobs and uploads (default: in your data folder)")
    add("--allow", type=Path, action="append", metavar="DIR", help="folder whose files clients may use; may be given several times (default: your home folder)")  # fmt: skip
    add("--port", type=int, default=0, help="port on loopback (default: a free one)")
    add("--token-file", type=Path, metavar="FILE", help="write address and token there, readable by you alone (default: print them)")  # fmt: skip
    add("--parent", type=int, metavar="PID", help="end when this process ends")
    add("--slots", type=int, default=1, metavar="N", help="edits and renders at the same time (default 1); other work goes on beside them")  # fmt: skip


def run(options: argparse.Namespace) -> int:
    """Run the engine until it is told to stop."""
    from cmet_engine.serve.run import serve  # brings FastAPI

    root = options.root or user_folder() / "engine"
    allow = options.allow or [Path.home()]
    return serve(
        root, allow=allow, port=options.port, token_file=options.token_file, parent=options.parent, slots=options.slots
    )
