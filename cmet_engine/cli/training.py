"""`cmet train …` and `cmet eval …`."""

from typing import Any

from cmet_engine.cli import evaluate, train
from cmet_engine.cli.arguments import Adder


def add_commands(command: Adder, commands: Any) -> None:
    """Add `train` and `eval` to the command line; `command` is `cli.build_parser`'s helper."""
    train.add_commands(command, commands)
    evaluate.add_commands(command, commands)
