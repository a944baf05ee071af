"""Batches of acoustics for the speech encoder, augmented."""

import math

import numpy as np
import torch
import torch.nn.functional as F

from cmet_engine.emotion.acoustics import BANDS, CHANNELS, FLOOR
from cmet_engine.training.speech.clips import Clips
from cmet_engine.training.speech.config import TrainingConfig


def augment(batch: torch.Tensor, lengths: torch.Tensor, random: torch.Generator) -> torch.Tensor:
    """Vary `batch` [B, F, 84] as other rooms, microphones and channels would, in the log-power domain."""
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
    # telephone and other narrow channels
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
    keep = (uniform(count, 1, 1) > 0.15).float()  # sometimes no pitch at all
    tracks[:, :, :3] = tracks[:, :, :3] * keep
    return torch.cat([mel, tracks], 2)


Batch = tuple[torch.Tensor, torch.Tensor, np.ndarray]
"""Acoustics [B, F, 84], lengths [B], clip numbers [B]."""


class Batches:
    """Endless random batches, each made from the seed and its number alone, so that a resumed run repeats them.

    Args:
        clips, chosen, weights: what is drawn from and how often.
        config: every number.
    """

    def __init__(self, clips: Clips, chosen: np.ndarray, weights: np.ndarray, config: TrainingConfig) -> None:
        self.clips, self.chosen, self.config = clips, chosen, config
        self.probability = weights / weights.sum()

    def __call__(self, step: int) -> Batch:
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
