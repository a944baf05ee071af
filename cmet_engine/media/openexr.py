"""OpenEXR files: their header, and writing one (scan lines, ZIP, half or float channels).

FFmpeg reads them; its writer knows RGB and A alone and drops the header. The layout is that of "OpenEXR File Layout"
(https://openexr.com/en/latest/OpenEXRFileLayout.html).
"""

import contextlib
import os
import struct
import zlib
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta
from fractions import Fraction
from pathlib import Path
from typing import NamedTuple

import numpy as np

from cmet_engine.media import smpte
from cmet_engine.timecode import Timecode

MAGIC = 20000630
VERSION, LONG_NAMES = 2, 0x400
LINES = 16  # of a block that is compressed together
ZIP = 3
TILES, DEEP, PARTS = 0x200, 0x800, 0x1000  # of the version: what else a file may be
_STORED_LINES = {0: 1, 1: 1, 2: 1, 3: 16}  # lines of a block by compression: none, RLE, ZIPS, ZIP
_ZIP_LEVEL = 4  # of 9: OpenEXR's own
_PIXEL_TYPE = {np.dtype(np.uint32): 0, np.dtype(np.float16): 1, np.dtype(np.float32): 2}
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
    size = 1 << 20
    with path.open("rb") as file:
        data = file.read(size)
        while not (parsed := _parsed(data)) and len(data) == size:  # it lists all objects of a cryptomatte
            data, size = data + file.read(size), 2 * size
    return parsed[0] if parsed else {}


def _parsed(data: bytes) -> tuple[Header, int] | None:
    """The attributes at the beginning of a file, and where they end; None where it is no OpenEXR file or is cut off."""
    if len(data) < 8 or struct.unpack_from("<I", data)[0] != MAGIC:
        return None
    found: Header = {}
    place = 8
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
        return None
    return found, place + 1


def channel_names(header: Header) -> list[str]:
    """Names of the channels of a header."""
    return [channel.name for channel in _channels(header)]


class _Channel(NamedTuple):
    """A channel of a file: the kind of its numbers, and how many pixels have one, across and down."""

    name: str
    kind: int
    across: int
    down: int


def _channels(header: Header) -> list[_Channel]:
    data, channels, place = header["channels"].data if "channels" in header else b"", [], 0
    while place < len(data) and data[place]:
        end = data.index(b"\0", place)
        channels.append(_Channel(data[place:end].decode("latin-1"), *struct.unpack_from("<i4xii", data, end + 1)))
        place = end + 17
    return channels


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


def tags(header: Header, rate: Fraction) -> dict[str, str]:
    """Start timecode, reel and time of recording of a header, as FFmpeg's tags."""
    said = {"reel_name": text(header, "reelName")}
    if (code := header.get("timeCode")) and len(code.data) == 8:
        said["timecode"] = smpte.label(struct.unpack("<I4x", code.data)[0], rate)
    with contextlib.suppress(ValueError):
        local = datetime.strptime(text(header, "capDate"), "%Y:%m:%d %H:%M:%S")
        offset = header.get("utcOffset")
        world = local + timedelta(seconds=struct.unpack("<f", offset.data)[0] if offset else 0)
        said["creation_time"] = world.strftime("%Y-%m-%dT%H:%M:%S.000000Z")
    return {name: value for name, value in said.items() if value}


def losses(path: Path) -> list[str]:
    """Sentences about what of a file an edited one does not hold."""
    clip, header = path.name, read_header(path)
    found = []
    if layers := _further(header):
        shown = ", ".join(channel.name for channel in layers[:4]) + (", …" if len(layers) > 4 else "")
        if not _copied(path, header):
            found.append(
                f"{clip}: the channels {shown} are not kept; those of whole scan lines, stored as NONE, RLE, ZIPS or ZIP, are."
            )
    if _flags(path) & PARTS:
        found.append(f"{clip} has several parts; the first alone is kept.")
    data, display = box(header, "dataWindow"), box(header, "displayWindow")
    if (
        data
        and display
        and (data[0] < display[0] or data[1] < display[1] or data[2] > display[2] or data[3] > display[3])
    ):
        found.append(f"{clip}: what lies outside the display window is not kept.")
    return found


def described(
    primaries: tuple[float, ...], fps: Fraction, pixel_aspect: Fraction = Fraction(1), timecode: Timecode | None = None,
    reel: str = "", created: str = "",
) -> Header:  # fmt: skip
    """The attributes of a picture that comes from no OpenEXR file.

    Args:
        primaries: x and y of red, green, blue and white.
        fps: frames a second.
        pixel_aspect: width of a pixel over its height.
        timecode: of the frame.
        reel: name of the reel.
        created: time of recording, `2024-05-06T07:08:09.000000Z`, or nothing.
    """
    said = {}
    if timecode:
        said["timeCode"] = Attribute("timecode", struct.pack("<II", smpte.packed(timecode), 0))
    if reel:
        said["reelName"] = Attribute("string", reel.encode())
    if created:
        said["capDate"] = Attribute("string", created[:19].replace("-", ":").replace("T", " ").encode())
        said["utcOffset"] = Attribute("float", struct.pack("<f", 0))
    return said | {
        "pixelAspectRatio": Attribute("float", struct.pack("<f", pixel_aspect)),
        "chromaticities": Attribute("chromaticities", struct.pack("<8f", *primaries)),
        "framesPerSecond": Attribute("rational", struct.pack("<iI", fps.numerator, fps.denominator)),
    }


