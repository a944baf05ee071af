"""The whole way of the data, one step after the other: footage to track, track to edit, edit to video and report.

This module only orchestrates; each step lives in its own folder. Everything that takes long reports through
`progress(stage, done, total)`; an exception raised there cancels the work, and nothing half-written stays. Given a folder
for finished `pieces`, work that was interrupted, however roughly, goes on from them, with the same result bit for bit.
"""

import contextlib
import importlib.metadata
import itertools
import logging
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from cmet_engine import __version__, cache, fingerprint
from cmet_engine.errors import CmetError
from cmet_engine.face.clip import track_clip
from cmet_engine.files import check_writable, whole_folder
from cmet_engine.models import assets
from cmet_engine.progress import Progress, Stage
from cmet_engine.resume import Segments, load_arrays, save_arrays
from cmet_engine.timeline import EmotionKey, EmotionTimeline
from cmet_engine.track import CoefficientTrack

if TYPE_CHECKING:
    from cmet_engine.emotion.library import EmotionVector
    from cmet_engine.face.tracker import FaceGeometry
    from cmet_engine.media.video import Frame

log = logging.getLogger(__name__)

Preview = Callable[[np.ndarray], None]

RENDERERS = ("warp", "edtalk", "none")
MODES = ("add", "replace")
VOICE = "voice"  # name under which the emotion of --speech stands in the timeline and the report
CHECKED_FRAMES = 32  # frames of the result that are tracked again to measure what the report says
SHOWN_MOMENTS = 5  # frames that the report shows before and after
SHOWN_SIZE = 720  # pixels on the long side of those
ASKED_AT_LEAST = 0.2  # a coefficient counts as changed by the edit from here on
OUTSIDE_FRAMES = 24  # frames of the written video that are compared with the clip outside the face
NOTES = "notes.npz"  # what is kept of a rendering beside its pieces
SMALL_FACE = 80  # pixels
FAR_TURN = 45  # degrees of head yaw


@dataclass(frozen=True)
class EditSettings:
    """What to do to a clip.

    Attributes:
        timeline: which emotion, when, how strong.
        strength: multiplies every key of the timeline.
        speech: a recording, or a folder of them, that sounds like the wanted emotion; added to the timeline.
        neutral: recordings of the same voice without the emotion; None takes the clip's own sound when it has
            some, else the library's neutral.
        mode: `add` keeps the actor's own expression underneath; `replace` removes the standing expression first.
        renderer: `warp`, `edtalk`, or `none` for the tracks alone.
        face: which face, 0 the largest.
        device: `auto`, `cpu` or `cuda` for the networks.
        video_name: name of the video in the output folder; its suffix chooses the format.
        lips: a recording that the lips shall speak instead of the clip's own sound (`edtalk` only).
        portrait: a picture that shall speak, with the clip for head motion and expression (`edtalk` only).
        quality: of `warp`: `draft`, `standard`, `best`, or `auto`; see `warp_renderer`.
    """

    timeline: EmotionTimeline = field(default_factory=EmotionTimeline)
    strength: float = 1.0
    speech: Path | None = None
    neutral: Path | None = None
    mode: str = "add"
    renderer: str = "warp"
    face: int = 0
    device: str = "auto"
    video_name: str = "edited.mp4"
    lips: Path | None = None
    portrait: Path | None = None
    quality: str = "auto"


@dataclass
class EditResult:
    """What `edit_clip` made: `folder` with its `files`, the measured `figures`, and `messages` worth reading."""

    folder: Path
    files: dict[str, Path]
    figures: dict[str, Any]
    messages: list[str]


