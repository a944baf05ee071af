"""Write pictures as a video or an image sequence; the suffix chooses the kind of output:

    .mp4 .m4v .mkv   H.264, visually lossless, in the clip's own pixel format; HEVC where that has more than 8 bits
    .mov             ProRes 422 HQ, 10 bit (ProRes 4444 where the clip is 4:4:4 or has alpha, or the width is odd)
    .mxf             DNxHR HQ (HQX with more than 8 bits, 444 where the clip is 4:4:4)
    .webm            VP9, 8 bit
    .png .tif .dpx   an image sequence in the clip's own depth: 8 or 16 bits a colour, of .dpx also 10 or 12
    .exr             an image sequence in floating point: scene-linear light as it is, others as linear light (`stills`)
    (no suffix)      a folder of PNG frames

The name of an image sequence is `out/frame_%06d.png`, or `out/frame.png` for out/frame_000001.png and on.

Another codec may be asked for by name (`codecs`). Pictures that come in the clip's own pixel format, and that the codec takes, are
handed to it bit for bit.

H.264 in 4:2:0 cannot describe an odd width or height: its cropping counts in steps of two pixels (ITU-T H.264, 7.4.2.1.1,
CropUnitX and CropUnitY). Clips of odd size are therefore written in 4:4:4, where the step is one pixel: the size stays exact,
and Chromium and the players built on FFmpeg (VLC, mpv) show it; QuickTime does not (use .mov there).

Every `SEGMENT` pictures are encoded by an encoder of their own, so the bytes of a segment depend on its pictures alone. Finished
segments can be kept in a folder (`segments`): a writer that finds them there goes on behind them, and its file equals, bit for
bit, that of a writer that was never interrupted.
"""

import contextlib
import errno
import queue
import threading
from collections.abc import Iterator
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Any

import av
import numpy as np

from cmet_engine.errors import CmetError, InvalidInput
from cmet_engine.files import check_writable
from cmet_engine.media import codecs, formats
from cmet_engine.media.info import VideoInfo
from cmet_engine.media.movie_output import MovieOutput
from cmet_engine.media.output import Output, OutputSettings, Seal
from cmet_engine.media.planes import layout
from cmet_engine.media.probe import measure
from cmet_engine.media.sequence_output import SequenceOutput, losses
from cmet_engine.media.source import Source, video_stream

