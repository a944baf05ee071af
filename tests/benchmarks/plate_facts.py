"""What is in a plate: measured from the file, its container's tags and its frames' headers each read alone."""

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any, NamedTuple

import av
import numpy as np
from plate_clips import SIDE, STRIP

from cmet_engine.choices import InputSpace
from cmet_engine.errors import CmetError
from cmet_engine.media import dpx, openexr
from cmet_engine.media.formats import SEQUENCE_OUT
from cmet_engine.media.info import Mastering, VideoInfo
from cmet_engine.media.planes import Layout, layout, planar_name, views
from cmet_engine.media.probe import measure as examine
from cmet_engine.media.reader import VideoReader
from cmet_engine.media.source import Source, decoded_frames, video_stream
from cmet_engine.media.spaces import of_result

UNSAID = 2  # AVCOL_*_UNSPECIFIED
_CLICK = 0.3  # of full scale
_IN_FRAMES = {"h264": 4, "hevc": 4, "prores": 3, "vp9": 0}
"""How many of primaries, transfer, matrix and range the headers of a codec's frames hold, as FFmpeg reads them."""


class Tags(NamedTuple):
    """Primaries, transfer, matrix as AVCOL_* codes, and the range: 1 limited, 2 full, 0 unsaid."""

    primaries: int = UNSAID
    transfer: int = UNSAID
    matrix: int = UNSAID
    range: int = 0

    def __str__(self) -> str:
        return f"{self.primaries}/{self.transfer}/{self.matrix} {'?lf'[self.range]}"


class SoundTrack(NamedTuple):
    """A sound track: codec, channel layout, language, title, whether it is the default one."""

    codec: str
    layout: str
    language: str
    title: str
    default: bool

    def __str__(self) -> str:
        about = " ".join(filter(None, (self.language, self.title, "*" if self.default else "")))
        return f"{self.codec} {self.layout}{f' ({about})' if about else ''}"


@dataclass
class Facts:
    """What a plate is; see `VideoInfo` for the fields of that name."""

    info: VideoInfo
    sequence: bool
    pixels: str
    about: Layout
    times: list[Fraction]
    container: Tags
    frames: Tags
    sounds: list[SoundTrack]
    subtitles: list[tuple[str, str, int]]
    chapters: list[tuple[str, float]]
    attachments: int
    data: list[int]  # packets of each track of data but time codes
    shifts: list[float | None]  # ms by which the click of each sound track comes after the flash
    mastering: Mastering

    @property
    def title(self) -> str:
        """Container, codec and pixel format."""
        return f"{Source.of(self.info.path).first_file.suffix} {self.info.codec} {self.pixels}"


def measure(path: Path, space: InputSpace) -> Facts:
    """Measure a clip or a folder of numbered pictures."""
    source = Source.of(path, space)
    info = examine(source)
    with source.open() as container:
        stream = video_stream(container, path)
        first = next(f for f in decoded_frames(container, stream) if f is not None)
        pixels = planar_name(first.format.name) or first.format.name
        sounds = [_sound(s) for s in container.streams.audio]
        texts = [s for s in container.streams if s.type == "subtitle"]
        lines = [(_language(s), _title(s)) for s in texts]
        numbers = [s.index for s in texts]
        chapters = [
            (c["metadata"].get("title", ""), float(c["start"] * Fraction(c["time_base"]))) for c in container.chapters()
        ]
        attachments = sum(s.type == "attachment" for s in container.streams)
        data = [
            s.index for s in container.streams if s.type == "data" and "timecode" not in s.metadata and not chapters
        ]
    counts = _packet_counts(path, numbers) if numbers else []
    packets = _packet_counts(path, data) if data else []
    frames = [frame.time for frame in VideoReader(Source.of(path, space))]
    movie = source.pictures is None
    return Facts(
        info, not movie, pixels, layout(pixels), frames,
        _container_tags(source) if movie else Tags(), _frame_tags(source) if movie else Tags(), sounds,
        [(*line, count) for line, count in zip(lines, counts, strict=True)], chapters, attachments, packets,
        _shifts(path) if movie else [], info.mastering,
    )  # fmt: skip


