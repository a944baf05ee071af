"""Colours and orientation: decoded frames to upright RGB, and what is needed for the way back.

Pictures are handed out as 8-bit RGB, made with the clip's own matrix and range, and written back with the same, so that a pixel
that nobody edits comes back as it was. A clip that does not name its matrix is read with BT.601 and the result does not name one
either: a player treats both alike.
"""

from typing import Any, cast

import av
import cv2
import numpy as np
from av.video.reformatter import Interpolation, VideoReformatter

from cmet_engine.media.info import BT709, FULL, MATRICES, UNSPECIFIED, Colors, VideoInfo

# Without these three flags FFmpeg converts colours by a fast path that loses half a step of brightness (46 dB of
# 75 dB over a round trip).
_EXACT = Interpolation.BICUBIC | Interpolation.ACCURATE_RND | Interpolation.FULL_CHR_H_INT
EXACT_BACK = Interpolation.AREA | Interpolation.ACCURATE_RND | Interpolation.FULL_CHR_H_INP


class ToRgb:
    """Decoded frames to upright uint8 RGB."""

    def __init__(self, info: VideoInfo) -> None:
        self.info = info
        self.reformatter = VideoReformatter()
        self.orientation = (False, False, False)

    def orient(self, first: av.VideoFrame) -> None:
        """Take the orientation of the clip from its first frame.

        Of no other: a frame whose side data was looked at is kept until the garbage collector runs.
        """
        self.orientation = orientation_of(first)

    def __call__(self, frame: av.VideoFrame) -> np.ndarray:
        """A frame as uint8 [H, W, 3] RGB, upright, in the size of the clip."""
        image = upright(self._stored(frame), self.orientation)
        if image.shape[:2] != (self.info.height, self.info.width):  # the clip changes its size on the way
            image = cv2.resize(image, (self.info.width, self.info.height), interpolation=cv2.INTER_AREA)
        return image

    def _stored(self, frame: av.VideoFrame) -> np.ndarray:
        name = frame.format.name
        if "f32" in name or "f16" in name:
            # one thread: with several, a row of odd width may be written over by the end of the row before
            linear = self.reformatter.reformat(frame, format="gbrpf32le", threads=1).to_ndarray()
            return _DISPLAY[linear.astype(np.float16).view(np.uint16)]
        conversion = {}
        if not (frame.format.is_rgb or name == "pal8"):
            colors = colors_of(frame).conversion
            conversion = {"src_colorspace": colors["colorspace"], "src_color_range": colors["color_range"]}
        # Three planes put together by OpenCV: the same numbers as FFmpeg's own "rgb24" in half the time.
        planar = self.reformatter.reformat(frame, format="gbrp", interpolation=_EXACT, threads=1, **conversion)
        green, blue, red = (np.asarray(p).reshape(p.height, p.line_size)[:, : p.width] for p in planar.planes)
        return cv2.merge([red, green, blue])


def colors_of(frame: av.VideoFrame) -> Colors:
    """A decoded frame's colours; RGB pictures count as BT.709 in limited range, which is how they are written."""
    if frame.format.is_rgb or frame.format.name == "pal8" or frame.format.name.startswith(("gray", "ya")):
        return Colors()
    full = frame.color_range == FULL or frame.format.name.startswith("yuvj")
    matrix = int(frame.colorspace)
    if matrix not in MATRICES and matrix != UNSPECIFIED:
        matrix = BT709
    return Colors(matrix, full, int(frame.color_primaries), int(frame.color_trc))


def orientation_of(frame: av.VideoFrame) -> tuple[bool, bool, bool]:
    """(transpose, then flip left-right, flip up-down) that the display matrix asks for, to the nearest quarter turn."""
    side = frame.side_data.get("DISPLAYMATRIX") if frame.side_data else None
    if side is None:
        return False, False, False
    a, b, _, c, d = np.frombuffer(bytes(cast(Any, side)), np.int32)[:5].astype(int)
    if abs(a) + abs(d) >= abs(b) + abs(c):  # x' = a x + c y, y' = b x + d y (libavutil/display.h)
        return False, a < 0, d < 0
    return True, c < 0, b < 0


def degrees_clockwise(orientation: tuple[bool, bool, bool]) -> int:
    """Degrees clockwise of an orientation; a mirrored one counts by its turn alone."""
    transpose, left_right, up_down = orientation
    if transpose:
        return 90 if left_right else 270
    return 180 if up_down and left_right else 0


def upright(image: np.ndarray, orientation: tuple[bool, bool, bool]) -> np.ndarray:
    """A stored picture [H, W, 3] turned as its orientation asks; see `orientation_of`."""
    transpose, left_right, up_down = orientation
    if transpose:
        image = cv2.transpose(image)
    if left_right or up_down:
        image = cv2.flip(image, -1 if left_right and up_down else int(left_right))
    return image


def _srgb_tables() -> tuple[np.ndarray, np.ndarray]:
    """sRGB to linear light, float16 [256]; linear half floats by their bits to sRGB, uint8 [65536] (IEC 61966-2-1)."""
    encoded = np.arange(256) / 255
    linear = np.where(encoded <= 0.04045, encoded / 12.92, ((encoded + 0.055) / 1.055) ** 2.4).astype(np.float16)
    halves = np.nan_to_num(np.arange(65536, dtype=np.uint16).view(np.float16).astype(np.float64), posinf=1, neginf=0)
    halves = halves.clip(0, 1)
    display = np.where(halves <= 0.0031308, halves * 12.92, 1.055 * halves ** (1 / 2.4) - 0.055)
    return linear, np.round(display * 255).astype(np.uint8)


LINEAR, _DISPLAY = _srgb_tables()
