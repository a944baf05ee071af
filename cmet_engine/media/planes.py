"""A picture in its clip's own pixel format: RGB read from its planes, and a change of RGB written back into them.

Y'CbCr is linear in R'G'B', so a change of colours is added to the samples that are there: what nobody changed keeps its bits, and
what was changed is rounded once, at the format's own depth. Alpha is never touched.
"""

import functools
from fractions import Fraction
from typing import Any, NamedTuple

import av
import cv2
import numpy as np
from av.video.reformatter import Interpolation, VideoReformatter

from cmet_engine.media.info import FULL, LIMITED, Colors

Box = tuple[int, int, int, int]
"""Left, top, right, bottom in pixels; right and bottom do not belong to it."""

UNKNOWN, LEFT, CENTER, TOP_LEFT, TOP, BOTTOM_LEFT, BOTTOM, RIGHT, TOP_RIGHT, BOTTOM_RIGHT = range(10)
"""Where a chroma sample lies among its luma samples, AVCHROMA_LOC_*: in the middle of their left edge, of all of them, …; the last
three, which turned pictures have, FFmpeg does not know."""

PLACES = ("unspecified", "left", "center", "topleft", "top", "bottomleft", "bottom", "center", "top", "bottom")
"""FFmpeg's names of them, of the last three the nearest that it has."""

_SHARES = {
    LEFT: (0, 0.5), CENTER: (0.5, 0.5), TOP_LEFT: (0, 0), TOP: (0.5, 0), BOTTOM_LEFT: (0, 1), BOTTOM: (0.5, 1), RIGHT: (1, 0.5),
    TOP_RIGHT: (1, 0), BOTTOM_RIGHT: (1, 1),
}  # fmt: skip
"""How far right and down each lies, from the first to the last of the luma samples."""

_WEIGHTS = {1: (0.2126, 0.0722), 4: (0.30, 0.11), 7: (0.212, 0.087), 9: (0.2627, 0.0593)}
"""Shares of red and blue in luma by AVCOL_SPC_*; the others that FFmpeg's scaler converts have those of BT.601."""

_EXACT = (
    Interpolation.BICUBIC | Interpolation.ACCURATE_RND | Interpolation.FULL_CHR_H_INT | Interpolation.FULL_CHR_H_INP
)


class Layout(NamedTuple):
    """What the numbers of a planar format are.

    Attributes:
        rgb, gray, alpha: whether it is RGB; has no colours; has alpha.
        bits: of a number.
        across, down: luma samples of one chroma sample.
        floats: numbers are floating point, 1 counting as white.
    """

    rgb: bool
    gray: bool
    alpha: bool
    bits: int
    across: int
    down: int
    floats: bool = False


def layout(name: str) -> Layout:
    """What is in a pixel format, by FFmpeg's name of it; of a packed one too."""
    about = av.VideoFormat(name, 64, 64)
    components = about.components
    alpha = name == "pal8" or any(c.is_alpha for c in components)
    colours = [c for c in components if not c.is_alpha]
    rgb = about.is_rgb or name == "pal8"
    chroma = colours[-1] if len(colours) == 3 and not rgb else None
    bits = 8 if name in ("pal8", "monob", "monow") else max(c.bits for c in components)
    return Layout(
        rgb, len(colours) == 1 and not rgb, alpha, bits, 64 // chroma.width if chroma else 1, 64 // chroma.height if chroma else 1,
        "f16" in name or "f32" in name,
    )  # fmt: skip


