"""Which emotion classifiers see in edited clips, and how much of each edit is measured in the picture.

The own classifier is applied to real faces of held-out people, to edited tracks, and to rendered frames that were tracked
again, so that its answers on edits can be weighed against its answers on real faces. Independent judges (`evaluation.judges`)
look at the pixels of the same frames before and after the edit.
"""

import json
import logging
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from cmet_engine import arkit
from cmet_engine.emotion.edit import edit_track
from cmet_engine.emotion.expression_classifier import EMOTIONS, ExpressionClassifier
from cmet_engine.emotion.library import load_library
from cmet_engine.emotions import BASIC, LIBRARY
from cmet_engine.errors import CmetError, InvalidInput
from cmet_engine.evaluation import judges as independent
from cmet_engine.evaluation.judges import Judge, Verdict
from cmet_engine.face.blendshapes import load_basis
from cmet_engine.face.clip import track_clip
from cmet_engine.face.lips import lip_opening
from cmet_engine.face.occlusion import find_occlusion
from cmet_engine.files import read_json, whole_file
from cmet_engine.media.reader import VideoReader
from cmet_engine.models import assets
from cmet_engine.progress import Progress, Stage
from cmet_engine.quality import metrics
from cmet_engine.quality.alignment import neighbours
from cmet_engine.render.warp import WarpRenderer
from cmet_engine.timeline import EmotionTimeline
from cmet_engine.track import CoefficientTrack
from cmet_engine.training.expression_classifier import accuracy, reported
from cmet_engine.training.face_estimator import FaceEstimator
from cmet_engine.training.labelled_pictures import load_pictures

log = logging.getLogger(__name__)

RELIABILITY_FILE = "reliability.json"
"""What `cmet emotions` shows for each emotion."""

WEAK = 0.5
"""An emotion that the classifier recognises in a smaller share of real faces is named in the report."""


@dataclass(frozen=True)
class EditedClip:
    """One edited clip before it is classified.

    Attributes:
        name: of the source clip.
        emotion: that was asked for.
        source, edited: the tracks.
        frames: indices of the frames that were rendered and tracked again.
        before, after: [K, 52] MediaPipe's scores of these frames in the source and in the rendered picture, NaN where
            no face was found; None when nothing was rendered.
        lips: [2, N] opening between the inner lips in source and result.
        flicker: `metrics.flicker` of neighbouring rendered frames; None when nothing was rendered.
        verdicts: what the independent judges make of the rendered frames, by their names.
        lip_frames: [N], the frames of `lips`; None where nothing is known of speech in them.
    """

    name: str
    emotion: str
    source: CoefficientTrack
    edited: CoefficientTrack
    frames: np.ndarray
    before: np.ndarray | None
    after: np.ndarray | None
    lips: np.ndarray | None
    flicker: float | None
    verdicts: dict[str, Verdict] = field(default_factory=dict)
    lip_frames: np.ndarray | None = None

    @property
    def shown(self) -> dict[str, np.ndarray]:
        """Coefficients to classify: of the edited `tracks`, and of the `rendered` frames where there are some."""
        frames = {"tracks": self.edited.coefficients[self.frames] if len(self.frames) else self.edited.coefficients}
        if self.after is not None and np.isfinite(self.after).all(1).any():
            frames["rendered"] = self.after[np.isfinite(self.after).all(1)]
        return frames


class _Answers:
    """What the classifier predicted for clips, by the emotion that was asked for."""

    def __init__(self) -> None:
        kinds = ("tracks", "rendered")
        self._index = {e: i for i, e in enumerate(EMOTIONS)}
        self._among_seven = {k: np.zeros((8, 8), int) for k in kinds}  # neutral is no answer
        self._among_eight = {k: np.zeros((8, 8), int) for k in kinds}
        self.taken_for: dict[str, dict[str, int]] = {}

    def add(self, clip: EditedClip, classifier: ExpressionClassifier) -> None:
        """Count the answers for one clip."""
        shown = clip.shown
        for kind, coefficients in shown.items():
            likely = classifier.clip(coefficients)
            best = max(BASIC, key=lambda e: likely[e])
            if clip.emotion in self._index:
                row = self._index[clip.emotion]
                self._among_seven[kind][row, self._index[best]] += 1
                self._among_eight[kind][row, self._index[max(likely, key=lambda e: likely[e])]] += 1
            elif kind == "rendered" or "rendered" not in shown:
                counts = self.taken_for.setdefault(clip.emotion, {})
                counts[best] = counts.get(best, 0) + 1

    def figures(self) -> dict[str, Any]:
        """Confusion and accuracy of tracks and rendered frames."""
        result: dict[str, Any] = {}
        for kind, counts in self._among_seven.items():
            table = counts[:7, :7]
            if table.sum():
                result[kind] = {
                    "confusion": table.tolist(),
                    "accuracy": accuracy(table),
                    "with_neutral": accuracy(self._among_eight[kind]),
                }
        return result


