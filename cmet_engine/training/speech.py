"""Training of the embedded speech encoder: distilled from a teacher's features, from labels, and from contrast.

`read_corpus` finds recordings and labels in a folder, `prepare` turns them into acoustics once, `train` fits a `Student`.
A run is resumed from its last checkpoint; batches and dropout depend on the seed and the step alone, so that a run
that was interrupted ends where an uninterrupted one does.
"""

import csv
import hashlib
import itertools
import json
import math
import re
import shutil
import sys
import zipfile
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from tqdm import tqdm

from cmet_engine.emotion.acoustics import BANDS, CHANNELS, FLOOR, RATE, VOICED, acoustics
from cmet_engine.emotion.backbone import EMBEDDED as BACKBONE
from cmet_engine.emotion.backbone import STATISTICS, load_backbone
from cmet_engine.emotion.speech import statistics
from cmet_engine.emotion.student import EMOTIONS, Kernel, Student, StudentConfig, StudentOutput
from cmet_engine.emotion.student_weights import save_student
from cmet_engine.emotion.vector import VECTOR_SIZE
from cmet_engine.emotion.voice_check import check_voice
from cmet_engine.emotions import BASIC, EXTENDED, NEUTRAL
from cmet_engine.errors import CmetError
from cmet_engine.files import check_writable, sha256, whole_file
from cmet_engine.media import audio, formats
from cmet_engine.models.assets import asset
from cmet_engine.models.quantisation import rounded
from cmet_engine.progress import Progress, Stage
from cmet_engine.training.run import (
    ahead,
    layout_hint,
    load_state,
    save_state,
    warn_unknown_labels,
    write_losses,
)
from cmet_engine.training.voice_augmentation import elsewhere, new_voice, speak_as

SAME = {"calm": "neutral", "disgust": "disgusted", "fearful": "fear", "surprise": "surprised", "boredom": "bored"}
"""Labels of corpora that are classes here under another name."""

TEACHER = "emotion2vec_plus_large.npz"
MEAD_EMOTIONS = {e: e for e in (*BASIC, NEUTRAL)}
CREMA_EMOTIONS = {"ANG": "angry", "DIS": "disgusted", "FEA": "fear", "HAP": "happy", "NEU": "neutral", "SAD": "sad"}


@dataclass(frozen=True)
class Recording:
    """One labelled clip of a corpus."""

    path: Path
    name: str  # as the index and the teacher's file call it
    dataset: str
    speaker: str
    emotion: str  # one of `EMOTIONS` or `EXTENDED`


@dataclass(frozen=True)
class Corpus:
    """Labelled recordings and, for some of them, the teacher's features (name -> float32 [1024])."""

    recordings: list[Recording]
    teacher: dict[str, np.ndarray]


