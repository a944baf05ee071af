"""Plates made from the sample: movies and numbered pictures of any kind, in which a flash and a click happen at one moment."""

import functools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
from av.codec.context import Flags

from cmet_engine.choices import InputSpace
from cmet_engine.media import dpx, subtitles
from cmet_engine.media.display import display_of, light_from_srgb
from cmet_engine.media.info import FULL, LIMITED
from cmet_engine.media.openexr import Attribute, described, exr_bytes
from cmet_engine.media.planes import Tag, weave
from cmet_engine.media.spaces import HLG, PQ
from cmet_engine.models.assets import ASSETS
from cmet_engine.timecode import Timecode

SAMPLE = ASSETS / "sample" / "talking_head.mp4"
FRAMES, SIDE = 16, 256
FLASH = 8
"""Number of the frame in which the flash begins; it lasts two."""
TIMECODE, CREATED = "10:11:12:13", "2024-05-06T07:08:09.000000Z"
STRIP = 12  # rows at the top that flash, far from the face
MATRIX, PRIMARIES, TRANSFER = 1, 1, 1
WIDE = {"PQ": (9, 9, PQ), "HLG": (9, 9, HLG)}
"""Matrix, primaries and transfer of spaces that have tags."""
ACESCG = (0.713, 0.293, 0.165, 0.830, 0.128, 0.044, 0.32168, 0.33767)
DISPLAY_P3 = "G(13250,34500)B(7500,3000)R(34000,16000)WP(15635,16450)L(10000000,50)"
MASTERED = f"master-display={DISPLAY_P3}:max-cll=1000,400"


@dataclass(frozen=True)
class Sound:
    """A sound track of a plate: voice, and the click."""

    codec: str = "aac"
    layout: str = "stereo"
    rate: int = 48000
    sample: str = ""
    language: str = ""
    title: str = ""
    default: bool = True


@dataclass(frozen=True)
class Movie:
    """What a plate is like; see `write`."""

    codec: str = "libx264"
    pixels: str = "yuv420p"
    size: tuple[int, int] = (SIDE, SIDE)
    frames: int = FRAMES
    fps: Fraction = Fraction(25)
    options: dict[str, str] = field(default_factory=dict)
    space: str = ""
    tags: tuple[int, int, int] = (MATRIX, PRIMARIES, TRANSFER)
    full_range: bool = False
    aspect: Fraction = Fraction(1)
    rotation: int = 0
    field_order: str = ""  # see `VideoInfo`
    times: Sequence[float] = ()  # seconds of uneven frames
    alpha: bool = False
    about: dict[str, str] = field(default_factory=dict)  # timecode, reel and the like
    sounds: tuple[Sound, ...] = (Sound(),)
    subtitles: tuple[tuple[str, str], ...] = ()  # language and title of each track
    chapters: bool = False
    attachment: bool = False
    data: str = ""  # FFmpeg's name of a data track's codec