def planar_name(name: str, turned: bool = False) -> str | None:
    """The planar format that holds the same numbers as format `name`; None where they are a sensor's.

    Args:
        name: FFmpeg's name.
        turned: for pictures that are turned by 90 degrees; 4:2:2 becomes 4:4:0 or, where FFmpeg has no such format, 4:4:4.
    """
    about = av.VideoFormat(name, 64, 64)
    if about.is_bayer or name.startswith("xyz"):
        return None
    rgb, gray, alpha, bits, across, down, floats = layout(name)
    deep = f"{'f' if floats else ''}{bits}le" if bits > 8 else ""
    if gray and not alpha:
        return f"gray{deep}"
    if rgb or gray:
        return f"gbr{'a' if alpha else ''}p{deep}"
    if turned and across != down:
        names = {(2, 1): "440", (1, 2): "422"}
        name = f"yuv{names.get((across, down), '444')}p{deep}"
        return name if not alpha and bits in (8, 10, 12) else f"yuv{'a' if alpha else ''}444p{deep}"
    ratio = {(1, 1): "444", (2, 1): "422", (2, 2): "420", (4, 1): "411", (4, 4): "410", (1, 2): "440"}[across, down]
    return f"yuv{'a' if alpha else ''}{ratio}p{deep}"


def views(frame: av.VideoFrame) -> list[np.ndarray]:
    """The planes of a planar frame as arrays [h, w], uint8, uint16 or float, that write into it; RGB in the order G, B, R."""
    about = layout(frame.format.name)
    kind = np.dtype(f"{'f' if about.floats else 'u'}{(about.bits + 7) // 8}")
    planes = []
    for plane in frame.planes:
        rows = np.asarray(plane).reshape(-1, plane.line_size)[: plane.height]
        planes.append(rows.view(kind)[:, : plane.width])
    return planes


class Upright:
    """Decoded frames to upright frames in a planar format of the same numbers, each with memory of its own.

    Args:
        size: width and height of the upright pictures; a clip may change its size or format on the way.
        pixels: their format, of `planar_name`.
        colors: what the numbers stand for.
        orientation: transpose, left-right, up-down; see `colour.Orientation`.
        field_order: of the interlaced ones among the frames, see `VideoInfo`.
    """

    def __init__(
        self,
        size: tuple[int, int],
        pixels: str,
        colors: Colors,
        orientation: tuple[bool, bool, bool],
        field_order: str = "",
    ) -> None:
        self.size, self.pixels, self.colors, self.orientation = size, pixels, colors, orientation
        self.stored = pixels if not orientation[0] else _transposed(pixels)
        self.reformatter = VideoReformatter()
        self.tagged = Tag(size, pixels, colors.chroma_place)
        self.woven = Tag(size, pixels, colors.chroma_place, field_order)

    def __call__(self, frame: av.VideoFrame) -> av.VideoFrame:
        """A frame in the format `pixels`, upright; interlaced where it is."""
        tag = self.woven if frame.interlaced_frame else self.tagged
        transpose, left_right, up_down = self.orientation
        size = self.size[::-1] if transpose else self.size
        if frame.format.name.replace("yuvj", "yuv") != self.stored or (frame.width, frame.height) != size:
            frame = self.reformatter.reformat(
                frame, *size, format=self.stored, interpolation=_EXACT, threads=1, **same_colours(self.colors)
            )
        result = tag(av.VideoFrame(*self.size, self.pixels))
        if not layout(self.pixels).rgb:
            result.colorspace, result.color_range = self.colors.matrix, FULL if self.colors.full_range else LIMITED
        for plane, target in zip(views(frame), views(result), strict=True):
            plane = plane.T if transpose else plane
            target[...] = plane[:: -1 if up_down else 1, :: -1 if left_right else 1]
        return result


def weave(target: av.VideoFrame, first: av.VideoFrame, second: av.VideoFrame, field_order: str) -> None:
    """Fill a planar frame with the lines of two fields, each in a whole picture of its moment; see `VideoInfo.field_order`."""
    start = 0 if field_order == "tff" else 1
    for plane, one, other in zip(views(target), views(first), views(second), strict=True):
        plane[start::2], plane[1 - start :: 2] = one[start::2], other[1 - start :: 2]


