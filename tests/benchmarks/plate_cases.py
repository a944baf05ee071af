"""The plates that `plates.py` edits, and what each is written as."""

from collections.abc import Callable
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
from plate_clips import (
    ACESCG,
    MASTERED,
    TIMECODE,
    Movie,
    Sound,
    with_sound_of,
    write,
    write_dpx,
    write_exrs,
    write_pictures,
    write_trimmed,
)

_TRUEHD = Path(__file__).resolve().parents[3] / "shared/data/cases/media/07-sound-codec-stops-the-edit/truehd.mkv"
NTSC = Fraction(30000, 1001)
FILM = Fraction(24000, 1001)
_X265 = "log-level=error:crf=8"
_PRORES = {"vendor": "apl0"}
_AC3 = Sound("ac3", "5.1(side)")
_PCM24 = Sound("pcm_s24le")


@dataclass(frozen=True)
class Case:
    """A plate, and how it is edited.

    Attributes:
        name: of the plate.
        make: writes it into a folder and returns its path.
        outputs: `like` (`--like-source`), or a format, with a codec behind a slash: `mkv/ffv1`.
        fields: more of the `EditSpec`.
        claims: what the plate must be measured to be, so that the case shows what its name says: attributes of `VideoInfo` or `Facts`.
    """

    name: str
    make: Callable[[Path], Path]
    outputs: tuple[str, ...] = ("like", "mkv/ffv1")
    fields: dict[str, Any] = field(default_factory=dict)
    claims: dict[str, Any] = field(default_factory=dict)


def _movie(name: str, file: str, outputs: tuple[str, ...] | None = None, /, **about: Any) -> Case:
    fields, claims = about.pop("fields", {}), about.pop("claims", {})
    movie = Movie(**about)
    return Case(name, lambda folder: write(folder / file, movie), outputs or Case.outputs, fields, claims)


def _hevc(name: str, space: str, outputs: tuple[str, ...], transfer: int) -> Case:
    params = f"{_X265}:{MASTERED}:colorprim=9:transfer={transfer}:colormatrix=9:chromaloc=2"
    return _movie(
        name, "clip.mp4", outputs, codec="libx265", pixels="yuv420p10le", space=space,
        options={"x265-params": params}, claims={"bit_depth": 10},
    )  # fmt: skip


def _pictures(
    name: str, file: str, encoder: str, pixels: str, outputs: tuple[str, ...] = ("like",), **more: Any
) -> Case:
    frames = more.pop("frames", 16)
    return Case(
        name, lambda folder: write_pictures(folder / "shot", file, encoder, pixels, frames=frames), outputs, claims=more
    )  # fmt: skip


def _prores(name: str, profile: str, pixels: str, outputs: tuple[str, ...] | None = None, **about: Any) -> Case:
    sounds = about.pop("sounds", (_PCM24,))
    options = {**_PRORES, "profile": profile}
    return _movie(
        name, "clip.mov", outputs, codec="prores_ks", pixels=pixels, options=options, sounds=sounds, **about
    )  # fmt: skip


