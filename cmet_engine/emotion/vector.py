"""An emotion as a direction in the space of the speech encoder: one axis for each emotion of the library."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from cmet_engine.emotions import LIBRARY

VECTOR_SIZE = len(LIBRARY)
"""Dimensions of the space. A voice lies at `LENGTH` times the probability of each emotion, neutral speech at 0."""

LENGTH = 10.0
"""Of the vectors of the library."""


def library_vector(name: str) -> np.ndarray:
    """The vector float32 [13] of an emotion of the library: the end of its axis."""
    vector = np.zeros(VECTOR_SIZE, np.float32)
    vector[LIBRARY.index(name)] = LENGTH
    return vector


@dataclass(frozen=True)
class EmotionVector:
    """One emotion as a direction in the speech encoder's space.

    Attributes:
        name: as the timeline calls it.
        vector: float32 [13], difference from neutral.
        reliability: 0 to 1, how far it can be trusted. Embedded: how often held-out speakers' pools of it are recognised. The
            user's own: how consistent the recordings are with each other; None where that is unknown (a single recording).
        meta: `origin` (`embedded`, `user`), `near` (cosines with known emotions), `length`, `files`, `neutral_files`,
            `heard` (probability of the likeliest emotions), `consistency`, `messages` (sentences to show), as far as known.
            Embedded ones also hold `recognised` (share of edited clips that a classifier named right), `taken_for`, and
            `realised` (measured over requested change of the face).
    """

    name: str
    vector: np.ndarray
    reliability: float | None = None
    meta: dict[str, Any] = field(default_factory=dict)


def cosine(one: np.ndarray, other: np.ndarray) -> float:
    """Cosine of two vectors; 0 where either has no length."""
    lengths = float(np.linalg.norm(one) * np.linalg.norm(other))
    return float(one @ other) / lengths if lengths > 1e-9 else 0.0
