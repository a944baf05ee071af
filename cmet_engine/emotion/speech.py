"""How emotional speech is heard: a small student network in the emotion2vec+ large space (1024 dimensions).

A wave becomes log-mel bands and a pitch track (`acoustics`), a network with attention over time turns those into an
utterance vector and into a reading along the clip (`Student`), and `Encoder` puts both behind plain numpy calls.
The network is gain-invariant: every clip is measured against its own loud frames, as the teacher normalises its wave.
"""

import functools
import itertools
import json
import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from scipy.ndimage import gaussian_filter1d
from scipy.signal import resample_poly
from torch import nn

from cmet_engine import models
from cmet_engine.errors import CmetError
from cmet_engine.files import whole_file
from cmet_engine.media import audio

SUMMARY = 128  # width of what is known of the clip as a whole
SPACE = 1024  # dimensions of the emotion2vec+ large space
EMOTIONS = ("neutral", "angry", "contempt", "disgusted", "fear", "happy", "sad", "surprised", "bored")

RATE = 16000  # Hz; what the teacher and every embedded model take
HOP = 160  # samples, 10 ms
WINDOW = 400  # samples, 25 ms
TRANSFORM = 512
BANDS = 80
MEL_RANGE = (40.0, 7600.0)  # Hz
PITCH_RANGE = (60.0, 600.0)  # Hz; shrieked fear and surprise pass 500
PITCH_WINDOW = 800  # samples, 50 ms: three periods of the deepest voice
VOICED = 0.5  # normalised autocorrelation above which a frame counts as voiced (Boersma 1993: 0.45)
FLOOR = -9.0  # natural log power below the clip's loud frames (39 dB): what is softer is the room, not the voice
AUDIBLE = -5.0  # natural log energy below the loud frames above which a frame counts as spoken
BLOCK = 4096  # frames analysed at a time
CHANNELS = BANDS + 4  # bands, pitch in octaves above 150 Hz, pitch against the clip's median, voicing, energy


