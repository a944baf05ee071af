"""A judge that tells the emotion of a face from its coefficients, and how well edits convince it.

The judge is trained on real labelled pictures, scored by MediaPipe's blendshape model; it never sees an edit or the
published facial actions. It is asked about real faces of people it was not trained on, about edited tracks, and about
rendered frames that were tracked again, so that its word on edits can be weighed against its word on real faces.
"""

import csv
import json
import zipfile
import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save_file
from scipy.optimize import minimize

from cmet_engine import arkit
from cmet_engine.emotions import BASIC, LIBRARY
from cmet_engine.errors import CmetError
from cmet_engine.face.lips import LIPS_CLOSED, LIPS_OPEN
from cmet_engine.face.mesh import Landmarker
from cmet_engine.files import read_json, whole_file
from cmet_engine.models.assets import ASSETS, asset, record
from cmet_engine.models.tensors import read_arrays
from cmet_engine.progress import Progress, Stage
from cmet_engine.timeline import EmotionTimeline
from cmet_engine.track import CoefficientTrack

JUDGE_FILE = "emotion_judge.safetensors"
LABELS_FILE = "judge_labels.json"
RELIABILITY_FILE = "reliability.json"
EMOTIONS = (*BASIC, "neutral")

PENALTY = 60.0  # of the squared weights; chosen by cross-validation over people
BALANCE = 0.85  # 0: every picture counts the same, 1: every emotion does; a compromise of accuracy over pictures and over emotions
CROWDED = 0.5  # a person with n pictures of an emotion counts as n ** (1 - CROWDED) of them: a few people have dozens

_UNSEEN = ("cheekSquint", "noseSneer", "cheekPuff", "jawForward", "tongueOut")  # MediaPipe hardly ever reports them
_NOT_EMOTION = ("eyeLook", "jawLeft", "jawRight")  # where someone looks or chews says little


def _used(name: str) -> bool:
    return not name.startswith(_UNSEEN + _NOT_EMOTION)


_PAIRS = [(arkit.INDEX[a], arkit.INDEX[b]) for a, b in arkit.PAIRS if _used(a)]
_MIDDLE = [i for i, n in enumerate(arkit.NAMES) if arkit.MIRROR[i] == i and _used(n)]


def features(coefficients: np.ndarray) -> np.ndarray:
    """What the judge looks at [N, F]: middle coefficients, the mean of both sides, and how unequal the sides are.

    Square roots, because MediaPipe's scores crowd near 0. A face and its mirror image look the same to the judge.
    """
    root = np.sqrt(np.clip(np.asarray(coefficients, np.float64), 0, 1))
    left, right = root[:, [a for a, _ in _PAIRS]], root[:, [b for _, b in _PAIRS]]
    return np.concatenate((root[:, _MIDDLE], (left + right) / 2, np.abs(left - right)), 1)


@dataclass(frozen=True)
class Judge:
    """A linear classifier over `features`: weights [F + 1, 8] (last row: bias), mean and spread [F] of the features."""

    weights: np.ndarray
    mean: np.ndarray
    spread: np.ndarray
    figures: dict[str, Any]

    def probabilities(self, coefficients: np.ndarray) -> np.ndarray:
        """How likely each of `EMOTIONS` is for every frame: [N, 8]."""
        x = (features(coefficients) - self.mean) / self.spread
        logits = x @ self.weights[:-1] + self.weights[-1]
        shares = np.exp(logits - logits.max(1, keepdims=True))
        return shares / shares.sum(1, keepdims=True)

    def clip(self, coefficients: np.ndarray) -> dict[str, float]:
        """How likely each emotion is for frames of one clip together: the mean of their log probabilities."""
        shares = np.log(self.probabilities(coefficients) + 1e-4).mean(0)
        shares = np.exp(shares - shares.max())
        return dict(zip(EMOTIONS, (shares / shares.sum()).tolist(), strict=True))

    def save(self, path: str | Path, *, force: bool = False) -> None:
        """Write the judge as safetensors, its figures in the header."""
        arrays = {k: np.ascontiguousarray(getattr(self, k), np.float32) for k in ("weights", "mean", "spread")}
        with whole_file(path, force=force) as temporary:
            save_file(arrays, temporary, {"figures": json.dumps(self.figures)})

    @classmethod
    def load(cls, path: str | Path | None = None) -> "Judge":
        """The embedded judge, or one from a file that `save` wrote.

        Raises:
            CmetError: the file is missing or damaged.
        """
        file = asset(JUDGE_FILE) if path is None else Path(path)
        unlike = f"{file} is not a judge that `cmet train judge` wrote."
        arrays, about = read_arrays(file, unlike)
        try:
            return cls(arrays["weights"], arrays["mean"], arrays["spread"], json.loads(about.get("figures", "{}")))
        except (KeyError, ValueError) as error:
            raise CmetError(unlike) from error


