"""What is trained of the speech encoder: heads that tell emotions from the backbone's statistics of a recording.

Names of attributes and of `HeadsConfig` are those of the stored file.
"""

from dataclasses import dataclass

import numpy as np

from cmet_engine.emotion.backbone import STATISTICS, WIDTH
from cmet_engine.emotion.vector import LENGTH, VECTOR_SIZE
from cmet_engine.emotions import BASIC, EXTENDED, LIBRARY, NEUTRAL

CLIP = 4.0  # standard deviations at which the inputs are clipped
BORED = "bored"
EMOTIONS = (NEUTRAL, *BASIC, BORED, *EXTENDED)  # classes


@dataclass(frozen=True)
class HeadsConfig:
    """Shape of the heads. How its numbers were chosen is in the model card, "Speech encoder".

    Attributes:
        directions: principal directions of the statistics along which the kernels compare recordings.
        evenness: exponent of the spread that each direction is divided by: 0 keeps the spread, 1 whitens.
        reach: decay rate of the kernel's similarity with distance, see `Kernel`.
        own: weight of a recording's own statistics beside their difference from neutral speech.
        sharpness: factor from the kernels' class shares (0 to 1) to scores.
        pool_sharpness: factor on a pool's mean scores.
        emotions: classes; the first is neutral.
    """

    directions: int = 256
    evenness: float = 0.25
    reach: float = 0.5
    own: float = 0.5
    sharpness: float = 9.0
    pool_sharpness: float = 3.0
    emotions: tuple[str, ...] = EMOTIONS


@dataclass
class Kernel:
    """Kernel ridge regression from training recordings (Saunders et al. 1998).

    Recordings are compared along principal directions of their statistics. The similarity to a training recording is
    exp(-reach * d), where d is the squared distance in units of the training recordings' mean square.

    Attributes:
        reach: see above.
        directions: float32 [D, inputs], principal directions.
        known: float32 [K, D], training recordings along them; their mean square is 1.
        weights: float32 [K, classes], dual coefficients.
        offset: float32 [classes], the prediction far from every training recording.
    """

    reach: float
    directions: np.ndarray
    known: np.ndarray
    weights: np.ndarray
    offset: np.ndarray

    def similarity(self, inputs: np.ndarray) -> np.ndarray:
        """Similarity of recordings [B, inputs] to the training recordings: [B, K], 0 to 1."""
        return np.exp(-self.reach * squared_distances(inputs @ self.directions.T, self.known))

    def __call__(self, inputs: np.ndarray) -> np.ndarray:
        """Recordings [B, inputs] -> class shares [B, classes]."""
        return self.similarity(inputs) @ self.weights + self.offset


def squared_distances(some: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Squared distance of every row of `some` [B, D] from every row of `others` [K, D]: [B, K]."""
    squares = np.square(some).sum(1, keepdims=True) + np.square(others).sum(1)
    return np.maximum(squares - 2 * (some @ others.T), 0)


@dataclass
class Heads:
    """Statistics of a recording in, scores of the emotions out; alone, or beside neutral speech of the same voice.

    Attributes:
        config: shape.
        kernel: on a recording alone.
        neutral_kernel: on a recording beside neutral speech.
        statistics_mean, statistics_scale: float32 [1280], of the training recordings.
        difference_scale: float32 [1280], spread of the training recordings around their speakers' means.
    """

    config: HeadsConfig
    kernel: Kernel
    neutral_kernel: Kernel
    statistics_mean: np.ndarray
    statistics_scale: np.ndarray
    difference_scale: np.ndarray

    def scaled_statistics(self, statistics: np.ndarray) -> np.ndarray:
        """`statistics` [B, 1280] in units of their spread over the training recordings, clipped: [B, 1280]."""
        scaled = (statistics - self.statistics_mean) / self.statistics_scale
        return np.clip(scaled, -CLIP, CLIP) * _NETWORK_WEIGHTS

    def scaled_differences(self, statistics: np.ndarray, neutral: np.ndarray) -> np.ndarray:
        """Input of `neutral_kernel`: `scaled_statistics` at `own` of their size, then their scaled difference from `neutral`: [B, 2560].

        `neutral` [1280] or [B, 1280] are mean statistics of neutral speech of the same voice.
        """
        differences = np.clip((statistics - neutral) / self.difference_scale, -CLIP, CLIP)
        own = self.config.own * self.scaled_statistics(statistics)
        return np.concatenate([own, differences * _NETWORK_WEIGHTS], -1)

    def __call__(self, statistics: np.ndarray, neutral: np.ndarray | None = None) -> np.ndarray:
        """Scores [B, classes] of recordings with `statistics` [B, 1280].

        Args:
            statistics: of each recording.
            neutral: mean statistics [1280] or [B, 1280] of neutral speech of the same voice; None: there is none.
        """
        if neutral is None or not len(self.neutral_kernel.known):
            shares = self.kernel(self.scaled_statistics(statistics))
        else:
            shares = self.neutral_kernel(self.scaled_differences(statistics, neutral))
        return shares * self.config.sharpness


def places(probabilities: np.ndarray) -> np.ndarray:
    """Where recordings with these `probabilities` [..., classes] of `EMOTIONS` lie: float32 [..., 13]."""
    return (probabilities @ _PLACES).astype(np.float32)


def _class_places() -> np.ndarray:
    """Place of each class: float32 [classes, 13]. Boredom, which the library does not have, is half as far as sadness."""
    table = np.zeros((len(EMOTIONS), VECTOR_SIZE), np.float32)
    for name in LIBRARY:
        table[EMOTIONS.index(name), LIBRARY.index(name)] = LENGTH
    table[EMOTIONS.index(BORED), LIBRARY.index("sad")] = LENGTH / 2
    return table


_PLACES = _class_places()

_NETWORK_WEIGHTS = np.sqrt(0.5 / np.repeat([2 * WIDTH, STATISTICS - 2 * WIDTH], [2 * WIDTH, STATISTICS - 2 * WIDTH]))
_NETWORK_WEIGHTS = _NETWORK_WEIGHTS.astype(np.float32)
"""Factors [1280] on the statistics by which each network of the backbone counts half."""
