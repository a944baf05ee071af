"""Clips in HDR, log and scene-linear spaces, made from pictures that look as sRGB does."""

from collections.abc import Iterable, Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np

from cmet_engine.choices import InputSpace
from cmet_engine.media.display import display_of, light_from_srgb, srgb_from_light
from cmet_engine.media.openexr import Header, exr_bytes
from cmet_engine.media.spaces import HLG, PQ

SAMPLE = Path(__file__).parents[3] / "cmet_engine/assets/sample/talking_head.mp4"
TAGS = {"PQ": (9, 9, PQ), "HLG": (9, 9, HLG)}
"""Matrix, primaries and transfer, AVCOL_*; the others have those of BT.709."""


def sample(frames: int, size: int, exposure: float = 1.0) -> Iterator[np.ndarray]:
    """The first frames of the sample as linear light, float32 [size, size, 3], white = `exposure`."""
    with av.open(str(SAMPLE)) as container:
        for index, frame in enumerate(container.decode(video=0)):
            if index == frames:
                return
            picture = cv2.resize(frame.to_ndarray(format="rgb24"), (size, size), interpolation=cv2.INTER_AREA)
            yield (light_from_srgb(picture / np.float32(255)) * exposure).astype(np.float32)


def stored(light: np.ndarray, space: str) -> np.ndarray:
    """Linear light, Rec.709, as the values of a space: float32 [H, W, 3]."""
    display = display_of(InputSpace(space))
    if display.ordinary:
        return srgb_from_light(light).astype(np.float32)
    assert display.from_light is not None and display.matrix is not None
    return display.from_light(light @ np.linalg.inv(display.matrix).T).astype(np.float32)


def write_movie(
    path: Path,
    pictures: Iterable[np.ndarray],
    space: str,
    codec: str = "ffv1",
    pixels: str = "yuv444p10le",
    **options: str,
) -> Path:
    """A movie in a space from pictures of linear light."""
    matrix, primaries, transfer = TAGS.get(space, (1, 1, 1))
    with av.open(str(path), "w") as container:
        stream: Any = container.add_stream(codec, rate=Fraction(25), options=options)
        context = stream.codec_context
        context.colorspace, context.color_primaries, context.color_trc, context.color_range = (
            matrix,
            primaries,
            transfer,
            1,
        )
        for index, light in enumerate(pictures):
            code = np.rint(stored(light, space).clip(0, 1) * 65535).astype(np.uint16)
            if not index:
                stream.width, stream.height, stream.pix_fmt = code.shape[1], code.shape[0], pixels
            frame = av.VideoFrame.from_ndarray(code, format="rgb48le")
            if not pixels.startswith("gbr"):
                frame = frame.reformat(format=pixels, dst_colorspace=matrix, dst_color_range=1)
                frame.colorspace, frame.color_range = matrix, 1
            frame.color_primaries, frame.color_trc = primaries, transfer
            frame.pts, frame.time_base = index, Fraction(1, 25)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def write_exrs(
    folder: Path, pictures: Iterable[np.ndarray], space: str, header: Header | None = None, kind: type = np.float16
) -> Path:
    """Numbered OpenEXR files of a scene-linear space from pictures of linear light."""
    folder.mkdir(exist_ok=True)
    for index, light in enumerate(pictures):
        planes = np.moveaxis(stored(light, space).astype(kind), 2, 0)
        (folder / f"shot.{1001 + index}.exr").write_bytes(exr_bytes(dict(zip("RGB", planes, strict=True)), header))
    return folder
