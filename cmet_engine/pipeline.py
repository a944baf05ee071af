"""The order of the steps: footage to track, track to edit, edit to video and report.

Each step lives in its own folder. Everything that takes long reports through `progress(stage, done, total)`; an exception
raised there cancels the work, and nothing half-written stays. Given a folder for finished `pieces`, interrupted work goes on
from them, with the same result bit for bit.
"""

import contextlib
import importlib.metadata
import itertools
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from cmet_engine import __version__
from cmet_engine.emotion.edit import edit_track
from cmet_engine.errors import CmetError, InvalidInput, NotFound
from cmet_engine.face.clip import track_clip
from cmet_engine.face.tracker import FaceGeometry
from cmet_engine.files import check_writable, whole_folder
from cmet_engine.media import audio
from cmet_engine.progress import Progress
from cmet_engine.quality.outside import psnr_of_video
from cmet_engine.quality.report import EditReport, FramePair, write_report
from cmet_engine.render.base import Renderer
from cmet_engine.render.choose import check_weights, open_edtalk, open_renderer
from cmet_engine.render.metadata import edit_description, video_metadata
from cmet_engine.render.stream import KeptFrames, Preview, VideoOutput, render_video
from cmet_engine.resume import Pieces
from cmet_engine.spec import EditSpec, RenderSpec
from cmet_engine.track import CoefficientTrack

if TYPE_CHECKING:  # brings torch
    from cmet_engine.emotion.clip_emotions import ClipEmotions

CHECKED_FRAMES = 32  # frames of the result that are tracked again to measure what the report says
SHOWN_MOMENTS = 5  # frames that the report shows before and after
SHOWN_SIZE = 720  # pixels on the long side of those
ASKED_AT_LEAST = 0.2  # a coefficient counts as changed by the edit from here on
OUTSIDE_FRAMES = 24  # frames of the written video that are compared with the clip outside the face
SMALL_FACE = 80  # pixels
FAR_TURN = 45  # degrees of head yaw


@dataclass
class EditResult:
    """What `edit_clip` made: `folder` with its `files`, the measured `figures`, and `messages` worth reading."""

    folder: Path
    files: dict[str, Path]
    figures: dict[str, Any]
    messages: list[str]


@dataclass
class RenderResult:
    """What `render_clip` made: the video's `path`, `messages` worth reading, and the measured `figures`."""

    path: Path
    messages: list[str]
    figures: dict[str, Any]


@dataclass(frozen=True)
class _Watch:
    """Who follows the work, and where finished pieces of it are kept; see `edit_clip`."""

    progress: Progress | None
    pieces: Pieces | None
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
    pieces: Pieces | None = None,
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
    check_inputs(spec)
    started, watch = time.perf_counter(), _Watch(progress, pieces, preview)
    with whole_folder(output, force=force) as folder:
        geometry, source, emotions = _track_and_encode(spec, watch)
        source.save(folder / "source.npz")
        description = edit_description(emotions.timeline, spec.mode)
        video = VideoOutput(
            folder / spec.video_name, video_metadata(spec.renderer, description), spec.lips, spec.rate_factor
        )
        if spec.renderer == "edtalk":
            rendered, edited = _render_edtalk(spec, geometry, source, emotions, video, watch)
            source = source.resampled_like(edited)  # a portrait that speaks may be longer or shorter than the clip
        else:
            emphasis = emotions.emphasis(source)
            edited = edit_track(source, emotions.timeline, emotions.vectors, emphasis=emphasis, mode=spec.mode)
            rendered = _Rendered()
        edited.meta["edit"] = description
        edited.save(folder / "edited.npz")
        if spec.renderer == "warp":
            renderer = open_renderer(spec, geometry, source, edited, timed=pieces is None, progress=progress)
            rendered = _render(spec.clip, renderer, source, edited, video, watch)
        messages = [*_tracking_messages(geometry), *rendered.messages]
        seconds = None if pieces else time.perf_counter() - started
        report = _report(spec, geometry, source, edited, emotions, rendered, messages, seconds)
        write_report(folder / "report.html", folder / "report.json", report)
    names = ["source.npz", "edited.npz", "report.html", "report.json"]
    if spec.renderer != "none":
        names.insert(0, spec.video_name)
    final = Path(output)
    return EditResult(final, {name: final / name for name in names}, rendered.figures, messages)


