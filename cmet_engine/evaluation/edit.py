"""Measures the `warp` renderer on real clips: is the edit in the picture, and is everything else still there?

An independent model (MediaPipe's `face_landmarker.task`) reads frames before and after the edit. `cmet eval edit`.
Every figure is defined in `quality.metrics`.
"""

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from cmet_engine.emotion.edit import edit_track
from cmet_engine.emotion.library import load_library
from cmet_engine.face.clip import track_clip
from cmet_engine.face.geometry import FaceGeometry
from cmet_engine.face.lips import LIPS_CLOSED, eye_opening, lip_opening
from cmet_engine.face.occlusion import Occlusion, find_occlusion
from cmet_engine.media.reader import VideoReader
from cmet_engine.media.writer import VideoWriter
from cmet_engine.progress import Progress, Stage
from cmet_engine.quality import metrics
from cmet_engine.quality.alignment import Pair, neighbours
from cmet_engine.quality.regions import outside
from cmet_engine.render.warp import WarpRenderer
from cmet_engine.timeline import EmotionTimeline
from cmet_engine.track import CoefficientTrack
from cmet_engine.training.face_estimator import FaceEstimator

LIP_FRAMES, CLOSED_FRAMES = 24, 24
"""Frames of each clip in which lips are measured, at least, and frames with closed lips beside these, as far as there are so many."""

LISTED = 12
"""Coefficients that the table lists for an emotion, those that most clips were asked for first."""


@dataclass(frozen=True)
class EditFigures:
    """One clip edited with one emotion; what each figure means stands in `quality.metrics`.

    Attributes:
        clip, emotion: which.
        realised: `metrics.realised`; None where no readable coefficient was asked for.
        same_sign: its `right_way`.
        coefficients: name -> its own share.
        lips_closed_kept: `metrics.lips_closed_kept`, among up to `CLOSED_FRAMES` of the clip's frames with closed lips beside
            those read anyway.
        lips_correlation: `metrics.lip_correlation`, over `LIP_FRAMES` or more evenly spaced frames.
        blinks_kept: `metrics.blinks_kept`.
        outside_psnr: `metrics.psnr` of the encoded result against the source outside the face, dB.
        flicker: `metrics.flicker`.
    """

    clip: str
    emotion: str
    realised: float | None
    same_sign: float | None
    coefficients: dict[str, float]
    lips_closed_kept: float | None
    lips_correlation: float | None
    blinks_kept: float | None
    outside_psnr: float | None
    flicker: float | None

    def as_dict(self) -> dict[str, object]:
        """JSON values."""
        return asdict(self)


@dataclass(frozen=True)
class _Sample:
    """The frames of a clip that are measured, with what is read from them before any edit.

    Attributes:
        geometry, source: the tracked clip; occlusion: what lies before the face in it.
        images: the frames by number.
        read: frames that are read, ascending; `asked` and `even` (bool, of each) mark those the realised change and the
            correlation of the lips rest on: evenly spaced, while the others were chosen for their closed lips.
        run: neighbouring frames from the middle of the clip, for what is compared in time.
        filmed: `run` aligned, as `metrics.flicker` takes it.
        landmarks, scores: read from `read`, [K, 478, 3] and [K, 52].
    """

    geometry: FaceGeometry
    source: CoefficientTrack
    occlusion: Occlusion
    images: dict[int, np.ndarray]
    read: np.ndarray
    asked: np.ndarray
    even: np.ndarray
    run: np.ndarray
    filmed: list[Pair]
    landmarks: np.ndarray
    scores: np.ndarray


def evaluate_edit(
    paths: Sequence[Path],
    emotions: Sequence[str],
    *,
    landmarker: Path | None = None,
    strength: float = 1.0,
    frames: int = 24,
    run: int = 16,
    progress: Progress | None = None,
) -> list[EditFigures]:
    """Edit real clips, render some of their frames, and track these again.

    Args:
        paths: video files.
        emotions: names from the library.
        landmarker: MediaPipe's `face_landmarker.task`; None measures with the embedded tracker and solver.
        strength: of every edit.
        frames: how many frames of each clip are read, evenly spaced.
        run: how many neighbouring frames, from the middle of the clip, are encoded and compared in time.
        progress: called with ("measuring", done, in all).

    Raises:
        CmetError: a clip cannot be read or shows no face, an emotion is unknown, or the landmarker is missing.
    """
    library, estimator = load_library(), FaceEstimator(landmarker)
    result: list[EditFigures] = []
    total = len(paths) * len(emotions)
    for path in paths:
        sample = _sample(path, estimator, frames, run)
        if sample is None:
            continue
        for emotion in emotions:
            if progress:
                progress(Stage.MEASURE, len(result), total)
            edited = edit_track(sample.source, EmotionTimeline.parse([f"{emotion}={strength}"]), library)
            result.append(_measure(path.stem, emotion, sample, edited, estimator))
    return result


