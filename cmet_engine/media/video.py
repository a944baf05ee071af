"""Video in and out: streaming, exact rates and times, rotation applied, colours kept, sound copied.

Reading: `probe`, `VideoReader`. Writing: `VideoWriter`; the suffix chooses the kind of output:

    .mp4 .m4v .mkv   H.264, 8 bit, 4:2:0, visually lossless
    .mov             ProRes 422 HQ, 10 bit (ProRes 4444 where the width is odd)
    .png .exr        an image sequence: `out/frame_%06d.png`, or `out/frame.png` for out/frame_000001.png and on
    (no suffix)      a folder of PNG frames

Colours: pictures are handed out as 8-bit RGB, made with the clip's own matrix and range, and written back with the
same, so that a pixel that nobody edits comes back as it was. A clip that does not name its matrix is read with
BT.601 and the result does not name one either: a player treats both alike.

H.264 in 4:2:0 cannot describe an odd width or height: its cropping counts in steps of two pixels (ITU-T H.264, 7.4.2.1.1,
CropUnitX and CropUnitY). Clips of odd size are therefore written in 4:4:4, where the step is one pixel: the size stays exact,
and Chromium and the players built on FFmpeg (VLC, mpv) show it; QuickTime does not (use .mov there).

Every `SEGMENT` pictures are encoded by an encoder of their own, so the bytes of a segment depend on its pictures alone. Finished
segments can be kept in a folder (`pieces`): a writer that finds them there goes on behind them, and its file equals, bit for
bit, that of a writer that was never interrupted.
"""

import contextlib
import errno
import itertools
import math
import os
import queue
import re
import shutil
import struct
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Any, cast

import av
import cv2
import numpy as np
from av.codec.context import Flags
from av.container import InputContainer
from av.video.reformatter import Interpolation, VideoReformatter

from cmet_engine.errors import CmetError
from cmet_engine.files import check_writable, whole_file, whole_folder
from cmet_engine.media.source import FRAME_NUMBER, is_pattern, open_media

# x264's constant rate factor. 18 is commonly held to be visually lossless; 13 is the largest at which every clip of a
# varied set comes back at 40 dB or better in its worst frame, noise included.
RATE_FACTOR = 13
SEGMENT = 64  # pictures that are encoded together, and lost at the most when the work is interrupted
SEQUENCE_RATE = Fraction(25)  # frames a second of an image sequence, which does not say its own
MOVIE_SUFFIXES = (".mp4", ".m4v", ".mkv", ".mov")
IMAGE_SUFFIXES = (".png", ".exr")

_STILL_SUFFIXES = (*IMAGE_SUFFIXES, ".jpg", ".jpeg", ".tif", ".tiff", ".bmp", ".webp", ".dpx")
_MAX_RATE = 1000  # above this a "frame rate" is a time base that the container failed to explain
_MIN_TIMESCALE = 90_000  # ticks a second of written files: fine enough for any variable rate
_MAX_TIMESCALE = 2**31 - 1
# Without these three flags FFmpeg converts colours by a fast path that loses half a step of brightness (46 dB of
# 75 dB over a round trip).
_EXACT = Interpolation.BICUBIC | Interpolation.ACCURATE_RND | Interpolation.FULL_CHR_H_INT
_EXACT_BACK = Interpolation.AREA | Interpolation.ACCURATE_RND | Interpolation.FULL_CHR_H_INP
_UNSPECIFIED = 2  # AVCOL_SPC_UNSPECIFIED, AVCOL_PRI_UNSPECIFIED, AVCOL_TRC_UNSPECIFIED
_BT709 = 1
_BT601 = 6
_MATRICES = {1, 4, 5, 6, 7, 9}  # AVColorSpace values that FFmpeg's scaler converts
_HDR = {16, 18}  # AVCOL_TRC_SMPTE2084 (PQ), AVCOL_TRC_ARIB_STD_B67 (HLG)
_LIMITED, _FULL = 1, 2  # AVCOL_RANGE_MPEG, AVCOL_RANGE_JPEG
_X264_THREADS = 4  # x264's bytes depend on their number, which must not depend on the machine
_PACKET = struct.Struct("<qI?")  # of a kept packet: time stamp in ticks, bytes that follow, keyframe
_STOP = object()


@dataclass(frozen=True)
class Colors:
    """How a clip's numbers stand for colours; values are FFmpeg's AVCOL_* codes.

    Attributes:
        matrix: from RGB to luma and chroma; 2 means the clip does not say.
        full_range: luma covers 0 to 255 instead of 16 to 235.
        primaries, transfer: kept as they are; no conversion uses them.
    """

    matrix: int = _BT709
    full_range: bool = False
    primaries: int = _BT709
    transfer: int = _BT709

    @property
    def conversion(self) -> dict[str, int]:
        """Matrix and range as the scaler takes them."""
        return {
            "colorspace": self.matrix if self.matrix in _MATRICES else _BT601,
            "color_range": _FULL if self.full_range else _LIMITED,
        }


@dataclass(frozen=True)
class VideoInfo:
    """What a clip is, as measured from its packets rather than believed from its header.

    Attributes:
        path: the file, folder or pattern.
        width, height: pixels as displayed, rotation applied.
        fps: frames a second, exact; the mean rate where `variable`.
        variable: frames are not evenly spaced.
        frames: how many frames the file holds; a damaged one may decode to fewer.
        duration: seconds from the first frame to the end of the last.
        has_audio: there is sound.
        rotation: degrees clockwise by which the stored pictures are turned to be displayed: 0, 90, 180 or 270.
        bit_depth: bits of each stored colour value.
        codec: FFmpeg's name of the video codec.
        colors: matrix and range of the stored pictures.
        pixel_aspect: width of a pixel over its height; 1 nearly always.
        time_base: seconds of one tick of the clip's time stamps.
        offset: seconds by which the first frame comes later than the beginning of the file (sound may begin before it).
        warnings: sentences about what is wrong with the file, to show to the user.
    """

    path: Path
    width: int
    height: int
    fps: Fraction
    variable: bool
    frames: int | None
    duration: float
    has_audio: bool
    rotation: int
    bit_depth: int
    codec: str = ""
    colors: Colors = Colors()
    pixel_aspect: Fraction = Fraction(1)
    time_base: Fraction = Fraction(1, _MIN_TIMESCALE)
    offset: Fraction = Fraction(0)
    warnings: tuple[str, ...] = ()


