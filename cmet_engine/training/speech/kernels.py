"""The speech encoder's heads, fitted in closed form."""

from collections.abc import Callable

import numpy as np

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
    usual = clips.statistics[0][chosen]
    of = np.unique(clips.speaker[chosen], return_inverse=True)[1]
    own_mean = np.stack([usual[of == speaker].mean(0) for speaker in range(of.max() + 1)])
    scales = usual.mean(0), usual.std(0) + np.float32(1e-6), (usual - own_mean[of]).std(0) + np.float32(1e-6)
    unfitted = Kernel(config.heads.reach, *[np.zeros((0, 0), np.float32)] * 4)
    heads = Heads(config.heads, unfitted, unfitted, *scales)
    rows = clips.statistics

    def alone(copy: int, which: np.ndarray) -> np.ndarray:
        return heads.scaled_statistics(rows[copy, which])

    heads.kernel = _fit_kernel(alone, chosen, clips, config, progress)
    if not beside:
        return heads
    neutral, comparable = neutral_statistics(clips, chosen, config.seed)

    def compared(copy: int, which: np.ndarray) -> np.ndarray:
        return heads.scaled_differences(rows[copy, which], neutral[copy, which])

    own = chosen[comparable[chosen]]
    heads.neutral_kernel = _fit_kernel(compared, own, clips, config, progress)
    heads.neutral_kernel.offset[0] += config.calm
    return heads


def _principal(inputs: np.ndarray, config: HeadsConfig) -> np.ndarray:
    """Directions [D, inputs] along which `inputs` [K, inputs] are to be compared; along them their mean square is 1."""
    directions = np.zeros((config.directions, inputs.shape[1]), np.float32)
    centred = inputs - inputs.mean(0)
    if len(inputs) < inputs.shape[1]:
        _, spread, axes = np.linalg.svd(centred, full_matrices=False)  # the same, quicker for few recordings
    else:
        spread, axes = np.linalg.eigh(centred.T @ centred)
        spread, axes = np.sqrt(np.maximum(spread[::-1], 0)), axes[:, ::-1].T
    count = min(config.directions, len(inputs), int((spread > 1e-4 * spread[0]).sum()))
    directions[:count] = axes[:count] * spread[:count, None] ** -config.evenness
    return directions / max(np.sqrt(np.square(centred @ directions.T).sum(1).mean()), np.float32(1e-9))


def _fit_kernel(
    given: Callable[[int, np.ndarray], np.ndarray],
    rows: np.ndarray,
    clips: Clips,
    config: TrainingConfig,
    progress: Progress | None,
) -> Kernel:
    """Fit one kernel.

    Args:
        given: copy and clips [R] -> what the kernel takes of them [R, inputs].
        rows: clips [M] that it is fitted to; at most `config.known` of them are its centres.
        clips, config: of the training.
        progress: called as `progress(Stage.KERNEL, copies done, copies)`.
    """
    wanted = clips.shares(config.heard, config.heads.emotions)[rows]
    weight = clip_weights(clips, rows, config).astype(np.float32)
    offset = weight @ wanted / weight.sum()
    natural = given(0, rows)
    directions = rounded(_principal(natural, config.heads))
    known = natural
    if len(rows) > config.known:
        random = np.random.default_rng([config.seed, 4])
        known = natural[np.sort(random.choice(len(rows), config.known, replace=False))]
    weights = np.zeros((len(known), wanted.shape[1]), np.float32)
    kernel = Kernel(config.heads.reach, directions, rounded(known @ directions.T), weights, offset)
    count, copies = len(known), len(clips.statistics)
    gram, moment = np.zeros((count, count)), np.zeros(weights.shape)
    for copy in range(copies):
        if progress:
            progress(Stage.KERNEL, copy, copies)
        share = (config.natural if copy == 0 else 1.0) / (config.natural + copies - 1)
        for start in range(0, len(rows), _ROWS):
            part = slice(start, start + _ROWS)
            likeness = kernel.similarity(given(copy, rows[part]))  # [R, K]
            weighted = likeness.T * (np.float32(share) * weight[part])
            gram += weighted @ likeness
            moment += weighted @ (wanted[part] - offset)
    rough = config.ridge * kernel.similarity(known).astype(np.float64) + 1e-6 * np.eye(count)
    kernel.weights = np.linalg.solve(gram + rough, moment).astype(np.float32)
    return kernel