def fit_judge(coefficients: np.ndarray, emotion: np.ndarray, person: np.ndarray | None = None) -> Judge:
    """Fit a judge to labelled pictures: multinomial logistic regression with a ridge penalty.

    Args:
        coefficients: [N, 52] MediaPipe's scores in canonical order.
        emotion: [N] names from `EMOTIONS`.
        person: [N] who is shown, so that nobody with many pictures outweighs the others; None takes everyone for another.

    Raises:
        CmetError: a label is unknown, or an emotion has no picture.
    """
    unknown = sorted(set(emotion) - set(EMOTIONS))
    if unknown:
        raise CmetError(f"The label '{unknown[0]}' is not one of {', '.join(EMOTIONS)}.")
    label = np.array([EMOTIONS.index(e) for e in emotion])
    count = np.bincount(label, minlength=len(EMOTIONS))
    if (count == 0).any():
        raise CmetError(f"There is no picture labelled '{EMOTIONS[int(np.argmin(count))]}'.")
    raw = features(coefficients)
    mean, spread = raw.mean(0), raw.std(0) + 0.05
    x = np.concatenate(((raw - mean) / spread, np.ones((len(raw), 1))), 1)
    weight = _weights(label, np.arange(len(label)) if person is None else person)
    wanted = np.eye(len(EMOTIONS))[label]

    def loss(flat: np.ndarray) -> tuple[float, np.ndarray]:
        w = flat.reshape(x.shape[1], -1)
        logits = x @ w
        logits -= logits.max(1, keepdims=True)
        log_sum = np.log(np.exp(logits).sum(1, keepdims=True))
        share = np.exp(logits - log_sum)
        value = -(weight * (logits - log_sum)[np.arange(len(label)), label]).sum() + PENALTY / 2 * (w[:-1] ** 2).sum()
        slope = x.T @ ((share - wanted) * weight[:, None])
        slope[:-1] += PENALTY * w[:-1]
        return value, slope.ravel()

    start = np.zeros(x.shape[1] * len(EMOTIONS))
    found = minimize(loss, start, jac=True, method="L-BFGS-B", options={"maxiter": 500})
    return Judge(found.x.reshape(x.shape[1], -1), mean, spread, {})


def _weights(label: np.ndarray, person: np.ndarray) -> np.ndarray:
    """How much each picture counts [N], mean 1: fewer pictures of an emotion, and of a person in it, count more each."""
    weight = np.ones(len(label))
    for emotion in np.unique(label):
        rows = np.flatnonzero(label == emotion)
        _, who, count = np.unique(person[rows], return_inverse=True, return_counts=True)
        weight[rows] = count[who] ** -CROWDED
    total = np.bincount(label, weight)
    weight *= (total.max() / total[label]) ** BALANCE
    return weight * len(label) / weight.sum()


def confusion(judge: Judge, coefficients: np.ndarray, emotion: np.ndarray) -> np.ndarray:
    """Counts [8, 8] of labelled pictures: row is the label, column what the judge says."""
    table = np.zeros((len(EMOTIONS), len(EMOTIONS)), int)
    np.add.at(table, ([EMOTIONS.index(e) for e in emotion], judge.probabilities(coefficients).argmax(1)), 1)
    return table


FOLDS = 10  # few people show fear or disgust: fewer, larger folds would hide most of them at once


def cross_validated(pictures: "Pictures", folds: int = FOLDS) -> np.ndarray:
    """Confusion [8, 8] over pictures of people that the judge that was asked had not seen; people are dealt into `folds`."""
    fold = np.array([zlib.crc32(f"x{person}".encode()) % folds for person in pictures.person])
    total = np.zeros((len(EMOTIONS), len(EMOTIONS)), int)
    for part in np.unique(fold):
        seen, new = pictures.chosen(fold != part), pictures.chosen(fold == part)
        judge = fit_judge(seen.coefficients, seen.emotion, seen.person)
        total += confusion(judge, new.coefficients, new.emotion)
    return total


