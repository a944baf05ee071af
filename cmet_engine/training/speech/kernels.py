"""The speech encoder's heads, fitted in closed form."""

from collections.abc import Callable

import numpy as np
import torch

from cmet_engine.emotion.heads import Heads, HeadsConfig, Kernel
from cmet_engine.models.quantisation import rounded
from cmet_engine.progress import Progress, Stage
from cmet_engine.training.speech.clips import Clips
from cmet_engine.training.speech.config import TrainingConfig
from cmet_engine.training.speech.targets import clip_weights

_ROWS = 4096  # clips whose similarity is computed at a time


def neutral_statistics(clips: Clips, chosen: np.ndarray, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Statistics of neutral speech to compare each clip with: the mean over some other neutral clips of the same voice.

    Every clip has a random pool of its own in every copy, of one clip up to all, since users have few or many. A speaker
    without neutral clips, as the synthetic voice of the extended emotions, is compared with all of its clips.

    Args:
        clips: to draw from.
        chosen: clips [M] whose neutral speech may be used.
        seed: of the pools.

    Returns:
        float32 [copies, N, 1280], and bool [N], whether there is speech to compare the clip with at all.
    """
    random = np.random.default_rng([seed, 3])
    compared, known = np.zeros_like(clips.statistics), np.zeros(len(clips), bool)
    for speaker in np.unique(clips.speaker[chosen]):
        own = chosen[clips.speaker[chosen] == speaker]
        neutral = own[clips.emotion[own] == "neutral"]
        neutral = neutral if len(neutral) else own
        for clip in own:
            pool = neutral[neutral != clip]
            if not len(pool):
                continue
            known[clip] = True
            for copy in range(len(compared)):
                count = round(len(pool) ** random.random())
                compared[copy, clip] = clips.statistics[copy, random.choice(pool, count, replace=False)].mean(0)
    return compared, known


def fit_heads(
    clips: Clips, chosen: np.ndarray, config: TrainingConfig, *, beside: bool = True, progress: Progress | None = None
) -> Heads:
    """Heads whose kernels are fitted in closed form to the `chosen` [M] clips; off `beside`, without the one beside neutral speech.

    Their centres are clips as they are; they are fitted to every clip in every copy (Nystroem's approximation: Williams
    and Seeger 2001).
    """
    heads = Heads(config.heads)
    usual = clips.statistics[0][chosen]
    heads.statistics_mean.copy_(torch.from_numpy(usual.mean(0)))
    heads.statistics_scale.copy_(torch.from_numpy(usual.std(0) + 1e-6))
    of = np.unique(clips.speaker[chosen], return_inverse=True)[1]
    own_mean = np.stack([usual[of == speaker].mean(0) for speaker in range(of.max() + 1)])
    heads.difference_scale.copy_(torch.from_numpy((usual - own_mean[of]).std(0) + 1e-6))
    rows = torch.from_numpy(clips.statistics)

    def alone(copy: int, which: np.ndarray) -> torch.Tensor:
        return heads.scaled_statistics(rows[copy, which])

    _fit_kernel(heads.kernel, alone, chosen, clips, config, progress)
    if not beside:
        return heads.eval()
    statistics, comparable = neutral_statistics(clips, chosen, config.seed)
    neutral = torch.from_numpy(statistics)

    def compared(copy: int, which: np.ndarray) -> torch.Tensor:
        return heads.scaled_differences(rows[copy, which], neutral[copy, which])

    own = chosen[comparable[chosen]]
    _fit_kernel(heads.neutral_kernel, compared, own, clips, config, progress)
    heads.neutral_kernel.offset[0] += config.calm
    return heads.eval()


def _principal(inputs: torch.Tensor, config: HeadsConfig) -> torch.Tensor:
    """Directions [D, inputs] along which `inputs` [K, inputs] are to be compared; along them their mean square is 1."""
    directions = torch.zeros(config.directions, inputs.shape[1])
    centred = inputs - inputs.mean(0)
    if len(inputs) < inputs.shape[1]:
        _, spread, axes = torch.linalg.svd(centred, full_matrices=False)  # the same, quicker for few recordings
    else:
        spread, axes = torch.linalg.eigh(centred.T @ centred)
        spread, axes = spread.flip(0).clamp(min=0).sqrt(), axes.flip(1).T
    count = min(config.directions, len(inputs), int((spread > 1e-4 * spread[0]).sum()))
    directions[:count] = axes[:count] * spread[:count, None] ** -config.evenness
    return directions / (centred @ directions.T).square().sum(1).mean().sqrt().clamp(min=1e-9)


def _fit_kernel(
    kernel: Kernel,
    given: Callable[[int, np.ndarray], torch.Tensor],
    rows: np.ndarray,
    clips: Clips,
    config: TrainingConfig,
    progress: Progress | None,
) -> None:
    """Fit one kernel.

    Args:
        kernel: changed in place.
        given: copy and clips [R] -> what the kernel takes of them [R, inputs].
        rows: clips [M] that it is fitted to; at most `config.known` of them are its centres.
        clips, config: of the training.
        progress: called as `progress(Stage.KERNEL, copies done, copies)`.
    """
    wanted = torch.from_numpy(clips.shares(config.heard, config.heads.emotions))[torch.from_numpy(rows)]
    weight = torch.from_numpy(clip_weights(clips, rows, config)).float()
    kernel.offset = weight @ wanted / weight.sum()
    natural = given(0, rows)
    kernel.directions = rounded(_principal(natural, config.heads))
    known = natural
    if len(rows) > config.known:
        random = np.random.default_rng([config.seed, 4])
        known = natural[np.sort(random.choice(len(rows), config.known, replace=False))]
    kernel.known = rounded(known @ kernel.directions.T)
    count, copies = len(known), len(clips.statistics)
    gram = torch.zeros(count, count, dtype=torch.float64)
    moment = torch.zeros(count, wanted.shape[1], dtype=torch.float64)
    for copy in range(copies):
        if progress:
            progress(Stage.KERNEL, copy, copies)
        share = (config.natural if copy == 0 else 1.0) / (config.natural + copies - 1)
        for start in range(0, len(rows), _ROWS):
            part = slice(start, start + _ROWS)
            likeness = kernel.similarity(given(copy, rows[part]))  # [R, K]
            weighted = likeness.T * (share * weight[part])
            gram += weighted @ likeness
            moment += weighted @ (wanted[part] - kernel.offset)
    rough = config.ridge * kernel.similarity(known).double() + 1e-6 * torch.eye(count)
    kernel.weights = torch.linalg.solve(gram + rough, moment).float()
