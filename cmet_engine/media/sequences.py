"""Image sequences: numbered pictures in a folder, and their patterns."""

import contextlib
import itertools
import json
import math
import operator
import os
import re
import shutil
import struct
import tempfile
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

from cmet_engine import cache, fingerprint
from cmet_engine.errors import CmetError, InvalidInput, NotFound
from cmet_engine.files import check_apart, read_json
from cmet_engine.media import dpx, formats, openexr

FRAME_NUMBER = re.compile(r"%0?(\d*)d")
"""The place of the number in the name of an image sequence: `%d`, `%06d`."""
SEQUENCE_RATE = Fraction(25)  # frames a second of an image sequence that does not say its own
_LONGEST_GAPS = 1000  # missing pictures that are held however few there are; above, ten for each that is there
_FASTEST = 1000  # frames a second that are believed
_WRITTEN = "written.json"
_NAMED_GAPS = 4  # gaps that a message names


def is_pattern(path: str | Path) -> bool:
    """Whether a path names an image sequence, such as `frames/frame_%06d.png`, and not a file that is there."""
    path = Path(path)
    return bool(FRAME_NUMBER.search(path.name)) and not path.exists()


def output_pattern(path: Path) -> tuple[Path, str]:
    """Folder and pattern of an image sequence's output."""
    if not path.suffix:
        return path, "frame_%06d.png"
    if len(FRAME_NUMBER.findall(path.name)) > 1:
        raise InvalidInput(f"{path.name}: one frame number in the name is enough, such as frame_%06d{path.suffix}.")
    if FRAME_NUMBER.search(path.name):
        return path.parent, path.name
    return path.parent, path.stem.replace("%", "%%") + "_%06d" + path.suffix


def _pattern_regex(pattern: str) -> re.Pattern[str]:
    match = FRAME_NUMBER.search(pattern)
    assert match is not None
    before, after = (part.replace("%%", "%") for part in (pattern[: match.start()], pattern[match.end() :]))
    width = int(match[1] or 0)
    digits = rf"\d{{{width}}}|[1-9]\d{{{width},}}" if width else r"\d+"
    return re.compile(re.escape(before) + f"({digits})" + re.escape(after))


def _by_number(folder: Path, pattern: str) -> list[tuple[int, Path]]:
    """Numbers and files of a pattern, in order."""
    if not folder.is_dir():
        return []
    regex = _pattern_regex(pattern)
    return sorted((int(m[1]), p) for p in folder.iterdir() if (m := regex.fullmatch(p.name)) and p.is_file())


def numbered(folder: Path, pattern: str) -> list[Path]:
    """Files of a pattern in the order of their numbers."""
    return [path for _, path in _by_number(folder, pattern)]


def files_of(path: Path) -> list[Path]:
    """The files that a path stands for: itself, those directly in a folder, or the numbered pictures of a pattern."""
    if path.is_dir():
        return sorted(item for item in path.iterdir() if item.is_file())
    return numbered(*output_pattern(path)) if is_pattern(path) else [path]


def find_pattern(folder: Path) -> str:
    """The pattern of a folder that holds one numbered sequence of pictures.

    Numbers may have more digits than the pattern says (`f_%03d` names f_999 and f_1000), but no zeros before them then.
    """
    names: dict[tuple[str, str], list[str]] = {}  # the digits, by what stands before and after them
    for item in folder.iterdir():
        match = re.fullmatch(r"(.*?)(\d+)(\.\w+)", item.name)
        if match and match[3].lower() in formats.STILL and not item.name.startswith(".") and item.is_file():
            names.setdefault((match[1], match[3]), []).append(match[2])
    patterns = sorted(
        f"{before.replace('%', '%%')}%{f'0{width}' if width > 1 else ''}d{after.replace('%', '%%')}"
        for (before, after), digits in names.items()
        for width in _widths(digits)
    )
    if not patterns:
        raise InvalidInput(f"{folder} is a folder without numbered pictures; give a clip or a folder of frames.")
    if len(patterns) > 1:
        first, second = patterns[:2]
        raise InvalidInput(f"{folder} holds several sequences; name one of them, such as {folder / first} or {second}.")
    return patterns[0]


def _widths(numbers: list[str]) -> list[int]:
    """The widths to which numbers are padded: one where all others just have more digits, else each that there is."""
    widths = sorted({len(number) for number in numbers})
    mixed = any(number.startswith("0") and len(number) > widths[0] for number in numbers)
    return widths if mixed else widths[:1]


@dataclass(frozen=True)
class Pictures:
    """Numbered pictures as FFmpeg's demuxer takes them: one for every number, named evenly.

    Attributes:
        pattern: path with the place of the number; percent signs in it are doubled.
        first: the first number.
        count: how many there are, missing ones included.
        notes: sentences about pictures that are missing or passed over.
        links: the folder of links that stands in for the pictures where some are missing or named unevenly.
    """

    pattern: str
    first: int
    count: int
    notes: tuple[str, ...] = ()
    links: Any = None


