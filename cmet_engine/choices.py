"""What may be chosen in a description of work: the values of `spec`'s fields and of the command line's options.

Standard library only, so that `cmet --help` can show them without loading pydantic.
"""

from pathlib import Path
from typing import Literal, NamedTuple

Mode = Literal["add", "replace"]
Renderer = Literal["warp", "edtalk", "none"]
Quality = Literal["auto", "draft", "standard", "best"]
VideoFormat = Literal["mp4", "m4v", "mov", "mkv", "webm", "mxf", "png", "tif", "dpx", "exr"]
PICTURES = ("png", "tif", "dpx", "exr")
"""Those of them that are numbered pictures."""
Codec = Literal[
    "h264", "hevc", "prores", "prores_hq", "prores_4444", "dnxhr_lb", "dnxhr_sq", "dnxhr_hq", "dnxhr_hqx", "dnxhr_444", "ffv1", "vp9"
]  # fmt: skip
"""Of a movie; `media.formats.CODEC_OUT` says which files each goes into."""
TrackFormat = Literal["npz", "csv", "json"]
DEVICES = ("auto", "cpu", "cuda", "mps")
"""Kinds of devices that networks run on; `cuda:1` names one of several GPUs."""
FbxPreset = Literal["unreal", "unity", "maya"]
Easing = Literal["smooth", "linear", "step"]


MATTE_CHANNEL = "channel"
"""Asks for the matte as a channel of the result's OpenEXR files in place of a file."""


class InputSpace(NamedTuple):
    """What the user says about the colours of a clip.

    Attributes:
        name: of a colour space; None is guessed from the clip.
        config: the user's OpenColorIO configuration; None is the one that `$OCIO` names, else the built-in one.
    """

    name: str | None = None
    config: Path | None = None


GUESSED = InputSpace()
