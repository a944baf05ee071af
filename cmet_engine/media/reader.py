"""Read the frames of a clip: streaming, at exact times, upright, in RGB."""

import contextlib
import math
import queue
import threading
from collections import deque
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any, NamedTuple

import av
import numpy as np

from cmet_engine.choices import GUESSED, InputSpace
from cmet_engine.errors import InvalidInput
from cmet_engine.media.colour import DecodedPicture, ToRgb
from cmet_engine.media.info import Frame, VideoInfo
from cmet_engine.media.planes import Upright
from cmet_engine.media.probe import measure
from cmet_engine.media.source import Source, decoded_frames, filter_graph, video_stream

_STOP = object()
_SEEK_BACK = (0, 2, 10)  # seconds before the wanted frame at which a key frame is looked for


class _Moments(NamedTuple):
    """A decoded picture as it is stored, and a whole picture of its moment, or of each of its two."""

    stored: av.VideoFrame
    whole: list[av.VideoFrame]


class VideoReader:
    """The frames of a clip, one after the other; iterate again to start again.

    Decoding runs ahead in a thread of its own, `prefetch` frames at the most. A damaged frame is left out; a clip that is
    cut off ends early; `warnings` says so after (and, as far as known, before) the frames were read.

    Args:
        path: a clip, a folder of numbered pictures, or a pattern such as `frames/frame_%06d.png`; or a `Source`, which may
            stand for a part of one. Frames and their times count from the beginning of that part.
        prefetch: frames decoded ahead; 0 decodes in the caller's thread.
        space: what is said about the clip's colours; pictures are made for a display from them.

    Raises:
        InvalidInput: see `probe`; the colour space is unknown; also while iterating, when not one frame can be decoded.
    """

    def __init__(self, path: str | Path | Source, *, prefetch: int = 3, space: InputSpace = GUESSED) -> None:
        self._source = Source.of(path, space)
        self.prefetch = prefetch
        self.info = measure(self._source)
        self.warnings: list[str] = list(self.info.warnings)
        clock = self.info.clock
        self._place = _place_before(self._source, clock.start) if clock.start and not clock.shifts else None

    def __iter__(self) -> Iterator[Frame]:
        return self.frames()

    def frames(
        self, start: int = 0, *, planes: bool = False, fields: bool = False, whole: bool = True
    ) -> Iterator[Frame]:
        """The frames from number `start` on. Those before are decoded too, so that numbers and times stay the same.

        With `planes` they come in the clip's own pixel format too, where it is planar or can be made so without loss. With
        `fields` as well, interlaced ones stay so there, and each comes with whole pictures of its two moments; else the second
        moment is left out.

        Without `whole` the RGB of a frame is made when somebody looks at it, as far as they look: for whoever needs a region alone.
        """
        planes = planes and self.info.pixels != ""
        frames = self._decode(start, planes, planes and fields and self.info.field_order != "", whole)
        return _prefetched(frames, self.prefetch) if self.prefetch > 0 else frames

    def _decode(self, start: int, planes: bool, fields: bool, whole: bool) -> Iterator[Frame]:
        info, count, damaged = self.info, 0, 0
        first: int | None = None
        last = Fraction(-1)
        to_rgb = ToRgb((info.width, info.height), info.display)
        own: Upright | None = None
        with self._source.open() as container:
            stream = video_stream(container, info.path)
            stream.thread_type = "AUTO"
            time_base = Fraction(stream.time_base or info.time_base)
            if self._place is not None:
                container.seek(self._place, stream=stream)
            decoding = _deinterlaced(decoded_frames(container, stream, info.clock), stream, info.field_order, fields)
            for moments in self._kept(_part(decoding, info, time_base)):
                if moments is None:
                    damaged += 1
                    continue
                decoded = moments.stored
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
                    if planes:
                        own = Upright(
                            (info.width, info.height), info.pixels, info.colors, to_rgb.orientation, info.field_order
                        )
                if count >= start:
                    pictures = [DecodedPicture(one, to_rgb) for one in moments.whole]
                    if whole:
                        pictures[0].whole  # noqa: B018
                    seen = [
                        Frame(count, time, picture, own(one) if own else None)
                        for picture, one in zip(pictures, moments.whole, strict=True)
                    ]
                    if own and len(seen) == 2:
                        seen = [Frame(count, time, pictures[0], own(decoded), (seen[0], seen[1]))]
                    yield seen[0]
                count += 1
        if not count:
            raise InvalidInput(f"{info.path}: not one frame can be decoded; export or copy the clip again.")
        if damaged:
            self._warn(f"{info.path.name}: {damaged} damaged packet(s) were left out; {count} frames were read.")

    def _kept(self, frames: "Iterator[_Moments | None]") -> "Iterator[_Moments | None]":
        """The frames as they are decoded, or as they were the last time where they are kept."""
        if self._source.decoded is None or self.info.field_order:
            return frames
        return self._source.decoded.through(self._source.part, frames, self.info.frames, _bytes_of)

    def _warn(self, sentence: str) -> None:
        if sentence not in self.warnings:
            self.warnings.append(sentence)


