"""Stream a clip through a renderer into a video, sound untouched.

Memory does not grow with the clip: frames are read, rendered and written one by one. Given a folder for finished segments,
an interrupted rendering goes on from them, with the same result bit for bit.
"""

import contextlib
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from fractions import Fraction
from pathlib import Path
from typing import Protocol

import numpy as np

from cmet_engine import fingerprint
from cmet_engine.face.geometry import FaceGeometry
from cmet_engine.media.info import Frame, VideoInfo
from cmet_engine.media.output import Seal
from cmet_engine.media.picture import shrunk
from cmet_engine.media.reader import VideoReader
from cmet_engine.media.segments import SEGMENT
from cmet_engine.media.source import Source
from cmet_engine.media.writer import RATE_FACTOR, VideoWriter
from cmet_engine.models import assets
from cmet_engine.processes import release_freed_memory
from cmet_engine.progress import Progress, Stage
from cmet_engine.provenance.watermark import Marker
from cmet_engine.render.base import Renderer
from cmet_engine.render.matte import MatteOutput
from cmet_engine.render.own_format import FrameRenderer
from cmet_engine.resume import Segments, load_arrays, save_arrays

Preview = Callable[[np.ndarray], None]
"""Called with every edited frame, uint8 [H, W, 3]."""

AHEAD = 1
"""Batches that wait for a worker, so that none of them stands still while an observer looks at a frame; each is held in memory."""

NOTES = "notes.npz"
"""What is kept beside the finished segments: the notes of renderer and observers."""

NOTES_FORMAT = "cmet-render-notes/2"


class Observer(Protocol):
    """Sees every frame before and after, and keeps something of some of them.

    Attributes:
        index: numbers of the frames it kept something of, ascending.
        before, after: what it kept of each, arrays of one shape.
    """

    index: list[int]
    before: list[np.ndarray]
    after: list[np.ndarray]

    def wants(self, index: int) -> bool:
        """Whether it looks at the frame of a number at all."""

    def observe(self, before: Frame, after: Frame) -> None:
        """Take note of a frame that it wants, before and after."""


@dataclass
class KeptFrames:
    """An observer that keeps the `wanted` frames, scaled down to `size` pixels on the long side."""

    wanted: frozenset[int] = frozenset()
    size: int = 720
    index: list[int] = field(default_factory=list)
    before: list[np.ndarray] = field(default_factory=list)
    after: list[np.ndarray] = field(default_factory=list)

    def wants(self, index: int) -> bool:
        """See `Observer`."""
        return index in self.wanted

    def observe(self, before: Frame, after: Frame) -> None:
        """Keep the frame."""
        self.index.append(before.index)
        self.before.append(shrunk(before.image, self.size))
        self.after.append(shrunk(after.image, self.size))


@dataclass(frozen=True)
class VideoOutput:
    """The video to write.

    Attributes:
        path: the file; its suffix chooses the format, and a name with a `%` means numbered pictures.
        metadata: tags of the file.
        sound: a recording that takes the place of the clip's sound.
        rate_factor: constant rate factor of H.264, HEVC and VP9, 0 (largest file) to 51; None is the usual one.
        codec: of a movie, as in `choices.Codec`; None is the one that loses least.
        force: replace an earlier file.
        matte: a clip or numbered pictures for the mask of what was changed.
        matte_channel: the mask becomes a channel of the OpenEXR files.
        seal: the last that is done to the finished video; not to the matte.
        watermark: id that the edited faces carry; None for none.
    """

    path: Path
    metadata: dict[str, str] = field(default_factory=dict)
    sound: Path | Source | None = None
    rate_factor: int | None = None
    codec: str | None = None
    force: bool = False
    matte: Path | None = None
    matte_channel: bool = False
    seal: Seal | None = None
    watermark: int | None = None


def render_video(
    clip: Path | Source,
    renderer: Renderer,
    output: VideoOutput,
    *,
    observers: Mapping[str, Observer] | None = None,
    progress: Progress | None = None,
    pieces: Segments | None = None,
    preview: Preview | None = None,
    people: Sequence[FaceGeometry] = (),
) -> list[str]:
    """Render every frame of a clip into `output`.

    Args:
        clip: the footage; of a `Source` the part that it stands for.
        renderer: prepared for this clip.
        output: the video to write.
        observers: by name, who sees the frames; the names mark their notes.
        progress: called as ("render", frames done, frames in all).
        pieces: where finished segments are kept.
        preview: called with every edited frame.
        people: whose faces carry the watermark; none are those that the renderer names.

    Returns:
        Sentences for the user.

    Raises:
        CmetError: the clip cannot be read, or the video cannot be written.
    """
    reader, observers = VideoReader(clip), observers or {}
    info = reader.info
    rate_factor = RATE_FACTOR if output.rate_factor is None else output.rate_factor
    folder = _segments_folder(pieces, Source.of(clip), renderer, output, rate_factor, observers)
    release_freed_memory()  # what tracking needed lies elsewhere than what rendering will
    with contextlib.ExitStack() as stack:
        writer = stack.enter_context(_writer(output, info, rate_factor, folder))
        matte = _matte(output, info, folder, stack)
        start = writer.frames if matte is None or matte.frames is None else min(writer.frames, matte.frames)
        if folder:
            _recall(folder / NOTES, renderer, observers, start)
        marker = None if output.watermark is None else Marker(output.watermark, people or [renderer.geometry])
        render = FrameRenderer(renderer, info, info.display, marker)
        frames = reader.frames(start, planes=writer.takes_planes, fields=writer.takes_fields, whole=False)
        for frame, rendered in _rendered(matte.watched(frames) if matte else frames, render):
            for observer in observers.values():
                if observer.wants(frame.index):
                    observer.observe(frame, rendered)
            if folder and (frame.index + 1) % SEGMENT == 0:  # before its last frame is written, which ends the segment
                _note(folder / NOTES, renderer, observers)
            mask = matte.add(frame, rendered) if matte else None
            if frame.index >= writer.frames:
                shown = rendered.image if frame.source is None else frame.source
                writer.write(shown, frame.time, mask if output.matte_channel else None)
            if preview:
                preview(rendered.image)
            if progress:
                progress(Stage.RENDER, frame.index + 1, len(renderer.geometry))
        if folder:
            _note(folder / NOTES, renderer, observers)
    return [*renderer.messages, *reader.warnings, *writer.notes]