# x264's constant rate factor. 18 is commonly held to be visually lossless; 13 is the largest at which every clip of a
# varied set comes back at 40 dB or better in its worst frame, noise included.
RATE_FACTOR = 13
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
            `Source` or `VideoInfo` of it. Sound is copied bit for bit where the container takes its codec, else re-encoded as AAC;
            `notes` says so. A file with sound only is taken for its sound.
        metadata: tags of the file, such as {"title": …, "comment": …}; an image sequence has none.
        force: replace an earlier output.
        rate_factor: constant rate factor of H.264, HEVC and VP9, 0 (largest) to 51.
        codec: of a movie, as in `choices.Codec`; None is the one of the suffix.
        source: the clip whose description is kept, where it is not that of `sound_from`.
        fields: of an interlaced clip pictures will come in its own pixel format and interlaced, if `takes_fields` says so.
        segments: folder in which finished segments are kept; those that are there already are taken over. The caller makes sure
            that they are of the same work, and removes them when it is done.
        seal: the last that is done to the finished file before it gets its name.

    Attributes:
        notes: sentences to show to the user, complete after the block.
        frames: pictures written so far; at the beginning of the block those that were taken over (a multiple of `SEGMENT`, or
            all that there are): the next one follows them.
        takes_planes: pictures are better written in the clip's own pixel format than in RGB.
        takes_fields: pictures must be interlaced; known from the beginning of the block on.

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
        sound_from: str | Path | Source | VideoInfo | None = None,
        metadata: dict[str, str] | None = None,
        force: bool = False,
        rate_factor: int = RATE_FACTOR,
        segments: Path | None = None,
        codec: str | None = None,
        source: VideoInfo | None = None,
        fields: bool = False,
        seal: Seal | None = None,
    ) -> None:
        self.path = Path(path)
        self.width, self.height = int(width), int(height)
        self.fps = Fraction(fps).limit_denominator(1_000_000)
        if self.width < 1 or self.height < 1:
            raise InvalidInput(f"{self.path.name}: a picture of {width}x{height} pixels cannot be written.")
        if self.fps <= 0:
            raise InvalidInput(f"{self.path.name}: {fps} frames a second is not a frame rate.")
        suffix = self.path.suffix.lower()
        formats.check_codec(suffix, codec)
        if suffix in formats.MOVIE_OUT:
            check_writable(self.path, force=force)
        elif suffix not in formats.SEQUENCE_OUT and suffix:
            raise InvalidInput(
                f"{self.path.name}: cannot write a video as '{suffix}'; use .mp4, .mkv, .mov (ProRes), .mxf (DNxHR), .webm, .png, .tif, .dpx or .exr."
            )
        self.notes: list[str] = []
        self.frames = 0
        found, sound = _source_and_sound(sound_from)
        source = source or found
        self._settings = OutputSettings(
            self.path, self.width, self.height, self.fps, source, sound,
            metadata={str(k): str(v) for k, v in (metadata or {}).items()},
            force=force, rate_factor=rate_factor, segments=segments, codec=codec, fields=fields,
            notes=self.notes, seal=seal,
        )  # fmt: skip
        about = layout(source.pixels) if source and source.pixels else None
        # pictures of 8-bit Y'CbCr become RGB anyway; their colours are changed in RGB then
        self.takes_planes = about is not None and (
            suffix in formats.MOVIE_OUT or about.bits > 8 or about.rgb or about.gray or about.alpha
        )
        self.takes_fields = False
        self._output: Output
        self._last: Fraction | None = None
        self._queue: queue.Queue[Any] = queue.Queue(maxsize=4)
        self._error: BaseException | None = None
        self._abort = threading.Event()
        self._thread: threading.Thread | None = None
        self._stack = contextlib.ExitStack()

    def __enter__(self) -> "VideoWriter":
        kind = MovieOutput if self.path.suffix.lower() in formats.MOVIE_OUT else SequenceOutput
        with self._translated(), contextlib.ExitStack() as stack:
            self._output = kind(self._settings, stack)
            self.takes_fields = self._output.field_order != ""
            self.frames = self._output.resume()
            self._stack = stack.pop_all()
        self._thread = threading.Thread(target=self._encode, name=f"encode {self.path.name}", daemon=True)
        self._thread.start()
        return self

    def write(
        self, image: np.ndarray | av.VideoFrame, time: Fraction | float | None = None, matte: np.ndarray | None = None
    ) -> None:
        """Add a picture.

        Args:
            image: uint8 [H, W, 3] RGB, which may be changed afterwards; or a frame in the `VideoInfo.pixels` of `sound_from`, which
                is the writer's from then on.
            time: seconds from the first frame; the next multiple of 1/fps where None.
            matte: uint8 [H, W], what was changed; a channel of OpenEXR files, and left out of others.

        Raises:
            CmetError: an earlier picture could not be written (disk full, ...).
            ValueError: the picture has another size or type, or its time is not after the one before.
        """
        if self._thread is None:
            raise ValueError("the writer is not open; use it as a context manager")
        if isinstance(image, av.VideoFrame):
            frame = image
            size: tuple[int, ...] = (image.height, image.width, 3)
        else:
            size = image.shape if image.dtype == np.uint8 else ()
        if size != (self.height, self.width, 3):
            raise ValueError(
                f"the picture is {image!r}; uint8 [{self.height}, {self.width}, 3] or a frame of that size is needed"
            )
        at = Fraction(self.frames) / self.fps if time is None else Fraction(time).limit_denominator(10**9)
        if self._last is not None and at <= self._last:
            raise ValueError(
                f"frame {self.frames} at {float(at)} s does not come after the one at {float(self._last)} s"
            )
        if not isinstance(image, av.VideoFrame):
            # A copy, for the caller may change the picture; handed over as it is, for PyAV's own copying goes row by row.
            frame = av.VideoFrame.from_numpy_buffer(np.array(image, order="C"), format="rgb24")
        self._put((frame, at, matte))
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
                self._output.add(*item)
            if not self._abort.is_set():
                self._output.finish()
        except BaseException as error:
            self._error = error
        finally:
            with contextlib.suppress(av.error.FFmpegError, OSError):
                self._output.close()

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


def _source_and_sound(sound_from: str | Path | Source | VideoInfo | None) -> tuple[VideoInfo | None, Path | None]:
    """The clip whose description is kept, and the file whose sound is."""
    if sound_from is None:
        return None, None
    if isinstance(sound_from, VideoInfo):
        return sound_from, sound_from.path if sound_from.path.is_file() else None
    clip = Source.of(sound_from)
    path = clip.path
    with clip.open() as container:
        try:
            video_stream(container, path)
        except CmetError:
            if container.streams.audio:
                return None, path
            raise
    info = measure(clip)
    return info, path if path.is_file() else None


def check_output(clip: Path, path: Path, codec: str | None) -> None:
    """Refuse a video that cannot be written from a clip, before any other work.

    Raises:
        InvalidInput: codec, file, size and rate do not go together; the sentence says what does.
        CmetError: the clip cannot be read.
    """
    suffix = path.suffix.lower()
    formats.check_codec(suffix, codec)
    if codec is None and suffix != ".mxf":  # all other formats take every clip
        return
    _chosen(measure(Source.of(clip)), path, codec)


def picture_limits(footage: Source, path: Path, codec: str | None) -> list[str]:
    """Sentences about what of a clip's pictures a video of them will not hold; its notes say them again.

    Raises:
        CmetError: see `check_output`.
    """
    info = measure(footage)
    if path.suffix.lower() in formats.MOVIE_OUT:
        return list(_chosen(info, path, codec).notes)
    return losses(info, path.suffix.lower())


def _chosen(info: VideoInfo, path: Path, codec: str | None) -> codecs.Codec:
    """The codec of a movie of a clip's own pictures."""
    about = OutputSettings(path, info.width, info.height, info.fps, info, None, {}, False, RATE_FACTOR, None)
    return codecs.choose(replace(about, codec=codec, fields=True))