def evaluate_emotion(
    clips: Iterable[EditedClip], classifier: ExpressionClassifier, *, readable: np.ndarray | None = None
) -> dict[str, Any]:
    """Classify edited clips, and measure how much of each edit appears in the picture.

    Args:
        clips: edited and, where they were rendered, tracked again.
        classifier: what classifies them.
        readable: [52] True for coefficients that MediaPipe reports at all, see `reported`.

    Returns:
        JSON values: for `tracks` and `rendered`, `confusion` (rows asked, columns predicted, over the seven emotions),
        `accuracy` (all, balanced, each) and, where neutral is an answer too, `with_neutral`; per emotion `realised`
        (median over clips), `same_sign`, `lips` (correlation), `closed` (closed lips kept), `flicker`, see `quality.metrics`;
        `taken_for`, the answers for the extended emotions; and `judges`, by name what each makes of edits, see `judges.summary`.
    """
    answers = _Answers()
    verdicts: dict[str, list[Verdict]] = {}
    per: dict[str, dict[str, list[float]]] = {}
    for clip in clips:
        values = per.setdefault(clip.emotion, {k: [] for k in ("realised", "same_sign", "lips", "closed", "flicker")})
        answers.add(clip, classifier)
        _measure(clip, values, readable)
        for name, verdict in clip.verdicts.items():
            verdicts.setdefault(name, []).append(verdict)
    result: dict[str, Any] = {"emotions": list(EMOTIONS), **answers.figures(), "taken_for": answers.taken_for}
    result["per_emotion"] = {
        e: {k: round(float(np.median(v)), 4) for k, v in values.items() if v} for e, values in per.items()
    }
    result["judges"] = {name: {"edits": independent.summary(own)} for name, own in verdicts.items()}
    signs = [v for values in per.values() for v in values["same_sign"]]
    realised = [v for values in per.values() for v in values["realised"]]
    if realised:
        result["realised"] = {"median": float(np.median(realised)), "same_sign": float(np.mean(signs))}
    return result


def _measure(clip: EditedClip, values: dict[str, list[float]], readable: np.ndarray | None) -> None:
    """Append what one clip shows: realised strength, sign, lips, flicker, by the definitions of `quality.metrics`."""
    figures: dict[str, float | None] = {"flicker": clip.flicker}
    if clip.before is not None and clip.after is not None:
        asked = (clip.edited.coefficients - clip.source.coefficients)[clip.frames]
        seen = metrics.READABLE if readable is None else metrics.READABLE & readable
        if found := metrics.realised(asked, clip.after - clip.before, seen):
            figures |= {"realised": found.share, "same_sign": found.right_way}
    if clip.lips is not None:
        speech = None if clip.lip_frames is None else metrics.Speech.of(clip.source).at(clip.lip_frames)
        before, after = clip.lips
        figures |= {
            "lips": metrics.lip_correlation(before, after, speech),
            "closed": metrics.lips_closed_kept(before, after, speech),
        }
    for name, value in figures.items():
        if value is not None:
            values[name].append(value)