@dataclass
class Clips:
    """Clips to train or measure with, parallel lists and arrays.

    Attributes:
        names, dataset, speaker, emotion: text, one per clip.
        teacher: float32 [N, 1024], NaN where the teacher was never run.
        acoustics: one list per voice (the first is the natural one), each of N arrays float16 [F, 84].
        statistics: float32 [copies, N, 1280] of the clips (`speech.statistics`): as they are, in the other voices, and varied by
            `voices.elsewhere`.
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


@dataclass(frozen=True)
class TrainingConfig:
    """Every number of a training run.

    Attributes:
        seed: the same seed gives the same weights on the same machine.
        voices: other voices that every speaker gets (`voices`): there are few speakers to learn from.
        tempo: how much faster or slower those speak at the most, natural log.
        varied: copies of every clip through other rooms, microphones and lines, for the statistics.
        steps, batch: how many batches of how many clips.
        learning_rate, warmup, weight_decay, clip: AdamW with a linear rise and a cosine fall; length of the gradient.
        average: decay of the running average of the weights, which is what is saved.
        crop: acoustic frames of a batch, shortest and longest.
        rates: tempo against the prepared copy, slowest and fastest.
        label_smoothing: share of each label that is spread over all classes.
        label, distill, pseudo, direction, contrast: weights of the losses; `pseudo` is what the teacher's mean for an emotion weighs for a
            clip the teacher never heard, `direction` what the angle weighs against the distance.
        difference: weight of the difference from the same speaker's neutral clips in the batch: what an emotion vector is
            made of.
        temperature: of the contrast between emotions (Khosla et al. 2020).
        mixup, mixup_shape: share of batches whose clips are mixed in pairs, and the Beta distribution they are mixed by.
        held_out: speakers that are never trained on.
        held_out_every: every how many-th clip of an extended emotion is not trained on (0: none; one voice speaks them all).
        shares: how much of a batch each dataset takes; one not named takes 1.
        balance: 1 draws every emotion of a dataset equally often, 0 as often as it has clips.
        calm: added to the score of neutral once all is trained, for most speech is: batches hold emotions about equally often.
        checkpoint: steps between two checkpoints.
        kernel_known: most clips that the kernels over the clip's statistics know.
        kernel_ridge: weight of their smoothness against their error.
        kernel_calm: added to the share of neutral that the kernel beside neutral speech gives: nothing is as like it as more of it.
        kernel_natural: how much a clip's natural voice weighs in them against each of its variations.
        student: shape of the network.
    """

    seed: int = 1
    voices: int = 8
    tempo: float = 0.15
    varied: int = 3
    steps: int = 2400
    batch: int = 32
    learning_rate: float = 2e-3
    warmup: int = 200
    weight_decay: float = 0.03
    clip: float = 2.0
    average: float = 0.998
    crop: tuple[int, int] = (140, 260)
    rates: tuple[float, float] = (0.85, 1.18)
    label_smoothing: float = 0.1
    label: float = 1.0
    distill: float = 1.0
    pseudo: float = 0.3
    direction: float = 0.5
    contrast: float = 0.2
    difference: float = 0.5
    temperature: float = 0.15
    mixup: float = 0.3
    mixup_shape: float = 0.4
    held_out: tuple[str, ...] = (
        "mead_W009", "ravdess_17", "ravdess_18", "ravdess_19", "ravdess_20", "emodb_08", "emodb_10",
    )  # fmt: skip
    held_out_every: int = 3
    shares: dict[str, float] = field(
        default_factory=lambda: {"ravdess": 1.0, "emodb": 0.6, "mead": 1.0, "gemini": 0.35, "meld": 0.03}
    )
    balance: float = 0.5
    calm: float = 0.5
    checkpoint: int = 250
    kernel_known: int = 2000
    kernel_ridge: float = 0.08
    kernel_calm: float = -0.1
    kernel_natural: float = 3.0
    student: StudentConfig = field(default_factory=StudentConfig)

    @classmethod
    def from_json(cls, text: str, name: str = "the configuration") -> "TrainingConfig":
        """Read a configuration; fields that are absent keep their default.

        Raises:
            CmetError: not JSON, an unknown field, or a value of the wrong kind; the message names it.
        """
        try:
            given = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise CmetError(f"{name}: not valid JSON.") from error
        return _from_dict(cls, given, name)

    def to_json(self) -> str:
        """The text that `from_json` reads."""
        return json.dumps(asdict(self), indent=2) + "\n"


def _from_dict(kind: type, given: Any, name: str) -> Any:
    """An instance of the dataclass `kind` with the fields of `given` in place of its defaults."""
    if not isinstance(given, dict):
        raise CmetError(f"{name}: a table of fields is needed.")
    defaults, values = kind(), {}
    known = {f.name for f in fields(kind)}
    for key, value in given.items():
        if key not in known:
            raise CmetError(f"{name}: the field '{key}' is unknown; known are {', '.join(sorted(known))}.")
        default = getattr(defaults, key)
        if key == "student":
            values[key] = _from_dict(StudentConfig, value, f"{name}: student")
        elif isinstance(default, tuple) and isinstance(value, list):
            values[key] = tuple(value)
        elif type(value) is type(default) or (isinstance(default, float) and type(value) is int):
            values[key] = value
        else:
            raise CmetError(f"{name}: the field '{key}' is '{value}'; something like {default!r} is needed.")
    return kind(**values)


def read_corpus(folder: str | Path) -> Corpus:
    """Find labelled recordings in a folder, in one of three layouts.

    - `index.csv` with the columns path, dataset, speaker, emotion;
    - MEAD as distributed: `SPEAKER/audio/EMOTION/level_N/NNN.m4a` (any sound file);
    - CREMA-D as distributed: `AudioWAV/1001_DFA_ANG_XX.wav`.

    In each, `emotion2vec_plus_large.npz` may lie in the folder: `paths` (as the index has them, or from the folder on) and
    `features` [N, 1024] of the teacher (`cmet train teacher` writes it).

    Raises:
        CmetError: the layout is none of these, a label is unknown, a file is missing, or a teacher's feature is not made
            of numbers; the message names the file.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise CmetError(f"{folder} is not a folder; give the folder of a speech corpus.")
    teacher: dict[str, np.ndarray] = {}
    indexed = (folder / "index.csv").is_file()
    recordings = _read_index(folder) if indexed else _read_mead(folder) or _read_crema(folder)
    if (folder / TEACHER).is_file():
        teacher = _read_teacher(folder / TEACHER)
    if not recordings:
        raise CmetError(
            f"{folder} is not a speech corpus: it needs an index.csv, or MEAD's SPEAKER/audio/EMOTION/level_N/NNN.m4a, or "
            f"CREMA-D's AudioWAV/1001_DFA_ANG_XX.wav{layout_hint(folder)}."
        )
    return Corpus(recordings, teacher)


def _read_index(folder: Path) -> list[Recording]:
    recordings = []
    with (folder / "index.csv").open(newline="", encoding="utf-8") as file:
        reader = csv.DictReader(file)
        missing = {"path", "dataset", "speaker", "emotion"} - set(reader.fieldnames or ())
        if missing:
            raise CmetError(f"{folder / 'index.csv'} has no column '{sorted(missing)[0]}'.")
        for line, row in enumerate(reader, 2):
            emotion = SAME.get(row["emotion"], row["emotion"])
            if emotion not in EMOTIONS + EXTENDED:
                raise CmetError(f"{folder / 'index.csv'} line {line}: the emotion '{row['emotion']}' is unknown.")
            if not (folder / row["path"]).is_file():
                raise CmetError(f"{folder / 'index.csv'} line {line}: {row['path']} is missing.")
            recordings.append(Recording(folder / row["path"], row["path"], row["dataset"], row["speaker"], emotion))
    return recordings


