"""Parts of frames that are kept while a clip is tracked, so that who looks at the face next need not decode the clip again.

They hold the same bits as the frames, in a file without a name.
"""

import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np

from cmet_engine.face.crop import region_of_crop
from cmet_engine.media.info import Frame
from cmet_engine.media.planes import Box

STRIDE = 6
"""Of so many frames the last one is kept; all of the first ones are."""

MOST = 1 << 30
"""Bytes of the file; of a longer clip nothing is kept."""

ROOM = 0.06
"""Share of its sides by which a part is larger than the face's crop: landmarks are smoothed later."""


class Glimpses:
    """Parts of some frames of a clip around the face."""

    def __init__(self) -> None:
        self._file: Any = tempfile.TemporaryFile()  # noqa: SIM115 - lives as long as the object
        self._parts: dict[int, _Part] = {}
        self._size = 0
        self._last: tuple[Frame, np.ndarray] | None = None

    def add(self, frame: Frame, landmarks: np.ndarray | None) -> None:
        """Keep of a frame what may be looked at; `landmarks` [478, 3] say where the face is, None that there is none."""
        self._last = None if landmarks is None else (frame, landmarks)
        if frame.index < STRIDE or frame.index % STRIDE == STRIDE - 1:
            self._keep()

    def frames(self, count: int) -> Iterator[Frame]:
        """The `count` frames of the clip; to look at more of one than is kept raises LookupError."""
        self._keep()  # the clip's last frame
        nothing = _Part(self._file, 0, (0, 0, 0), (0, 0, 0, 0))
        for index in range(count):
            yield Frame(index, Fraction(0), self._parts.get(index, nothing))

    def _keep(self) -> None:
        if self._last is None or self._size > MOST:
            return
        frame, landmarks = self._last
        self._last = None
        box = region_of_crop(landmarks, frame.shape, ROOM)
        pixels = frame.part(box).tobytes()
        try:
            self._file.seek(self._size)
            self._file.write(pixels)
        except OSError:  # the disk for temporary files is full: the clip is decoded again
            self._size = MOST
        self._parts[frame.index] = _Part(self._file, self._size, frame.shape, box)
        self._size += len(pixels)
        if self._size > MOST:
            self._parts.clear()
            self._file.truncate(0)


@dataclass(frozen=True)
class _Part:
    """A picture, `info.Picture`, of which only the region `box` is there, in a file."""

    file: Any
    place: int
    shape: tuple[int, ...]
    box: Box

    @property
    def whole(self) -> np.ndarray:
        """See `info.Picture`."""
        raise LookupError("only a part of the picture is kept")

    def part(self, box: Box) -> np.ndarray:
        """See `info.Picture`."""
        left, top, right, bottom = self.box
        if box[0] < left or box[1] < top or box[2] > right or box[3] > bottom:
            raise LookupError("this part of the picture is not kept")
        self.file.seek(self.place)
        pixels = self.file.read((bottom - top) * (right - left) * 3)
        whole = np.frombuffer(pixels, np.uint8).reshape(bottom - top, right - left, 3)
        return whole[box[1] - top : box[3] - top, box[0] - left : box[2] - left]

    def sparse(self, step: int) -> np.ndarray:
        """See `info.Picture`."""
        raise LookupError("only a part of the picture is kept")