class Tag:
    """Says in frames what FFmpeg's scaler and encoders heed and PyAV cannot set.

    Args:
        size: width and height of the frames.
        pixels: their format.
        place: of their chroma samples; nothing is said where it is unknown.
        field_order: see `VideoInfo`.
    """

    def __init__(self, size: tuple[int, int], pixels: str, place: int = UNKNOWN, field_order: str = "") -> None:
        about = layout(pixels)
        self.graph: Any = None
        says = [f"field_mode={field_order}"] if field_order else []
        if place != UNKNOWN and not about.across == about.down == 1:
            says.append(f"chroma_location={PLACES[place]}")
        if not says:
            return
        self.graph = av.filter.Graph()
        width, height = size
        begin = self.graph.add_buffer(
            width=width, height=height, format=av.VideoFormat(pixels), time_base=Fraction(1, 1000)
        )
        tag = self.graph.add("setparams", ":".join(says))
        end = self.graph.add("buffersink")
        begin.link_to(tag)
        tag.link_to(end)
        self.graph.configure()

    def __call__(self, frame: av.VideoFrame) -> av.VideoFrame:
        """A frame of the same planes that says it."""
        if self.graph is None:
            return frame
        self.graph.vpush(frame)
        tagged: av.VideoFrame = self.graph.vpull()
        return tagged


def turned_place(place: int, about: Layout, size: tuple[int, int], orientation: tuple[bool, bool, bool]) -> int:
    """Where chroma samples lie once a picture is turned.

    Args:
        place: in the stored picture.
        about: its format.
        size: width and height of the upright picture.
        orientation: see `colour.Orientation`.
    """
    if place == UNKNOWN or about.across == about.down == 1:
        return place
    transpose, left_right, up_down = orientation
    shares = list(_SHARES[place])
    ratios = [about.across, about.down]
    if transpose:
        shares.reverse()
        ratios.reverse()
    for axis, flip in enumerate((left_right, up_down)):
        if ratios[axis] == 1:
            shares[axis] = _SHARES[LEFT][axis]
        elif flip and size[axis] % ratios[axis] == 0:
            shares[axis] = 1 - shares[axis]
    return next(place for place, known in _SHARES.items() if known == tuple(shares))


def centred(place: int, across: bool, down: bool) -> int:
    """A place moved into the middle, across or down or both."""
    if place == UNKNOWN:
        return place
    right, below = _SHARES[place]
    shares = (0.5 if across else right, 0.5 if down else below)
    return next(place for place, known in _SHARES.items() if known == shares)


def proxy_place(colors: Colors) -> int:
    """Where FFmpeg's scaler takes chroma samples to lie when it makes 8-bit RGB (`colour.ToRgb`)."""
    return colors.chroma_place or CENTER


def same_colours(colors: Colors) -> dict[str, int]:
    """Arguments for the scaler to leave matrix and range alone."""
    return {f"{end}_{name}": value for end in ("src", "dst") for name, value in colors.conversion.items()}


def _transposed(pixels: str) -> str:
    """The format whose transposed planes are `pixels`."""
    swap = {"yuv440": "yuv422", "yuv422": "yuv440"}
    return swap.get(pixels[:6], pixels[:6]) + pixels[6:]


def read_rgb(frame: av.VideoFrame, box: Box, colors: Colors) -> np.ndarray:
    """The colours of a region: float32 [h, w, 3] RGB, 0 (black) to 255 (white), fractions kept and values beyond allowed.

    Args:
        frame: in a planar format.
        box: the region.
        colors: what the frame's numbers stand for.
    """
    about, planes = layout(frame.format.name), views(frame)
    left, top, right, bottom = box
    if about.rgb or about.floats:
        white = 1 if about.floats else 2**about.bits - 1
        parts = [plane[top:bottom, left:right].astype(np.float32) * np.float32(255 / white) for plane in planes[:3]]
        return cv2.merge([parts[2], parts[0], parts[1]] if about.rgb else parts[:1] * 3)
    black, luma_step, chroma_step = _scales(colors, about)
    luma = (planes[0][top:bottom, left:right].astype(np.float32) - black) * luma_step
    if about.gray:
        return cv2.merge([luma, luma, luma])
    grid = _Grid.of(about, colors.chroma_place)
    grey = np.float32(2 ** (about.bits - 1))
    cb, cr = (grid.enlarged(plane, box, -grey, chroma_step) for plane in planes[1:3])
    of_red, of_blue = _WEIGHTS.get(colors.matrix, (0.299, 0.114))
    red, blue = luma + (2 - 2 * of_red) * cr, luma + (2 - 2 * of_blue) * cb
    green = (luma - of_red * red - of_blue * blue) / (1 - of_red - of_blue)
    return cv2.merge([red, green, blue])


