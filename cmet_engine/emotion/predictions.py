"""What the speech encoder extracts from a recording and predicts of it, as numpy arrays."""

from typing import NamedTuple

import numpy as np

ENCODER_FILES = ("speech_encoder.safetensors", "speech_backbone.safetensors")
"""Embedded files that the encoder is made of: the student network and the feature extractor."""


class ClipFeatures(NamedTuple):
    """What the encoder needs of a recording to predict its emotion, with or without neutral speech beside it."""

    statistics: np.ndarray  # float32 [1280], of the backbone
    place: np.ndarray  # float32 [1024], features by the sequence part, times its weight
    scores: np.ndarray  # float32 [classes], scores by the sequence part, times its weight


class Prediction(NamedTuple):
    """What the encoder predicts for a recording."""

    features: np.ndarray  # float32 [1024], in the emotion2vec+ large space
    scores: np.ndarray  # float32 [classes], logits

    def probabilities(self) -> np.ndarray:
        """Probability of every emotion: float32 [classes]."""
        share = np.exp(self.scores - self.scores.max())
        return share / share.sum()


class PoolPredictions(NamedTuple):
    """Features of two pools of recordings of one speaker."""

    wanted: np.ndarray  # float32 [N, 1024]
    neutral: np.ndarray  # float32 [M, 1024]
    shift: np.ndarray  # float32 [1024], part of their difference that comes from naming the pool's emotion


class FrameFeatures(NamedTuple):
    """Features along a recording, four times a second; they do not depend on the emotion asked for."""

    times: np.ndarray  # float64 [F] seconds
    features: np.ndarray  # float32 [F, 1024]
    spoken: np.ndarray  # float64 [F], share of speech around
    energy: np.ndarray  # float64 [F], loudness around
