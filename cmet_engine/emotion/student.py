"""The student network: features of a clip in, a point in the emotion2vec+ large space and emotion scores out.

One part is kernel regression on the backbone's statistics of the clip (`Kernel`), the other a small network with
attention over time on log-mel bands and pitch. Names of parameters and of `StudentConfig` are those of the stored file.
"""

import functools
from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import nn

from cmet_engine.emotion.acoustics import AUDIBLE, BANDS, CHANNELS
from cmet_engine.emotion.backbone import STATISTICS, WIDTH
from cmet_engine.emotion.vector import VECTOR_SIZE
from cmet_engine.emotions import BASIC, NEUTRAL

SUMMARY_WIDTH = 128  # of the sequence part's summary of the whole clip
CLIP = 4.0  # standard deviations at which the kernels' inputs are clipped
EMOTIONS = (NEUTRAL, *BASIC, "bored")  # classes


@dataclass(frozen=True)
class StudentConfig:
    """Shape of the student network. How its numbers were chosen is in the model card, "Speech encoder".

    Attributes:
        stem: channels of the two convolutions over bands and time.
        channels: width of the sequence part, 12.5 steps a second.
        blocks: residual convolutions along time, dilation doubling.
        layers: transformer layers (attention over time).
        heads: attention heads, also those of the pooling.
        embedding: length of the utterance embedding.
        basis: principal directions of the teacher's space that the output spans.
        dropout: probability, in training.
        directions: principal directions of the statistics along which the kernels compare clips.
        evenness: exponent of the spread that each direction is divided by: 0 keeps the spread, 1 whitens.
        reach: decay rate of the kernel's similarity with distance, see `Kernel`.
        sharpness: factor from the kernels' class shares (0 to 1) to scores.
        share: weight of the sequence part in the features; the rest is the kernels'.
        score_share: weight of the sequence part in the scores.
        lean: weight of the mean of the class prototypes, by predicted probability, in the features.
        pool_lean: the same for a pool of recordings beside neutral ones of the same speaker, on top.
        pool_sharpness: factor on a pool's mean scores.
        emotions: classes; the first is neutral.
    """

    stem: tuple[int, int] = (32, 64)
    channels: int = 256
    blocks: int = 3
    layers: int = 1
    heads: int = 4
    embedding: int = 256
    basis: int = 64
    dropout: float = 0.2
    directions: int = 256
    evenness: float = 0.25
    reach: float = 0.5
    sharpness: float = 9.0
    share: float = 0.1
    score_share: float = 0.05
    lean: float = 0.1
    pool_lean: float = 0.6
    pool_sharpness: float = 3.0
    emotions: tuple[str, ...] = EMOTIONS


