"""Acoustic features of speech: log-mel bands and pitch every 10 ms.

Levels are relative to the clip's own loud frames, so that gain does not matter.
"""

from collections.abc import Iterator

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from cmet_engine.emotion.mel import RATE, mel_filters
from cmet_engine.errors import InvalidInput

HOP = 160  # samples, 10 ms
WINDOW = 400  # samples, 25 ms
TRANSFORM = 512  # samples; the next power of two above `WINDOW`
BANDS = 80  # as many as Whisper's
MEL_RANGE = (40.0, 7600.0)  # Hz
PITCH_RANGE = (60.0, 600.0)  # Hz; shrieked fear and surprise pass 500
PITCH_WINDOW = 800  # samples, 50 ms: three periods of the deepest voice
VOICED = 0.5  # normalised autocorrelation above which a frame counts as voiced (Boersma 1993: 0.45)
FLOOR = -9.0  # natural log power below the clip's loud frames (39 dB): softer sound is the room, not the voice
AUDIBLE = -5.0  # natural log energy below the loud frames above which a frame counts as spoken
BLOCK = 2048  # frames per batch
CHANNELS = BANDS + 4  # bands, pitch in octaves above 150 Hz, pitch against the clip's median, voicing, energy


def hann(size: int) -> np.ndarray:
    """The periodic Hann window: float32 [size]."""
    return (0.5 - 0.5 * np.cos(2 * np.pi * np.arange(size) / size)).astype(np.float32)


