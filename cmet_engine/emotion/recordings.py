"""One recording of a pool, encoded."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from cmet_engine import cache
from cmet_engine.emotion.acoustics import RATE, acoustics
from cmet_engine.emotion.backbone import SPEAKER_MEAN
from cmet_engine.emotion.speech import ClipFeatures, Encoder
from cmet_engine.emotion.voice_check import check_voice
from cmet_engine.media import audio

MOST_SECONDS = 600.0  # of one recording; beyond that it adds nothing to a mean


@dataclass(frozen=True)
class Recording:
    """One recording of a pool, encoded."""

    path: Path
    heard: ClipFeatures
    neutral: float  # probability
    message: str | None

    @property
    def voice(self) -> np.ndarray:
        """Whose voice it is, to the network that was trained to tell people apart: float32 [256]."""
        return self.heard.statistics[SPEAKER_MEAN]


def encode_recording(path: Path, encoder: Encoder) -> Recording:
    """One recording, heard once: what was heard is cached by its content."""

    def listen() -> dict[str, np.ndarray]:
        recording = _encode(path, encoder)
        told = {"neutral": np.array(recording.neutral), "message": np.array(recording.message or "")}
        return {**recording.heard._asdict(), **told}

    name = cache.key("utterance", path, path.name, encoder.identity) if encoder.identity else None
    found = cache.arrays(name, listen)
    heard = ClipFeatures(*(found[name] for name in ClipFeatures._fields))
    return Recording(path, heard, float(found["neutral"]), str(found["message"]) or None)


def _encode(path: Path, encoder: Encoder) -> Recording:
    wave = audio.load(path, RATE)[: int(MOST_SECONDS * RATE)]
    message = audio.check_speech(wave, RATE, path.name)
    wave = audio.without_pauses(wave)
    heard = acoustics(wave)
    check_voice(heard, path.name)
    listened = encoder.encode(wave, heard)
    neutral = encoder.predict(listened).probabilities()[encoder.emotions.index("neutral")]
    return Recording(path, listened, float(neutral), message)