def write_change(
    frame: av.VideoFrame,
    box: Box,
    before: np.ndarray,
    after: np.ndarray,
    colors: Colors,
    lighter: np.ndarray | None = None,
) -> None:
    """Add a change of colours to the samples of a frame.

    Args:
        frame: in a planar format; changed in place.
        box: the region.
        before, after: [h, w, 3] RGB of the region, 0 to 255, of one type: uint8 or float32.
        colors: what the frame's numbers stand for, and where its chroma lies in `before` and `after`.
        lighter: float32 [h, w] that is added to red, green and blue alike.
    """
    about, planes = layout(frame.format.name), views(frame)
    left, top, right, bottom = box
    part = slice(top, bottom), slice(left, right)
    top_value = 2**about.bits - 1
    if about.rgb or about.floats:
        change = cv2.subtract(after, before, dtype=cv2.CV_32F)
        if lighter is not None:
            change = change + lighter[..., None]
        red, green, blue = cv2.split(change)
        colours = (green, blue, red) if about.rgb else ((red + green + blue) / 3,)
        for plane, values in zip(planes, colours, strict=False):
            if about.floats:
                _add_floats(plane[part], values * np.float32(1 / 255))
            else:
                _add(plane[part], values * np.float32(top_value / 255), top_value)
        return
    of_red, of_blue = _WEIGHTS.get(colors.matrix, (0.299, 0.114))
    _, luma_step, chroma_step = _scales(colors, about)
    luma_of = np.array([of_red, 1 - of_red - of_blue, of_blue])
    chroma_of = [
        (colour - luma_of) / ((2 - 2 * share) * chroma_step)
        for colour, share in (((0, 0, 1), of_blue), ((1, 0, 0), of_red))
    ]
    matrix = np.array([luma_of / luma_step, *chroma_of], np.float32)
    chromas, luma_plane = np.empty((2, *after.shape[:2]), np.float32), planes[0][part]
    for start in range(0, len(after), _BAND):
        rows = slice(start, start + _BAND)
        change = cv2.transform(cv2.subtract(after[rows], before[rows], dtype=cv2.CV_32F), matrix)
        luma, chromas[0, rows], chromas[1, rows] = cv2.split(change)
        if lighter is not None:
            luma = cv2.scaleAdd(lighter[rows], 1 / float(luma_step), luma)
        _add(luma_plane[rows], luma, top_value)
    if about.gray:
        return
    grid = _Grid.of(about, colors.chroma_place)
    for plane, chroma in zip(planes[1:3], chromas, strict=True):
        (x0, y0, x1, y1), values = grid.reduced(chroma, box, (frame.width, frame.height))
        _add(plane[y0:y1, x0:x1], values, top_value)


def box_of(pixels: np.ndarray) -> Box | None:
    """The smallest region that holds every pixel of a mask, uint8 [H, W], that is not 0; None where there is none."""
    x, y, width, height = cv2.boundingRect(pixels)
    return (x, y, x + width, y + height) if width else None


def changed_pixels(before: np.ndarray, after: np.ndarray, least: float = 0) -> np.ndarray:
    """In which pixels a colour of two pictures [H, W, 3] differs by more than `least`: uint8 [H, W], 255 or 0."""
    red, green, blue = cv2.split(cv2.absdiff(before, after))
    furthest = cv2.max(cv2.max(red, green), blue)
    return cv2.threshold(furthest, least, 255, cv2.THRESH_BINARY)[1].astype(np.uint8, copy=False)


def black_and_white(bits: int, full: bool) -> tuple[int, int]:
    """The numbers of black and white luma in full or limited range."""
    return (0, 2**bits - 1) if full else (16 << bits - 8, 235 << bits - 8)


