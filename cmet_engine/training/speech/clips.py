"""Recordings prepared once for training and measuring: acoustics and statistics, also augmented."""

import hashlib
import itertools
import logging
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from cmet_engine import files
from cmet_engine.emotion.acoustics import BANDS, RATE, VOICED, acoustics
from cmet_engine.emotion.backbone import EMBEDDED as BACKBONE
from cmet_engine.emotion.backbone import STATISTICS, load_backbone
from cmet_engine.emotion.speech import VECTOR_SIZE, check_voice, statistics
from cmet_engine.errors import CmetError, InvalidInput
from cmet_engine.files import whole_file
from cmet_engine.media import audio
from cmet_engine.models import assets
from cmet_engine.progress import Progress, Stage
from cmet_engine.training.corpora.speech import Corpus, Recording
from cmet_engine.training.speech.config import TrainingConfig
from cmet_engine.training.voice_augmentation import Voice, convert_voice, random_voice, simulate_channel

log = logging.getLogger(__name__)

NEUTRAL_PITCH = 150.0
"""Hz at which the pitch of `acoustics` is 0."""


@dataclass
class Clips:
    """Clips to train or measure with, parallel lists and arrays.

    Attributes:
        names, dataset, speaker, emotion: text, one per clip.
        teacher: float32 [N, 1024], NaN where the teacher was never run.
        acoustics: one list per voice (the first is the natural one), each of N arrays float16 [F, 84].
        statistics: float32 [copies, N, 1280] of the clips (`speech.statistics`): as they are, in the other voices, and with
            other channels (`simulate_channel`).
    """

    names: list[str]
    dataset: np.ndarray
    speaker: np.ndarray
    emotion: np.ndarray
    teacher: np.ndarray
    acoustics: list[list[np.ndarray]]
    statistics: np.ndarray

    def __len__(self) -> int:
        return len(self.names)

    @property
    def taught(self) -> np.ndarray:
        """bool [N]: the teacher's feature is known."""
        return ~np.isnan(self.teacher[:, 0])

    def labels(self, emotions: tuple[str, ...]) -> np.ndarray:
        """int64 [N]: position of each clip's emotion in `emotions`, -1 for another."""
        place = {name: number for number, name in enumerate(emotions)}
        return np.array([place.get(name, -1) for name in self.emotion], np.int64)


@dataclass
class _Prepared:
    """Numbers of the usable recordings [N], and acoustics and statistics of their copies, as in `Clips`."""

    usable: np.ndarray
    acoustics: list[list[np.ndarray]]
    statistics: np.ndarray

    def save(self, path: Path) -> None:
        """Write as .npz; appears whole or not at all."""
        path.parent.mkdir(parents=True, exist_ok=True)
        starts = np.array([np.cumsum([0] + [len(a) for a in copy]) for copy in self.acoustics])
        arrays = {f"copy_{n}": np.concatenate(copy) for n, copy in enumerate(self.acoustics)}
        with whole_file(path, force=True) as temporary:
            np.savez(temporary, kept=self.usable, starts=starts, statistics=self.statistics, **arrays)

    @classmethod
    def load(cls, path: Path) -> "_Prepared":
        """Read what `save` wrote."""
        with np.load(path) as file:
            usable, starts, measured = file["kept"], file["starts"], file["statistics"]
            values = [file[f"copy_{n}"] for n in range(len(starts))]
        copies = [[v[a:b] for a, b in itertools.pairwise(n)] for v, n in zip(values, starts, strict=True)]
        return cls(usable, copies, measured)


def prepare(
    corpus: Corpus,
    cache: str | Path | None = None,
    config: TrainingConfig | None = None,
    *,
    to_train: bool = True,
    progress: Progress | None = None,
) -> Clips:
    """Acoustics and statistics of every recording, also augmented; kept in the folder `cache` so that the next run starts at once.

    A recording that cannot be used (no sound, no voice) is left out with a warning that names it.

    Args:
        corpus: what `read_corpus` gives.
        cache: folder; None keeps nothing.
        config: how many voices and channels; None: the defaults.
        to_train: off, only what measuring needs: the natural voice.
        progress: called as `progress(stage, done, total)`.

    Raises:
        CmetError: no recording can be used, or the cache folder cannot be written.
    """
    config = config or TrainingConfig()
    stored = None if cache is None else Path(cache) / _cache_name(corpus.recordings, config, to_train)
    if stored is not None and stored.is_file():
        prepared = _Prepared.load(stored)
    else:
        prepared = _natural(corpus.recordings, progress)
        if to_train:
            _add_augmented(prepared, [corpus.recordings[n] for n in prepared.usable], config, progress)
        if stored is not None:
            prepared.save(stored)
    usable = [corpus.recordings[n] for n in prepared.usable]
    unknown = np.full(VECTOR_SIZE, np.nan, np.float32)
    return Clips(
        [r.name for r in usable],
        np.array([r.dataset for r in usable]),
        np.array([r.speaker for r in usable]),
        np.array([r.emotion for r in usable]),
        np.stack([corpus.teacher.get(r.name, unknown) for r in usable]),
        prepared.acoustics,
        prepared.statistics,
    )


