"""How emotional speech is heard: a small student network in the emotion2vec+ large space (1024 dimensions).

A wave is heard by the lower layers of two published networks (`trunk`) and becomes log-mel bands and a pitch track
(`acoustics`). One part of the `Student` judges what the trunk makes of the clip as a whole by the clips it knows that are like
it; a small part pays attention over time to the bands and the pitch. An utterance is the weighted mean of both. Where neutral
speech of the same voice is at hand, as it is wherever an emotion vector is made from two pools, the first part is told how the
clip differs from it: much of what makes a voice sound moved is how it departs from its own rest. `Encoder` puts all of it behind plain numpy calls. Gain does not matter: every
clip is measured against its own loud frames, as the teacher normalises its wave.
"""

import functools
import itertools
import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from scipy.ndimage import gaussian_filter1d
from scipy.signal import resample_poly
from torch import nn

from cmet_engine import cache
from cmet_engine.emotion.acoustics import (
    AUDIBLE,
    BANDS,
    CHANNELS,
    HOP,
    RATE,
    VOICED,
    acoustics,
)
from cmet_engine.emotion.backbone import EMBEDDED as TRUNK
from cmet_engine.emotion.backbone import STATISTICS, WIDTH, Trunk, load_trunk
from cmet_engine.emotions import BASIC, NEUTRAL
from cmet_engine.errors import CmetError
from cmet_engine.files import whole_file
from cmet_engine.media import audio
from cmet_engine.models import assets
from cmet_engine.models.device import resolve
from cmet_engine.models.quantisation import pack, read

SUMMARY = 128  # width of what is known of the clip as a whole
SPACE = 1024  # dimensions of the emotion2vec+ large space
WIDEST = 4.0  # units of spread that statistics are told up to
_EXACT = ("kernel.weights", "neutral_kernel.weights", "statistics_", "difference_")  # stored as float32
_EIGHT = ("directions", "known")  # stored in eight bits
EMOTIONS = (NEUTRAL, *BASIC, "bored")


@dataclass(frozen=True)
class StudentConfig:
    """Shape of the student network.

    Attributes:
        stem: channels of the two convolutions over bands and time.
        channels: width of the sequence part, 12.5 steps a second.
        blocks: residual convolutions along time, dilation doubling.
        layers: transformer layers (attention over time).
        heads: attention heads, also those of the pooling.
        embedding: length of the utterance embedding.
        basis: principal directions of the teacher's space that the output spans.
        dropout: probability, in training.
        directions: principal directions of the statistics that the kernels compare clips along.
        evenness: power of the spread along each direction that it is divided by: 0 compares as the statistics lie, 1 all directions alike.
        reach: how fast the likeness of two clips falls as their statistics differ, see `Kernel`.
        sharpness: what the kernels' answers, shares between 0 and 1, are multiplied by to be scores.
        share: weight of the sequence part in the place of an utterance; the rest is that of the kernels.
        score_share: the same for its scores.
        lean: how far an utterance is drawn from there to the places of the emotions that it is scored as.
        pool_lean: how much further a pool of recordings is, beside neutral ones of the same voice.
        pool_sharpness: how much more surely a pool tells its emotion than one of its recordings on average.
        emotions: classes of the emotion reading, the first is neutral.
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


class Reading(NamedTuple):
    """What the student says about a clip or a moment: places in the teacher's space and emotion scores."""

    features: torch.Tensor  # [..., 1024]
    scores: torch.Tensor  # [..., classes], logits
    embedding: torch.Tensor  # [..., embedding]


class Kernel(nn.Module):
    """Kernel ridge regression: answers for a clip from those that it is like (Saunders et al. 1998).

    Clips are compared along principal directions of their statistics. The likeness to a known clip is exp(-reach * d), d the
    squared distance in units of the known clips' mean square.

    Args:
        config: shape.
        inputs: numbers that a clip is given by.
        known: clips that are known.

    Attributes:
        directions: float32 [D, inputs], what is looked at.
        known: float32 [K, D], the known clips along them, their mean square 1.
        weights: float32 [K, answers], what likeness to each known clip adds; the answers are class shares, then coordinates.
        offset: float32 [answers], the answer for a clip that is like none.
    """

    directions: torch.Tensor
    known: torch.Tensor
    weights: torch.Tensor
    offset: torch.Tensor

    def __init__(self, config: StudentConfig, inputs: int, known: int = 0) -> None:
        super().__init__()
        answers = len(config.emotions) + config.basis
        self.reach = config.reach
        self.register_buffer("directions", torch.zeros(config.directions, inputs))
        self.register_buffer("known", torch.zeros(known, config.directions))
        self.register_buffer("weights", torch.zeros(known, answers))
        self.register_buffer("offset", torch.zeros(answers))

    def likeness(self, clips: torch.Tensor) -> torch.Tensor:
        """Of clips [B, inputs] to the known ones: [B, K]."""
        return torch.exp(-self.reach * squared_distances(clips @ self.directions.T, self.known))

    def forward(self, clips: torch.Tensor) -> torch.Tensor:
        """Clips [B, inputs] -> [B, answers]."""
        return self.likeness(clips) @ self.weights + self.offset


