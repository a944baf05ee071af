"""The order of the steps: footage to track, track to edit, edit to video and report.

Each step lives in its own folder. Everything that takes long reports through `progress(stage, done, total)`; an exception
raised there cancels the work, and nothing half-written stays. Given a folder for finished `pieces`, interrupted work goes on
from them, with the same result bit for bit.
"""

import contextlib
import functools
import itertools
import os
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from cmet_engine.choices import GUESSED
from cmet_engine.corrections import corrected
from cmet_engine.emotion.clip_emotions import ClipEmotions, clip_emotions
from cmet_engine.emotion.edit import edit_track
from cmet_engine.errors import CmetError, InvalidInput
from cmet_engine.face.clip import track_clip
from cmet_engine.face.geometry import FaceGeometry
from cmet_engine.files import inputs_kept, whole_folder
from cmet_engine.media import audio
from cmet_engine.media.output import check_folder, check_video, files_read
from cmet_engine.media.probe import measure, part_of
from cmet_engine.media.sequences import remove_stale
from cmet_engine.media.source import Decoded, Source
from cmet_engine.media.spaces import of_result
from cmet_engine.media.writer import check_output
from cmet_engine.preparation import (
    check_beside,
    check_inputs,
    like_source,
    matte_of,
    name_of_face,
    people_asked,
    say_limits,
)
from cmet_engine.progress import Progress
from cmet_engine.provenance.credentials import is_made
from cmet_engine.provenance.seal import Signatory
from cmet_engine.quality import summary
from cmet_engine.quality.check import ResultCheck
from cmet_engine.quality.outside import psnr_of_video
from cmet_engine.quality.report import EditReport, FramePair, write_report
from cmet_engine.render.base import PartRenderer, Renderer
from cmet_engine.render.chain import ChainedRenderer, same_face
from cmet_engine.render.choose import check_weights, open_edtalk, open_renderer
from cmet_engine.render.metadata import described, edit_description, video_metadata
from cmet_engine.render.shot_data import Shot, write_shot
from cmet_engine.render.stream import KeptFrames, Observer, Preview, VideoOutput, render_video
from cmet_engine.rest import at_rest
from cmet_engine.resume import Segments
from cmet_engine.spec import EditSpec, RenderSpec
from cmet_engine.spec_results import beside
from cmet_engine.timeline import EmotionKey, EmotionTimeline
from cmet_engine.track import CoefficientTrack

TRACKS = ("source.npz", "edited.npz")

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
class _Person:
    """One person of an edit.

    Attributes:
        name: of the person, where the keys are for several; empty for the only one.
        person: whom their keys name, as `EmotionKey.person`.
        geometry, source: where the face is, and the clip's own curves.
        edited: the wanted curves; the clip's own until they are made.
        spec: what is asked for this person alone.
        emotions: theirs; None where curves are rendered as they are.
    """

    name: str
    geometry: FaceGeometry
    source: CoefficientTrack
    edited: CoefficientTrack
    spec: EditSpec | RenderSpec
    emotions: ClipEmotions = None  # type: ignore[assignment]
    person: str | None = None

    def file(self, name: str) -> str:
        """The name of a file about this person: `source.npz`, `source_anna.npz`."""
        stem, dot, suffix = name.partition(".")
        return f"{stem}_{self.name}{dot}{suffix}" if self.name else name


@dataclass
class _Rendered:
    """What is kept of a rendering: by person, some frames and the measured figures under the names of `EditReport`; messages."""

    frames: dict[str, KeptFrames] = field(default_factory=dict)
    figures: dict[str, dict[str, Any]] = field(default_factory=dict)
    messages: list[str] = field(default_factory=list)

    def all_figures(self) -> dict[str, Any]:
        """The figures of everyone: `edit_realised`, or `edit_realised_anna` where there are several."""
        return {f"{k}_{name}" if name else k: v for name, values in self.figures.items() for k, v in values.items()}


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

    Where the keys are for several people, each has tracks of their own: source_anna.npz, edited_anna.npz.

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
        footage = replace(part_of(spec.clip, *spec.part, spec.space), decoded=Decoded())
        if spec.renderer != "none":
            sound = footage if spec.lips is None else Source.of(spec.lips)
            say_limits(None if spec.portrait else footage, sound, Path(spec.video_name), spec.codec)
        return _edit_into(spec, footage, final, force, watch, started)


