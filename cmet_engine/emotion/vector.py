"""An emotion as a direction in the speech encoder's space."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np

VECTOR_SIZE = 1024  # dimensions of the emotion2vec+ large space (arXiv 2312.15185)


@dataclass(frozen=True)
class EmotionVector:
    """One emotion as a direction in the speech encoder's space.

    Attributes:
        name: as the timeline calls it.
        vector: float32 [1024], difference from neutral.
        reliability: 0 to 1, how far it can be trusted. Embedded: measured agreement with held-out speakers. The user's
            own: how consistent the recordings are with each other; None where that is unknown (a single recording).
        meta: `origin` (`embedded`, `user`), `near` (cosines with known emotions), `length`, `files`, `neutral_files`,
            `consistency`, `messages` (sentences to show), as far as known. Embedded ones also hold `recognised` (share of
            edited clips that a classifier named right), `taken_for`, and `realised` (measured over requested change of the face).
    """

    name: str
    vector: np.ndarray
    reliability: float | None = None
    meta: dict[str, Any] = field(default_factory=dict)


def cosine(one: np.ndarray, other: np.ndarray) -> float:
    """Cosine of two vectors; 0 where either has no length."""
    lengths = float(np.linalg.norm(one) * np.linalg.norm(other))
    return float(one @ other) / lengths if lengths > 1e-9 else 0.0
