"""The speech that a connector is trained on: utterance features of labelled recordings."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np

from cmet_engine.errors import CmetError, InvalidInput
from cmet_engine.media import audio
from cmet_engine.progress import Progress, Stage
from cmet_engine.training.corpora.speech import Recording, read_corpus

log = logging.getLogger(__name__)


class SpeechEncoder(Protocol):
    """A speech encoder: `emotion.speech.Encoder` or `emotion.emotion2vec.PublishedEncoder`."""

    def utterance(self, wave: np.ndarray, rate: int) -> np.ndarray:
        """The emotion2vec+ features of a wave [S] at `rate` Hz: float32 [1024]."""


EMBEDDED = " (embedded encoder)"
"""Added to the name of a speaker whose features come from the embedded encoder instead of the teacher: the two are never
mixed."""


@dataclass(frozen=True)
class Speech:
    """Utterance features of labelled speech: `features` [N, 1024], `emotion` [N], `speaker` [N] (text)."""

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
    encoder: SpeechEncoder | None = None,
    progress: Progress | None = None,
    *,
    instead: SpeechEncoder | None = None,
) -> Speech:
    """Features of labelled speech in corpus folders (layouts: see `corpora.speech.read_corpus`).

    The teacher's features are used where they lie beside the recordings. A recording that cannot be used is left out with
    a warning that names it.

    Args:
        folders: the corpora.
        encoder: also encodes every recording, as a speaker of its own (`EMBEDDED`), so that the network also learns from
            vectors as users make them.
        progress: called as `progress(stage, done, total)`.
        instead: encodes the recordings without a teacher's feature, in the teacher's place.

    Raises:
        CmetError: a folder is of no known layout, or nothing usable is in it.
    """
    rows: list[tuple[np.ndarray, str, str]] = []  # feature, emotion, speaker
    for folder in folders:
        corpus = read_corpus(folder)
        for number, recording in enumerate(corpus.recordings):
            taught = recording.name in corpus.teacher
            if taught:
                rows.append((corpus.teacher[recording.name], recording.emotion, recording.speaker))
            if encoder is not None:
                feature, speaker = _encoded(recording, encoder), recording.speaker + EMBEDDED
            else:
                feature = None if taught or instead is None else _encoded(recording, instead)
                speaker = recording.speaker
            if feature is not None:
                rows.append((feature, recording.emotion, speaker))
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