def _edit_into(spec: EditSpec, footage: Source, final: Path, force: bool, watch: _Watch, started: float) -> EditResult:
    """See `edit_clip`; `started` is when the work began."""
    pieces, signatory = watch.pieces, Signatory(spec)
    with whole_folder(final, force=force) as folder:
        people, timeline = _track_and_encode(spec, footage, watch)
        for one in people:
            one.source.save(folder / one.file("source.npz"))
        seal = signatory.seal(described(spec, timeline), timeline)
        video = VideoOutput(
            folder / spec.video_name,
            video_metadata(spec.renderer, described(spec, timeline)),
            spec.lips,
            spec.rate_factor,
            spec.codec,
            seal=seal,
            watermark=seal.mark,
            **matte_of(spec, spec.video_name, folder),
        )
        rendered = _Rendered()
        if spec.renderer == "edtalk":
            one = people[0]  # `_track_and_encode` refuses more
            rendered, one.edited = _render_edtalk(spec, footage, one, video, watch)
            one.source = one.source.resampled_like(one.edited)  # a portrait that speaks may be longer or shorter
        else:
            for one in people:
                begins = one.emotions.timeline.begins
                one.edited = corrected(_edited(one), spec.corrected_points, begins=begins, person=one.person)
        for one in people:
            one.edited.meta["edit"] = edit_description(one.emotions.timeline, _mode(one))
            one.edited.save(folder / one.file("edited.npz"))
        if spec.renderer not in ("edtalk", "none"):
            rendered = _render(footage, _open_renderer(footage, people, watch), people, video, watch)
        asked = [] if spec.renderer == "none" else signatory.messages
        messages = [*asked, *_tracking_messages(people), *people[0].emotions.messages, *rendered.messages]
        seconds = None if pieces else time.perf_counter() - started
        report = replace(_report(spec, people, timeline, rendered, messages, seconds), provenance=seal.words())
        write_report(folder / "report.html", folder / "report.json", report)
        shown, first = None if spec.renderer == "none" else video.path, people[0]
        keys = timeline.within(first.source.duration).keys
        _write_shot(spec, footage, folder, shown, first.source, first.edited, keys)
    if "%" in spec.video_name and spec.renderer != "none":
        pictures = final / spec.video_name
        messages += remove_stale(pictures.parent, pictures.name, len(people[0].source))
    messages += seal.record(final / ("edited.npz" if spec.renderer == "none" else spec.video_name))
    tracks = [one.file(name) for one in people for name in TRACKS]
    paths = [*spec.outputs(final), *(final / name for name in tracks)]
    paths = [path for path in paths if path.name not in set(TRACKS) - set(tracks) and is_made(path)]
    files = {path.relative_to(final).as_posix(): path for path in paths}
    return EditResult(final, files, rendered.all_figures(), messages)


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
        check_beside(spec, Path(output), force=force)
        check_weights(spec.renderer)
        return _render_into(spec, Path(output), force, _Watch(progress, pieces, preview))


def _render_into(spec: RenderSpec, output: Path, force: bool, watch: _Watch) -> RenderResult:
    """See `render_clip`."""
    signatory = Signatory(spec)
    everyone = spec.everyone()
    curves = [
        [None if path is None else CoefficientTrack.load(path) for path in (one.source, one.track)]
        for _, one in everyone
    ]
    spec = like_source(spec, output.suffix.lower())
    check_output(spec.clip, output, spec.codec)
    matte = matte_of(spec, output.name, beside(output))
    footage = replace(part_of(spec.clip, *spec.part, spec.space), decoded=Decoded())
    say_limits(footage, footage, output, spec.codec)
    people = []
    for (person, one), given in zip(everyone, curves, strict=True):
        name = (person or name_of_face(spec.face)) if spec.people else ""
        pieces = watch.pieces.part(f"person_{name}") if watch.pieces and spec.people else watch.pieces
        geometry, tracked = track_clip(footage, face=one.face, progress=watch.progress, pieces=pieces)
        source, edited = (tracked if track is None else _in_part(track, tracked, footage) for track in given)
        people.append(_Person(name, geometry, source, edited, one))
    _check_apart(people, spec.clip)
    metadata = video_metadata(spec.renderer, "coefficient curves")
    edits = dict.fromkeys(str(one.edited.meta.get("edit") or "coefficient curves") for one in people)
    seal = signatory.seal(", ".join(edits))
    video = VideoOutput(
        output,
        metadata,
        rate_factor=spec.rate_factor,
        codec=spec.codec,
        force=force,
        seal=seal,
        watermark=seal.mark,
        **matte,
    )
    rendered = _render(footage, _open_renderer(footage, people, watch), people, video, watch)
    _write_shot(spec, footage, output, output, people[0].source, people[0].edited, force=force)
    files = {path.name: path for path in spec.outputs(output) if is_made(path)}
    begins = {"begins": round(measure(footage).begins, 6)} if footage.is_part else {}
    messages = [*signatory.messages, *rendered.messages, *seal.record(output)]
    return RenderResult(output, messages, {**begins, **rendered.all_figures()}, files)


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


