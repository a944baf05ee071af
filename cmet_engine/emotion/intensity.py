"""How strongly a voice carries an emotion at each moment."""

import math

import numpy as np
import scipy

from cmet_engine.emotion.predictions import FrameFeatures
from cmet_engine.emotion.vector import VECTOR_SIZE
from cmet_engine.errors import InvalidInput


def intensity(frames: FrameFeatures, vector: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """How strongly a voice carries an emotion at each moment.

    The features of each moment are projected on the emotion's direction. Differences along the clip count relative to
    the length of the vector, so that a voice that hardly varies gives values near 1. A third comes from loudness, which
    stresses any emotion. Pauses take the value of the words around them.

    Args:
        frames: what `Encoder.frame_features` gives.
        vector: [13], difference from neutral.

    Returns:
        Times float64 [F] in seconds, and float32 [F] in 0.5..1.5 with mean 1 over the spoken part.

    Raises:
        InvalidInput: the vector has another length, or holds a number that is not finite.
    """
    vector = np.asarray(vector, np.float64)
    if vector.shape != (VECTOR_SIZE,) or not np.isfinite(vector).all():
        raise InvalidInput(
            f"An emotion vector must hold {VECTOR_SIZE} numbers; this one has shape {list(vector.shape)}."
        )
    times, features, spoken, energy = frames
    length = max(float(np.linalg.norm(vector)), 1e-6)
    strength = features.astype(np.float64) @ vector / length  # [F]

    def relative(values: np.ndarray, least: float) -> np.ndarray:
        mean = np.average(values, weights=spoken + 1e-6)
        deviation = math.sqrt(np.average((values - mean) ** 2, weights=spoken + 1e-6))
        return (values - mean) / max(deviation, least)

    change = np.tanh(0.7 * (2 * relative(strength, 0.15 * length) + relative(energy, 1.0)) / 3)
    # weighted by speech while smoothing, so that pauses continue what is around them
    smooth = scipy.ndimage.gaussian_filter1d(change * (spoken + 1e-3), 1.0, mode="nearest")
    smooth /= scipy.ndimage.gaussian_filter1d(spoken + 1e-3, 1.0, mode="nearest")
    smooth -= np.average(smooth, weights=spoken + 1e-6)
    return times, np.clip(1 + 0.5 * smooth, 0.5, 1.5).astype(np.float32)