def exr_bytes(channels: Mapping[str, np.ndarray], header: Header | None = None) -> bytes:
    """A picture as the bytes of an OpenEXR file.

    Args:
        channels: by name, each float16, float32 or uint32 [H, W].
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


def further_channels(path: Path) -> dict[str, np.ndarray]:
    """The channels of a file beside its picture, as far as `losses` does not speak of them: by name, each [H, W] as displayed."""
    data = path.read_bytes()
    parsed = _parsed(data)
    if parsed is None or not (wanted := _further(parsed[0])) or not _copied(path, parsed[0]):
        return {}
    header, place = parsed
    left, top, right, bottom = box(header, "dataWindow") or (0, 0, -1, -1)
    width, lines = right - left + 1, _STORED_LINES[header["compression"].data[0]]
    kinds = {0: "<u4", 1: "<f2", 2: "<f4"}
    stored = np.dtype([(channel.name, kinds[channel.kind], (width,)) for channel in _channels(header)])
    rows = np.zeros(bottom - top + 1, stored)
    for number in range(-(-len(rows) // lines)):
        begin = struct.unpack_from("<Q", data, place + 8 * number)[0]
        line, size = struct.unpack_from("<ii", data, begin)
        part = rows[line - top : line - top + lines]
        raw = data[begin + 8 : begin + 8 + size]
        part[:] = np.frombuffer(raw if size == part.nbytes else _unpacked(raw, header["compression"].data[0]), stored)
    shown = box(header, "displayWindow") or (left, top, right, bottom)
    return {channel.name: _placed(rows[channel.name], (left, top), shown) for channel in wanted}


def _further(header: Header) -> list[_Channel]:
    """The channels beside those of the picture that FFmpeg reads."""
    names = set(channel_names(header))
    picture = set("RGBA") if names & set("RGB") else set("YA")
    return [channel for channel in _channels(header) if channel.name not in picture]


def _copied(path: Path, header: Header) -> bool:
    """Whether `further_channels` can read a file."""
    whole = all((channel.across, channel.down) == (1, 1) for channel in _channels(header))
    return whole and header["compression"].data[0] in _STORED_LINES and not _flags(path) & (TILES | DEEP | PARTS)


def _flags(path: Path) -> int:
    with path.open("rb") as file:
        return int.from_bytes(file.read(8)[4:], "little")


def _placed(values: np.ndarray, corner: tuple[int, int], shown: tuple[int, ...]) -> np.ndarray:
    """The part of a data window that is displayed, with nothing around it."""
    left, top, right, bottom = shown
    result = np.zeros((bottom - top + 1, right - left + 1), values.dtype)
    x, y = corner[0] - left, corner[1] - top
    part = values[max(-y, 0) : len(result) - y, max(-x, 0) : result.shape[1] - x]
    result[max(y, 0) : max(y, 0) + part.shape[0], max(x, 0) : max(x, 0) + part.shape[1]] = part
    return result


def _unpacked(data: bytes, compression: int) -> bytes:
    """The reverse of `_zipped`, of RLE too."""
    raw = np.frombuffer(_run_lengths(data) if compression == 1 else zlib.decompress(data), np.uint8).copy()
    raw[1:] -= np.uint8(128)
    raw = np.cumsum(raw, dtype=np.uint8)
    result = np.empty_like(raw)
    result[0::2], result[1::2] = raw[: -(-len(raw) // 2)], raw[-(-len(raw) // 2) :]
    return result.tobytes()


def _run_lengths(data: bytes) -> bytes:
    """Pieces as they are, after their negative length, and bytes to repeat, after how often more."""
    result, place = bytearray(), 0
    while place < len(data):
        count = data[place] if data[place] < 128 else data[place] - 256
        if count < 0:
            result += data[place + 1 : place + 1 - count]
            place += 1 - count
        else:
            result += data[place + 1 : place + 2] * (count + 1)
            place += 2
    return bytes(result)


def _zipped(rows: np.ndarray) -> bytes:
    """A block, compressed: even bytes first, then odd ones; of each the difference from the one before; deflated."""
    raw = rows.reshape(-1)
    halves = np.concatenate([raw[0::2], raw[1::2]])
    halves[1:] = halves[1:] - halves[:-1] + np.uint8(128)
    data = zlib.compress(halves.tobytes(), _ZIP_LEVEL)
    return data if len(data) < raw.size else raw.tobytes()
