"""What a container holds of a clip beside its pictures: which tracks are copied, which are encoded again, what is left out.

FFmpeg's muxers name codecs that they refuse once the file is begun, so a track counts as held only where its first packets can
really be written. All of it is decided before the work begins; `limits` says it.
"""

import contextlib
import io
import itertools
from dataclasses import dataclass, field
from typing import Any

import av
from av.container import InputContainer
from av.stream import Discard

from cmet_engine.media import formats
from cmet_engine.media.source import Source, video_stream
from cmet_engine.media.subtitles import TEXT_CODECS

MUXERS = {".mkv": "matroska", ".mov": "mov", ".webm": "webm", ".mxf": "mxf"}
"""FFmpeg's name of the container by suffix; "mp4" for the others."""
CHAPTERS = (".mp4", ".m4v", ".mov", ".mkv", ".webm")
"""Containers that hold chapters."""

_TEXT = {".mp4": "mov_text", ".m4v": "mov_text", ".mov": "mov_text", ".mkv": "subrip", ".webm": "webvtt"}
"""Codec of subtitles that are text, where the container does not hold them as they are."""
_AAC_RATES = (16000, 22050, 24000, 32000, 44100, 48000)  # samples a second that AAC and every player know
_BITS_A_CHANNEL = 128_000  # a second
_LAYOUTS = {1: "mono", 2: "stereo", 3: "3.0", 4: "4.0", 5: "5.0", 6: "5.1", 7: "6.1", 8: "7.1"}
"""The usual layout of so many channels, which AAC has without a configuration of its own, 6.1 excepted."""
_LOSSLESS = ("flac", "alac", "truehd", "mlp", "tta", "wavpack", "pcm_bluray", "pcm_dvd", "s302m")
_CALLED = {
    "aac": "AAC", "libopus": "Opus", "flac": "FLAC", "pcm_s16le": "PCM of 16 bits", "pcm_s24le": "PCM of 24 bits",
}  # fmt: skip
_NUMBERS = ("no", "one", "two", "three", "four", "five", "six", "seven", "eight")
_NOT_IN_PICTURES = {"audio": "sound", "subtitle": "subtitles", "chapter": "chapters", "attachment": "attachments"}
_NAMES = ("language", "title", "name")
_TRIAL_PACKETS = 8
_TRIAL_READS = 2000  # packets of all tracks within which those of one are looked for


@dataclass(frozen=True)
class Track:
    """A track of a clip that goes into another container.

    Attributes:
        index: number of the stream in the clip.
        encoder: FFmpeg's name of what it is encoded with again, or the codec of its text; None copies its packets.
        layout, rate, bit_rate: of encoded sound: channel layout, samples and bits a second (0: the codec has no choice).
    """

    index: int
    encoder: str | None = None
    layout: str = ""
    rate: int = 0
    bit_rate: int = 0


@dataclass
class Plan:
    """What becomes of a clip's tracks, and the sentences that say what is not as it was."""

    tracks: list[Track] = field(default_factory=list)
    chapters: bool = False
    notes: list[str] = field(default_factory=list)


def limits(source: Source, suffix: str) -> list[str]:
    """Sentences about everything of a clip beside its pictures that a file of this suffix does not hold as it is.

    Raises:
        InvalidInput: the clip cannot be opened.
    """
    if source.pictures is not None:
        return []
    with source.open() as container:
        return plan(container, source, suffix).notes


def plan(container: InputContainer, source: Source, suffix: str) -> Plan:
    """What becomes of every track of an open clip in a file of this suffix (with its dot; none is a folder of pictures)."""
    suffix = suffix.lower()
    result = Plan(chapters=suffix in CHAPTERS and bool(container.chapters()))
    sounds = len(container.streams.audio)
    if suffix in ("", *formats.SEQUENCE_OUT):
        kinds = {stream.type for stream in container.streams} | ({"chapter"} if container.chapters() else set())
        held = [f"no {word}" for kind, word in _NOT_IN_PICTURES.items() if kind in kinds]
        if held:
            result.notes.append(f"An image sequence holds {' and '.join(held)}; it stays in the source clip.")
        return result
    for stream in container.streams:
        if stream.type == "audio":
            number = container.streams.audio.index(stream) + 1
            _plan_sound(result, source, stream, suffix, f"sound track {number}" if sounds > 1 else "sound")
        elif stream.type == "subtitle":
            _plan_subtitles(result, source, stream, suffix)
        elif stream.type in ("data", "attachment"):
            _plan_other(result, source, stream, suffix)
    if suffix == ".mxf" and any(
        stream.metadata.get(tag, "und") != "und" for stream in container.streams.audio for tag in _NAMES
    ):
        result.notes.append("The languages and titles of sound tracks do not fit into .mxf; they are left out.")
    _note_pictures(result, container, source)
    if container.chapters() and not result.chapters:
        result.notes.append(f"The chapters do not fit into {suffix}; they are left out.")
    return result


