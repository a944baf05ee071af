"""What a clip is, what one of its pictures is, and how its numbers stand for colours."""

from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Protocol

import av
import numpy as np

from cmet_engine.media.clock import Clock
from cmet_engine.media.display import ORDINARY, Display

MIN_TIMESCALE = 90_000  # ticks a second of written files: fine enough for any variable rate
UNSPECIFIED = 2  # AVCOL_SPC_UNSPECIFIED, AVCOL_PRI_UNSPECIFIED, AVCOL_TRC_UNSPECIFIED
BT709 = 1
BT2020 = 9
BT601 = 6
MATRICES = {1, 4, 5, 6, 7, 9}  # AVColorSpace values that FFmpeg's scaler converts
LIMITED, FULL = 1, 2  # AVCOL_RANGE_MPEG, AVCOL_RANGE_JPEG
ONE_MOMENT = "the first field of each frame is made into a whole picture, and the result is progressive"
"""What is done with interlaced pictures where they cannot stay so."""


@dataclass(frozen=True)
class Colors:
    """How a clip's numbers stand for colours; values are FFmpeg's AVCOL_* codes.

    Attributes:
        matrix: from RGB to luma and chroma; 2 means the clip does not say.
        full_range: luma covers 0 to 255 instead of 16 to 235.
        primaries, transfer: kept as they are; no conversion uses them.
        chroma_place: where a chroma sample lies among its luma samples, AVCHROMA_LOC_*; 0 means the clip does not say.
    """

    matrix: int = BT709
    full_range: bool = False
    primaries: int = BT709
    transfer: int = BT709
    chroma_place: int = 0

    @property
    def conversion(self) -> dict[str, int]:
        """Matrix and range as the scaler takes them."""
        return {
            "colorspace": self.matrix if self.matrix in MATRICES else BT601,
            "color_range": FULL if self.full_range else LIMITED,
        }


@dataclass(frozen=True)
class Mastering:
    """What an HDR clip says about the screen that it was graded on, and about its light.

    Attributes:
        display: chromaticity x, y of red, green, blue and white in steps of 1/50000, then most and least light in steps of
            1/10000 cd/m2 (SMPTE ST 2086); None where the clip does not say.
        light: most light of a pixel, and most mean light of a picture, cd/m2 (CTA-861.3: MaxCLL, MaxFALL); None likewise.
    """

    display: tuple[int, ...] | None = None
    light: tuple[int, int] | None = None


@dataclass(frozen=True)
class VideoInfo:
    """What a clip is, as measured from its packets rather than believed from its header.

    Attributes:
        path: the file, folder or pattern.
        width, height: pixels as displayed, rotation applied.
        fps: frames a second, exact; the mean rate where `variable`.
        variable: frames are not evenly spaced.
        frames: how many frames the file holds; a damaged one may decode to fewer.
        duration: seconds from the first frame to the end of the last.
        has_audio: there is sound.
        rotation: degrees clockwise by which the stored pictures are turned to be displayed: 0, 90, 180 or 270.
        field_order: of interlaced pictures, "tff" where the lines from the top one on are shown first, "bff" where the others are;
            empty where there are no fields, or their lines do not lie across the upright picture.
        bit_depth: bits of each stored colour value.
        codec: FFmpeg's name of the video codec.
        colors: matrix and range of the stored pictures.
        display: how their colours are shown.
        pixels: FFmpeg's name of the planar format that holds the upright pictures' own numbers; "" where that is none (floats).
        mastering: HDR metadata.
        pixel_aspect: width of a pixel over its height; 1 nearly always.
        time_base: seconds of one tick of the clip's time stamps.
        offset: seconds by which the first frame comes later than the beginning of the file (sound may begin before it).
        timecode: label of the first frame, `HH:MM:SS:FF` (`HH:MM:SS;FF` for drop-frame); empty where the file has none.
        reel: name of the reel or card that it was recorded on; empty where it does not say.
        created: when it was recorded, as FFmpeg writes it (`2024-05-06T07:08:09.000000Z`); empty where it does not say.
        begins, whole: seconds at which a part of a clip begins, and that the whole clip lasts.
        clock: how the time stamps of its file are read.
        warnings: sentences about what is wrong with the file, to show to the user.
    """

    path: Path
    width: int
    height: int
    fps: Fraction
    variable: bool
    frames: int | None
    duration: float
    has_audio: bool
    rotation: int
    bit_depth: int
    field_order: str = ""
    codec: str = ""
    colors: Colors = Colors()
    display: Display = ORDINARY
    pixels: str = ""
    mastering: Mastering = Mastering()
    pixel_aspect: Fraction = Fraction(1)
    time_base: Fraction = Fraction(1, MIN_TIMESCALE)
    offset: Fraction = Fraction(0)
    begins: float = 0.0
    whole: float = 0.0
    timecode: str = ""
    reel: str = ""
    created: str = ""
    clock: Clock = field(default_factory=Clock)
    warnings: tuple[str, ...] = ()

    @property
    def identity(self) -> dict[str, str]:
        """What identifies the footage in an edit, as FFmpeg's tags: start timecode, reel and time of recording."""
        tags = {"timecode": self.timecode, "reel_name": self.reel, "creation_time": self.created}
        return {name: value for name, value in tags.items() if value}


