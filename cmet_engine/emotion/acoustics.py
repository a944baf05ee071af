"""What can be measured of a voice: log-mel bands and pitch along the clip, and statistics of the clip as a whole.

`acoustics` measures every 10 ms against the clip's own loud frames, so that gain does not matter; `summarise` turns that
into one row of numbers for the whole recording.
"""

import functools
import math
from collections.abc import Iterator

import numpy as np
import torch
import torch.nn.functional as F
from scipy.fft import dct
from scipy.ndimage import uniform_filter1d
from scipy.signal import find_peaks, lfilter

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


_BROAD = 16  # bands of five mel bands each
_CEPSTRA = 24
_SHORTEST = 24  # frames; what is shorter is drawn out by its edges
_VOICED_LEAST = 9  # voiced frames without which all spoken ones count as voiced

# numbers that `summarise` gives: by contour 12 functionals, 9 of cepstra's changes, 11 likenesses of later moments, 15 of rises and
# peaks; and the correlations of 18 contours
STATISTICS = 12 * (11 + 3 + _BROAD + 13) + 2 * 11 + 9 * 24 + 18 * 17 // 2 + 11 * 16 + 15 * 6


def summarise(heard: np.ndarray) -> np.ndarray:
    """Statistics of a recording as a whole: how it sounds, and how that moves, whatever is said.

    In the manner of large sets of functionals over contours (Eyben et al. 2016, GeMAPS; Schuller et al. 2016, ComParE),
    chosen by what tells emotions of voices apart that were not trained on (see the model card).

    Args:
        heard: what `acoustics` gives, [F, 84].

    Returns:
        float32 [1173]. Over the spoken frames, or where said the voiced ones or all from the first to the last spoken one:
        functionals of the spectrum's shape; the same of pitch and energy (voiced), of bands filtered by RASTA, of
        changes of bands and tracks (all); distribution of the changes of cepstra and tracks; correlations between cepstra,
        pitch and energy; likeness of contours to themselves a little later (all); rises and peaks (all).
    """
    heard = heard.astype(np.float32)
    spoken = heard[:, BANDS + 3] > AUDIBLE
    at = np.flatnonzero(spoken)
    if len(at) > 10:
        heard, spoken = heard[at[0] : at[-1] + 1], spoken[at[0] : at[-1] + 1]
    else:
        spoken = np.ones_like(spoken)
    if len(heard) < _SHORTEST:
        beyond = (0, _SHORTEST - len(heard))
        heard, spoken = np.pad(heard, (beyond, (0, 0)), "edge"), np.pad(spoken, beyond, "edge")
    mel, tracks = heard[:, :BANDS], heard[:, BANDS:]
    voiced = spoken & (tracks[:, 2] > VOICED)
    voiced = voiced if voiced.sum() >= _VOICED_LEAST else spoken
    cepstra = dct(mel, axis=1, norm="ortho")[:, :_CEPSTRA]
    broad = mel.reshape(len(mel), _BROAD, -1).mean(2)
    shape, loudness = _shape(mel)
    centroid = shape[:, :1]
    filtered = lfilter(_RASTA, (1.0, -0.94), broad, axis=0)
    moving = np.concatenate([broad[:, ::2], tracks[:, [0, 2, 3]], centroid, loudness], 1)
    soft = uniform_filter1d(np.concatenate([cepstra[:, :13], tracks[:, [0, 2, 3]]], 1), 5, axis=0, mode="constant")
    heights = np.concatenate([tracks[:, [0, 3]], centroid, loudness, cepstra[:, 1:3]], 1)
    result = [
        _functionals(shape[spoken]), shape[voiced].mean(0), shape[voiced].std(0), _functionals(tracks[voiced][:, [0, 1, 3]]),
        _functionals(filtered), _functionals(np.gradient(moving, axis=0)),
        _changes(np.concatenate([cepstra[:, :20], tracks], 1), spoken),
        _correlations(np.concatenate([cepstra[:, :16], tracks[:, [0, 3]]], 1)[spoken]),
        _later(soft, 6), _later(soft[::4], 5),
        _peaks(uniform_filter1d(heights, 5, axis=0, mode="constant")),
    ]  # fmt: skip
    return np.nan_to_num(np.concatenate(result)).astype(np.float32)


_RASTA = (0.2, 0.1, 0.0, -0.1, -0.2)
"""Numerator of the filter that leaves what changes as fast as syllables do (Hermansky and Morgan 1994, RASTA)."""


