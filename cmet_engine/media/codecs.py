"""Which encoder writes a movie, in which pixel format: what was asked for, or what loses least of the clip."""

from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any, NamedTuple

from cmet_engine.errors import InvalidInput
from cmet_engine.media import formats
from cmet_engine.media.info import BT709, BT2020, ONE_MOMENT, UNSPECIFIED, Colors, Mastering
from cmet_engine.media.output import OutputSettings
from cmet_engine.media.planes import BOTTOM, BOTTOM_LEFT, PLACES, Layout, layout
from cmet_engine.media.source import Source, video_stream
from cmet_engine.media.spaces import is_float
from cmet_engine.media.stills import display_note, displayed_info

_SUBSAMPLINGS = ("420", "422", "444")
_FFV1 = (
    "gray", "gray9le", "gray10le", "gray12le", "gray14le", "gray16le", "bgr0", "bgra", "gbrp9le", "gbrp10le", "gbrp12le",
    "gbrp14le", "gbrp16le", "gbrap10le", "gbrap12le", "gbrap14le", "gbrap16le", "yuv410p", "yuv411p", "yuv440p",
    "yuv440p10le", "yuv440p12le",
    *(f"yuv{s}p{bits}" for s in _SUBSAMPLINGS for bits in ("", "9le", "10le", "12le", "14le", "16le")),
    *(f"yuva{s}p{bits}" for s in _SUBSAMPLINGS for bits in ("", "9le", "10le", "16le")), "yuva422p12le", "yuva444p12le",
)  # fmt: skip


class _Kind(NamedTuple):
    """A codec.

    Attributes:
        title: what people call it.
        encoder: FFmpeg's name of it.
        pixels: formats that it takes and that players show.
        options: of the encoder, beside those that depend on the picture.
        limited: it knows black at 16 and white at 235 only.
        exact: sizes that do not divide by its chroma's steps are kept.
        interlaced: pictures of two moments may stay so.
    """

    title: str
    encoder: str
    pixels: tuple[str, ...]
    options: dict[str, str]
    limited: bool = False
    exact: bool = False
    interlaced: bool = False


def _deep(*bits: str) -> tuple[str, ...]:
    return tuple(f"yuv{s}p{b}" for s in _SUBSAMPLINGS for b in bits)


_KINDS = {
    "h264": _Kind("H.264", "libx264", _deep("", "10le"), {"preset": "superfast"}, interlaced=True),
    "hevc": _Kind("HEVC", "libx265", _deep("", "10le", "12le"), {"preset": "superfast"}),
    "prores": _Kind(
        "ProRes 422", "prores_aw", ("yuv422p10le",), {"profile": "2", "vendor": "apl0"}, limited=True, interlaced=True
    ),
    "prores_hq": _Kind(
        "ProRes 422 HQ", "prores_aw", ("yuv422p10le",), {"profile": "3", "vendor": "apl0"}, limited=True, interlaced=True
    ),
    "prores_4444": _Kind(
        "ProRes 4444", "prores_ks", ("yuv444p10le", "yuva444p10le"), {"profile": "4444", "vendor": "apl0"}, limited=True,
        interlaced=True,
    ),
    "dnxhr_lb": _Kind("DNxHR LB", "dnxhd", ("yuv422p",), {"profile": "dnxhr_lb"}, limited=True),
    "dnxhr_sq": _Kind("DNxHR SQ", "dnxhd", ("yuv422p",), {"profile": "dnxhr_sq"}, limited=True),
    "dnxhr_hq": _Kind("DNxHR HQ", "dnxhd", ("yuv422p",), {"profile": "dnxhr_hq"}, limited=True),
    "dnxhr_hqx": _Kind("DNxHR HQX", "dnxhd", ("yuv422p10le",), {"profile": "dnxhr_hqx"}, limited=True),
    "dnxhr_444": _Kind("DNxHR 444", "dnxhd", ("yuv444p10le", "gbrp10le"), {"profile": "dnxhr_444"}, limited=True),
    "ffv1": _Kind("FFV1", "ffv1", _FFV1, {"level": "3", "slicecrc": "1", "g": "1"}, exact=True, interlaced=True),
    "vp9": _Kind(
        "VP9", "libvpx-vp9", _deep(""), {"b": "0", "deadline": "good", "cpu-used": "5"}
    ),
}  # fmt: skip