def render_clip(
    spec: RenderSpec,
    output: str | Path,
    *,
    force: bool = False,
    progress: Progress | None = None,
    pieces: Pieces | None = None,
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
    edited = CoefficientTrack.load(spec.track)
    source = None if spec.source is None else CoefficientTrack.load(spec.source)
    output = check_writable(output, force=force)
    if output.exists() and spec.clip.exists() and output.samefile(spec.clip):
        raise InvalidInput(f"{output} is the clip itself; give the video another name.")
    geometry, tracked = track_clip(spec.clip, face=spec.face, progress=progress, pieces=pieces)
    source = tracked if source is None else source.resampled_like(tracked)
    edited = edited.resampled_like(tracked)
    renderer = open_renderer(spec, geometry, source, edited, timed=pieces is None, progress=progress)
    metadata = video_metadata(spec.renderer, "coefficient curves")
    video = VideoOutput(output, metadata, rate_factor=spec.rate_factor, force=force)
    rendered = _render(spec.clip, renderer, source, edited, video, _Watch(progress, pieces, preview))
    return RenderResult(output, rendered.messages, rendered.figures)


def check_inputs(spec: EditSpec) -> None:
    """Refuse files that cannot be used, and a renderer whose weights are missing, before anything else is done.

    Raises:
        CmetError: one sentence that names the file or the weights.
    """
    check_weights(spec.renderer)
    for name in ("lips", "portrait"):
        path = getattr(spec, name)
        if path is not None and not path.is_file():
            raise NotFound(f"There is no file {path}; --{name} takes the path of one.")
    if spec.lips is not None and not audio.has_sound(spec.lips):
        raise InvalidInput(f"{spec.lips} has no sound; --lips takes a recording of speech.")
    if spec.portrait is not None:
        from cmet_engine.render.edtalk.portrait import portrait_landmarks, read_portrait  # brings torch

        portrait_landmarks(read_portrait(spec.portrait))


def _track_and_encode(spec: EditSpec, watch: _Watch) -> "tuple[FaceGeometry, CoefficientTrack, ClipEmotions]":
    """Track the face and encode the speech at the same time: neither needs the other."""
    from cmet_engine.emotion.clip_emotions import clip_emotions  # brings torch

    with ThreadPoolExecutor(max_workers=1) as pool:
        encoding = pool.submit(clip_emotions, spec)

        def progress(stage: str, done: int, total: int | None) -> None:
            if encoding.done():
                encoding.result()  # speech that cannot be used ends the work now, not after the tracking
            if watch.progress:
                watch.progress(stage, done, total)

        geometry, source = track_clip(spec.clip, face=spec.face, progress=progress, pieces=watch.pieces)
        return geometry, source, encoding.result()


def _render(
    clip: Path,
    renderer: Renderer,
    source: CoefficientTrack,
    edited: CoefficientTrack,
    video: VideoOutput,
    watch: _Watch,
) -> _Rendered:
    """Render a clip, and measure what is really in the pictures."""
    frames = KeptFrames(frozenset(_moments(source, edited)), SHOWN_SIZE)
    with contextlib.closing(renderer), contextlib.closing(_ObservingCheck(renderer.geometry, CHECKED_FRAMES)) as check:
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
    geometry: FaceGeometry,
    source: CoefficientTrack,
    emotions: "ClipEmotions",
    video: VideoOutput,
    watch: _Watch,
) -> tuple[_Rendered, CoefficientTrack]:
    """Render the clip, or a portrait, by the published models; the edited track is read from the rendered faces."""
    from cmet_engine.render.edtalk.portrait import render_portrait  # brings torch

    renderer = open_edtalk(spec, geometry, emotions, progress=watch.progress)
    if spec.portrait is not None:
        voice = None if spec.lips is None else audio.load(spec.lips)
        speaking = replace(video, sound=spec.lips or spec.clip)
        messages = render_portrait(spec.portrait, renderer, speaking, voice=voice, progress=watch.progress)
        rendered = _Rendered(messages=messages)
    else:
        rendered = _render(spec.clip, renderer, source, source, video, watch)
    path = video.path.parent if "%" in video.path.name else video.path  # numbered pictures are read as a folder
    try:
        edited = track_clip(path, progress=watch.progress, pieces=watch.pieces)[1]
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
        settings=_settings_table(spec), versions=versions(), timeline=emotions.timeline, source=source, edited=edited,
        pairs=[
            FramePair(index, float(source.times[index]), before, after, _face_box(geometry, index, before))
            for index, before, after in zip(frames.index, frames.before, frames.after, strict=True)
        ],
        faces_lost=int((~geometry.valid).sum()), cuts=geometry.cuts, messages=messages,
        speed=None if seconds is None else len(source) / seconds, **rendered.figures,
    )  # fmt: skip


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


class _ObservingCheck(_Check):
    """`_Check` under the names of `stream.Observer`."""

    observe = _Check.look


def versions() -> dict[str, str]:
    """Versions of the program and of what its results depend on."""
    return {"cmet": __version__, **{name: importlib.metadata.version(name) for name in ("mediapipe", "av", "torch")}}


def _settings_table(settings: EditSpec) -> dict[str, Any]:
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
