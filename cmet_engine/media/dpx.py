"""Headers of DPX files (SMPTE ST 268): FFmpeg reads little of them and writes next to nothing."""

import re
import struct
from fractions import Fraction
from pathlib import Path

from cmet_engine.media import smpte
from cmet_engine.timecode import Timecode

SIZE = 2048  # bytes; what its user added follows
_MOST = 1 << 24  # bytes of a header that are believed
_ELEMENT, _ELEMENTS, _ELEMENT_SIZE = 780, 8, 72
_FILM = 1664  # here the parts begin that a file may leave out
_CREATED, _ASPECT, _FILM_RATE, _TIMECODE, _RATE = 1532, 1628, 1724, 1920, 1940
_FOURS = (
    *(0, 4, 16, 20, 24, 28, 32, 660, 772, 776), *range(1408, 1432, 4), 1628, 1632, *range(1712, 1732, 4), 1920, 1924, *range(1932, 1972, 4),
    *(_ELEMENT + _ELEMENT_SIZE * element + place for element in range(_ELEMENTS) for place in (0, 4, 8, 12, 16, 28, 32, 36)),
)  # fmt: skip
"""Where numbers of four bytes stand, and those of two."""
_TWOS = (
    768, 770, *range(1620, 1628, 2),
    *(_ELEMENT + _ELEMENT_SIZE * element + place for element in range(_ELEMENTS) for place in (24, 26)),
)  # fmt: skip
_UNSET = (*range(1712, 1732, 4), 1920, 1924, 1928, *range(1932, 1972, 4))  # numbers of film and television
_DATE = re.compile(rb"(\d{4}):(\d\d):(\d\d):(\d\d):(\d\d):(\d\d) ?(?:Z|UTC|GMT)?\0")


def read_header(path: Path) -> bytes:
    """The header of a file with what its user added, in little-endian order; nothing where it is no DPX file."""
    with path.open("rb") as file:
        head = file.read(SIZE)
        if len(head) < SIZE or head[:4] not in (b"SDPX", b"XPDS"):
            return b""
        order = ">" if head.startswith(b"SDPX") else "<"
        begins = struct.unpack_from(f"{order}I", head, 4)[0]
        head = (head[:begins] + _blank(head)[begins:]) + file.read(max(0, min(begins, _MOST) - SIZE))
    if order == "<":
        return head
    swapped = bytearray(head)
    for places, size in ((_FOURS, 4), (_TWOS, 2)):
        for place in places:
            swapped[place : place + size] = swapped[place : place + size][::-1]
    return bytes(swapped)


def rates(header: bytes) -> list[float]:
    """Frames a second that a header says, of film and of television; what is not said is no number, or 0."""
    return [struct.unpack_from("<f", header, place)[0] for place in (_FILM_RATE, _RATE)] if header else []


def tags(header: bytes, rate: Fraction) -> dict[str, str]:
    """Start timecode and time of recording, as FFmpeg's tags."""
    if not header:
        return {}
    word = struct.unpack_from("<I", header, _TIMECODE)[0]
    said = {"timecode": smpte.label(word, rate)}
    if date := _DATE.match(header, _CREATED, _CREATED + 24):
        year, month, day, hour, minute, second = (part.decode() for part in date.groups())
        said["creation_time"] = f"{year}-{month}-{day}T{hour}:{minute}:{second}.000000Z"
    return {name: value for name, value in said.items() if value}


def described(picture: bytes, fps: Fraction, pixel_aspect: Fraction, timecode: Timecode | None, created: str) -> bytes:
    """The header of a picture that comes from no DPX file.

    Args:
        picture: a file of FFmpeg's.
        fps: frames a second.
        pixel_aspect: width of a pixel over its height.
        timecode: of the frame.
        created: time of recording, `2024-05-06T07:08:09.000000Z`, or nothing.
    """
    header = bytearray(_blank(picture))
    struct.pack_into("<II", header, _ASPECT, pixel_aspect.numerator, pixel_aspect.denominator)
    for place in (_FILM_RATE, _RATE):
        struct.pack_into("<f", header, place, fps)
    if timecode:
        struct.pack_into("<I", header, _TIMECODE, smpte.packed(timecode))
    if created:
        struct.pack_into("<24s", header, _CREATED, f"{created[:19].replace('-', ':').replace('T', ':')}Z".encode())
    return bytes(header)


def with_header(picture: bytes, header: bytes) -> bytes:
    """A file of FFmpeg's with a header from elsewhere; how its numbers are stored is said as in the picture.

    Args:
        picture: a little-endian file with one image element.
        header: see `read_header`.
    """
    begins = struct.unpack_from("<I", picture, 4)[0]
    data, size = picture[begins:], -(-len(header) // 16) * 16
    result = bytearray(header.ljust(size, b"\0"))
    element = slice(_ELEMENT, _ELEMENT + _ELEMENT_SIZE)
    own, old = bytearray(picture[element]), header[element]
    if own[23] == old[23]:
        own[:20] = old[:20]  # codes and densities of black and white
    own[21:23], own[40:] = old[21:23], old[40:]  # transfer, colorimetry, description
    struct.pack_into("<I", own, 28, size)
    result[element] = own
    result[_ELEMENT + _ELEMENT_SIZE : _ELEMENT + _ELEMENTS * _ELEMENT_SIZE] = bytes((_ELEMENTS - 1) * _ELEMENT_SIZE)
    result[770:780] = picture[770:780]
    struct.pack_into("<4sI8sI", result, 0, b"XPDS", size, b"V2.0", size + len(data))
    struct.pack_into("<III", result, 24, _FILM, SIZE - _FILM, size - SIZE)
    struct.pack_into("<I", result, 660, smpte.UNDEFINED)  # not encrypted
    return bytes(result) + data


def _blank(head: bytes) -> bytes:
    """A header of which only the parts that every file has say something."""
    film = bytearray(SIZE - _FILM)
    for place in _UNSET:
        film[place - _FILM : place - _FILM + 4] = b"\xff" * 4
    return head[:_FILM] + bytes(film)