# The bytes that x265 writes depend on the number of frames at the same time, which must not depend on the machine. Every segment
# is decoded alone.
_X265 = ("log-level=error", "frame-threads=2", "pools=4", "open-gop=0", "bframes=3", "b-pyramid=1")
_X265_DEPTH = 2  # of which FFmpeg says nothing: pictures by which decoding runs ahead, with these B-frames

_LIKE_BT709 = (6, 14, 15)  # AVCOL_TRC_* with the curve of BT.709, of which ProRes knows that name alone
_MXF_RATES = {Fraction(n) for n in (24, 25, 30, 48, 50, 60)} | {Fraction(n * 1000, 1001) for n in (24, 30, 48, 60)}
_DNXHR_LEAST = (256, 120)  # pixels
_DNXHD = {"dnxhr_sq": (120, 145), "dnxhr_hq": (185, 220), "dnxhr_hqx": (185, 220)}
"""Megabits a second of interlaced DNxHD (SMPTE VC-3, 1920x1080 alone) of the same quality, at 25 and at 30 frames a second."""


class Codec(NamedTuple):
    """An encoder of FFmpeg's and how it is set up.

    Attributes:
        encoder: FFmpeg's name.
        pixels: format of the pictures that it is given.
        options: of the encoder.
        colors: what the numbers that it is given stand for.
        field_order: of interlaced pictures, see `VideoInfo`; empty of progressive ones.
        notes: sentences to the user about what it does not keep.
        depth: pictures by which decoding runs ahead of showing; None where FFmpeg says.
    """

    encoder: str
    pixels: str
    options: dict[str, str]
    colors: Colors
    field_order: str
    notes: tuple[str, ...]
    depth: int | None


def choose(settings: OutputSettings) -> Codec:
    """The codec of a movie.

    Raises:
        InvalidInput: the codec does not go into that file, or cannot hold pictures of that size or rate.
    """
    source, suffix = settings.source, settings.path.suffix.lower()
    if source and is_float(source.pixels):
        source = displayed_info(source, suffix)
    size = (settings.width, settings.height)
    pixels = (source.pixels if source else "") or "yuv420p"
    about = layout(pixels)
    order = source.field_order if source and settings.fields else ""
    name = settings.codec or _usual(suffix, about if source else None, size, order)
    kind = _interlaced(name, size, settings.fps) if order else _KINDS[name]
    _check(kind, suffix, settings)
    notes = []
    if order and not (kind.interlaced and _fitting(kind, size, 2)):
        notes.append(
            f"{kind.title} holds no interlaced pictures here: {ONE_MOMENT}; use h264, prores or ffv1 to keep them."
        )
        order = ""
    chosen = min(_fitting(kind, size, 2 if order else 1), key=lambda one: _loss(one, pixels, kind))
    target = layout(chosen)
    if source:
        unknown = source.codec == "prores" and name == "prores_4444"  # decoded to 12 bits whatever it was made from
        own = about._replace(bits=target.bits) if unknown else about
        notes += [f"{kind.title} {lost}." for lost in _lost(kind, own, target)]
        if unknown and about.bits > target.bits:
            notes.append(f"{kind.title} is written with {target.bits} bits a colour; if the clip has 12, use ffv1.")
    colors = _colors(kind, source.colors if source else Colors(), notes)
    options = dict(kind.options) | ({"field_order": {"tff": "tb", "bff": "bt"}[order]} if order else {})
    if kind.encoder in ("libx264", "libx265"):
        options["crf"] = str(settings.rate_factor)
    elif name == "vp9":
        options["crf"] = str(round(settings.rate_factor * 63 / 51))
    if (about.across, about.down) == (target.across, target.down) and target.down == 2 and colors.chroma_place:
        options["chroma_sample_location"] = PLACES[colors.chroma_place]
    mastering = source.mastering if source else Mastering()
    if kind.encoder == "libx265":
        options["x265-params"] = ":".join([*_X265, *_hdr(mastering, "master-display", "max-cll")])
    elif kind.encoder == "libx264" and mastering != Mastering():
        options["x264-params"] = ":".join(_hdr(mastering, "mastering-display", "cll"))
    elif mastering != Mastering():
        notes.append(f"{kind.title} holds no HDR mastering metadata, so it was left out; use hevc to keep it.")
    depth = _X265_DEPTH if kind.encoder == "libx265" else None
    if settings.source:
        notes += display_note(settings.source, suffix)
    return Codec(kind.encoder, chosen, options, colors, order, tuple(notes), depth)