def _sample(path: Path, estimator: FaceEstimator, frames: int, run: int) -> _Sample | None:
    """Track a clip, choose its frames and read them; None where no frame shows the face."""
    geometry, source = track_clip(path)
    usable = np.flatnonzero(geometry.valid & (geometry.fade >= 1))
    if not len(usable):
        return None
    even = _spread(usable, max(LIP_FRAMES, frames))
    closed = usable[lip_opening(np.asarray(geometry.landmarks[:])[usable]) < LIPS_CLOSED]
    read = np.union1d(even, _spread(closed, CLOSED_FRAMES))
    first = max(0, (len(geometry) - run) // 2)
    middle = np.arange(first, min(first + run, len(geometry)))
    wanted = {int(i) for i in (*read, *middle)}
    images = {frame.index: frame.image for frame in VideoReader(path) if frame.index in wanted}
    read = np.array([i for i in read if i in images])
    landmarks, scores = estimator([images[i] for i in read])
    shown = np.array([i for i in middle if i in images])
    filmed = list(neighbours([images[i] for i in shown], [geometry.landmarks[int(i)] for i in shown]))
    return _Sample(
        geometry, source, find_occlusion(path, geometry), images, read, np.isin(read, _spread(even, frames)),
        np.isin(read, even), shown, filmed, landmarks, scores,
    )  # fmt: skip


def _measure(
    clip: str, emotion: str, sample: _Sample, edited: CoefficientTrack, estimator: FaceEstimator
) -> EditFigures:
    """Render the frames of a sample and set them beside the source's."""
    renderer = WarpRenderer(sample.geometry, sample.source, edited, occlusion=sample.occlusion)
    landmarks, scores = estimator([renderer.render(sample.images[i], int(i)) for i in sample.read])
    asked = (edited.coefficients - sample.source.coefficients)[sample.read]
    realised = metrics.realised(asked[sample.asked], (scores - sample.scores)[sample.asked])
    originals = [sample.images[i] for i in sample.run]
    rendered = [renderer.render(sample.images[i], int(i)) for i in sample.run]
    moved = [renderer.target(int(i)) for i in sample.run]
    known = np.isfinite(sample.landmarks).all((1, 2)) & np.isfinite(landmarks).all((1, 2))
    before, after, even = sample.landmarks[known], landmarks[known], sample.even[known]
    speech = metrics.Speech.of(sample.source).at(sample.read[known])
    lips, eyes = (lip_opening(before), lip_opening(after)), (eye_opening(before), eye_opening(after))
    return EditFigures(
        clip,
        emotion,
        realised=None if realised is None else realised.share,
        same_sign=None if realised is None else realised.right_way,
        coefficients={} if realised is None else {n: round(v, 3) for n, v in realised.coefficients.items()},
        lips_closed_kept=metrics.lips_closed_kept(*lips, speech),
        lips_correlation=metrics.lip_correlation(lips[0][even], lips[1][even], speech.at(even)),
        blinks_kept=metrics.blinks_kept(*eyes),
        outside_psnr=_outside_psnr(sample, originals, rendered),
        flicker=metrics.flicker(sample.filmed, neighbours(rendered, moved)),
    )


def _spread(frames: np.ndarray, count: int) -> np.ndarray:
    """At most `count` of the frames, evenly spaced."""
    return np.unique(frames[np.linspace(0, len(frames) - 1, min(count, len(frames))).round().astype(int)])


def _outside_psnr(sample: _Sample, originals: list[np.ndarray], rendered: list[np.ndarray]) -> float | None:
    """PSNR outside the face after the result was encoded and read again."""
    if not rendered:
        return None
    height, width = rendered[0].shape[:2]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "result.mp4"
        with VideoWriter(path, width, height, sample.geometry.fps) as writer:
            for image in rendered:
                writer.write(image)
        decoded = [frame.image for frame in VideoReader(path)]
    return metrics.psnr(
        (before, after, outside(sample.geometry, int(i), before.shape))
        for i, before, after in zip(sample.run, originals, decoded, strict=True)
        if sample.geometry.valid[i]
    )


def format_figures(figures: Sequence[EditFigures]) -> str:
    """A table for people: one line per emotion, medians over the clips, and the least realised."""
    lines = [
        f"{'emotion':<12}{'clips':>6}{'realised':>10}{'(worst)':>9}{'sign':>7}{'closed':>8}{'lips':>7}"
        f"{'blinks':>8}{'outside':>9}{'flicker':>9}"
    ]
    for emotion in dict.fromkeys(f.emotion for f in figures):
        rows = [f for f in figures if f.emotion == emotion]
        realised = [f.realised for f in rows]
        lines.append(
            f"{emotion:<12}{len(rows):>6}{_over(np.median, realised, '.2f'):>10}{_over(np.min, realised, '.2f'):>9}"
            f"{_over(np.mean, [f.same_sign for f in rows], '.2f'):>7}"
            f"{_over(np.mean, [f.lips_closed_kept for f in rows], '.2f'):>8}"
            f"{_over(np.median, [f.lips_correlation for f in rows], '.3f'):>7}"
            f"{_over(np.mean, [f.blinks_kept for f in rows], '.2f'):>8}"
            f"{_over(np.median, [f.outside_psnr for f in rows], '.1f'):>9}{_over(np.median, [f.flicker for f in rows], '.2f'):>9}"
        )
    lines.append("")
    for emotion in dict.fromkeys(f.emotion for f in figures):
        shares: dict[str, list[float]] = {}
        for f in figures:
            if f.emotion == emotion:
                for name, share in f.coefficients.items():
                    shares.setdefault(name, []).append(share)
        often = sorted(shares.items(), key=lambda item: -len(item[1]))[:LISTED]
        lines.append(f"{emotion:<12}" + ", ".join(f"{name} {np.median(values):.2f}" for name, values in often))
    return "\n".join(lines)


def _over(statistic: Callable[[list[float]], object], values: Sequence[float | None], form: str) -> str:
    """A statistic of the known values, as text."""
    known = [v for v in values if v is not None]
    return format(float(statistic(known)), form) if known else "-"  # type: ignore[arg-type]
