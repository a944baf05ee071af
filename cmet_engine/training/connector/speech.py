"""The speech that a connector is trained on: utterance features of labelled recordings."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np

from cmet_engine.emotion.published_library import published_vector
from cmet_engine.errors import CmetError, InvalidInput
from cmet_engine.media import audio
from cmet_engine.progress import Progress, Stage
from cmet_engine.training.corpora.speech import Recording, read_corpus

log = logging.getLogger(__name__)


class SpeechEncoder(Protocol):
    """A speech encoder: `emotion.speech.Encoder`, `emotion.emotion2vec.PublishedEncoder` or `InPublishedSpace`."""

    def utterance(self, wave: np.ndarray, rate: int) -> np.ndarray:
        """Features of a wave [S] at `rate` Hz: float32 [13] or [1024]."""


class InPublishedSpace:
    """The embedded encoder, its features in the emotion2vec+ large space but for a constant."""

    def __init__(self, encoder: SpeechEncoder) -> None:
        self.encoder = encoder

    def utterance(self, wave: np.ndarray, rate: int) -> np.ndarray:
        """float32 [1024]; see `published_library`."""
        return published_vector(self.encoder.utterance(wave, rate))


@dataclass(frozen=True)
class Speech:
    """Utterance features of labelled speech: `features` [N, 13] or [N, 1024], `emotion` [N], `speaker` [N] (text)."""

    features: np.ndarray
    emotion: np.ndarray
    speaker: np.ndarray

    def __post_init__(self) -> None:
        if self.features.ndim != 2 or not len(self.features) == len(self.emotion) == len(self.speaker):
            raise InvalidInput("The speech features, emotions and speakers must be lists of the same length.")
        if not np.isfinite(self.features).all():
            row = int(np.argwhere(~np.isfinite(self.features))[0][0])
            raise InvalidInput(f"The speech feature number {row} holds a value that is not a number; extract it again.")
        if "neutral" not in self.emotion:
            raise InvalidInput("The speech holds no clip labelled 'neutral'; an emotion is a difference from neutral.")

    def chosen(self, keep: np.ndarray) -> "Speech":
        """Only the clips where `keep` is True."""
        return Speech(self.features[keep], self.emotion[keep], self.speaker[keep])


def read_speech(
    folders: Sequence[str | Path],
    encoder: SpeechEncoder | None,
    progress: Progress | None = None,
    *,
    teacher: bool = False,
) -> Speech:
    """Features of labelled speech in corpus folders (layouts: see `corpora.speech.read_corpus`).

    A recording that cannot be used is left out with a warning that names it.

    Args:
        folders: the corpora.
        encoder: encodes the recordings; None: only those that have emotion2vec+ features are used.
        progress: called as `progress(stage, done, total)`.
        teacher: use the emotion2vec+ features where they lie beside the recordings.

    Raises:
        CmetError: a folder is of no known layout, or nothing usable is in it.
    """
    rows: list[tuple[np.ndarray, str, str]] = []  # feature, emotion, speaker
    for folder in folders:
        corpus = read_corpus(folder)
        for number, recording in enumerate(corpus.recordings):
            feature = corpus.teacher.get(recording.name) if teacher else None
            if feature is None and encoder is not None:
                feature = _encoded(recording, encoder)
            if feature is not None:
                rows.append((feature, recording.emotion, recording.speaker))
            if progress:
                progress(Stage.CORPUS_SPEECH, number + 1, len(corpus.recordings))
    if not rows:
        raise InvalidInput(f"No usable speech was found in {', '.join(str(f) for f in folders)}.")
    features, emotions, speakers = zip(*rows, strict=True)
    return Speech(np.stack(features).astype(np.float32), np.array(emotions), np.array(speakers))


def _encoded(recording: Recording, encoder: SpeechEncoder) -> np.ndarray | None:
    """Features of a recording, or None and a warning where it cannot be used."""
    try:
        wave = audio.load(recording.path)
        audio.check_speech(wave, audio.RATE, recording.name)
        return encoder.utterance(wave, audio.RATE)
    except CmetError as error:
        log.warning("left out: %s", str(error).replace("The recording", recording.name, 1))
        return None


def pooled_vectors(speech: Speech, emotions: Sequence[str]) -> dict[str, np.ndarray]:
    """Emotion vectors over all clips: mean over speakers of (emotion - the same speaker's neutral, or all neutral)."""
    every = speech.features[speech.emotion == "neutral"].mean(0)
    result = {}
    for emotion in emotions:
        each = []
        for speaker in np.unique(speech.speaker[speech.emotion == emotion]):
            own = speech.speaker == speaker
            neutral = own & (speech.emotion == "neutral")
            rest = speech.features[neutral].mean(0) if neutral.any() else every
            each.append(speech.features[own & (speech.emotion == emotion)].mean(0) - rest)
        if each:
            result[emotion] = np.mean(each, 0)
    return result
