"""Image sequences: numbered pictures in a folder, their patterns, and OpenEXR."""

import re
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

from cmet_engine.errors import InvalidInput
from cmet_engine.media import formats

FRAME_NUMBER = re.compile(r"%0?(\d*)d")
"""The place of the number in the name of an image sequence: `%d`, `%06d`."""
SEQUENCE_RATE = Fraction(25)  # frames a second of an image sequence, which does not say its own


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
    digits = f"\\d{{{match[1]},}}" if match[1] else "\\d+"
    return re.compile(re.escape(before) + f"({digits})" + re.escape(after))


def number_of(name: str, pattern: str) -> int:
    """The number in the name of a file that a pattern matches."""
    match = _pattern_regex(pattern).fullmatch(name)
    assert match is not None
    return int(match[1])


def numbered(folder: Path, pattern: str) -> list[Path]:
    """Files of a pattern in the order of their numbers."""
    if not folder.is_dir():
        return []
    regex = _pattern_regex(pattern)
    found = [(int(m[1]), p) for p in folder.iterdir() if (m := regex.fullmatch(p.name))]
    return [p for _, p in sorted(found)]


def find_pattern(folder: Path) -> str:
    """The pattern of a folder that holds one numbered sequence of pictures."""
    patterns: dict[str, int] = {}
    for item in sorted(folder.iterdir()):
        match = re.fullmatch(r"(.*?)(\d+)(\.\w+)", item.name)
        if match and match[3].lower() in formats.STILL and not item.name.startswith("."):
            before, digits, after = (part.replace("%", "%%") for part in match.groups())
            pattern = f"{before}%0{len(digits)}d{after}"
            patterns[pattern] = patterns.get(pattern, 0) + 1
    if not patterns:
        raise InvalidInput(f"{folder} is a folder without numbered pictures; give a clip or a folder of frames.")
    if len(patterns) > 1:
        first, second = list(patterns)[:2]
        raise InvalidInput(f"{folder} holds several sequences; name one of them, such as {folder / first} or {second}.")
    return next(iter(patterns))


def exr_bytes(linear: np.ndarray) -> bytes:
    """A picture of linear light, float16 [H, W, 3], as the bytes of an OpenEXR file (half floats, ZIP)."""
    planes = np.ascontiguousarray(linear.astype(np.float32))
    frame = av.VideoFrame.from_ndarray(planes, format="gbrpf32le")
    context = av.CodecContext.create("exr", "w")
    context.width, context.height, context.pix_fmt = frame.width, frame.height, "gbrpf32le"
    context.time_base = Fraction(1, 25)
    context.options = {"compression": "zip16", "format": "half"}
    frame.pts, frame.time_base = 0, Fraction(1, 25)
    return b"".join(bytes(p) for p in [*context.encode(frame), *context.encode(None)])