def _in_part(track: CoefficientTrack, tracked: CoefficientTrack, footage: Source) -> CoefficientTrack:
    """A track at the frames of a part of a clip; one that is as long as the whole clip begins with the clip."""
    info = measure(footage)
    of_the_whole = abs(track.duration - info.whole) < abs(track.duration - info.duration)
    return track.resampled_like(tracked, info.begins if of_the_whole else 0.0)


def _track_and_encode(spec: EditSpec, footage: Source, watch: _Watch) -> tuple[list[_Person], EmotionTimeline]:
    """Track everyone's face and, from its first frame on, encode the speech at the same time: neither needs the other.

    Returns:
        The people, each with their own part of the timeline, and the whole timeline.
    """
    with ThreadPoolExecutor(max_workers=1) as pool:
        encoding = functools.cache(lambda: pool.submit(clip_emotions, spec, footage))

        def progress(stage: str, done: int, total: int | None) -> None:
            if encoding().done():
                encoding().result()  # speech that cannot be used ends the work now, not after the tracking
            if watch.progress:
                watch.progress(stage, done, total)

        asked = people_asked(spec)
        tracked = []
        for person in asked:
            one = spec.of(person)
            pieces = watch.pieces if watch.pieces is None or len(asked) == 1 else watch.pieces.part(f"person_{person}")
            geometry, source = track_clip(
                footage, face=one.face, progress=progress, pieces=pieces, glimpses=spec.renderer != "none"
            )
            tracked.append((person, one, geometry, at_rest(source, spec.rests, calibrate=spec.calibrate)))
        emotions = encoding().result()
    people = [
        _Person(
            (person or name_of_face(spec.face)) if len(asked) > 1 else "",
            geometry, source, source, one, replace(emotions, timeline=emotions.timeline.of(person)), person,
        )
        for person, one, geometry, source in tracked
    ]  # fmt: skip
    _check_apart(people, spec.clip)
    return people, emotions.timeline


def _check_apart(people: list[_Person], clip: Path) -> None:
    """Refuse people who are one.

    Raises:
        InvalidInput: two of them are.
    """
    for first, second in itertools.combinations(people, 2):
        if same_face(first.geometry, second.geometry):
            raise InvalidInput(
                f"{first.name} and {second.name} are one person in {clip.name}; write the same behind # everywhere."
            )


def _edited(one: _Person) -> CoefficientTrack:
    """The curves of a person with the emotions asked for."""
    asked = one.emotions
    assert isinstance(one.spec, EditSpec)
    return edit_track(
        one.source, asked.timeline, asked.vectors, emphasis=asked.emphasis(one.source), mode=one.spec.mode,
        likeness=asked.likeness, bearing=one.spec.bearing,
    )  # fmt: skip


def _mode(one: _Person) -> str:
    """`add` or `replace`, for one person of an edit."""
    assert isinstance(one.spec, EditSpec)
    return one.spec.mode


def _tracking_messages(people: list[_Person]) -> list[str]:
    return [
        f"{one.name}: {message}" if one.name else message
        for one in people
        for message in summary.tracking_messages(one.geometry)
    ]


def _open_renderer(footage: Source, people: list[_Person], watch: _Watch) -> Renderer:
    """The renderer of the only person, or of all in their order."""
    renderers = {
        one.name: open_renderer(
            one.spec, footage, one.geometry, one.source, one.edited,
            timed=watch.pieces is None, progress=watch.progress,
        )
        for one in people
    }  # fmt: skip
    if len(people) == 1:
        return renderers[people[0].name]
    return ChainedRenderer({name: one for name, one in renderers.items() if isinstance(one, PartRenderer)})