def _read_teacher(path: Path) -> dict[str, np.ndarray]:
    try:
        with np.load(path) as file:
            names, features = [str(name) for name in file["paths"]], np.asarray(file["features"], np.float32)
    except (OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
        raise CmetError(f"{path}: no teacher's features; it needs the arrays 'paths' and 'features'.") from error
    if features.shape != (len(names), VECTOR_SIZE):
        raise CmetError(
            f"{path}: 'features' has shape {list(features.shape)}; [{len(names)}, {VECTOR_SIZE}] is needed."
        )
    broken = np.flatnonzero(~np.isfinite(features).all(1))
    if len(broken):
        raise CmetError(f"{path}: the feature of {names[broken[0]]} holds values that are not numbers; make it again.")
    return dict(zip(names, features, strict=True))


def _read_mead(folder: Path) -> list[Recording]:
    recordings = []
    unknown: Counter[str] = Counter()
    for path in sorted(folder.glob("*/audio/*/level_*/*")):
        speaker, _, emotion = path.relative_to(folder).parts[:3]
        if path.suffix.lower() not in formats.SOUND or path.name.startswith(".") or not path.is_file():
            continue
        if emotion not in MEAD_EMOTIONS:
            unknown[emotion] += 1
        else:
            name = path.relative_to(folder).as_posix()
            recordings.append(Recording(path, name, "mead", f"mead_{speaker}", MEAD_EMOTIONS[emotion]))
    warn_unknown_labels(folder, unknown, list(MEAD_EMOTIONS))
    return recordings


def _read_crema(folder: Path) -> list[Recording]:
    recordings = []
    unknown: Counter[str] = Counter()
    for path in sorted((folder / "AudioWAV").glob("*.wav")):
        match = re.fullmatch(r"(\d{4})_[A-Z]{3}_([A-Z]{3})_[A-Z]{2}", path.stem)
        if match and match[2] in CREMA_EMOTIONS:
            name = path.relative_to(folder).as_posix()
            recordings.append(Recording(path, name, "crema", f"crema_{match[1]}", CREMA_EMOTIONS[match[2]]))
        else:
            unknown[match[2] if match else path.stem] += 1
    warn_unknown_labels(folder, unknown, list(CREMA_EMOTIONS))
    return recordings


def prepare(
    corpus: Corpus,
    cache: str | Path | None = None,
    config: TrainingConfig | None = None,
    *,
    to_train: bool = True,
    progress: Progress | None = None,
) -> Clips:
    """Acoustics of every recording, also in other voices; kept in the folder `cache` so that the next run starts at once.

    A recording that cannot be used (no sound, no voice) is left out, with one line on standard error.

    Args:
        corpus: what `read_corpus` gives.
        cache: folder; None keeps nothing.
        config: how many voices and variations; None: the defaults.
        to_train: off, only what measuring needs: the natural voice.
        progress: called as `progress(stage, done, total)`.

    Raises:
        CmetError: no recording can be used, or the cache folder cannot be written.
    """
    config = config or TrainingConfig()
    recordings = corpus.recordings
    backbone = sha256(asset(BACKBONE))
    key = hashlib.sha256(
        "\n".join([backbone, *(f"{r.name} {r.path.stat().st_size}" for r in recordings)]).encode()
    ).hexdigest()[:16]
    kind = f"voices_{config.voices}_{config.tempo:g}_{config.varied}" if to_train else "natural"
    stored = None if cache is None else Path(cache) / f"{kind}_{key}.npz"
    if stored is not None and stored.is_file():
        with np.load(stored) as file:
            kept, starts, told = file["kept"], file["starts"], file["statistics"]
            values = [file[f"copy_{n}"] for n in range(len(starts))]
        copies = [[v[a:b] for a, b in itertools.pairwise(n)] for v, n in zip(values, starts, strict=True)]
    else:
        kept, natural, told = _listen(recordings, progress)
        copies = [natural]
        if to_train:
            others, more = _other_voices([recordings[n] for n in kept], natural, config, progress)
            copies, told = copies + others, np.concatenate([told, more])
        starts = np.array([np.cumsum([0] + [len(a) for a in copy]) for copy in copies])
        if stored is not None:
            stored.parent.mkdir(parents=True, exist_ok=True)
            arrays = {f"copy_{n}": np.concatenate(copy) for n, copy in enumerate(copies)}
            with whole_file(stored, force=True) as temporary:
                np.savez(temporary, kept=kept, starts=starts, statistics=told, **arrays)
    chosen = [recordings[n] for n in kept]
    unknown = np.full(VECTOR_SIZE, np.nan, np.float32)
    return Clips(
        [r.name for r in chosen],
        np.array([r.dataset for r in chosen]),
        np.array([r.speaker for r in chosen]),
        np.array([r.emotion for r in chosen]),
        np.stack([corpus.teacher.get(r.name, unknown) for r in chosen]),
        copies,
        told,
    )


def _listen(recordings: list[Recording], progress: Progress | None) -> tuple[np.ndarray, list[np.ndarray], np.ndarray]:
    """Which recordings can be used, int [N], their acoustics float16 [F, 84] and their statistics float32 [1, N, 1280]."""
    kept, heard, told = [], [], []
    backbone = load_backbone("cpu")
    for number, recording in enumerate(tqdm(recordings, "listening", unit="clip", disable=progress is not None)):
        if progress:
            progress(Stage.CORPUS_SPEECH, number, len(recordings))
        try:
            wave = audio.load(recording.path, RATE)
            audio.check_speech(wave, RATE, recording.name)
            natural = acoustics(wave)
            check_voice(natural, recording.name)
        except CmetError as error:
            tqdm.write(f"left out: {error}", file=sys.stderr)
            continue
        kept.append(number)
        heard.append(natural.astype(np.float16))
        told.append(statistics(wave, backbone))
    if not kept:
        raise CmetError("None of the recordings can be used; each was named above.")
    return np.array(kept), heard, np.stack(told)[None]


def _other_voices(
    recordings: list[Recording], natural: list[np.ndarray], config: TrainingConfig, progress: Progress | None
) -> tuple[list[list[np.ndarray]], np.ndarray]:
    """Acoustics float16 [F, 84] of all `recordings`, `config.voices` times, every speaker in another voice each time.

    Also statistics float32 [copies, N, 1280] of these, and of the natural ones `config.varied` times as recorded elsewhere. All clips of a speaker are changed alike, so that neutral and emotional speech are still one person's; deep voices and
    high ones take turns.
    """
    speakers = np.array([recording.speaker for recording in recordings])
    calm = np.array([recording.emotion == "neutral" for recording in recordings])
    plans = []
    for number, speaker in enumerate(np.unique(speakers)):
        own = speakers == speaker
        own = own & calm if (own & calm).any() else own
        heard = np.concatenate([natural[n][natural[n][:, BANDS + 2] > VOICED, BANDS] for n in np.flatnonzero(own)])
        height = float(150 * 2 ** np.median(heard.astype(np.float64)))  # Hz
        turn = [np.random.default_rng([7, number, copy]) for copy in range(config.voices)]
        plans.append([new_voice(height, (copy + number) % 2 == 1, random) for copy, random in enumerate(turn)])
    place = np.unique(speakers, return_inverse=True)[1]
    copies: list[list[np.ndarray]] = [[] for _ in range(config.voices)]
    told = np.empty((config.voices + config.varied, len(recordings), STATISTICS), np.float32)
    backbone = load_backbone("cpu")
    for clip, recording in enumerate(tqdm(recordings, "other voices", unit="clip", disable=progress is not None)):
        if progress:
            progress(Stage.AUGMENT, clip, len(recordings))
        wave = audio.load(recording.path, RATE)
        for copy in range(config.voices):
            tempo = float(np.exp(np.random.default_rng([8, copy, clip]).uniform(-config.tempo, config.tempo)))
            other = speak_as(wave, plans[place[clip]][copy], tempo)
            copies[copy].append(acoustics(other).astype(np.float16))
            told[copy, clip] = statistics(other, backbone)
        for copy in range(config.varied):
            varied = elsewhere(wave, np.random.default_rng([9, copy, clip]))
            told[config.voices + copy, clip] = statistics(varied, backbone)
    return copies, told


def train_folder(
    corpus: str | Path,
    output: str | Path,
    *,
    config: TrainingConfig | None = None,
    device: str = "cpu",
    workers: int = 1,
    resume: bool = True,
    cache: str | Path | None = None,
    progress: Progress | None = None,
) -> Path:
    """Train an encoder from a folder of labelled speech (`cmet train encoder`); returns the encoder's file.

    Args:
        corpus: see `read_corpus`; some clips must have a teacher's feature.
        output: see `train`.
        config: every number; None: the defaults.
        device, workers, resume, progress: see `train`.
        cache: folder for the prepared acoustics; None: a folder `cache` in the output.

    Raises:
        CmetError: see `read_corpus`, `prepare` and `train`.
    """
    output = Path(output)
    config = config or TrainingConfig()
    found = read_corpus(corpus)
    # whatever would stop the run is said before listening, which takes long
    if not any(r.name in found.teacher and r.speaker not in config.held_out for r in found.recordings):
        raise CmetError(
            f"{corpus}: no recording to train on has a feature of the teacher, which the encoder learns the space from; "
            f"{TEACHER} must lie there (`cmet models pull emotion2vec`, then `cmet train teacher --data {corpus}`)."
        )
    begin_run(output, found, config, resume=resume)
    clips = prepare(found, output / "cache" if cache is None else cache, config, progress=progress)
    train(clips, config, output, device=device, workers=workers, resume=resume, progress=progress)
    return output / "encoder.safetensors"


RUN = "run.json"
"""In a run's folder: what it was begun with, so that no other run goes on from its checkpoints."""

NEEDED_BYTES = 200_000_000  # for checkpoints and weights


def begin_run(output: Path, corpus: Corpus, config: TrainingConfig, *, resume: bool) -> None:
    """Make the folder of a run and check that it can begin, or go on, there.

    Args:
        output: made when absent.
        corpus, config: what the run is begun with.
        resume: off, checkpoints that are there are removed.

    Raises:
        CmetError: the folder cannot be made or written, its disk is nearly full, a checkpoint is damaged, or it is of a run with
            another configuration or on other recordings.
    """
    try:
        output.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise CmetError(f"Cannot make the folder {output}: {error.strerror}.") from error
    check_writable(output / "encoder.safetensors", force=True)
    free = shutil.disk_usage(output).free
    if free < NEEDED_BYTES:
        raise CmetError(
            f"The disk that holds {output} has {free // 1_000_000} MB left; {NEEDED_BYTES // 1_000_000} are needed."
        )
    rows = sorted(f"{r.name} {r.speaker} {r.emotion} {r.name in corpus.teacher}" for r in corpus.recordings)
    digest = hashlib.sha256("\n".join(rows).encode()).hexdigest()
    begun = {"config": json.loads(config.to_json()), "recordings": digest}
    stored = output / "checkpoint.pt"
    if not resume:
        stored.unlink(missing_ok=True)
    elif (output / RUN).is_file() and stored.is_file():
        before = json.loads((output / RUN).read_text("utf-8"))
        for key, words in (("config", "with another configuration"), ("recordings", "on other recordings")):
            if before.get(key) != begun[key]:
                raise CmetError(f"{output} holds a run {words}; give another folder, or --no-resume to begin anew.")
        load_state(stored)
    with whole_file(output / RUN, force=True) as temporary:
        temporary.write_text(json.dumps(begun, indent=2) + "\n", "utf-8")


def held_out(clips: Clips, config: TrainingConfig) -> np.ndarray:
    """bool [N]: clips that a run with this configuration never trains on."""
    apart = np.isin(clips.speaker, config.held_out)
    if config.held_out_every:
        for emotion in EXTENDED:
            own = np.flatnonzero((clips.emotion == emotion) & (clips.dataset == "gemini"))
            apart[own[:: config.held_out_every]] = True
    return apart


def to_train_on(clips: Clips, config: TrainingConfig) -> np.ndarray:
    """Clips int [M] that a run with this configuration trains on.

    Raises:
        CmetError: there are none.
    """
    labels = clips.labels(config.student.emotions)
    chosen = np.flatnonzero(~held_out(clips, config) & ((labels >= 0) | clips.taught))
    if not len(chosen):
        raise CmetError("No clip is left to train on; check the labels and the speakers that are held out.")
    return chosen


def augment(batch: torch.Tensor, lengths: torch.Tensor, random: torch.Generator) -> torch.Tensor:
    """Vary `batch` [B, F, 84] as other microphones, rooms and lines would: all in the log-power domain."""
    count, frames, _ = batch.shape

    def uniform(*shape: int) -> torch.Tensor:
        return torch.rand(*shape, generator=random)

    mel, tracks = batch[:, :, :BANDS].clone(), batch[:, :, BANDS:].clone()
    place = torch.linspace(0, math.pi, BANDS)[None]
    # room: the power of earlier frames decays into the later ones
    decay = 10 ** (-6 * 0.01 / (0.2 + 0.6 * uniform(count)))  # 60 dB over 0.2 to 0.8 s
    share = (uniform(count) < 0.3) * (0.05 + 0.3 * uniform(count))
    kernel = decay[:, None] ** torch.arange(24)[None]  # [B, 24]
    kernel = share[:, None] * kernel
    kernel[:, 0] = 1.0
    power = F.pad(mel.exp().transpose(1, 2), (23, 0))  # [B, 80, F + 23]
    wet = F.conv1d(power.transpose(0, 1), kernel.flip(1)[:, None], groups=count)  # [80, B, F]
    mel = wet.permute(1, 2, 0).clamp(min=1e-6).log()
    # microphone: a smooth curve over the bands
    for waves in (1, 2, 3):
        mel = mel + ((2 * uniform(count, 1) - 1) * 1.6 / waves * torch.cos(waves * place))[:, None]
    # noise: a floor with a slope of its own
    floor = -8.5 + 5.5 * uniform(count, 1, 1) ** 2 + (2 * uniform(count, 1, 1) - 1) * torch.cos(place)[:, None]
    noisy = torch.logaddexp(mel, floor + 0.5 * torch.randn(mel.shape, generator=random))
    mel = torch.where(uniform(count, 1, 1) < 0.5, noisy, mel)
    # telephone and other narrow lines
    cut = torch.where(uniform(count) < 0.15, 50 + 25 * uniform(count), torch.full((count,), 99.0))
    mel = torch.where(torch.arange(BANDS)[None, None] > cut[:, None, None], torch.full_like(mel, FLOOR), mel)
    mel = mel.clamp(min=FLOOR)
    # masks over bands and time (Park et al. 2019, SpecAugment)
    for _ in range(2):
        start, width = uniform(count, 1) * BANDS, uniform(count, 1) * 10
        bands = torch.arange(BANDS)[None]
        hide = (bands >= start) & (bands < start + width)
        mel = torch.where(hide[:, None], mel.mean((1, 2), keepdim=True), mel)
        start, width = uniform(count, 1) * lengths[:, None], uniform(count, 1) * 20
        times = torch.arange(frames)[None]
        hide = (times >= start) & (times < start + width)
        mel = torch.where(hide[:, :, None], mel.mean((1, 2), keepdim=True), mel)
    keep = (uniform(count, 1, 1) > 0.15).float()  # at times no pitch at all
    tracks[:, :, :3] = tracks[:, :, :3] * keep
    return torch.cat([mel, tracks], 2)


class Batches:
    """Endless random batches, each made from the seed and its number alone, so that a resumed run sees what it would have seen.

    Args:
        clips, chosen, weights: what is drawn from and how often.
        config: every number.
    """

    def __init__(self, clips: Clips, chosen: np.ndarray, weights: np.ndarray, config: TrainingConfig) -> None:
        self.clips, self.chosen, self.config = clips, chosen, config
        self.probability = weights / weights.sum()

    def __call__(self, step: int) -> tuple[torch.Tensor, torch.Tensor, np.ndarray]:
        """Batch number `step`: acoustics [B, F, 84], lengths [B], clip numbers [B]."""
        config = self.config
        random = np.random.default_rng([config.seed, step])
        picked = random.choice(self.chosen, config.batch, p=self.probability)
        frames = int(random.integers(config.crop[0], config.crop[1] + 1))
        batch = np.zeros((config.batch, frames, CHANNELS), np.float32)
        batch[:, :, :BANDS] = FLOOR
        batch[:, :, BANDS + 3] = FLOOR
        lengths = np.zeros(config.batch, np.int64)
        for row, clip in enumerate(picked):
            copy = self.clips.acoustics[random.integers(len(self.clips.acoustics))][clip]
            rate = random.uniform(*config.rates)
            total = max(2, int(len(copy) / rate))
            start = random.integers(0, max(1, total - frames + 1))
            length = min(frames, total - start)
            at = np.clip((start + np.arange(length)) * rate, 0, len(copy) - 1.001)
            low = at.astype(np.int64)
            share = (at - low)[:, None].astype(np.float32)
            batch[row, :length] = copy[low].astype(np.float32) * (1 - share) + copy[low + 1].astype(np.float32) * share
            lengths[row] = length
        generator = torch.Generator().manual_seed(int(random.integers(2**31)))
        tensor, sizes = torch.from_numpy(batch), torch.from_numpy(lengths)
        return augment(tensor, sizes, generator), sizes, picked


def from_rest(clips: Clips, chosen: np.ndarray, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Statistics of neutral speech that clips are told apart from: that of some other neutral clips of the same voice.

    Every clip has a random pool of its own in every copy, of one clip up to all there are, as users have few or many.

    Args:
        clips: every copy of a speaker is another voice, with neutral clips of its own.
        chosen: clips [M] whose neutral speech may be used.
        seed: of the pools.

    Returns:
        float32 [copies, N, 1280], and bool [N], whether there is neutral speech for the clip at all.
    """
    random = np.random.default_rng([seed, 3])
    calm = np.zeros(len(clips), bool)
    calm[chosen] = clips.emotion[chosen] == "neutral"
    rest, known = np.zeros_like(clips.statistics), np.zeros(len(clips), bool)
    for clip in chosen:
        pool = np.flatnonzero(calm & (clips.speaker == clips.speaker[clip]))
        pool = pool[pool != clip]
        if not len(pool):
            continue
        known[clip] = True
        for copy in range(len(rest)):
            count = round(len(pool) ** random.random())
            rest[copy, clip] = clips.statistics[copy, random.choice(pool, count, replace=False)].mean(0)
    return rest, known


@dataclass(frozen=True)
class Targets:
    """What the student is to say of each clip.

    Attributes:
        places: float32 [N, 1024], the teacher's feature, or its mean for the emotion where the teacher was never run.
        weight: float32 [N], of those places in the loss.
        labels: int64 [N], class, -1 where labels are not used.
        speaker: int64 [N], number of the speaker.
        spread: mean squared distance of the teacher's features from their mean.
        prototypes: float32 [classes, 1024], mean place of each emotion.
    """

    places: torch.Tensor
    weight: torch.Tensor
    labels: torch.Tensor
    speaker: torch.Tensor
    spread: float
    prototypes: torch.Tensor


def make_targets(clips: Clips, chosen: np.ndarray, config: TrainingConfig) -> Targets:
    """Targets of all clips, made from the `chosen` [M] alone."""
    labels = clips.labels(config.student.emotions)
    taught = clips.taught
    known = np.zeros(len(clips), bool)
    known[chosen] = taught[chosen]
    if not known.any():
        raise CmetError("No clip to train on has a teacher's feature; the student needs some to learn the space from.")
    neutral = (
        clips.teacher[known & (labels == 0)].mean(0) if (known & (labels == 0)).any() else clips.teacher[known].mean(0)
    )
    means = np.tile(neutral, (len(config.student.emotions), 1))
    for number in range(len(means)):
        if (of := known & (labels == number)).any():
            means[number] = clips.teacher[of].mean(0)
    if "bored" in config.student.emotions and "sad" in config.student.emotions:
        # boredom, which no taught corpus holds: low arousal as sadness has it, half as far from neutral
        sad = means[config.student.emotions.index("sad")]
        means[config.student.emotions.index("bored")] = (neutral + sad) / 2
    places = np.where(taught[:, None], clips.teacher, means[np.maximum(labels, 0)])
    weight = np.where(taught, config.distill, config.pseudo * (labels >= 0))
    centre = clips.teacher[known].mean(0)
    spread = float(((clips.teacher[known] - centre) ** 2).sum(1).mean())
    return Targets(
        torch.from_numpy(places.astype(np.float32)),
        torch.from_numpy(weight.astype(np.float32)),
        torch.from_numpy(labels),
        torch.from_numpy(np.unique(clips.speaker, return_inverse=True)[1]),
        spread,
        torch.from_numpy(means.astype(np.float32)),
    )


def new_student(clips: Clips, chosen: np.ndarray, config: TrainingConfig) -> Student:
    """A student with random weights whose scales come from the `chosen` [M] clips: input, and the teacher's principal directions."""
    torch.manual_seed(config.seed)
    student = Student(config.student)
    some = np.concatenate([clips.acoustics[0][n] for n in chosen[::5]]).astype(np.float32)
    known = clips.teacher[chosen][clips.taught[chosen]]
    centre = known.mean(0)
    _, scale, directions = np.linalg.svd(known - centre, full_matrices=False)
    count = min(config.student.basis, len(directions))
    student.input_mean.copy_(torch.from_numpy(some.mean(0)))
    student.input_scale.copy_(torch.from_numpy(some.std(0) + 1e-3))
    usual = clips.statistics[0][chosen]
    student.statistics_mean.copy_(torch.from_numpy(usual.mean(0)))
    student.statistics_scale.copy_(torch.from_numpy(usual.std(0) + 1e-6))
    of = np.unique(clips.speaker[chosen], return_inverse=True)[1]
    own = np.stack([usual[of == speaker].mean(0) for speaker in range(of.max() + 1)])
    student.difference_scale.copy_(torch.from_numpy((usual - own[of]).std(0) + 1e-6))
    student.space_mean.copy_(torch.from_numpy(centre))
    student.space_basis[:count] = torch.from_numpy(directions[:count] * (scale[:count, None] / math.sqrt(len(known))))
    return student


def clip_weights(clips: Clips, chosen: np.ndarray, config: TrainingConfig) -> np.ndarray:
    """How often each of the `chosen` [M] clips is drawn: datasets by their share, rare emotions more often."""
    weights = np.zeros(len(clips))
    for dataset in np.unique(clips.dataset[chosen]):
        own = chosen[clips.dataset[chosen] == dataset]
        _, place, count = np.unique(clips.emotion[own], return_inverse=True, return_counts=True)
        share = count[place] ** -config.balance
        weights[own] = config.shares.get(str(dataset), 1.0) * share / share.sum()
    return weights[chosen]


def losses(
    reading: StudentOutput,
    targets: Targets,
    picked: np.ndarray,
    mixed: tuple[float, np.ndarray] | None,
    centre: torch.Tensor,
    config: TrainingConfig,
) -> dict[str, torch.Tensor]:
    """The weighted parts of the loss of a batch of clips `picked` [B], which were `mixed` (share of the first, partner [B]) or not."""
    count = len(config.student.emotions)
    device = reading.scores.device
    places, weight, labels = (
        t[torch.from_numpy(picked)].to(device) for t in (targets.places, targets.weight, targets.labels)
    )
    known = (labels >= 0).float()
    wanted = F.one_hot(labels.clamp(min=0), count).float() * known[:, None]
    if mixed is not None:
        share, partner = mixed[0], torch.from_numpy(mixed[1]).to(device)
        wanted, places, weight, known = (share * t + (1 - share) * t[partner] for t in (wanted, places, weight, known))
    smooth = wanted * (1 - config.label_smoothing) + known[:, None] * config.label_smoothing / count
    features = reading.features.float()
    parts = {
        "label": -config.label * (smooth * F.log_softmax(reading.scores.float(), 1)).sum(1).mean(),
        "distance": (((features - places) ** 2).sum(1) / targets.spread * weight).mean(),
        "direction": config.direction
        * ((1 - F.cosine_similarity(features - centre, places - centre, dim=1)) * weight).mean(),
    }
    if config.difference and mixed is None:
        parts["difference"] = config.difference * difference_loss(features, places, torch.from_numpy(picked), targets)
    if config.contrast and mixed is None and int((labels >= 0).sum()) > 1:
        # Khosla et al. 2020, Supervised Contrastive Learning, equation 2
        unit = F.normalize(reading.embedding.float()[labels >= 0], dim=1)
        own = labels[labels >= 0]
        itself = torch.eye(len(own), dtype=torch.bool, device=device)
        alike = (own[:, None] == own[None]) & ~itself
        scores = (unit @ unit.T / config.temperature).masked_fill(itself, -1e9)
        log_share = scores - torch.logsumexp(scores, 1, keepdim=True)
        pairs = alike.sum(1)
        if bool((pairs > 0).any()):
            parts["contrast"] = -config.contrast * ((log_share * alike).sum(1) / pairs.clamp(min=1))[pairs > 0].mean()
    return parts


def difference_loss(places: torch.Tensor, wanted: torch.Tensor, rows: torch.Tensor, targets: Targets) -> torch.Tensor:
    """How far the difference of each emotional clip from the same speaker's neutral ones in the batch is off: angle and distance.

    Args:
        places, wanted: [B, any], where the clips lie and where they should.
        rows: int64 [B], which clips they are.
        targets: of all clips.

    Returns:
        Mean over the clips that have a neutral one beside them, weighted as their places are; 0 without any.
    """
    labels, speaker, weight = (t[rows].to(places.device) for t in (targets.labels, targets.speaker, targets.weight))
    calm = ((speaker[:, None] == speaker[None]) & (labels == 0)[None]).to(places.dtype)  # [B, B]
    measured = (calm.sum(1) > 0) & (labels > 0)
    if not bool(measured.any()):
        return places.sum() * 0
    average = calm / calm.sum(1, keepdim=True).clamp(min=1)
    vector, true = ((p - average @ p)[measured] for p in (places, wanted))
    off = 1 - F.cosine_similarity(vector, true, dim=1) + ((vector - true) ** 2).sum(1) / targets.spread
    return (off * weight[measured]).mean()


def train(
    clips: Clips,
    config: TrainingConfig,
    output: str | Path,
    *,
    device: str = "cpu",
    mixed_precision: bool = True,
    workers: int = 1,
    resume: bool = True,
    progress: Progress | None = None,
    until: int | None = None,
) -> Student:
    """Train a student; `output` receives encoder.safetensors, config.json, losses.csv, losses.svg and checkpoint.pt.

    Args:
        clips: what `prepare` gives.
        config: every number.
        output: folder; made when absent.
        device: `cpu` or `cuda`.
        mixed_precision: compute in bfloat16 where that is safe.
        workers: threads that make batches ahead.
        resume: go on from the folder's checkpoint when there is one.
        progress: called as `progress(stage, step, steps)`; without it a bar is drawn on standard error.
        until: stop after this step, leaving a checkpoint (the schedule stays that of the whole run).

    Returns:
        The student with the averaged weights, in evaluation mode.

    Raises:
        CmetError: nothing to train on, or the checkpoint belongs to another configuration.
    """
    output = Path(output)
    output.mkdir(parents=True, exist_ok=True)
    check_writable(output / "encoder.safetensors", force=True)
    chosen = to_train_on(clips, config)
    calm = Counter(clips.speaker[chosen[clips.emotion[chosen] == "neutral"]].tolist())
    if max(calm.values(), default=0) < 2:
        raise CmetError(
            "No speaker to train on has two neutral clips, from which the encoder learns what a voice at rest is; add some."
        )
    targets = make_targets(clips, chosen, config)
    student = new_student(clips, chosen, config).to(device)
    batches = Batches(clips, chosen, clip_weights(clips, chosen, config), config)
    optimiser = torch.optim.AdamW(
        student.parameters(), lr=config.learning_rate, weight_decay=config.weight_decay, betas=(0.9, 0.98)
    )
    average = {key: value.clone() for key, value in _trained(student).items()}
    stored, first, history = output / "checkpoint.pt", 0, []
    if resume and stored.is_file():
        state = load_state(stored, device)
        if state["config"] != config.to_json():
            raise CmetError(f"{stored} is of a run with another configuration; give another folder or remove it.")
        first, history = state["step"], state["history"]
        student.load_state_dict(state["network"], strict=False)
        optimiser.load_state_dict(state["optimiser"])
        average = state["average"]

    def keep(step: int) -> None:
        save_state(stored, {
            "config": config.to_json(), "step": step, "network": _trained(student), "optimiser": optimiser.state_dict(),
            "average": average, "history": history,
        })  # fmt: skip
        write_losses(output, LOSSES, history)

    last = config.steps if until is None else min(until, config.steps)
    bar = tqdm(
        total=config.steps, initial=first, desc="train", unit="step", disable=progress is not None, mininterval=5
    )
    try:
        for step, batch in zip(range(first, last), ahead(batches, first, last, workers), strict=True):
            parts = _step(student, optimiser, targets, batch, step, config, device, mixed_precision)
            _follow(average, _trained(student), min(config.average, (step + 1) / (step + 10)))
            history.append([step + 1, *(round(parts.get(n, 0.0), 5) for n in LOSSES)])
            if (step + 1) % config.checkpoint == 0 or step + 1 == last:
                keep(step + 1)
            bar.update()
            bar.set_postfix(
                {n: f"{np.mean([h[k + 1] for h in history[-50:]]):.3f}" for k, n in enumerate(LOSSES)}, refresh=False
            )
            if progress:
                progress(Stage.TRAIN, step + 1, config.steps)
    finally:
        bar.close()
    student.load_state_dict(average, strict=False)
    student = student.cpu()
    if last == config.steps:
        fit_kernels(student, clips, chosen, targets, config, progress=progress)
        with torch.no_grad():
            student.prototypes.copy_(targets.prototypes)
            student.scores.bias[0] += config.calm
        save_student(student, output / "encoder.safetensors", {}, force=True)
        with whole_file(output / "config.json", force=True) as temporary:
            temporary.write_text(config.to_json(), "utf-8")
    return student.eval()


def _trained(student: Student) -> dict[str, torch.Tensor]:
    """What the steps change: the weights without the kernels, which are fitted after them."""
    return {key: value for key, value in student.state_dict().items() if "kernel." not in key}


def fit_kernels(
    student: Student,
    clips: Clips,
    chosen: np.ndarray,
    targets: Targets,
    config: TrainingConfig,
    *,
    progress: Progress | None = None,
) -> None:
    """Fit the student's kernels over the clip's statistics in closed form: what they know are `chosen` [M] clips in their natural voice.

    They answer for every clip in every voice and variation (Nystroem's approximation: Williams and Seeger 2001).
    """
    rows = torch.from_numpy(clips.statistics)
    rest, compared = from_rest(clips, chosen, config.seed)
    neutral = torch.from_numpy(rest)

    def alone(copy: int, which: np.ndarray) -> torch.Tensor:
        return student.scaled_statistics(rows[copy, which])

    def beside(copy: int, which: np.ndarray) -> torch.Tensor:
        return student.scaled_differences(rows[copy, which], neutral[copy, which])

    own = chosen[compared[chosen]]
    for kernel, given, which in ((student.kernel, alone, chosen), (student.neutral_kernel, beside, own)):
        _fit_kernel(student, kernel, given, which, clips, targets, config, progress)
    student.neutral_kernel.offset[0] += config.kernel_calm


def _principal(clips: torch.Tensor, config: StudentConfig) -> torch.Tensor:
    """Directions [D, inputs] along which `clips` [K, inputs] are to be compared; along them their mean square is 1."""
    directions = torch.zeros(config.directions, clips.shape[1])
    centred = clips - clips.mean(0)
    _, spread, axes = torch.linalg.svd(centred, full_matrices=False)
    count = min(config.directions, int((spread > 1e-4 * spread[0]).sum()))
    directions[:count] = axes[:count] * spread[:count, None] ** -config.evenness
    return directions / (centred @ directions.T).square().sum(1).mean().sqrt().clamp(min=1e-9)


_ROWS = 4096  # clips whose likeness is worked out at a time


def _fit_kernel(
    student: Student,
    kernel: Kernel,
    given: Callable[[int, np.ndarray], torch.Tensor],
    rows: np.ndarray,
    clips: Clips,
    targets: Targets,
    config: TrainingConfig,
    progress: Progress | None,
) -> None:
    """Fit one kernel.

    Args:
        student: whose space the coordinates lie in.
        kernel: changed in place.
        given: copy and clips [R] -> what the kernel takes of them [R, inputs].
        rows: clips [M] that it is fitted to; it knows at most `config.kernel_known` of them.
        clips, targets, config: of the training.
        progress: called as ("fit kernel", copies done, copies).
    """
    length = student.space_basis.norm(dim=1).clamp(min=1e-6)  # [basis]
    places = (targets.places - student.space_mean) @ (student.space_basis / length[:, None] ** 2).T  # [N, basis]
    classes = F.one_hot(targets.labels.clamp(min=0), len(config.student.emotions)).float()
    weight = torch.from_numpy(clip_weights(clips, rows, config))
    weight = (weight / weight.mean()).float()
    picked = torch.from_numpy(rows)
    sides = []  # labels and places are known of other clips
    for sure, wanted in (((targets.labels >= 0).float(), classes), (targets.weight, places)):
        own = weight * sure[picked]
        offset = own @ wanted[picked] / own.sum().clamp(min=1e-9)
        sides.append((own, wanted[picked] - offset, offset))
    natural = given(0, rows)
    kernel.directions = rounded(_principal(natural, config.student))
    known = natural
    if len(rows) > config.kernel_known:
        random = np.random.default_rng([config.seed, 4])
        known = natural[np.sort(random.choice(len(rows), config.kernel_known, replace=False))]
    kernel.known = rounded(known @ kernel.directions.T)
    count, copies = len(known), len(clips.statistics)
    grams = [torch.zeros(count, count, dtype=torch.float64) for _ in sides]
    moments = [torch.zeros(count, wanted.shape[1], dtype=torch.float64) for _, wanted, _ in sides]
    for copy in tqdm(range(copies), "fit kernel", unit="copy", leave=False, disable=progress is not None):
        if progress:
            progress(Stage.KERNEL, copy, copies)
        share = (config.kernel_natural if copy == 0 else 1.0) / (config.kernel_natural + copies - 1)
        for start in range(0, len(rows), _ROWS):
            part = slice(start, start + _ROWS)
            likeness = kernel.similarity(given(copy, rows[part]))  # [R, K]
            for gram, moment, (own, wanted, _) in zip(grams, moments, sides, strict=True):
                weighted = likeness.T * (share * own[part])
                gram += weighted @ likeness
                moment += weighted @ wanted[part]
    rough = config.kernel_ridge * kernel.similarity(known).double() + 1e-6 * torch.eye(count)
    answers = [torch.linalg.solve(gram + rough, moment).float() for gram, moment in zip(grams, moments, strict=True)]
    kernel.weights, kernel.offset = torch.cat(answers, 1), torch.cat([offset for *_, offset in sides])


LOSSES = ("label", "distance", "direction", "difference", "contrast")


def _step(
    student: Student,
    optimiser: torch.optim.Optimizer,
    targets: Targets,
    batch: tuple[torch.Tensor, torch.Tensor, np.ndarray],
    step: int,
    config: TrainingConfig,
    device: str,
    mixed_precision: bool,
) -> dict[str, float]:
    """One step of the optimiser; returns the parts of the loss."""
    heard, lengths, picked = batch
    torch.manual_seed(config.seed * 1_000_003 + step)  # dropout depends on the step alone: a resumed run repeats it
    random = np.random.default_rng([config.seed, step, 1])
    mixed = None
    if random.random() < config.mixup:
        share = float(random.beta(config.mixup_shape, config.mixup_shape))
        share, partner = max(share, 1 - share), random.permutation(len(picked))
        heard = share * heard + (1 - share) * heard[partner]
        lengths = torch.maximum(lengths, lengths[partner])
        mixed = (share, partner)
    rise = min(1.0, (step + 1) / config.warmup)
    fall = 0.5 + 0.5 * math.cos(math.pi * max(0, step - config.warmup) / max(1, config.steps - config.warmup))
    for group in optimiser.param_groups:
        group["lr"] = config.learning_rate * rise * fall + 1e-6
    student.train()
    with torch.autocast(device.split(":")[0], torch.bfloat16, enabled=mixed_precision):
        reading = student(student.prepare(heard.to(device), lengths.to(device)))
    parts = losses(reading, targets, picked, mixed, student.space_mean, config)
    optimiser.zero_grad()
    torch.stack(list(parts.values())).sum().backward()
    torch.nn.utils.clip_grad_norm_(student.parameters(), config.clip)
    optimiser.step()
    return {name: float(value.detach()) for name, value in parts.items()}


def _follow(average: dict[str, torch.Tensor], state: dict[str, torch.Tensor], decay: float) -> None:
    """Move the running average of the weights towards `state`."""
    for key, value in state.items():
        if value.is_floating_point():
            average[key].lerp_(value, 1 - decay)
        else:
            average[key].copy_(value)
