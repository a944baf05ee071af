"""Measures the `warp` renderer on real clips: is the edit in the picture, and is everything else still there?

An independent reader (MediaPipe's `face_landmarker.task`) looks at frames before and after the edit. `cmet eval edit`.
"""

import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from cmet_engine import arkit
from cmet_engine.emotion.edit import edit_track
from cmet_engine.emotion.library import load_library
from cmet_engine.face.clip import track_clip
from cmet_engine.face.lips import LIPS_CLOSED, LIPS_OPEN, eye_opening, lip_opening
from cmet_engine.face.tracker import FaceGeometry
from cmet_engine.media.video import VideoReader, VideoWriter
from cmet_engine.progress import Progress, Stage
from cmet_engine.quality.outside import outside, psnr
from cmet_engine.render.warp import WarpRenderer
from cmet_engine.timeline import EmotionTimeline
from cmet_engine.track import CoefficientTrack
from cmet_engine.training.face_estimator import FaceEstimator

ASKED = 0.2
"""Coefficients that an emotion changes by this much are asked about."""

SELDOM_READ: tuple[str, ...] = tuple(
    n
    for n in arkit.NAMES
    if n.startswith(("cheekSquint", "noseSneer", "cheekPuff", "jawForward", "tongueOut", "mouthClose", "mouthFunnel"))
    or n in ("eyeWideLeft", "jawRight", "mouthLeft", "mouthRight", "mouthDimpleRight")
)
"""Coefficients that the reader reports at 0.2 or more on less than 1 % of faces (3,974 pictures and frames of 42 clips),
`eyeWide` and `mouthDimple` on one side only: a pair is left out where either side is."""

_READ = np.array([n not in SELDOM_READ and arkit.mirrored(n) not in SELDOM_READ for n in arkit.NAMES])

LIP_FRAMES, CLOSED_FRAMES = 24, 24
"""Frames of each clip in which lips are looked at, at least, and closed ones beside these, as far as there are so many."""

BLINK = 0.6
"""An eye is shut below this share of its median opening."""


