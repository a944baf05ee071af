"""The expression classifier: which emotion the coefficients of a face show.

It is a linear classifier over MediaPipe's blendshape scores of real labelled pictures, trained by `cmet train classifier`.
It measures edits (`cmet eval emotion`) and takes no part in them.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from cmet_engine import arkit
from cmet_engine.emotions import BASIC, NEUTRAL
from cmet_engine.errors import InvalidInput
from cmet_engine.files import whole_file
from cmet_engine.models.assets import asset

CLASSIFIER_FILE = "expression_classifier.safetensors"
EMOTIONS = (*BASIC, NEUTRAL)
"""What the classifier chooses from."""

_UNSEEN = ("cheekSquint", "noseSneer", "cheekPuff", "jawForward", "tongueOut")  # MediaPipe hardly ever reports them
_NOT_EMOTION = ("eyeLook", "jawLeft", "jawRight")  # where someone looks or chews says little


def _used(name: str) -> bool:
    return not name.startswith(_UNSEEN + _NOT_EMOTION)


_PAIRS = [(arkit.INDEX[a], arkit.INDEX[b]) for a, b in arkit.PAIRS if _used(a)]
_MIDDLE = [i for i, n in enumerate(arkit.NAMES) if arkit.MIRROR[i] == i and _used(n)]


def features(coefficients: np.ndarray) -> np.ndarray:
    """The classifier's inputs [N, F]: middle coefficients, the mean of both sides, and the difference between the sides.

    Square roots, because MediaPipe's scores crowd near 0. A face and its mirror image have the same features.
    """
    root = np.sqrt(np.clip(np.asarray(coefficients, np.float64), 0, 1))
    left, right = root[:, [a for a, _ in _PAIRS]], root[:, [b for _, b in _PAIRS]]
    return np.concatenate((root[:, _MIDDLE], (left + right) / 2, np.abs(left - right)), 1)


@dataclass(frozen=True)
class ExpressionClassifier:
    """A linear classifier over `features`.

    Attributes:
        weights: [F + 1, 8], the last row is the bias.
        mean, spread: [F] of the features.
        figures: what was measured when it was trained.
    """

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
        """How likely each emotion is for the frames of one clip together: the mean of their log probabilities."""
        shares = np.log(self.probabilities(coefficients) + 1e-4).mean(0)
        shares = np.exp(shares - shares.max())
        return dict(zip(EMOTIONS, (shares / shares.sum()).tolist(), strict=True))

    def save(self, path: str | Path, *, force: bool = False) -> None:
        """Write the classifier as safetensors, its figures in the header."""
        arrays = {k: np.ascontiguousarray(getattr(self, k), np.float32) for k in ("weights", "mean", "spread")}
        with whole_file(path, force=force) as temporary:
            save_file(arrays, temporary, {"figures": json.dumps(self.figures)})

    @classmethod
    def load(cls, path: str | Path | None = None) -> "ExpressionClassifier":
        """The embedded classifier, or one from a file that `save` wrote.

        Raises:
            CmetError: the file is missing or damaged.
        """
        file = asset(CLASSIFIER_FILE) if path is None else Path(path)
        try:
            with safe_open(file, "numpy") as opened:
                arrays = {name: opened.get_tensor(name) for name in ("weights", "mean", "spread")}
                figures = json.loads((opened.metadata() or {}).get("figures", "{}"))
        except (OSError, SafetensorError, ValueError) as error:
            raise InvalidInput(f"{file} is not a classifier that `cmet train classifier` wrote.") from error
        return cls(**arrays, figures=figures)