def emotion_vectors(clip: Path, settings: EditSettings) -> "tuple[EmotionTimeline, dict[str, EmotionVector]]":
    """The timeline with the voice's key added, and the vector of every emotion on it.

    Raises:
        CmetError: an emotion is unknown, or the speech cannot be used.
    """
    from cmet_engine.emotion.library import emotion_vector, find_emotions, load_library
    from cmet_engine.media import audio
    from cmet_engine.models import registry

    timeline = settings.timeline
    library = load_library()
    if settings.speech is not None:
        from cmet_engine.emotion.speech import load_encoder

        neutral: Path | None = settings.neutral
        if neutral is None and audio.has_sound(clip):
            neutral = clip
        encoder = load_encoder("embedded", device=settings.device)
        library[VOICE] = emotion_vector([settings.speech], None if neutral is None else [neutral], VOICE, encoder)
        if settings.renderer == "edtalk" and neutral is not None and registry.is_here("emotion2vec_plus_large"):
            library[VOICE] = _heard_by_published(library[VOICE], settings.speech, neutral, settings.device)
        if not any(VOICE in EmotionTimeline([key]).names() for key in timeline.keys):
            timeline = EmotionTimeline([*timeline.keys, EmotionKey(VOICE)])
    if not timeline.keys:
        raise CmetError("No emotion was asked for; add --emotion NAME, --speech FILE or --keys FILE.")
    names = timeline.names()
    if settings.renderer == "edtalk":
        from cmet_engine.render.edtalk.pipeline import PRESET

        names = [name for name in names if not name.startswith(PRESET)]  # the renderer knows those itself
    return timeline.scaled(settings.strength), find_emotions(names, library)


def _heard_by_published(vector: "EmotionVector", speech: Path, neutral: Path, device: str) -> "EmotionVector":
    """The same emotion as emotion2vec+ large hears it, for the published connector, which was trained on that."""
    from cmet_engine.emotion.emotion2vec import PublishedEncoder
    from cmet_engine.emotion.library import MOST_SECONDS, sound_files
    from cmet_engine.media import audio

    encoder = PublishedEncoder(device=device)

    def mean(path: Path) -> np.ndarray:
        waves = (audio.load(file)[: int(MOST_SECONDS * audio.RATE)] for file in sound_files([path]))
        return np.mean([encoder.utterance(wave, audio.RATE) for wave in waves], axis=0)

    return replace(vector, vector=mean(speech) - mean(neutral))


@dataclass
class Heard:
    """What listening gives: the timeline with the voice's key, the vectors of its emotions, and by emotion how strongly
    the clip's own voice carries it, as (seconds [F], intensity [F] around 1); empty where nothing can be heard.
    """

    timeline: EmotionTimeline
    vectors: "dict[str, EmotionVector]"
    intensity: dict[str, tuple[np.ndarray, np.ndarray]] = field(default_factory=dict)

    def emphasis(self, track: CoefficientTrack) -> np.ndarray | None:
        """Intensity at every frame, float32 [N] around 1, each emotion counted as strongly as it is on then."""
        if not self.intensity:
            return None
        total = np.full(len(track), 1e-6, np.float32)
        emphasis = total.copy()
        for name, weight in self.timeline.weights(track.times, track.duration).items():
            if name in self.intensity:
                times, values = self.intensity[name]
                total += np.abs(weight)
                emphasis += np.abs(weight) * np.interp(track.times, times, values).astype(np.float32)
        return emphasis / total


def listen(clip: Path, settings: EditSettings) -> Heard:
    """Everything that is heard before an edit; see `Heard`.

    Raises:
        CmetError: an emotion is unknown, the speech cannot be used, or nothing was asked for.
    """
    from cmet_engine.emotion.speech import ENCODER_FILES, Along, intensity, load_encoder
    from cmet_engine.media import audio

    heard = Heard(*emotion_vectors(clip, settings))
    if not audio.has_sound(clip):
        return heard
    try:

        def hear() -> dict[str, np.ndarray]:
            wave = audio.load(clip)
            audio.check_speech(wave, audio.RATE, clip.name)
            return load_encoder("embedded", device=settings.device).along(wave, audio.RATE)._asdict()

        name = cache.key(
            "voice",
            clip,
            fingerprint.code("cmet_engine.emotion.speech", "cmet_engine.media.audio"),
            settings.device,
            assets.checksums(*ENCODER_FILES),
        )
        along = Along(**cache.arrays(name, hear))
        heard.intensity = {name: intensity(along, v.vector) for name, v in heard.vectors.items()}
    except CmetError as error:
        log.info("the clip's own voice is not used: %s", error)
    return heard