@dataclass(frozen=True)
class EditFigures:
    """One clip edited with one emotion.

    Attributes:
        clip, emotion: which.
        realised: measured over asked change, summed over the coefficients asked for by `ASKED` or more that the reader
            reports on real faces; None where there are none.
        realised_middle: median of the single coefficients' shares.
        same_sign: share of these coefficients that moved the way they were asked to.
        coefficients: (asked, measured) for each of them, means over the frames.
        lips_closed_kept: share of frames with closed lips whose lips are still closed, among up to `CLOSED_FRAMES` of the
            clip's closed ones beside those read anyway; None where none are.
        lips_correlation: of the opening between the inner lips before and after, in `LIP_FRAMES` or more frames, evenly spaced.
        blinks_kept: share of shut eyes that are still shut; None where none are.
        outside_psnr: dB, of the encoded result against the source outside the face; `inf` where every pixel is equal.
        flicker: mean size of the second difference in time of the face's pixels, over the source's own.
    """

    clip: str
    emotion: str
    realised: float | None
    realised_middle: float | None
    same_sign: float | None
    coefficients: dict[str, tuple[float, float]]
    lips_closed_kept: float | None
    lips_correlation: float | None
    blinks_kept: float | None
    outside_psnr: float | None
    flicker: float | None

    def as_dict(self) -> dict[str, object]:
        """JSON values."""
        return asdict(self)


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
    """Edit real clips, render some of their frames, and look at them again.

    Args:
        paths: video files.
        emotions: names from the library.
        landmarker: MediaPipe's `face_landmarker.task`; None reads with the embedded tracker and solver.
        strength: of every edit.
        frames: how many frames of each clip are read, evenly spaced.
        run: how many neighbouring frames, from the middle of the clip, are encoded and compared in time.
        progress: called with ("measuring", done, in all).

    Raises:
        CmetError: a clip cannot be read or shows no face, an emotion is unknown, or the landmarker is missing.
    """
    library, reader = load_library(), FaceEstimator(landmarker)
    result: list[EditFigures] = []
    total = len(paths) * len(emotions)
    for path in paths:
        geometry, source = track_clip(path)
        usable = np.flatnonzero(geometry.valid & (geometry.fade >= 1))
        if not len(usable):
            continue
        lips = _spread(usable, max(LIP_FRAMES, frames))
        spread = lips[np.linspace(0, len(lips) - 1, min(frames, len(lips))).round().astype(int)]
        closed = usable[lip_opening(np.asarray(geometry.landmarks[:])[usable]) < LIPS_CLOSED]
        read = np.union1d(lips, _spread(closed, CLOSED_FRAMES))
        first = max(0, (len(geometry) - run) // 2)
        middle = np.arange(first, min(first + run, len(geometry)))
        wanted = {int(i) for i in (*read, *middle)}
        images = {frame.index: frame.image for frame in VideoReader(path) if frame.index in wanted}
        read = np.array([i for i in read if i in images])
        middle = np.array([i for i in middle if i in images])
        before = reader([images[i] for i in read])
        among, even = np.isin(read, spread), np.isin(read, lips)
        for emotion in emotions:
            if progress:
                progress(Stage.MEASURE, len(result), total)
            edited = edit_track(source, EmotionTimeline.parse([f"{emotion}={strength}"]), library)
            renderer = WarpRenderer(geometry, source, edited)
            after = reader([renderer.render(images[i], int(i)) for i in read])
            rendered = [renderer.render(images[i], int(i)) for i in middle]
            originals = [images[i] for i in middle]
            result.append(
                EditFigures(
                    path.stem,
                    emotion,
                    *realised(source, edited, read[among], before[1][among], after[1][among]),
                    *_kept(before[0], after[0], even),
                    outside_psnr=_outside_psnr(geometry, middle, originals, rendered),
                    flicker=_flicker(geometry, middle, originals, rendered),
                )
            )
    return result


def _spread(frames: np.ndarray, count: int) -> np.ndarray:
    """At most `count` of the frames, evenly spaced."""
    return np.unique(frames[np.linspace(0, len(frames) - 1, min(count, len(frames))).round().astype(int)])


def realised(
    source: CoefficientTrack, edited: CoefficientTrack, frames: np.ndarray, before: np.ndarray, after: np.ndarray
) -> tuple[float | None, float | None, float | None, dict[str, tuple[float, float]]]:
    """`realised`, `realised_middle`, `same_sign` and `coefficients` of `EditFigures`."""
    both = np.isfinite(before).all(1) & np.isfinite(after).all(1)
    if not both.any():
        return None, None, None, {}
    asked = (edited.coefficients - source.coefficients)[frames][both].mean(0)
    measured = (after - before)[both].mean(0)
    columns = np.flatnonzero((np.abs(asked) >= ASKED) & _READ)
    if not len(columns):
        return None, None, None, {}
    a, m = asked[columns], measured[columns]
    pairs = {arkit.NAMES[c]: (round(float(x), 3), round(float(y), 3)) for c, x, y in zip(columns, a, m, strict=True)}
    return float((m * np.sign(a)).sum() / np.abs(a).sum()), float(np.median(m / a)), float((m * a > 0).mean()), pairs


def _kept(before: np.ndarray, after: np.ndarray, even: np.ndarray) -> tuple[float | None, float | None, float | None]:
    """`lips_closed_kept`, `lips_correlation` and `blinks_kept` of landmarks [K, 478, 3] before and after; the correlation
    over the frames where `even` [K] is True, because the others were chosen for their closed lips.
    """
    both = np.isfinite(before).all((1, 2)) & np.isfinite(after).all((1, 2))
    if both.sum() < 3:
        return None, None, None
    before, after, even = before[both], after[both], even[both]
    lips = lip_opening(before), lip_opening(after)
    closed = lips[0] < LIPS_CLOSED
    eyes = eye_opening(before), eye_opening(after)
    shut = eyes[0] < BLINK * np.median(eyes[0], axis=0)
    still = eyes[1] < BLINK * np.median(eyes[1], axis=0) + 0.01
    moving = even.sum() >= 3 and min(v[even].std() for v in lips) > 1e-3
    return (
        float((lips[1][closed] < LIPS_OPEN).mean()) if closed.any() else None,
        float(np.corrcoef(lips[0][even], lips[1][even])[0, 1]) if moving else None,
        float(still[shut].mean()) if shut.any() else None,
    )


def _outside_psnr(
    geometry: FaceGeometry, frames: np.ndarray, originals: list[np.ndarray], rendered: list[np.ndarray]
) -> float | None:
    """PSNR outside the face after the result was encoded and read again."""
    if not rendered:
        return None
    height, width = rendered[0].shape[:2]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "result.mp4"
        with VideoWriter(path, width, height, geometry.fps) as writer:
            for image in rendered:
                writer.write(image)
        decoded = [frame.image for frame in VideoReader(path)]
    return psnr(geometry, zip(frames.tolist(), originals, decoded, strict=True))


def _flicker(
    geometry: FaceGeometry, frames: np.ndarray, originals: list[np.ndarray], rendered: list[np.ndarray]
) -> float | None:
    """Second difference in time inside the face, result over source."""
    sums = np.zeros(2)
    for k in range(1, len(frames) - 1):
        inside = ~outside(geometry, int(frames[k]), originals[k].shape)
        for which, images in enumerate((originals, rendered)):
            a, b, c = (images[k + d][inside].astype(np.float32) for d in (-1, 0, 1))
            sums[which] += float(np.abs(a - 2 * b + c).mean())
    return float(sums[1] / sums[0]) if sums[0] > 0 else None


def format_figures(figures: Sequence[EditFigures]) -> str:
    """A table for people: one line per emotion, medians over the clips, and what did worst."""
    head = (
        f"{'emotion':<12}{'clips':>6}{'realised':>10}{'(worst)':>9}{'middle':>8}{'sign':>7}{'closed':>8}{'lips':>7}"
        f"{'blinks':>8}{'outside':>9}{'flicker':>9}"
    )
    lines = [head]

    def median(values: list[float | None], form: str) -> str:
        known = [v for v in values if v is not None]
        return format(float(np.median(known)), form) if known else "-"

    def mean(values: list[float | None], form: str) -> str:
        known = [v for v in values if v is not None]
        return format(float(np.mean(known)), form) if known else "-"

    for emotion in dict.fromkeys(f.emotion for f in figures):
        rows = [f for f in figures if f.emotion == emotion]
        realised = [f.realised for f in rows]
        worst = min((v for v in realised if v is not None), default=None)
        lines.append(
            f"{emotion:<12}{len(rows):>6}{median(realised, '.2f'):>10}{'-' if worst is None else f'{worst:.2f}':>9}"
            f"{median([f.realised_middle for f in rows], '.2f'):>8}{mean([f.same_sign for f in rows], '.2f'):>7}"
            f"{mean([f.lips_closed_kept for f in rows], '.2f'):>8}{median([f.lips_correlation for f in rows], '.3f'):>7}"
            f"{mean([f.blinks_kept for f in rows], '.2f'):>8}{median([f.outside_psnr for f in rows], '.1f'):>9}"
            f"{median([f.flicker for f in rows], '.2f'):>9}"
        )
    lines.append("")
    for emotion in dict.fromkeys(f.emotion for f in figures):
        shares: dict[str, list[float]] = {}
        for f in figures:
            if f.emotion == emotion:
                for name, (asked, measured) in f.coefficients.items():
                    shares.setdefault(name, []).append(measured / asked)
        lines.append(
            f"{emotion:<12}"
            + ", ".join(f"{n} {np.median(v):.2f}" for n, v in sorted(shares.items(), key=lambda x: -len(x[1]))[:12])
        )
    return "\n".join(lines)