@dataclass
class Frame:
    """One picture of a clip.

    Attributes:
        index: 0 for the first.
        time: seconds from the first frame, exact.
        image: uint8 [H, W, 3] RGB, upright; the caller's own, free to change.
    """

    index: int
    time: Fraction
    image: np.ndarray


def probe(path: str | Path) -> VideoInfo:
    """Measure a clip: every packet is read (not decoded) and the first picture is decoded.

    Args:
        path: a clip, a folder of numbered pictures, or a pattern such as `frames/frame_%06d.png`.

    Raises:
        CmetError: missing, a folder without pictures, empty, not a video, sound only, or no picture can be decoded.
    """
    return _probe(_Source.of(path))


class VideoReader:
    """The frames of a clip, one after the other; iterate again to start again.

    Decoding runs ahead in a thread of its own, `prefetch` frames at the most. A damaged frame is left out; a clip that is
    cut off ends early; `warnings` says so after (and, as far as known, before) the frames were read.

    Args:
        path: a clip, a folder of numbered pictures, or a pattern such as `frames/frame_%06d.png`.
        prefetch: frames decoded ahead; 0 decodes in the caller's thread.

    Raises:
        CmetError: see `probe`; also while iterating, when not one frame can be decoded.
    """

    def __init__(self, path: str | Path, *, prefetch: int = 3) -> None:
        self._source = _Source.of(path)
        self.prefetch = prefetch
        self.info = _probe(self._source)
        self.warnings: list[str] = list(self.info.warnings)

    def __iter__(self) -> Iterator[Frame]:
        return self.frames()

    def frames(self, start: int = 0) -> Iterator[Frame]:
        """The frames from number `start` on. Those before are decoded too, so that numbers and times stay the same."""
        frames = self._decode(start)
        return _ahead(frames, self.prefetch) if self.prefetch > 0 else frames

    def _decode(self, start: int) -> Iterator[Frame]:
        info, count, damaged = self.info, 0, 0
        first: int | None = None
        last = Fraction(-1)
        to_rgb = _ToRgb(info)
        with self._source.open() as container:
            stream = _video_stream(container, info.path)
            stream.thread_type = "AUTO"
            time_base = Fraction(stream.time_base or info.time_base)
            for decoded in _woven(_tolerant(container, stream), stream):
                if decoded is None:
                    damaged += 1
                    continue
                pts = decoded.pts if decoded.pts is not None else decoded.dts
                if first is None:
                    first = pts
                if pts is None or first is None:
                    time = last + 1 / info.fps if count else Fraction(0)
                else:
                    time = (pts - first) * time_base
                    if not info.variable:
                        time = round(time * info.fps) / info.fps  # ticks are rounded, the rate is exact
                if count and time <= last:
                    time = last + (1 / info.fps if not info.variable else time_base)
                last = time
                if not count:
                    to_rgb.orient(decoded)
                if count >= start:
                    yield Frame(count, time, to_rgb(decoded))
                count += 1
        if not count:
            raise CmetError(f"{info.path}: not one frame can be decoded; export or copy the clip again.")
        if damaged:
            self._warn(f"{info.path.name}: {damaged} damaged packet(s) were left out; {count} frames were read.")

    def _warn(self, sentence: str) -> None:
        if sentence not in self.warnings:
            self.warnings.append(sentence)


def frame_at(path: str | Path, time: Fraction) -> np.ndarray:
    """The picture of a clip that is shown at `time` seconds from the first frame, without decoding all before it.

    Returns:
        uint8 [H, W, 3] RGB, upright. Of a damaged or interlaced clip it may be the frame beside.

    Raises:
        CmetError: see `probe`.
    """
    source = _Source.of(path)
    with source.open() as container:
        stream = _video_stream(container, source.path)
        first = next((frame for frame in _tolerant(container, stream) if frame is not None), None)
        if first is None:
            raise CmetError(f"{path}: not one frame can be decoded; export or copy the clip again.")
        orientation, time_base = _orientation(first), Fraction(stream.time_base)
        wanted = (first.pts or 0) + time / time_base
        best = first
        with contextlib.suppress(
            av.error.FFmpegError, OSError
        ):  # numbered pictures cannot be sought: from the beginning
            container.seek(math.floor(wanted), stream=stream)
        for frame in _tolerant(container, stream):
            if frame is None or frame.pts is None:
                continue
            if frame.pts > wanted:
                break
            best = frame
        to_rgb = _ToRgb(VideoInfo(source.path, 0, 0, SEQUENCE_RATE, False, None, 0.0, False, 0, 8))
        return _upright(to_rgb._stored(best), orientation)


