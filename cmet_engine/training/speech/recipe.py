"""One training run of the speech encoder, and what `cmet train encoder` does around it."""

import hashlib
import json
import math
import shutil
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from cmet_engine.emotion.speech import Student
from cmet_engine.emotion.student_weights import save_student
from cmet_engine.errors import InvalidInput
from cmet_engine.files import check_writable, read_json, whole_file
from cmet_engine.progress import Progress
from cmet_engine.training.corpora.speech import TEACHER, Corpus, read_corpus
from cmet_engine.training.loop import TOTAL, Checkpoint, LearningRate, Loop, load_state
from cmet_engine.training.speech.batches import Batch, Batches
from cmet_engine.training.speech.clips import Clips, prepare
from cmet_engine.training.speech.config import TrainingConfig
from cmet_engine.training.speech.kernels import fit_kernels
from cmet_engine.training.speech.losses import LOSSES, losses
from cmet_engine.training.speech.targets import Targets, clip_weights, make_targets, new_student, to_train_on

RUN = "run.json"
"""In a run's folder: what it was begun with, so that no other run goes on from its checkpoints."""

CHECKPOINT = "checkpoint.pt"
WEIGHTS = "encoder.safetensors"
CONFIG = "config.json"

NEEDED_BYTES = 200_000_000
"""Room for checkpoints and weights."""

BETAS = (0.9, 0.98)
"""Of AdamW, as transformers are trained (Vaswani et al. 2017, section 5.3)."""

LEAST_RATE = 1e-6
"""Added to the learning rate, which falls to 0 otherwise."""


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
        output: see `train_encoder`.
        config: every number; None: the defaults.
        device, workers, resume, progress: see `train_encoder`.
        cache: folder for the prepared acoustics; None: a folder `cache` in the output.

    Raises:
        CmetError: see `read_corpus`, `prepare` and `train_encoder`.
    """
    output = Path(output)
    config = config or TrainingConfig()
    found = read_corpus(corpus)
    # whatever would stop the run is reported before the recordings are prepared, which takes long
    if not any(r.name in found.teacher and r.speaker not in config.held_out for r in found.recordings):
        raise InvalidInput(
            f"{corpus}: no recording to train on has a feature of the teacher, whose space the encoder learns; "
            f"{TEACHER} must lie there (`cmet models pull emotion2vec`, then `cmet train teacher --data {corpus}`)."
        )
    begin_run(output, found, config, resume=resume)
    clips = prepare(found, output / "cache" if cache is None else cache, config, progress=progress)
    train_encoder(clips, config, output, device=device, workers=workers, resume=resume, progress=progress)
    return output / WEIGHTS


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
        raise InvalidInput(f"Cannot make the folder {output}: {error.strerror}.") from error
    check_writable(output / WEIGHTS, force=True)
    free = shutil.disk_usage(output).free
    if free < NEEDED_BYTES:
        raise InvalidInput(
            f"The disk that holds {output} has {free // 1_000_000} MB left; {NEEDED_BYTES // 1_000_000} are needed."
        )
    rows = sorted(f"{r.name} {r.speaker} {r.emotion} {r.name in corpus.teacher}" for r in corpus.recordings)
    digest = hashlib.sha256("\n".join(rows).encode()).hexdigest()
    begun = {"config": json.loads(config.to_json()), "recordings": digest}
    stored = output / CHECKPOINT
    if not resume:
        stored.unlink(missing_ok=True)
    elif (output / RUN).is_file() and stored.is_file():
        before = read_json(output / RUN)
        for key, words in (("config", "with another configuration"), ("recordings", "on other recordings")):
            if before.get(key) != begun[key]:
                raise InvalidInput(f"{output} holds a run {words}; give another folder, or --no-resume to begin anew.")
        load_state(stored)
    with whole_file(output / RUN, force=True) as temporary:
        temporary.write_text(json.dumps(begun, indent=2) + "\n", "utf-8")


def train_encoder(
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
        device: `cpu`, `cuda` or `mps`.
        mixed_precision: compute in bfloat16 where that is safe.
        workers: threads that make batches ahead.
        resume: go on from the folder's checkpoint when there is one.
        progress: called as `progress(stage, done, total)`.
        until: stop after this step, leaving a checkpoint (the schedule stays that of the whole run).

    Returns:
        The student with the averaged weights, in evaluation mode.

    Raises:
        CmetError: nothing to train on, or the checkpoint is damaged or belongs to another run.
    """
    output = Path(output)
    output.mkdir(parents=True, exist_ok=True)
    check_writable(output / WEIGHTS, force=True)
    chosen = to_train_on(clips, config)
    _check_neutral(clips, chosen)
    targets = make_targets(clips, chosen, config)
    student = new_student(clips, chosen, config).to(device)
    batches = Batches(clips, chosen, clip_weights(clips, chosen, config), config)
    if not resume:
        (output / CHECKPOINT).unlink(missing_ok=True)
    optimiser = torch.optim.AdamW(
        student.parameters(), lr=config.learning_rate, weight_decay=config.weight_decay, betas=BETAS
    )
    loop = Loop(
        student, optimiser, LearningRate(optimiser, learning_rate(config)), batches,
        _objective(student, targets, config, device, mixed_precision), LOSSES, config.steps,
        average=config.average, clip=config.clip, workers=workers, progress=progress,
        checkpoint=Checkpoint(
            output / CHECKPOINT, asdict(config), batches(0)[0].mean(1), config.checkpoint, curve="losses"
        ),
    )  # fmt: skip
    loop.run(until)
    student = student.cpu()
    if until is None or until >= config.steps:
        fit_kernels(student, clips, chosen, targets, config, progress=progress)
        _finish(student, targets, config, output)
    return student.eval()


