"""`cmet record`."""

import argparse
import json
import sys
from typing import Any

from cmet_engine.cli.options import Adder, output_argument


def add_command(command: Adder) -> None:
    """Add the command."""
    sub = command("record", run, "record a voice from the microphone")
    output_argument(sub, "FILE", ".wav file to write")
    sub.add_argument("--seconds", type=float, default=5.0, metavar="S", help="how long (default 5, at most 600)")
    sub.add_argument("--microphone", metavar="NAME", help="part of its name (default: the system's choice)")
    sub.add_argument("--force", action="store_true", help="replace an earlier file")


def run(options: argparse.Namespace) -> dict[str, Any]:
    """Record a voice."""
    from cmet_engine.media.record import record  # brings sounddevice

    shown = False

    def level(seconds: float, peak: float) -> None:
        nonlocal shown
        if options.json:  # for a program that shows the level while the result is not there yet
            print(json.dumps({"seconds": round(seconds, 2), "level": round(peak, 1)}), file=sys.stderr, flush=True)
        elif not options.quiet:
            shown = True
            bar = "#" * max(0, round((peak + 60) / 2))
            print(f"\r{seconds:5.1f} s {peak:6.1f} dB {bar:<30}", end="", file=sys.stderr, flush=True)

    try:
        return record(options.output, options.seconds, device=options.microphone, force=options.force, level=level)
    finally:
        if shown:
            print(file=sys.stderr)