def planes(path: Path, space: InputSpace, *, read: bool) -> Iterator[list[np.ndarray]]:
    """The planes of every picture: as PyAV decodes them, or (`read`: turned or interlaced) as our reader gives them."""
    if read:
        for frame in VideoReader(Source.of(path, space)).frames(planes=True):
            assert frame.source is not None
            yield views(frame.source)
        return
    source = Source.of(path)
    with source.open() as container:
        for decoded in decoded_frames(container, video_stream(container, path)):
            assert decoded is not None
            name = planar_name(decoded.format.name)
            assert name is not None
            if decoded.format.name.replace("yuvj", "yuv") != name:
                decoded = decoded.reformat(format=name)
            yield views(decoded)


def outside_bits(clip: Path, video: Path, matte: Path, space: InputSpace, *, read: bool) -> tuple[int, float, float]:
    """Samples outside the matte that differ, the largest difference, and the matte's share of the pictures."""
    differing, largest, share = 0, 0.0, []
    pairs = zip(
        planes(clip, space, read=read), planes(video, space, read=False), planes(matte, space, read=False), strict=True
    )
    for before, after, (mask, *_) in pairs:
        share.append((mask > 127).mean())
        assert len(before) == len(after), "the number of planes differs"
        for number, (a, b) in enumerate(zip(before, after, strict=True)):
            changed = mask > 127
            if number == 3:
                changed = np.zeros_like(changed)  # alpha is never changed
            down, across = -(-mask.shape[0] // a.shape[0]), -(-mask.shape[1] // a.shape[1])
            padded = np.pad(changed, ((0, -len(mask) % down), (0, -mask.shape[1] % across)))
            keep = ~padded.reshape(a.shape[0], down, a.shape[1], across).any((1, 3))
            kind = np.dtype(f"u{a.itemsize}")
            unlike = (a.view(kind) != b.view(kind)) & keep
            differing += int(unlike.sum())
            if unlike.any():
                largest = max(largest, float(np.abs(a[unlike].astype(np.float64) - b[unlike]).max()))
    return differing, largest, float(np.mean(share))


def outside_psnr(clip: Path, video: Path, matte: Path, space: InputSpace) -> float:
    """dB between the display pictures of clip and video outside the matte."""
    source = VideoReader(Source.of(clip, space))
    suffix = Source.of(video).first_file.suffix
    written = VideoReader(Source.of(video, of_result(source.info, suffix, space)))
    errors = []
    for a, b, mask in zip(source, written, VideoReader(matte), strict=True):
        keep = mask.image[..., 0] < 128
        errors.append(np.square(a.image[keep].astype(np.float64) - b.image[keep]).mean())
    return float(10 * np.log10(255**2 / max(np.mean(errors), 1e-9)))


def frame_tags_held(codec: str) -> int:
    """How many of the four tags the headers of a codec's frames hold."""
    return _IN_FRAMES.get(codec, 0)


def headers(path: Path) -> list[Any] | None:
    """What the headers of numbered DPX or OpenEXR files say, without what depends on how they are stored; the latter's further channels."""
    source = Source.of(path)
    files = [source.file_of(number) for number in range(source.images)]
    if source.first_file.suffix == ".dpx":
        return [(head[136:660], head[768:770], head[801:803], head[1408:]) for head in map(dpx.read_header, files)]
    if source.first_file.suffix != ".exr":
        return None
    return [
        (
            openexr.kept(openexr.read_header(file)),
            {name: values.tobytes() for name, values in openexr.further_channels(file).items()},
        )
        for file in files
    ]


def _language(stream: Any) -> str:
    """ISO 639-2 has two codes for some languages; QuickTime knows one of them."""
    return {"und": "", "fra": "fre", "deu": "ger"}.get(found := stream.metadata.get("language", ""), found)


def _title(stream: Any) -> str:
    return stream.metadata.get("title", "") or stream.metadata.get("name", "")


def _sound(stream: Any) -> SoundTrack:
    default = bool(stream.disposition & stream.disposition.default)
    layout = stream.layout.name.removesuffix("(side)")  # 5.1 means either
    layout = {"1 channels": "mono", "2 channels": "stereo"}.get(layout, layout)  # as players take them
    codec = stream.codec_context.name
    codec = "MPEG audio" if codec in ("mp2", "mp2float", "mp3", "mp3float") else codec  # one name for all layers in MP4
    return SoundTrack(codec, layout, _language(stream), _title(stream), default)


def _packet_counts(path: Path, streams: list[int]) -> list[int]:
    counts = dict.fromkeys(streams, 0)
    with av.open(str(path)) as container:
        for packet in container.demux([container.streams[i] for i in streams]):
            if packet.stream_index in counts:
                counts[packet.stream_index] += packet.size > 2
    return list(counts.values())


def _container_tags(source: Source) -> Tags:
    """What the container alone says: FFmpeg opens no decoder, which would put its own in their place."""
    with av.open(str(source.path.absolute()), options={"codec_whitelist": "none"}) as container:
        context: Any = container.streams.video[0].codec_context
        return Tags(*map(int, (context.color_primaries, context.color_trc, context.colorspace, context.color_range)))


def _frame_tags(source: Source) -> Tags:
    """What the frames alone say, to a decoder that knows nothing of the container but its setup data."""
    with av.open(str(source.path.absolute())) as container:
        stream = container.streams.video[0]
        alone: Any = av.CodecContext.create(stream.codec_context.name, "r")
        alone.extradata = stream.codec_context.extradata
        alone.width, alone.height = stream.codec_context.width, stream.codec_context.height
        for packet in container.demux(stream):
            with contextlib.suppress(av.error.FFmpegError):
                for frame in alone.decode(packet):
                    tags = (frame.color_primaries, frame.color_trc, frame.colorspace, frame.color_range)
                    return Tags(*map(int, tags))
    return Tags()


def _shifts(path: Path) -> list[float | None]:
    flash = _flash(path)
    with av.open(str(path)) as container:
        tracks = len(container.streams.audio)
    found = [_click(path, track) for track in range(tracks)]
    return [None if flash is None or click is None else 1000 * (click - flash) for click in found]


def _flash(path: Path) -> float | None:
    """Seconds of the file's clock at which the strip lights up."""
    light, times = [], []
    info = examine(Source.of(path))
    rows = max(STRIP * info.height // SIDE - 2, 2)
    with av.open(str(path)) as container:
        for frame in container.decode(container.streams.video[0]):
            gray = frame.to_ndarray(format="gray")
            gray = np.rot90(gray, info.rotation // -90)
            light.append(float(gray[1:rows].mean()))
            times.append(float(frame.time or 0))
    middle = (max(light) + min(light)) / 2
    return next((t for t, value in zip(times, light, strict=True) if value > middle), None)


def _click(path: Path, track: int) -> float | None:
    with av.open(str(path)) as container, contextlib.suppress(CmetError):
        for frame in container.decode(container.streams.audio[track]):
            samples = frame.to_ndarray()
            wave = samples.mean(0) if frame.format.is_planar else samples.reshape(-1, frame.layout.nb_channels).mean(1)
            loud = np.abs(wave) / (1.0 if samples.dtype.kind == "f" else float(np.iinfo(samples.dtype).max)) > _CLICK
            if loud.any():
                return float(frame.time or 0) + int(loud.argmax()) / frame.sample_rate
    return None


def is_sequence(suffix: str) -> bool:
    """Whether a suffix is that of numbered pictures."""
    return suffix in SEQUENCE_OUT
