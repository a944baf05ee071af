"""`cmet faces`."""

import argparse
from pathlib import Path
from typing import Any

from cmet_engine.cli.options import Adder, colour_arguments, output_argument
from cmet_engine.errors import InvalidInput


def add_command(command: Adder) -> None:
    """Add the command."""
    sub = command("faces", run, "everyone in a clip, with numbers and names to choose them by")
    add = sub.add_argument
    add("clip", type=Path, metavar="CLIP", help="video with faces")
    add("--name", action="append", default=[], metavar="N=NAME", help="call person N so, as in --face '#anna'; kept beside the clip in CLIP.faces.json; may be given several times")  # fmt: skip
    colour_arguments(sub)
    output_argument(sub, "DIR", "folder for a picture of each person and a sheet of all", required=False)
    add("--force", action="store_true", help="replace earlier pictures")


def run(options: argparse.Namespace) -> Any:
    """List the people of a clip."""
    from cmet_engine.choices import InputSpace
    from cmet_engine.face.people import find_people, give_names, write_people
    from cmet_engine.media.source import Source

    space = InputSpace(getattr(options, "colorspace", None), getattr(options, "ocio", None))
    clip = Source.of(options.clip, space)
    if options.name:
        find_people(clip, options.progress)
        give_names(clip, dict(_named(text) for text in options.name))
    people = find_people(clip, options.progress)
    files = write_people(people, options.output, force=options.force) if options.output else {}
    if options.json:
        rows = [
            {"id": p.number, "name": p.name, "first": round(p.first, 3), "last": round(p.last, 3), "share": round(p.share, 4), "size": round(p.size, 1)}
            for p in people
        ]  # fmt: skip
        return {"people": rows, **files}
    lines = [
        f"#{p.number}{'' if p.name is None else ' ' + p.name}: {p.first:.2f} to {p.last:.2f} s, in {p.share:.0%} of the frames, "
        f"{p.size:.0f} pixels"
        for p in people
    ]
    return {"person": lines, **files}


def _named(text: str) -> tuple[str, int]:
    """Name and number of `2=anna`."""
    from cmet_engine.timeline import PERSON

    number, _, name = text.partition("=")
    if not number.isdigit() or name.isdigit() or not PERSON.fullmatch(name):
        raise InvalidInput(
            f"--name is '{text}'; write N=NAME such as 2=anna, the name in letters, digits, '_' and '-', beginning with a letter."
        )
    return name, int(number)
