"""One recording of a pool, encoded and cached."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from cmet_engine import cache, fingerprint
from cmet_engine.emotion.acoustics import RATE, acoustics
from cmet_engine.emotion.backbone import SPEAKER_MEAN
from cmet_engine.emotion.speech import Encoder
from cmet_engine.emotion.voice_check import check_voice
from cmet_engine.emotions import NEUTRAL
from cmet_engine.media import audio

MOST_SECONDS = 600.0  # of one recording; more adds nothing to a mean


@dataclass(frozen=True)
class Recording:
    """One recording of a pool.

    Attributes:
        path: the file.
        statistics: float32 [1280], what the encoder extracted from it.
        neutral: probability that it is neutral speech.
        message: a sentence for the user, such as that it is clipped.
    """

    path: Path
    statistics: np.ndarray
    neutral: float
    message: str | None

    @property
    def speaker(self) -> np.ndarray:
        """Mean output of the backbone's speaker encoder: float32 [256]."""
        return self.statistics[SPEAKER_MEAN]


def encode_recording(path: Path, encoder: Encoder) -> Recording:
    """Encode a recording; the result is cached by the file's content.

    Raises:
        InvalidInput: it cannot be opened, has no sound, is too short or silent, or nobody speaks in it.
    """

    def work() -> dict[str, np.ndarray]:
        recording = _encode(path, encoder)
        message = np.array(recording.message or "")
        return {"statistics": recording.statistics, "neutral": np.array(recording.neutral), "message": message}

    name = (
        cache.key("utterance", path, fingerprint.code(__name__), path.name, encoder.identity)
        if encoder.identity
        else None
    )
    found = cache.arrays(name, work)
    return Recording(path, found["statistics"], float(found["neutral"]), str(found["message"]) or None)


def _encode(path: Path, encoder: Encoder) -> Recording:
    wave = audio.load(path, RATE)[: int(MOST_SECONDS * RATE)]
    message = audio.check_speech(wave, RATE, path.name)
    wave = audio.without_pauses(wave)
    check_voice(acoustics(wave), path.name)
    measured = encoder.encode(wave)
    neutral = encoder.predict(measured).probabilities()[encoder.emotions.index(NEUTRAL)]
    return Recording(path, measured, float(neutral), message)
