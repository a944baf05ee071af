"""Finished segments of a video that is being written, kept in files so that an interrupted writer can go on behind them.

Every `SEGMENT` pictures are encoded by an encoder of their own, so the bytes of a segment depend on its pictures alone.
"""

import struct
from collections.abc import Iterator
from pathlib import Path

import av

SEGMENT = 64  # pictures that are encoded together, and lost at the most when the work is interrupted
PACKET = struct.Struct("<qI?")  # of a kept packet: time stamp in ticks, bytes that follow, keyframe


def segment_file(folder: Path, first: int, suffix: str) -> Path:
    """File of the piece that begins with a picture, by its number."""
    return folder / f"{first:08d}{suffix}"


def finished(folder: Path | None, suffix: str, step: int = SEGMENT) -> list[Path]:
    """The finished pieces of `step` pictures each, in order, up to the first gap."""
    found: list[Path] = []
    while folder and (path := segment_file(folder, len(found) * step, suffix)).is_file():
        found.append(path)
    return found


def read_packets(path: Path) -> Iterator[av.Packet]:
    """The packets of a finished segment, in the order of decoding."""
    with path.open("rb") as file:
        while head := file.read(PACKET.size):
            stamp, size, key = PACKET.unpack(head)
            packet = av.Packet(file.read(size))
            packet.pts, packet.is_keyframe = stamp, key
            yield packet