class VideoWriter:
    """Writes pictures as a video or an image sequence that appears whole or not at all.

    Use it as a context manager; encoding runs behind in a thread of its own. When the block ends with an exception
    (Ctrl-C included), nothing appears and an earlier file stays as it was.

    Args:
        path: the output; its suffix chooses the kind, see the module's docstring.
        width, height: pixels of the pictures to come, odd sizes too.
        fps: frames a second; exact where given as a Fraction.
        sound_from: the clip whose sound, colour description, pixel aspect and start of sound are kept: a path or the
            `VideoInfo` of it. Sound is copied bit for bit where the container takes its codec, else re-encoded as AAC;
            `notes` says so. A file with sound only is taken for its sound.
        metadata: tags of the file, such as {"title": …, "comment": …}; an image sequence has none.
        force: replace an earlier output.
        rate_factor: x264's rate factor, 0 (largest) to 51.
        pieces: folder in which finished segments are kept; those that are there already are taken over. The caller makes sure
            that they are of the same work, and removes them when it is done.

    Attributes:
        notes: sentences to show to the user, complete after the block.
        frames: pictures written so far; at the beginning of the block those that were taken over (a multiple of `SEGMENT`, or
            all that there are): the next one follows them.

    Raises:
        CmetError: the suffix is unknown, the output cannot be written, or `sound_from` cannot be read.
    """

    def __init__(
        self,
        path: str | Path,
        width: int,
        height: int,
        fps: Fraction | float,
        *,
        sound_from: str | Path | VideoInfo | None = None,
        metadata: dict[str, str] | None = None,
        force: bool = False,
        rate_factor: int = RATE_FACTOR,
        pieces: Path | None = None,
    ) -> None:
        self.path = Path(path)
        self.width, self.height = int(width), int(height)
        self.fps = Fraction(fps).limit_denominator(1_000_000)
        if self.width < 1 or self.height < 1:
            raise CmetError(f"{self.path.name}: a picture of {width}x{height} pixels cannot be written.")
        if self.fps <= 0:
            raise CmetError(f"{self.path.name}: {fps} frames a second is not a frame rate.")
        self.metadata = {str(k): str(v) for k, v in (metadata or {}).items()}
        self.force = force
        self.rate_factor = rate_factor
        self.pieces = pieces
        self.notes: list[str] = []
        self.frames = 0
        self._like, self._sound = _describe(sound_from)
        self._sink: _Sink
        suffix = self.path.suffix.lower()
        if suffix in MOVIE_SUFFIXES:
            check_writable(self.path, force=force)
        elif suffix not in IMAGE_SUFFIXES and suffix:
            raise CmetError(
                f"{self.path.name}: cannot write a video as '{suffix}'; use .mp4, .mkv, .mov (ProRes), .png or .exr."
            )
        self._last: Fraction | None = None
        self._queue: queue.Queue[Any] = queue.Queue(maxsize=4)
        self._error: BaseException | None = None
        self._abort = threading.Event()
        self._thread: threading.Thread | None = None
        self._stack = contextlib.ExitStack()

    def __enter__(self) -> "VideoWriter":
        kind = _MovieSink if self.path.suffix.lower() in MOVIE_SUFFIXES else _ImageSink
        with self._translated(), contextlib.ExitStack() as stack:
            self._sink = kind(self, stack)
            self.frames = self._sink.take_over()
            self._stack = stack.pop_all()
        self._thread = threading.Thread(target=self._encode, name=f"encode {self.path.name}", daemon=True)
        self._thread.start()
        return self

    def write(self, image: np.ndarray, time: Fraction | float | None = None) -> None:
        """Add a picture.

        Args:
            image: uint8 [H, W, 3] RGB; it may be changed afterwards.
            time: seconds from the first frame; the next multiple of 1/fps where None.

        Raises:
            CmetError: an earlier picture could not be written (disk full, ...).
            ValueError: the picture has another size or type, or its time is not after the one before.
        """
        if self._thread is None:
            raise ValueError("the writer is not open; use it as a context manager")
        if image.shape != (self.height, self.width, 3) or image.dtype != np.uint8:
            raise ValueError(
                f"the picture is {image.dtype} {list(image.shape)}; uint8 [{self.height}, {self.width}, 3] is needed"
            )
        at = Fraction(self.frames) / self.fps if time is None else Fraction(time).limit_denominator(10**9)
        if self._last is not None and at <= self._last:
            raise ValueError(
                f"frame {self.frames} at {float(at)} s does not come after the one at {float(self._last)} s"
            )
        # A copy, for the caller may change the picture; handed over as it is, for PyAV's own copying goes row by row.
        self._put((av.VideoFrame.from_numpy_buffer(np.array(image, order="C"), format="rgb24"), at))
        self._last = at
        self.frames += 1

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        thread, self._thread = self._thread, None
        if thread is None:
            return
        if error is None and self.frames == 0 and self._error is None:
            error = CmetError(f"{self.path.name}: no frame was written, so there is no video.")
            kind = CmetError
        with self._stack:  # on an exception its clean-up removes what was written
            if error is not None:
                self._abort.set()
            try:
                while thread.is_alive():
                    with contextlib.suppress(queue.Full):
                        self._queue.put(_STOP, timeout=0.1)
                        break
                thread.join()
            except BaseException:  # Ctrl-C while waiting: the encoder must stop before its file goes
                self._abort.set()
                with contextlib.suppress(queue.Full):
                    self._queue.put_nowait(_STOP)
                thread.join()
                raise
            if isinstance(error, CmetError) and kind is CmetError and trace is None:
                raise error
            if error is not None:
                raise error.with_traceback(trace)
            with self._translated():
                if self._error is not None:
                    raise self._error
                self._stack.close()

    def _put(self, item: Any) -> None:
        while True:
            if self._error is not None:
                with self._translated():
                    raise self._error
            with contextlib.suppress(queue.Full):
                self._queue.put(item, timeout=0.5)
                return

    def _encode(self) -> None:
        """The thread's work: encode what comes; after an error only empty the queue so that nobody waits for ever."""
        try:
            while (item := self._queue.get()) is not _STOP:
                if self._abort.is_set():
                    return
                self._sink.add(*item)
            if not self._abort.is_set():
                self._sink.finish()
        except BaseException as error:
            self._error = error
        finally:
            with contextlib.suppress(av.error.FFmpegError, OSError):
                self._sink.close()

    @contextlib.contextmanager
    def _translated(self) -> Iterator[None]:
        """Errors of the encoder and the disk as one sentence."""
        try:
            yield
        except (av.error.FFmpegError, OSError) as error:
            code = getattr(error, "errno", None)
            if code == errno.ENOSPC:
                raise CmetError(f"The disk that holds {self.path.parent} is full; nothing was written.") from error
            reason = getattr(error, "strerror", None) or str(error)
            raise CmetError(f"{self.path} cannot be written: {reason}.") from error


class _Sink:
    """Where a writer's pictures go; used by one thread."""

    def take_over(self) -> int:
        """Go on behind the pieces that are there; returns how many pictures they hold."""
        raise NotImplementedError

    def add(self, frame: av.VideoFrame, time: Fraction) -> None:
        raise NotImplementedError

    def finish(self) -> None:
        """Write what is still held back."""

    def close(self) -> None:
        """Let go of files."""


