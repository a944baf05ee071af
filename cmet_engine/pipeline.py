"""The order of the steps: footage to track, track to edit, edit to video and report.

Each step lives in its own folder. Everything that takes long reports through `progress(stage, done, total)`; an exception
raised there cancels the work, and nothing half-written stays. Given a folder for finished `pieces`, interrupted work goes on
from them, with the same result bit for bit.
"""

import contextlib
import logging
import os
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from cmet_engine.choices import GUESSED, MATTE_CHANNEL
from cmet_engine.emotion.edit import edit_track
from cmet_engine.errors import CmetError, InvalidInput, NotFound
from cmet_engine.face.clip import track_clip
from cmet_engine.face.geometry import FaceGeometry
from cmet_engine.files import check_apart, inputs_kept, whole_folder
from cmet_engine.media import audio, codecs
from cmet_engine.media.container_limits import limits
from cmet_engine.media.output import check_folder, check_video, files_read
from cmet_engine.media.probe import measure, part_of
from cmet_engine.media.sequences import remove_stale
from cmet_engine.media.source import Source
from cmet_engine.media.spaces import of_result
from cmet_engine.media.writer import check_output
from cmet_engine.progress import Progress
from cmet_engine.quality import summary
from cmet_engine.quality.check import ResultCheck
from cmet_engine.quality.outside import psnr_of_video
from cmet_engine.quality.report import EditReport, FramePair, write_report
from cmet_engine.render.base import Renderer
from cmet_engine.render.choose import check_weights, open_edtalk, open_renderer
from cmet_engine.render.metadata import edit_description, video_metadata
from cmet_engine.render.shot_data import Shot, opentimelineio, write_shot
from cmet_engine.render.stream import KeptFrames, Preview, VideoOutput, render_video
from cmet_engine.resume import Segments
from cmet_engine.spec import EditSpec, RenderSpec, beside
from cmet_engine.timeline import EmotionKey
from cmet_engine.track import CoefficientTrack

AnyVideoSpec = TypeVar("AnyVideoSpec", EditSpec, RenderSpec)

if TYPE_CHECKING:  # brings torch
    from cmet_engine.emotion.clip_emotions import ClipEmotions

log = logging.getLogger(__name__)

OUTSIDE_FRAMES = 24  # frames of the written video that are compared with the clip outside the face


@dataclass
class EditResult:
    """What `edit_clip` made: `folder` with its `files`, the measured `figures`, and `messages` worth reading."""

    folder: Path
    files: dict[str, Path]
    figures: dict[str, Any]
    messages: list[str]


@dataclass
class RenderResult:
    """What `render_clip` made: the video's `path`, `messages` worth reading, the measured `figures`, and all `files`."""

    path: Path
    messages: list[str]
    figures: dict[str, Any]
    files: dict[str, Path] = field(default_factory=dict)


@dataclass(frozen=True)
class _Watch:
    """Who follows the work, and where finished pieces of it are kept; see `edit_clip`."""

    progress: Progress | None
    pieces: Segments | None
    preview: Preview | None


@dataclass
class _Rendered:
    """What is kept of a rendering: some frames, the measured figures under the names of `EditReport`, and messages."""

    frames: KeptFrames = field(default_factory=KeptFrames)
    figures: dict[str, Any] = field(default_factory=dict)
    messages: list[str] = field(default_factory=list)


def edit_clip(
    spec: EditSpec,
    output: str | Path,
    *,
    force: bool = False,
    progress: Progress | None = None,
    pieces: Segments | None = None,
    preview: Preview | None = None,
) -> EditResult:
    """Edit a clip: the video, source.npz, edited.npz, report.html and report.json in `output`, all or nothing.

    Args:
        spec: what to do to which clip.
        output: folder for the results; made when absent.
        force: replace earlier results in `output`.
        progress: called as `progress(stage, done, total)`.
        pieces: where to keep finished pieces, and go on from them. The report then leaves out how fast the work is, for
            that is another figure each time.
        preview: called with every edited frame, uint8 [H, W, 3].

    Raises:
        CmetError: anything that the user can mend; one sentence.
    """
    final, started, watch = Path(output), time.perf_counter(), _Watch(progress, pieces, preview)
    with inputs_kept(files_read(spec)):
        spec = like_source(spec)
        check_folder(spec, final)
        check_inputs(spec)
        footage = part_of(spec.clip, *spec.part, spec.space)
        if spec.renderer != "none":
            say_limits(footage if spec.lips is None else Source.of(spec.lips), spec.video_name)
        return _edit_into(spec, footage, final, force, watch, started)


