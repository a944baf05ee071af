"""`cmet cache`."""

import argparse
from typing import Any

from cmet_engine.cli.options import Adder


def add_command(command: Adder) -> None:
    """Add the command."""
    sub = command("cache", run, "how much is kept from earlier work; empty it")
    sub.add_argument("--clear", action="store_true", help="remove all of it")


def run(options: argparse.Namespace) -> dict[str, Any]:
    """Say how large the cache is, or empty it."""
    from cmet_engine import cache  # brings numpy

    freed = cache.shrink(0) if options.clear else 0
    return {"folder": cache.folder(), "bytes": cache.size(), "limit": cache.limit(), "freed": freed}
