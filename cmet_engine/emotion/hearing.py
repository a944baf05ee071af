"""What is felt in a recording, when and how strongly: phrases of speech, and the emotion keys that they make.

The encoder knows recordings of a few seconds, so it is asked about one phrase after another: what is spoken between two
pauses. A phrase alone, or beside neutral speech of the same voice, gets a probability of every emotion.
"""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np
import scipy

from cmet_engine import cache, fingerprint
from cmet_engine.emotion.acoustics import BANDS, HOP, acoustics
from cmet_engine.emotion.intensity import intensity
from cmet_engine.emotion.predictions import ENCODER_FILES, FrameFeatures
from cmet_engine.emotion.recordings import encode_recording
from cmet_engine.emotion.sound_files import sound_files
from cmet_engine.emotion.speech import Encoder, load_encoder
from cmet_engine.emotion.vector import LENGTH, library_vector
from cmet_engine.emotions import LIBRARY, NEUTRAL
from cmet_engine.errors import InvalidInput
from cmet_engine.media import audio
from cmet_engine.models import assets
from cmet_engine.progress import Progress, Stage
from cmet_engine.smoothstep import smoothstep
from cmet_engine.timeline import EmotionKey, EmotionTimeline

STEP = 0.25  # seconds between two moments
PAUSE = 0.3  # seconds of silence that end a phrase
SHORT, LONG = 1.0, 5.0  # seconds: shorter phrases join a neighbour, longer ones are split where they are softest
NEIGHBOUR = 0.8  # seconds up to which a phrase is a short one's neighbour
QUIET = -7.5  # natural log energy below the loud frames from which sound may be speech
LOUDER = 2.0  # natural log energy by which speech is above the room
HOLD = 2.0  # seconds of silence over which an emotion is kept
EASE = 0.4  # seconds of a ramp; where one emotion follows another they cross
LEAD = 0.15  # seconds by which the face is ahead of the voice
FELT = 0.3, 0.7  # share of the likeliest emotion, in it and neutral, at which nothing is felt, and all of it
LEAST = 0.1  # strength that is worth a key
ALIKE = 0.2  # difference of strength up to which phrases of one emotion share a key
SAID = 0.1  # probability from which an emotion is named
CLOSE = 0.5  # share of the likeliest emotion's probability from which the second one is close