class ConvBlock(nn.Module):
    """Residual dilated convolution along time with squeeze-and-excitation (Desplanques et al. 2020, ECAPA-TDNN, section 3.2)."""

    def __init__(self, channels: int, dilation: int, dropout: float) -> None:
        super().__init__()
        self.norm = nn.BatchNorm1d(channels)
        self.inner = nn.Conv1d(channels, channels, 3, padding=dilation, dilation=dilation)
        self.inner_norm = nn.BatchNorm1d(channels)
        self.outer = nn.Conv1d(channels, channels, 1)
        self.squeeze = nn.Linear(channels, channels // 8)
        self.excite = nn.Linear(channels // 8, channels)
        self.dropout = nn.Dropout1d(dropout)

    def forward(self, hidden: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """`hidden` [B, C, T], `mask` [B, 1, T] (1 where there is sound) -> [B, C, T]."""
        inner = F.silu(self.inner_norm(self.inner(F.silu(self.norm(hidden)) * mask)))
        inner = self.outer(self.dropout(inner))
        mean = (inner * mask).sum(2) / mask.sum(2)  # [B, C]
        gate = torch.sigmoid(self.excite(F.silu(self.squeeze(mean))))
        return hidden + inner * gate[:, :, None]


def _statistics(scaled: torch.Tensor, loud: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean, deviation, 10th and 90th percentile and mean step of `scaled` [B, F, 84] over the `loud` [B, F] frames.

    Returns:
        All of them [B, 420] and the mean alone [B, 84].
    """
    weight = loud[:, :, None].to(scaled.dtype)
    count = weight.sum(1)  # [B, 1]
    mean = (scaled * weight).sum(1) / count
    deviation = (((scaled - mean[:, None]) ** 2 * weight).sum(1) / count + 1e-4).sqrt()
    ranked = scaled.masked_fill(~loud[:, :, None], torch.inf).sort(1).values
    at = (
        ((count[:, None] - 1) * torch.tensor([0.1, 0.9], device=scaled.device)[None, :, None]).round().long()
    )  # [B, 2, 1]
    percentiles = ranked.gather(1, at.expand(-1, -1, scaled.shape[2]))  # [B, 2, 84]
    both = weight[:, 1:] * weight[:, :-1]
    step = ((scaled[:, 1:] - scaled[:, :-1]).abs() * both).sum(1) / (both.sum(1) + 1.0)
    return torch.cat([mean, deviation, percentiles.flatten(1), step], 1), mean


class StudentOutput(NamedTuple):
    """Points in the teacher's space and emotion scores of clips or moments."""

    features: torch.Tensor  # [..., 1024]
    scores: torch.Tensor  # [..., classes], logits
    embedding: torch.Tensor  # [..., embedding]


class Kernel(nn.Module):
    """Kernel ridge regression from training clips (Saunders et al. 1998).

    Clips are compared along principal directions of their statistics. The similarity to a training clip is
    exp(-reach * d), where d is the squared distance in units of the training clips' mean square.

    Args:
        config: shape.
        inputs: numbers per clip.
        known: number of training clips.

    Attributes:
        directions: float32 [D, inputs], principal directions.
        known: float32 [K, D], training clips along them; their mean square is 1.
        weights: float32 [K, targets], dual coefficients; targets are class shares, then coordinates in the teacher's space.
        offset: float32 [targets], the prediction far from every training clip.
    """

    directions: torch.Tensor
    known: torch.Tensor
    weights: torch.Tensor
    offset: torch.Tensor

    def __init__(self, config: StudentConfig, inputs: int, known: int = 0) -> None:
        super().__init__()
        targets = len(config.emotions) + config.basis
        self.reach = config.reach
        self.register_buffer("directions", torch.zeros(config.directions, inputs))
        self.register_buffer("known", torch.zeros(known, config.directions))
        self.register_buffer("weights", torch.zeros(known, targets))
        self.register_buffer("offset", torch.zeros(targets))

    def similarity(self, clips: torch.Tensor) -> torch.Tensor:
        """Similarity of clips [B, inputs] to the training clips: [B, K], 0 to 1."""
        return torch.exp(-self.reach * squared_distances(clips @ self.directions.T, self.known))

    def forward(self, clips: torch.Tensor) -> torch.Tensor:
        """Clips [B, inputs] -> [B, targets]."""
        return self.similarity(clips) @ self.weights + self.offset


def squared_distances(some: torch.Tensor, others: torch.Tensor) -> torch.Tensor:
    """Squared distance of every row of `some` [B, D] from every row of `others` [K, D]: [B, K]."""
    squares = some.square().sum(1, keepdim=True) + others.square().sum(1)
    return torch.addmm(squares, some, others.T, alpha=-2).clamp(min=0)


class StudentInput(NamedTuple):
    """A batch of clips as input of the sequence part, one step every 20 ms."""

    scaled: torch.Tensor  # [B, T, 84], channels in units of their spread
    inside: torch.Tensor  # bool [B, T], not padding
    statistics: torch.Tensor  # [B, 420] over the spoken steps
    spectrograms: (
        torch.Tensor
    )  # [B, 2, T, 40], bands as they are, and minus the clip's mean, which depends on the microphone


class Student(nn.Module):
    """Log-mel and pitch in, attention over time, a point in the emotion2vec+ large space out.

    Args:
        config: shape.
        known: training clips of the kernel on a clip alone.
        known_beside: training clips of the kernel on a clip beside neutral speech of the same speaker.
    """

    statistics_mean: torch.Tensor
    statistics_scale: torch.Tensor
    difference_scale: torch.Tensor

    space_mean: torch.Tensor
    space_basis: torch.Tensor
    prototypes: torch.Tensor
    input_mean: torch.Tensor
    input_scale: torch.Tensor

    def __init__(self, config: StudentConfig, known: int = 0, known_beside: int = 0) -> None:
        super().__init__()
        self.config = config
        first, second = config.stem
        width = config.channels
        self.stem = nn.ModuleList(
            [nn.Conv2d(2, first, 3, stride=2, padding=1), nn.Conv2d(first, second, 3, stride=2, padding=1)]
        )
        self.stem_norms = nn.ModuleList([nn.BatchNorm2d(n) for n in config.stem])
        self.tracks = nn.Conv1d(CHANNELS - BANDS, 32, 9, stride=4, padding=4)
        self.entry = nn.Linear(second * BANDS // 8 + 32, width)
        self.blocks = nn.ModuleList([ConvBlock(width, 2**n, config.dropout) for n in range(config.blocks)])
        self.layers = nn.ModuleList(
            [
                nn.TransformerEncoderLayer(
                    width, config.heads, 2 * width, 0.0, F.silu, batch_first=True, norm_first=True
                )
                for _ in range(config.layers)
            ]
        )
        self.final_norm = nn.LayerNorm(width)
        self.attention = nn.Sequential(nn.Linear(width, 64), nn.Tanh(), nn.Linear(64, config.heads))
        self.summary = nn.Sequential(
            nn.BatchNorm1d(5 * CHANNELS), nn.Linear(5 * CHANNELS, SUMMARY_WIDTH), nn.SiLU(), nn.Dropout(config.dropout)
        )
        self.project = nn.Linear(2 * width + SUMMARY_WIDTH, config.embedding)
        self.embedding_norm = nn.LayerNorm(config.embedding)
        self.dropout = nn.Dropout(config.dropout)
        self.scores = nn.Linear(config.embedding, len(config.emotions))
        self.place = nn.Linear(config.embedding, config.basis)
        self.kernel = Kernel(config, STATISTICS, known)
        self.neutral_kernel = Kernel(config, 2 * STATISTICS, known_beside)
        self.register_buffer("statistics_mean", torch.zeros(STATISTICS))
        self.register_buffer("statistics_scale", torch.ones(STATISTICS))
        self.register_buffer("difference_scale", torch.ones(STATISTICS))
        self.register_buffer("input_mean", torch.zeros(CHANNELS))
        self.register_buffer("input_scale", torch.ones(CHANNELS))
        self.register_buffer("space_mean", torch.zeros(VECTOR_SIZE))
        self.register_buffer("space_basis", torch.zeros(config.basis, VECTOR_SIZE))
        self.register_buffer("prototypes", torch.zeros(len(config.emotions), VECTOR_SIZE))

    def scaled_statistics(self, statistics: torch.Tensor) -> torch.Tensor:
        """`statistics` [B, 1280] in units of their spread over the training clips, clipped, as input of `kernel`: [B, 1280]."""
        scaled = (statistics - self.statistics_mean) / self.statistics_scale
        return scaled.clamp(-CLIP, CLIP) * _network_weights(statistics.device)

    def scaled_differences(self, statistics: torch.Tensor, neutral: torch.Tensor) -> torch.Tensor:
        """Input of `neutral_kernel`: `scaled_statistics`, then their scaled difference from `neutral` [1280] or [B, 1280]: [B, 2560].

        `neutral` are mean statistics of neutral speech of the same speaker.
        """
        differences = ((statistics - neutral) / self.difference_scale).clamp(-CLIP, CLIP)
        return torch.cat([self.scaled_statistics(statistics), differences * _network_weights(statistics.device)], -1)

    def predict(self, statistics: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Kernel regression from `statistics` [B, 1280] of clips: features [B, 1024], scores [B, classes]."""
        return self._features_and_scores(self.kernel(self.scaled_statistics(statistics)))

    def predict_beside_neutral(
        self, statistics: torch.Tensor, neutral: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """`predict` with the mean statistics of `neutral` [1280] speech of the same speaker as a further input."""
        return self._features_and_scores(self.neutral_kernel(self.scaled_differences(statistics, neutral)))

    def _features_and_scores(self, targets: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        count = len(self.config.emotions)
        features = self.space_mean + targets[:, count:] @ self.space_basis
        return features, targets[:, :count] * self.config.sharpness

    def prepare(self, acoustics: torch.Tensor, lengths: torch.Tensor) -> StudentInput:
        """Input of the sequence part from `acoustics` [B, F, 84] and their lengths without padding [B]; T = ceil(F / 2)."""
        scaled = (acoustics - self.input_mean) / self.input_scale
        scaled = F.avg_pool1d(scaled.transpose(1, 2), 2, ceil_mode=True).transpose(1, 2)  # [B, T, 84], 20 ms
        lengths = ((lengths + 1) // 2).clamp(max=scaled.shape[1])
        inside = torch.arange(scaled.shape[1], device=scaled.device)[None] < lengths[:, None]  # [B, T]
        energy = scaled[:, :, -1] * self.input_scale[-1] + self.input_mean[-1]
        loud = inside & (energy > AUDIBLE)
        loud = torch.where(loud.sum(1, keepdim=True) >= 5, loud, inside)
        statistics, mean = _statistics(scaled, loud)
        keep = inside[:, :, None].to(scaled.dtype)
        halves = scaled[:, :, :BANDS].unflatten(2, (BANDS // 2, 2)).mean(3)  # [B, T, 40]
        own = mean[:, None, :BANDS].unflatten(2, (BANDS // 2, 2)).mean(3)
        return StudentInput(scaled, inside, statistics, torch.stack([halves * keep, (halves - own) * keep], 1))

    def encode_sequence(self, clips: StudentInput) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """A batch of clips of T steps -> hidden [B, T / 4, C], mask [B, T / 4] (False on padding), summary [B, 128]."""
        summary = self.summary(clips.statistics)
        spectrograms = clips.spectrograms
        for convolution, norm in zip(self.stem, self.stem_norms, strict=True):
            spectrograms = F.silu(norm(convolution(spectrograms)))  # -> [B, c, T/4, 10]
        keep = clips.inside[:, :, None].to(clips.scaled.dtype)
        tracks = F.silu(self.tracks((clips.scaled[:, :, BANDS:] * keep).transpose(1, 2)))  # [B, 32, T/4]
        steps = min(spectrograms.shape[2], tracks.shape[2])
        joined = torch.cat(
            [spectrograms[:, :, :steps].transpose(1, 2).flatten(2), tracks[:, :, :steps].transpose(1, 2)], 2
        )
        lengths = clips.inside.sum(1)
        mask = (
            torch.arange(steps, device=joined.device)[None] < ((lengths + 3) // 4).clamp(max=steps)[:, None]
        )  # [B, T/4]
        hidden = (self.entry(joined) * mask[:, :, None]).transpose(1, 2)
        for block in self.blocks:
            hidden = block(hidden, mask[:, None].float())
        hidden = hidden.transpose(1, 2)
        for layer in self.layers:
            hidden = layer(hidden, src_key_padding_mask=~mask)
        return self.final_norm(hidden), mask, summary

    def pool(self, hidden: torch.Tensor, weight: torch.Tensor, summary: torch.Tensor) -> StudentOutput:
        """Attentive statistics (Okabe et al. 2018) of `hidden` [B, T, C], attention times `weight` [B, P, T]: P outputs per clip."""
        attention = (self.attention(hidden).float() - 4.0).clamp(max=8.0).exp()  # [B, T, H]
        together = weight[:, :, :, None] * attention[:, None]  # [B, P, T, H]
        together = together / (together.sum(2, keepdim=True) + 1e-9)
        values = hidden.float().unflatten(2, (self.config.heads, -1))  # [B, T, H, C/H]
        mean = torch.einsum("bpth,bthc->bphc", together, values)
        square = torch.einsum("bpth,bthc->bphc", together, values**2)
        deviation = (square - mean**2).clamp(min=1e-5).sqrt()
        pooled = torch.cat([mean.flatten(2), deviation.flatten(2)], 2)
        pooled = torch.cat([pooled, summary[:, None].expand(-1, pooled.shape[1], -1)], 2)
        embedding = self.embedding_norm(self.project(self.dropout(pooled)))
        active = self.dropout(F.silu(embedding))
        return StudentOutput(self.space_mean + self.place(active) @ self.space_basis, self.scores(active), embedding)

    def forward(self, clips: StudentInput) -> StudentOutput:
        """Prediction of the sequence part for a batch of clips: features [B, 1024], scores [B, classes], embedding."""
        hidden, mask, summary = self.encode_sequence(clips)
        output = self.pool(hidden, mask[:, None].float(), summary)
        return StudentOutput(*(part[:, 0] for part in output))


@functools.cache
def _network_weights(device: torch.device) -> torch.Tensor:
    """Factors on the statistics by which each network of the backbone counts half: float32 [1280]."""
    whisper = 2 * WIDTH
    counts = torch.tensor([whisper, STATISTICS - whisper], device=device)
    return (0.5 / counts.float()).sqrt().repeat_interleave(counts)