def accuracy(table: np.ndarray) -> dict[str, float]:
    """Share of right answers of a confusion table: `all`, `balanced` (mean over emotions present), and each emotion."""
    count = table.sum(1)
    right = np.diag(table) / np.maximum(count, 1)
    result = {"all": float(np.diag(table).sum() / max(table.sum(), 1)), "balanced": float(right[count > 0].mean())}
    return result | {e: float(right[i]) for i, e in enumerate(EMOTIONS[: len(table)]) if count[i]}


@dataclass(frozen=True)
class JudgedClip:
    """One edited clip before judging.

    Attributes:
        name: of the source clip.
        emotion: that was asked for.
        source, edited: the tracks.
        frames: indices of the frames that were rendered and tracked again.
        before, after: [K, 52] MediaPipe's scores of these frames in the source and in the rendered picture, NaN where
            no face was found; None when nothing was rendered.
        lips: [2, N] opening between the inner lips in source and result.
        flicker: mean size of the second difference of rendered brow and mouth landmarks beyond the source's, in
            outer-eye distances; None when nothing was rendered.
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


def evaluate_emotion(
    clips: Iterable[JudgedClip], judge: Judge, *, readable: np.ndarray | None = None
) -> dict[str, Any]:
    """Ask the judge about edited clips, and measure how much of each edit can be read back.

    Args:
        clips: edited and, where they were rendered, tracked again.
        judge: from `Judge.load` or `fit_judge`.
        readable: [52] True for coefficients that MediaPipe reports at 0.2 or more on at least 1 % of real faces.

    Returns:
        JSON values: for `tracks` and `rendered`, `confusion` (rows asked, columns told, over the seven emotions),
        `accuracy` (all, balanced, each) and, where neutral may be told too, `with_neutral`; per emotion `realised`
        (median over clips of measured change over asked change), `same_sign`, `lips_correlation`, `lips_closed_kept`,
        `flicker`, and `told` for the extended emotions.
    """
    index = {e: i for i, e in enumerate(EMOTIONS)}
    tables = {k: np.zeros((8, 8), int) for k in ("tracks", "rendered", "tracks_neutral", "rendered_neutral")}
    told: dict[str, dict[str, int]] = {}
    per: dict[str, dict[str, list[float]]] = {}
    for clip in clips:
        values = per.setdefault(clip.emotion, {k: [] for k in ("realised", "same_sign", "lips", "closed", "flicker")})
        seen = clip.edited.coefficients[clip.frames] if len(clip.frames) else clip.edited.coefficients
        readings = {"tracks": seen}
        if clip.after is not None and np.isfinite(clip.after).all(1).any():
            readings["rendered"] = clip.after[np.isfinite(clip.after).all(1)]
        for kind, reading in readings.items():
            said = judge.clip(reading)
            best = max(BASIC, key=lambda e: said[e])
            if clip.emotion in index:
                tables[kind][index[clip.emotion], index[best]] += 1
                tables[kind + "_neutral"][index[clip.emotion], index[max(said, key=lambda e: said[e])]] += 1
            elif kind == "rendered" or "rendered" not in readings:
                counts = told.setdefault(clip.emotion, {})
                counts[best] = counts.get(best, 0) + 1
        _measure(clip, values, readable)
    result: dict[str, Any] = {"emotions": list(EMOTIONS)}
    for kind in ("tracks", "rendered"):
        table = tables[kind][:7, :7]
        if table.sum():
            result[kind] = {
                "confusion": table.tolist(),
                "accuracy": accuracy(table),
                "with_neutral": accuracy(tables[kind + "_neutral"]),
            }
    result["told"] = told
    result["per_emotion"] = {
        e: {k: round(float(np.median(v)), 4) for k, v in values.items() if v} for e, values in per.items()
    }
    signs = [v for values in per.values() for v in values["same_sign"]]
    realised = [v for values in per.values() for v in values["realised"]]
    if realised:
        result["realised"] = {"median": float(np.median(realised)), "same_sign": float(np.mean(signs))}
    return result


def _measure(clip: JudgedClip, values: dict[str, list[float]], readable: np.ndarray | None) -> None:
    """Append what one clip shows: realised strength, sign, lips, flicker."""
    if clip.before is not None and clip.after is not None:
        asked = (clip.edited.coefficients - clip.source.coefficients)[clip.frames]
        both = np.isfinite(clip.before).all(1) & np.isfinite(clip.after).all(1)
        if both.any():
            asked, measured = asked[both].mean(0), (clip.after - clip.before)[both].mean(0)
            large = (np.abs(asked) >= 0.2) & (np.ones(arkit.COUNT, bool) if readable is None else readable)
            if large.any():
                values["realised"].append(float(np.median(measured[large] / asked[large])))
                values["same_sign"].append(float((measured[large] * asked[large] > 0).mean()))
    if clip.lips is not None and clip.lips[0].std() > 1e-4:
        values["lips"].append(float(np.corrcoef(clip.lips)[0, 1]))
        closed = clip.lips[0] < LIPS_CLOSED
        if closed.any():
            values["closed"].append(float((clip.lips[1][closed] < LIPS_OPEN).mean()))
    if clip.flicker is not None:
        values["flicker"].append(clip.flicker)


def edited_clips(
    paths: Sequence[Path],
    emotions: Sequence[str],
    *,
    mode: str = "add",
    strength: float = 1.0,
    render: bool = True,
    landmarker: Path | None = None,
    frames: int = 12,
    progress: Progress | None = None,
) -> Iterable[JudgedClip]:
    """Edit real clips with every emotion, render some of their frames, and track these again.

    Args:
        paths: video files.
        emotions: names from the library.
        mode, strength: of the edit.
        render: also render frames and track them again; otherwise only tracks are judged.
        landmarker: MediaPipe's `face_landmarker.task`, an independent reader; None reads with the embedded solver.
        frames: how many frames of each clip are rendered: runs of three in a row, spread over the clip.
        progress: called with (stage, clips done, clips in all).

    Yields:
        A `JudgedClip` for every clip and emotion.
    """
    from cmet_engine.emotion.edit import edit_track
    from cmet_engine.emotion.library import load_library
    from cmet_engine.face.blendshapes import load_basis
    from cmet_engine.face.clip import track_clip
    from cmet_engine.face.lips import lip_opening
    from cmet_engine.media.reader import VideoReader

    library = load_library()
    reader = FrameReader(landmarker) if render else None
    for done, path in enumerate(paths):
        if progress:
            progress(Stage.CLASSIFY, done, len(paths))
        geometry, source = track_clip(path)
        shown = _runs(np.flatnonzero(geometry.valid), frames)
        landmarks = np.asarray(geometry.landmarks[:])
        images, before, first = {}, None, None
        if reader:
            wanted = set(shown.tolist())
            images = {frame.index: frame.image for frame in VideoReader(path) if frame.index in wanted}
            first, before = reader([images[i] for i in shown])
        for emotion in emotions:
            timeline = EmotionTimeline.parse([f"{emotion}={strength}"])
            edited = edit_track(source, timeline, library, mode=mode)
            after, flicker = None, None
            moved = landmarks + load_basis().motion(landmarks, edited.coefficients - source.coefficients)
            ok = geometry.valid & np.isfinite(landmarks).all((1, 2))
            lips = np.stack([lip_opening(landmarks[ok]), lip_opening(moved[ok])])
            if reader and first is not None:
                from cmet_engine.render.warp import WarpRenderer

                renderer = WarpRenderer(geometry, source, edited)
                last, after = reader([renderer.render(images[i], int(i)) for i in shown])
                both = np.isfinite(first).all((1, 2)) & np.isfinite(last).all((1, 2))
                if both.any():
                    lips = np.stack([lip_opening(first[both]), lip_opening(last[both])])
                flicker = _flicker(first, last, shown)
            yield JudgedClip(path.stem, emotion, source, edited, shown, before, after, lips, flicker)


def _runs(valid: np.ndarray, count: int) -> np.ndarray:
    """Frames to look at: runs of three in a row, spread over the frames with a face."""
    if len(valid) <= count:
        return valid
    starts = np.linspace(0, len(valid) - 3, max(count // 3, 1)).astype(int)
    return np.unique(valid[(starts[:, None] + np.arange(3)).ravel()])


def _flicker(first: np.ndarray, last: np.ndarray, frames: np.ndarray) -> float | None:
    """Second difference in time of the motion that the edit added, mean over landmarks and runs, in outer-eye distances."""
    scale = np.linalg.norm(first[:, 33] - first[:, 263], axis=-1)[:, None, None]
    motion = (last - first)[..., :2] / scale
    starts = [i for i in range(len(frames) - 2) if frames[i + 2] - frames[i] == 2]
    jumps = [np.abs(motion[i] - 2 * motion[i + 1] + motion[i + 2]).mean() for i in starts]
    jumps = [j for j in jumps if np.isfinite(j)]
    return float(np.mean(jumps)) if jumps else None


class FrameReader:
    """Landmarks [K, 478, 3] pixels and MediaPipe's scores [K, 52] of single pictures, NaN where no face was found.

    With `face_landmarker.task` this is a reader that no part of the edit was fitted through at run time; without it the
    embedded tracker and solver read the pictures.

    Raises:
        CmetError: the file is missing or is no face landmarker.
    """

    def __init__(self, landmarker: Path | None) -> None:
        self._scored = landmarker is not None
        self._landmarker = Landmarker(None if landmarker is None else Path(landmarker))

    def __call__(self, images: Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
        """Read RGB pictures [H, W, 3]."""
        landmarks = np.full((len(images), 478, 3), np.nan, np.float32)
        scores = np.full((len(images), arkit.COUNT), np.nan, np.float32)
        for row, image in enumerate(images):
            if found := self._landmarker.detect(image):
                landmarks[row] = found[0]
                scores[row] = 0
                scores[row, _TASK_COLUMNS] = found[1][1:]  # the first is `_neutral`
        seen = np.isfinite(landmarks).all((1, 2))
        if not self._scored and seen.any():
            from cmet_engine.face.blendshapes import load_solver

            scores[seen] = load_solver().coefficients(landmarks[seen])
        return landmarks, scores


_TASK_COLUMNS = arkit.columns(sorted(name for name in arkit.NAMES if name != "tongueOut"))
"""MediaPipe reports its scores in alphabetical order, without `tongueOut`."""


def embed_judge(judge: Judge) -> Path:
    """Make a judge the embedded one of this copy: weights and checksum; returns the file."""
    judge.save(ASSETS / JUDGE_FILE, force=True)
    record(JUDGE_FILE)
    return ASSETS / JUDGE_FILE


def reliability(figures: dict[str, Any]) -> dict[str, Any]:
    """What `cmet emotions` shows for each emotion, from `evaluate_emotion`'s figures: JSON values.

    For the seven emotions that the judge knows, the share of rendered clips (tracks, where nothing was rendered) that it
    named right; for the extended ones None, with what it took them for.
    """
    kind = figures.get("rendered") or figures.get("tracks") or {"accuracy": {}}
    result: dict[str, Any] = {}
    for emotion in LIBRARY:
        entry = {"recognised": kind["accuracy"].get(emotion)}
        if emotion in figures.get("told", {}):
            counts = figures["told"][emotion]
            entry["taken_for"] = max(counts, key=lambda e: counts[e])
        entry |= {k: v for k, v in figures.get("per_emotion", {}).get(emotion, {}).items() if k == "realised"}
        result[emotion] = entry
    return result


def write_reliability(figures: dict[str, Any]) -> Path:
    """Keep what `evaluate_clips` found as the embedded reliability that `cmet emotions` shows; returns the file."""
    document = {
        "about": "What the judge of faces said about edited clips of people that nothing was trained on (cmet eval emotion).",
        "clips": figures["clips"],
        "settings": figures["settings"],
        "emotions": figures["reliability"],
    }
    path = ASSETS / RELIABILITY_FILE
    with whole_file(path, force=True) as temporary:
        temporary.write_text(json.dumps(document, indent=1) + "\n", "utf-8")
    record(RELIABILITY_FILE)
    return path


WEAK = 0.5
"""An emotion of which the judge tells a smaller share on real faces is named in the report."""


def format_report(figures: dict[str, Any], real: dict[str, Any]) -> str:
    """The figures as text for the terminal: accuracy and confusion of real faces, tracks and rendered frames."""
    lines = []
    crossed = figures.get("real_cross_validated")
    sections = [
        ("real faces of people kept aside", real),
        ("real faces of other people, each unseen by the judge asked", crossed),
        ("edited tracks", figures.get("tracks")),
        ("rendered frames, tracked again", figures.get("rendered")),
    ]
    for title, section in sections:
        if not section:
            continue
        table, rates = np.array(section["confusion"]), section["accuracy"]
        names = EMOTIONS[: len(table)]
        lines.append(f"{title}: {rates['all']:.1%} right, {rates['balanced']:.1%} mean over emotions")
        lines.append("  asked \\ told " + " ".join(f"{n[:9]:>9}" for n in names) + "     right")
        for name, row in zip(names, table, strict=True):
            share = f"{rates[name]:>9.0%}" if name in rates else "        -"
            lines.append(f"  {name:<12} " + " ".join(f"{v:>9}" for v in row) + f" {share}")
    rates = (crossed or real)["accuracy"]
    weak = [f"{e} ({rates[e]:.0%})" for e in BASIC if rates.get(e, 1.0) < WEAK]
    if weak:
        lines.append(
            f"Of real faces the judge tells less than half: {', '.join(weak)}. Its word on their edits weighs less."
        )
    lines.append("emotion       realised  same sign  lips corr  closed kept  flicker")
    for emotion, values in figures["per_emotion"].items():
        cells = [values.get(k) for k in ("realised", "same_sign", "lips", "closed", "flicker")]
        lines.append(f"{emotion:<13}" + "".join(f"{'-' if c is None else format(c, '.3f'):>10} " for c in cells))
    for emotion, counts in figures["told"].items():
        said = ", ".join(f"{n} x {e}" for e, n in sorted(counts.items(), key=lambda item: -item[1]))
        lines.append(f"{emotion} is not one of the judge's emotions; it says: {said}")
    return "\n".join(lines)


@dataclass(frozen=True)
class Pictures:
    """Labelled pictures: MediaPipe's scores [N, 52] in canonical order, emotion [N], person [N] and path [N] (text)."""

    coefficients: np.ndarray
    emotion: np.ndarray
    person: np.ndarray
    path: np.ndarray

    def chosen(self, keep: np.ndarray) -> "Pictures":
        """Only the pictures where `keep` is True."""
        return Pictures(self.coefficients[keep], self.emotion[keep], self.person[keep], self.path[keep])

    @property
    def fold(self) -> np.ndarray:
        """[N] group 0 to 4 of each person; group 0 is never trained on."""
        return np.array([_group(p) for p in self.person])

    def reviewed(self) -> "Pictures":
        """The pictures with the labels of the embedded review: labels that the picture does not show are left out."""
        review = read_json(asset(LABELS_FILE))
        moved = {path: emotion for emotion, paths in review["only_these"].items() for path in paths}
        unsure = set(review["only_these"])
        left_out = set(review["left_out"])
        if np.isin([*moved, *left_out], self.path).mean() < 0.5:
            return self  # other pictures than those that were looked at
        labels = np.array(
            [
                moved.get(p, "" if e in unsure or p in left_out else e)
                for p, e in zip(self.path, self.emotion, strict=True)
            ]
        )
        keep = labels != ""
        return Pictures(self.coefficients, labels, self.person, self.path).chosen(keep)