@dataclass(frozen=True)
class Hearing:
    """What a voice expresses over time.

    Attributes:
        seconds: length of the recording.
        spans: float64 [P, 2], seconds at which each phrase begins and ends.
        shares: float32 [P, 14], probability of neutral and of each emotion of the library in each phrase.
        features: float32 [F, 13], place in the encoder's space every `STEP` seconds; in pauses what was said before.
        spoken, energy: float64 [F], share of speech and loudness around each moment.
    """

    seconds: float
    spans: np.ndarray
    shares: np.ndarray
    features: np.ndarray
    spoken: np.ndarray
    energy: np.ndarray

    @property
    def times(self) -> np.ndarray:
        """Seconds of the moments: float64 [F]."""
        return np.arange(len(self.features)) * STEP

    def strengths(self) -> np.ndarray:
        """How strongly each phrase is felt, 0 to 1, float32 [P]: its likeliest emotion against neutral, a half where both are as likely.

        Full strength is reached early, so that it depends little on how lively a voice is.
        """
        likeliest = self.shares[:, 1:].max(1)
        return smoothstep(likeliest / np.maximum(likeliest + self.shares[:, 0], 1e-6), *FELT)

    def timeline(self) -> EmotionTimeline:
        """A key for every emotion that is felt, as long as it lasts; each says in `heard` how probable it and others are.

        A pause keeps what was felt before it, up to `HOLD` seconds.
        """
        return EmotionTimeline([_key(*stretch, self.seconds) for stretch in self._stretches()])

    def messages(self, neutral: Path | None) -> list[str]:
        """Where a second emotion is about as probable, and what would make it surer, as sentences; `neutral` as in `of`."""
        keys = self.timeline().keys
        if not keys:
            return ["The voice sounds neutral throughout."]
        surer = "No neutral speech of this voice was given: a voice that always sounds tense or low is heard as angry or sad; a few neutral sentences of it make it surer."
        return ([] if neutral else [surer]) + [
            f"From {key.start:.1f} to {key.end or self.seconds:.1f} s it sounds {key.emotion} ({key.heard[key.emotion]:.2f}) or {second} "
            f"({key.heard[second]:.2f})."
            for key in keys
            if (second := second_choice(key)) is not None
        ]

    def _stretches(self) -> list[tuple[float, float, float, np.ndarray]]:
        """Begin, end, strength and shares [14] of stretches that one emotion lasts, crossing where they touch."""
        found: list[tuple[float, float, float, np.ndarray]] = []
        for (begin, end), strength, shares in zip(self.spans, self.strengths(), self.shares, strict=True):
            name = shares[1:].argmax()
            before = found[-1] if found else None
            if (
                before is not None
                and before[3][1:].argmax() == name
                and abs(before[2] - strength) <= ALIKE
                and begin - before[1] <= HOLD
            ):
                own, new = before[1] - before[0], end - begin
                joined = (before[3] * own + shares * new) / (own + new)
                found[-1] = (before[0], end, (before[2] * own + strength * new) / (own + new), joined)
            else:
                found.append((begin, end, float(strength), shares))
        edges = [(max(0.0, begin - LEAD), min(self.seconds, end + EASE)) for begin, end, *_ in found]
        for n, ((_, end, *_), (begin, *_)) in enumerate(itertools.pairwise(found)):
            if begin - end <= HOLD:  # they cross in the middle of the pause, a little early
                middle = max((begin + end) / 2, begin - EASE) - LEAD / 2
                edges[n], edges[n + 1] = (edges[n][0], middle + EASE / 2), (middle - EASE / 2, edges[n + 1][1])
        stretches = [(max(0.0, a), min(b, self.seconds), *one[2:]) for (a, b), one in zip(edges, found, strict=True)]
        return [one for one in stretches if one[2] >= LEAST and one[1] - one[0] > EASE]

    def course(self, timeline: EmotionTimeline) -> dict[str, np.ndarray]:
        """Strength of every emotion of `timeline` at every moment, as the voice stresses it: name -> float32 [F], 0 or more."""
        frames = FrameFeatures(self.times, self.features, self.spoken, self.energy)
        return {
            name: weight * intensity(frames, library_vector(name))[1]
            for name, weight in timeline.weights(self.times, self.seconds).items()
        }

    @classmethod
    def of(cls, path: Path, neutral: Path | None = None, progress: Progress | None = None) -> Self:
        """Hear a file; see `hear`. The result is cached by the files' content.

        Args:
            path: a recording, or a clip with sound.
            neutral: neutral speech of the same voice: a recording, or a folder of them.
            progress: called as `progress(stage, done, total)`.

        Raises:
            CmetError: a file is missing, has no sound or cannot be used as speech, or nobody speaks in it.
        """
        rest = [] if neutral is None else sound_files([neutral])
        code = fingerprint.code(__name__, "cmet_engine.emotion.speech", "cmet_engine.media.audio")
        about = (assets.checksums(*ENCODER_FILES), tuple(cache.content(file) for file in rest))

        def work() -> dict[str, np.ndarray]:
            encoder = load_encoder()
            calm = np.mean([encode_recording(file, encoder).statistics for file in rest], 0) if rest else None
            found = hear(audio.load(path), encoder, calm, path.name, progress)
            return {name: np.asarray(value) for name, value in vars(found).items()}

        found = cache.arrays(cache.key("heard", path, code, *about), work)
        return cls(float(found.pop("seconds")), **found)


