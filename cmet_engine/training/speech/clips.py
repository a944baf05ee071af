"""Recordings prepared once for training and measuring: their statistics, also augmented."""

import hashlib
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from cmet_engine import files
from cmet_engine.emotion.acoustics import BANDS, RATE, VOICED, acoustics
from cmet_engine.emotion.backbone import EMBEDDED as BACKBONE
from cmet_engine.emotion.backbone import STATISTICS, load_backbone
from cmet_engine.emotion.heads import EMOTIONS
from cmet_engine.emotion.speech import check_voice, statistics
from cmet_engine.errors import CmetError, InvalidInput
from cmet_engine.files import whole_file
from cmet_engine.media import audio
from cmet_engine.models import assets
from cmet_engine.progress import Progress, Stage
from cmet_engine.training.corpora.speech import Recording
from cmet_engine.training.speech.config import TrainingConfig
from cmet_engine.training.voice_augmentation import Voice, convert_voice, random_voice, simulate_channel

log = logging.getLogger(__name__)

NEUTRAL_PITCH = 150.0
"""Hz at which the pitch of `acoustics` is 0."""

_BABBLE = 60  # recordings that the voices in the background are drawn from


@dataclass
class Clips:
    """Clips to train or measure with, parallel lists and arrays.

    Attributes:
        names, dataset, speaker, emotion: text, one per clip.
        heard, agreement: what most raters heard in it (text, empty where nobody was asked), and the share of them who did.
        statistics: float32 [copies, N, 1280] of the clips (`speech.statistics`): as they are, then with other channels.
    """

    names: list[str]
    dataset: np.ndarray
    speaker: np.ndarray
    emotion: np.ndarray
    heard: np.ndarray
    agreement: np.ndarray
    statistics: np.ndarray

    def __len__(self) -> int:
        return len(self.names)

    def labels(self, emotions: tuple[str, ...] = EMOTIONS) -> np.ndarray:
        """int64 [N]: position of each clip's emotion in `emotions`, -1 for another."""
        return _places(self.emotion, emotions)

    def shares(self, heard: float, emotions: tuple[str, ...] = EMOTIONS) -> np.ndarray:
        """What each clip is taught as: float32 [N, classes], its label and, by `heard`, what raters heard in it."""
        table = np.eye(len(emotions), dtype=np.float32)
        votes = _places(self.heard, emotions)
        share = np.where(votes >= 0, heard * self.agreement, 0).astype(np.float32)[:, None]
        return (1 - share) * table[self.labels(emotions)] + share * table[np.maximum(votes, 0)]


def _places(names: np.ndarray, emotions: tuple[str, ...]) -> np.ndarray:
    place = {name: number for number, name in enumerate(emotions)}
    return np.array([place.get(name, -1) for name in names], np.int64)


def prepare(
    recordings: Sequence[Recording],
    cache: str | Path | None = None,
    config: TrainingConfig | None = None,
    *,
    to_train: bool = True,
    progress: Progress | None = None,
) -> Clips:
    """Statistics of every recording, also augmented; kept in the folder `cache` so that the next run starts at once.

    A recording that cannot be used (no sound, too short, silent) is left out with a warning that names it.

    Args:
        recordings: what `read_corpus` gives, of any number of corpora.
        cache: folder; None keeps nothing. A run that was interrupted goes on with the copy that it was at.
        config: how many copies; None: the defaults.
        to_train: off, only what measuring needs: the clips as they are.
        progress: called as `progress(stage, done, total)`.

    Raises:
        CmetError: no recording can be used, or the cache folder cannot be written.
    """
    config = config or TrainingConfig()
    copies = [_copy(recordings, number, cache, config, progress) for number in range(1 + to_train * config.varied)]
    measured = np.stack(copies)
    usable = np.flatnonzero(np.isfinite(measured).all((0, 2)))
    if not len(usable):
        raise InvalidInput("None of the recordings can be used; each was named above.")
    some = [recordings[n] for n in usable]
    return Clips(
        [r.name for r in some],
        np.array([r.dataset for r in some]),
        np.array([r.speaker for r in some]),
        np.array([r.emotion for r in some]),
        np.array([r.heard for r in some]),
        np.array([r.agreement for r in some]),
        measured[:, usable],
    )


def cache_name(recordings: Sequence[Recording], copy: int) -> str:
    """Name of the file that holds the statistics of one copy of these recordings by this backbone."""
    lines = [files.sha256(assets.asset(BACKBONE)), *(f"{r.name} {r.path.stat().st_size}" for r in recordings)]
    return f"statistics_{hashlib.sha256(chr(10).join(lines).encode()).hexdigest()[:16]}_{copy}.npy"


def _copy(
    recordings: Sequence[Recording],
    copy: int,
    cache: str | Path | None,
    config: TrainingConfig,
    progress: Progress | None,
) -> np.ndarray:
    """Statistics float32 [N, 1280] of one copy of the recordings, NaN where one cannot be used."""
    stored = None if cache is None else Path(cache) / cache_name(recordings, copy)
    if stored is not None and stored.is_file():
        return np.load(stored)
    backbone = load_backbone()
    measured = np.full((len(recordings), STATISTICS), np.nan, np.float32)
    voices = _lone_voices(recordings, copy) if copy else {}
    babble = _babble(recordings) if copy else []
    for number, recording in enumerate(recordings):
        if progress:
            progress(Stage.AUGMENT if copy else Stage.CORPUS_SPEECH, number, len(recordings))
        try:
            wave = audio.load(recording.path, RATE)
            audio.check_speech(wave, RATE, recording.name)
            if not copy:
                check_voice(acoustics(wave), recording.name)
        except CmetError as error:
            log.warning("left out: %s", error)
            continue
        if copy:
            random = np.random.default_rng([copy, number])
            if recording.speaker in voices:
                tempo = float(np.exp(random.uniform(-config.tempo, config.tempo)))
                wave = convert_voice(wave, voices[recording.speaker], tempo)
            wave = simulate_channel(wave, random, babble)
        measured[number] = statistics(wave, backbone)
    if stored is not None:
        stored.parent.mkdir(parents=True, exist_ok=True)
        with whole_file(stored, force=True) as temporary, temporary.open("wb") as file:
            np.save(file, measured)
    return measured


def _babble(recordings: Sequence[Recording]) -> list[np.ndarray]:
    """Some of the recordings, as voices in the background of others."""
    random = np.random.default_rng(5)
    chosen = random.choice(len(recordings), min(_BABBLE, len(recordings)), replace=False)
    return [audio.load(recordings[n].path, RATE) for n in chosen]


def _lone_voices(recordings: Sequence[Recording], copy: int) -> dict[str, Voice]:
    """For the speaker of every dataset that has one only, a random voice that is this `copy`'s."""
    speakers: dict[str, set[str]] = {}
    for recording in recordings:
        speakers.setdefault(recording.dataset, set()).add(recording.speaker)
    voices = {}
    for number, (speaker,) in enumerate(sorted(tuple(some) for some in speakers.values() if len(some) == 1)):
        own = [r for r in recordings if r.speaker == speaker][:10]
        bands = np.concatenate([acoustics(audio.load(r.path, RATE)) for r in own])
        pitch = bands[bands[:, BANDS + 2] > VOICED, BANDS]
        hertz = float(NEUTRAL_PITCH * 2 ** np.median(pitch)) if len(pitch) else NEUTRAL_PITCH
        voices[speaker] = random_voice(hertz, (copy + number) % 2 == 1, np.random.default_rng([7, number, copy]))
    return voices