@functools.lru_cache(maxsize=4)
def pictures(size: tuple[int, int] = (SIDE, SIDE), frames: int = FRAMES) -> list[np.ndarray]:
    """The head as float32 [H, W, 3] RGB, 0 to 1, with more levels than eight bits have; the flash at its top."""
    made, (width, height) = [], size
    with av.open(str(SAMPLE)) as container:
        for index, frame in zip(range(frames), container.decode(video=0), strict=False):
            picture = frame.to_ndarray(format="rgb24").astype(np.float32) / 255
            side = min(size)
            way = cv2.INTER_AREA if side < 512 else cv2.INTER_CUBIC
            picture = cv2.resize(picture, (side, side), interpolation=way).clip(0, 1)
            across, down = width - side, height - side
            picture = cv2.copyMakeBorder(
                picture, down // 2, down - down // 2, across // 2, across - across // 2, cv2.BORDER_REFLECT_101
            )
            picture[: STRIP * height // SIDE] = 0.9 if FLASH <= index < FLASH + 2 else 0.15
            made.append(picture)
    return made


def stored(picture: np.ndarray, space: str) -> np.ndarray:
    """A display picture as the values of a colour space."""
    display = display_of(InputSpace(space))
    assert display.from_light is not None and display.matrix is not None
    light = light_from_srgb(picture)
    return display.from_light(light @ np.linalg.inv(display.matrix).T).astype(np.float32)


def write(path: Path, movie: Movie) -> Path:
    """Write a plate."""
    moments = list(movie.times) or [float(i / movie.fps) for i in range(movie.frames)]
    base = Fraction(1, 90000) if movie.times else 1 / movie.fps
    with av.open(str(path), "w") as out:
        stream = _stream(out, movie, base)
        if movie.attachment:
            out.add_attachment("notes.txt", "text/plain", b"shot on a rainy day")
        data = out.add_data_stream(movie.data) if movie.data else None
        tracks = [_sound_stream(out, sound) for sound in movie.sounds]
        texts = [_text_stream(out, path.suffix, *about) for about in movie.subtitles]
        if movie.chapters:
            out.set_chapters([_chapter(1, 0, 300, "Entrance"), _chapter(2, 300, 640, "Exit")])
        out.start_encoding()
        for track, sound in zip(tracks, movie.sounds, strict=True):
            _write_sound(out, track, sound, moments[FLASH], moments[-1] + 0.04)
        for text in texts:
            for begin in (100, 350):
                out.mux(_text_packet(text, begin))
        if data is not None:
            for number in range(4):
                out.mux(_data_packet(data, 0.16 * number))
        for index, frame in enumerate(_frames(movie)):
            frame.pts, frame.time_base = round(moments[index] / float(base)), base
            out.mux(stream.encode(frame))
        out.mux(stream.encode(None))
    return path


def write_pictures(
    folder: Path, name: str, encoder: str, pixels: str, *, frames: int = FRAMES, aspect: Fraction = Fraction(1)
) -> Path:
    """Numbered pictures: `name` such as `shot.%04d.dpx`, from number 1 on."""
    folder.mkdir()
    for index, picture in enumerate(pictures()[:frames]):
        code: Any = av.CodecContext.create(encoder, "w")
        frame = av.VideoFrame.from_ndarray(_code(picture), format="rgb48le").reformat(format=pixels)
        code.width, code.height, code.pix_fmt, code.time_base = frame.width, frame.height, pixels, Fraction(1, 25)
        code.sample_aspect_ratio = aspect
        packets = [*code.encode(frame), *code.encode(None)]
        (folder / (name % (index + 1))).write_bytes(b"".join(map(bytes, packets)))
    return folder


def write_dpx(folder: Path) -> Path:
    """Numbered DPX files of 10 bits, with timecode, slate, camera, orientation and what a user adds in their headers."""
    write_pictures(folder, "f_%04d.dpx", "dpx", "gbrp10le")
    start = Timecode.parse(TIMECODE, 24)
    for index, path in enumerate(sorted(folder.iterdir())):
        picture = path.read_bytes()
        header = bytearray(dpx.described(picture, Fraction(24), Fraction(1), start + index, CREATED))
        for place, text in (
            (1556, b"camera 5"),
            (1732, b"slate 7A"),
            (2048, b"HOUSE".ljust(32, b"\0") + bytes(range(100))),
        ):
            header[place : place + len(text)] = text
        path.write_bytes(dpx.with_header(picture, bytes(header)))
    return folder


def write_exrs(folder: Path, space: str, primaries: tuple[float, ...], kind: type = np.float16) -> Path:
    """Numbered OpenEXR files of a scene-linear space, with timecode, reel and owner in their headers, depth and identities."""
    folder.mkdir()
    start = Timecode.parse(TIMECODE, 24)
    for index, picture in enumerate(pictures()):
        header = described(primaries, Fraction(24), Fraction(1), start + index, "A001C002", CREATED)
        header["owner"] = Attribute("string", b"plate unit")
        planes = np.moveaxis(stored(picture, space).astype(kind), 2, 0)
        depth = picture.mean(2).astype(np.float32) * 100
        further = {"Z": depth, "id00": depth.view(np.uint32), "diffuse.R": planes[0]}
        data = exr_bytes(dict(zip("RGB", planes, strict=True)) | further, header)
        (folder / f"shot.{1001 + index}.exr").write_bytes(data)
    return folder


def write_trimmed(path: Path, movie: Movie, start: float, end: float) -> Path:
    """A plate as a phone trims it: all of it is stored, and the edit lists of its tracks show a part."""
    whole = write(path.with_stem("whole"), movie)
    with av.open(str(whole)) as source, av.open(str(path), "w") as out:
        streams = {s.index: out.add_stream_from_template(s) for s in source.streams}
        for packet in source.demux():
            if packet.size:
                shift = round(start / packet.time_base)
                packet.pts, packet.dts = packet.pts - shift, packet.dts - shift
                packet.stream = streams[packet.stream_index]
                out.mux(packet)
    data, place = bytearray(path.read_bytes()), -1
    while (place := data.find(b"elst", place + 1)) >= 0:  # version, flags, one entry, its duration (ISO 14496-12)
        data[place + 12 : place + 16] = round(1000 * (end - start)).to_bytes(4, "big")
    path.write_bytes(data)
    whole.unlink()
    return path


def with_sound_of(path: Path, recording: Path) -> Path:
    """A plate whose sound is a recording's, packet by packet: of codecs that can be read only."""
    silent = write(path.with_stem("silent"), Movie(sounds=()))
    with av.open(str(silent)) as movie, av.open(str(recording)) as sound, av.open(str(path), "w") as out:
        tracks = {
            source: out.add_stream_from_template(source) for source in (movie.streams.video[0], sound.streams.audio[0])
        }
        for source, track in tracks.items():
            for packet in source.container.demux(source):
                if packet.size:
                    packet.stream = track
                    out.mux(packet)
    return path


def _stream(out: Any, movie: Movie, base: Fraction) -> Any:
    options = dict(movie.options) or ({"crf": "8"} if movie.codec == "libx264" else {})
    stream = out.add_stream(movie.codec, rate=movie.fps, options=options)
    stream.width, stream.height, stream.pix_fmt = *movie.size, movie.pixels
    context = stream.codec_context
    context.time_base = stream.time_base = base
    matrix, primaries, transfer = WIDE.get(movie.space, movie.tags)
    context.colorspace, context.color_primaries, context.color_trc = matrix, primaries, transfer
    context.color_range = FULL if movie.full_range else LIMITED
    if movie.codec in ("wmv2", "flv", "h263", "mjpeg", "dvvideo", "mpeg2video"):
        stream.bit_rate = 6_000_000
    if movie.field_order:
        context.flags |= Flags.interlaced_dct | Flags.interlaced_me
    if movie.aspect != 1:
        context.sample_aspect_ratio = movie.aspect
    if movie.rotation:
        stream.set_display_rotation(movie.rotation)
    stream.metadata.update(movie.about)
    out.metadata.update({k: v for k, v in movie.about.items() if k != "timecode"})
    return stream


def _frames(movie: Movie) -> Iterator[av.VideoFrame]:
    shown = pictures(movie.size, movie.frames)
    tag = Tag(movie.size, movie.pixels, field_order=movie.field_order) if movie.field_order else None
    if movie.rotation:
        shown = [np.ascontiguousarray(np.rot90(p, -movie.rotation // 90)) for p in shown]
    matrix, primaries, transfer = WIDE.get(movie.space, movie.tags)
    known = {} if movie.pixels.startswith(("gbr", "rgb", "bgr")) else {"dst_colorspace": matrix}

    def frame_of(picture: np.ndarray) -> av.VideoFrame:
        frame = av.VideoFrame.from_ndarray(_code(picture, movie.space), format="rgb48le")
        if movie.alpha:
            frame = _with_alpha(frame)
        return frame.reformat(format=movie.pixels, dst_color_range=FULL if movie.full_range else LIMITED, **known)

    for index, picture in enumerate(shown):
        frame = frame_of(picture)
        if tag:
            later = frame_of(shown[index if index == FLASH - 1 else min(index + 1, len(shown) - 1)])
            woven = av.VideoFrame(*movie.size, movie.pixels)
            weave(woven, frame, later, movie.field_order)
            frame = tag(woven)
        if known:
            frame.colorspace = matrix
        frame.color_range = FULL if movie.full_range else LIMITED
        frame.color_primaries, frame.color_trc = primaries, transfer
        yield frame


def _code(picture: np.ndarray, space: str = "") -> np.ndarray:
    return np.rint((stored(picture, space) if space else picture).clip(0, 1) * 65535).astype(np.uint16)


def _with_alpha(frame: av.VideoFrame) -> av.VideoFrame:
    """With a matte of soft edges, as of a key."""
    rgb = frame.to_ndarray()
    y, x = np.mgrid[-1 : 1 : rgb.shape[0] * 1j, -1 : 1 : rgb.shape[1] * 1j]
    alpha = np.rint(np.clip(2.5 - 2 * np.hypot(x, y), 0, 1) * 65535).astype(np.uint16)
    return av.VideoFrame.from_ndarray(np.dstack([rgb, alpha]), format="rgba64le")


def _sound_stream(out: Any, sound: Sound) -> Any:
    track = out.add_stream(sound.codec, rate=sound.rate)
    track.layout = sound.layout
    if sound.sample:
        track.format = sound.sample
    if rate := {"libopencore_amrnb": 12200, "wmav2": 128000}.get(sound.codec):
        track.bit_rate = rate
    for name in ("language", "title"):
        if getattr(sound, name):
            track.metadata[name] = getattr(sound, name)
    track.disposition = track.disposition.default if sound.default else track.disposition * 0
    return track


def _write_sound(out: Any, track: Any, sound: Sound, click: float, seconds: float) -> None:
    samples = np.zeros(round(seconds * sound.rate), np.float32)
    start = round(click * sound.rate)
    burst = samples[start : start + sound.rate // 25]
    burst[:] = 0.8 * np.sin(np.arange(len(burst)) * 2 * np.pi * 1000 / sound.rate + 1)
    channels = av.AudioLayout(sound.layout).nb_channels
    wave = np.repeat(samples[:, None], channels, 1).reshape(1, -1)
    frame: Any = av.AudioFrame.from_ndarray(wave, format="flt", layout=sound.layout)
    frame.sample_rate, frame.pts, frame.time_base = sound.rate, 0, Fraction(1, sound.rate)
    context, fifo = track.codec_context, av.AudioFifo()
    resampler = av.AudioResampler(format=context.format.name, layout=sound.layout, rate=sound.rate)
    for part in resampler.resample(frame):
        fifo.write(part)
    while (part := fifo.read(context.frame_size or 1024, partial=True)) is not None:
        out.mux(track.encode(part))
    out.mux(track.encode(None))


def _text_stream(out: Any, suffix: str, language: str, title: str) -> Any:
    track = out.add_stream("mov_text" if suffix in (".mov", ".mp4") else "subrip")
    track.codec_context.subtitle_header = subtitles.HEADER
    track.time_base = Fraction(1, 1000)
    track.metadata.update({"language": language, "title": title})
    return track


def _text_packet(track: Any, begin: int) -> Any:
    text = f"Line at {begin} ms"
    packet: Any = av.Packet(subtitles.packet_of(text, track.codec_context.name))
    packet.pts = packet.dts = begin
    packet.duration, packet.time_base, packet.stream = 200, Fraction(1, 1000), track
    return packet


def _data_packet(track: Any, begin: float) -> Any:
    packet: Any = av.Packet(
        bytes.fromhex("060e2b34020b01010e01030101000000") + b"\x04\0\0\0\1"
    )  # MISB ST 0601, nearly empty
    packet.time_base, packet.stream = Fraction(1, 90000), track
    packet.pts = packet.dts = round(begin * 90000)
    packet.duration = 14400
    return packet


def _chapter(number: int, start: int, end: int, title: str) -> dict[str, Any]:
    return {"id": number, "start": start, "end": end, "time_base": Fraction(1, 1000), "metadata": {"title": title}}