def hear(
    wave: np.ndarray,
    encoder: Encoder,
    neutral: np.ndarray | None = None,
    name: str = "The recording",
    progress: Progress | None = None,
) -> Hearing:
    """What a recording expresses over time.

    Args:
        wave: float32 [S] at 16 kHz.
        encoder: what `load_encoder` gives.
        neutral: mean of `Encoder.encode` [1280] over neutral recordings of the same voice, if there are any.
        name: what to call it in a message.
        progress: called as `progress(stage, done, total)`.

    Raises:
        InvalidInput: it is too short or silent, or nobody speaks in it.
    """
    audio.check_speech(wave, audio.RATE, name)
    energy = acoustics(wave)[:, BANDS + 3]
    spans, shares, moments, places = [], [], [], []
    found = phrases(energy)
    for number, (start, stop) in enumerate(found):
        if progress:
            progress(Stage.HEAR, number, len(found))
        part = wave[start * HOP : stop * HOP]
        try:
            times, features, _, _ = encoder.frame_features(part, audio.RATE)
        except InvalidInput:
            continue  # a noise, or music
        if neutral is not None:
            measured = encoder.encode(part)
            features = features + encoder.predict(measured, neutral).features - encoder.predict(measured).features
        likely = np.clip(features.mean(0) / LENGTH, 0, 1)
        spans.append((start / 100, stop / 100))
        shares.append(np.append(max(0.0, 1 - likely.sum()), likely) / max(1.0, likely.sum()))
        moments.append(times + start / 100)
        places.append(features)
    if not spans:
        raise InvalidInput(f"{name}: no voice was found in it; give a recording in which somebody speaks.")
    frames = np.arange(max(1, int(np.ceil(len(wave) / audio.RATE / STEP)))) * STEP
    at = np.minimum((frames * 100).astype(int), len(energy) - 1)
    talking = np.zeros(len(energy))
    for begin, end in spans:
        talking[round(begin * 100) : round(end * 100)] = 1
    known, values = np.concatenate(moments), np.concatenate(places)
    last = np.clip(np.searchsorted(known, frames + 1e-6, side="right") - 1, 0, len(known) - 1)
    return Hearing(
        len(wave) / audio.RATE, np.array(spans), np.array(shares, np.float32), values[last].astype(np.float32),
        scipy.ndimage.gaussian_filter1d(talking, 15)[at], scipy.ndimage.gaussian_filter1d(energy.astype(np.float64), 25)[at],
    )  # fmt: skip


def phrases(energy: np.ndarray) -> list[tuple[int, int]]:
    """Begin and end of the phrases in a recording, in frames of 10 ms.

    Args:
        energy: [F], natural log energy relative to the loud frames, every 10 ms.
    """
    soft = scipy.ndimage.gaussian_filter1d(energy.astype(np.float64), 3)
    least = min(-4.0, max(QUIET, float(np.quantile(soft, 0.05)) + LOUDER))
    edges = np.flatnonzero(np.diff(np.concatenate([[0], (soft > least).astype(int), [0]])))
    runs = [(int(a), int(b)) for a, b in edges.reshape(-1, 2) if b - a >= 8]  # a click is no speech
    joined = _joined(_joined(runs, round(PAUSE * 100), 0), round(NEIGHBOUR * 100), round(SHORT * 100))
    return [part for run in joined for part in _split(*run, soft)]


def _joined(runs: Sequence[tuple[int, int]], gap: int, short: int) -> list[tuple[int, int]]:
    """Runs with those joined that lie at most `gap` apart; with `short`, only where one of the two is shorter than that."""
    found: list[tuple[int, int]] = []
    for start, stop in runs:
        close = bool(found) and start - found[-1][1] <= gap
        if close and (not short or min(stop - start, found[-1][1] - found[-1][0]) < short):
            found[-1] = (found[-1][0], stop)
        else:
            found.append((start, stop))
    return found


def _split(start: int, stop: int, soft: np.ndarray) -> list[tuple[int, int]]:
    """A phrase in parts of at most `LONG` seconds, split where it is softest near its middle."""
    if stop - start <= LONG * 100:
        return [(start, stop)]
    third = (stop - start) // 3
    at = start + third + int(soft[start + third : stop - third].argmin())
    return _split(start, at, soft) + _split(at, stop, soft)


def _key(begin: float, end: float, strength: float, shares: np.ndarray, seconds: float) -> EmotionKey:
    """The key of a stretch that one emotion lasts; at the ends of the recording it stays open."""
    names = (NEUTRAL, *LIBRARY)
    likeliest = int(shares[1:].argmax()) + 1
    order = [likeliest, *(int(n) for n in (-shares).argsort()[:3] if n != likeliest and shares[n] >= SAID)]
    heard = {names[n]: round(float(shares[n]), 2) for n in order}
    start, stop = (0.0 if begin < EASE else round(begin, 3)), (None if end > seconds - EASE else round(end, 3))
    return EmotionKey(names[likeliest], round(strength, 2), start, stop, EASE, EASE, heard=heard)


def second_choice(key: EmotionKey) -> str | None:
    """The emotion that is nearly as probable as that of a heard key, if there is one."""
    for name, share in key.heard.items():
        if name not in (key.emotion, NEUTRAL) and share >= CLOSE * key.heard[key.emotion]:
            return name
    return None