def _cache_name(recordings: list[Recording], config: TrainingConfig, to_train: bool) -> str:
    """Name of the file that holds what is prepared of these recordings by this backbone."""
    lines = [files.sha256(assets.asset(BACKBONE)), *(f"{r.name} {r.path.stat().st_size}" for r in recordings)]
    key = hashlib.sha256("\n".join(lines).encode()).hexdigest()[:16]
    kind = f"voices_{config.voices}_{config.tempo:g}_{config.varied}" if to_train else "natural"
    return f"{kind}_{key}.npz"


def _natural(recordings: list[Recording], progress: Progress | None) -> _Prepared:
    """The usable recordings in their natural voice: acoustics float16 [F, 84], statistics float32 [1, N, 1280]."""
    usable, natural, measured = [], [], []
    backbone = load_backbone("cpu")
    for number, recording in enumerate(recordings):
        if progress:
            progress(Stage.CORPUS_SPEECH, number, len(recordings))
        try:
            wave = audio.load(recording.path, RATE)
            audio.check_speech(wave, RATE, recording.name)
            spoken = acoustics(wave)
            check_voice(spoken, recording.name)
        except CmetError as error:
            log.warning("left out: %s", error)
            continue
        usable.append(number)
        natural.append(spoken.astype(np.float16))
        measured.append(statistics(wave, backbone))
    if not usable:
        raise InvalidInput("None of the recordings can be used; each was named above.")
    return _Prepared(np.array(usable), [natural], np.stack(measured)[None])


def _add_augmented(
    prepared: _Prepared, recordings: list[Recording], config: TrainingConfig, progress: Progress | None
) -> None:
    """Add copies of all `recordings`: `config.voices` with another voice, and `config.varied` with another channel.

    All clips of a speaker get the same voice in a copy, so that neutral and emotional speech stay one person's.
    """
    plans = _speaker_voices(recordings, prepared.acoustics[0], config.voices)
    copies: list[list[np.ndarray]] = [[] for _ in range(config.voices)]
    measured = np.empty((config.voices + config.varied, len(recordings), STATISTICS), np.float32)
    backbone = load_backbone("cpu")
    for clip, recording in enumerate(recordings):
        if progress:
            progress(Stage.AUGMENT, clip, len(recordings))
        wave = audio.load(recording.path, RATE)
        for copy in range(config.voices):
            tempo = float(np.exp(np.random.default_rng([8, copy, clip]).uniform(-config.tempo, config.tempo)))
            converted = convert_voice(wave, plans[recording.speaker][copy], tempo)
            copies[copy].append(acoustics(converted).astype(np.float16))
            measured[copy, clip] = statistics(converted, backbone)
        for copy in range(config.varied):
            varied = simulate_channel(wave, np.random.default_rng([9, copy, clip]))
            measured[config.voices + copy, clip] = statistics(varied, backbone)
    prepared.acoustics += copies
    prepared.statistics = np.concatenate([prepared.statistics, measured])


def _speaker_voices(recordings: list[Recording], natural: list[np.ndarray], count: int) -> dict[str, list[Voice]]:
    """`count` random voices for every speaker, deep and high ones in turn, from the pitch of the speaker's neutral clips."""
    speakers = np.array([recording.speaker for recording in recordings])
    neutral = np.array([recording.emotion == "neutral" for recording in recordings])
    voices = {}
    for number, speaker in enumerate(np.unique(speakers)):
        own = speakers == speaker
        own = own & neutral if (own & neutral).any() else own
        pitch = np.concatenate([natural[n][natural[n][:, BANDS + 2] > VOICED, BANDS] for n in np.flatnonzero(own)])
        hertz = float(NEUTRAL_PITCH * 2 ** np.median(pitch.astype(np.float64)))
        draws = [np.random.default_rng([7, number, copy]) for copy in range(count)]
        voices[str(speaker)] = [
            random_voice(hertz, (copy + number) % 2 == 1, random) for copy, random in enumerate(draws)
        ]
    return voices