def _colors(kind: _Kind, colors: Colors, notes: list[str]) -> Colors:
    """What the numbers stand for that a codec is given: as in the clip, but for what the codec has no name for."""
    if kind.limited and colors.full_range:
        colors = replace(colors, full_range=False)
        notes.append(f"{kind.title} knows limited range only, so the clip's full range was converted.")
    if kind.encoder == "dnxhd" and colors.matrix not in (BT709, BT2020, UNSPECIFIED):
        colors = replace(colors, matrix=BT709)
        notes.append(f"{kind.title} knows the colour matrices of BT.709 and BT.2020 only, so the clip's was converted.")
    if kind.encoder.startswith("prores") and colors.transfer in _LIKE_BT709:
        colors = replace(colors, transfer=BT709)
    if kind.encoder in ("ffv1", "libvpx-vp9") and colors.chroma_place in (BOTTOM_LEFT, BOTTOM):
        notes.append(
            f"Matroska does not know chroma samples that lie at the bottom, as in the clip ({PLACES[colors.chroma_place]})."
        )
    return colors


_LOSSLESS = ("utvideo", "huffyuv", "ffvhuff", "magicyuv", "rawvideo", "v210", "v410", "r210", "qtrle")
_PRORES = {
    "apco": "prores",
    "apcs": "prores",
    "apcn": "prores",
    "apch": "prores_hq",
    "ap4h": "prores_4444",
    "ap4x": "prores_4444",
}


def like(clip: Path, suffix: str | None = None) -> tuple[str, str | None]:
    """The suffix, and the codec (None: the usual one), of the movie that is nearest to a clip.

    Args:
        clip: footage.
        suffix: of the movie, where that is settled already.

    Raises:
        CmetError: the clip cannot be read.
    """
    source = Source.of(clip)
    with source.open() as container:
        stream = video_stream(container, source.path)
        context: Any = stream.codec_context
        name, tag, profile = context.name, context.codec_tag, str(context.profile).lower()
    own = source.first_file.suffix.lower().replace(".tiff", ".tif")
    codec = {"h264": "h264", "hevc": "hevc", "ffv1": "ffv1", "vp8": "vp9", "vp9": "vp9"}.get(name)
    if name == "prores":
        codec = _PRORES.get(tag, "prores_hq")
    elif name == "dnxhd":
        deep = layout(context.pix_fmt).bits > 8
        codec = profile.replace(" ", "_") if profile.startswith("dnxhr") else "dnxhr_hqx" if deep else "dnxhr_hq"
    elif name in _LOSSLESS and own != ".mov":
        codec = "ffv1"
    if suffix is None:
        suits = formats.CODEC_OUT.get(codec or "", ())
        if own in formats.SEQUENCE_OUT or (own in formats.MOVIE_OUT and (codec is None or own in suits)):
            suffix = own
        else:
            suffix = suits[0] if suits else ".mp4"
    return suffix, codec if codec and suffix in formats.CODEC_OUT[codec] else None


def _interlaced(name: str, size: tuple[int, int], fps: Fraction) -> _Kind:
    """The codec for interlaced pictures; of DNxHR, which holds none, what came before it."""
    kind = _KINDS[name]
    if size != (1920, 1080) or name not in _DNXHD:
        return kind
    rate = _DNXHD[name][fps > 27]
    return kind._replace(title="DNxHD", options={"b": f"{rate}M"}, interlaced=True)


