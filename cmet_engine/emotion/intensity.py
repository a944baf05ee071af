"""How strongly a voice carries an emotion at each moment."""

import math
from typing import NamedTuple

import numpy as np
from scipy.ndimage import gaussian_filter1d

from cmet_engine.emotion.vector import VECTOR_SIZE
from cmet_engine.errors import CmetError


class FrameFeatures(NamedTuple):
    """What is heard along a recording, whatever emotion is asked about."""

    times: np.ndarray  # float64 [F] seconds
    features: np.ndarray  # float32 [F, 1024]
    spoken: np.ndarray  # float64 [F], share of speech around
    energy: np.ndarray  # float64 [F], loudness around


def intensity(along: FrameFeatures, vector: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """How strongly a voice carries an emotion at each moment; see `Encoder.intensity`."""
    vector = np.asarray(vector, np.float64)
    if vector.shape != (VECTOR_SIZE,) or not np.isfinite(vector).all():
        raise CmetError(f"An emotion vector must hold {VECTOR_SIZE} numbers; this one has shape {list(vector.shape)}.")
    times, features, spoken, energy = along
    length = max(float(np.linalg.norm(vector)), 1e-6)
    strength = features.astype(np.float64) @ vector / length  # [F]

    def relative(values: np.ndarray, least: float) -> np.ndarray:
        mean = np.average(values, weights=spoken + 1e-6)
        deviation = math.sqrt(np.average((values - mean) ** 2, weights=spoken + 1e-6))
        return (values - mean) / max(deviation, least)

    change = np.tanh(0.7 * (2 * relative(strength, 0.15 * length) + relative(energy, 1.0)) / 3)
    # pauses: weigh by speech while smoothing, so that they continue what is around them
    smooth = gaussian_filter1d(change * (spoken + 1e-3), 1.0, mode="nearest")
    smooth /= gaussian_filter1d(spoken + 1e-3, 1.0, mode="nearest")
    smooth -= np.average(smooth, weights=spoken + 1e-6)
    return times, np.clip(1 + 0.5 * smooth, 0.5, 1.5).astype(np.float32)
