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


def shaped(delta: np.ndarray, vector: np.ndarray, base: np.ndarray, speech: np.ndarray) -> np.ndarray:
    """The connector's change of expression with the amounts of the families that an emotion vector is near to.

    Args:
        delta: [N, 52], of the connector.
        vector: [13], the emotion vector.
        base: [N, 52], the actor's expression.
        speech: [N], how far the face speaks.
    """
    shares = np.clip(unit_vector(vector) / unit_vector(library_vector(LIBRARY[0])).max(), 0, 1)
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


@functools.cache
def _poses(emotion: str) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Of an emotion's family the silent and the speaking pose, what gives way, and the connector's own at rest: [52] each."""
    family = facs.FAMILIES[emotion]
    vectors = unit_vector(library_vector(emotion).reshape(1, VECTOR_SIZE))
    resting = embedded_connector().deltas(vectors, np.zeros((4 * WINDOW, arkit.COUNT), np.float32))[0].mean(0)
    resting /= EXPRESSION_SCALE
    silent = facs.compose(facs.parse_units(family.silent))
    spoken = resting if family.speech is None else facs.compose(facs.parse_units(family.speech))
    return silent, spoken, by_side(family.relaxes), resting
