"""The `cmet` command line: its parser, and how results and errors are printed."""

import argparse
import atexit
import gc
import json
import logging
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from cmet_engine import __version__
from cmet_engine.cli import (
    batch,
    cache,
    compare,
    edit,
    emotions,
    export,
    faces,
    hear,
    models,
    provenance,
    record,
    render,
    serve,
    studio,
    track,
    training,
    vector,
)
from cmet_engine.cli.options import joined
from cmet_engine.cli.progress import ProgressBar
from cmet_engine.errors import CmetError
from cmet_engine.files import inputs_kept

WRITTEN = ("output", "manifest", "token_file")  # options that name a file to write
THREADS = {"OPENBLAS_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE"}
"""For NumPy and torch, where the user says nothing else: small products on one thread, larger ones on threads that sleep while
they wait. Threads that spin for each other stand still on a machine that is busy with something else."""

STOPPED = "Stopped; nothing half-finished was left behind."


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit status."""
    atexit.register(gc.freeze)  # else the interpreter looks through every object several times before it ends
    for name, value in THREADS.items():
        os.environ.setdefault(name, value)
    options = build_parser().parse_args(joined(sys.argv[1:] if arguments is None else arguments))
    logging.basicConfig(
        level=logging.DEBUG if options.verbose else logging.WARNING,
        stream=sys.stderr,
        format="%(levelname)s: %(message)s",
    )
    options.progress = ProgressBar(enabled=not (options.quiet or options.json))
    try:
        with inputs_kept(_files_given(options)):
            result = options.run(options)
        options.progress.close()
        if isinstance(result, int):
            return result
        if result is not None:
            _print_result(result, options.json)
        return getattr(options, "status", 0)
    except BrokenPipeError:
        # the reader of our output went away (`cmet ... | head`): nobody is left to tell
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except (Exception, KeyboardInterrupt) as error:
        if options.verbose and not isinstance(error, CmetError | KeyboardInterrupt | MemoryError):
            raise
        options.progress.close()
        return _failed(error, options)


def _files_given(options: argparse.Namespace) -> Iterator[tuple[str, Path]]:
    """The options that name a file to read, and the files."""
    for name, value in vars(options).items():
        for path in value if isinstance(value, list) else [value]:
            if name not in WRITTEN and isinstance(path, Path) and path.is_file():
                yield name.replace("_", " ").removesuffix("s"), path


def _failed(error: BaseException, options: argparse.Namespace) -> int:
    """Say in one sentence why the work ended; returns the exit status."""
    if isinstance(error, CmetError):
        sentence = str(error)
    elif isinstance(error, KeyboardInterrupt):
        sentence = getattr(options, "stopped", STOPPED)
    elif isinstance(error, MemoryError):
        sentence = "The machine ran out of memory; close other programs or work on a shorter clip."
    elif isinstance(error, OSError):
        where = f"{error.filename}: " if error.filename else ""
        sentence = f"{where}{error.strerror or error}."
    else:
        fault = f"{type(error).__name__}: {error}"
        sentence = f"An internal fault stopped the work ({fault}); add --verbose to see where."
    if options.json:
        print(json.dumps({"error": sentence}))
    print(f"cmet: {sentence}", file=sys.stderr)
    return error.exit_code if isinstance(error, CmetError) else 1


def _print_result(result: Any, as_json: bool) -> None:
    if as_json:
        print(json.dumps(result, default=str))
    elif isinstance(result, dict):
        for key, value in result.items():
            if isinstance(value, list):
                for item in value:
                    print(f"{key}: {item}")
            elif value is not None:
                print(f"{key}: {value}")
    else:
        print(result)


def build_parser() -> argparse.ArgumentParser:
    """The parser of the whole command line."""
    common = argparse.ArgumentParser(add_help=False)
    group = common.add_argument_group("general")
    group.add_argument("--json", action="store_true", help="print the result as one JSON object, no progress")
    group.add_argument("-q", "--quiet", action="store_true", help="no progress")
    group.add_argument("-v", "--verbose", action="store_true", help="say more; show where an internal fault happened")

    parser = argparse.ArgumentParser(
        prog="cmet", description="Edit the emotion of a talking face: same person, same words, another feeling."
    )
    parser.add_argument("--version", action="version", version=f"cmet {__version__}")
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")

    def command(
        name: str, run: Callable[[argparse.Namespace], Any] | None, text: str, into: Any = commands
    ) -> argparse.ArgumentParser:
        sub = into.add_parser(name, help=text, description=text[0].upper() + text[1:] + ".", parents=[common])
        sub.set_defaults(run=run)
        return sub

    for module in (
        track,
        faces,
        edit,
        render,
        compare,
        hear,
        vector,
        record,
        emotions,
        export,
        models,
        serve,
        studio,
        batch,
        provenance,
    ):
        module.add_command(command)
    training.add_commands(command, commands)
    cache.add_command(command)
    command("doctor", _doctor, "what works on this machine, and what is missing")
    return parser


def _doctor(options: argparse.Namespace) -> int:
    """Show what `doctor.examine` finds."""
    from cmet_engine.cli.doctor import examine  # brings numpy

    findings = list(examine())
    if options.json:
        print(json.dumps([vars(finding) for finding in findings]))
    else:
        for finding in findings:
            mark = {True: "ok", False: "BROKEN", None: "absent"}[finding.ok]
            advice = f"\n{'':>27} {finding.advice}" if finding.advice else ""
            print(f"{mark:>7}  {finding.name:<18} {finding.detail}{advice}")
    return 1 if any(finding.ok is False for finding in findings) else 0
