"""What is trained of the speech encoder: heads that tell emotions from the backbone's statistics of a recording.

Names of parameters and of `HeadsConfig` are those of the stored file.
"""

import functools
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

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


class Kernel(nn.Module):
    """Kernel ridge regression from training recordings (Saunders et al. 1998).

    Recordings are compared along principal directions of their statistics. The similarity to a training recording is
    exp(-reach * d), where d is the squared distance in units of the training recordings' mean square.

    Args:
        config: shape.
        inputs: numbers per recording.
        known: number of training recordings.

    Attributes:
        directions: float32 [D, inputs], principal directions.
        known: float32 [K, D], training recordings along them; their mean square is 1.
        weights: float32 [K, classes], dual coefficients.
        offset: float32 [classes], the prediction far from every training recording.
    """

    directions: torch.Tensor
    known: torch.Tensor
    weights: torch.Tensor
    offset: torch.Tensor

    def __init__(self, config: HeadsConfig, inputs: int, known: int = 0) -> None:
        super().__init__()
        self.reach = config.reach
        self.register_buffer("directions", torch.zeros(config.directions, inputs))
        self.register_buffer("known", torch.zeros(known, config.directions))
        self.register_buffer("weights", torch.zeros(known, len(config.emotions)))
        self.register_buffer("offset", torch.zeros(len(config.emotions)))

    def similarity(self, inputs: torch.Tensor) -> torch.Tensor:
        """Similarity of recordings [B, inputs] to the training recordings: [B, K], 0 to 1."""
        return torch.exp(-self.reach * squared_distances(inputs @ self.directions.T, self.known))

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        """Recordings [B, inputs] -> class shares [B, classes]."""
        return self.similarity(inputs) @ self.weights + self.offset


def squared_distances(some: torch.Tensor, others: torch.Tensor) -> torch.Tensor:
    """Squared distance of every row of `some` [B, D] from every row of `others` [K, D]: [B, K]."""
    squares = some.square().sum(1, keepdim=True) + others.square().sum(1)
    return torch.addmm(squares, some, others.T, alpha=-2).clamp(min=0)


class Heads(nn.Module):
    """Statistics of a recording in, scores of the emotions out; alone, or beside neutral speech of the same voice.

    Args:
        config: shape.
        known: training recordings of the kernel on a recording alone.
        known_beside: training recordings of the kernel on a recording beside neutral speech.
    """

    statistics_mean: torch.Tensor
    statistics_scale: torch.Tensor
    difference_scale: torch.Tensor

    def __init__(self, config: HeadsConfig, known: int = 0, known_beside: int = 0) -> None:
        super().__init__()
        self.config = config
        self.kernel = Kernel(config, STATISTICS, known)
        self.neutral_kernel = Kernel(config, 2 * STATISTICS, known_beside)
        self.register_buffer("statistics_mean", torch.zeros(STATISTICS))
        self.register_buffer("statistics_scale", torch.ones(STATISTICS))
        self.register_buffer("difference_scale", torch.ones(STATISTICS))

    def scaled_statistics(self, statistics: torch.Tensor) -> torch.Tensor:
        """`statistics` [B, 1280] in units of their spread over the training recordings, clipped: [B, 1280]."""
        scaled = (statistics - self.statistics_mean) / self.statistics_scale
        return scaled.clamp(-CLIP, CLIP) * _network_weights(statistics.device)

    def scaled_differences(self, statistics: torch.Tensor, neutral: torch.Tensor) -> torch.Tensor:
        """Input of `neutral_kernel`: `scaled_statistics` at `own` of their size, then their scaled difference from `neutral`: [B, 2560].

        `neutral` [1280] or [B, 1280] are mean statistics of neutral speech of the same voice.
        """
        differences = ((statistics - neutral) / self.difference_scale).clamp(-CLIP, CLIP)
        own = self.config.own * self.scaled_statistics(statistics)
        return torch.cat([own, differences * _network_weights(statistics.device)], -1)

    def forward(self, statistics: torch.Tensor, neutral: torch.Tensor | None = None) -> torch.Tensor:
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


@functools.cache
def _network_weights(device: torch.device) -> torch.Tensor:
    """Factors on the statistics by which each network of the backbone counts half: float32 [1280]."""
    whisper = 2 * WIDTH
    counts = torch.tensor([whisper, STATISTICS - whisper], device=device)
    return (0.5 / counts.float()).sqrt().repeat_interleave(counts)
