"""Finished segments of a video that is being written, kept in files so that an interrupted writer can go on behind them.

A movie is encoded in segments of `SEGMENT` pictures, each by an encoder of its own, so the bytes of a segment depend on its
pictures alone. A segment's file holds its packets. Of an image sequence, every picture is a file.
"""

import os
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import av

SEGMENT = 64  # pictures that are encoded together, and lost at the most when the work is interrupted

_PACKET = struct.Struct("<qI?")  # time stamp in ticks, bytes that follow, keyframe


class SegmentFile:
    """The file of a segment that is being encoded; it gets its final name when it is whole."""

    def __init__(self, folder: Path, first: int) -> None:
        self._part = unfinished_file(folder, first)
        self._file = self._part.open("wb")

    def write(self, packet: av.Packet) -> None:
        """Add a packet, in the order of decoding."""
        self._file.write(_PACKET.pack(packet.pts, packet.size, packet.is_keyframe))
        self._file.write(packet)

    def finish(self) -> None:
        """Make sure that the segment is on the disk, and give it its final name."""
        self._file.flush()
        os.fsync(self._file.fileno())
        self._file.close()
        self._part.replace(self._part.with_suffix(".segment"))

    def close(self) -> None:
        """Let go of the file, finished or not."""
        self._file.close()


def unfinished_file(folder: Path, first: int) -> Path:
    """The file of a segment, by the number of its first picture, until it is finished."""
    return _file(folder, first, ".part")


def finished(folder: Path | None, suffix: str, step: int) -> list[Path]:
    """The finished segments of `step` pictures each, in order, up to the first gap."""
    found: list[Path] = []
    while folder and (path := _file(folder, len(found) * step, suffix)).is_file():
        found.append(path)
    return found


def read_packets(path: Path) -> Iterator[Any]:
    """The packets, `av.Packet`, of a finished segment, in the order of decoding."""
    with path.open("rb") as file:
        while head := file.read(_PACKET.size):
            stamp, size, key = _PACKET.unpack(head)
            yield plain_packet(file.read(size), stamp, key)


def plain_packet(data: Any, stamp: int | None, key: bool) -> Any:
    """A packet with what a segment's file keeps of it, and nothing else, so that a resumed video equals one that was not."""
    packet = av.Packet(bytes(data))
    packet.pts, packet.is_keyframe = stamp, key
    return packet


def _file(folder: Path, first: int, suffix: str) -> Path:
    return folder / f"{first:08d}{suffix}"
