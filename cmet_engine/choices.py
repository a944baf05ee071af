"""What may be chosen in a description of work: the values of `spec`'s fields and of the command line's options.

Standard library only, so that `cmet --help` can show them without loading pydantic.
"""

from pathlib import Path
from typing import Literal, NamedTuple

Mode = Literal["add", "replace"]
Renderer = Literal["auto", "warp", "liveportrait", "performrecast", "edtalk", "none"]
"""`auto` is `warp`."""
CurvesRenderer = Literal["auto", "warp", "liveportrait", "performrecast", "edtalk"]
"""Those that render curves."""
PORTRAITS = ("liveportrait", "performrecast")
"""Those of them that draw the face anew, driven by the draft of `warp`."""
Quality = Literal["auto", "draft", "standard", "best"]
VideoFormat = Literal["mp4", "m4v", "mov", "mkv", "webm", "mxf", "png", "tif", "dpx", "exr"]
PICTURES = ("png", "tif", "dpx", "exr")
"""Those of them that are numbered pictures."""
Codec = Literal[
    "h264", "hevc", "prores", "prores_hq", "prores_4444", "dnxhr_lb", "dnxhr_sq", "dnxhr_hq", "dnxhr_hqx", "dnxhr_444", "ffv1", "vp9"
]  # fmt: skip
"""Of a movie."""

_ANY_MP4 = (".mp4", ".m4v", ".mov", ".mkv")

CODEC_OUT: dict[str, tuple[str, ...]] = {
    "h264": _ANY_MP4, "hevc": _ANY_MP4, "prores": (".mov",), "prores_hq": (".mov",), "prores_4444": (".mov",),
    **dict.fromkeys(("dnxhr_lb", "dnxhr_sq", "dnxhr_hq", "dnxhr_hqx", "dnxhr_444"), (".mov", ".mxf")),
    "ffv1": (".mkv",), "vp9": (".webm",),
}  # fmt: skip
"""The movies that each codec goes into."""

CODEC_TITLES = {
    "h264": "H.264", "hevc": "HEVC", "prores": "ProRes 422", "prores_hq": "ProRes 422 HQ", "prores_4444": "ProRes 4444",
    "dnxhr_lb": "DNxHR LB", "dnxhr_sq": "DNxHR SQ", "dnxhr_hq": "DNxHR HQ", "dnxhr_hqx": "DNxHR HQX", "dnxhr_444": "DNxHR 444",
    "ffv1": "FFV1", "vp9": "VP9",
}  # fmt: skip
"""What people call them."""

RATE_FACTOR_CODECS = ("h264", "hevc", "vp9")
"""Those of them that have a rate factor."""

COLOR_SPACES = (
    "ACEScg", "ACES2065-1", "LogC3", "LogC4", "S-Log3", "V-Log", "PQ", "HLG", "sRGB", "Rec.709", "Rec.2020",
)  # fmt: skip
"""Usual colour spaces of footage; any other that the OpenColorIO configuration knows may be named."""

TrackFormat = Literal["npz", "csv", "json"]
ExportFormat = Literal["npz", "csv", "json", "fbx", "glb", "usdc", "usd", "usda", "usdz", "abc", "blend"]
DEVICES = ("auto", "cpu", "cuda", "mps")
"""Kinds of devices that networks run on; `cuda:1` names one of several GPUs."""
FbxPreset = Literal["unreal", "unity", "maya"]
TakeFormat = Literal["livelink", "audio2face", "audio2face-csv", "facecap", "ifacialmocap", "mediapipe"]
"""Of a track's file; see `take_formats`."""
Easing = Literal["smooth", "linear", "step", "natural"]
View = Literal["edited", "source", "difference", "landmarks", "matte"]
"""What a picture of a moment shows: the edit, the clip as it is, four times their difference, the landmarks that the edit moves, or
the edit with red where it changed the clip."""


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