def edit_clip(
    clip: str | Path,
    settings: EditSettings,
    output: str | Path,
    *,
    force: bool = False,
    progress: Progress | None = None,
    pieces: Segments | None = None,
    preview: Preview | None = None,
) -> EditResult:
    """Edit a clip: `output`/edited.mp4, source.npz, edited.npz, report.html and report.json, all or nothing.

    Args:
        clip: footage with a face.
        settings: what to do.
        output: folder for the results; made when absent.
        force: replace earlier results in `output`.
        progress: called as `progress(stage, done, total)`.
        pieces: where to keep finished pieces, and go on from them. The report then leaves out how fast the work is, for
            that is another figure each time.
        preview: called with every edited frame, uint8 [H, W, 3].

    Returns:
        Paths, measured figures and messages.

    Raises:
        CmetError: anything that the user can mend; one sentence.
    """
    from cmet_engine.emotion.edit import edit_track
    from cmet_engine.quality.report import EditReport, FramePair, write_report

    clip = Path(clip)
    check_renderer(settings.renderer)
    _check_settings(settings)
    started = time.perf_counter()
    with whole_folder(output, force=force) as folder:
        with ThreadPoolExecutor(max_workers=1) as pool:  # listening and looking need nothing from each other
            listening = pool.submit(listen, clip, settings)

            def watch(stage: str, done: int, total: int | None) -> None:
                if listening.done():
                    listening.result()  # what cannot be heard ends the work now, not after the tracking
                if progress:
                    progress(stage, done, total)

            geometry, source = track_clip(clip, face=settings.face, progress=watch, pieces=pieces)
            heard = listening.result()
        timeline = heard.timeline
        source.save(folder / "source.npz")
        messages = _tracking_messages(geometry)
        rendered = RenderedFrames()
        if settings.renderer == "edtalk":
            rendered, edited = _draw(clip, geometry, source, heard, settings, folder, progress, pieces, preview)
            messages += rendered.messages
            source = fitted(source, edited)  # a portrait that speaks may be longer or shorter than the clip
        else:
            edited = edit_track(source, timeline, heard.vectors, emphasis=heard.emphasis(source), mode=settings.mode)
        edited.meta["edit"] = edit_description(timeline, settings)
        edited.save(folder / "edited.npz")
        if settings.renderer == "warp":
            painter, notes = warp_renderer(
                clip, geometry, source, edited,
                quality=settings.quality, face=settings.face, device=settings.device, timed=pieces is None, progress=progress,
            )  # fmt: skip
            messages += notes
            rendered = render_frames(
                clip,
                geometry,
                source,
                edited,
                folder / settings.video_name,
                painter=painter,
                description=edit_description(timeline, settings),
                progress=progress,
                pieces=pieces,
                preview=preview,
            )
            messages += rendered.messages
        report = EditReport(
            clip=clip.name, output=settings.video_name if rendered.index else "",
            width=geometry.size[0], height=geometry.size[1], fps=geometry.fps, duration=source.duration,
            settings=_settings_table(settings), versions=versions(), timeline=timeline, source=source, edited=edited,
            pairs=[
                FramePair(index, float(source.times[index]), before, after, _face_box(geometry, index, before))
                for index, before, after in zip(rendered.index, rendered.before, rendered.after, strict=True)
            ],
            faces_lost=int((~geometry.valid).sum()), cuts=geometry.cuts, messages=messages,
            speed=None if pieces else len(source) / (time.perf_counter() - started), **rendered.figures,
        )  # fmt: skip
        write_report(folder / "report.html", folder / "report.json", report)
    final = Path(output)
    names = ["source.npz", "edited.npz", "report.html", "report.json"]
    if settings.renderer != "none":
        names.insert(0, settings.video_name)
    return EditResult(final, {name: final / name for name in names}, rendered.figures, messages)