def _render(
    footage: Source, renderer: Renderer, people: Sequence[_Person], video: VideoOutput, watch: _Watch
) -> _Rendered:
    """Render a clip, and measure what is really in the pictures, for each person."""
    frames = {one.name: KeptFrames(frozenset(summary.moments(one.source, one.edited))) for one in people}
    with contextlib.closing(renderer), contextlib.ExitStack() as stack:
        checks = {one.name: stack.enter_context(contextlib.closing(ResultCheck(one.geometry))) for one in people}
        observers: dict[str, Observer] = {f"shown{name}": kept for name, kept in frames.items()}
        observers |= {f"checked{name}": check for name, check in checks.items()}
        messages = render_video(
            footage, renderer, video, observers=observers, progress=watch.progress, pieces=watch.pieces,
            preview=watch.preview, people=[one.geometry for one in people],
        )  # fmt: skip
        figures: dict[str, dict[str, Any]] = {
            one.name: dict(checks[one.name].figures(one.source, one.edited)) for one in people
        }
    messages += [m for one in people for m in summary.unseen_edit(one.name, figures[one.name])]
    with contextlib.suppress(CmetError):  # a format that cannot be read back is not measured
        path = video.path.parent if "%" in video.path.name else video.path
        written = psnr_of_video(footage, path, [one.geometry for one in people], OUTSIDE_FRAMES)
        if written is not None:
            for values in figures.values():
                values["outside_psnr"] = round(written, 2)
    return _Rendered(frames, figures, messages)


def _render_edtalk(
    spec: EditSpec,
    footage: Source,
    one: _Person,
    video: VideoOutput,
    watch: _Watch,
) -> tuple[_Rendered, CoefficientTrack]:
    """Render the clip, or a portrait, by the published models; the edited track is read from the rendered faces."""
    from cmet_engine.render.edtalk.portrait import render_portrait  # brings torch

    renderer = open_edtalk(spec, footage, one.geometry, one.emotions, progress=watch.progress)
    if spec.portrait is not None:
        voice = None if spec.lips is None else audio.load(spec.lips)
        speaking = replace(video, sound=spec.lips or footage)
        messages = render_portrait(spec.portrait, renderer, speaking, voice=voice, progress=watch.progress)
        rendered = _Rendered(messages=messages)
    else:
        rendered = _render(footage, renderer, [one], video, watch)
    path = video.path.parent if "%" in video.path.name else video.path  # numbered pictures are read as a folder
    try:
        space = GUESSED if spec.portrait else of_result(measure(footage), video.path.suffix, spec.space)
        edited = track_clip(Source.of(path, space), progress=watch.progress, pieces=watch.pieces)[1]
    except CmetError:
        rendered.messages.append("No face was found in the rendered video; the edited track is the clip's own.")
        edited = one.source
    return rendered, edited


def _report(
    spec: EditSpec,
    people: list[_Person],
    timeline: EmotionTimeline,
    rendered: _Rendered,
    messages: list[str],
    seconds: float | None,
) -> EditReport:
    """Everything that the report of an edit says; for several people, of each."""
    reports = {one.name: _report_of(one, rendered, messages, seconds) for one in people}
    if len(people) == 1:
        return reports[people[0].name]
    settings = summary.settings_table(spec)
    return replace(reports[people[0].name], settings=settings, timeline=timeline, people=reports)


def _report_of(one: _Person, rendered: _Rendered, messages: list[str], seconds: float | None) -> EditReport:
    spec = one.spec
    assert isinstance(spec, EditSpec)
    frames, geometry = rendered.frames.get(one.name, KeptFrames()), one.geometry
    return EditReport(
        clip=spec.clip.name, output=spec.video_name if frames.index else "",
        width=geometry.size[0], height=geometry.size[1], fps=geometry.fps, duration=one.source.duration,
        settings=summary.settings_table(spec), versions=summary.versions(), timeline=one.emotions.timeline.within(one.source.duration),
        source=one.source, edited=one.edited,
        pairs=[
            FramePair(index, float(one.source.times[index]), before, after, summary.face_box(geometry, index, before))
            for index, before, after in zip(frames.index, frames.before, frames.after, strict=True)
        ],
        faces_lost=int((~geometry.valid).sum()), cuts=geometry.cuts, messages=messages,
        speed=None if seconds is None else len(one.source) / seconds, **rendered.figures.get(one.name, {}),
    )  # fmt: skip
