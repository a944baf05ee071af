"""`cmet export`."""

import argparse
from pathlib import Path
from typing import Any, get_args

from cmet_engine.choices import FbxPreset, TakeFormat
from cmet_engine.cli.options import SUPPRESS, Adder, consent_argument, output_argument, rig_arguments, spec_of


def add_command(command: Adder) -> None:
    """Add the command."""
    sub = command("export", run, "write a track in another format, or onto a rig")
    sub.add_argument(
        "track",
        type=Path,
        metavar="TRACK",
        help=".npz, or what an application recorded as .csv .tsv .txt .json: Live Link Face, Audio2Face, Face Cap, iFacialMocap, tables",
    )
    output_argument(sub, "FILE", ".csv .json .npz .txt; with --rig .fbx .glb .usdc .abc .blend")
    rig_arguments(sub)
    sub.add_argument("--frames", nargs=2, type=int, default=SUPPRESS, metavar=("FIRST", "LAST"), help="scene frames (default: what is animated)")  # fmt: skip
    sub.add_argument("--preset", choices=get_args(FbxPreset), default=SUPPRESS, help="FBX as that program expects it")
    sub.add_argument("--format", dest="take_format", choices=get_args(TakeFormat), default=SUPPRESS, help="of a track without a rig, as that application writes it (default: Live Link Face .csv, Audio2Face .json)")  # fmt: skip
    consent_argument(sub)
    sub.add_argument("--force", action="store_true", help="replace an earlier file")


def run(options: argparse.Namespace) -> dict[str, Any]:
    """Export a track."""
    from cmet_engine.jobs.execute import execute
    from cmet_engine.spec import ExportSpec

    result = execute(spec_of(ExportSpec, options), options.output, force=options.force)
    return {"file": options.output, **result.figures, "note": result.messages}