VIDEO = [
    _movie("H.264 4:2:0", "clip.mp4", ("like", "mkv/ffv1", "mov", "mxf", "webm", "png", "exr", "mp4/hevc")),
    _movie("H.264 4:2:2", "clip.mp4", pixels="yuv422p"),
    _movie("H.264 4:4:4", "clip.mp4", pixels="yuv444p"),
    _movie("full range", "clip.mp4", ("like", "mkv/ffv1", "mov"), full_range=True),
    _movie("BT.601", "clip.mp4", tags=(6, 6, 6)),
    _movie("no colour tags", "clip.mkv", tags=(2, 2, 2)),
    _movie("odd size", "clip.mkv", ("like", "mkv/ffv1", "mov"), pixels="yuv444p", size=(255, 257)),
    _movie("H.264 High 10", "clip.mp4", ("like", "mkv/ffv1", "mxf"), pixels="yuv420p10le", claims={"bit_depth": 10}),
    _hevc("HEVC 10-bit HLG", "HLG", ("like", "mkv/ffv1", "mov", "exr"), 18),
    _hevc("HEVC 10-bit PQ", "PQ", ("like", "mkv/ffv1", "mov", "webm"), 16),
    _prores("ProRes 422", "2", "yuv422p10le", about={"timecode": "01:00:00:00", "reel_name": "A001C002"}),
    _prores("ProRes HQ", "3", "yuv422p10le", sounds=(Sound("pcm_f32le"),)),
    _prores("ProRes 4444 with alpha", "4444", "yuva444p10le", ("like", "mkv/ffv1", "mp4", "exr", "png"), alpha=True),
    _prores(
        "log (LogC3)", "4444", "yuv444p10le", space="ARRI LogC3 (EI800)", fields={"colorspace": "LogC3"}
    ),
    _movie(
        "DNxHR HQX", "clip.mov", ("like", "mkv/ffv1", "mxf"), codec="dnxhd", pixels="yuv422p10le",
        options={"profile": "dnxhr_hqx"}, sounds=(_PCM24,), about={"timecode": "10:00:00:00"},
    ),
    _movie(
        "MXF", "clip.mxf", codec="dnxhd", pixels="yuv422p", options={"profile": "dnxhr_hq"}, sounds=(_PCM24,),
        about={"timecode": "10:00:00:00"}, claims={"timecode": "10:00:00:00"},
    ),
    _movie("FFV1 8 bit", "clip.mkv", ("like",), codec="ffv1"),
    _movie("FFV1 10 bit 4:2:2", "clip.mkv", ("like", "mp4"), codec="ffv1", pixels="yuv422p10le"),
    _movie("FFV1 16 bit 4:4:4", "clip.mkv", ("like", "mov"), codec="ffv1", pixels="yuv444p16le"),
    _movie("FFV1 gray 10 bit", "clip.mkv", ("like", "mp4"), codec="ffv1", pixels="gray10le", full_range=True),
    _movie("FFV1 rgb48", "clip.mkv", ("like", "dpx"), codec="ffv1", pixels="gbrp16le", claims={"bit_depth": 16}),
    _movie("VP9 and Opus", "clip.webm", codec="libvpx-vp9", options={"crf": "12", "b": "0", "deadline": "realtime", "cpu-used": "8"}, sounds=(Sound("libopus"),)),
    _movie("AVI/MJPEG", "clip.avi", codec="mjpeg", pixels="yuvj420p", full_range=True, options={"qmin": "2", "qmax": "2"}, sounds=(Sound("pcm_s16le"),)),
    _movie("MPEG-TS, 5.1 AC-3", "clip.ts", ("like", "mkv/ffv1", "webm"), sounds=(_AC3,)),
    _movie("M2TS", "clip.m2ts", ("like", "mkv/ffv1"), sounds=(_AC3,)),
    _movie("WMV", "clip.wmv", codec="wmv2", sounds=(Sound("wmav2", rate=44100),)),
    _movie("FLV", "clip.flv", codec="flv", sounds=(Sound("libmp3lame", rate=44100),)),
    _movie("3GP", "clip.3gp", codec="h263", size=(352, 288), sounds=(Sound("libopencore_amrnb", "mono", 8000),)),
    _movie("MPEG-2", "clip.mpg", codec="mpeg2video", sounds=(Sound("mp2"),)),
    _movie("DV", "clip.avi", codec="dvvideo", size=(720, 576), aspect=Fraction(16, 15), sounds=(Sound("pcm_s16le"),)),
]  # fmt: skip