class _MovieSink(_Sink):
    def __init__(self, writer: VideoWriter, stack: contextlib.ExitStack) -> None:
        self.writer = writer
        like = writer._like
        self.colors = like.colors if like else Colors()
        self.offset = like.offset if like else Fraction(0)
        self.time_base = _time_base(writer.fps, like)
        suffix = writer.path.suffix.lower()
        temporary = stack.enter_context(whole_file(writer.path, force=writer.force))
        # Matroska's muxer numbers its files at random unless told not to
        options = {"movflags": "+faststart+use_metadata_tags"} if suffix != ".mkv" else {"fflags": "+bitexact"}
        self.container = av.open(
            str(temporary.absolute()),
            "w",
            format={".mkv": "matroska", ".mov": "mov"}.get(suffix, "mp4"),
            options=options,
        )
        stack.callback(self.container.close)
        self.container.metadata.update(writer.metadata)
        if suffix == ".mov" and writer.width % 2:  # FFmpeg's 4:2:2 encoders spoil the last columns of an odd width
            self.codec, self.pixels, self.tuning = "prores_ks", "yuv444p10le", {"profile": "4444", "vendor": "apl0"}
        elif suffix == ".mov":
            self.codec, self.pixels = "prores_aw", "yuv422p10le"
            self.tuning = {"profile": "3", "vendor": "apl0"}  # 3 is HQ
        else:
            odd = writer.width % 2 or writer.height % 2
            self.codec, self.pixels = "libx264", "yuv444p" if odd else "yuv420p"
            self.tuning = {"crf": str(writer.rate_factor), "preset": "superfast"}
        # Describes the stream and encodes nothing: every segment has an encoder of its own, set up alike.
        self.stream = cast(Any, self.container.add_stream(self.codec, rate=writer.fps, options=self.tuning))
        self._set_up(self.stream.codec_context)
        self.stream.time_base = self.time_base
        self.reformatter = VideoReformatter()
        self.sounds = _SoundCopy(writer, self.container, stack) if writer._sound else None
        self.container.start_encoding()
        self.depth = self.stream.codec_context.reorder_depth
        self.stamps: list[int] = []  # ticks of all pictures
        self.muxed = 0  # packets
        self.encoder: Any = None
        self.kept: Any = None

    def _set_up(self, context: Any) -> None:
        writer, like = self.writer, self.writer._like
        context.width, context.height, context.pix_fmt = writer.width, writer.height, self.pixels
        context.time_base, context.framerate = self.time_base, writer.fps
        context.color_range = _FULL if self.colors.full_range else _LIMITED
        context.colorspace = self.colors.matrix
        context.color_primaries, context.color_trc = self.colors.primaries, self.colors.transfer
        if like and like.pixel_aspect != 1:
            context.sample_aspect_ratio = like.pixel_aspect
        context.thread_count = _X264_THREADS if self.codec == "libx264" else 0
        context.flags |= Flags.global_header

    def take_over(self) -> int:
        for path in _finished(self.writer.pieces, ".segment"):
            packets = list(_kept_packets(path))
            self.stamps += sorted(cast(int, packet.pts) for packet in packets)
            for packet in packets:
                self._mux(packet)
        return len(self.stamps)

    def add(self, frame: av.VideoFrame, time: Fraction) -> None:
        if self.encoder is None:
            self.encoder = cast(Any, av.CodecContext.create(self.codec, "w"))
            self._set_up(self.encoder)
            self.encoder.options = self.tuning
            if self.writer.pieces:
                self.kept = _piece(self.writer.pieces, len(self.stamps), ".part").open("wb")
        conversion = self.colors.conversion
        picture = self.reformatter.reformat(
            frame,
            format=self.pixels,
            dst_colorspace=conversion["colorspace"],
            dst_color_range=conversion["color_range"],
            interpolation=_EXACT_BACK,
            threads=1,
        )
        picture.colorspace = self.colors.matrix
        picture.pts, picture.time_base = round((time + self.offset) / self.time_base), self.time_base
        self.stamps.append(picture.pts)
        self._take(self.encoder.encode(picture))
        if len(self.stamps) % SEGMENT == 0:
            self._end_segment()

    def _end_segment(self) -> None:
        if self.encoder is None:
            return
        self._take(self.encoder.encode(None))
        self.encoder = None
        if self.kept:
            self.kept.flush()
            os.fsync(self.kept.fileno())
            self.kept.close()
            part = Path(self.kept.name)
            part.replace(part.with_suffix(".segment"))

    def finish(self) -> None:
        self._end_segment()
        if self.sounds:
            self.sounds.until(None)
        self.container.close()

    def close(self) -> None:
        if self.kept:
            self.kept.close()
        self.container.close()

    def _take(self, packets: list[av.Packet]) -> None:
        for packet in packets:
            if self.kept:
                self.kept.write(_PACKET.pack(packet.pts, packet.size, packet.is_keyframe))
                self.kept.write(packet)
            self._mux(packet)

    def _mux(self, packet: av.Packet) -> None:
        """Write a packet, and the sound that belongs before it.

        Its time of decoding is that of the picture shown `depth` before it. Encoders say the same, but at the beginning of
        a segment they do not know what was before, and guess wrong where frames are unevenly spaced.
        """
        step = round(1 / self.writer.fps / self.time_base)
        before = self.muxed - self.depth
        packet.dts = self.stamps[before] if before >= 0 else self.stamps[0] + before * step
        packet.duration = step  # without it the last frame has no length and the mean rate comes out wrong
        packet.time_base, packet.stream = self.time_base, self.stream
        self.muxed += 1
        if self.sounds:
            self.sounds.until(packet.dts * self.time_base)
        self.container.mux(packet)


