"""Parts of frames that are kept while a clip is tracked, so that who looks at the face next need not decode the clip again.

They hold the same bits as the frames, as long as they are few enough for the memory; else nobody has any.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction

import numpy as np

from cmet_engine.face.crop import region_of_crop
from cmet_engine.media.info import Frame
from cmet_engine.media.planes import Box

STRIDE = 6
"""Every so many frames is kept, the last of them each time, and all of the first ones."""

MOST = 192 << 20
"""Bytes that all parts may take."""

ROOM = 0.06
"""Share of its sides by which a part is larger than the face's crop: landmarks are smoothed later."""


class Glimpses:
    """Parts of some frames of a clip around the face."""

    def __init__(self) -> None:
        self._parts: dict[int, _Part] = {}
        self._room = MOST
        self._last: tuple[Frame, np.ndarray] | None = None

    def add(self, frame: Frame, landmarks: np.ndarray | None) -> None:
        """Keep of a frame what may be looked at; `landmarks` [478, 3] say where the face is, None that there is none."""
        self._last = None if landmarks is None else (frame, landmarks)
        if frame.index < STRIDE or frame.index % STRIDE == STRIDE - 1:
            self._keep()

    def frames(self, count: int) -> Iterator[Frame]:
        """The `count` frames of the clip; to look at more of one than is kept raises LookupError."""
        self._keep()  # the clip's last frame
        nothing = _Part((0, 0, 0), (0, 0, 0, 0), np.empty(0, np.uint8))
        for index in range(count):
            yield Frame(index, Fraction(0), self._parts.get(index, nothing))

    def _keep(self) -> None:
        if self._last is None or self._room < 0:
            return
        frame, landmarks = self._last
        box = region_of_crop(landmarks, frame.shape, ROOM)
        pixels = frame.part(box)
        self._room -= pixels.nbytes
        if self._room < 0:
            self._parts.clear()
        else:
            self._parts[frame.index] = _Part(frame.shape, box, pixels.copy())
        self._last = None


@dataclass(frozen=True)
class _Part:
    """A picture, `info.Picture`, of which only the region `box` is there."""

    shape: tuple[int, ...]
    box: Box
    pixels: np.ndarray

    @property
    def whole(self) -> np.ndarray:
        """See `info.Picture`."""
        raise LookupError("only a part of the picture is kept")

    def part(self, box: Box) -> np.ndarray:
        """See `info.Picture`."""
        left, top, right, bottom = self.box
        if box[0] < left or box[1] < top or box[2] > right or box[3] > bottom:
            raise LookupError("this part of the picture is not kept")
        return self.pixels[box[1] - top : box[3] - top, box[0] - left : box[2] - left]

    def sparse(self, step: int) -> np.ndarray:
        """See `info.Picture`."""
        raise LookupError("only a part of the picture is kept")
