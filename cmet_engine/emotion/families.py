"""Expressions as families: what a face shows of an emotion depends on whether it speaks.

The connector gives one expression for each emotion and what of it changes with what the actor does. Where FACS describes
a silent and a speaking face (`facs.FAMILIES`), these set the amounts, and the connector the rest.
"""

import functools

import numpy as np

from cmet_engine import arkit
from cmet_engine.emotion import facs
from cmet_engine.emotion.coefficients import by_side
from cmet_engine.emotion.embedded_connector import EXPRESSION_SCALE, WINDOW, embedded_connector, unit_vector
from cmet_engine.emotion.vector import VECTOR_SIZE, library_vector
from cmet_engine.emotions import LIBRARY

LEAN = 0.04
"""A mouth has a side of its own where the corners differ by more, mean over a clip: both halves of ten clips and three takes agree then."""


def shaped(delta: np.ndarray, vector: np.ndarray, base: np.ndarray, speech: np.ndarray) -> np.ndarray:
    """The connector's change of expression with the amounts of the families that an emotion vector is near to.

    Args:
        delta: [N, 52], of the connector.
        vector: [13], the emotion vector.
        base: [N, 52], the actor's expression.
        speech: [N], how far the face speaks.
    """
    shares = _shares(vector)
    result = delta.copy()
    for emotion in facs.FAMILIES:
        share = float(shares[LIBRARY.index(emotion)])
        if share > 0:
            silent, spoken, relaxes, resting = _poses(emotion)
            pose = silent + speech[:, None] * (spoken - silent)
            whole = delta + pose - resting
            given_way = pose - relaxes * np.maximum(base, 0)
            result += share * (np.where(relaxes > 0, np.minimum(whole, given_way), whole) - delta)
    return result


def on_other_side(vector: np.ndarray, base: np.ndarray) -> bool:
    """Whether an emotion vector's one-sided expression belongs on the half of the mouth where the tables do not have it.

    Args:
        vector: [13].
        base: [N, 52], the actor's expression: people show contempt where they move the corner of the mouth more anyway.
    """
    shares = zip(LIBRARY, _shares(vector), strict=True)
    shown = float(_lean(np.sum([share * facs.mean_expression(emotion) for emotion, share in shares], 0)))
    own = float(np.mean(_lean(base)))
    return min(abs(own), abs(shown)) > LEAN and own * shown < 0


def _lean(coefficients: np.ndarray) -> np.ndarray:
    """By how much the left corner of the mouth is drawn more than the right one, of coefficients [..., 52]."""
    drawn = coefficients[..., arkit.columns(["mouthSmileLeft", "mouthDimpleLeft"])].sum(-1)
    result: np.ndarray = drawn - coefficients[..., arkit.columns(["mouthSmileRight", "mouthDimpleRight"])].sum(-1)
    return result


def _shares(vector: np.ndarray) -> np.ndarray:
    """How near an emotion vector is to each emotion of the library, [13] in 0..1."""
    return np.clip(unit_vector(vector) / unit_vector(library_vector(LIBRARY[0])).max(), 0, 1)


@functools.cache
def _poses(emotion: str) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Of an emotion's family the silent and the speaking pose, what gives way, and the connector's own at rest: [52] each."""
    family = facs.FAMILIES[emotion]
    vectors = unit_vector(library_vector(emotion).reshape(1, VECTOR_SIZE))
    resting = embedded_connector().deltas(vectors, np.zeros((4 * WINDOW, arkit.COUNT), np.float32))[0].mean(0)
    resting /= EXPRESSION_SCALE
    silent, besides = (facs.compose(facs.parse_units(units)) for units in (family.silent, family.besides))
    spoken = resting if family.speech is None else facs.compose(facs.parse_units(family.speech))
    return silent + besides, spoken + besides, by_side(family.relaxes), resting