def _finish(student: Student, targets: Targets, config: TrainingConfig, output: Path) -> None:
    """Set what is not trained, and write the encoder and its configuration."""
    with torch.no_grad():
        student.prototypes.copy_(targets.prototypes)
        student.scores.bias[0] += config.calm
    save_student(student, output / WEIGHTS, {}, force=True)
    with whole_file(output / CONFIG, force=True) as temporary:
        temporary.write_text(config.to_json(), "utf-8")


def learning_rate(config: TrainingConfig) -> Callable[[int], float]:
    """Step -> learning rate: a linear rise over `config.warmup` steps, times a cosine fall over the rest."""

    def at(step: int) -> float:
        rise = min(1.0, (step + 1) / config.warmup)
        fall = 0.5 + 0.5 * math.cos(math.pi * max(0, step - config.warmup) / max(1, config.steps - config.warmup))
        return config.learning_rate * rise * fall + LEAST_RATE

    return at


def _check_neutral(clips: Clips, chosen: np.ndarray) -> None:
    """Refuse data in which no speaker has two neutral clips."""
    counts = Counter(clips.speaker[chosen[clips.emotion[chosen] == "neutral"]].tolist())
    if max(counts.values(), default=0) < 2:
        raise InvalidInput(
            "No speaker to train on has two neutral clips, from which the encoder learns what neutral speech is; add some."
        )


def _objective(
    student: Student, targets: Targets, config: TrainingConfig, device: str, mixed_precision: bool
) -> Callable[[int, Batch], dict[str, Tensor]]:
    """(step number, batch) -> losses by name, some batches mixed up (Zhang et al. 2018, mixup)."""
    kind = device.split(":")[0]

    def objective(step: int, batch: Batch) -> dict[str, Tensor]:
        spoken, lengths, picked = batch
        torch.manual_seed(config.seed * 1_000_003 + step)  # dropout depends on the step alone
        random = np.random.default_rng([config.seed, step, 1])
        mixed = None
        if random.random() < config.mixup:
            share = float(random.beta(config.mixup_shape, config.mixup_shape))
            share, partner = max(share, 1 - share), random.permutation(len(picked))
            spoken = share * spoken + (1 - share) * spoken[partner]
            lengths = torch.maximum(lengths, lengths[partner])
            mixed = (share, partner)
        with torch.autocast(kind, torch.bfloat16, enabled=mixed_precision):
            reading = student(student.prepare(spoken.to(device), lengths.to(device)))
        parts = losses(reading, targets, picked, mixed, student.space_mean, config)
        return {**parts, TOTAL: torch.stack(list(parts.values())).sum()}

    return objective
