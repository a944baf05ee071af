"""Colours and orientation: decoded frames to upright RGB, and pictures to what is encoded.

Networks and people see 8-bit RGB, made with the clip's own matrix and range. What is encoded are the clip's own numbers, into
which changes were written (`planes`); pictures that no clip is behind are converted from RGB. A clip that does not name its matrix
is read with BT.601 and the result does not name one either: a player treats both alike.
"""

import io
import re
import threading
from fractions import Fraction
from typing import Any, NamedTuple

import av
import cv2
import numpy as np
from av.video.reformatter import Interpolation, VideoReformatter

from cmet_engine.media.display import ORDINARY, Display
from cmet_engine.media.info import BT709, BT2020, FULL, LIMITED, MATRICES, UNSPECIFIED, Colors, Mastering
from cmet_engine.media.planes import PLACES, Box, Tag, black_and_white, centred, layout, views
from cmet_engine.media.side_data import side_data
from cmet_engine.media.source import filter_graph, graph_of
from cmet_engine.media.spaces import is_float

# Without these three flags FFmpeg converts colours by a fast path that loses half a step of brightness (46 dB of
# 75 dB over a round trip).
_EXACT = Interpolation.BICUBIC | Interpolation.ACCURATE_RND | Interpolation.FULL_CHR_H_INT
_EXACT_BACK = Interpolation.AREA | Interpolation.ACCURATE_RND | Interpolation.FULL_CHR_H_INP

SITING = {
    (1, 2): "left", (2, 2): "center", (1, 1): "topleft", (2, 1): "top", (1, 3): "bottomleft", (2, 3): "bottom",
}  # fmt: skip
"""Matroska's ChromaSitingHorz and ChromaSitingVert, as FFmpeg writes them."""


_STEP = 8  # pixels: regions that are converted alone begin at a multiple, and hold as many more at every side