def _group(person: str) -> int:
    """Group of a person: the number in the name (`p81c922a1`, hexadecimal) modulo 5, or of the name's checksum."""
    try:
        return int(person[1:], 16) % 5
    except ValueError:
        return zlib.crc32(person.encode()) % 5


def load_pictures(folder: str | Path) -> Pictures:
    """Labelled pictures of a folder: `index.csv` (path, person, emotion) and `mediapipe_blendshapes.npz` (names, scores).

    Pictures in which MediaPipe found no face (scores all zero or not numbers) are left out.

    Raises:
        CmetError: a file is missing, or the columns or lengths are wrong.
    """
    index, scores = Path(folder) / "index.csv", Path(folder) / "mediapipe_blendshapes.npz"
    try:
        with index.open(newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
        archive = np.load(scores, allow_pickle=False)
        names, values = [str(n) for n in archive["names"]], archive["scores"].astype(np.float32)
    except (OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
        raise CmetError(f"{index} or {scores.name} beside it cannot be read: {error}.") from error
    if not rows or not {"path", "person", "emotion"} <= rows[0].keys():
        raise CmetError(f"{index} must have the columns path, person and emotion.")
    if len(rows) != len(values):
        raise CmetError(f"{index} has {len(rows)} rows, but {scores.name} has scores of {len(values)} pictures.")
    result = np.zeros((len(rows), arkit.COUNT), np.float32)
    for column, name in enumerate(names):
        if name in arkit.INDEX:
            result[:, arkit.INDEX[name]] = values[:, column]
    keep = np.isfinite(values).all(1) & (values.sum(1) > 0)
    return Pictures(result, *(np.array([r[k] for r in rows]) for k in ("emotion", "person", "path"))).chosen(keep)


def readable(pictures: Pictures) -> np.ndarray:
    """[52] True for coefficients that MediaPipe reports at 0.2 or more on at least 1 % of real faces."""
    return (pictures.coefficients >= 0.2).mean(0) >= 0.01


def train_judge(folder: str | Path) -> tuple[Judge, dict[str, Any]]:
    """Train the judge on a folder of labelled pictures, with every fifth person kept for measuring.

    Returns:
        The judge, and its figures: confusion and accuracy on people not trained on, by cross-validation over the
        training people, and on the people kept aside with the labels as they came.

    Raises:
        CmetError: see `load_pictures` and `fit_judge`.
    """
    given = load_pictures(folder)
    if len(set(given.fold) - {0}) < 2:
        raise CmetError(
            f"The pictures show {len(np.unique(given.person))} people; some are kept for measuring and the others must fall "
            "into several groups, so give pictures of ten people or more."
        )
    pictures = given.reviewed()
    training = pictures.chosen(pictures.fold != 0)
    judge = fit_judge(training.coefficients, training.emotion, training.person)
    figures: dict[str, Any] = {}
    table = cross_validated(training)
    figures["real"] = {"confusion": table.tolist(), "accuracy": accuracy(table)}
    for name, source in (("real_kept_aside", pictures), ("real_kept_aside_labels_as_they_came", given)):
        kept = source.chosen(source.fold == 0)
        if not len(kept.emotion):
            continue
        table = confusion(judge, kept.coefficients, kept.emotion)
        figures[name] = {"confusion": table.tolist(), "accuracy": accuracy(table)}
    figures["readable"] = [n for n, seen in zip(arkit.NAMES, readable(given), strict=True) if seen]
    return Judge(judge.weights, judge.mean, judge.spread, figures), figures


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
    """What `cmet eval emotion` does: edit clips, judge tracks and rendered frames, and set them beside real faces.

    Args:
        paths: clips that nothing was trained on.
        emotions: which to ask for.
        pictures: folder of labelled pictures, to say which coefficients MediaPipe reports at all; None uses what the
            embedded judge noted when it was trained.
        weights: a judge to ask; None asks the embedded one.
        mode, strength, render, landmarker, frames, progress: see `edited_clips`.

    Returns:
        The figures of `evaluate_emotion`, with `real` (the judge on real faces of people kept aside), `real_cross_validated`
        (on the other people, each asked of a judge that had not seen them: more pictures of the rare emotions), `clips`,
        `settings`, and `reliability` for every emotion.

    Raises:
        CmetError: a clip cannot be read, or a file is missing.
    """
    judge = Judge.load(weights)
    noted = judge.figures.get("readable")
    seen = readable(load_pictures(pictures)) if pictures else np.isin(arkit.NAMES, noted) if noted else None
    clips = edited_clips(
        paths, emotions, mode=mode, strength=strength, render=render, landmarker=landmarker, frames=frames,
        progress=progress,
    )  # fmt: skip
    figures = evaluate_emotion(clips, judge, readable=seen)
    figures["real"] = judge.figures.get("real_kept_aside") or judge.figures.get("real")
    figures["real_cross_validated"] = judge.figures.get("real")
    figures["clips"] = [p.name for p in paths]
    figures["settings"] = {"mode": mode, "strength": strength, "frames": frames, "landmarker": landmarker is not None}
    figures["reliability"] = reliability(figures)
    return figures
