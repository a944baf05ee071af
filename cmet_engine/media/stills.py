"""Single pictures as the bytes of a file: PNG, TIFF, DPX, OpenEXR, each in the depth of what came in.

RGB and gray keep their numbers; alpha is kept. Y'CbCr becomes RGB. Scene-linear light goes into OpenEXR as it is, and into the
others as a 16-bit display picture; display-referred pictures go into OpenEXR as linear light (half floats, Rec.709).
"""

from dataclasses import replace
from fractions import Fraction
from typing import Any

import av
import numpy as np
from av.video.reformatter import Interpolation, VideoReformatter

from cmet_engine.errors import CmetError
from cmet_engine.media import openexr
from cmet_engine.media.display import ORDINARY, Display
from cmet_engine.media.info import Colors, VideoInfo
from cmet_engine.media.planes import layout, same_colours, views
from cmet_engine.media.spaces import DISPLAYED, is_float

MATTE = "matte"
"""Name of the channel that says what was changed."""

_EXACT = Interpolation.BICUBIC | Interpolation.ACCURATE_RND | Interpolation.FULL_CHR_H_INT
_OPTIONS = {"png": {"pred": "sub", "compression_level": "3"}, "tiff": {"compression_algo": "deflate"}}
_ENCODERS = {".png": "png", ".tif": "tiff", ".tiff": "tiff", ".dpx": "dpx"}
_DEPTHS = {"png": (8, 16), "tiff": (8, 16), "dpx": (8, 10, 12, 16)}
_PACKED = {
    (8, 1): "gray", (8, 3): "rgb24", (8, 4): "rgba", (10, 3): "gbrp10le", (12, 3): "gbrp12le",
    (16, 1): "gray16", (16, 3): "rgb48", (16, 4): "rgba64",
}  # fmt: skip
"""Formats that the encoders take, by bits and channels."""


class StillEncoder:
    """Frames to files.

    Args:
        suffix: of the files.
        colors, display: of the frames.
    """

    def __init__(self, suffix: str, colors: Colors, display: Display) -> None:
        self.suffix, self.colors, self.display = suffix, colors, display
        self.reformatter = VideoReformatter()

    def __call__(
        self,
        frame: av.VideoFrame,
        header: openexr.Header | None = None,
        matte: np.ndarray | None = None,
        further: dict[str, np.ndarray] | None = None,
    ) -> bytes:
        """A frame as the bytes of a file.

        Args:
            frame: of any format of `planes.planar_name`, or "rgb24".
            header: attributes of an OpenEXR file.
            matte: uint8 [H, W], a further channel of an OpenEXR file.
            further: channels of an OpenEXR file beside those of the frame.
        """
        if self.suffix == ".exr":
            channels = (further or {}) | _named(self._light(self._channels(frame)))
            if matte is not None:
                channels[MATTE] = (matte / np.float32(255)).astype(np.float16)
            return openexr.exr_bytes(channels, header)
        encoder = _ENCODERS[self.suffix]
        integers = self._channels(displayed(frame, self.display) if is_float(frame.format.name) else frame)
        depth = next(d for d in _DEPTHS[encoder] if d >= self.bits)
        if (depth, len(integers)) not in _PACKED:
            depth = 16
        packed = _scaled(np.stack(integers, 2), self.bits, depth)
        pixels = _PACKED[depth, len(integers)]
        if depth == 16:
            pixels += "be" if encoder == "png" else "le"
        picture = av.VideoFrame.from_ndarray(packed[..., 0] if len(integers) == 1 else packed, format=pixels)
        return self._encoded(encoder, picture)

    def attributes(self, fps: Fraction, *about: Any) -> openexr.Header:
        """What an OpenEXR file says about frames that come from none; arguments as of `openexr.described`."""
        mark = {DISPLAYED: openexr.Attribute("string", b"sRGB")} if self.display.ordinary else {}
        return {**openexr.described(openexr.REC709, fps, *about), **mark}

    def _channels(self, frame: av.VideoFrame) -> list[np.ndarray]:
        """Gray, or red, green and blue, each [H, W], and alpha; sets `bits`."""
        if frame.format.name == "rgb24":
            self.bits = 8
            return list(np.moveaxis(frame.to_ndarray(), 2, 0))
        about = layout(frame.format.name)
        if not (about.rgb or about.gray):
            about = about._replace(bits=8 if about.bits == 8 else 16)
            pixels = f"gbr{'a' if about.alpha else ''}p{'16le' if about.bits == 16 else ''}"
            matrix = {name: value for name, value in same_colours(self.colors).items() if name.startswith("src")}
            frame = self.reformatter.reformat(frame, format=pixels, interpolation=_EXACT, threads=1, **matrix)
        self.bits = about.bits
        planes = views(frame)
        return planes if len(planes) < 3 else [planes[2], planes[0], planes[1], *planes[3:]]

    def _light(self, channels: list[np.ndarray]) -> list[np.ndarray]:
        """Channels as they go into an OpenEXR file, float16 or float32."""
        if channels[0].dtype.kind == "f":
            return channels
        code = np.stack([channels[min(c, len(channels) - 1)] for c in range(3)], 2) / np.float32(2**self.bits - 1)
        light = list(np.moveaxis(self.display.linear(code), 2, 0))
        alpha = [channels[3] / np.float32(2**self.bits - 1)] if len(channels) == 4 else []
        return [
            channel.clip(-65504, 65504).astype(np.float16)
            for channel in (light[:1] if len(channels) == 1 else light) + alpha
        ]

    def _encoded(self, encoder: str, picture: av.VideoFrame) -> bytes:
        context: Any = av.CodecContext.create(encoder, "w")
        context.width, context.height, context.pix_fmt = picture.width, picture.height, picture.format.name
        context.time_base, context.options = Fraction(1, 25), _OPTIONS.get(encoder, {})
        picture.pts, picture.time_base = 0, Fraction(1, 25)
        picture.color_primaries, picture.color_trc = self.colors.primaries, self.colors.transfer
        data = b"".join(bytes(packet) for packet in [*context.encode(picture), *context.encode(None)])
        if not data:
            raise CmetError(f"A picture cannot be encoded as {encoder.upper()}.")
        return data


