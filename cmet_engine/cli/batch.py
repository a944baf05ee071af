"""`cmet batch`."""

import argparse
from functools import partial
from pathlib import Path
from typing import Any

from cmet_engine.cli.options import Adder
from cmet_engine.cli.progress import BatchTable
from cmet_engine.jobs.columns import HELP


def add_command(command: Adder) -> None:
    """Add the command."""
    sub = command("batch", run, "many clips, resumable")
    sub.formatter_class, sub.epilog = argparse.RawDescriptionHelpFormatter, HELP
    add = sub.add_argument
    add("manifest", type=Path, metavar="MANIFEST", help=".csv or .jsonl; its columns are described below")
    add("--init", type=Path, metavar="FOLDER", help="write MANIFEST from the clips below FOLDER, and stop")
    add("--emotions", default="happy", help="with --init: the emotions column (default happy)")
    add("--workers", type=int, default=1, metavar="N", help="clips at the same time on this machine (default 1)")
    add("--ray", metavar="ADDRESS", help="run on a Ray cluster: its address, auto, or local")
    add("--resume", action="store_true", help="skip rows that were done or failed before")
    add("--retry", action="store_true", help="skip rows that were done before, try failed ones again")
    add("--force", action="store_true", help="replace earlier outputs")


def run(options: argparse.Namespace) -> dict[str, Any]:
    """Run a manifest, or write one."""
    from cmet_engine.jobs.batch import run_batch  # brings pydantic
    from cmet_engine.jobs.manifest import write_manifest

    if options.init is not None:
        notes: list[str] = []
        rows = write_manifest(
            options.init, options.manifest, emotions=options.emotions, force=options.force, notes=notes
        )
        return {"manifest": options.manifest, "rows": rows, "note": notes}
    machine = None
    if options.ray:
        from cmet_engine.jobs.cluster import RayCluster  # brings scipy and av

        machine = partial(RayCluster, options.ray)
    table = BatchTable(shown=not options.quiet)
    summary = run_batch(
        options.manifest, workers=options.workers, machine=machine, resume=options.resume, retry=options.retry,
        force=options.force, report=table.report, watch=table.watch,
    )  # fmt: skip
    options.status = 1 if summary.failed else 0
    return {
        "done": summary.done,
        "failed": summary.failed,
        "skipped": summary.skipped,
        "seconds": round(summary.seconds, 1),
        "results": summary.results,
    }