def _edit_into(spec: EditSpec, footage: Source, final: Path, force: bool, watch: _Watch, started: float) -> EditResult:
    """See `edit_clip`; `started` is when the work began."""
    pieces, progress = watch.pieces, watch.progress
    with whole_folder(final, force=force) as folder:
        geometry, source, emotions = _track_and_encode(spec, footage, watch)
        source.save(folder / "source.npz")
        description = edit_description(emotions.timeline, spec.mode)
        video = VideoOutput(
            folder / spec.video_name,
            video_metadata(spec.renderer, description),
            spec.lips,
            spec.rate_factor,
            spec.codec,
            **_matte(spec, spec.video_name, folder),
        )
        if spec.renderer == "edtalk":
            rendered, edited = _render_edtalk(spec, footage, geometry, source, emotions, video, watch)
            source = source.resampled_like(edited)  # a portrait that speaks may be longer or shorter than the clip
        else:
            emphasis = emotions.emphasis(source)
            edited = edit_track(source, emotions.timeline, emotions.vectors, emphasis=emphasis, mode=spec.mode)
            rendered = _Rendered()
        edited.meta["edit"] = description
        edited.save(folder / "edited.npz")
        if spec.renderer == "warp":
            renderer = open_renderer(spec, footage, geometry, source, edited, timed=pieces is None, progress=progress)
            rendered = _render(footage, renderer, source, edited, video, watch)
        messages = [*summary.tracking_messages(geometry), *rendered.messages]
        seconds = None if pieces else time.perf_counter() - started
        report = _report(spec, geometry, source, edited, emotions, rendered, messages, seconds)
        write_report(folder / "report.html", folder / "report.json", report)
        shown = None if spec.renderer == "none" else video.path
        _write_shot(spec, footage, folder, shown, source, edited, emotions.timeline.within(source.duration).keys)
    if "%" in spec.video_name and spec.renderer != "none":
        pictures = final / spec.video_name
        messages += remove_stale(pictures.parent, pictures.name, len(source))
    files = {path.relative_to(final).as_posix(): path for path in spec.outputs(final)}
    return EditResult(final, files, rendered.figures, messages)


def render_clip(
    spec: RenderSpec,
    output: str | Path,
    *,
    force: bool = False,
    progress: Progress | None = None,
    pieces: Segments | None = None,
    preview: Preview | None = None,
) -> RenderResult:
    """Render a clip with the curves of a track, from a file or read back from a rig.

    Args:
        spec: which clip, which curves, and how.
        output: video file; the suffix chooses the format.
        force: replace an earlier file.
        progress, pieces, preview: see `edit_clip`.

    Raises:
        CmetError: anything that the user can mend; one sentence.
    """
    with inputs_kept(files_read(spec)):
        check_video(Path(output), force=force)
        if spec.shot_data is not None:
            opentimelineio()
            for path in spec.outputs(Path(output))[1:]:
                check_apart(path)
                if path.exists() and not force:
                    raise InvalidInput(f"{path} exists already; choose another name or add --force to replace it.")
        return _render_into(spec, Path(output), force, _Watch(progress, pieces, preview))


def _render_into(spec: RenderSpec, output: Path, force: bool, watch: _Watch) -> RenderResult:
    """See `render_clip`."""
    pieces, progress = watch.pieces, watch.progress
    edited = CoefficientTrack.load(spec.track)
    source = None if spec.source is None else CoefficientTrack.load(spec.source)
    spec = like_source(spec, output.suffix.lower())
    check_output(spec.clip, output, spec.codec)
    matte = _matte(spec, output.name, beside(output))
    footage = part_of(spec.clip, *spec.part, spec.space)
    say_limits(footage, output.name)
    geometry, tracked = track_clip(footage, face=spec.face, progress=progress, pieces=pieces)
    source = tracked if source is None else _in_part(source, tracked, footage)
    edited = _in_part(edited, tracked, footage)
    renderer = open_renderer(spec, footage, geometry, source, edited, timed=pieces is None, progress=progress)
    metadata = video_metadata(spec.renderer, "coefficient curves")
    video = VideoOutput(output, metadata, rate_factor=spec.rate_factor, codec=spec.codec, force=force, **matte)
    rendered = _render(footage, renderer, source, edited, video, watch)
    _write_shot(spec, footage, output, output, source, edited, force=force)
    files = {path.name: path for path in spec.outputs(output)}
    return RenderResult(output, rendered.messages, rendered.figures, files)