def displayed(frame: av.VideoFrame, display: Display) -> av.VideoFrame:
    """A frame of scene-linear light as a display picture of 16 bits, "gbrp16le" or with alpha "gbrap16le"."""
    about, planes = layout(frame.format.name), views(frame)
    green, blue, red = planes[:3] if about.rgb else planes[:1] * 3
    light = np.stack([red, green, blue], 2).astype(np.float32)
    shown = display.to_display(np.nan_to_num(light))
    alpha = [planes[-1].astype(np.float32)] if about.alpha else []
    picture = av.VideoFrame(frame.width, frame.height, "gbrap16le" if about.alpha else "gbrp16le")
    for target, values in zip(views(picture), [shown[..., 1], shown[..., 2], shown[..., 0], *alpha], strict=True):
        target[...] = np.rint(np.clip(values, 0, 1) * 65535)
    return picture


def displayed_info(info: VideoInfo, suffix: str) -> VideoInfo:
    """What a movie of `displayed` frames is to be like: 10 bits, in .mov with all colour samples, else as every player shows it."""
    alpha = layout(info.pixels).alpha
    pixels = "yuva444p10le" if alpha else "yuv444p10le" if suffix == ".mov" else "yuv420p10le"
    return replace(info, pixels=pixels, bit_depth=10, colors=Colors(), display=ORDINARY)


def display_note(info: VideoInfo, suffix: str) -> list[str]:
    """What is said where scene-linear light goes into a file that does not hold it."""
    if not is_float(info.pixels) or suffix == ".exr":
        return []
    bits = 16 if suffix in _ENCODERS else 10
    return [
        f"{suffix} holds no scene-linear light: it goes in as a display picture of {bits} bits; --format exr keeps it."
    ]


def _named(channels: list[np.ndarray]) -> dict[str, np.ndarray]:
    names = "Y" if len(channels) == 1 else "YA" if len(channels) == 2 else "RGBA"
    return dict(zip(names, channels, strict=False))


def _scaled(values: np.ndarray, bits: int, depth: int) -> np.ndarray:
    """Integers of `bits` as integers of `depth` bits, 0 to the largest; unchanged where both are the same."""
    if bits != depth:
        most, target = 2**bits - 1, 2**depth - 1
        values = (values.astype(np.uint64) * target + most // 2) // most
    return np.ascontiguousarray(values, np.uint8 if depth == 8 else np.uint16)