def _check_settings(settings: EditSettings) -> None:
    """Refuse what does not go together, before anything else is done."""
    for name in ("lips", "portrait"):
        path = getattr(settings, name)
        if path is not None and settings.renderer != "edtalk":
            raise CmetError(f"--{name} needs the published renderer; add --renderer edtalk, or leave it out.")
        if path is not None and not Path(path).is_file():
            raise CmetError(f"There is no file {path}; --{name} takes the path of one.")
    if settings.lips is not None:
        from cmet_engine.media import audio

        if not audio.has_sound(settings.lips):
            raise CmetError(f"{settings.lips} has no sound; --lips takes a recording of speech.")
    if settings.portrait is not None:
        from cmet_engine.render.edtalk.pipeline import portrait_landmarks, read_portrait

        portrait_landmarks(read_portrait(settings.portrait))
    if settings.renderer == "edtalk" and settings.mode != "add":
        raise CmetError(
            "The published models add to the expression that is there; use --mode add with --renderer edtalk."
        )


def _draw(
    clip: Path,
    geometry: "FaceGeometry",
    source: CoefficientTrack,
    heard: Heard,
    settings: EditSettings,
    folder: Path,
    progress: Progress | None,
    pieces: Segments | None,
    preview: Preview | None,
) -> "tuple[RenderedFrames, CoefficientTrack]":
    """Let the published models draw the clip, or a portrait; the edited track is read from what they drew."""
    from cmet_engine.media import audio
    from cmet_engine.render.edtalk.pipeline import EdtalkRenderer, load_enhancer, render_portrait

    video = folder / settings.video_name
    description = edit_description(heard.timeline, settings)
    if settings.portrait is not None:
        rendered = RenderedFrames()
        rendered.messages = render_portrait(
            settings.portrait, clip, video, heard.timeline, heard.vectors, voice=settings.lips, geometry=geometry,
            device=settings.device, metadata=_metadata("edtalk", description), progress=progress,
        )  # fmt: skip
    else:
        painter = EdtalkRenderer(
            clip, geometry, heard.timeline, heard.vectors, voice=None if settings.lips is None else audio.load(settings.lips),
            device=settings.device, enhancer=load_enhancer(), progress=progress,
        )  # fmt: skip
        rendered = render_frames(
            clip, geometry, source, source, video, renderer="edtalk", painter=painter, sound=settings.lips,
            description=description, progress=progress, pieces=pieces, preview=preview,
        )  # fmt: skip
    drawn = video.parent if "%" in video.name else video  # numbered pictures are read as a folder
    try:
        edited = track_clip(drawn, progress=progress, pieces=pieces)[1]
    except CmetError:
        rendered.messages.append("No face was found in what was drawn; the edited track is the clip's own.")
        edited = source
    return rendered, edited


def render_clip(
    clip: str | Path,
    edited: CoefficientTrack,
    output: str | Path,
    *,
    source: CoefficientTrack | None = None,
    renderer: str = "warp",
    face: int = 0,
    quality: str = "auto",
    device: str = "auto",
    rate_factor: int | None = None,
    force: bool = False,
    progress: Progress | None = None,
    pieces: Segments | None = None,
    preview: Preview | None = None,
    notes: list[str] | None = None,
) -> Path:
    """Render a clip with the curves of `edited` (from a file, or read back from a rig).

    Args:
        clip: the footage.
        edited: the wanted curves; brought to the clip's frames in time when their rate or length differs.
        output: video file; the suffix chooses the format.
        source: the clip's own curves that `edited` was made from; tracked anew when None.
        renderer: `warp` or `edtalk`.
        face: which face, 0 the largest.
        quality: `draft`, `standard`, `best`, or `auto`; see `warp_renderer`.
        device: `auto`, `cpu` or `cuda` for the networks.
        rate_factor: of H.264, from 0 (largest file) to 51; None is the usual one. ProRes has one quality.
        force: replace an earlier file.
        progress: called as `progress(stage, done, total)`.
        pieces, preview: see `edit_clip`.
        notes: sentences worth reading are added to it.

    Raises:
        CmetError: anything that the user can mend; one sentence.
    """
    clip, output = Path(clip), check_writable(output, force=force)
    if output.exists() and clip.exists() and output.samefile(clip):
        raise CmetError(f"{output} is the clip itself; give the video another name.")
    check_renderer(renderer)
    if renderer != "warp":
        raise CmetError(
            "EDTalk draws emotions, not curves; use `cmet edit --renderer edtalk`, or render with --renderer warp."
        )
    geometry, tracked = track_clip(clip, face=face, progress=progress, pieces=pieces)
    source = tracked if source is None else fitted(source, tracked)
    edited = fitted(edited, tracked)
    painter, messages = warp_renderer(
        clip,
        geometry,
        source,
        edited,
        quality=quality,
        face=face,
        device=device,
        timed=pieces is None,
        progress=progress,
    )
    rendered = render_frames(
        clip, geometry, source, edited, output, painter=painter,
        description="coefficient curves", rate_factor=rate_factor, progress=progress, force=force,
        pieces=pieces, preview=preview,
    )  # fmt: skip
    if notes is not None:
        notes += [*messages, *rendered.messages]
    return output