def _matte(spec: EditSpec | RenderSpec, video: str, folder: Path) -> dict[str, Any]:
    """What `VideoOutput` is told about the matte of a video, by the video's name and the folder of results.

    Raises:
        InvalidInput: there is no video of the clip's frames, or it shall be a channel, and the video is not OpenEXR.
    """
    if spec.matte is not None and isinstance(spec, EditSpec) and (spec.renderer == "none" or spec.portrait is not None):
        raise InvalidInput(
            "--matte needs a video of the clip's own frames; leave it out, or the portrait or the renderer none."
        )
    if spec.matte == MATTE_CHANNEL:
        if not video.lower().endswith(".exr"):
            raise InvalidInput(
                f"{video} has no channels of its own; --matte channel goes into .exr, others need a name."
            )
        return {"matte_channel": True}
    return {"matte": folder / spec.matte} if spec.matte else {}


def _write_shot(
    spec: EditSpec | RenderSpec,
    footage: Source,
    output: Path,
    video: Path | None,
    source: CoefficientTrack,
    edited: CoefficientTrack,
    keys: Sequence[EmotionKey] = (),
    *,
    force: bool = False,
) -> None:
    """Write the shot data that a specification asks for; `output` is where its result goes."""
    path = spec.shot_file(output)
    if path is None:
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    name = "" if video is None else Path(os.path.relpath(video, path.parent)).as_posix()
    settings = spec.model_dump(mode="json", exclude_defaults=True, exclude={"clip", "keys", "shot_data"})
    shot = Shot(measure(footage), source, edited, name, keys, settings, first=footage.first)
    write_shot(path, shot, force=force)


def say_limits(footage: Source, name: str) -> None:
    """Say, before the work, what of the footage a result of that name will not hold; its messages say it again.

    Raises:
        CmetError: the footage cannot be opened.
    """
    for sentence in limits(footage, Path(name).suffix):
        log.warning(sentence)


def _in_part(track: CoefficientTrack, tracked: CoefficientTrack, footage: Source) -> CoefficientTrack:
    """A track at the frames of a part of a clip; one that is as long as the whole clip begins with the clip."""
    info = measure(footage)
    of_the_whole = abs(track.duration - info.whole) < abs(track.duration - info.duration)
    return track.resampled_like(tracked, info.begins if of_the_whole else 0.0)


def check_inputs(spec: EditSpec) -> None:
    """Refuse files that cannot be used, and a renderer whose weights are missing, before anything else is done.

    Raises:
        CmetError: one sentence that names the file or the weights.
    """
    check_weights(spec.renderer)
    if spec.renderer != "none":
        check_output(spec.clip, Path(spec.video_name), spec.codec)
    _matte(spec, spec.video_name, Path())
    if spec.shot_data is not None:
        opentimelineio()
    for name in ("lips", "portrait"):
        path = getattr(spec, name)
        if path is not None and not path.is_file():
            raise NotFound(f"There is no file {path}; --{name} takes the path of one.")
    if spec.lips is not None and not audio.has_sound(spec.lips):
        raise InvalidInput(f"{spec.lips} has no sound; --lips takes a recording of speech.")
    if spec.portrait is not None:
        from cmet_engine.render.edtalk.portrait import portrait_landmarks, read_portrait  # brings torch

        portrait_landmarks(read_portrait(spec.portrait))


def like_source(spec: AnyVideoSpec, suffix: str | None = None) -> AnyVideoSpec:
    """A specification whose format and codec are those nearest to the clip's own, if it asks for that and does not name them.

    Args:
        spec: what to do.
        suffix: of the file to write, where that is settled already.

    Raises:
        CmetError: the clip cannot be read.
    """
    if not spec.like_source or spec.codec is not None:
        return spec
    if suffix is None and "format" in spec.model_fields_set:
        suffix = f".{spec.format}"
    suffix, codec = codecs.like(spec.clip, suffix)
    return spec.model_copy(update={"format": suffix.removeprefix("."), "codec": codec})


