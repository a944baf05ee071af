"""What a connector's batches are drawn from: emotion vectors on one side, changes of expression on the other."""

import numpy as np

from cmet_engine import arkit
from cmet_engine.emotion import facs
from cmet_engine.emotion.embedded_connector import unit_vector
from cmet_engine.emotion.vector import VECTOR_SIZE, library_vector
from cmet_engine.emotions import LIBRARY
from cmet_engine.training.connector.config import ConnectorConfig
from cmet_engine.training.connector.faces import Faces
from cmet_engine.training.connector.speech import Speech

UNSEEN = ("cheekSquint", "noseSneer", "cheekPuff", "jawForward", "tongueOut")
"""Coefficients that MediaPipe hardly ever reports."""

SPEECH_OR_GAZE = ("eyeLook", "jaw", "mouthFunnel", "mouthPucker", "mouthClose", "mouthLeft", "mouthRight")
"""Coefficients that show what someone says or looks at, not an emotion."""


def has_vectors(emotion: str, speech: Speech) -> bool:
    """Whether there are vectors of an emotion: from speech, or the library's where that is of the same space."""
    return bool((speech.emotion == emotion).any()) or speech.features.shape[1] == VECTOR_SIZE


class VectorSampler:
    """Draws emotion vectors: the mean of a pool of emotional clips minus that of neutral ones of the speaker."""

    def __init__(self, speech: Speech, config: ConnectorConfig) -> None:
        self.speech, self.config = speech, config
        self._rows: dict[tuple[str, str], np.ndarray] = {}
        for speaker in np.unique(speech.speaker):
            for emotion in np.unique(speech.emotion[speech.speaker == speaker]):
                rows = np.flatnonzero((speech.speaker == speaker) & (speech.emotion == emotion))
                self._rows[str(speaker), str(emotion)] = rows
        self._neutral = np.flatnonzero(speech.emotion == "neutral")  # for speakers without neutral clips

    def speakers(self, emotion: str) -> list[str]:
        """Speakers that have clips of an emotion."""
        return [s for s, e in self._rows if e == emotion]

    def has(self, speaker: str, emotion: str) -> bool:
        """Whether a speaker has clips of an emotion."""
        return (speaker, emotion) in self._rows

    def __call__(self, emotion: str, rng: np.random.Generator, speaker: str | None = None) -> np.ndarray:
        """One vector of an emotion, from `speaker` or from one at random; the library's where there is no speech of it."""
        wanted = [s for s in self.speakers(emotion) if speaker is None or s == speaker]
        if not wanted:
            return unit_vector(library_vector(emotion))
        voice = wanted[rng.integers(len(wanted))]
        emotional = rng.choice(self._rows[voice, emotion], self.config.pool)
        neutral = rng.choice(self._rows.get((voice, "neutral"), self._neutral), self.config.pool)
        features = self.speech.features
        vector = features[emotional].mean(0, dtype=np.float64) - features[neutral].mean(0, dtype=np.float64)
        return unit_vector(vector) if self.config.scaled_vectors else vector.astype(np.float32)


class ExpressionSampler:
    """Draws what an emotion adds to a face: published actions, varied as labelled pictures that show them vary.

    A picture contributes its direction (its coefficients minus the mean neutral picture), at the size of a drawn
    published expression, for what MediaPipe can see; what MediaPipe does not report comes from the published expression.
    """

    def __init__(self, faces: Faces, config: ConnectorConfig) -> None:
        self.share = config.pictures
        self._visible = np.array([not name.startswith(UNSEEN + SPEECH_OR_GAZE) for name in arkit.NAMES])
        neutral = faces.pictures[faces.emotion == "neutral"]
        rest = neutral.mean(0) if len(neutral) else np.zeros(arkit.COUNT)
        self._directions: dict[str, np.ndarray] = {}
        for emotion in LIBRARY:
            moves = np.where(self._visible, faces.pictures[faces.emotion == emotion] - rest, 0)
            wanted = np.where(self._visible, facs.mean_expression(emotion), 0)
            cosines = moves @ wanted / (np.linalg.norm(moves, axis=1) * np.linalg.norm(wanted) + 1e-9)
            self._directions[emotion] = moves[cosines >= config.agreement]  # labels of pictures are noisy

    def __call__(self, emotion: str, count: int, rng: np.random.Generator) -> np.ndarray:
        """`count` expressions [count, 52] of an emotion."""
        drawn = facs.sample_expressions(emotion, count, rng)
        directions = self._directions[emotion]
        if len(directions):
            for row in np.flatnonzero(rng.random(count) < self.share):
                move = directions[rng.integers(len(directions))]
                size = np.linalg.norm(drawn[row, self._visible]) / max(float(np.linalg.norm(move)), 1e-6)
                drawn[row, self._visible] = (drawn[row] / 2 + size * move / 2)[self._visible]
        return drawn