def fitted(track: CoefficientTrack, to: CoefficientTrack) -> CoefficientTrack:
    """`track` sampled at the frame times of `to`; the last value is held where it is shorter."""
    if len(track) == len(to) and np.allclose(track.times, to.times, atol=1e-3):
        return track
    if len(track) == 0:
        raise CmetError("The track has no frames.")

    def at(values: np.ndarray) -> np.ndarray:
        return np.stack([np.interp(to.times, track.times, c) for c in values.T], 1)

    return CoefficientTrack(
        to.fps, at(track.coefficients), at(track.head_rotation), at(track.eye_rotation), to.valid, to.meta
    )


@dataclass
class RenderedFrames:
    """What is kept of a rendering: some frames (`index`, `before`, `after`: uint8 [h, w, 3]), measured `figures` under
    the names of `report.EditReport`, and `messages` for the user.
    """

    index: list[int] = field(default_factory=list)
    before: list[np.ndarray] = field(default_factory=list)
    after: list[np.ndarray] = field(default_factory=list)
    figures: dict[str, float] = field(default_factory=dict)
    messages: list[str] = field(default_factory=list)


def render_frames(
    clip: Path,
    geometry: "FaceGeometry",
    source: CoefficientTrack,
    edited: CoefficientTrack,
    output: Path,
    *,
    renderer: str = "warp",
    painter: Any,
    sound: Path | None = None,
    description: str = "",
    rate_factor: int | None = None,
    force: bool = False,
    progress: Progress | None = None,
    pieces: Segments | None = None,
    preview: Preview | None = None,
) -> RenderedFrames:
    """Stream the clip through the renderer into `output`, sound untouched; and keep a few frames to look at.

    `painter` offers `render(image, index) -> image`, `renderer` is its name, `sound` a recording that takes the place of the clip's sound.

    Memory does not grow with the clip: frames are read, edited and written one by one; only the report's moments
    stay, scaled down, and the landmarks of the frames that are measured again.
    """
    from cmet_engine.media.picture import shrunk
    from cmet_engine.media.video import RATE_FACTOR, SEGMENT, VideoReader, VideoWriter
    from cmet_engine.quality.outside import psnr_of_video

    reader = VideoReader(clip)
    info = reader.info
    moments = set(_moments(source, edited))
    kept = RenderedFrames()
    total = len(source)
    rate_factor = RATE_FACTOR if rate_factor is None else rate_factor
    metadata = _metadata(renderer, description)
    folder = None
    if pieces:
        folder = pieces.stage(
            "render", fingerprint.code(__name__), assets.CHECKSUMS, clip, sound, output.name, rate_factor, metadata, geometry.fade, geometry.valid,
            (part for _, part in geometry.chunks()), source.coefficients, edited.coefficients, getattr(painter, "state", None),
        )  # fmt: skip
    with ExitStack() as stack:
        check = stack.enter_context(contextlib.closing(_Check(geometry, CHECKED_FRAMES)))
        writer = stack.enter_context(
            VideoWriter(
                output, info.width, info.height, info.fps, sound_from=sound or info, metadata=metadata,
                rate_factor=rate_factor, force=force, pieces=folder,
            )
        )  # fmt: skip
        if folder:
            _recall(folder / NOTES, kept, check, painter, writer.frames)
        for frame, picture in _painted(reader.frames(writer.frames), painter):
            if frame.index in moments:
                kept.index.append(frame.index)
                kept.before.append(shrunk(frame.image, SHOWN_SIZE))
                kept.after.append(shrunk(picture, SHOWN_SIZE))
            check.look(frame.index, frame.image, picture)
            if folder and (frame.index + 1) % SEGMENT == 0:
                _note(
                    folder / NOTES, kept, check, painter
                )  # before its last frame is given away, which finishes the segment
            writer.write(picture, frame.time)
            if preview:
                preview(picture)
            if progress:
                progress(Stage.RENDER, frame.index + 1, total)
        if folder:
            _note(folder / NOTES, kept, check, painter)
        kept.figures = check.figures(source, edited)
    with contextlib.suppress(CmetError):  # a format that cannot be read back is not measured
        written = psnr_of_video(clip, output.parent if "%" in output.name else output, geometry, OUTSIDE_FRAMES)
        if written is not None:
            kept.figures["outside_psnr"] = round(written, 2)
    kept.messages = [*reader.warnings, *writer.notes, *getattr(painter, "messages", [])]
    return kept