def edited_clips(
    paths: Sequence[Path],
    emotions: Sequence[str],
    *,
    mode: str = "add",
    strength: float = 1.0,
    render: bool = True,
    landmarker: Path | None = None,
    frames: int = 12,
    judges: Sequence[Judge] = (),
    progress: Progress | None = None,
) -> Iterator[EditedClip]:
    """Edit real clips with every emotion, render some of their frames, and track these again.

    Args:
        paths, emotions: video files, and names from the library; `mode` and `strength` are those of the edit.
        render: also render frames and track them again; otherwise only tracks are classified.
        landmarker: MediaPipe's `face_landmarker.task`, an independent estimator; None uses the embedded solver.
        frames: how many frames of each clip are rendered: runs of three in a row, spread over the clip.
        judges: look at the rendered frames, too.
        progress: called with (stage, clips done, clips in all).

    Yields:
        An `EditedClip` for every clip and emotion.
    """
    library = load_library()
    estimator = FaceEstimator(landmarker) if render else None
    for done, path in enumerate(paths):
        if progress:
            progress(Stage.CLASSIFY, done, len(paths))
        geometry, source = track_clip(path)
        occlusion = find_occlusion(path, geometry) if estimator else None
        shown = _runs(np.flatnonzero(geometry.valid), frames)
        landmarks = np.asarray(geometry.landmarks[:])
        ok = geometry.valid & np.isfinite(landmarks).all((1, 2))
        images, before, first, filmed, said = {}, None, None, [], {}
        if estimator:
            wanted = set(shown.tolist())
            images = {frame.index: frame.image for frame in VideoReader(path) if frame.index in wanted}
            first, before = estimator([images[i] for i in shown])
            filmed = _neighbours([images[i] for i in shown], [landmarks[i] for i in shown], shown)
            said = _judged(judges, [images[i] for i in shown], landmarks[shown])
        for emotion in emotions:
            edited = edit_track(source, EmotionTimeline.parse([f"{emotion}={strength}"]), library, mode=mode)
            moved = landmarks + load_basis().motion(landmarks, edited.coefficients - source.coefficients)
            lips, lip_frames = np.stack([lip_opening(landmarks[ok]), lip_opening(moved[ok])]), np.flatnonzero(ok)
            after, flicker, verdicts = None, None, {}
            if estimator and first is not None:
                renderer = WarpRenderer(geometry, source, edited, occlusion=occlusion)
                made = [renderer.render(images[i], int(i)) for i in shown]
                last, after = estimator(made)
                both = np.isfinite(first).all((1, 2)) & np.isfinite(last).all((1, 2))
                if both.any():
                    lips, lip_frames = np.stack([lip_opening(first[both]), lip_opening(last[both])]), shown[both]
                flicker = metrics.flicker(filmed, _neighbours(made, [renderer.target(int(i)) for i in shown], shown))
                then = _judged(judges, made, landmarks[shown])
                verdicts = {name: Verdict(emotion, said[name], then[name]) for name in then}
            yield EditedClip(
                path.stem, emotion, source, edited, shown, before, after, lips, flicker, verdicts, lip_frames
            )


def _judged(judges: Sequence[Judge], pictures: Sequence[np.ndarray], landmarks: np.ndarray) -> dict[str, np.ndarray]:
    """Mean probabilities [7] of pictures [K] by each judge; all see the same crops, by the landmarks [K, 478, 3] of the source."""
    crops = [independent.crop_of(image, points) for image, points in zip(pictures, landmarks, strict=True)]
    return {judge.name: judge(crops).mean(0) for judge in judges}