def _shape(mel: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """How the power lies over the bands `mel` [F, 80].

    Returns:
        [F, 11]: centroid, spread, entropy, the bands below which 85 % and half of the power lie, change from frame to frame, slope,
        lower against upper bands, highest against lowest ones, slope of each half; and loudness [F, 1], power to the 0.3 as ears
        compress it.
    """
    power = np.exp(mel)
    loudness = np.exp(0.3 * mel).sum(1, keepdims=True)
    power /= power.sum(1, keepdims=True) + 1e-9
    band = np.arange(BANDS, dtype=np.float32)
    centroid = power @ band
    spread = np.sqrt(np.maximum(power @ band**2 - centroid**2, 0))
    entropy = -(power * np.log(power + 1e-9)).sum(1)
    below = np.cumsum(power, 1)
    rolled = [(below < share).sum(1) for share in (0.85, 0.5)]
    flux = np.zeros_like(centroid)
    flux[1:] = 10 * np.sqrt((np.diff(power, axis=0) ** 2).sum(1))

    def slope(part: slice) -> np.ndarray:
        steps = band[part] - band[part].mean()
        return mel[:, part] @ steps / (steps @ steps)

    balance = mel[:, :30].mean(1) - mel[:, 30:].mean(1)
    height = mel[:, 50:].mean(1) - mel[:, :20].mean(1)
    slopes = [slope(slice(None)), balance, height, slope(slice(25)), slope(slice(35, None))]
    return np.stack([centroid, spread, entropy, *rolled, flux, *slopes], 1).astype(np.float32), loudness


def _functionals(contours: np.ndarray) -> np.ndarray:
    """Of each of the contours [F, C]: mean, deviation, trend, bend, skewness, excess, five percentiles, mean step: [12 C]."""
    count = len(contours)
    time = np.linspace(-1, 1, count, dtype=np.float32)
    mean = contours.mean(0)
    centred = contours - mean
    deviation = centred.std(0) + 1e-3
    unit = centred / deviation
    square = unit * unit
    return np.concatenate([
        mean, deviation, time @ centred / (time @ time), (1.5 * time**2 - 0.5) @ centred / count,
        (square * unit).mean(0), (square * square).mean(0) - 3, _percentiles(contours, 0.05, 0.25, 0.5, 0.75, 0.95),
        np.abs(np.diff(contours, axis=0)).mean(0),
    ])  # fmt: skip


def _percentiles(contours: np.ndarray, *shares: float) -> np.ndarray:
    """The values of contours [F, C] below which these shares of each lie, the nearest there are: [shares C]."""
    return np.sort(contours, 0)[[round((len(contours) - 1) * share) for share in shares]].ravel()


def _changes(contours: np.ndarray, spoken: np.ndarray) -> np.ndarray:
    """How contours [F, C] change from frame to frame, and those changes again, over the `spoken` [F] frames: [9 C]."""
    first = np.gradient(contours, axis=0)
    second = np.gradient(first, axis=0)[spoken]
    first = first[spoken]
    return np.concatenate([
        first.std(0), _percentiles(first, 0.05, 0.25, 0.75, 0.95), _percentiles(second, 0.05, 0.95),
        second.std(0), np.abs(second).mean(0),
    ])  # fmt: skip


def _correlations(contours: np.ndarray) -> np.ndarray:
    """Pearson's correlation between every two of the contours [F, C]: [C (C - 1) / 2]. No gain and no line changes it."""
    unit = contours - contours.mean(0)
    unit /= np.sqrt((unit**2).sum(0)) + 1e-6
    return (unit.T @ unit)[np.triu_indices(contours.shape[1], 1)]


def _later(contours: np.ndarray, lags: int) -> np.ndarray:
    """Autocorrelation of contours [F, C] after 1 to `lags` frames, fewer than F: [lags C]."""
    count = len(contours)
    centred = contours - contours.mean(0)
    power = (centred**2).mean(0) + 1e-6
    return np.concatenate([(centred[: count - lag] * centred[lag:]).mean(0) / power for lag in range(1, lags + 1)])


def _peaks(contours: np.ndarray) -> np.ndarray:
    """Peaks, rises and falls of each of the contours [F, C]: [15 C].

    How many peaks a second, their distances (mean and deviation, s), heights (mean and deviation) and the depth of the valleys; how
    steep rises and falls are (mean and deviation) and the share of rises; when the highest and lowest points come; the shares of
    time near the top and near the bottom.
    """
    result: list[float] = []
    for contour in contours.T:
        least = 0.5 * float(contour.std()) + 1e-6
        tops, _ = find_peaks(contour, distance=5, prominence=least)
        dips, _ = find_peaks(-contour, distance=5, prominence=least)
        apart = np.diff(tops) / 100 if len(tops) > 1 else np.zeros(1)
        mean, step = contour.mean(), np.diff(contour)
        up, down = (part if len(part) else np.zeros(1) for part in (step[step > 0], step[step < 0]))
        level = (contour - contour.min()) / (np.ptp(contour) + 1e-6)
        result += [
            100 * len(tops) / len(contour), apart.mean(), apart.std(),
            contour[tops].mean() - mean if len(tops) else 0.0, contour[tops].std() if len(tops) else 0.0,
            contour[dips].mean() - mean if len(dips) else 0.0,
            up.mean(), down.mean(), up.std(), down.std(), (step > 0).mean(),
            contour.argmax() / len(contour), contour.argmin() / len(contour), (level > 0.75).mean(), (level < 0.25).mean(),
        ]  # fmt: skip
    return np.array(result)