def _note(path: Path, kept: RenderedFrames, check: "_Check", painter: Any) -> None:
    """Keep what was noted of the frames so far, for `_recall`."""
    numbers = {"shown": np.array(kept.index, np.int64), "checked": np.array(check.index, np.int64)}
    numbers["covered"] = np.array(sorted(getattr(painter, "covered", ())), np.int64)
    images = {"before": kept.before, "after": kept.after, "face_before": check.before, "face_after": check.after}
    save_arrays(path, **numbers, **{name: np.array(values) for name, values in images.items()})


def _recall(path: Path, kept: RenderedFrames, check: "_Check", painter: Any, frames: int) -> None:
    """Take up what was noted of the first `frames` frames before an interruption."""
    if noted := load_arrays(path):
        shown, checked = (int((noted[name] < frames).sum()) for name in ("shown", "checked"))
        kept.index, check.index = noted["shown"][:shown].tolist(), noted["checked"][:checked].tolist()
        kept.before, kept.after = list(noted["before"][:shown]), list(noted["after"][:shown])
        check.before, check.after = list(noted["face_before"][:checked]), list(noted["face_after"][:checked])
        if hasattr(painter, "covered"):
            painter.covered.update(noted["covered"][noted["covered"] < frames].tolist())


def _painted(frames: "Iterable[Frame]", painter: Any) -> "Iterator[tuple[Frame, np.ndarray]]":
    """Every frame with its picture, in order; as many at a time as the painter has `workers`."""
    workers = getattr(painter, "workers", 1)
    if workers < 2:
        for frame in frames:
            yield frame, painter.render(frame.image, frame.index)
        return
    waiting: deque[tuple[Frame, Future[np.ndarray]]] = deque()
    with ThreadPoolExecutor(max_workers=workers) as pool:
        try:
            for frame in frames:
                waiting.append((frame, pool.submit(painter.render, frame.image, frame.index)))
                if len(waiting) > workers:
                    done, picture = waiting.popleft()
                    yield done, picture.result()
            while waiting:
                done, picture = waiting.popleft()
                yield done, picture.result()
        finally:
            for _, picture in waiting:
                picture.cancel()


def warp_renderer(
    clip: Path,
    geometry: "FaceGeometry",
    source: CoefficientTrack,
    edited: CoefficientTrack,
    *,
    quality: str = "auto",
    face: int = 0,
    device: str = "auto",
    timed: bool = True,
    progress: Progress | None = None,
) -> tuple[Any, list[str]]:
    """The `warp` renderer at a quality, and what the user should know about it.

    `draft` moves the frame's own pixels; `standard` blends in what other frames of the clip show better, by a network that
    is fitted to the clip first; `best` does so in finer detail. `auto` is `standard` on a GPU and `draft` without one. `timed`
    says how long it takes, which is measured, and another figure each time.

    Raises:
        CmetError: the quality is unknown, or the clip cannot be read.
    """
    from cmet_engine.render.refine import fitting
    from cmet_engine.render.warp import WarpRenderer

    if quality not in fitting.QUALITIES:
        raise CmetError(f"The quality '{quality}' is unknown; use one of {', '.join(fitting.QUALITIES)}.")
    level = fitting.resolve(quality, device)
    if level == "draft":
        messages = [] if quality == "draft" else [fitting.advice(len(geometry) if timed else None)]
        return WarpRenderer(geometry, source, edited), messages
    from cmet_engine.render.refine.renderer import RefinedRenderer

    ready = fitting.prepare(clip, geometry, source, level, face=face, device=device, timed=timed, progress=progress)
    return RefinedRenderer(geometry, source, edited, ready.crops, ready.network, ready.size), ready.messages