_MATRIX_NAMES = {1: "bt709", 4: "fcc", 5: "bt470", 6: "smpte170m", 7: "smpte240m", 9: "bt2020"}


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
    """Decoded frames to upright uint8 RGB; several threads may use one.

    Args:
        size: width and height of the result; a clip may change its size on the way. None keeps that of each frame.
        display: how the colours of the clip are shown.
    """

    def __init__(self, size: tuple[int, int] | None = None, display: Display = ORDINARY) -> None:
        self.size, self.display = size, display
        self.orientation = Orientation()
        self._tools = _Tools()

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

    def upright_size(self, frame: av.VideoFrame) -> tuple[int, int]:
        """Width and height of the result."""
        size = (frame.width, frame.height)
        return self.size or (size[::-1] if self.orientation.transpose else size)

    def part(self, frame: av.VideoFrame, box: Box) -> np.ndarray:
        """A region of the result, uint8 [h, w, 3], the same bit for bit; the rest of the frame is not converted."""
        width, height = self.upright_size(frame)
        left, top, right, bottom = box
        transpose, left_right, up_down = self.orientation
        wanted = (height, width) if transpose else (width, height)
        if (frame.width, frame.height) != wanted or not frame.format.is_planar:
            return self(frame)[top:bottom, left:right]
        across, down = (width - right, width - left) if left_right else (left, right), (top, bottom)
        down = (height - bottom, height - top) if up_down else down
        if transpose:
            across, down = down, across
        # the scaler looks at neighbouring chroma; where regions begin, whole chroma samples do
        spans = [
            (max(low // _STEP - 1, 0) * _STEP, min((-(-high // _STEP) + 1) * _STEP, size))
            for (low, high), size in zip((across, down), (frame.width, frame.height), strict=True)
        ]
        (x0, x1), (y0, y1) = spans
        region = self._stored(self._tools.cropped(frame, (x0, y0, x1, y1)))
        return upright(region[down[0] - y0 : down[1] - y0, across[0] - x0 : across[1] - x0], self.orientation)

    def sparse(self, frame: av.VideoFrame, step: int) -> np.ndarray:
        """About every `step`-th pixel of the result, uint8 [h, w, 3]; the rest of the frame is not converted."""
        if is_float(frame.format.name) or not self.display.ordinary:
            return self(frame)[::step, ::step]
        size = -(-frame.width // step), -(-frame.height // step)
        return upright(self._stored(frame, self._tools.thinner.reformat, size, Interpolation.POINT), self.orientation)

    def _stored(
        self,
        frame: av.VideoFrame,
        reformat: Any = None,
        size: tuple[int | None, int | None] = (None, None),
        interpolation: Any = _EXACT,
    ) -> np.ndarray:
        name, reformat = frame.format.name, reformat or self._tools.reformatter.reformat
        if is_float(name):
            # one thread: with several, a row of odd width may be written over by the end of the row before
            return self.display.proxy(reformat(frame, format="gbrpf32le", threads=1).to_ndarray())
        conversion = {}
        if not (frame.format.is_rgb or name == "pal8"):
            colors = colors_of(frame).conversion
            conversion = {"src_colorspace": colors["colorspace"], "src_color_range": colors["color_range"]}
        # Three planes put together by OpenCV: the same numbers as FFmpeg's own "rgb24" in half the time.
        pixels = "gbrp" if self.display.ordinary else "gbrp16le"
        planar = reformat(frame, *size, format=pixels, interpolation=interpolation, threads=1, **conversion)
        if not self.display.ordinary:
            return self.display.proxy_of_integers(planar.to_ndarray())
        green, blue, red = (np.asarray(p).reshape(p.height, p.line_size)[:, : p.width] for p in planar.planes)
        return cv2.merge([red, green, blue])


class _Tools(threading.local):
    """FFmpeg's scaler and crop filter, which only one thread may use: every thread has its own."""

    def __init__(self) -> None:
        self.reformatter, self.thinner = VideoReformatter(), VideoReformatter()
        self._graph: Any = None
        self._crop: Any = None
        self._of: tuple[Any, ...] = ()
        self._box: Box = (0, 0, 0, 0)

    def cropped(self, frame: av.VideoFrame, box: Box) -> av.VideoFrame:
        """A region of a frame, which shares its memory."""
        if self._of != (of := (frame.width, frame.height, frame.format.name)):
            self._graph, self._of, self._box = av.filter.Graph(), of, (0, 0, frame.width, frame.height)
            begin = self._graph.add_buffer(
                width=frame.width, height=frame.height, format=frame.format, time_base=Fraction(1, 1000)
            )
            self._crop, end = self._graph.add("crop", "iw:ih:0:0"), self._graph.add("buffersink")
            begin.link_to(self._crop)
            self._crop.link_to(end)
            self._graph.configure()
        if box != self._box:
            left, top, right, bottom = self._box = box
            # the place first: a size that does not fit at the last one is refused
            for name, value in (("x", 0), ("y", 0), ("w", right - left), ("h", bottom - top), ("x", left), ("y", top)):
                self._crop.process_command(name, str(value))
        self._graph.vpush(frame)
        region: av.VideoFrame = self._graph.vpull()
        return region


class DecodedPicture:
    """What a decoded frame shows; see `info.Picture`."""

    def __init__(self, frame: av.VideoFrame, to_rgb: ToRgb) -> None:
        self._frame: Any = frame  # None once it is converted
        self._to_rgb = to_rgb
        self._whole: np.ndarray | None = None
        self._seen: tuple[Box, np.ndarray] | None = None  # the last part that was made: others may lie in it
        width, height = to_rgb.upright_size(frame)
        self.shape: tuple[int, ...] = (height, width, 3)

    @property
    def whole(self) -> np.ndarray:
        """See `info.Picture`."""
        if self._whole is None:
            self._whole, self._frame = self._to_rgb(self._frame), None
        return self._whole

    def part(self, box: Box) -> np.ndarray:
        """See `info.Picture`."""
        left, top, right, bottom = box
        if self._whole is not None:
            return self._whole[top:bottom, left:right]
        if self._seen is None or not _within(box, self._seen[0]):
            self._seen = box, self._to_rgb.part(self._frame, box)
        (x, y, _, _), part = self._seen
        return part[top - y : bottom - y, left - x : right - x]

    def sparse(self, step: int) -> np.ndarray:
        """See `info.Picture`."""
        return self._to_rgb.sparse(self._frame, step) if self._whole is None else self._whole[::step, ::step]


def _within(box: Box, other: Box) -> bool:
    return box[0] >= other[0] and box[1] >= other[1] and box[2] <= other[2] and box[3] <= other[3]


class ToEncoder:
    """Pictures to the numbers that are encoded.

    Args:
        source: what the numbers of a picture stand for that is not RGB.
        colors: what the numbers of the result stand for; of another range than `source` where the codec knows one only.
        pixels: FFmpeg's name of the result's pixel format.
        field_order: of the interlaced ones among the frames, see `VideoInfo`.
    """

    def __init__(self, source: Colors, colors: Colors, pixels: str, field_order: str = "") -> None:
        self.source, self.colors, self.pixels, self.field_order = source, colors, pixels, field_order
        self.tag: Tag | None = None
        self.interlaced: Tag | None = None
        self.by_fields: Any = None
        self.reformatter = VideoReformatter()

    def __call__(self, frame: av.VideoFrame) -> av.VideoFrame:
        """A frame in the format that is encoded; the very same frame where it is in that format already."""
        own, wanted, interlaced = self.source.conversion, self.colors.conversion, frame.interlaced_frame
        if frame.format.name == self.pixels and own == wanted:
            picture = frame
        elif frame.format.name.startswith("gray") and self.pixels.startswith("yuv"):
            picture = _gray_as_luma(frame, self.source.full_range, self.pixels, self.colors.full_range)
        elif frame.interlaced_frame and layout(frame.format.name).down != layout(self.pixels).down:
            self.by_fields = self.by_fields or self._graph(frame)
            self.by_fields.vpush(self._aligned(frame))
            picture = self.by_fields.vpull()
        else:
            known = {} if frame.format.is_rgb else {f"src_{name}": value for name, value in own.items()}
            frame = self._aligned(frame)
            picture = self.reformatter.reformat(
                frame, format=self.pixels, interpolation=_EXACT_BACK if frame.format.is_rgb else _EXACT, threads=1,
                dst_colorspace=wanted["colorspace"], dst_color_range=wanted["color_range"], **known,
            )  # fmt: skip
        if interlaced:
            self.interlaced = self.interlaced or Tag((frame.width, frame.height), self.pixels, 0, self.field_order)
            picture = self.interlaced(picture)
        picture.colorspace, picture.color_range = self.colors.matrix, FULL if self.colors.full_range else LIMITED
        # ProRes takes these from the picture, not from the encoder
        picture.color_primaries, picture.color_trc = self.colors.primaries, self.colors.transfer
        return picture

    def _aligned(self, frame: av.VideoFrame) -> av.VideoFrame:
        """A frame whose chroma the scaler leaves where it is in directions in which the result has as many samples.

        The scaler puts chroma into the middle, so it is told that it lies there.
        """
        if self.tag is None:
            self.tag = self._tag(frame)
        return self.tag(frame)

    def _graph(self, frame: av.VideoFrame) -> av.filter.Graph:
        """Conversion of each field by itself, for chroma between lines of one moment."""
        ends = {"in": self.source.conversion, "out": self.colors.conversion}
        arguments = [
            f"{end}_color_matrix={_MATRIX_NAMES[said['colorspace']]}:{end}_range={said['color_range']}"
            for end, said in ends.items()
        ]
        flags = "bicubic+accurate_rnd+full_chroma_int+full_chroma_inp"
        return graph_of(
            {"width": frame.width, "height": frame.height, "format": frame.format, "time_base": Fraction(1, 1000)},
            ("scale", f"interl=1:flags={flags}:{':'.join(arguments)}"),
            ("format", self.pixels),
        )

    def _tag(self, frame: av.VideoFrame) -> Tag:
        have, wanted = layout(frame.format.name), layout(self.pixels)
        place = centred(self.source.chroma_place, have.across == wanted.across, have.down == wanted.down)
        return Tag((frame.width, frame.height), frame.format.name, place)


def _gray_as_luma(frame: av.VideoFrame, full: bool, pixels: str, full_wanted: bool) -> av.VideoFrame:
    """A gray picture as luma between gray chroma; FFmpeg's scaler changes the numbers where it need not."""
    picture = av.VideoFrame(frame.width, frame.height, pixels)
    have, bits = layout(frame.format.name).bits, layout(pixels).bits
    gray, (luma, *chroma) = views(frame)[0], views(picture)
    if (have, full) != (bits, full_wanted):
        (black, white), (low, high) = black_and_white(have, full), black_and_white(bits, full_wanted)
        gray = np.rint((gray.astype(np.float32) - black) * ((high - low) / (white - black)) + low).clip(0, 2**bits - 1)
    luma[...] = gray
    for plane in chroma[:2]:
        plane[...] = 2 ** (bits - 1)
    for plane in chroma[2:]:
        plane[...] = 2**bits - 1
    return picture


def colors_of(frame: av.VideoFrame) -> Colors:
    """A decoded frame's colours.

    RGB counts as BT.709 in limited range (BT.2020 where its primaries are), which is how it is written where it must become
    Y'CbCr. Gray pictures have the full range unless they say otherwise.
    """
    name = frame.format.name
    if is_float(name):  # scene-linear light, to which no tag applies
        return Colors()
    primaries, transfer = int(frame.color_primaries), int(frame.color_trc)
    about = layout(name)
    if about.rgb or about.gray:
        primaries, transfer = (BT709 if value == UNSPECIFIED else value for value in (primaries, transfer))
        matrix = BT2020 if primaries == BT2020 else BT709
        return Colors(matrix, about.gray and frame.color_range != LIMITED, primaries, transfer)
    full = frame.color_range == FULL or name.startswith("yuvj")
    matrix = int(frame.colorspace)
    if matrix not in MATRICES and matrix != UNSPECIFIED:
        matrix = BT709
    return Colors(matrix, full, primaries, transfer)


def chroma_place(frame: av.VideoFrame, stream: Any) -> int:
    """Where the chroma samples of a stream's frames lie, AVCHROMA_LOC_*; 0 where it does not say, or at the bottom of their rows.

    PyAV does not hand it out, and FFmpeg's log, which tells it, cannot be read while other threads decode: PyAV would wait for
    them and they for PyAV. Matroska's muxer writes it into a header (ChromaSitingHorz, ChromaSitingVert), which is made here.
    """
    about = layout(frame.format.name)
    if about.across == about.down == 1:
        return 0
    header = io.BytesIO()
    try:
        with av.open(header, "w", format="matroska") as container:
            container.add_stream_from_template(stream, opaque=True)
            container.start_encoding()
    except (av.FFmpegError, ValueError):  # pictures that Matroska does not hold
        return 0
    found = re.search(rb"\x55\xb7\x81(.)\x55\xb8\x81(.)", header.getvalue(), re.DOTALL)
    return PLACES.index(SITING[found[1][0], found[2][0]]) if found else 0


def field_order(frame: av.VideoFrame, stream: Any) -> str:
    """The order of the fields of a decoded frame, see `VideoInfo`; PyAV does not hand it out, but a filter tells it."""
    if not frame.interlaced_frame:
        return ""
    graph = filter_graph(stream, "select", "expr=eq(interlace_type,TOPFIRST)")
    graph.vpush(frame)
    try:
        graph.vpull()
    except av.error.BlockingIOError:  # it is passed over
        return "bff"
    return "tff"


def mastering_of(frame: av.VideoFrame) -> Mastering:
    """The HDR metadata of a decoded frame."""
    display = light = None
    if (side := side_data(frame, "MASTERING_DISPLAY_METADATA")) is not None:
        numbers = np.frombuffer(side[:88], np.int32)
        values = numbers[:20:2] / np.maximum(numbers[1:20:2], 1)
        if (
            numbers[20] and numbers[21]
        ):  # libavutil/mastering_display_metadata.h: white before light, least light before most
            steps = np.rint(np.concatenate([values[:8] * 50000, values[[9, 8]] * 10000]))
            display = tuple(int(v) for v in steps)
    if (side := side_data(frame, "CONTENT_LIGHT_LEVEL")) is not None:
        most, mean = np.frombuffer(side[:8], np.uint32)
        light = (int(most), int(mean))
    return Mastering(display, light)


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
