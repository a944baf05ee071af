"""`cmet emotions`."""

import argparse
import sys
from typing import Any

from cmet_engine.cli.options import Adder

HIGH, FAIR = 0.7, 0.4  # shares from which a trust is called so; set by hand

LEGEND = """
seen:  share of edited clips of held-out people in which a classifier of facial expressions named the emotion; for one that
       it has no name for, what it takes it for.
judges: share of the same clips in which the emotion rose most of all against the source, in the eyes of independent
       classifiers (mean of them); they know six emotions.
voice: how well the same emotion is recognised in held-out voices; for your own emotions, how far the recordings agree with
       each other (a single one cannot tell). It counts for --speech and `cmet vector`; an emotion asked for by name is the
       vector of the published encoder.
high from 70%, fair from 40%."""


def add_command(command: Adder) -> None:
    """Add the command."""
    command("emotions", run, "what the library holds, and how far each emotion can be trusted")


def run(options: argparse.Namespace) -> Any:
    """List the library."""
    from cmet_engine.emotion.library import load_library  # brings numpy
    from cmet_engine.emotion.user_library import user_problems

    known = list(load_library().values())
    for problem in user_problems():
        print(f"cmet: {problem}", file=sys.stderr)
    if options.json:
        return [{"name": v.name, "reliability": v.reliability, **v.meta} for v in known]
    width = max(len("emotion"), *(len(vector.name) for vector in known)) + 2
    print(f"{'emotion':<{width}}{'seen':<18}{'judges':<16}{'voice':<16}origin")
    for vector in known:
        origin = vector.meta.get("origin", "")
        print(
            f"{vector.name:<{width}}{_seen(vector.meta):<18}{_trust(vector.meta.get('judges')):<16}{_trust(vector.reliability):<16}{origin}"
        )
    print(LEGEND)
    return None


def _trust(share: float | None) -> str:
    """A share of 1 in words: `80% high`."""
    if share is None:
        return "not measured"
    return f"{share:>4.0%} {'high' if share >= HIGH else 'fair' if share >= FAIR else 'low'}"


def _seen(meta: dict[str, Any]) -> str:
    """What a classifier of facial expressions makes of an emotion, in words."""
    if meta.get("recognised") is not None:
        return _trust(meta["recognised"])
    return f"like {meta['taken_for']}" if meta.get("taken_for") else "not measured"