def _writer(output: VideoOutput, info: VideoInfo, rate_factor: int, folder: Path | None) -> VideoWriter:
    """The writer of a video of a clip's frames."""
    return VideoWriter(
        output.path, info.width, info.height, info.fps, sound_from=output.sound or info,
        source=replace(info, offset=Fraction(0)) if output.sound else info, metadata=output.metadata,
        rate_factor=rate_factor, codec=output.codec, force=output.force, segments=folder, fields=True,
        seal=output.seal,
    )  # fmt: skip


def _matte(
    output: VideoOutput, info: VideoInfo, folder: Path | None, stack: contextlib.ExitStack
) -> MatteOutput | None:
    """The matte that goes with a video, if one is wanted."""
    if output.matte is None and not output.matte_channel:
        return None
    segments = folder / "matte" if folder and output.matte else None
    if segments:
        segments.mkdir(exist_ok=True)
    return stack.enter_context(
        MatteOutput(output.matte, info, metadata=output.metadata, force=output.force, segments=segments)
    )


def _segments_folder(
    pieces: Segments | None,
    clip: Source,
    renderer: Renderer,
    output: VideoOutput,
    rate_factor: int,
    observers: Mapping[str, Observer],
) -> Path | None:
    """Where finished segments lie; emptied if they were made from something else."""
    if pieces is None:
        return None
    geometry = renderer.geometry
    landmarks = (part for _, part in geometry.chunks())
    parts = {type(part).__module__ for part in (renderer, *observers.values())}
    code = fingerprint.code(__name__, *sorted(name for name in parts if name.startswith("cmet_engine.")))
    return pieces.stage(
        "render", code, assets.CHECKSUMS, NOTES_FORMAT, clip.path, clip.reading, output.sound, output.path.name, rate_factor, output.codec, output.matte and output.matte.name, output.matte_channel, output.metadata, output.watermark,
        geometry.fade, geometry.valid, landmarks, renderer.state,
    )  # fmt: skip


def _note(path: Path, renderer: Renderer, observers: Mapping[str, Observer]) -> None:
    """Keep what is known of the frames so far, for `_recall`."""
    arrays = {f"renderer_{name}": values for name, values in renderer.notes().items()}
    for name, observer in observers.items():
        arrays[f"{name}_index"] = np.array(observer.index, np.int64)
        arrays[f"{name}_before"], arrays[f"{name}_after"] = np.array(observer.before), np.array(observer.after)
    save_arrays(path, **arrays)


def _recall(path: Path, renderer: Renderer, observers: Mapping[str, Observer], frames: int) -> None:
    """Take up what was noted of the first `frames` frames before an interruption."""
    if not (noted := load_arrays(path)):
        return
    for name, observer in observers.items():
        count = int((noted[f"{name}_index"] < frames).sum())
        observer.index = noted[f"{name}_index"][:count].tolist()
        observer.before, observer.after = (list(noted[f"{name}_{which}"][:count]) for which in ("before", "after"))
    mark = "renderer_"
    renderer.recall({k.removeprefix(mark): v for k, v in noted.items() if k.startswith(mark)}, frames)


def _rendered(frames: Iterable[Frame], render: FrameRenderer) -> Iterator[tuple[Frame, Frame]]:
    """Every frame as it was and rendered, in order; as many batches at a time as the renderer has `workers`, and `AHEAD` waiting."""
    renderer = render.renderer
    if renderer.workers < 2:
        for batch in _batches(frames, renderer.batch_size):
            yield from zip(batch, render(batch), strict=True)
        return
    waiting: deque[tuple[list[Frame], Future[list[Frame]]]] = deque()
    with ThreadPoolExecutor(max_workers=renderer.workers) as pool:
        try:
            for batch in _batches(frames, renderer.batch_size):
                waiting.append((batch, pool.submit(render, batch)))
                if len(waiting) > renderer.workers + AHEAD:
                    done, pictures = waiting.popleft()
                    yield from zip(done, pictures.result(), strict=True)
            while waiting:
                done, pictures = waiting.popleft()
                yield from zip(done, pictures.result(), strict=True)
        finally:
            for _, pictures in waiting:
                pictures.cancel()


def _batches(frames: Iterable[Frame], size: int) -> Iterator[list[Frame]]:
    batch: list[Frame] = []
    for frame in frames:
        batch.append(frame)
        if len(batch) == size:
            yield batch
            batch = []
    if batch:
        yield batch
