"""Pixels that are not square, written into files of muxers that learn nothing of them through PyAV: Matroska, WebM and MXF."""

import struct
import zlib
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import NamedTuple

ROOM = "width and height of a pixel"
"""Name of a Matroska file's track of pictures until `write`, which puts something else in its place."""
SUFFIXES = (".mkv", ".webm", ".mxf")
"""Files that need it."""

_HEAD = 1 << 20  # bytes in which the description of the tracks lies
_SEGMENT, _TRACKS, _ENTRY = b"\x18\x53\x80\x67", b"\x16\x54\xae\x6b", b"\xae"  # RFC 9559
_NAME, _VIDEO, _CRC, _VOID = b"\x53\x6e", b"\xe0", b"\xbf", b"\xec"
_WIDTH, _HEIGHT, _UNIT = b"\x54\xb0", b"\x54\xba", b"\x54\xb2"
_MXF_ASPECT = b"\x32\x0e\x00\x08"  # local tag and length of AspectRatio in a picture descriptor (SMPTE ST 377-1)


class _Element(NamedTuple):
    """A piece of an EBML file: its name, where it begins, and its content."""

    id: bytes
    begin: int
    start: int
    end: int


def write(path: Path, size: tuple[int, int], pixel_aspect: Fraction) -> None:
    """Say in a finished file how wide its pixels are; the rest of it keeps its place.

    Args:
        path: a file whose stream of pictures was called `ROOM` where it is Matroska or WebM.
        size: width and height of the pictures.
        pixel_aspect: width of a pixel over its height.
    """
    with path.open("r+b") as file:
        data = bytearray(file.read(_HEAD))
        shown = Fraction(*size) * pixel_aspect
        if path.suffix.lower() == ".mxf":
            place = data.index(_MXF_ASPECT) + len(_MXF_ASPECT)
            struct.pack_into(">II", data, place, shown.numerator, shown.denominator)
        else:
            times = -(
                -size[1] // shown.denominator
            )  # a size in whole pixels of exactly that shape, the picture's own if it can be
            _describe(data, _number(_WIDTH, shown.numerator * times) + _number(_HEIGHT, shown.denominator * times))
        file.seek(0)
        file.write(data)


def _describe(data: bytearray, shown: bytes) -> None:
    """Put the size at which pictures are shown into the description of their track, in the place of its name."""
    segment = next(one for one in _elements(data, 0, len(data)) if one.id == _SEGMENT)
    tracks = next(one for one in _elements(data, segment.start, len(data)) if one.id == _TRACKS)
    children = list(_elements(data, tracks.start, tracks.end))
    for entry in (one for one in children if one.id == _ENTRY):
        parts = list(_elements(data, entry.start, entry.end))
        if any(one.id == _NAME and data[one.start : one.end] == ROOM.encode() for one in parts):
            kept = b"".join(data[one.begin : one.end] for one in parts if one.id not in (_NAME, _VIDEO))
            video = next(one for one in parts if one.id == _VIDEO)
            about = b"".join(
                data[one.begin : one.end]
                for one in _elements(data, video.start, video.end)
                if one.id not in (_WIDTH, _HEIGHT, _UNIT)
            )
            kept += _element(_VIDEO, about + shown)
            data[entry.start : entry.end] = kept + _void(entry.end - entry.start - len(kept))
    if children[0].id == _CRC:
        checksum = zlib.crc32(data[children[0].end : tracks.end])
        data[children[0].start : children[0].end] = struct.pack("<I", checksum)


def _elements(data: bytearray, place: int, end: int) -> Iterator[_Element]:
    """The elements between two places; one of unknown size ends at the second."""
    while place < end:
        begin = place
        length = 9 - data[place].bit_length()
        name, place = bytes(data[place : place + length]), place + length
        length = 9 - data[place].bit_length()
        size = int.from_bytes(data[place : place + length], "big") & ((1 << 7 * length) - 1)
        place += length
        stop = end if size == (1 << 7 * length) - 1 else place + size
        yield _Element(name, begin, place, stop)
        place = stop


def _element(name: bytes, content: bytes) -> bytes:
    length = 1 if len(content) < 127 else 2
    return name + (len(content) | 1 << 7 * length).to_bytes(length, "big") + content


def _number(name: bytes, value: int) -> bytes:
    return _element(name, value.to_bytes((value.bit_length() + 7) // 8, "big"))


def _void(length: int) -> bytes:
    """Nothing, in at least two bytes."""
    return _element(_VOID, bytes(length - 2))