def _metadata(renderer: str, description: str) -> dict[str, str]:
    """Tags of an edited video, which say that it was edited."""
    return {
        "title": "Edited video",
        "comment": f"The facial expression in this video was edited with C-MET {__version__} "
        f"({renderer} renderer): {description}. It does not show what was filmed.",
        "cmet_version": __version__,
        "cmet_edit": description,
    }


def check_renderer(name: str) -> None:
    """Refuse a renderer that cannot work here before anything else is done.

    Raises:
        CmetError: it is unknown, or its weights are not on this machine; the message says how to get them.
    """
    if name not in RENDERERS:
        raise CmetError(f"The renderer '{name}' is unknown; use one of {', '.join(RENDERERS)}.")
    if name == "edtalk":
        from cmet_engine.models.registry import path_of

        path_of("edtalk_generator")
        path_of("connector")


def _moments(source: CoefficientTrack, edited: CoefficientTrack) -> list[int]:
    """Frames worth showing: spread over the clip, each the most strongly edited of its stretch, with a face."""
    change = np.abs(edited.coefficients - source.coefficients).sum(1) * source.valid
    edges = np.linspace(0, len(source), min(SHOWN_MOMENTS, len(source)) + 1).astype(int)
    stretches = [range(a, b) for a, b in itertools.pairwise(edges) if b > a]
    return sorted({max(stretch, key=lambda i: (change[i], -i)) for stretch in stretches})


def _face_box(geometry: "FaceGeometry", index: int, picture: np.ndarray) -> tuple[float, float, float, float] | None:
    """(left, top, right, bottom) of the face in pixels of a scaled-down picture; None where no face was found."""
    if not geometry.valid[index]:
        return None
    points = geometry.landmarks[index][:, :2] * (picture.shape[1] / geometry.size[0])
    (left, top), (right, bottom) = points.min(0), points.max(0)
    return float(left), float(top), float(right), float(bottom)


class _Check:
    """Tracks some frames before and after the edit again, so that the report can say what is really in the picture."""

    def __init__(self, geometry: "FaceGeometry", frames: int) -> None:
        from cmet_engine.face.mesh import Mesh

        usable = np.flatnonzero(geometry.valid & (geometry.fade > 0.99))
        picks = np.linspace(0, max(len(usable) - 1, 0), min(frames, len(usable))).round().astype(int)
        self._wanted = {int(i) for i in usable[picks]}
        self._geometry = geometry
        self._mesh = Mesh() if self._wanted else None
        self.index: list[int] = []
        self.before: list[np.ndarray] = []
        self.after: list[np.ndarray] = []

    def look(self, index: int, before: np.ndarray, after: np.ndarray) -> None:
        """Take note of one frame, if it is among those to be checked."""
        if index not in self._wanted or self._mesh is None:
            return
        from cmet_engine.face.mesh import box_of

        box = box_of(self._geometry.landmarks[index])
        found = []
        for image in (before, after):
            self._mesh.forget()
            found.append(self._mesh.find(image, box))
        if found[0] is not None and found[1] is not None:
            self.index.append(index)
            self.before.append(found[0])
            self.after.append(found[1])

    def close(self) -> None:
        """Let go of the tracker."""
        if self._mesh is not None:
            self._mesh.close()

    def figures(self, source: CoefficientTrack, edited: CoefficientTrack) -> dict[str, float]:
        """What was asked against what is measured, under the names of `report.EditReport`."""
        from cmet_engine.face.blendshapes import load_solver
        from cmet_engine.face.lips import LIPS_CLOSED, LIPS_OPEN, lip_opening

        if len(self.index) < 2:
            return {}
        before, after = np.stack(self.before), np.stack(self.after)
        asked = (edited.coefficients - source.coefficients)[self.index]
        solver = load_solver()
        got = solver.coefficients(after) - solver.coefficients(before)
        changed = np.abs(asked).max(0) >= ASKED_AT_LEAST
        gap_before, gap_after = lip_opening(before), lip_opening(after)
        closed = gap_before < LIPS_CLOSED
        result: dict[str, float] = {}
        if changed.any():
            # the share of the asked change that is there, by least squares over the checked frames
            ratio = (asked * got).sum(0)[changed] / (asked**2).sum(0)[changed]
            result["edit_realised"] = round(float(np.median(ratio)), 3)
            result["same_sign"] = round(float((ratio > 0).mean()), 3)
        if closed.any():
            result["lips_closed_kept"] = round(float((gap_after[closed] < LIPS_OPEN).mean()), 3)
        if min(gap_before.std(), gap_after.std()) > 1e-3:
            result["lip_correlation"] = round(float(np.corrcoef(gap_before, gap_after)[0, 1]), 3)
        return result