def _usual(suffix: str, about: Layout | None, size: tuple[int, int], field_order: str) -> str:
    """The codec of a kind of file that loses least; `about` is None for pictures that no clip is behind."""
    full_chroma = about is not None and about.across == about.down == 1 and not about.gray
    deep = about is not None and about.bits > 8
    if suffix == ".mov":
        # FFmpeg's 4:2:2 encoders spoil the last columns of an odd width
        return "prores_4444" if full_chroma or (about and about.alpha) or size[0] % 2 else "prores_hq"
    if suffix == ".mxf":
        return "dnxhr_444" if full_chroma else "dnxhr_hqx" if deep else "dnxhr_hq"
    if suffix == ".webm":
        return "vp9"
    return "hevc" if deep and not field_order else "h264"


def _check(kind: _Kind, suffix: str, settings: OutputSettings) -> None:
    name, size = settings.path.name, (settings.width, settings.height)
    if not _fitting(kind, size):
        raise InvalidInput(
            f"{name}: {kind.title} cannot hold {size[0]}x{size[1]} pixels; choose prores_4444, dnxhr_444 or ffv1 for odd sizes."
        )
    if kind.encoder == "dnxhd" and (size[0] < _DNXHR_LEAST[0] or size[1] < _DNXHR_LEAST[1]):
        raise InvalidInput(f"{name}: DNxHR begins at 256x120 pixels; choose prores_hq or ffv1 for {size[0]}x{size[1]}.")
    uneven = settings.source is not None and settings.source.variable
    if suffix == ".mxf" and (uneven or settings.fps not in _MXF_RATES):
        rate = "frames that are unevenly spaced" if uneven else f"{float(settings.fps):g} frames a second"
        raise InvalidInput(f"{name}: MXF does not hold {rate}; choose --format mov.")


def _fitting(kind: _Kind, size: tuple[int, int], fields: int = 1) -> list[str]:
    """The formats in which a codec keeps a picture's size to the pixel, each of its fields likewise."""
    return [
        p for p in kind.pixels if kind.exact or not (size[0] % layout(p).across or size[1] % (layout(p).down * fields))
    ]


def _loss(candidate: str, pixels: str, kind: _Kind) -> tuple[float, int]:
    """What a format loses of format `pixels`, and what it wastes."""
    have, own = layout(candidate), layout(pixels)
    # players show 4:2:0 everywhere, gray and 8-bit RGB nowhere
    if not kind.exact and (own.gray or (own.rgb and own.bits == 8)):
        own = own._replace(rgb=False, gray=False, across=2, down=2)
    lost: float = (
        100 * (own.alpha and not have.alpha) + 10 * max(own.bits - have.bits, 0) + 50 * (have.gray and not own.gray)
    )
    lost += 30 * max(have.across / own.across - 1, 0) + 30 * max(have.down / own.down - 1, 0)
    lost += 40 * (have.rgb != own.rgb)
    waste = 4 * max(have.bits - own.bits, 0) + 8 * (have.alpha and not own.alpha) + (own.gray and not have.gray)
    return lost, waste + own.across // have.across + own.down // have.down


def _lost(kind: _Kind, own: Layout, target: Layout) -> list[str]:
    """What a target keeps not, as predicates."""
    lost = []
    if own.alpha and not target.alpha:
        lost.append("holds no alpha here, so it was left out; use prores_4444 or ffv1 to keep it")
    if own.bits > target.bits:
        more = "hevc or ffv1" if own.bits <= 12 and kind.encoder != "libx265" else "ffv1"
        lost.append(f"takes {target.bits} bits a colour, the clip has {own.bits}; use {more} to keep all")
    if (target.across > own.across or target.down > own.down) and not (own.gray or (own.rgb and own.bits == 8)):
        lost.append("keeps fewer colour samples than the clip has; use prores_4444, hevc or ffv1 to keep all")
    return lost


def _hdr(mastering: Mastering, display: str, light: str) -> list[str]:
    """HDR metadata as parameters of x264 and x265, which call them differently."""
    parameters = []
    if mastering.display:
        red, green, blue, white = (mastering.display[k : k + 2] for k in (0, 2, 4, 6))
        most, least = mastering.display[8:]
        corners = "".join(f"{k}({x},{y})" for k, (x, y) in zip("GBR", (green, blue, red), strict=True))
        parameters.append(f"{display}={corners}WP({white[0]},{white[1]})L({most},{least})")
    if mastering.light:
        parameters.append(f"{light}={mastering.light[0]},{mastering.light[1]}")
    return parameters