def _windows(wave: np.ndarray, size: int, frames: int) -> Iterator[np.ndarray]:
    """Windows [B, size] centred on every 10 ms of `wave` [S], `BLOCK` frames at a time: memory does not grow with the clip."""
    padded = np.pad(wave, (size // 2, size + HOP))
    for first in range(0, frames, BLOCK):
        count = min(BLOCK, frames - first)
        yield sliding_window_view(padded[first * HOP : (first + count - 1) * HOP + size], size)[::HOP]


def pitch(wave: np.ndarray, frames: int) -> tuple[np.ndarray, np.ndarray]:
    """Fundamental frequency and voicing by autocorrelation.

    The autocorrelation of a windowed frame is divided by that of the window (Boersma 1993, "Accurate short-term analysis
    of the fundamental frequency"). A second pass searches only near the clip's own range (De Looze and Hirst 2008), which
    removes octave errors.

    librosa's `yin` and `pyin` give other values (on a synthetic voice 3.5 % of voiced frames differ from `yin` by more than
    1 %, and `pyin` calls 6 % of frames voiced or unvoiced otherwise). The embedded encoder is trained on the statistics of
    this tracker, so a change here means training it anew.

    Args:
        wave: float32 [S] at 16 kHz.
        frames: how many frames of 10 ms to measure.

    Returns:
        Frequency in Hz float32 [F] (0 where unvoiced) and the autocorrelation at that lag float32 [F] in 0..1.
    """
    window = hann(PITCH_WINDOW)
    size = 1080  # zero-padded: the longest lag must not wrap around
    shortest, longest = int(RATE / PITCH_RANGE[1]), int(RATE / PITCH_RANGE[0]) + 1
    own = np.fft.irfft(np.abs(np.fft.rfft(window, size)) ** 2)[: longest + 2]
    lags = np.arange(longest + 2)
    cost = 0.02 * np.log2(np.maximum(lags, 1) / shortest)  # of two equal peaks the shorter period is the true one

    def search(allowed: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        found = [_best_lag(block, window, own, size, allowed, cost) for block in _windows(wave, PITCH_WINDOW, frames)]
        return RATE / np.concatenate([lag for lag, _ in found]), np.concatenate([strength for _, strength in found])

    frequency, strength = search(lags >= shortest)
    sure = frequency[strength > VOICED]
    if len(sure) >= 8:
        low, high = np.quantile(sure, (0.25, 0.75))
        frequency, strength = search((lags >= max(RATE / (high * 1.9), shortest)) & (lags <= RATE / (low * 0.6)))
    return np.where(strength > VOICED, frequency, 0).astype(np.float32), strength.astype(np.float32)


def _best_lag(
    windows: np.ndarray, window: np.ndarray, own: np.ndarray, size: int, allowed: np.ndarray, cost: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Lag in samples and strength of the autocorrelation's best peak among the `allowed` [L] lags, for `windows` [B, 800]."""
    spectrum = np.fft.rfft((windows - windows.mean(1, keepdims=True)) * window, size)
    correlation = np.fft.irfft(spectrum.real**2 + spectrum.imag**2)[:, : len(own)]
    correlation = correlation / (correlation[:, :1] + 1e-7) / (own / own[0])  # [B, L]
    inner = correlation[:, 1:-1]
    peak = np.pad((inner >= correlation[:, :-2]) & (inner > correlation[:, 2:]), ((0, 0), (1, 1))) & allowed
    score = np.where(peak, correlation - cost, -1.0)
    lag, rows = score.argmax(1), np.arange(len(score))
    before, here, after = (correlation[rows, np.clip(lag + k, 0, len(own) - 1)] for k in (-1, 0, 1))
    shift = 0.5 * (before - after) / np.minimum(before - 2 * here + after, -1e-6)
    strength = np.clip(np.where(score[rows, lag] > -1, here, 0.0), 0, 1)
    return np.maximum(lag + np.clip(shift, -0.5, 0.5), 1.0), strength


def acoustics(wave: np.ndarray) -> np.ndarray:
    """Frame features: log-mel bands, pitch, voicing and energy.

    Args:
        wave: float32 [S], mono, 16 kHz, any gain.

    Returns:
        float32 [F, 84], 100 frames a second: 80 natural-log mel powers relative to the clip's loud frames (at least -9),
        pitch in octaves above 150 Hz (interpolated through unvoiced frames), pitch against the clip's median in octaves,
        voicing 0..1, log energy relative to the loud frames.
    """
    samples = np.asarray(wave, np.float32)
    frames = max(1, len(samples) // HOP)
    samples = samples - samples.mean()
    window = np.pad(hann(WINDOW), (TRANSFORM - WINDOW) // 2)
    filters = mel_filters(BANDS, TRANSFORM, *MEL_RANGE, htk=True, norm=None)
    energies, mels = [], []
    for windows in _windows(samples, TRANSFORM, frames):
        spectrum = np.fft.rfft(windows * window)
        power = spectrum.real**2 + spectrum.imag**2  # [B, 257]
        energies.append(power.sum(1))
        mels.append(power @ filters.T)
    energy = np.log(np.maximum(np.concatenate(energies), 1e-8))  # [F]
    level = float(np.quantile(energy, 0.95))
    energy = np.maximum(energy - level, FLOOR)
    # a band holds a small part of the energy: adding 2 brings its peaks near 0
    mel = np.maximum(np.log(np.maximum(np.concatenate(mels), 1e-10)) - level + 2.0, FLOOR)  # [F, 80]
    frequency, voicing = pitch(samples, frames)
    audible = energy > AUDIBLE - 1
    voiced = (frequency > 0) & audible
    octaves, median = np.zeros(frames, np.float32), 0.0
    if int(voiced.sum()) >= 3:
        at = np.flatnonzero(voiced)
        octaves = np.interp(np.arange(frames), at, np.log2(frequency[at] / 150.0)).astype(np.float32)
        median = float(np.median(octaves[at]))
    tracks = np.stack([octaves, octaves - median, voicing * audible, energy], 1)
    return np.concatenate([mel, tracks], 1).astype(np.float32)


def to_rate(wave: np.ndarray, rate: int) -> np.ndarray:
    """`wave` [S] at `rate` samples a second as float32 at 16 kHz.

    Raises:
        InvalidInput: the rate is not one that sound is recorded at.
    """
    if not 4000 <= rate <= 768000:
        raise InvalidInput(
            f"A sample rate of {rate} is not between 4000 and 768000 a second; give the file's own rate."
        )
    if rate == RATE:
        return np.asarray(wave, np.float32)
    import librosa  # slow to import

    wave = np.asarray(wave, np.float64)
    return librosa.resample(wave, orig_sr=int(rate), target_sr=RATE, res_type="polyphase").astype(np.float32)
