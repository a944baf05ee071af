"""The student's kernels over the statistics of a clip, fitted in closed form."""

from collections.abc import Callable

import numpy as np
import torch
import torch.nn.functional as F

from cmet_engine.emotion.speech import Student
from cmet_engine.emotion.student import Kernel, StudentConfig
from cmet_engine.models.quantisation import rounded
from cmet_engine.progress import Progress, Stage
from cmet_engine.training.speech.clips import Clips
from cmet_engine.training.speech.config import TrainingConfig
from cmet_engine.training.speech.targets import Targets, clip_weights


def neutral_statistics(clips: Clips, chosen: np.ndarray, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Statistics of neutral speech to compare each clip with: the mean over some other neutral clips of the same voice.

    Every clip has a random pool of its own in every copy, of one clip up to all, since users have few or many.

    Args:
        clips: every copy of a speaker is another voice, with neutral clips of its own.
        chosen: clips [M] whose neutral speech may be used.
        seed: of the pools.

    Returns:
        float32 [copies, N, 1280], and bool [N], whether there is neutral speech for the clip at all.
    """
    random = np.random.default_rng([seed, 3])
    neutral = np.zeros(len(clips), bool)
    neutral[chosen] = clips.emotion[chosen] == "neutral"
    compared, known = np.zeros_like(clips.statistics), np.zeros(len(clips), bool)
    for clip in chosen:
        pool = np.flatnonzero(neutral & (clips.speaker == clips.speaker[clip]))
        pool = pool[pool != clip]
        if not len(pool):
            continue
        known[clip] = True
        for copy in range(len(compared)):
            count = round(len(pool) ** random.random())
            compared[copy, clip] = clips.statistics[copy, random.choice(pool, count, replace=False)].mean(0)
    return compared, known


def fit_kernels(
    student: Student,
    clips: Clips,
    chosen: np.ndarray,
    targets: Targets,
    config: TrainingConfig,
    *,
    progress: Progress | None = None,
) -> None:
    """Fit the student's kernels over the clip's statistics in closed form.

    Their centres are `chosen` [M] clips in the natural voice; they are fitted to every clip in every copy (Nystroem's
    approximation: Williams and Seeger 2001).
    """
    rows = torch.from_numpy(clips.statistics)
    statistics, comparable = neutral_statistics(clips, chosen, config.seed)
    neutral = torch.from_numpy(statistics)

    def alone(copy: int, which: np.ndarray) -> torch.Tensor:
        return student.scaled_statistics(rows[copy, which])

    def beside(copy: int, which: np.ndarray) -> torch.Tensor:
        return student.scaled_differences(rows[copy, which], neutral[copy, which])

    own = chosen[comparable[chosen]]
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


_ROWS = 4096  # clips whose similarity is computed at a time


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
        rows: clips [M] that it is fitted to; at most `config.kernel_known` of them are its centres.
        clips, targets, config: of the training.
        progress: called as `progress(Stage.KERNEL, copies done, copies)`.
    """
    length = student.space_basis.norm(dim=1).clamp(min=1e-6)  # [basis]
    places = (targets.places - student.space_mean) @ (student.space_basis / length[:, None] ** 2).T  # [N, basis]
    classes = F.one_hot(targets.labels.clamp(min=0), len(config.student.emotions)).float()
    weight = torch.from_numpy(clip_weights(clips, rows, config))
    weight = (weight / weight.mean()).float()
    picked = torch.from_numpy(rows)
    sides = []  # labels are known of some clips, places of others
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
    for copy in range(copies):
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
