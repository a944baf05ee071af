"""OpenEXR files: their header, and writing one (scan lines, ZIP, half or float channels).

FFmpeg reads them; its writer knows RGB and A alone and drops the header. The layout is that of "OpenEXR File Layout"
(https://openexr.com/en/latest/OpenEXRFileLayout.html).
"""

import os
import struct
import zlib
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from fractions import Fraction
from pathlib import Path
from typing import NamedTuple

import numpy as np

MAGIC = 20000630
VERSION, LONG_NAMES = 2, 0x400
LINES = 16  # of a block that is compressed together
ZIP = 3
_ZIP_LEVEL = 4  # of 9: OpenEXR's own
_PIXEL_TYPE = {np.dtype(np.float16): 1, np.dtype(np.float32): 2}
# how the file itself is stored
_OURS = frozenset("channels compression dataWindow displayWindow lineOrder tiles type chunkCount version preview name view "
                  "maxSamplesPerPixel".split())  # fmt: skip
REC709 = (0.64, 0.33, 0.30, 0.60, 0.15, 0.06, 0.3127, 0.3290)


class Attribute(NamedTuple):
    """An attribute of a header: the name of its type, and its bytes."""

    type: str
    data: bytes


Header = dict[str, Attribute]


def read_header(path: Path) -> Header:
    """The attributes of a file's (first) header; none where it is no OpenEXR file or is damaged."""
    with path.open("rb") as file:
        head = file.read(8)
        if len(head) < 8 or struct.unpack("<I", head[:4])[0] != MAGIC:
            return {}
        data = file.read(1 << 20)
    found: Header = {}
    place = 0
    try:
        while data[place]:
            end = data.index(b"\0", place)
            name, place = data[place:end].decode("latin-1"), end + 1
            end = data.index(b"\0", place)
            kind, place = data[place:end].decode("latin-1"), end + 1
            size = struct.unpack_from("<I", data, place)[0]
            place += 4
            found[name] = Attribute(kind, data[place : place + size])
            place += size
    except (IndexError, ValueError, struct.error):
        return {}
    return found


def channel_names(header: Header) -> list[str]:
    """Names of the channels of a header."""
    data, names, place = header["channels"].data if "channels" in header else b"", [], 0
    while place < len(data) and data[place]:
        end = data.index(b"\0", place)
        names.append(data[place:end].decode("latin-1"))
        place = end + 17
    return names


def chromaticities(header: Header) -> tuple[float, ...] | None:
    """x and y of red, green, blue and white, where the header says them."""
    said = header.get("chromaticities")
    return struct.unpack("<8f", said.data) if said and len(said.data) == 32 else None


def text(header: Header, name: str) -> str:
    """An attribute of text; empty where there is none."""
    said = header.get(name)
    return said.data.decode("utf-8", "replace") if said and said.type == "string" else ""


def box(header: Header, name: str) -> tuple[int, ...] | None:
    """A window of a header: its first and last column and row, as x, y, x, y."""
    said = header.get(name)
    return struct.unpack("<4i", said.data) if said and len(said.data) == 16 else None


def kept(header: Header) -> Header:
    """Those attributes of a source that hold for another picture of the same size too."""
    return {name: value for name, value in header.items() if name not in _OURS}


def losses(clip: str, header: Header) -> list[str]:
    """Sentences about what of a file FFmpeg does not read, and an edited one does not hold therefore."""
    found = []
    if layers := [name for name in channel_names(header) if name not in ("R", "G", "B", "A", "Y")]:
        shown = ", ".join(layers[:4]) + (", …" if len(layers) > 4 else "")
        found.append(f"{clip}: the channels {shown} are not kept; only R, G, B and A are.")
    data, display = box(header, "dataWindow"), box(header, "displayWindow")
    if (
        data
        and display
        and (data[0] < display[0] or data[1] < display[1] or data[2] > display[2] or data[3] > display[3])
    ):
        found.append(f"{clip}: what lies outside the display window is not kept.")
    return found


def described(primaries: tuple[float, ...], fps: Fraction, pixel_aspect: Fraction = Fraction(1)) -> Header:
    """The attributes of a picture that comes from no OpenEXR file: x and y of its primaries and white, its rate and pixels."""
    return {
        "pixelAspectRatio": Attribute("float", struct.pack("<f", pixel_aspect)),
        "chromaticities": Attribute("chromaticities", struct.pack("<8f", *primaries)),
        "framesPerSecond": Attribute("rational", struct.pack("<iI", fps.numerator, fps.denominator)),
    }


def exr_bytes(channels: Mapping[str, np.ndarray], header: Header | None = None) -> bytes:
    """A picture as the bytes of an OpenEXR file.

    Args:
        channels: by name, each float16 or float32 [H, W].
        header: further attributes; what a file must say is added.
    """
    names = sorted(channels)
    height, width = channels[names[0]].shape
    attributes = {**_required(width, height), **(header or {}), "channels": _channel_list(channels)}
    flags = LONG_NAMES if any(len(name) > 31 for name in (*attributes, *names)) else 0
    head = struct.pack("<II", MAGIC, VERSION | flags)
    for name, (kind, data) in attributes.items():
        head += f"{name}\0{kind}\0".encode("latin-1") + struct.pack("<I", len(data)) + data
    head += b"\0"
    # a block holds its lines one after the other, and in a line the channels one after the other
    little = {name: np.ascontiguousarray(values, values.dtype.newbyteorder("<")) for name, values in channels.items()}
    rows = np.concatenate([little[name].view(np.uint8).reshape(height, -1) for name in names], axis=1)
    with ThreadPoolExecutor(max_workers=min(4, os.cpu_count() or 1)) as pool:
        blocks = list(pool.map(lambda top: _zipped(rows[top : top + LINES]), range(0, height, LINES)))
    places = len(head) + 8 * len(blocks) + np.cumsum([0, *(8 + len(block) for block in blocks[:-1])])
    parts = [head, places.astype("<u8").tobytes()]
    for index, block in enumerate(blocks):
        parts += [struct.pack("<ii", index * LINES, len(block)), block]
    return b"".join(parts)


def _required(width: int, height: int) -> Header:
    window = Attribute("box2i", struct.pack("<4i", 0, 0, width - 1, height - 1))
    return {
        "compression": Attribute("compression", bytes([ZIP])),
        "dataWindow": window,
        "displayWindow": window,
        "lineOrder": Attribute("lineOrder", b"\0"),
        "pixelAspectRatio": Attribute("float", struct.pack("<f", 1)),
        "screenWindowCenter": Attribute("v2f", struct.pack("<2f", 0, 0)),
        "screenWindowWidth": Attribute("float", struct.pack("<f", 1)),
    }


def _channel_list(channels: Mapping[str, np.ndarray]) -> Attribute:
    listed = b"".join(
        f"{name}\0".encode("latin-1") + struct.pack("<i4xii", _PIXEL_TYPE[channels[name].dtype], 1, 1)
        for name in sorted(channels)
    )
    return Attribute("chlist", listed + b"\0")


def _zipped(rows: np.ndarray) -> bytes:
    """A block, compressed: even bytes first, then odd ones; of each the difference from the one before; deflated."""
    raw = rows.reshape(-1)
    halves = np.concatenate([raw[0::2], raw[1::2]])
    halves[1:] = halves[1:] - halves[:-1] + np.uint8(128)
    data = zlib.compress(halves.tobytes(), _ZIP_LEVEL)
    return data if len(data) < raw.size else raw.tobytes()