class Picture(Protocol):
    """What a frame shows, made into RGB as far as somebody looks at it.

    Attributes:
        shape: height, width, 3.
        whole: uint8 [H, W, 3] RGB, upright, made once.
    """

    @property
    def shape(self) -> tuple[int, ...]:
        """See above."""

    @property
    def whole(self) -> np.ndarray:
        """See above."""

    def part(self, box: tuple[int, int, int, int]) -> np.ndarray:
        """uint8 [h, w, 3]: the region left, top, right, bottom of `whole`."""

    def sparse(self, step: int) -> np.ndarray:
        """uint8 [h, w, 3]: about every `step`-th pixel across and down."""


class Frame:
    """One picture of a clip.

    Args:
        index, time, source, fields: see below.
        picture: what it shows: an array as `image`, or what makes one when it is asked for.

    Attributes:
        index: 0 for the first.
        time: seconds from the first frame, exact.
        source: the same picture in `VideoInfo.pixels`, upright, the caller's own; None where nobody asked for it.
        fields: of an interlaced picture whose two moments were asked for, a whole picture of each, the first one's `image` being
            this one's; in `source` their lines alternate.
    """

    def __init__(
        self,
        index: int,
        time: Fraction,
        picture: np.ndarray | Picture,
        source: av.VideoFrame | None = None,
        fields: "tuple[Frame, Frame] | None" = None,
    ) -> None:
        self.index, self.time, self.picture, self.source, self.fields = index, time, picture, source, fields

    @property
    def image(self) -> np.ndarray:
        """uint8 [H, W, 3] RGB, upright; the caller's own, free to change."""
        return self.picture if isinstance(self.picture, np.ndarray) else self.picture.whole

    @property
    def shape(self) -> tuple[int, ...]:
        """Of `image`."""
        return self.picture.shape

    def part(self, box: tuple[int, int, int, int]) -> np.ndarray:
        """The region left, top, right, bottom of `image`, which need not be made whole for that."""
        return cut(self.picture, box) if isinstance(self.picture, np.ndarray) else self.picture.part(box)

    def sparse(self, step: int) -> np.ndarray:
        """About every `step`-th pixel of `image`, which need not be made whole for that."""
        return self.picture[::step, ::step] if isinstance(self.picture, np.ndarray) else self.picture.sparse(step)


def cut(image: np.ndarray | Frame, box: tuple[int, int, int, int]) -> np.ndarray:
    """The region left, top, right, bottom of a picture."""
    left, top, right, bottom = box
    return image[top:bottom, left:right] if isinstance(image, np.ndarray) else image.part(box)
