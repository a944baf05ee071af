"""File name suffixes by what they hold, in one place."""

from cmet_engine import takes
from cmet_engine.choices import CODEC_OUT as CODEC_OUT
from cmet_engine.errors import InvalidInput

VIDEO = frozenset(
    ".mp4 .m4v .mov .qt .mkv .webm .avi .divx .flv .f4v .mts .m2ts .m2t .ts .tod .mxf .gxf .mpg .mpeg .mpe .m2v .m1v .vob .wmv "
    ".asf .3gp .3g2 .dv .dif .ogv .ogm .mjpg .mjpeg .mj2 .y4m .nut .rm .rmvb .h264 .264 .hevc .265 .ivf .lrv .insv".split()
)
"""Movies that a folder is searched for."""

SOUND = VIDEO | frozenset(
    ".wav .wave .bwf .rf64 .w64 .flac .mp3 .mp2 .mpa .m4a .m4b .m4r .aac .ac3 .eac3 .ec3 .dts .thd .ogg .oga .opus .spx .mka .weba "
    ".aif .aiff .aifc .caf .au .snd .amr .awb .3ga .wma .wv .ape .tta .voc .ra .gsm".split()
)
"""Recordings that a folder is searched for: sound, or a movie's sound track."""

STILL = frozenset(".png .exr .jpg .jpeg .tif .tiff .bmp .webp .dpx".split())
"""Pictures that a numbered sequence may be made of."""

MOVIE_OUT = (".mp4", ".m4v", ".mkv", ".mov", ".webm", ".mxf")
"""Movies that can be written."""

SEQUENCE_OUT = (".png", ".tif", ".dpx", ".exr")
"""Numbered pictures that can be written."""

TRACK = (".npz", ".csv", ".json")
"""Coefficient tracks that are written: native, Live Link Face, Audio2Face."""

TRACK_IN = (".npz", *takes.SUFFIXES)
"""Coefficient tracks that are read; `takes` tells the recordings of applications by their content."""

SCENE = (".fbx", ".glb", ".usdc", ".usd", ".usda", ".usdz", ".abc", ".blend")
"""What a track on a rig can be exported to."""

UPLOAD = (".wav", ".flac", ".mp3", ".m4a", ".ogg", *TRACK_IN, ".mp4", ".mov", ".png", ".jpg", ".ocio")
"""What a client may upload to the engine: speech, tracks and timelines, clips, pictures, colour configurations."""


def check_codec(suffix: str, codec: str | None) -> None:
    """Refuse a codec that does not go into a kind of file.

    Raises:
        InvalidInput: says which files it goes into, and which codecs go into that file.
    """
    if codec is None or suffix in CODEC_OUT[codec]:
        return
    suits = [name for name, suffixes in CODEC_OUT.items() if suffix in suffixes]
    instead = f", or for {suffix} the codec {' or '.join(suits)}" if suits else ""
    raise InvalidInput(
        f"{codec} does not go into {suffix}; choose the format {' or '.join(s[1:] for s in CODEC_OUT[codec])}{instead}."
    )
