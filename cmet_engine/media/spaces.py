"""Which colour space a clip is in, as far as it says, and the sentence about it."""

from pathlib import Path

import numpy as np

from cmet_engine.choices import GUESSED, InputSpace
from cmet_engine.media import ocio, openexr
from cmet_engine.media.display import DISPLAYED_LIGHT
from cmet_engine.media.info import BT2020, Colors, VideoInfo

PQ, HLG = 16, 18  # AVCOL_TRC_SMPTE2084, AVCOL_TRC_ARIB_STD_B67
_SDR_2020 = (14, 15)  # AVCOL_TRC_BT2020_10, AVCOL_TRC_BT2020_12

DISPLAYED = "cmetDisplayedLight"
"""Attribute of the OpenEXR files that we write from SDR: their light is that of a screen, white is 1 and nothing is brighter."""

_PRIMARIES = {
    "lin_rec709": openexr.REC709,
    "ACEScg": (0.713, 0.293, 0.165, 0.830, 0.128, 0.044, 0.32168, 0.33767),
    "ACES2065-1": (0.7347, 0.2653, 0.0, 1.0, 0.0001, -0.077, 0.32168, 0.33767),
    "lin_rec2020": (0.708, 0.292, 0.170, 0.797, 0.131, 0.046, 0.3127, 0.3290),
    "lin_p3d65": (0.680, 0.320, 0.265, 0.690, 0.150, 0.060, 0.3127, 0.3290),
}
"""Scene-linear spaces by x and y of their primaries and white."""


def is_float(pixels: str) -> bool:
    """Whether a pixel format, by FFmpeg's name, holds floating point numbers."""
    return "f16" in pixels or "f32" in pixels


def guessed(colors: Colors, floats: bool, picture: Path | None = None) -> tuple[str, str]:
    """The space that a clip's tags or header speak of: its name, and why, for a message.

    Args:
        colors: of the clip.
        floats: its values are floating point, which means scene-linear light.
        picture: the clip's first OpenEXR file.
    """
    if floats:
        return _of_header(openexr.read_header(picture) if picture and picture.is_file() else {})
    if colors.transfer in (PQ, HLG):
        return ("PQ" if colors.transfer == PQ else "HLG"), "HDR by its tags"
    if colors.transfer in _SDR_2020 and colors.primaries == BT2020:
        return "Rec.2020", "of wide gamut by its tags"
    return "sRGB", ""


def _of_header(header: openexr.Header) -> tuple[str, str]:
    if DISPLAYED in header:
        return DISPLAYED_LIGHT, ""
    named = openexr.text(header, "colorInteropID")
    if named and (space := ocio.built_in(named)) is not None and space.encoding == "scene-linear":
        return space.name, "scene-linear by its header"
    if "acesImageContainerFlag" in header:
        return "ACES2065-1", "scene-linear by its header"
    said = openexr.chromaticities(header)
    if said is None:
        return "lin_rec709", "scene-linear, and says nothing of its primaries"
    for name, known in _PRIMARIES.items():
        if np.allclose(said, known, atol=2e-3):
            return name, "scene-linear by its header"
    return "lin_rec709", "scene-linear with primaries of no known space"


def of_result(info: VideoInfo, suffix: str, space: InputSpace) -> InputSpace:
    """What is to be said about the colours of a result, to read it again.

    It is in the clip's own space; but scene-linear light goes as a display picture into all but OpenEXR, and into that nothing else
    than linear light.

    Args:
        info: of the clip.
        suffix: of the result.
        space: what was said about the clip.
    """
    return space if is_float(info.pixels) == (suffix.lower() == ".exr") else GUESSED


def sentence(clip: str, space: str, reason: str) -> str:
    """What the user is told about a space that was guessed."""
    return (
        f"{clip} is {reason}: taken as {space} (--colorspace names another); tracked and rendered as a display shows it, "
        "and written back in its own space where the output holds it."
    )