class _ImageSink(_Sink):
    """Numbered pictures in a folder; PNG as they are, EXR in half floats, linear light (sRGB curve undone)."""

    def __init__(self, writer: VideoWriter, stack: contextlib.ExitStack) -> None:
        folder, self.pattern = _output_pattern(writer.path)
        kept = _numbered(folder, self.pattern)
        if kept and not writer.force:
            raise CmetError(
                f"{folder} holds frames of that name already ({kept[0].name}); choose another or add --force to replace them."
            )
        self.count = 0
        # Frames of an earlier, longer sequence would otherwise stay behind the new ones and belong to neither.
        stack.callback(self._remove_stale, kept)
        self.done = False
        self.names: set[str] = set()
        self.folder = stack.enter_context(whole_folder(folder, force=True))
        self.pieces = writer.pieces
        if writer._sound:
            writer.notes.append("An image sequence holds no sound; it stays in the source clip.")

    def take_over(self) -> int:
        found = _finished(self.pieces, Path(self.pattern).suffix.lower(), 1)
        for path in found[: len(found) // SEGMENT * SEGMENT]:
            self._place(path)
        return self.count

    def _place(self, path: Path) -> None:
        """Put a finished picture into the sequence; it stays where it is too, until the whole is done."""
        self.count += 1
        name = self.pattern % self.count
        self.names.add(name)
        try:
            os.link(path, self.folder / name)
        except OSError:  # another disk, or one that knows no links
            shutil.copyfile(path, self.folder / name)

    def add(self, frame: av.VideoFrame, time: Fraction) -> None:
        suffix = Path(self.pattern).suffix.lower()
        rgb = frame.to_ndarray()
        if suffix == ".png":
            done, picture = cv2.imencode(".png", cv2.cvtColor(rgb, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_PNG_COMPRESSION, 3])
            if not done:
                raise CmetError(f"Picture {self.count + 1} cannot be encoded as PNG.")
            data = picture.tobytes()
        else:
            data = _exr(_LINEAR[rgb])
        if self.pieces:
            part = _piece(self.pieces, self.count, ".part")
            part.write_bytes(data)
            self._place(part.replace(part.with_suffix(suffix)))
            return
        self.count += 1
        name = self.pattern % self.count
        self.names.add(name)
        (self.folder / name).write_bytes(data)

    def finish(self) -> None:
        self.done = True

    def _remove_stale(self, kept: list[Path]) -> None:
        for path in kept:
            if self.done and path.name not in self.names:
                path.unlink()


def _piece(folder: Path, first: int, suffix: str) -> Path:
    """File of the piece that begins with a picture, by its number."""
    return folder / f"{first:08d}{suffix}"


def _finished(folder: Path | None, suffix: str, step: int = SEGMENT) -> list[Path]:
    """The finished pieces of `step` pictures each, in order, up to the first gap."""
    found: list[Path] = []
    while folder and (path := _piece(folder, len(found) * step, suffix)).is_file():
        found.append(path)
    return found


def _kept_packets(path: Path) -> Iterator[av.Packet]:
    """The packets of a finished segment, in the order of decoding."""
    with path.open("rb") as file:
        while head := file.read(_PACKET.size):
            stamp, size, key = _PACKET.unpack(head)
            packet = av.Packet(file.read(size))
            packet.pts, packet.is_keyframe = stamp, key
            yield packet


class _SoundCopy:
    """Moves the sound of one file into another, in step with the pictures."""

    def __init__(self, writer: VideoWriter, target: Any, stack: contextlib.ExitStack) -> None:
        assert writer._sound is not None
        self.target = target
        self.notes = writer.notes
        self.path = writer._sound
        source = stack.enter_context(open_media(self.path))
        like = writer._like
        # Output time 0 is the beginning of the source's pictures and sound together, so both keep their distance.
        self.shift = -(_first_start(source, like.path if like else self.path))
        self.tracks: dict[int, tuple[Any, Any]] = {}  # stream of the output, resampler where it is encoded again
        for stream in source.streams.audio:
            context = stream.codec_context
            if context is None or not context.rate:
                writer.notes.append("A sound track of an unknown kind was left out.")
                continue
            codec = context.codec.canonical_name
            if codec in target.supported_codecs:
                out = target.add_stream_from_template(stream)
                self.tracks[stream.index] = (out, None)
            else:
                rate = _aac_rate(stream.rate)
                out = target.add_stream("aac", rate=rate)
                out.bit_rate = 256_000
                out.layout = "mono" if stream.channels == 1 else "stereo"
                resampler = av.AudioResampler(format="fltp", layout=out.layout.name, rate=rate)
                self.tracks[stream.index] = (out, resampler)
                writer.notes.append(
                    f"The sound ({codec}) does not fit into {writer.path.suffix}; it was re-encoded as AAC at 256 kbit/s."
                )
            if language := stream.metadata.get("language"):
                out.metadata["language"] = language
        self.packets = self._read(source)
        self.waiting: Any = None

    def _read(self, source: InputContainer) -> Iterator[av.Packet]:
        streams = [s for s in source.streams.audio if s.index in self.tracks]
        if not streams:  # nothing asked for would mean everything
            return
        try:
            for packet in source.demux(streams):
                if packet.pts is not None or packet.size:
                    yield packet
        except (av.error.FFmpegError, OSError):
            return  # the source is cut off; what there was of sound is kept

    def until(self, time: Fraction | None) -> None:
        """Write all packets that begin before `time` seconds of the output; None for the rest."""
        while True:
            packet = self.waiting if self.waiting is not None else next(self.packets, None)
            self.waiting = None
            if packet is None:
                break
            begin = (packet.pts or 0) * packet.time_base + self.shift
            if time is not None and begin > time:
                self.waiting = packet
                return
            self._move(packet)
        if time is None:
            for out, resampler in self.tracks.values():
                if resampler is not None:
                    for frame in resampler.resample(None):
                        self.target.mux(out.encode(frame))
                    self.target.mux(out.encode(None))

    def _leave_out(self) -> None:
        note = "Damaged parts of the sound were left out."
        if note not in self.notes:
            self.notes.append(note)

    def _move(self, packet: av.Packet) -> None:
        out, resampler = self.tracks[packet.stream.index]
        shift = round(self.shift / packet.time_base)
        if resampler is None:
            if packet.pts is not None:
                packet.pts += shift
            if packet.dts is not None:
                packet.dts += shift
            packet.stream = out
            try:
                self.target.mux(packet)
            except (av.error.InvalidDataError, av.error.ArgumentError):
                self._leave_out()
            return
        try:
            frames = packet.decode()
        except av.error.InvalidDataError:
            self._leave_out()
            return
        for frame in frames:
            if frame.pts is not None:
                frame.pts += shift
            for resampled in resampler.resample(frame):
                self.target.mux(out.encode(resampled))


class _ToRgb:
    """Decoded frames to upright uint8 RGB."""

    def __init__(self, info: VideoInfo) -> None:
        self.info = info
        self.reformatter = VideoReformatter()
        self.orientation = (False, False, False)

    def orient(self, first: av.VideoFrame) -> None:
        """Take the orientation of the clip from its first frame.

        Of no other: a frame whose side data was looked at is kept until the garbage collector runs.
        """
        self.orientation = _orientation(first)

    def __call__(self, frame: av.VideoFrame) -> np.ndarray:
        image = _upright(self._stored(frame), self.orientation)
        if image.shape[:2] != (self.info.height, self.info.width):  # the clip changes its size on the way
            image = cv2.resize(image, (self.info.width, self.info.height), interpolation=cv2.INTER_AREA)
        return image

    def _stored(self, frame: av.VideoFrame) -> np.ndarray:
        name = frame.format.name
        if "f32" in name or "f16" in name:
            # one thread: with several, a row of odd width may be written over by the end of the row before
            linear = self.reformatter.reformat(frame, format="gbrpf32le", threads=1).to_ndarray()
            return _DISPLAY[linear.astype(np.float16).view(np.uint16)]
        conversion = {}
        if not (frame.format.is_rgb or name == "pal8"):
            colors = _colors(frame).conversion
            conversion = {"src_colorspace": colors["colorspace"], "src_color_range": colors["color_range"]}
        # Three planes put together by OpenCV: the same numbers as FFmpeg's own "rgb24" in half the time.
        planar = self.reformatter.reformat(frame, format="gbrp", interpolation=_EXACT, threads=1, **conversion)
        green, blue, red = (np.asarray(p).reshape(p.height, p.line_size)[:, : p.width] for p in planar.planes)
        return cv2.merge([red, green, blue])


@dataclass
class _Source:
    """A clip or an image sequence that can be opened again and again."""

    path: Path
    pattern: str | None = None
    options: dict[str, str] = field(default_factory=dict)
    images: int = 0

    @classmethod
    def of(cls, path: str | Path) -> "_Source":
        path = Path(path)
        folder, pattern = path.parent, path.name
        if path.is_dir():
            folder, pattern = path, _find_pattern(path)
        elif not is_pattern(path):
            return cls(path)
        found = _numbered(folder, pattern)
        if not found:
            raise CmetError(f"{path}: there is no picture of that name; check the folder and the number of digits.")
        first, last = _number_of(found[0].name, pattern), _number_of(found[-1].name, pattern)
        if last - first + 1 != len(found):
            have = {_number_of(p.name, pattern) for p in found}
            gap = next(n for n in range(first, last) if n not in have)
            raise CmetError(f"{path}: picture {pattern % gap} is missing in the sequence; render it again.")
        # % in the folder's own name must not be taken for the frame number
        full = str(folder.absolute()).replace("%", "%%") + os.sep + pattern
        return cls(path, full, {"framerate": str(SEQUENCE_RATE), "start_number": str(first)}, len(found))

    def open(self) -> InputContainer:
        if self.pattern is None:
            return open_media(self.path)
        return open_media(self.pattern, format="image2", options=self.options)


def _probe(source: _Source) -> VideoInfo:
    path = source.path
    warnings: list[str] = []
    with source.open() as container:
        stream = _video_stream(container, path)
        promised = stream.frames if not source.images else source.images
        time_base = Fraction(stream.time_base)
        rates = [stream.guessed_rate, stream.average_rate, stream.base_rate]
        has_audio = bool(container.streams.audio)
        codec = stream.codec_context.name
        pixel_aspect = Fraction(stream.sample_aspect_ratio or 1)
        offset = _start(stream) - _first_start(container, path)
        first = next((f for f in _tolerant(container, stream) if f is not None), None)
    if first is None:
        raise CmetError(f"{path}: not one frame can be decoded; export or copy the clip again.")
    stamps: list[int] = []
    durations: list[int] = []
    unstamped = 0
    with source.open() as container:
        stream = _video_stream(container, path)
        try:
            for packet in container.demux(stream):
                if packet.size == 0 or packet.is_discard:
                    continue
                if packet.is_corrupt:
                    warnings.append(f"{path.name} is cut off: its last picture is incomplete.")
                stamp = packet.pts if packet.pts is not None else packet.dts
                if stamp is None:
                    unstamped += 1
                else:
                    stamps.append(stamp)
                    durations.append(packet.duration or 0)
        except (av.error.FFmpegError, OSError):
            warnings.append(f"{path.name} is cut off.")
    frames = len(stamps) + unstamped
    stamps, durations = zip(*sorted(zip(stamps, durations, strict=True)), strict=True) if stamps else ([], [])  # type: ignore[assignment]
    fps, variable = _rate(list(stamps), time_base, rates)
    step = 1 / fps
    # AVI counts pictures that were dropped on purpose; a file that reaches its promised end is whole.
    reached = (stamps[-1] - stamps[0]) * time_base * fps + 1.5 if stamps else frames
    if promised > max(frames, reached):
        warnings = [f"{path.name} promises {promised} frames, but {frames} can be read; it may be cut off."]
    if first.interlaced_frame:
        warnings.append(
            f"{path.name} is interlaced; its half pictures are made into whole ones, and the result is progressive."
        )
    if _colors(first).transfer in _HDR:
        warnings.append(
            f"{path.name} is HDR; pictures are worked on with 8 bits a colour, so smooth skies may show steps."
        )
    last = durations[-1] * time_base if variable and durations[-1] else step
    duration = (stamps[-1] - stamps[0]) * time_base + last if variable else max(frames, 1) * step
    orientation = _orientation(first)
    width, height = (first.height, first.width) if orientation[0] else (first.width, first.height)
    if orientation[0]:
        pixel_aspect = 1 / pixel_aspect
    return VideoInfo(
        path=path,
        width=width,
        height=height,
        fps=fps,
        variable=variable,
        frames=max(frames, 1),
        duration=float(duration),
        has_audio=has_audio,
        rotation=_degrees(orientation),
        bit_depth=max((c.bits for c in first.format.components), default=8),
        codec=codec,
        colors=_colors(first),
        pixel_aspect=pixel_aspect,
        time_base=time_base,
        offset=offset,
        warnings=tuple(dict.fromkeys(warnings)),
    )


def _rate(stamps: list[int], time_base: Fraction, header: list[Any]) -> tuple[Fraction, bool]:
    """Frames a second, and whether the frames are unevenly spaced.

    A rate is believed when every time stamp lies within one tick (and a quarter of a frame) of where it puts it; the
    header's rates are tried first, then the usual ones. If none fits, the rate is the mean.
    """
    usual = [Fraction(r) for r in (24, 25, 30, 50, 60, 48, 12, 15, 10, 20, 90, 100, 120, 240)]
    usual += [Fraction(n * 1000, 1001) for n in (24, 30, 60, 48, 120)]
    header = [Fraction(r) for r in header if r and 0 < r <= _MAX_RATE]
    # Matroska keeps a frame's length in nanoseconds, which FFmpeg turns into 19001/317 instead of 60000/1001.
    header = [next((u for u in usual if abs(u / r - 1) < 2e-6), r) for r in header]
    if len(stamps) < 2:
        return (header[0] if header else SEQUENCE_RATE), False
    offsets = np.array(stamps, np.float64) - stamps[0]
    index = np.arange(len(stamps))
    mean = (len(stamps) - 1) / ((stamps[-1] - stamps[0]) * time_base) if stamps[-1] > stamps[0] else SEQUENCE_RATE
    for rate in [*header, *usual, mean]:
        step = 1 / float(rate * time_base)  # ticks of one frame
        if np.abs(offsets - index * step).max() <= min(1, 0.25 * step) + 1e-6:
            return rate, False
    return max(min(mean, Fraction(_MAX_RATE)).limit_denominator(1001), Fraction(1, 1000)), True


def _tolerant(container: InputContainer, stream: Any) -> Iterator[av.VideoFrame | None]:
    """Decoded frames; None for a packet that cannot be decoded; ends quietly where the file is cut off."""
    packets = container.demux(stream)
    while True:
        try:
            packet = next(packets)
        except (StopIteration, av.error.FFmpegError, OSError):
            break
        try:
            yield from packet.decode()
        except av.error.InvalidDataError:
            yield None
        except (av.error.FFmpegError, OSError):
            break


def _woven(frames: Iterator[av.VideoFrame | None], stream: Any) -> Iterator[av.VideoFrame | None]:
    """The same frames; from the first interlaced one on, the two moments in a frame made into one (FFmpeg's bwdif)."""
    graph: Any = None
    for frame in frames:
        if frame is None or (graph is None and not frame.interlaced_frame):
            yield frame
            continue
        if graph is None:
            graph = _weaver(stream)
        graph.vpush(frame)
        yield from _pulled(graph, stream)
    if graph is not None:
        graph.vpush(None)
        yield from _pulled(graph, stream)


def _weaver(stream: Any) -> Any:
    graph = av.filter.Graph()
    chain = [
        graph.add_buffer(template=stream, time_base=stream.time_base),
        graph.add("bwdif", "mode=send_frame:deint=interlaced"),
        graph.add("buffersink"),
    ]
    for one, other in itertools.pairwise(chain):
        one.link_to(other)
    graph.configure()
    return graph


def _pulled(graph: Any, stream: Any) -> Iterator[av.VideoFrame]:
    while True:
        try:
            frame = graph.vpull()
        except (av.error.BlockingIOError, av.error.EOFError):
            return
        if frame.pts is not None:
            frame.pts = round(frame.pts * frame.time_base / stream.time_base)  # the filter counts in half ticks
        yield frame


def _video_stream(container: InputContainer, path: Path) -> Any:
    """The stream to read: cover art is not video; the clip's own default first, then the largest."""
    pictures = [s for s in container.streams.video if s.codec_context is not None]
    moving = [s for s in pictures if not s.disposition & s.disposition.attached_pic]
    if not moving:
        if container.streams.audio:
            raise CmetError(f"{path} holds sound only{' and a cover picture' if pictures else ''}; give a video.")
        raise CmetError(f"{path} holds no video; give a clip in which a face is seen.")
    return max(moving, key=lambda s: (bool(s.disposition & s.disposition.default), s.width * s.height))


def _start(stream: Any) -> Fraction:
    return Fraction(stream.start_time or 0) * Fraction(stream.time_base or 1)


def _first_start(container: InputContainer, path: Path) -> Fraction:
    """Seconds of the file's clock at which the first of its pictures and sounds begins."""
    streams = list(container.streams.audio)
    with contextlib.suppress(CmetError):
        streams.append(_video_stream(container, path))
    return min((_start(s) for s in streams), default=Fraction(0))


def _colors(frame: av.VideoFrame) -> Colors:
    """A decoded frame's colours; RGB pictures count as BT.709 in limited range, which is how they are written."""
    if frame.format.is_rgb or frame.format.name == "pal8" or frame.format.name.startswith(("gray", "ya")):
        return Colors()
    full = frame.color_range == _FULL or frame.format.name.startswith("yuvj")
    matrix = int(frame.colorspace)
    if matrix not in _MATRICES and matrix != _UNSPECIFIED:
        matrix = _BT709
    return Colors(matrix, full, int(frame.color_primaries), int(frame.color_trc))


def _orientation(frame: av.VideoFrame) -> tuple[bool, bool, bool]:
    """(transpose, then flip left-right, flip up-down) that the display matrix asks for, to the nearest quarter turn."""
    side = frame.side_data.get("DISPLAYMATRIX") if frame.side_data else None
    if side is None:
        return False, False, False
    a, b, _, c, d = np.frombuffer(bytes(cast(Any, side)), np.int32)[:5].astype(int)
    if abs(a) + abs(d) >= abs(b) + abs(c):  # x' = a x + c y, y' = b x + d y (libavutil/display.h)
        return False, a < 0, d < 0
    return True, c < 0, b < 0


def _degrees(orientation: tuple[bool, bool, bool]) -> int:
    """Degrees clockwise of an orientation; a mirrored one counts by its turn alone."""
    transpose, left_right, up_down = orientation
    if transpose:
        return 90 if left_right else 270
    return 180 if up_down and left_right else 0


def _upright(image: np.ndarray, orientation: tuple[bool, bool, bool]) -> np.ndarray:
    transpose, left_right, up_down = orientation
    if transpose:
        image = cv2.transpose(image)
    if left_right or up_down:
        image = cv2.flip(image, -1 if left_right and up_down else int(left_right))
    return image


def _time_base(fps: Fraction, like: VideoInfo | None) -> Fraction:
    """Ticks in which both the frame rate and the source's time stamps are whole, fine enough for anything between."""
    scale = fps.numerator
    if like is not None and like.variable:
        scale = math.lcm(scale, like.time_base.denominator)
        if scale > _MAX_TIMESCALE:
            scale = like.time_base.denominator
    scale = min(scale, _MAX_TIMESCALE)
    return Fraction(1, scale * math.ceil(_MIN_TIMESCALE / scale))


def _describe(sound_from: str | Path | VideoInfo | None) -> tuple[VideoInfo | None, Path | None]:
    """The clip to be like, and the file to take sound from."""
    if sound_from is None:
        return None, None
    if isinstance(sound_from, VideoInfo):
        return sound_from, sound_from.path if sound_from.has_audio else None
    path = Path(sound_from)
    source = _Source.of(path)
    with source.open() as container:
        try:
            _video_stream(container, path)
        except CmetError:
            if container.streams.audio:
                return None, path
            raise
    info = _probe(source)
    return info, path if info.has_audio else None


def _aac_rate(rate: int) -> int:
    """The nearest sampling rate from above that AAC and every player know."""
    return next((r for r in (16000, 22050, 24000, 32000, 44100, 48000) if r >= rate), 48000)


def _ahead(frames: Iterator[Frame], count: int) -> Iterator[Frame]:
    """`frames`, made in a thread that keeps `count` of them ready."""
    ready: queue.Queue[Any] = queue.Queue(maxsize=count)
    stop = threading.Event()

    def put(item: Any) -> bool:
        while not stop.is_set():
            with contextlib.suppress(queue.Full):
                ready.put(item, timeout=0.1)
                return True
        return False

    def work() -> None:
        try:
            for frame in frames:
                if not put(frame):
                    frames.close()  # type: ignore[attr-defined]
                    return
            put(_STOP)
        except BaseException as error:
            put(error)

    thread = threading.Thread(target=work, name="decode ahead", daemon=True)
    thread.start()
    try:
        while (item := ready.get()) is not _STOP:
            if isinstance(item, BaseException):
                raise item
            yield item
    finally:
        stop.set()
        thread.join()


def _output_pattern(path: Path) -> tuple[Path, str]:
    """Folder and pattern of an image sequence's output."""
    if not path.suffix:
        return path, "frame_%06d.png"
    if len(FRAME_NUMBER.findall(path.name)) > 1:
        raise CmetError(f"{path.name}: one frame number in the name is enough, such as frame_%06d{path.suffix}.")
    if FRAME_NUMBER.search(path.name):
        return path.parent, path.name
    return path.parent, path.stem.replace("%", "%%") + "_%06d" + path.suffix


def _pattern_regex(pattern: str) -> re.Pattern[str]:
    match = FRAME_NUMBER.search(pattern)
    assert match is not None
    before, after = (part.replace("%%", "%") for part in (pattern[: match.start()], pattern[match.end() :]))
    digits = f"\\d{{{match[1]},}}" if match[1] else "\\d+"
    return re.compile(re.escape(before) + f"({digits})" + re.escape(after))


def _number_of(name: str, pattern: str) -> int:
    match = _pattern_regex(pattern).fullmatch(name)
    assert match is not None
    return int(match[1])


def _numbered(folder: Path, pattern: str) -> list[Path]:
    """Files of a pattern in the order of their numbers."""
    if not folder.is_dir():
        return []
    regex = _pattern_regex(pattern)
    found = [(int(m[1]), p) for p in folder.iterdir() if (m := regex.fullmatch(p.name))]
    return [p for _, p in sorted(found)]


def _find_pattern(folder: Path) -> str:
    """The pattern of a folder that holds one numbered sequence of pictures."""
    patterns: dict[str, int] = {}
    for item in sorted(folder.iterdir()):
        match = re.fullmatch(r"(.*?)(\d+)(\.\w+)", item.name)
        if match and match[3].lower() in _STILL_SUFFIXES and not item.name.startswith("."):
            before, digits, after = (part.replace("%", "%%") for part in match.groups())
            pattern = f"{before}%0{len(digits)}d{after}"
            patterns[pattern] = patterns.get(pattern, 0) + 1
    if not patterns:
        raise CmetError(f"{folder} is a folder without numbered pictures; give a clip or a folder of frames.")
    if len(patterns) > 1:
        first, second = list(patterns)[:2]
        raise CmetError(f"{folder} holds several sequences; name one of them, such as {folder / first} or {second}.")
    return next(iter(patterns))


def _srgb_tables() -> tuple[np.ndarray, np.ndarray]:
    """sRGB to linear light, float16 [256]; linear half floats by their bits to sRGB, uint8 [65536] (IEC 61966-2-1)."""
    encoded = np.arange(256) / 255
    linear = np.where(encoded <= 0.04045, encoded / 12.92, ((encoded + 0.055) / 1.055) ** 2.4).astype(np.float16)
    halves = np.nan_to_num(np.arange(65536, dtype=np.uint16).view(np.float16).astype(np.float64), posinf=1, neginf=0)
    halves = halves.clip(0, 1)
    display = np.where(halves <= 0.0031308, halves * 12.92, 1.055 * halves ** (1 / 2.4) - 0.055)
    return linear, np.round(display * 255).astype(np.uint8)


_LINEAR, _DISPLAY = _srgb_tables()


def _exr(linear: np.ndarray) -> bytes:
    """A picture of linear light, float16 [H, W, 3], as the bytes of an OpenEXR file (half floats, ZIP)."""
    planes = np.ascontiguousarray(linear.astype(np.float32))
    frame = av.VideoFrame.from_ndarray(planes, format="gbrpf32le")
    context = av.CodecContext.create("exr", "w")
    context.width, context.height, context.pix_fmt = frame.width, frame.height, "gbrpf32le"
    context.time_base = Fraction(1, 25)
    context.options = {"compression": "zip16", "format": "half"}
    frame.pts, frame.time_base = 0, Fraction(1, 25)
    return b"".join(bytes(p) for p in [*context.encode(frame), *context.encode(None)])