def _bytes_of(moments: _Moments | None) -> int:
    return 0 if moments is None else sum(plane.buffer_size for plane in moments.stored.planes)


def _place_before(source: Source, start: Fraction) -> int | None:
    """Where to seek to, in ticks, so that decoding begins at or before `start` seconds; None where that cannot be done."""
    with source.open() as container:
        stream = video_stream(container, source.path)
        for back in _SEEK_BACK:
            place = math.floor((start - back) / stream.time_base)
            try:
                container.seek(place, stream=stream)
                found = next((frame for frame in decoded_frames(container, stream) if frame is not None), None)
            except (av.error.FFmpegError, OSError):  # numbered pictures cannot be sought
                return None
            if found is not None and found.pts is not None and found.pts * stream.time_base <= start:
                return place
    return None


def _part(frames: Iterator[_Moments | None], info: VideoInfo, time_base: Fraction) -> Iterator[_Moments | None]:
    """Those frames that belong to the part that is read."""
    clock, room = info.clock, min(1 / info.fps / 4, time_base)
    for frame in frames:
        pts = None if frame is None else frame.stored.pts if frame.stored.pts is not None else frame.stored.dts
        if pts is not None:
            if clock.start is not None and pts * time_base < clock.start - room:
                continue
            if clock.end is not None and pts * time_base >= clock.end - room:
                return
        yield frame


def frame_at(path: str | Path | Source, time: Fraction) -> np.ndarray:
    """The picture of a clip that is shown at `time` seconds from the first frame, without decoding all before it.

    Returns:
        uint8 [H, W, 3] RGB, upright. Of a damaged or interlaced clip it may be the frame beside.

    Raises:
        InvalidInput: see `probe`.
    """
    source = Source.of(path)
    with source.open() as container:
        stream = video_stream(container, source.path)
        first = next((frame for frame in decoded_frames(container, stream) if frame is not None), None)
        if first is None:
            raise InvalidInput(f"{source.path}: not one frame can be decoded; export or copy the clip again.")
        info, time_base = measure(source), Fraction(stream.time_base)
        to_rgb, clock = ToRgb(display=info.display), info.clock
        to_rgb.orient(first)
        wanted = (first.pts or 0) + time / time_base
        best = first
        with contextlib.suppress(av.error.FFmpegError, OSError):  # numbered pictures cannot be sought
            container.seek(0 if clock.shifts else math.floor(wanted), stream=stream)
        for frame in decoded_frames(container, stream, clock):
            if frame is None or frame.pts is None:
                continue
            if frame.pts > wanted:
                break
            best = frame
        return to_rgb(best)


def _deinterlaced(
    frames: Iterator[av.VideoFrame | None], stream: Any, field_order: str, both: bool
) -> Iterator[_Moments | None]:
    """Frames with whole pictures of their moments; of interlaced ones FFmpeg's bwdif makes them, of the second if `both`."""
    graph: Any = None
    waiting: deque[_Moments] = deque()
    for frame in frames:
        if frame is None or (graph is None and not frame.interlaced_frame):
            yield None if frame is None else _Moments(frame, [frame])
            continue
        if graph is None:
            mode, parity = "send_field" if both else "send_frame", field_order or "auto"
            graph = filter_graph(stream, "bwdif", f"mode={mode}:parity={parity}:deint=interlaced")
        graph.vpush(frame)
        waiting.append(_Moments(frame, []))
        yield from _pulled(graph, waiting, both)
    if graph is not None:
        graph.vpush(None)
        yield from _pulled(graph, waiting, both)


def _pulled(graph: Any, waiting: deque[_Moments], both: bool) -> Iterator[_Moments]:
    """Those of the waiting pictures whose moments are all there now; the filter holds back the last."""
    while True:
        try:
            whole = graph.vpull()
        except (av.error.BlockingIOError, av.error.EOFError):
            return
        waiting[0].whole.append(whole)
        if len(waiting[0].whole) == (2 if both and waiting[0].stored.interlaced_frame else 1):
            yield waiting.popleft()


def _prefetched(frames: Iterator[Frame], count: int) -> Iterator[Frame]:
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

    thread = threading.Thread(target=work, name="decode", daemon=True)
    thread.start()
    try:
        while (item := ready.get()) is not _STOP:
            if isinstance(item, BaseException):
                raise item
            yield item
    finally:
        stop.set()
        thread.join()
