"""Colours and orientation: decoded frames to upright RGB, and what is needed for the way back.

Pictures are handed out as 8-bit RGB, made with the clip's own matrix and range, and written back with the same, so that a pixel
that nobody edits comes back as it was. A clip that does not name its matrix is read with BT.601 and the result does not name one
either: a player treats both alike.
"""

from typing import NamedTuple

import av
import cv2
import numpy as np
from av.video.reformatter import Interpolation, VideoReformatter

from cmet_engine.media.display import ORDINARY, Display
from cmet_engine.media.info import BT709, FULL, MATRICES, UNSPECIFIED, Colors
from cmet_engine.media.side_data import side_data
from cmet_engine.media.spaces import is_float

# Without these three flags FFmpeg converts colours by a fast path that loses half a step of brightness (46 dB of
# 75 dB over a round trip).
_EXACT = Interpolation.BICUBIC | Interpolation.ACCURATE_RND | Interpolation.FULL_CHR_H_INT
_EXACT_BACK = Interpolation.AREA | Interpolation.ACCURATE_RND | Interpolation.FULL_CHR_H_INP


class Orientation(NamedTuple):
    """How a stored picture is turned to be displayed: transposed first, then flipped."""

    transpose: bool = False
    left_right: bool = False
    up_down: bool = False

    @property
    def degrees_clockwise(self) -> int:
        """0, 90, 180 or 270; a mirrored picture counts by its turn alone."""
        if self.transpose:
            return 90 if self.left_right else 270
        return 180 if self.up_down and self.left_right else 0


class ToRgb:
    """Decoded frames to upright uint8 RGB.

    Args:
        size: width and height of the result; a clip may change its size on the way. None keeps that of each frame.
        display: how the colours of the clip are shown.
    """

    def __init__(self, size: tuple[int, int] | None = None, display: Display = ORDINARY) -> None:
        self.size, self.display = size, display
        self.reformatter = VideoReformatter()
        self.orientation = Orientation()

    def orient(self, first: av.VideoFrame) -> None:
        """Take the orientation of the clip from its first frame.

        Of no other: a frame whose side data was looked at is kept until the garbage collector runs.
        """
        self.orientation = orientation_of(first)

    def __call__(self, frame: av.VideoFrame) -> np.ndarray:
        """A frame as uint8 [H, W, 3] RGB, upright."""
        image = upright(self._stored(frame), self.orientation)
        if self.size and image.shape[1::-1] != self.size:
            image = cv2.resize(image, self.size, interpolation=cv2.INTER_AREA)
        return image

    def _stored(self, frame: av.VideoFrame) -> np.ndarray:
        name = frame.format.name
        if is_float(name):
            # one thread: with several, a row of odd width may be written over by the end of the row before
            return self.display.proxy(self.reformatter.reformat(frame, format="gbrpf32le", threads=1).to_ndarray())
        conversion = {}
        if not (frame.format.is_rgb or name == "pal8"):
            colors = colors_of(frame).conversion
            conversion = {"src_colorspace": colors["colorspace"], "src_color_range": colors["color_range"]}
        # Three planes put together by OpenCV: the same numbers as FFmpeg's own "rgb24" in half the time.
        pixels = "gbrp" if self.display.ordinary else "gbrp16le"
        planar = self.reformatter.reformat(frame, format=pixels, interpolation=_EXACT, threads=1, **conversion)
        if not self.display.ordinary:
            return self.display.proxy_of_integers(planar.to_ndarray())
        green, blue, red = (np.asarray(p).reshape(p.height, p.line_size)[:, : p.width] for p in planar.planes)
        return cv2.merge([red, green, blue])


class FromRgb:
    """RGB frames to the numbers that are encoded.

    Args:
        colors: what the numbers of the result stand for.
        pixels: FFmpeg's name of the result's pixel format.
    """

    def __init__(self, colors: Colors, pixels: str) -> None:
        self.colors, self.pixels = colors, pixels
        self.reformatter = VideoReformatter()

    def __call__(self, frame: av.VideoFrame) -> av.VideoFrame:
        """A frame in "rgb24" in the format that is encoded."""
        conversion = self.colors.conversion
        picture = self.reformatter.reformat(
            frame,
            format=self.pixels,
            dst_colorspace=conversion["colorspace"],
            dst_color_range=conversion["color_range"],
            interpolation=_EXACT_BACK,
            threads=1,
        )
        picture.colorspace = self.colors.matrix
        return picture


def colors_of(frame: av.VideoFrame) -> Colors:
    """A decoded frame's colours; RGB pictures count as BT.709 in limited range, which is how they are written."""
    if frame.format.is_rgb or frame.format.name == "pal8" or frame.format.name.startswith(("gray", "ya")):
        return Colors()
    full = frame.color_range == FULL or frame.format.name.startswith("yuvj")
    matrix = int(frame.colorspace)
    if matrix not in MATRICES and matrix != UNSPECIFIED:
        matrix = BT709
    return Colors(matrix, full, int(frame.color_primaries), int(frame.color_trc))


def orientation_of(frame: av.VideoFrame) -> Orientation:
    """What the display matrix of a frame asks for, to the nearest quarter turn."""
    matrix = side_data(frame, "DISPLAYMATRIX")
    if matrix is None:
        return Orientation()
    a, b, _, c, d = np.frombuffer(matrix, np.int32)[:5].astype(int)
    if abs(a) + abs(d) >= abs(b) + abs(c):  # x' = a x + c y, y' = b x + d y (libavutil/display.h)
        return Orientation(False, bool(a < 0), bool(d < 0))
    return Orientation(True, bool(c < 0), bool(b < 0))


def upright(image: np.ndarray, orientation: Orientation) -> np.ndarray:
    """A stored picture [H, W, 3] turned as its orientation asks."""
    if orientation.transpose:
        image = cv2.transpose(image)
    if orientation.left_right or orientation.up_down:
        image = cv2.flip(image, -1 if orientation.left_right and orientation.up_down else int(orientation.left_right))
    return image