TIME = [
    _movie(
        "VFR phone, turned", "clip.mp4", ("like", "mkv/ffv1", "png"), rotation=90,
        times=[0, .033, .066, .100, .150, .183, .216, .266, .3, .333, .4, .433, .466, .5, .55, .583],
        about={"creation_time": "2024-05-06T07:08:09.000000Z"}, claims={"variable": True, "rotation": 270},
    ),
    _movie("interlaced H.264", "clip.mov", ("like", "mkv/ffv1", "mov/prores_hq", "mp4/hevc", "png"), field_order="tff", claims={"field_order": "tff"}),
    _movie("interlaced MPEG-2", "clip.mpg", codec="mpeg2video", field_order="tff", sounds=(Sound("mp2"),), claims={"field_order": "tff"}),
    _prores("interlaced ProRes", "3", "yuv422p10le", ("like", "mkv/ffv1", "mp4"), field_order="bff", claims={"field_order": "bff"}),
    _movie(
        "interlaced DNxHD", "clip.mxf", ("like", "mkv/ffv1"), codec="dnxhd", pixels="yuv422p", size=(1920, 1080), frames=10,
        options={"b": "185M"}, field_order="tff", sounds=(_PCM24,), claims={"field_order": "tff"},
    ),
    Case("trimmed by edit lists", lambda folder: write_trimmed(folder / "clip.mp4", Movie(frames=30), 0.2, 1.0)),
    _movie("anamorphic", "clip.mov", ("like", "mkv/ffv1", "mov/prores_hq", "mxf", "png", "exr"), aspect=Fraction(4, 3), claims={"pixel_aspect": Fraction(4, 3)}),
    _prores("23.976", "2", "yuv422p10le", ("like", "mkv/ffv1", "mxf"), fps=FILM, about={"timecode": "09:59:59:20"}),
    _prores(
        "29.97 drop-frame, reel", "3", "yuv422p10le", ("like", "mp4", "mxf", "mkv/ffv1", "webm", "exr"), fps=NTSC,
        about={"timecode": "00:00:59;25", "reel_name": "B007R1"}, claims={"timecode": "00:00:59;25", "reel": "B007R1"},
    ),
]  # fmt: skip

TRACKS = [
    _movie("dual mono", "clip.mov", sounds=(Sound("pcm_s16le", "mono"), Sound("pcm_s16le", "mono", default=False))),
    _movie(
        "languages, subtitles, chapters", "clip.mkv", ("like", "mkv/ffv1", "mp4", "mov", "webm", "mxf", "png"),
        sounds=(Sound(language="eng", title="Mix"), Sound(language="fre", title="Version française", default=False)),
        subtitles=(("eng", "Full"), ("ger", "Deutsch")), chapters=True, attachment=True,
    ),
    _movie("24-bit PCM", "clip.mov", ("like", "mp4", "mkv"), sounds=(_PCM24,)),
    _movie("FLAC 24 bit", "clip.mkv", ("like", "mp4", "mov"), sounds=(Sound("flac", sample="s32"),)),
    _movie("data (KLV)", "clip.ts", ("like", "mov"), data="klv"),
    _movie("data (MP4)", "clip.mp4", ("like", "mkv/ffv1"), data="bin_data"),
    _movie("E-AC-3", "clip.mkv", ("like", "mov", "webm"), sounds=(Sound("eac3", "5.1(side)"),)),
]  # fmt: skip

PICTURES = [
    _pictures("PNG 8 bit", "f_%04d.png", "png", "rgb24", ("like", "mp4"), bit_depth=8),
    _pictures("PNG 16 bit", "f_%04d.png", "png", "rgb48be", ("like", "mkv/ffv1"), bit_depth=16),
    _pictures("PNG with alpha", "f_%04d.png", "png", "rgba", ("like", "mov"), bit_depth=8),
    _pictures("TIFF 16 bit", "f_%04d.tif", "tiff", "rgb48le", ("like",), bit_depth=16),
    Case("DPX 10 bit", lambda folder: write_dpx(folder / "shot"), ("like", "mov", "exr"), claims={"bit_depth": 10, "timecode": TIMECODE}),
    _pictures("unpadded f1…f12", "f%d.png", "png", "rgb24", ("like",), frames=12),
    Case("EXR half ACEScg", lambda folder: write_exrs(folder / "shot", "ACEScg", ACESCG), ("like", "mov"), claims={"bit_depth": 16, "timecode": TIMECODE, "reel": "A001C002"}),
    Case("EXR float", lambda folder: write_exrs(folder / "shot", "ACEScg", ACESCG, np.float32), ("like",), claims={"bit_depth": 32}),
]  # fmt: skip

if _TRUEHD.exists():  # FFmpeg decodes it and has no encoder
    TRACKS.append(Case("TrueHD", lambda folder: with_sound_of(folder / "clip.mkv", _TRUEHD), ("like", "mov", "mp4")))

CASES = [*VIDEO, *TIME, *TRACKS, *PICTURES]