def _scales(colors: Colors, about: Layout) -> tuple[np.float32, np.float32, np.float32]:
    """The number of black, and what one step of luma and of chroma (-0.5 to 0.5 counting as one) is, of 255."""
    full = colors.full_range or about.gray
    black, white = black_and_white(about.bits, full)
    chroma = white if full else 224 << about.bits - 8
    return np.float32(black), np.float32(255 / (white - black)), np.float32(255 / chroma)


def _add(samples: np.ndarray, change: np.ndarray, most: int) -> None:
    """Add a change to samples, rounded and clipped to 0..`most`."""
    kind = cv2.CV_8U if samples.dtype == np.uint8 else cv2.CV_16U
    changed = cv2.add(samples, change, dtype=kind)  # rounds to the nearest, and clips to what the type holds
    samples[...] = changed if most == np.iinfo(samples.dtype).max else np.minimum(changed, most)


def _add_floats(samples: np.ndarray, change: np.ndarray) -> None:
    """Add a change to samples; those that it does not change, and that are no numbers, keep their bits."""
    changed = np.isfinite(change) & (change != 0) & np.isfinite(samples)
    most = float(np.finfo(samples.dtype).max)
    samples[changed] = np.clip(samples[changed] + change[changed], -most, most)


_ONE = np.ones(1, np.float32)
_CUBIC = -0.75  # of the cubic interpolation (OpenCV's INTER_CUBIC)
_BAND = 32  # rows that are worked on together: few enough for the processor's cache
_REACH = 3  # chroma samples that enlarging and averaging look at on either side


