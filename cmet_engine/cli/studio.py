"""`cmet studio`."""

import argparse
from pathlib import Path

from cmet_engine.cli.options import Adder
from cmet_engine.files import user_folder


def add_command(command: Adder) -> None:
    """Add the command."""
    sub = command("studio", run, "a page in the browser to edit clips in")
    add = sub.add_argument
    add("clip", type=Path, nargs="?", metavar="CLIP", help="footage to open at once")
    add("--root", type=Path, metavar="DIR", help="folder for projects and jobs (default: in your data folder)")
    add("--allow", type=Path, action="append", metavar="DIR", help="folder whose files may be used; may be given several times (default: your home folder, and that of CLIP)")  # fmt: skip
    add("--port", type=int, default=0, help="port on loopback (default: a free one)")
    add("--blender", type=Path, metavar="PROGRAM", help="your Blender, to open shots in (default: found)")
    add("--no-browser", action="store_true", help="only print the address, which works once")


def run(options: argparse.Namespace) -> int:
    """Serve the page until it is told to stop."""
    from cmet_engine.studio.run import run as serve  # brings FastAPI

    root = options.root or user_folder() / "studio"
    allow = options.allow or [Path.home(), *([options.clip.absolute().parent] if options.clip else [])]
    return serve(
        root, allow=allow, clip=options.clip, port=options.port, browser=not options.no_browser, blender=options.blender
    )
