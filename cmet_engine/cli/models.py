"""`cmet models`."""

import argparse
import sys
from pathlib import Path
from typing import Any

from cmet_engine.cli.options import Adder


def add_command(command: Adder) -> None:
    """Add the command and its actions."""
    actions = command("models", list_models, "published weights: list, pull, convert").add_subparsers(
        title="actions", metavar="ACTION"
    )
    command("list", list_models, "what is there, where it came from, how large it is, its licence", actions)
    sub = command("pull", pull, "download weights, check them, convert them once to safetensors", actions)
    sub.add_argument("name", metavar="NAME", help="cmet (connector, EDTalk renderer, Audio2Lip) or emotion2vec")
    sub.add_argument(
        "--accept-licence", action="store_true", help="you have read the licence and accept it (needed once)"
    )
    sub.add_argument("--force", action="store_true", help="download again what is there")
    sub = command("convert", convert, "convert published weights that were fetched by hand", actions)
    sub.add_argument(
        "file", type=Path, metavar="FILE", help="a checkpoint, or the folder with EDTalk's expression presets"
    )
    sub.add_argument("--force", action="store_true", help="replace weights of the same network")


def list_models(options: argparse.Namespace) -> Any:
    """List the published weights."""
    from cmet_engine.models import registry  # brings numpy

    rows = list(registry.describe())
    if options.json:
        return rows
    for row in rows:
        state = f"here, {row['size'] / 1e6:.0f} MB" if row["here"] else f"not here; cmet models pull {row['package']}"
        print(f"{row['name']:<24} {state}\n{'':<24} {row['about']}; {row['licence']}, from {row['source']}")
    return None


def pull(options: argparse.Namespace) -> Any:
    """Download published weights; on a terminal the licence may be accepted on the way."""
    from cmet_engine.models import registry, store  # bring numpy

    accepted = options.accept_licence
    if options.name in registry.PACKAGES and not (accepted or registry.accepted(options.name)) and sys.stdin.isatty():
        licence = registry.PACKAGES[options.name].licence
        print(f"The weights of {options.name} are under the {licence.name}: {licence.url}", file=sys.stderr)
        accepted = input("Have you read it, and do you accept it? [y/N] ").strip().lower() in ("y", "yes")
    pulled = store.pull(options.name, accept_licence=accepted, force=options.force, progress=options.progress)
    return {"weights": [weights.path for weights in pulled]}


def convert(options: argparse.Namespace) -> Any:
    """Convert weights that were fetched by hand."""
    from cmet_engine.models import store  # brings numpy

    return {"weights": [weights.path for weights in store.convert(options.file, force=options.force)]}