def squared_distances(some: torch.Tensor, others: torch.Tensor) -> torch.Tensor:
    """Of every row of `some` [B, D] from every row of `others` [K, D]: [B, K]."""
    squares = some.square().sum(1, keepdim=True) + others.square().sum(1)
    return torch.addmm(squares, some, others.T, alpha=-2).clamp(min=0)


class Heights(NamedTuple):
    """A batch of clips as the parts over time take it, one column every 20 ms."""

    scaled: torch.Tensor  # [B, T, 84], channels in units of their spread
    inside: torch.Tensor  # bool [B, T], not padding
    statistics: torch.Tensor  # [B, 420] over the spoken columns
    pictures: (
        torch.Tensor
    )  # [B, 2, T, 40], bands as they are, and without the clip's own average: that tells nothing of the microphone


class Student(nn.Module):
    """Log-mel and pitch in, attention over time, a point in the emotion2vec+ large space out.

    Args:
        config: shape.
        known: clips that are known by themselves.
        known_beside: clips that are known beside neutral speech of the same voice.
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
            nn.BatchNorm1d(5 * CHANNELS), nn.Linear(5 * CHANNELS, SUMMARY), nn.SiLU(), nn.Dropout(config.dropout)
        )
        self.project = nn.Linear(2 * width + SUMMARY, config.embedding)
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
        self.register_buffer("space_mean", torch.zeros(SPACE))
        self.register_buffer("space_basis", torch.zeros(config.basis, SPACE))
        self.register_buffer("prototypes", torch.zeros(len(config.emotions), SPACE))

    def alone(self, statistics: torch.Tensor) -> torch.Tensor:
        """Clips with these `statistics` [B, 1280] as the kernel takes them: in units of their spread over the training clips, at most 4."""
        scaled = (statistics - self.statistics_mean) / self.statistics_scale
        return scaled.clamp(-WIDEST, WIDEST) * _even(statistics.device)

    def compared(self, statistics: torch.Tensor, neutral: torch.Tensor) -> torch.Tensor:
        """The same with how they differ from `neutral` [1280] or [B, 1280] speech of the same voice, in units of what is usual: [B, 2560]."""
        differences = ((statistics - neutral) / self.difference_scale).clamp(-WIDEST, WIDEST)
        return torch.cat([self.alone(statistics), differences * _even(statistics.device)], -1)

    def whole(self, statistics: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """What likeness to known clips says of clips with these `statistics` [B, 1280]: features [B, 1024], scores [B, classes]."""
        return self._answers(self.kernel(self.alone(statistics)))

    def beside(self, statistics: torch.Tensor, neutral: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """The same where the mean statistics of `neutral` [1280] speech of the same voice are known too."""
        return self._answers(self.neutral_kernel(self.compared(statistics, neutral)))

    def _answers(self, answers: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        count = len(self.config.emotions)
        features = self.space_mean + answers[:, count:] @ self.space_basis
        return features, answers[:, :count] * self.config.sharpness

    def heights(self, acoustics: torch.Tensor, lengths: torch.Tensor) -> Heights:
        """`acoustics` [B, F, 84] and their true lengths [B] as the parts over time take them, T = ceil(F / 2)."""
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
        return Heights(scaled, inside, statistics, torch.stack([halves * keep, (halves - own) * keep], 1))

    def sequence(self, clips: Heights) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """A batch of clips of T columns -> hidden [B, T / 4, C], mask [B, T / 4] (where there is sound), summary [B, 128]."""
        summary = self.summary(clips.statistics)
        pictures = clips.pictures
        for convolution, norm in zip(self.stem, self.stem_norms, strict=True):
            pictures = F.silu(norm(convolution(pictures)))  # -> [B, c, T/4, 10]
        keep = clips.inside[:, :, None].to(clips.scaled.dtype)
        tracks = F.silu(self.tracks((clips.scaled[:, :, BANDS:] * keep).transpose(1, 2)))  # [B, 32, T/4]
        steps = min(pictures.shape[2], tracks.shape[2])
        joined = torch.cat([pictures[:, :, :steps].transpose(1, 2).flatten(2), tracks[:, :, :steps].transpose(1, 2)], 2)
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

    def pooled(self, hidden: torch.Tensor, weight: torch.Tensor, summary: torch.Tensor) -> Reading:
        """Attentive statistics (Okabe et al. 2018) of `hidden` [B, T, C], attention times `weight` [B, P, T]: P readings of a clip."""
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
        return Reading(self.space_mean + self.place(active) @ self.space_basis, self.scores(active), embedding)

    def forward(self, clips: Heights) -> Reading:
        """What the sequence part says of a batch of clips: features [B, 1024], scores [B, classes], embedding."""
        hidden, mask, summary = self.sequence(clips)
        reading = self.pooled(hidden, mask[:, None].float(), summary)
        return Reading(*(part[:, 0] for part in reading))


FORMAT = "cmet-speech-encoder/5"
EMBEDDED = "speech_encoder.safetensors"
ENCODER_FILES = (EMBEDDED, TRUNK)  # what the embedded encoder is made of
STEP = 0.25  # seconds between two frame readings
_STRIDE = 8  # acoustic frames in one step of the network
_SPAN = 0.5  # seconds, Gaussian width of what one frame reading hears: one or two syllables
_WINDOW = 200  # acoustic frames that the kernel hears for one reading
_STRETCH = 500  # acoustic frames
_TOGETHER = 8  # stretches that the trunk hears at a time
_PART, _MARGIN = 500, 100  # acoustic frames: a long clip is read along in parts of 5 s with a second around them


class Along(NamedTuple):
    """What is heard along a recording, whatever emotion is asked about."""

    times: np.ndarray  # float64 [F] seconds
    features: np.ndarray  # float32 [F, 1024]
    spoken: np.ndarray  # float64 [F], share of speech around
    energy: np.ndarray  # float64 [F], loudness around


class Listened(NamedTuple):
    """A recording heard once, before it is known what neutral speech it is to be told apart from."""

    statistics: np.ndarray  # float32 [1280]
    place: np.ndarray  # float32 [1024], what the sequence part says, times its weight
    scores: np.ndarray  # float32 [classes], the same


class Encoder:
    """The embedded speech encoder: numpy in, numpy out.

    Attributes:
        trunk: what it hears with.
        identity: tells what it answers apart from what others answer, for a cache; None for weights from nowhere.
        emotions: names of the emotions that `emotions_of` scores.
        figures: what was measured on speakers not trained on, by name.
    """

    def __init__(self, student: Student, *, device: str = "cpu", figures: dict | None = None) -> None:
        self.device = torch.device(device)
        self.student = student.eval().to(self.device)
        self.trunk = load_trunk(device)
        self.emotions = student.config.emotions
        self.figures = figures or {}
        self.identity: tuple[str, ...] | None = None

    def utterance(self, wave: np.ndarray, rate: int, neutral: np.ndarray | None = None) -> np.ndarray:
        """Where a recording lies in the emotion2vec+ large space.

        Args:
            wave: float [S] in [-1, 1], mono, any length from 0.3 s.
            rate: samples a second; other than 16000 is resampled.
            neutral: mean of `Listened.statistics` [1280] over neutral recordings of the same voice, if there are any.

        Returns:
            float32 [1024].

        Raises:
            CmetError: the wave is not mono, holds values that are not numbers, is too short or silent, or nobody speaks.
        """
        return self.told(self.listen(*self._heard(wave, rate)), neutral).features

    def emotions_of(self, wave: np.ndarray, rate: int) -> dict[str, float]:
        """Probability of every emotion the encoder was taught by labels; see `utterance` for arguments and errors."""
        probabilities = self.told(self.listen(*self._heard(wave, rate))).probabilities()
        return dict(zip(self.emotions, probabilities.tolist(), strict=True))

    def frames(self, wave: np.ndarray, rate: int) -> tuple[np.ndarray, np.ndarray]:
        """Where the voice lies at each moment, four times a second.

        What `utterance` says of the recording, moved by what is heard around each time beyond the recording's average:
        by the sequence part within about a second, by the kernel within two.

        Returns:
            Times float64 [F] in seconds from 0, and features float32 [F, 1024].

        Raises:
            CmetError: see `utterance`.
        """
        return self._moments(*self._heard(wave, rate), len(wave) / rate)

    def _moments(self, wave: np.ndarray, heard: np.ndarray, seconds: float) -> tuple[np.ndarray, np.ndarray]:
        """What `frames` gives, of a `wave` [S] at 16 kHz and its acoustics `heard` [F, 84] that last so many seconds."""
        times = np.arange(max(1, math.ceil(seconds / STEP))) * STEP
        features = np.empty((len(times), SPACE), np.float32)
        for start, stop, part in _parts(heard):
            begin = start / 100
            chosen = np.flatnonzero((times * 100 >= start) & ((times * 100 < stop) | (stop >= len(heard))))
            if not len(chosen):
                continue
            with torch.inference_mode():
                hidden, mask, summary = self.student.sequence(self._heights(part.acoustics))
            at = (np.arange(hidden.shape[1]) * _STRIDE + part.first) / 100 - begin
            near = np.exp(-0.5 * ((at[None] - (times[chosen, None] - begin)) / _SPAN) ** 2)  # [P, T]
            weight = torch.from_numpy(near.astype(np.float32)).to(self.device) * mask[0].float()
            sound = torch.from_numpy(wave[part.first * HOP :][: len(part.acoustics) * HOP])
            (sounds,) = self.trunk(sound[None].to(self.device))
            first = (
                np.clip((times[chosen] * 100).astype(int) - _WINDOW // 2, 0, max(0, len(heard) - _WINDOW)) - part.first
            )
            rows = torch.from_numpy(sounds.summaries(first, first + _WINDOW)).to(self.device)
            with torch.inference_mode():
                places = self.student.pooled(hidden, weight[None], summary).features[0].float()
                features[chosen] = (
                    torch.lerp(self.student.whole(rows)[0], places, self.student.config.share).cpu().numpy()
                )
        at = np.minimum((times * 100).astype(int), len(heard) - 1)
        spoken = gaussian_filter1d((heard[:, BANDS + 3] > AUDIBLE).astype(np.float64), 25)[at] + 1e-6  # [F]
        whole = self.told(self.listen(wave, heard)).features
        features += whole - np.average(features, axis=0, weights=spoken).astype(np.float32)
        return times, features

    def intensity(self, wave: np.ndarray, rate: int, vector: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """How strongly the voice carries an emotion at each moment, four times a second.

        The reading of each moment is projected on the emotion's direction; differences along the clip count against
        the length of the vector, so that a voice that hardly varies gives values near 1. A third comes from loudness, which stresses
        any emotion. Pauses take the value of the words around them.

        Args:
            wave, rate: see `utterance`.
            vector: [1024], difference from neutral.

        Returns:
            Times float64 [F] in seconds, and float32 [F] in 0.5..1.5 with mean 1 over the spoken part.

        Raises:
            CmetError: see `utterance`; or the vector has another length.
        """
        return intensity(self.along(wave, rate), vector)

    def along(self, wave: np.ndarray, rate: int) -> Along:
        """What `intensity` needs of a recording; see `utterance` for arguments and errors."""
        at_rate, heard = self._heard(wave, rate)
        times, features = self._moments(at_rate, heard, len(wave) / rate)
        at = np.minimum((times * 100).astype(int), len(heard) - 1)
        spoken = gaussian_filter1d((heard[:, BANDS + 3] > AUDIBLE).astype(np.float64), 15)[at]  # [F]
        energy = gaussian_filter1d(heard[:, BANDS + 3].astype(np.float64), 25)[at]
        return Along(times, features, spoken, energy)

    def _heard(self, wave: np.ndarray, rate: int) -> tuple[np.ndarray, np.ndarray]:
        """The recording at 16 kHz, float32 [S], and its acoustics [F, 84], once both are checked."""
        audio.check_speech(wave, rate, "The recording")
        wave = to_rate(wave, rate)
        heard = acoustics(wave)
        check_voice(heard, "The recording")
        return wave, heard

    def _heights(self, heard: np.ndarray) -> Heights:
        """`heard` [F, 84] as a batch of one."""
        batch = torch.from_numpy(heard)[None].to(self.device)
        return self.student.heights(batch, torch.tensor([len(heard)], device=self.device))

    def listen(self, wave: np.ndarray, heard: np.ndarray) -> Listened:
        """Hear a whole recording, given as float32 [S] at 16 kHz and what `acoustics` makes of it [F, 84].

        A long recording is heard in stretches of about five seconds, like those it was trained with, weighted by
        how much is spoken in each.
        """
        place, scores = self.sequenced(heard)
        return Listened(statistics(wave, self.trunk), place, scores)

    def sequenced(self, heard: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """What the sequence part adds to what is said of a recording, given as `acoustics` [F, 84]: place [1024], scores [classes]."""
        stretches = np.array_split(heard, max(1, round(len(heard) / _STRETCH)))
        spoken = np.array([(part[:, BANDS + 3] > AUDIBLE).sum() + 1e-3 for part in stretches], np.float32)
        weights = torch.from_numpy(spoken / spoken.sum()).to(self.device)
        config = self.student.config
        place = scores = torch.zeros((), device=self.device)
        for first, share in enumerate(weights.split(_TOGETHER)):
            some = stretches[first * _TOGETHER :][:_TOGETHER]
            lengths = torch.tensor([len(part) for part in some], device=self.device)
            batch = torch.from_numpy(np.stack([np.resize(part, (len(some[0]), CHANNELS)) for part in some]))
            with torch.inference_mode():
                reading = self.student(self.student.heights(batch.to(self.device), lengths))
                place, scores = place + share @ reading.features, scores + share @ reading.scores
        return (config.share * place).cpu().numpy(), (config.score_share * scores).cpu().numpy()

    def told(self, listened: Listened, neutral: np.ndarray | None = None) -> "Heard":
        """What the encoder says of a recording it `listened` to.

        Args:
            listened: what `listen` gives.
            neutral: mean of `Listened.statistics` [1280] over neutral recordings of the same voice; None: the recording alone tells.
        """
        config = self.student.config
        with torch.inference_mode():
            row, place, scores = (torch.from_numpy(part).to(self.device) for part in listened)
            if neutral is None or not len(self.student.neutral_kernel.known):
                features, judged = self.student.whole(row[None])
            else:
                features, judged = self.student.beside(row[None], torch.from_numpy(neutral).to(self.device))
            features = place + (1 - config.share) * features[0]
            scores = scores + (1 - config.score_share) * judged[0]
            # labels of many speakers taught the scores, the teacher's features of two most of the places
            features = torch.lerp(features, scores.softmax(0) @ self.student.prototypes, config.lean)
        return Heard(features.cpu().numpy(), scores.cpu().numpy())

    def named(self, scores: np.ndarray) -> np.ndarray:
        """Which emotion several recordings beside neutral ones hold, when it is known not to be neutral.

        Args:
            scores: [classes], mean of what they are scored as.

        Returns:
            float32 [classes - 1], probability of each but neutral; how often each was trained on is taken out (Bayes' rule with
            all of them as likely beforehand).
        """
        often = self.student.neutral_kernel.offset[1 : len(scores)].cpu().numpy()
        known = often > 1e-3  # the others were never trained on
        telling = self.student.config.pool_sharpness * scores[1:] - np.log(np.where(known, often, 1.0))
        telling = np.where(known | ~known.any(), telling, -np.inf)
        share = np.exp(telling - telling.max())
        return (share / share.sum()).astype(np.float32)

    def pools(self, wanted: Sequence[Listened], neutral: Sequence[Listened]) -> "Pools":
        """Features of two pools of one voice, each recording told apart from the neutral ones, a neutral one from the others.

        Several recordings together say more surely which emotion they hold than one does: their difference from the neutral
        ones is drawn further towards the directions of the emotions that they are named as (see `named`). Contempt lies
        so near neutral in the teacher's space that a small share of another emotion would hide it: what is mixed are directions.
        """
        rests = np.stack([recording.statistics for recording in neutral])  # [M, 1280]
        total = rests.sum(0)
        others = [(total - own) / (len(rests) - 1) for own in rests] if len(rests) > 1 else [total]
        rest = (total / len(rests)).astype(np.float32)
        moved = [self.told(recording, rest) for recording in wanted]
        still = [self.told(r, o.astype(np.float32)) for r, o in zip(neutral, others, strict=True)]
        places = self.student.prototypes.cpu().numpy()
        ways = places[1:] - places[0]
        named = self.named(np.mean([heard.scores for heard in moved], 0))
        way = named @ (ways / np.maximum(np.linalg.norm(ways, axis=1, keepdims=True), 1e-6))
        lean = self.student.config.pool_lean
        one, other = (np.stack([heard.features for heard in pool]) for pool in (moved, still))
        length = np.linalg.norm(one.mean(0) - other.mean(0)) / max(float(np.linalg.norm(way)), 1e-6)
        here, there = lean * (places[0] + length * way - one.mean(0)), lean * (places[0] - other.mean(0))
        return Pools(*(part.astype(np.float32) for part in (one + here, other + there, here - there)))


def statistics(wave: np.ndarray, trunk: Trunk) -> np.ndarray:
    """What the `trunk` makes of a recording as a whole, float32 [S] at 16 kHz: [1280], mean of its stretches by how much is spoken in each."""
    device = next(trunk.parameters()).device
    count = max(1, round(len(wave) / (_STRETCH * HOP)))
    stretches = torch.from_numpy(np.ascontiguousarray(wave[: len(wave) // count * count], np.float32)).view(count, -1)
    heard = [sounds for some in stretches.split(_TOGETHER) for sounds in trunk(some.to(device))]
    weights = np.array([float(sounds.spoken.sum()) + 1e-3 for sounds in heard])
    return (weights / weights.sum() @ np.stack([sounds.summary() for sounds in heard])).astype(np.float32)


@functools.cache
def _even(device: torch.device) -> torch.Tensor:
    """What statistics are multiplied by so that either network of the trunk counts half: float32 [1280]."""
    deep = 2 * WIDTH
    counts = torch.tensor([deep, STATISTICS - deep], device=device)
    return (0.5 / counts.float()).sqrt().repeat_interleave(counts)


class Pools(NamedTuple):
    """Two pools of one voice as the encoder hears them."""

    wanted: np.ndarray  # float32 [N, 1024]
    neutral: np.ndarray  # float32 [M, 1024]
    drawn: np.ndarray  # float32 [1024], how far all together drew the difference of the two


class Heard(NamedTuple):
    """A recording as the encoder hears it."""

    features: np.ndarray  # float32 [1024]
    scores: np.ndarray  # float32 [classes], logits

    def probabilities(self) -> np.ndarray:
        """Probability of every emotion: float32 [classes]."""
        share = np.exp(self.scores - self.scores.max())
        return share / share.sum()


class _Part(NamedTuple):
    first: int  # acoustic frame at which it begins
    acoustics: np.ndarray  # [F, 84]


def _parts(heard: np.ndarray) -> Iterator[tuple[int, int, _Part]]:
    """Stretches (start, stop) of `heard` [F, 84] of bounded length, each with what lies a second around it."""
    count = max(1, math.ceil(len(heard) / _PART - 0.15))  # no part shorter than two seconds
    edges = [len(heard) * n // count for n in range(count + 1)]
    for start, stop in itertools.pairwise(edges):
        first = max(0, start - _MARGIN)
        yield start, stop, _Part(first, heard[first : stop + _MARGIN])


def to_rate(wave: np.ndarray, rate: int) -> np.ndarray:
    """`wave` [S] at `rate` samples a second as float32 at 16 kHz.

    Raises:
        CmetError: the rate is not one that sound is recorded at.
    """
    if not 4000 <= rate <= 768000:
        raise CmetError(f"A sample rate of {rate} is not between 4000 and 768000 a second; give the file's own rate.")
    if rate == RATE:
        return np.asarray(wave, np.float32)
    common = math.gcd(RATE, int(rate))
    return resample_poly(np.asarray(wave, np.float64), RATE // common, int(rate) // common).astype(np.float32)


_RUMBLE = 0.1  # octaves that the pitch of noise moves from frame to frame; of speech 0.006 to 0.045
_HELD = 120  # frames that voiced stretches of music last; those of speech at most 52


def check_voice(heard: np.ndarray, name: str) -> None:
    """Check that somebody speaks in `heard` [F, 84], what `acoustics` gives.

    Raises:
        CmetError: hardly any frame is voiced, its pitch is that of noise, or tones stand still as in music: no speech.
    """
    audible = heard[:, BANDS + 3] > AUDIBLE
    voiced = audible & (heard[:, BANDS + 2] > VOICED)
    if voiced.sum() < max(8, 0.05 * audible.sum()):
        raise CmetError(f"{name}: no voice was found in it; give a recording in which somebody speaks.")
    edges = np.diff(np.concatenate([[0], voiced.astype(np.int8), [0]]))
    lasting = float(np.median(np.flatnonzero(edges == -1) - np.flatnonzero(edges == 1)))
    moved = np.abs(np.diff(heard[:, BANDS]))[voiced[1:] & voiced[:-1]]
    if lasting < 1.5 or (len(moved) and float(np.median(moved)) > _RUMBLE):
        raise CmetError(f"{name}: no voice was found in it, only noise; give a recording in which somebody speaks.")
    spread = float(heard[voiced, :BANDS].std(0).mean())
    if spread < 0.25 or lasting > _HELD or (spread < 1.0 and float(heard[audible, BANDS + 3].std()) < 1.0):
        raise CmetError(f"{name} holds a steady tone or music, not speech; give a recording in which somebody speaks.")


def save_student(student: Student, path: str | Path, figures: dict, *, force: bool = False) -> None:
    """Write a student network with its configuration and figures: safetensors, float16 but for `_EXACT` and `_EIGHT`."""
    state: dict[str, torch.Tensor] = {}
    for name, value in student.state_dict().items():
        half = value.is_floating_point() and not name.startswith(_EXACT)
        state |= pack(name, value) if name.endswith(_EIGHT) else {name: value.half().contiguous() if half else value}
    about = {"format": FORMAT, "config": json.dumps(asdict(student.config)), "figures": json.dumps(figures)}
    with whole_file(path, force=force) as temporary:
        save_file(state, temporary, about)


def load_student(path: str | Path) -> tuple[Student, dict]:
    """Read what `save_student` wrote: the network (float32) and its figures.

    Raises:
        CmetError: the file is missing, damaged, or no speech encoder of this project.
    """
    state, about = read(Path(path), FORMAT, "the speech encoder", "is not a speech encoder of this project")
    given = json.loads(about["config"])
    values: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in given.items()}
    student = Student(StudentConfig(**values), len(state["kernel.known"]), len(state["neutral_kernel.known"]))
    student.load_state_dict(state, strict=True)
    return student, json.loads(about.get("figures", "{}"))


def intensity(along: Along, vector: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """How strongly a voice carries an emotion at each moment; see `Encoder.intensity`."""
    vector = np.asarray(vector, np.float64)
    if vector.shape != (SPACE,) or not np.isfinite(vector).all():
        raise CmetError(f"An emotion vector must hold {SPACE} numbers; this one has shape {list(vector.shape)}.")
    times, features, spoken, energy = along
    length = max(float(np.linalg.norm(vector)), 1e-6)
    strength = features.astype(np.float64) @ vector / length  # [F]

    def relative(values: np.ndarray, least: float) -> np.ndarray:
        mean = np.average(values, weights=spoken + 1e-6)
        deviation = math.sqrt(np.average((values - mean) ** 2, weights=spoken + 1e-6))
        return (values - mean) / max(deviation, least)

    change = np.tanh(0.7 * (2 * relative(strength, 0.15 * length) + relative(energy, 1.0)) / 3)
    # pauses: weigh by speech while smoothing, so that they continue what is around them
    smooth = gaussian_filter1d(change * (spoken + 1e-3), 1.0, mode="nearest")
    smooth /= gaussian_filter1d(spoken + 1e-3, 1.0, mode="nearest")
    smooth -= np.average(smooth, weights=spoken + 1e-6)
    return times, np.clip(1 + 0.5 * smooth, 0.5, 1.5).astype(np.float32)


@functools.cache
def load_encoder(name: str = "embedded", *, device: str = "cpu") -> Encoder:
    """A speech encoder that is ready to use.

    Args:
        name: `embedded`, or the path of a `.safetensors` that `cmet train encoder` wrote.
        device: see `models.device.resolve`.

    Raises:
        CmetError: the file is missing, damaged, or no speech encoder; or the device is not there.
    """
    device = resolve(device)
    path = assets.asset(EMBEDDED) if name == "embedded" else Path(name)
    student, figures = load_student(path)
    encoder = Encoder(student, device=device, figures=figures)
    encoder.identity = (cache.content(path), cache.content(assets.asset(TRUNK)), device)
    return encoder
