"""Speaker augmentation and room simulation of speech, to train with.

The labelled speech has few speakers and few rooms. A voice is changed in pitch by overlap-add at pitch periods (TD-PSOLA,
Moulines and Charpentier 1990), which leaves the formants, and in formants by resampling before it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
import scipy

from cmet_engine.emotion.acoustics import HOP, RATE, pitch

UNVOICED = 100  # samples between two marks where there is no pitch

DEEP, HIGH = (85.0, 150.0), (150.0, 280.0)
"""Pitch in Hz of deep and of high voices, set by hand to about the ranges of male and female speech."""

_EDGE = 2000  # samples of silence around a wave, more than the longest period


@dataclass(frozen=True)
class Voice:
    """How a voice is changed: factors of its formants and its pitch."""

    formants: float
    pitch: float


def random_voice(hertz: float, deep: bool, random: np.random.Generator) -> Voice:
    """A random change of a voice whose pitch is `hertz`; formants follow the pitch, as they do between people."""
    low, high = DEEP if deep else HIGH
    target = np.exp(random.uniform(np.log(low), np.log(high)))
    factor = float(np.clip(target / hertz, 0.5, 2.2))
    formants = factor ** random.uniform(0.1, 0.4) * np.exp(random.normal(0, 0.04))
    return Voice(float(np.clip(formants, 0.82, 1.22)), factor)


def convert_voice(wave: np.ndarray, voice: Voice, tempo: float = 1.0) -> np.ndarray:
    """`wave` float32 [S] at 16 kHz in another voice, `tempo` times as fast: float32 [about S / tempo]."""
    formants = Fraction(voice.formants).limit_denominator(24)
    moved = scipy.signal.resample_poly(wave, formants.denominator, formants.numerator).astype(np.float32)
    return shift_pitch(moved, voice.pitch / float(formants), tempo / float(formants))


def shift_pitch(wave: np.ndarray, factor: float, tempo: float = 1.0) -> np.ndarray:
    """Pitch times `factor`, formants as they are, `tempo` times as fast: float32 [S] at 16 kHz -> float32 [S / tempo]."""
    marks, periods, voiced = _marks(wave)
    length = int(len(wave) / tempo)
    padded = np.pad(wave, (_EDGE, 2 * _EDGE))
    sound = np.zeros(length + 3 * _EDGE, np.float32)
    weight = np.full(length + 3 * _EDGE, 1e-3, np.float32)
    windows: dict[int, np.ndarray] = {}
    at, near = 0.0, 0
    while at < length:
        source = at * tempo
        while near + 1 < len(marks) and abs(marks[near + 1] - source) <= abs(marks[near] - source):
            near += 1
        half = int(periods[near])
        window = windows.setdefault(half, np.hanning(2 * half + 1).astype(np.float32))
        centre, first = marks[near] + _EDGE, int(at) - half + _EDGE
        sound[first : first + len(window)] += padded[centre - half : centre + half + 1] * window
        weight[first : first + len(window)] += window
        at += periods[near] / factor if voiced[near] else periods[near]
    sound, weight = sound[_EDGE : _EDGE + length], weight[_EDGE : _EDGE + length]
    # grains that lie apart leave dips, those that overlap add up
    return sound / np.maximum(weight, 0.3 if factor < 1 else 1.0)


def _marks(wave: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Where periods of `wave` [S] begin (samples, at a peak), how long they are (samples), and whether they are voiced."""
    frames = max(1, len(wave) // HOP)
    frequency = pitch(wave - wave.mean(), frames)[0]  # Hz, 0 where unvoiced
    loudness = np.abs(wave)
    marks: list[int] = []
    periods, voiced = [], []
    at = 0.0
    while at < len(wave) - 1:
        hertz = frequency[min(int(at / HOP + 0.5), frames - 1)]
        place = int(at)
        period = float(RATE / hertz) if hertz > 0 else float(UNVOICED)
        if hertz > 0:
            first, last = max(0, int(at - 0.2 * period)), min(len(wave), int(at + 0.2 * period) + 1)
            peak = first + int(loudness[first:last].argmax())
            place = peak if not marks or peak - marks[-1] >= 0.5 * period else place
        marks.append(place)
        periods.append(period)
        voiced.append(hertz > 0)
        at = (place if hertz > 0 else at) + period
    return np.array(marks), np.array(periods), np.array(voiced)


def simulate_channel(wave: np.ndarray, random: np.random.Generator, babble: Sequence[np.ndarray] = ()) -> np.ndarray:
    """`wave` float32 [S] at 16 kHz in another room, with another microphone, background and channel: float32 [S].

    A quarter of the calls clip. In 35 % a few of the waves in `babble` speak 5 to 25 dB below. The room, for 30 %, is noise that
    decays by 60 dB in 0.2 to 0.8 s. The microphone is a smooth curve over the frequencies of up to 13 dB either way. The
    background, for 50 %, is coloured noise 5 to 40 dB below the voice. The channel ends at 2.4 to 5.5 kHz for 15 %, and for half,
    mostly, at 5.5 kHz, so that nothing depends on a corpus whose sound ends there. A fifth is coded in few bits (mu-law).
    """
    count = len(wave)
    if random.random() < 0.25:
        limit = np.quantile(np.abs(wave), random.uniform(0.97, 0.995))
        wave = np.clip(wave, -limit, limit)
    if random.random() < 0.35 and len(babble):
        wave = wave + _voices_behind(wave, random, babble)
    level = float(np.sqrt(np.mean(wave**2)) + 1e-9)
    spectrum = np.fft.rfft(wave, count + RATE)
    frequency = np.fft.rfftfreq(count + RATE, 1 / RATE)
    height = np.log2(np.maximum(frequency, 60) / 60) / np.log2(RATE / 2 / 60)  # 0..1
    if random.random() < 0.3:
        time = np.arange(int(0.8 * RATE)) / RATE
        tail = random.standard_normal(len(time)) * 10 ** (-3 * time / random.uniform(0.2, 0.8))
        tail *= random.uniform(0.2, 0.8) / np.sqrt((tail**2).sum())
        tail[0] = 1.0
        spectrum *= np.fft.rfft(tail, count + RATE)
    curve = sum(random.uniform(-7, 7) / waves * np.cos(waves * np.pi * height) for waves in (1, 2, 3))  # dB
    spectrum *= 10 ** (curve / 20)
    if random.random() < 0.5:
        noise = np.fft.rfft(random.standard_normal(count + RATE)) * 10 ** (
            random.uniform(-12, 12) * (0.5 - height) / 20
        )
        spectrum += noise * level * 10 ** (-random.uniform(5, 40) / 20)
    if random.random() < 0.15:
        spectrum[frequency > random.uniform(2400, 5500)] = 0
    if random.random() < 0.5:
        end = 5500 if random.random() < 0.6 else random.uniform(3400, 7000)
        spectrum *= 1 / (1 + np.exp((frequency - end) / 40))
    varied = np.fft.irfft(spectrum, count + RATE)[:count]
    return (_coded(varied, random) if random.random() < 0.2 else varied).astype(np.float32)


def _voices_behind(wave: np.ndarray, random: np.random.Generator, babble: Sequence[np.ndarray]) -> np.ndarray:
    """Three to five voices at once, as long as `wave` [S], 5 to 25 dB softer."""
    total = np.zeros(len(wave))
    for number in random.integers(len(babble), size=random.integers(3, 6)):
        other = babble[number]
        total += np.roll(np.resize(other, len(wave)), random.integers(len(wave))) / (other.std() + 1e-6)
    return total * wave.std() / (total.std() + 1e-6) * 10 ** (-random.uniform(5, 25) / 20)


def _coded(wave: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """`wave` [S] quantised in 6 to 8 bits by the mu-law (ITU-T G.711)."""
    peak, law = np.abs(wave).max() + 1e-6, 255
    steps = 2.0 ** random.integers(5, 8)
    coded = np.round(np.sign(wave) * np.log1p(law * np.abs(wave) / peak) / np.log1p(law) * steps) / steps
    return np.sign(coded) * np.expm1(np.abs(coded) * np.log1p(law)) / law * peak