def _runs(valid: np.ndarray, count: int) -> np.ndarray:
    """Frames to measure: runs of three in a row, spread over the frames with a face."""
    if len(valid) <= count:
        return valid
    starts = np.linspace(0, len(valid) - 3, max(count // 3, 1)).astype(int)
    return np.unique(valid[(starts[:, None] + np.arange(3)).ravel()])


def _neighbours(
    pictures: Sequence[np.ndarray], landmarks: Sequence[np.ndarray], frames: np.ndarray
) -> list[metrics.Pair]:
    """Neighbouring frames among those that are measured, brought to one geometry."""
    pairs: list[metrics.Pair] = []
    for i in np.flatnonzero(np.diff(frames) == 1):
        pairs += neighbours(pictures[i : i + 2], landmarks[i : i + 2])
    return pairs


def evaluate_clips(
    paths: Sequence[Path],
    *,
    emotions: Sequence[str] = LIBRARY,
    pictures: Path | None = None,
    weights: Path | None = None,
    mode: str = "add",
    strength: float = 1.0,
    render: bool = True,
    landmarker: Path | None = None,
    frames: int = 12,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """What `cmet eval emotion` does: edit clips, classify tracks and rendered frames, and set them beside real faces.

    Args:
        paths: clips that nothing was trained on.
        emotions: which to ask for.
        pictures: folder of labelled pictures, to find which coefficients MediaPipe reports at all, and how often the judges
            are right on real faces; None uses what was stored.
        weights: a classifier; None takes the embedded one.
        mode, strength, render, landmarker, frames, progress: see `edited_clips`.

    Returns:
        The figures of `evaluate_emotion`, with `real` (real faces of held-out people), `real_cross_validated` (the other
        people, each classified by one that was not trained on them: more pictures of the rare emotions), `clips`,
        `settings`, `reliability` for every emotion, per judge also `real`, see `judges.accuracy_on_pictures`, and `missing`,
        sentences about judges that are not installed.

    Raises:
        CmetError: a clip cannot be read, or a file is missing.
    """
    classifier = ExpressionClassifier.load(weights)
    stored = classifier.figures.get("readable")
    seen = reported(load_pictures(pictures)) if pictures else np.isin(arkit.NAMES, stored) if stored else None
    found, missing = independent.judges() if render else ([], [])
    clips = edited_clips(
        paths, emotions, mode=mode, strength=strength, render=render, landmarker=landmarker, frames=frames,
        judges=found, progress=progress,
    )  # fmt: skip
    figures = evaluate_emotion(clips, classifier, readable=seen)
    figures["real"] = classifier.figures.get("real_held_out") or classifier.figures.get("real")
    figures["real_cross_validated"] = classifier.figures.get("real")
    known = read_json(assets.asset(RELIABILITY_FILE)).get("judges", {})
    real = {name: known[name]["real"] for name in known if known[name].get("real")}
    if pictures and found:
        real = independent.accuracy_on_pictures(found, pictures, landmarker)
    for name, section in figures["judges"].items():
        section["real"] = real.get(name)
    figures["missing"] = missing
    figures["clips"] = [p.name for p in paths]
    figures["settings"] = {"mode": mode, "strength": strength, "frames": frames, "landmarker": landmarker is not None}
    figures["reliability"] = reliability(figures)
    return figures


def classify_videos(
    videos: Sequence[tuple[Path, str]], *, weights: Path | None = None, progress: Progress | None = None
) -> dict[str, Any]:
    """Classify acted videos, each as a whole.

    Args:
        videos: file and label of each, see `acted_videos`.
        weights: a classifier; None takes the embedded one.
        progress: called as `progress(stage, done, total)`.

    Returns:
        `videos` (how many), `confusion` [8, 8] and `accuracy`, see `accuracy`. A video without a face is left out with a
        warning.

    Raises:
        CmetError: no video shows a face.
    """
    classifier, table = ExpressionClassifier.load(weights), np.zeros((len(EMOTIONS), len(EMOTIONS)), int)
    for number, (path, emotion) in enumerate(videos, 1):
        try:
            track = track_clip(path)[1]
            likely = classifier.clip(track.coefficients[track.valid])
            table[EMOTIONS.index(emotion), EMOTIONS.index(max(likely, key=lambda name: likely[name]))] += 1
        except CmetError as error:
            log.warning("left out: %s", error)
        if progress:
            progress(Stage.CLASSIFY, number, len(videos))
    if not table.any():
        raise InvalidInput(f"Not one of the {len(videos)} acted videos shows a face that can be tracked.")
    return {"videos": int(table.sum()), "confusion": table.tolist(), "accuracy": accuracy(table)}


def reliability(figures: dict[str, Any]) -> dict[str, Any]:
    """What `cmet emotions` shows for each emotion, from `evaluate_emotion`'s figures: JSON values.

    For the seven emotions that the classifier knows, the share of rendered clips (tracks, where nothing was rendered) that
    it recognised; for the extended ones None, with the emotion that it took them for. `judges`: the share of clips in which the
    emotion rose most, mean of the independent judges.
    """
    kind = figures.get("rendered") or figures.get("tracks") or {"accuracy": {}}
    result: dict[str, Any] = {}
    for emotion in LIBRARY:
        entry = {"recognised": kind["accuracy"].get(emotion)}
        if emotion in figures.get("taken_for", {}):
            counts = figures["taken_for"][emotion]
            entry["taken_for"] = max(counts, key=lambda e: counts[e])
        entry |= {k: v for k, v in figures.get("per_emotion", {}).get(emotion, {}).items() if k == "realised"}
        said = [section["edits"].get(emotion, {}) for section in figures.get("judges", {}).values()]
        if rose := [entry["rose_most"] for entry in said if "rose_most" in entry]:
            entry["judges"] = round(float(np.mean(rose)), 4)
        result[emotion] = entry
    return result


def write_reliability(figures: dict[str, Any]) -> Path:
    """Keep what `evaluate_clips` found as the embedded reliability that `cmet emotions` shows; returns the file.

    It holds how many clips were edited and no name of any of them.
    """
    document = {
        "about": "Which emotion the expression classifier recognised in edited clips of people that nothing was trained on, "
        "and what independent judges say (cmet eval emotion).",
        "clips": len(figures["clips"]),
        "settings": figures["settings"],
        "judges": figures.get("judges", {}),
        "emotions": figures["reliability"],
    }
    path = assets.ASSETS / RELIABILITY_FILE
    with whole_file(path, force=True) as temporary:
        temporary.write_text(json.dumps(document, indent=1) + "\n", "utf-8")
    assets.record(RELIABILITY_FILE)
    return path


def format_report(figures: dict[str, Any], real: dict[str, Any]) -> str:
    """The figures as text for the terminal: accuracy and confusion of real faces, tracks and rendered frames."""
    lines = []
    crossed = figures.get("real_cross_validated")
    sections = [
        ("real faces of held-out people", real),
        ("real faces of the other people, cross-validated", crossed),
        ("edited tracks", figures.get("tracks")),
        ("rendered frames, tracked again", figures.get("rendered")),
    ]
    for title, section in sections:
        if not section:
            continue
        table, rates = np.array(section["confusion"]), section["accuracy"]
        names = EMOTIONS[: len(table)]
        lines.append(f"{title}: {rates['all']:.1%} right, {rates['balanced']:.1%} mean over emotions")
        lines.append("asked \\ predicted " + " ".join(f"{n[:9]:>9}" for n in names) + "     right")
        for name, row in zip(names, table, strict=True):
            share = f"{rates[name]:>9.0%}" if name in rates else "        -"
            lines.append(f"  {name:<15} " + " ".join(f"{v:>9}" for v in row) + f" {share}")
    rates = (crossed or real)["accuracy"]
    weak = [f"{e} ({rates[e]:.0%})" for e in BASIC if rates.get(e, 1.0) < WEAK]
    if weak:
        lines.append(
            f"The classifier recognises less than half of the real faces of: {', '.join(weak)}. Its figures for edits of these "
            "are less certain."
        )
    lines.append("emotion       realised  same sign  lips corr  closed kept  flicker")
    for emotion, values in figures["per_emotion"].items():
        cells = [values.get(k) for k in ("realised", "same_sign", "lips", "closed", "flicker")]
        lines.append(f"{emotion:<13}" + "".join(f"{'-' if c is None else format(c, '.3f'):>10} " for c in cells))
    lines += _judges_report(figures)
    for emotion, counts in figures["taken_for"].items():
        answers = ", ".join(f"{n} x {e}" for e, n in sorted(counts.items(), key=lambda item: -item[1]))
        lines.append(f"{emotion} is not one of the classifier's emotions; it is taken for: {answers}")
    return "\n".join(lines)


def _judges_report(figures: dict[str, Any]) -> list[str]:
    """What the independent judges say, as lines; a sentence for each that is missing."""
    lines = [*figures.get("missing", [])]
    for name, section in figures["judges"].items():
        real, mean = section.get("real") or {}, independent.means(section["edits"])
        title = f"judge {name}"
        if real:
            title += f", right on {real['balanced']:.0%} of real pictures (mean over emotions)"
            if "rose_most" in real:
                title += f", where the emotion rises most against neutral ones in {real['rose_most']:.0%}"
        lines.append(title + "".join(f"; {k.replace('_', ' ')} {v:.0%}" for k, v in mean.items()))
        lines += independent.table(section["edits"], real)
    return lines
