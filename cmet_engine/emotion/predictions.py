"""What the speech encoder predicts of a recording, as numpy arrays."""

from typing import NamedTuple

import numpy as np

ENCODER_FILES = ("speech_encoder.safetensors", "speech_backbone.safetensors")
"""Embedded files that the encoder is made of: the heads and the feature extractor."""


class Prediction(NamedTuple):
    """What the encoder predicts for a recording."""

    features: np.ndarray  # float32 [13], see `vector.VECTOR_SIZE`
    scores: np.ndarray  # float32 [classes], logits

    def probabilities(self) -> np.ndarray:
        """Probability of every class: float32 [classes]."""
        return softmax(self.scores)


class PoolPredictions(NamedTuple):
    """What is predicted of two pools of recordings of one voice."""

    wanted: np.ndarray  # float32 [N, 13]
    neutral: np.ndarray  # float32 [M, 13]
    shares: np.ndarray  # float32 [13], probability of each emotion of the library, given that it is not neutral


class FrameFeatures(NamedTuple):
    """Features along a recording, four times a second; they do not depend on the emotion asked for."""

    times: np.ndarray  # float64 [F] seconds
    features: np.ndarray  # float32 [F, 13]
    spoken: np.ndarray  # float64 [F], share of speech around
    energy: np.ndarray  # float64 [F], loudness around


def softmax(scores: np.ndarray) -> np.ndarray:
    """Probabilities [..., classes] from logits."""
    share = np.exp(scores - scores.max(-1, keepdims=True))
    return share / share.sum(-1, keepdims=True)
