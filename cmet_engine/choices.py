"""What may be chosen in a description of work: the values of `spec`'s fields and of the command line's options.

Standard library only, so that `cmet --help` can show them without loading pydantic.
"""

from typing import Literal

Mode = Literal["add", "replace"]
Renderer = Literal["warp", "edtalk", "none"]
Quality = Literal["auto", "draft", "standard", "best"]
VideoFormat = Literal["mp4", "m4v", "mov", "mkv", "webm", "mxf", "png", "exr"]
"""The last two are numbered pictures."""
Codec = Literal[
    "h264", "hevc", "prores", "prores_hq", "prores_4444", "dnxhr_lb", "dnxhr_sq", "dnxhr_hq", "dnxhr_hqx", "dnxhr_444", "ffv1", "vp9"
]  # fmt: skip
"""Of a movie; `media.formats.CODEC_OUT` says which files each goes into."""
TrackFormat = Literal["npz", "csv", "json"]
DEVICES = ("auto", "cpu", "cuda", "mps")
"""Kinds of devices that networks run on; `cuda:1` names one of several GPUs."""
FbxPreset = Literal["unreal", "unity", "maya"]
Easing = Literal["smooth", "linear", "step"]