class _Axis(NamedTuple):
    """One direction of a chroma plane: luma samples per chroma sample, and where among them it lies."""

    ratio: int
    place: float

    @property
    def kernel(self) -> tuple[np.ndarray, int]:
        """Weights that average luma samples to a chroma sample, and which of them lies at its first luma sample."""
        if self.ratio == 1:
            return np.ones(1, np.float32), 0
        if self.place == (self.ratio - 1) / 2:
            return np.full(self.ratio, 1 / self.ratio, np.float32), 0
        weights = self.ratio - np.abs(np.arange(1 - self.ratio, self.ratio, dtype=np.float32))
        return weights / self.ratio**2, self.ratio - 1 - int(self.place)

    def between(self, sample: int) -> tuple[np.ndarray, int]:
        """Weights that interpolate chroma at luma samples, of which this is the `sample`th of a chroma sample, and which of the weights is
        that chroma sample's: Keys' cubic convolution, with OpenCV's parameter.
        """
        at = (sample - self.place) / self.ratio
        before = int(np.floor(at))
        t = at - before
        ends = [_CUBIC * (((x - 5) * x + 8) * x - 4) for x in (1 + t, 2 - t)]
        middle = ((_CUBIC + 2) * t - _CUBIC - 3) * t * t + 1
        return np.array([ends[0], middle, 1 - middle - sum(ends), ends[1]], np.float32), 1 - before

    def span(self, low: int, high: int, size: int) -> tuple[int, int]:
        """The chroma samples that luma samples `low` to `high` have a part in, of a plane `size` luma samples long."""
        last = -(-size // self.ratio)
        return max(low // self.ratio - 1, 0), min(-(-high // self.ratio) + 1, last)


@functools.cache
def _blurring(axis: _Axis) -> tuple[np.ndarray, int]:
    """What enlarging (`_Grid.enlarged`) and averaging do to chroma samples, as weights of them like `_Axis.kernel`."""
    weights, first = axis.kernel
    lines = np.eye(_REACH * 2 + 1, dtype=np.float32)
    at = (np.arange(len(weights)) - first - axis.place) / axis.ratio + _REACH
    places = at.astype(np.float32)[None].repeat(len(lines), 0)
    rows = np.arange(len(lines), dtype=np.float32)[:, None].repeat(len(weights), 1)
    return cv2.remap(lines, places, rows, cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE) @ weights, _REACH


class _Grid(NamedTuple):
    """How a chroma plane lies on the luma plane."""

    across: _Axis
    down: _Axis

    @classmethod
    def of(cls, about: Layout, place: int) -> "_Grid":
        right, down = _SHARES[place or LEFT]
        return cls(_Axis(about.across, right * (about.across - 1)), _Axis(about.down, down * (about.down - 1)))

    @property
    def whole(self) -> bool:
        return self.across.ratio == self.down.ratio == 1

    def enlarged(self, plane: np.ndarray, box: Box, add: Any = 0, times: Any = 1) -> np.ndarray:
        """(chroma + `add`) * `times` at the luma samples of `box`: float32 [h, w].

        Args:
            plane: chroma samples [h, w] of the whole picture.
            box: a region of the picture.
        """
        left, top, right, bottom = box
        if self.whole:
            return (plane[top:bottom, left:right].astype(np.float32) + add) * times
        (sx, sy), (rows, columns) = (self.across.ratio, self.down.ratio), plane.shape
        x0, y0 = max(left // sx - _REACH, 0), max(top // sy - _REACH, 0)
        x1, y1 = min(-(-right // sx) + _REACH, columns), min(-(-bottom // sy) + _REACH, rows)
        part = (plane[y0:y1, x0:x1].astype(np.float32) + add) * times
        result = np.empty((bottom - top, right - left), np.float32)
        for row in range(sy):  # of the luma samples of a chroma sample
            for column in range(sx):
                (kx, ax), (ky, ay) = self.across.between(column), self.down.between(row)
                values = _filtered(part, kx, ky, (ax, ay))
                own = result[(row - top) % sy :: sy, (column - left) % sx :: sx]
                x, y = -(-(left - column) // sx) - x0, -(-(top - row) // sy) - y0
                own[...] = values[y : y + own.shape[0], x : x + own.shape[1]]
        return result

    def reduced(self, values: np.ndarray, box: Box, size: tuple[int, int]) -> tuple[Box, np.ndarray]:
        """Chroma samples of values [h, w] that are given in `box` and zero elsewhere: their box on the chroma plane, and them.

        Averaging after enlarging would blur, and leave a ghost of the colours that were there: what averaging loses is added
        again. Samples none of whose luma samples changes stay zero.
        """
        left, top, right, bottom = box
        if self.whole:
            return box, values
        x0, x1 = self.across.span(left, right, size[0])
        y0, y1 = self.down.span(top, bottom, size[1])
        padded = cv2.copyMakeBorder(
            values, top - y0 * self.down.ratio, min(y1 * self.down.ratio, size[1]) - bottom,
            left - x0 * self.across.ratio, min(x1 * self.across.ratio, size[0]) - right, cv2.BORDER_CONSTANT,
        )  # fmt: skip
        (kx, ax), (ky, ay) = self.across.kernel, self.down.kernel
        rows = _every(padded, ky, ay, self.down.ratio)
        once = np.ascontiguousarray(_filtered(rows, kx, _ONE, (ax, 0))[:, :: self.across.ratio])
        (kx, ax), (ky, ay) = _blurring(self.across), _blurring(self.down)
        again = cv2.addWeighted(once, 2, _filtered(once, kx, ky, (ax, ay)), -1, 0)
        again[once == 0] = 0
        return (x0, y0, x1, y1), again


def _every(values: np.ndarray, weights: np.ndarray, first: int, ratio: int) -> np.ndarray:
    """Every so many rows of values [h, w] weighted downwards, as `_filtered` gives them."""
    count = -(-len(values) // ratio)
    beyond = max((count - 1) * ratio + len(weights) - first - len(values), 0)
    padded = cv2.copyMakeBorder(values, first, beyond, 0, 0, cv2.BORDER_REPLICATE) if first or beyond else values
    result: Any = None
    for k, weight in enumerate(weights.tolist()):
        rows = padded[k : k + (count - 1) * ratio + 1 : ratio]
        result = rows * np.float32(weight) if result is None else cv2.scaleAdd(rows, weight, result)
    return np.asarray(result)


def _filtered(values: np.ndarray, kx: np.ndarray, ky: np.ndarray, anchor: tuple[int, int]) -> np.ndarray:
    """Values [h, w] weighted by `kx` across and `ky` down; the last ones count again beyond the ends."""
    return cv2.sepFilter2D(values, -1, kx, ky, anchor=anchor, borderType=cv2.BORDER_REPLICATE)
