"""The add-on without a window: `python -m cmet_blender …` with the `bpy` package, `blender -b FILE --command cmet …`.

    export TRACK --rig RIG -o OUT     a track on a rig: .fbx .glb .usdc .abc .blend (or .csv .json .npz as read back)
    apply TRACK -o OUT.blend          the same, kept as a Blender file
    bake -o OUT                       performance and emotions folded into one action, then written
    read -o TRACK                     what the rig does, as a track
    match [-o MAPPING.json]           which shape takes which coefficient
    render CLIP -o VIDEO              the clip with the rig's curves, by the engine
    stills TRACK --rig RIG -o FOLDER      pictures of the rig's face in the frames of a track
    shot SHOT.json -o OUT.blend       a shot of the studio: the clip, the performance, and emotions as strips

Results go to standard output, everything else to standard error. Exit status: 0 done, 1 the work failed (one
sentence), 2 wrong use. `cmet batch` runs many of these, a line of its manifest each.
"""

import contextlib
import json
import os
import sys
from collections.abc import Iterator, Sequence
from typing import Any

from cmet_engine.errors import CmetError
from cmet_engine.files import inputs_kept

from .parser import build_parser

INPUTS = ("rig", "track", "mapping", "clip", "source", "shot")
"""Options that name files to read."""


def main(arguments: Sequence[str] | None = None, *, prog: str = "python -m cmet_blender") -> int:
    """Run the command line; returns the exit status."""
    options = build_parser(prog).parse_args(arguments)
    try:
        with results_apart() as out:
            from .work import COMMANDS  # needs bpy, which a call for help does not

            with inputs_kept((name, vars(options)[name]) for name in INPUTS if vars(options).get(name)):
                result = COMMANDS[options.command](options)
            print(json.dumps(result, default=str) if options.json else _plain(result), file=out)
        return 0
    except CmetError as error:
        sentence, status = str(error), error.exit_code
    except KeyboardInterrupt:
        sentence, status = "Stopped; nothing half-finished was left behind.", 1
    except Exception as error:
        if options.verbose:
            raise
        sentence = f"An internal fault stopped the work ({type(error).__name__}: {error}); add --verbose to see where."
        status = 1
    if options.json:
        print(json.dumps({"error": sentence}))
    print(f"cmet: {sentence}", file=sys.stderr)
    return status


def _plain(result: dict[str, Any]) -> str:
    lines = []
    for key, value in result.items():
        if isinstance(value, list):
            lines += [f"{key}: {item}" for item in value]
        elif value is not None:
            lines.append(str(value) if key == "report" else f"{key}: {value}")
    return "\n".join(lines)


@contextlib.contextmanager
def results_apart() -> Iterator[Any]:
    """Keep standard output for results: what Blender and its importers print goes to standard error."""
    sys.stdout.flush()
    saved = os.dup(1)
    os.dup2(2, 1)
    out = os.fdopen(os.dup(saved), "w", encoding="utf-8")
    stdout, sys.stdout = sys.stdout, sys.stderr
    try:
        yield out
    finally:
        out.close()
        sys.stdout = stdout
        os.dup2(saved, 1)
        os.close(saved)
