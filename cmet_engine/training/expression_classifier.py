"""Training of the expression classifier on labelled pictures (`cmet train classifier`).

It learns from real pictures alone, never from edits or the published facial actions, and is measured on held-out people.
"""

import zlib
from pathlib import Path
from typing import Any

import numpy as np
from scipy.optimize import minimize

from cmet_engine import arkit
from cmet_engine.emotion.expression_classifier import CLASSIFIER_FILE, EMOTIONS, ExpressionClassifier, features
from cmet_engine.errors import InvalidInput
from cmet_engine.models import assets
from cmet_engine.training.labelled_pictures import Pictures, load_pictures

PENALTY = 60.0
"""Weight of the squared weights; chosen by cross-validation over people (`cross_validated`)."""

BALANCE = 0.85
"""0: every picture counts the same, 1: every emotion does. A compromise of the accuracy over pictures and over emotions."""

CROWDED = 0.5
"""A person with n pictures of an emotion counts as n ** (1 - CROWDED) of them: a few people have dozens."""

FOLDS = 10
"""Groups of people in the cross-validation. Few people show fear or disgust: larger groups would hold out most of them at once."""


def fit_classifier(
    coefficients: np.ndarray, emotion: np.ndarray, person: np.ndarray | None = None
) -> ExpressionClassifier:
    """Fit a classifier to labelled pictures: multinomial logistic regression with a ridge penalty.

    Args:
        coefficients: [N, 52] MediaPipe's scores in canonical order.
        emotion: [N] names from `EMOTIONS`.
        person: [N] who is shown, so that nobody with many pictures outweighs the others; None: everyone is someone else.

    Raises:
        CmetError: a label is unknown, or an emotion has no picture.
    """
    unknown = sorted(set(emotion) - set(EMOTIONS))
    if unknown:
        raise InvalidInput(f"The label '{unknown[0]}' is not one of {', '.join(EMOTIONS)}.")
    label = np.array([EMOTIONS.index(e) for e in emotion])
    count = np.bincount(label, minlength=len(EMOTIONS))
    if (count == 0).any():
        raise InvalidInput(f"There is no picture labelled '{EMOTIONS[int(np.argmin(count))]}'.")
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
    return ExpressionClassifier(found.x.reshape(x.shape[1], -1), mean, spread, {})


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


def confusion(classifier: ExpressionClassifier, coefficients: np.ndarray, emotion: np.ndarray) -> np.ndarray:
    """Counts [8, 8] of labelled pictures: row is the label, column the prediction."""
    table = np.zeros((len(EMOTIONS), len(EMOTIONS)), int)
    predicted = classifier.probabilities(coefficients).argmax(1)
    np.add.at(table, ([EMOTIONS.index(e) for e in emotion], predicted), 1)
    return table


def cross_validated(pictures: Pictures, folds: int = FOLDS) -> np.ndarray:
    """Confusion [8, 8] over all pictures, each classified by a classifier that was not trained on its person.

    Args:
        pictures: of many people.
        folds: groups that people are dealt into; one group is held out at a time.
    """
    fold = np.array([zlib.crc32(f"x{person}".encode()) % folds for person in pictures.person])
    total = np.zeros((len(EMOTIONS), len(EMOTIONS)), int)
    for part in np.unique(fold):
        seen, new = pictures.chosen(fold != part), pictures.chosen(fold == part)
        classifier = fit_classifier(seen.coefficients, seen.emotion, seen.person)
        total += confusion(classifier, new.coefficients, new.emotion)
    return total


def accuracy(table: np.ndarray) -> dict[str, float]:
    """Share of right answers of a confusion table: `all`, `balanced` (mean over emotions present), and each emotion."""
    count = table.sum(1)
    right = np.diag(table) / np.maximum(count, 1)
    result = {"all": float(np.diag(table).sum() / max(table.sum(), 1)), "balanced": float(right[count > 0].mean())}
    return result | {e: float(right[i]) for i, e in enumerate(EMOTIONS[: len(table)]) if count[i]}


def reported(pictures: Pictures) -> np.ndarray:
    """[52] True for coefficients that MediaPipe reports at 0.2 or more on at least 1 % of real faces."""
    return (pictures.coefficients >= 0.2).mean(0) >= 0.01


def train_classifier(folder: str | Path) -> tuple[ExpressionClassifier, dict[str, Any]]:
    """Train the classifier on a folder of labelled pictures, with every fifth person held out.

    Returns:
        The classifier, and its figures: `real`, confusion and accuracy by cross-validation over the training people;
        `real_held_out` on the held-out people, and `real_held_out_original_labels` with the labels as they came;
        `readable`, the coefficients that MediaPipe reports.

    Raises:
        CmetError: see `load_pictures` and `fit_classifier`.
    """
    given = load_pictures(folder)
    if len(set(given.fold) - {0}) < 2:
        raise InvalidInput(
            f"The pictures show {len(np.unique(given.person))} people; some are held out and the others must fall "
            "into several groups, so give pictures of ten people or more."
        )
    pictures = given.reviewed()
    training = pictures.chosen(pictures.fold != 0)
    classifier = fit_classifier(training.coefficients, training.emotion, training.person)
    figures: dict[str, Any] = {}
    table = cross_validated(training)
    figures["real"] = {"confusion": table.tolist(), "accuracy": accuracy(table)}
    for name, source in (("real_held_out", pictures), ("real_held_out_original_labels", given)):
        held_out = source.chosen(source.fold == 0)
        if not len(held_out.emotion):
            continue
        table = confusion(classifier, held_out.coefficients, held_out.emotion)
        figures[name] = {"confusion": table.tolist(), "accuracy": accuracy(table)}
    figures["readable"] = [n for n, seen in zip(arkit.NAMES, reported(given), strict=True) if seen]
    return ExpressionClassifier(classifier.weights, classifier.mean, classifier.spread, figures), figures


def embed_classifier(classifier: ExpressionClassifier) -> Path:
    """Make a classifier the embedded one of this copy: weights and checksum; returns the file."""
    classifier.save(assets.ASSETS / CLASSIFIER_FILE, force=True)
    assets.record(CLASSIFIER_FILE)
    return assets.ASSETS / CLASSIFIER_FILE