def versions() -> dict[str, str]:
    """Versions of the program and of what its results depend on."""
    return {"cmet": __version__, **{name: importlib.metadata.version(name) for name in ("mediapipe", "av", "torch")}}


def _settings_table(settings: EditSettings) -> dict[str, Any]:
    """The settings as the report shows them."""
    table: dict[str, Any] = {
        "mode": settings.mode,
        "renderer": settings.renderer,
        "quality": settings.quality,
        "strength": settings.strength,
        "face": settings.face,
    }
    for name in ("speech", "neutral"):
        if (path := getattr(settings, name)) is not None:
            table[name] = Path(path).name
    return table


def edit_description(timeline: EmotionTimeline, settings: EditSettings) -> str:
    """One line that says how a clip was edited, for metadata and report."""
    parts = []
    for key in timeline.keys:
        end = "end" if key.end is None else f"{key.end:g} s"
        whole = key.start == 0 and key.end is None
        parts.append(f"{key.emotion} {key.strength:g}" + ("" if whole else f" from {key.start:g} s to {end}"))
    return f"{', '.join(parts)} ({settings.mode})"


def _tracking_messages(geometry: "FaceGeometry") -> list[str]:
    """What the tracker met that the user should know, in sentences."""
    messages = []
    lost = int((~geometry.valid).sum())
    if lost:
        messages.append(
            f"No face was found in {lost} of {len(geometry)} frames; they are left as they were and the edit fades around them."
        )
    if geometry.cuts:
        at = ", ".join(f"{geometry.times[c]:.2f} s" for c in geometry.cuts[:5])
        messages.append(
            f"{len(geometry.cuts)} scene cut{'s' if len(geometry.cuts) > 1 else ''} at {at}; tracking began anew there."
        )
    widths = [np.ptp(points[geometry.valid[part], :, 0], axis=1) for part, points in geometry.chunks()]
    width = float(np.median(np.concatenate(widths)))
    if width < SMALL_FACE:
        messages.append(
            f"The face is only {width:.0f} pixels wide; fine movements cannot be read well below {SMALL_FACE}."
        )
    turned = geometry.valid & (np.abs(geometry.head_rotation[:, 0]) > FAR_TURN)
    if turned.any():
        edges = np.flatnonzero(np.diff(np.concatenate([[0], turned.astype(np.int8), [0]])))
        spans = [f"{geometry.times[a]:.2f} to {geometry.times[b - 1]:.2f} s" for a, b in edges.reshape(-1, 2)]
        more = f" and {len(spans) - 5} more times" if len(spans) > 5 else ""
        messages.append(
            f"The head is turned by more than {FAR_TURN} degrees at {', '.join(spans[:5])}{more}; the edit fades there."
        )
    return messages