@functools.cache
def mel_filters() -> torch.Tensor:
    """Triangular mel filters of equal peak: float32 [80, 257] (HTK mel scale)."""
    low, high = (2595 * math.log10(1 + f / 700) for f in MEL_RANGE)
    edges = 700 * (10 ** (torch.linspace(low, high, BANDS + 2, dtype=torch.float64) / 2595) - 1)  # Hz
    bins = torch.arange(TRANSFORM // 2 + 1, dtype=torch.float64) * RATE / TRANSFORM
    rise = (bins - edges[:-2, None]) / (edges[1:-1] - edges[:-2])[:, None]
    fall = (edges[2:, None] - bins) / (edges[2:] - edges[1:-1])[:, None]
    return torch.minimum(rise, fall).clamp(min=0).float()


def _pieces(wave: torch.Tensor, size: int, frames: int) -> Iterator[torch.Tensor]:
    """Windows [B, size] centred on every 10 ms of `wave` [S], a block of frames at a time: memory does not grow with the clip."""
    padded = F.pad(wave, (size // 2, size + HOP))
    for first in range(0, frames, BLOCK):
        count = min(BLOCK, frames - first)
        yield padded[first * HOP : (first + count - 1) * HOP + size].unfold(0, size, HOP)


def pitch(wave: torch.Tensor, frames: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Fundamental frequency and voicing by autocorrelation.

    The autocorrelation of a windowed frame is divided by that of the window (Boersma 1993, "Accurate short-term analysis
    of the fundamental frequency"); a second pass searches only near the clip's own range (De Looze and Hirst 2008), which
    removes octave errors.

    Args:
        wave: float32 [S] at 16 kHz.
        frames: how many frames of 10 ms to measure.

    Returns:
        Frequency in Hz float32 [F] (0 where unvoiced) and the autocorrelation at that lag float32 [F] in 0..1.
    """
    window = torch.hann_window(PITCH_WINDOW)
    size = 2048  # zero-padded: the longest lag must not wrap around
    shortest, longest = int(RATE / PITCH_RANGE[1]), int(RATE / PITCH_RANGE[0]) + 1
    own = torch.fft.irfft(torch.fft.rfft(window, size).abs() ** 2)[: longest + 2]
    lags = torch.arange(longest + 2, dtype=torch.float32)
    cost = 0.02 * torch.log2(lags.clamp(min=1) / shortest)  # of two equal peaks the shorter period is the true one

    def search(fit: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        found = [_best_lag(piece, window, own, size, fit, cost) for piece in _pieces(wave, PITCH_WINDOW, frames)]
        return RATE / torch.cat([lag for lag, _ in found]), torch.cat([strength for _, strength in found])

    frequency, strength = search(lags >= shortest)
    sure = frequency[strength > VOICED]
    if len(sure) >= 8:
        low, high = np.quantile(sure.numpy(), (0.25, 0.75))
        frequency, strength = search((lags >= max(RATE / (high * 1.9), shortest)) & (lags <= RATE / (low * 0.6)))
    return torch.where(strength > VOICED, frequency, 0.0), strength


def _best_lag(
    pieces: torch.Tensor, window: torch.Tensor, own: torch.Tensor, size: int, fit: torch.Tensor, cost: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Lag in samples and strength of the best peak of the autocorrelation among the lags that `fit` [L], for `pieces` [B, 800]."""
    spectrum = torch.fft.rfft((pieces - pieces.mean(1, keepdim=True)) * window, size)
    correlation = torch.fft.irfft(spectrum.real**2 + spectrum.imag**2)[:, : len(own)]
    correlation = correlation / (correlation[:, :1] + 1e-7) / (own / own[0])  # [B, L]
    inner = correlation[:, 1:-1]
    peak = F.pad((inner >= correlation[:, :-2]) & (inner > correlation[:, 2:]), (1, 1)) & fit
    score = torch.where(peak, correlation - cost, -1.0)
    lag, rows = score.argmax(1), torch.arange(len(score))
    before, here, after = (correlation[rows, (lag + k).clamp(0, len(own) - 1)] for k in (-1, 0, 1))
    shift = 0.5 * (before - after) / (before - 2 * here + after).clamp(max=-1e-6)
    return (lag + shift.clamp(-0.5, 0.5)).clamp(min=1.0), torch.where(score[rows, lag] > -1, here, 0.0).clamp(0, 1)


def acoustics(wave: np.ndarray) -> np.ndarray:
    """What the network hears: log-mel bands, pitch, voicing and energy.

    Args:
        wave: float32 [S], mono, 16 kHz, any gain.

    Returns:
        float32 [F, 84], 100 frames a second: 80 natural-log mel powers relative to the clip's loud frames (at least -9),
        pitch in octaves above 150 Hz (drawn through unvoiced frames), pitch against the clip's median in octaves,
        voicing 0..1, log energy relative to the loud frames.
    """
    with torch.no_grad():
        samples = torch.from_numpy(np.ascontiguousarray(wave, np.float32))
        frames = max(1, len(samples) // HOP)
        samples = samples - samples.mean()
        window = F.pad(torch.hann_window(WINDOW), ((TRANSFORM - WINDOW) // 2,) * 2)
        energies, mels = [], []
        for pieces in _pieces(samples, TRANSFORM, frames):
            spectrum = torch.fft.rfft(pieces * window)
            power = spectrum.real**2 + spectrum.imag**2  # [B, 257]
            energies.append(power.sum(1))
            mels.append(power @ mel_filters().T)
        energy = torch.cat(energies).clamp(min=1e-8).log()  # [F]
        level = float(np.quantile(energy.numpy(), 0.95))
        energy = (energy - level).clamp(min=FLOOR)
        # one band holds a small part of the energy: e^2 brings its peaks near 0
        mel = (torch.cat(mels).clamp(min=1e-10).log() - level + 2.0).clamp(min=FLOOR)  # [F, 80]
        frequency, voicing = pitch(samples, frames)
        audible = energy > AUDIBLE - 1
        voiced = (frequency > 0) & audible
        if int(voiced.sum()) >= 3:
            at = voiced.nonzero()[:, 0].numpy()
            octaves = np.interp(np.arange(frames), at, np.log2(frequency[voiced].numpy() / 150.0)).astype(np.float32)
            median = float(np.median(octaves[at]))
        else:
            octaves, median = np.zeros(frames, np.float32), 0.0
        tracks = np.stack([octaves, octaves - median, (voicing * audible).numpy(), energy.numpy()], 1)
        return np.concatenate([mel.numpy(), tracks], 1).astype(np.float32)


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


class Student(nn.Module):
    """Log-mel and pitch in, attention over time, a point in the emotion2vec+ large space out."""

    space_mean: torch.Tensor
    space_basis: torch.Tensor
    input_mean: torch.Tensor
    input_scale: torch.Tensor

    def __init__(self, config: StudentConfig) -> None:
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
        self.register_buffer("input_mean", torch.zeros(CHANNELS))
        self.register_buffer("input_scale", torch.ones(CHANNELS))
        self.register_buffer("space_mean", torch.zeros(SPACE))
        self.register_buffer("space_basis", torch.zeros(config.basis, SPACE))

    def sequence(
        self, acoustics: torch.Tensor, lengths: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """`acoustics` [B, F, 84] and their true lengths [B] -> hidden [B, T, C] (T = ceil(F / 8)), mask [B, T], summary [B, 128]."""
        scaled = (acoustics - self.input_mean) / self.input_scale
        scaled = F.avg_pool1d(scaled.transpose(1, 2), 2, ceil_mode=True).transpose(1, 2)  # [B, F/2, 84], 20 ms
        lengths = ((lengths + 1) // 2).clamp(max=scaled.shape[1])
        inside = torch.arange(scaled.shape[1], device=scaled.device)[None] < lengths[:, None]  # [B, F/2]
        energy = scaled[:, :, -1] * self.input_scale[-1] + self.input_mean[-1]
        loud = inside & (energy > AUDIBLE)
        loud = torch.where(loud.sum(1, keepdim=True) >= 5, loud, inside)
        statistics, mean = _statistics(scaled, loud)
        summary = self.summary(statistics)
        keep = inside[:, :, None].to(scaled.dtype)
        halves = scaled[:, :, :BANDS].unflatten(2, (BANDS // 2, 2)).mean(3)  # [B, F/2, 40]
        own = mean[:, None, :BANDS].unflatten(2, (BANDS // 2, 2)).mean(3)
        # the second picture has the clip's own average removed: it tells nothing of the microphone
        pictures = torch.stack([halves * keep, (halves - own) * keep], 1)  # [B, 2, F/2, 40]
        for convolution, norm in zip(self.stem, self.stem_norms, strict=True):
            pictures = F.silu(norm(convolution(pictures)))  # -> [B, c, F/8, 10]
        tracks = F.silu(self.tracks((scaled[:, :, BANDS:] * keep).transpose(1, 2)))  # [B, 32, F/8]
        steps = min(pictures.shape[2], tracks.shape[2])
        joined = torch.cat([pictures[:, :, :steps].transpose(1, 2).flatten(2), tracks[:, :, :steps].transpose(1, 2)], 2)
        mask = (
            torch.arange(steps, device=joined.device)[None] < ((lengths + 3) // 4).clamp(max=steps)[:, None]
        )  # [B, T]
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

    def forward(self, acoustics: torch.Tensor, lengths: torch.Tensor) -> Reading:
        """Utterance readings of `acoustics` [B, F, 84] with true lengths [B]: features [B, 1024], scores [B, classes]."""
        hidden, mask, summary = self.sequence(acoustics, lengths)
        reading = self.pooled(hidden, mask[:, None].float(), summary)
        return Reading(*(part[:, 0] for part in reading))


FORMAT = "cmet-speech-encoder/1"
EMBEDDED = "speech_encoder.safetensors"
STEP = 0.25  # seconds between two frame readings
_STRIDE = 8  # acoustic frames in one step of the network
_SPAN = 0.5  # seconds, Gaussian width of what one frame reading hears: one or two syllables
_PART, _MARGIN = 1400, 100  # acoustic frames: a long clip is heard in parts of 14 s with a second around them


class Encoder:
    """The embedded speech encoder: numpy in, numpy out.

    Attributes:
        emotions: names of the emotions that `emotions_of` scores.
        figures: what was measured on speakers not trained on, by name.
    """

    def __init__(self, student: Student, *, device: str = "cpu", figures: dict | None = None) -> None:
        self.device = torch.device(device)
        self.student = student.eval().to(self.device)
        self.emotions = student.config.emotions
        self.figures = figures or {}

    def utterance(self, wave: np.ndarray, rate: int) -> np.ndarray:
        """Where a recording lies in the emotion2vec+ large space.

        Args:
            wave: float [S] in [-1, 1], mono, any length from 0.3 s.
            rate: samples a second; other than 16000 is resampled.

        Returns:
            float32 [1024].

        Raises:
            CmetError: the wave is not mono, holds values that are not numbers, is too short or silent, or nobody speaks.
        """
        return self.hear(self._acoustics(wave, rate)).features

    def emotions_of(self, wave: np.ndarray, rate: int) -> dict[str, float]:
        """Probability of every emotion the encoder was taught by labels; see `utterance` for arguments and errors."""
        probabilities = self.hear(self._acoustics(wave, rate)).probabilities()
        return dict(zip(self.emotions, probabilities.tolist(), strict=True))

    def frames(self, wave: np.ndarray, rate: int) -> tuple[np.ndarray, np.ndarray]:
        """Where the voice lies at each moment, four times a second.

        Each reading hears about a second around its time; it is what `utterance` would say of it, in the light of the clip.

        Returns:
            Times float64 [F] in seconds from 0, and features float32 [F, 1024].

        Raises:
            CmetError: see `utterance`.
        """
        heard = self._acoustics(wave, rate)
        duration = len(wave) / rate
        times = np.arange(max(1, math.ceil(duration / STEP))) * STEP
        features = np.empty((len(times), SPACE), np.float32)
        for start, stop, part in _parts(heard):
            seconds = start / 100
            chosen = np.flatnonzero((times * 100 >= start) & ((times * 100 < stop) | (stop >= len(heard))))
            if not len(chosen):
                continue
            hidden, mask, summary = self._sequence(part.acoustics)
            at = (np.arange(hidden.shape[1]) * _STRIDE + part.first) / 100 - seconds
            near = np.exp(-0.5 * ((at[None] - (times[chosen, None] - seconds)) / _SPAN) ** 2)  # [P, T]
            weight = torch.from_numpy(near.astype(np.float32)).to(self.device) * mask[0].float()
            with torch.inference_mode():
                features[chosen] = self.student.pooled(hidden, weight[None], summary).features[0].float().cpu().numpy()
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
        vector = np.asarray(vector, np.float64)
        if vector.shape != (SPACE,) or not np.isfinite(vector).all():
            raise CmetError(f"An emotion vector must hold {SPACE} numbers; this one has shape {list(vector.shape)}.")
        heard = self._acoustics(wave, rate)
        times, features = self.frames(wave, rate)
        at = np.minimum((times * 100).astype(int), len(heard) - 1)
        spoken = gaussian_filter1d((heard[:, BANDS + 3] > AUDIBLE).astype(np.float64), 15)[at]  # [F]
        energy = gaussian_filter1d(heard[:, BANDS + 3].astype(np.float64), 25)[at]
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

    def _acoustics(self, wave: np.ndarray, rate: int) -> np.ndarray:
        audio.check_speech(wave, rate, "The recording")
        heard = acoustics(to_rate(wave, rate))
        check_voice(heard, "The recording")
        return heard

    def _sequence(self, heard: np.ndarray) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        batch = torch.from_numpy(heard)[None].to(self.device)
        with torch.inference_mode():
            return self.student.sequence(batch, torch.tensor([len(heard)], device=self.device))

    def hear(self, heard: np.ndarray) -> "Heard":
        """What the encoder says of a whole recording, given as `acoustics` [F, 84]."""
        features, scores, weights = [], [], []
        for start, stop, part in _parts(heard):
            hidden, mask, summary = self._sequence(part.acoustics)
            with torch.inference_mode():
                reading = self.student.pooled(hidden, mask[:, None].float(), summary)
            features.append(reading.features[0, 0].float().cpu().numpy())
            scores.append(reading.scores[0, 0].float().cpu().numpy())
            weights.append(float((heard[start:stop, BANDS + 3] > AUDIBLE).sum()) + 1e-3)
        mean = functools.partial(np.average, axis=0, weights=weights)
        return Heard(mean(features).astype(np.float32), mean(scores).astype(np.float32))


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


def check_voice(heard: np.ndarray, name: str) -> None:
    """Check that somebody speaks in `heard` [F, 84], what `acoustics` gives.

    Raises:
        CmetError: hardly any frame is voiced, or a tone stands still: no speech.
    """
    audible = heard[:, BANDS + 3] > AUDIBLE
    voiced = audible & (heard[:, BANDS + 2] > VOICED)
    if voiced.sum() < max(8, 0.05 * audible.sum()):
        raise CmetError(f"{name}: no voice was found in it; give a recording in which somebody speaks.")
    if heard[voiced, :BANDS].std(0).mean() < 0.25:
        raise CmetError(f"{name} holds a steady tone, not speech; give a recording in which somebody speaks.")


def save_student(student: Student, path: str | Path, figures: dict, *, force: bool = False) -> None:
    """Write a student network with its configuration and figures: float16 safetensors."""
    state = {k: v.half().contiguous() if v.is_floating_point() else v for k, v in student.state_dict().items()}
    about = {"format": FORMAT, "config": json.dumps(asdict(student.config)), "figures": json.dumps(figures)}
    with whole_file(path, force=force) as temporary:
        save_file(state, temporary, about)


def load_student(path: str | Path) -> tuple[Student, dict]:
    """Read what `save_student` wrote: the network (float32) and its figures.

    Raises:
        CmetError: the file is missing, damaged, or no speech encoder of this project.
    """
    path = Path(path)
    try:
        with safe_open(path, "pt") as file:
            about = file.metadata() or {}
            state = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 (not a dict)
    except (OSError, SafetensorError) as error:
        raise CmetError(f"Cannot read the speech encoder {path}: the file is missing or damaged.") from error
    if about.get("format") != FORMAT:
        raise CmetError(f"{path.name} is not a speech encoder of this project (format '{about.get('format')}').")
    given = json.loads(about["config"])
    config = StudentConfig(**{k: tuple(v) if isinstance(v, list) else v for k, v in given.items()})
    student = Student(config)
    student.load_state_dict({k: v.float() if v.is_floating_point() else v for k, v in state.items()}, strict=True)
    return student, json.loads(about.get("figures", "{}"))


@functools.cache
def load_encoder(name: str = "embedded", *, device: str = "cpu") -> Encoder:
    """A speech encoder that is ready to use.

    Args:
        name: `embedded`, or the path of a `.safetensors` that `cmet train encoder` wrote.
        device: `cpu`, `cuda`, or `auto` for a GPU when there is one.

    Raises:
        CmetError: the file is missing, damaged, or no speech encoder; or the device is not there.
    """
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    if device.startswith("cuda") and not torch.cuda.is_available():
        raise CmetError(f"The device '{device}' is not on this machine; use cpu or auto.")
    student, figures = load_student(models.asset(EMBEDDED) if name == "embedded" else name)
    return Encoder(student, device=device, figures=figures)
