"""Subtitles that are text, from one container's form of a packet to another's."""

import re

TEXT_CODECS = ("subrip", "srt", "mov_text", "webvtt", "text", "ass", "ssa")
"""FFmpeg's names of the codecs that `text_of` reads."""

HEADER = b"""[Script Info]
ScriptType: v4.00+
PlayResX: 384
PlayResY: 288

[V4+ Styles]
Format: Name, Fontname, Fontsize, PrimaryColour, SecondaryColour, OutlineColour, BackColour, Bold, Italic, Underline, \
StrikeOut, ScaleX, ScaleY, Spacing, Angle, BorderStyle, Outline, Shadow, Alignment, MarginL, MarginR, MarginV, Encoding
Style: Default,Arial,16,&Hffffff,&Hffffff,&H0,&H0,0,0,0,0,100,100,0,0,1,1,0,2,10,10,10,1

[Events]
Format: Layer, Start, End, Style, Name, MarginL, MarginR, MarginV, Effect, Text
"""
"""What FFmpeg's encoders of subtitles begin with: plain white text below (FFmpeg's own default, libavcodec/ass.c)."""

_TAG = re.compile(r"<[^<>]*>")
_OVERRIDE = re.compile(r"\{[^{}]*\}")


def text_of(data: bytes, codec: str) -> str:
    """The text of a packet of subtitles in one of `TEXT_CODECS`, without styles; empty where it only ends the one before."""
    if codec == "mov_text":  # a length in two bytes, the text, boxes of styles (3GPP TS 26.245, 5.17)
        return data[2 : 2 + int.from_bytes(data[:2], "big")].decode("utf-8", "replace")
    text = data.decode("utf-8", "replace")
    if codec in ("ass", "ssa"):  # ReadOrder, Layer, Style, Name, MarginL, MarginR, MarginV, Effect, Text
        text = _OVERRIDE.sub("", text.split(",", 8)[-1]).replace("\\N", "\n").replace("\\n", "\n").replace("\\h", " ")
    return _TAG.sub("", text).strip()


def packet_of(text: str, codec: str) -> bytes:
    """A packet of subtitles with some text, for `mov_text`, `subrip` or `webvtt`."""
    data = text.encode()
    return len(data[:65535]).to_bytes(2, "big") + data[:65535] if codec == "mov_text" else data