def muxer(suffix: str) -> str:
    """FFmpeg's name of the container for a suffix."""
    return MUXERS.get(suffix.lower(), "mp4")


def add_copy(target: Any, stream: Any) -> Any:
    """A track of an open output that takes the packets of a clip's track.

    MP4 holds PCM of a known layout only, which AVI does not name: one channel or two are taken as mono and stereo, as players do.
    """
    out = target.add_stream_from_template(stream)
    if stream.type == "audio" and target.format.name == "mp4" and out.layout.name in ("1 channels", "2 channels"):
        out.codec_context.layout = _LAYOUTS[out.layout.nb_channels]
    return out


def _plan_sound(result: Plan, source: Source, stream: Any, suffix: str, name: str) -> None:
    context = stream.codec_context
    if context is None or not context.rate:
        result.notes.append(f"The {name} is of an unknown kind; it is left out.")
        return
    codec = context.codec.canonical_name
    if suffix == ".mxf" and _plays(codec, stream, suffix):  # written sample by sample, for MXF keeps no time stamps
        layout = _layout(context, codec, context.rate)
        result.tracks.append(Track(stream.index, codec, layout or "mono", context.rate))
        return
    if _plays(codec, stream, suffix) and _holds(source, stream, suffix):
        result.tracks.append(Track(stream.index))
        return
    channels, encoder = context.channels, _encoder(codec, context, suffix)
    if encoder == "aac":
        rate = next((r for r in _AAC_RATES if r >= context.rate), 48000)
    else:
        rate = 48000 if suffix in (".webm", ".mxf") else context.rate
    layout = _layout(context, encoder, rate)
    about = f"The {name} ({codec}, {context.layout.name if channels > 2 else f'{context.rate} Hz'})"
    if layout is None:
        result.notes.append(f"{about} does not fit into {suffix}; it is left out, .mov and .mkv hold it.")
        return
    kept = av.AudioLayout(layout).nb_channels
    bit_rate = max(kept, 2) * _BITS_A_CHANNEL if encoder in ("aac", "libopus") else 0
    what = _CALLED[encoder]
    how = f"it is re-encoded as {what}" + (f" at {bit_rate // 1000} kbit/s" if bit_rate else "")
    if kept != channels:
        how += f", and its {_number(channels)} channels become {_number(kept)}"
    result.notes.append(f"{about} does not fit into {suffix}; {how}.")
    result.tracks.append(Track(stream.index, encoder, layout, rate, bit_rate))


def _encoder(codec: str, context: Any, suffix: str) -> str:
    """What sound is encoded with again: without loss where it came so and the container is one of production."""
    if suffix == ".webm":
        return "libopus"
    if suffix == ".mkv" and codec.startswith(_LOSSLESS):  # Matroska keeps no channel layout of PCM
        return "flac"
    if suffix == ".mxf" or (suffix == ".mov" and codec.startswith(_LOSSLESS)):
        return "pcm_s24le" if context.format.bits > 16 else "pcm_s16le"
    return "aac"


def _number(count: int) -> str:
    return _NUMBERS[count] if count < len(_NUMBERS) else str(count)


def _plays(codec: str, stream: Any, suffix: str) -> bool:
    """Whether sound is heard as it is where the container is said to hold it."""
    if suffix in (".mp4", ".m4v"):  # PCM of more than 16 bits is noise or silence in players that do not know its boxes
        return not codec.startswith("pcm_") or codec in ("pcm_s16le", "pcm_s16be")
    if suffix == ".mxf":
        return codec in ("pcm_s16le", "pcm_s24le") and stream.rate == 48000
    return True


