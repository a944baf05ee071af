"""Write pictures as a video or an image sequence; the suffix chooses the kind of output:

    .mp4 .m4v .mkv   H.264, 8 bit, 4:2:0, visually lossless
    .mov             ProRes 422 HQ, 10 bit (ProRes 4444 where the width is odd)
    .png .exr        an image sequence: `out/frame_%06d.png`, or `out/frame.png` for out/frame_000001.png and on
    (no suffix)      a folder of PNG frames

H.264 in 4:2:0 cannot describe an odd width or height: its cropping counts in steps of two pixels (ITU-T H.264, 7.4.2.1.1,
CropUnitX and CropUnitY). Clips of odd size are therefore written in 4:4:4, where the step is one pixel: the size stays exact,
and Chromium and the players built on FFmpeg (VLC, mpv) show it; QuickTime does not (use .mov there).

Every `SEGMENT` pictures are encoded by an encoder of their own, so the bytes of a segment depend on its pictures alone. Finished
segments can be kept in a folder (`pieces`): a writer that finds them there goes on behind them, and its file equals, bit for
bit, that of a writer that was never interrupted.
"""

import contextlib
import errno
import math
import os
import queue
import shutil
import threading
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Any, cast

import av
import cv2
import numpy as np
from av.codec.context import Flags
from av.video.reformatter import VideoReformatter

from cmet_engine.errors import CmetError
from cmet_engine.files import check_writable, whole_file, whole_folder
from cmet_engine.media import formats
from cmet_engine.media.colour import EXACT_BACK, LINEAR
from cmet_engine.media.info import FULL, LIMITED, MIN_TIMESCALE, Colors, VideoInfo
from cmet_engine.media.probe import measure
from cmet_engine.media.segments import PACKET, SEGMENT, finished, read_packets, segment_file
from cmet_engine.media.sequences import exr_bytes, numbered, output_pattern
from cmet_engine.media.sound_copy import SoundCopy
from cmet_engine.media.source import Source, video_stream

# x264's constant rate factor. 18 is commonly held to be visually lossless; 13 is the largest at which every clip of a
# varied set comes back at 40 dB or better in its worst frame, noise included.
RATE_FACTOR = 13
_MAX_TIMESCALE = 2**31 - 1
_X264_THREADS = 4  # x264's bytes depend on their number, which must not depend on the machine
_STOP = object()


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
        if suffix in formats.MOVIE_OUT:
            check_writable(self.path, force=force)
        elif suffix not in formats.SEQUENCE_OUT and suffix:
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
        kind = _MovieSink if self.path.suffix.lower() in formats.MOVIE_OUT else _ImageSink
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
        self.sounds = SoundCopy(writer, self.container, stack) if writer._sound else None
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
        context.color_range = FULL if self.colors.full_range else LIMITED
        context.colorspace = self.colors.matrix
        context.color_primaries, context.color_trc = self.colors.primaries, self.colors.transfer
        if like and like.pixel_aspect != 1:
            context.sample_aspect_ratio = like.pixel_aspect
        context.thread_count = _X264_THREADS if self.codec == "libx264" else 0
        context.flags |= Flags.global_header

    def take_over(self) -> int:
        for path in finished(self.writer.pieces, ".segment"):
            packets = list(read_packets(path))
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
                self.kept = segment_file(self.writer.pieces, len(self.stamps), ".part").open("wb")
        conversion = self.colors.conversion
        picture = self.reformatter.reformat(
            frame,
            format=self.pixels,
            dst_colorspace=conversion["colorspace"],
            dst_color_range=conversion["color_range"],
            interpolation=EXACT_BACK,
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
                self.kept.write(PACKET.pack(packet.pts, packet.size, packet.is_keyframe))
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
        folder, self.pattern = output_pattern(writer.path)
        kept = numbered(folder, self.pattern)
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
        found = finished(self.pieces, Path(self.pattern).suffix.lower(), 1)
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
            data = exr_bytes(LINEAR[rgb])
        if self.pieces:
            part = segment_file(self.pieces, self.count, ".part")
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


def _time_base(fps: Fraction, like: VideoInfo | None) -> Fraction:
    """Ticks in which both the frame rate and the source's time stamps are whole, fine enough for anything between."""
    scale = fps.numerator
    if like is not None and like.variable:
        scale = math.lcm(scale, like.time_base.denominator)
        if scale > _MAX_TIMESCALE:
            scale = like.time_base.denominator
    scale = min(scale, _MAX_TIMESCALE)
    return Fraction(1, scale * math.ceil(MIN_TIMESCALE / scale))


def _describe(sound_from: str | Path | VideoInfo | None) -> tuple[VideoInfo | None, Path | None]:
    """The clip to be like, and the file to take sound from."""
    if sound_from is None:
        return None, None
    if isinstance(sound_from, VideoInfo):
        return sound_from, sound_from.path if sound_from.has_audio else None
    path = Path(sound_from)
    source = Source.of(path)
    with source.open() as container:
        try:
            video_stream(container, path)
        except CmetError:
            if container.streams.audio:
                return None, path
            raise
    info = measure(source)
    return info, path if info.has_audio else None