def _track_and_encode(
    spec: EditSpec, footage: Source, watch: _Watch
) -> "tuple[FaceGeometry, CoefficientTrack, ClipEmotions]":
    """Track the face and encode the speech at the same time: neither needs the other."""
    from cmet_engine.emotion.clip_emotions import clip_emotions  # brings torch

    with ThreadPoolExecutor(max_workers=1) as pool:
        encoding = pool.submit(clip_emotions, spec, footage)

        def progress(stage: str, done: int, total: int | None) -> None:
            if encoding.done():
                encoding.result()  # speech that cannot be used ends the work now, not after the tracking
            if watch.progress:
                watch.progress(stage, done, total)

        geometry, source = track_clip(footage, face=spec.face, progress=progress, pieces=watch.pieces)
        return geometry, source, encoding.result()


def _render(
    clip: Source,
    renderer: Renderer,
    source: CoefficientTrack,
    edited: CoefficientTrack,
    video: VideoOutput,
    watch: _Watch,
) -> _Rendered:
    """Render a clip, and measure what is really in the pictures."""
    frames = KeptFrames(frozenset(summary.moments(source, edited)))
    with contextlib.closing(renderer), contextlib.closing(ResultCheck(renderer.geometry)) as check:
        messages = render_video(
            clip, renderer, video, observers={"shown": frames, "checked": check}, progress=watch.progress,
            pieces=watch.pieces, preview=watch.preview,
        )  # fmt: skip
        figures: dict[str, Any] = dict(check.figures(source, edited))
    with contextlib.suppress(CmetError):  # a format that cannot be read back is not measured
        path = video.path.parent if "%" in video.path.name else video.path
        written = psnr_of_video(clip, path, renderer.geometry, OUTSIDE_FRAMES)
        if written is not None:
            figures["outside_psnr"] = round(written, 2)
    return _Rendered(frames, figures, messages)


def _render_edtalk(
    spec: EditSpec,
    footage: Source,
    geometry: FaceGeometry,
    source: CoefficientTrack,
    emotions: "ClipEmotions",
    video: VideoOutput,
    watch: _Watch,
) -> tuple[_Rendered, CoefficientTrack]:
    """Render the clip, or a portrait, by the published models; the edited track is read from the rendered faces."""
    from cmet_engine.render.edtalk.portrait import render_portrait  # brings torch

    renderer = open_edtalk(spec, footage, geometry, emotions, progress=watch.progress)
    if spec.portrait is not None:
        voice = None if spec.lips is None else audio.load(spec.lips)
        speaking = replace(video, sound=spec.lips or footage)
        messages = render_portrait(spec.portrait, renderer, speaking, voice=voice, progress=watch.progress)
        rendered = _Rendered(messages=messages)
    else:
        rendered = _render(footage, renderer, source, source, video, watch)
    path = video.path.parent if "%" in video.path.name else video.path  # numbered pictures are read as a folder
    try:
        space = GUESSED if spec.portrait else of_result(measure(footage), video.path.suffix, spec.space)
        edited = track_clip(Source.of(path, space), progress=watch.progress, pieces=watch.pieces)[1]
    except CmetError:
        rendered.messages.append("No face was found in the rendered video; the edited track is the clip's own.")
        edited = source
    return rendered, edited


def _report(
    spec: EditSpec,
    geometry: FaceGeometry,
    source: CoefficientTrack,
    edited: CoefficientTrack,
    emotions: "ClipEmotions",
    rendered: _Rendered,
    messages: list[str],
    seconds: float | None,
) -> EditReport:
    """Everything that the report of an edit says."""
    frames = rendered.frames
    return EditReport(
        clip=spec.clip.name, output=spec.video_name if frames.index else "",
        width=geometry.size[0], height=geometry.size[1], fps=geometry.fps, duration=source.duration,
        settings=summary.settings_table(spec), versions=summary.versions(), timeline=emotions.timeline.within(source.duration), source=source, edited=edited,
        pairs=[
            FramePair(index, float(source.times[index]), before, after, summary.face_box(geometry, index, before))
            for index, before, after in zip(frames.index, frames.before, frames.after, strict=True)
        ],
        faces_lost=int((~geometry.valid).sum()), cuts=geometry.cuts, messages=messages,
        speed=None if seconds is None else len(source) / seconds, **rendered.figures,
    )  # fmt: skip