def _layout(context: Any, encoder: str, rate: int) -> str | None:
    """The channel layout to encode sound in: its own, else another that is near; None where there is none."""
    own = context.layout.name
    if not encoder.startswith("pcm"):
        own = own.replace("(side)", "")
    if "channels" in own and context.channels <= 2:  # a layout that is not said
        own = _LAYOUTS[context.channels]
    wanted = [own] if own in _LAYOUTS.values() else []
    wanted += [context.layout.name, _LAYOUTS.get(context.channels, "")]
    if context.channels in range(3, 9) and "channels" not in own:
        wanted += ["5.1" if context.channels > 5 else "stereo"]
    for layout in filter(None, wanted):
        with contextlib.suppress(ValueError, av.error.FFmpegError):
            trial: Any = av.CodecContext.create(encoder, "w")
            trial.layout, trial.sample_rate, trial.format = layout, rate, trial.codec.audio_formats[0]
            trial.open()
            return layout
    return None


def _plan_subtitles(result: Plan, source: Source, stream: Any, suffix: str) -> None:
    codec = stream.codec_context.name if stream.codec_context else "unknown"
    if suffix in _TEXT and codec != "mov_text" and _holds(source, stream, suffix):
        result.tracks.append(Track(stream.index))
    elif suffix in _TEXT and codec in TEXT_CODECS:
        result.tracks.append(Track(stream.index, _TEXT[suffix]))
        if codec in ("ass", "ssa"):
            result.notes.append(f"The subtitles ({codec}) keep their text and time in {suffix}, but not their styles.")
    else:
        result.notes.append(f"The subtitles ({codec}) do not fit into {suffix}; they are left out.")


def _plan_other(result: Plan, source: Source, stream: Any, suffix: str) -> None:
    """Data and attachments; a track of time codes is made anew from the start time code."""
    about = stream.metadata
    if "timecode" in about or about.get("handler_name") == "TimeCodeHandler" or _is_chapter_text(stream):
        return
    if _holds(source, stream, suffix):
        result.tracks.append(Track(stream.index))
    elif stream.type == "attachment":
        result.notes.append(f"The attachment {stream.name} does not fit into {suffix}; it is left out.")
    else:
        name = about.get("handler_name", "").strip() or f"number {stream.index}"
        result.notes.append(f"The data track ({name}) does not fit into {suffix}; it is left out.")


def _is_chapter_text(stream: Any) -> bool:
    """Whether a track of data is QuickTime's way of naming chapters, which are written anew."""
    return stream.type == "data" and bool(stream.container.chapters()) and stream.discard == Discard.all


def _note_pictures(result: Plan, container: InputContainer, source: Source) -> None:
    """Say what other tracks of pictures are not written."""
    edited = video_stream(container, source.path).index if container.streams.video else None
    for stream in container.streams.video:
        if stream.disposition & stream.disposition.attached_pic:
            result.notes.append("The cover picture is left out, for it shows what was filmed.")
        elif stream.index != edited:
            result.notes.append(f"A second track of pictures (number {stream.index}) is left out.")


def _holds(source: Source, stream: Any, suffix: str) -> bool:
    """Whether a container takes a track: its header and first packets are written into memory."""
    if suffix == ".mxf":
        return stream.type == "audio"  # of those that `_plays` lets through
    if stream.type == "attachment" and suffix != ".mkv":
        return False  # WebM's muxer takes them and writes none
    try:
        with source.open() as container, av.open(io.BytesIO(), "w", format=muxer(suffix)) as target:
            mine = container.streams[stream.index]
            out: Any = add_copy(target, mine)
            if stream.type not in ("audio", "subtitle"):  # no file has data alone
                picture: Any = target.add_stream("libvpx" if suffix == ".webm" else "mpeg4", rate=25)
                picture.width, picture.height, picture.pix_fmt = 16, 16, "yuv420p"
            target.start_encoding()
            if stream.type != "audio":
                return True
            packets = (p for p in itertools.islice(container.demux(), _TRIAL_READS) if p.stream_index == stream.index)
            for packet in itertools.islice((p for p in packets if p.size and p.dts is not None), _TRIAL_PACKETS):
                packet.stream = out
                target.mux(packet)
    except (ValueError, OSError, av.error.FFmpegError):
        return False
    return True
