"""Synthetic voices for tests: a buzz through two formants, syllable by syllable."""

import wave as wave_file
from pathlib import Path

import numpy as np

RATE = 16000


def speak(
    seconds: float = 2.0, *, pitch: float = 130.0, lively: float = 0.1, seed: int = 0, rate: int = RATE
) -> np.ndarray:
    """float32 [S] at `rate`: syllables of changing vowels; `pitch` in Hz, `lively` the spread of pitch in octaves."""
    from scipy.signal import lfilter  # takes a second or two, which most processes of the tests are spared

    random = np.random.default_rng(seed)
    parts = []
    while sum(map(len, parts)) < seconds * rate:
        length = int(rate * random.uniform(0.15, 0.3))
        octaves = lively * (random.standard_normal() + np.linspace(0.5, -0.5, length))
        phase = np.cumsum(pitch * 2**octaves / rate)
        sound = np.diff(np.floor(phase), prepend=0.0) + 0.01 * random.standard_normal(length)
        for formant, width in ((random.uniform(300, 800), 80), (random.uniform(900, 2200), 120)):
            radius, angle = np.exp(-np.pi * width / rate), 2 * np.pi * formant / rate
            sound = lfilter([1 - radius], [1, -2 * radius * np.cos(angle), radius**2], sound)
        parts += [sound * np.hanning(length), np.zeros(int(rate * random.uniform(0.02, 0.08)))]
    sound = np.concatenate(parts)[: int(seconds * rate)]
    return (0.5 * sound / np.abs(sound).max()).astype(np.float32)


def write_wav(path: Path, sound: np.ndarray, rate: int = RATE) -> Path:
    """Write [S] or [S, channels] in [-1, 1] as 16-bit WAV."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with wave_file.open(str(path), "wb") as file:
        file.setnchannels(1 if sound.ndim == 1 else sound.shape[1])
        file.setsampwidth(2)
        file.setframerate(rate)
        file.writeframes((np.clip(sound, -1, 1) * 32767).astype("<i2").tobytes())
    return path