def find_pictures(path: Path) -> Pictures:
    """The pictures of a folder or a pattern; in the place of a missing one stands the one before it.

    Raises:
        NotFound: no picture has that name.
        InvalidInput: the folder holds no sequence or several, a number is there twice, or nearly all pictures are missing.
    """
    folder, pattern = (path, find_pattern(path)) if path.is_dir() else (path.parent, path.name)
    pairs, any_width = _by_number(folder, pattern), FRAME_NUMBER.sub("%d", pattern)
    found = dict(pairs)
    others = [p.name for p in numbered(folder, any_width) if p not in found.values()]
    if not found:
        hint = f"; {any_width} names {len(others)} with other numbers of digits" if others else ""
        raise NotFound(f"{path}: there is no picture of that name; check the folder and the number of digits{hint}.")
    if len(found) < len(pairs):
        raise InvalidInput(
            f"{folder} holds several pictures of one number; give a pattern with its digits, such as %04d."
        )
    first, last = min(found), max(found)
    count = last - first + 1
    if count - len(found) > max(_LONGEST_GAPS, 10 * len(found)):
        raise InvalidInput(
            f"{path}: only {len(found)} of {count} pictures from {found[first].name} to {found[last].name} are there; "
            "keep the pictures of one shot in a folder."
        )
    gaps = _gaps(sorted(found), pattern)
    notes = (
        [f"{path.name}: {count - len(found)} pictures are missing ({gaps}); the one before is held."] if gaps else []
    )
    if others:
        notes.append(
            f"{path.name}: {others[0]} and others are of another number of digits and not read; {any_width} names all."
        )
    if not gaps and all(p.name == pattern % number for number, p in found.items()):
        # % in the folder's own name must not be taken for the frame number
        full = str(folder.absolute()).replace("%", "%%") + os.sep + pattern
        return Pictures(full, first, count, tuple(notes))
    links = tempfile.TemporaryDirectory(prefix="cmet-pictures-")
    even = str(Path(links.name) / f"%08d{found[first].suffix}")
    shown = found[first]
    for number in range(first, last + 1):
        shown = found.get(number, shown)
        _link(shown.absolute(), Path(even % number))
    return Pictures(even, first, count, tuple(notes), links)


def rate_of(picture: Path) -> Fraction:
    """Frames a second that the header of a picture names (OpenEXR, DPX); `SEQUENCE_RATE` where it names none."""
    rate = 0.0
    with contextlib.suppress(OSError, struct.error, ZeroDivisionError):
        if picture.suffix.lower() == ".exr":
            said = openexr.read_header(picture).get("framesPerSecond")
            rate = operator.truediv(*struct.unpack("<iI", said.data)) if said else 0.0
        elif picture.suffix.lower() == ".dpx":
            rate = next((r for r in dpx.rates(dpx.read_header(picture)) if 1 <= r <= _FASTEST), 0.0)
    if not 1 <= rate <= _FASTEST:
        return SEQUENCE_RATE
    near = (Fraction(round(rate)), Fraction(math.ceil(rate) * 1000, 1001))
    return next((r for r in near if abs(r - rate) < 5e-3), Fraction(rate).limit_denominator(1001))


def tags_of(picture: Path) -> dict[str, str]:
    """Timecode, reel and time of recording that the header of a picture names (OpenEXR, DPX), as FFmpeg's tags."""
    suffix = picture.suffix.lower()
    with contextlib.suppress(OSError, struct.error):
        if suffix == ".exr":
            return openexr.tags(openexr.read_header(picture), rate_of(picture))
        if suffix == ".dpx":
            return dpx.tags(dpx.read_header(picture), rate_of(picture))
    return {}


def _gaps(numbers: list[int], pattern: str) -> str:
    """The names of missing pictures; empty where none is missing."""
    gaps = [(a + 1, b - 1) for a, b in itertools.pairwise(numbers) if b > a + 1]
    named = [pattern % a if a == b else f"{pattern % a} to {pattern % b}" for a, b in gaps[:_NAMED_GAPS]]
    return ", ".join([*named, "…"] if len(gaps) > _NAMED_GAPS else named)


def _link(file: Path, link: Path) -> None:
    """A link to a file, or a copy where there are no links (Windows, unless the user may make them)."""
    try:
        link.symlink_to(file)
    except OSError:
        try:
            os.link(file, link)
        except OSError:
            shutil.copyfile(file, link)


def check_sequence(path: Path, *, force: bool) -> tuple[Path, str]:
    """Folder and pattern of an output of numbered pictures, after the checks that can be made before the work.

    Raises:
        InvalidInput: there are pictures of that name and `force` is off, or they are inputs (see `files.check_apart`).
    """
    folder, pattern = output_pattern(path)
    earlier = numbered(folder, pattern)
    check_apart(folder, *earlier)
    if earlier and not force:
        raise InvalidInput(
            f"{folder} holds frames of that name already ({earlier[0].name}); choose another or add --force to replace them."
        )
    return folder, pattern


def remove_stale(folder: Path, pattern: str, count: int) -> list[str]:
    """Remove the pictures of an earlier, longer result of ours behind the `count` new ones, to which they do not belong.

    Pictures that are not as we wrote them are the user's, and stay.

    Returns:
        Sentences about those that stay.
    """
    pictures = _by_number(folder, pattern)
    name = f"written-{fingerprint.data(os.path.realpath(folder), pattern)[:32]}"
    entry, marks = cache.get(name), {}
    with contextlib.suppress(OSError, CmetError):
        marks = dict(read_json(entry / _WRITTEN)) if entry else {}
    stay = []
    for number, path in pictures:
        if not 1 <= number <= count:
            if marks.get(path.name) == _mark(path):
                check_apart(path)
                path.unlink()
            else:
                stay.append(path.name)
    written = {path.name: _mark(path) for number, path in pictures if 1 <= number <= count}
    cache.put(name, lambda entry: (entry / _WRITTEN).write_text(json.dumps(written), "utf-8"))
    if not stay:
        return []
    return [
        f"{folder} holds {len(stay)} more pictures of that name ({stay[0]}, …), which are not of this result and stay."
    ]


def _mark(path: Path) -> list[int]:
    """What changes when a file is written again."""
    about = path.stat()
    return [about.st_size, about.st_mtime_ns]
