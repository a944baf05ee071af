"""How emotional speech is heard: a small student network in the emotion2vec+ large space (1024 dimensions).

A wave is heard by the lower layers of two published networks (`backbone`) and becomes log-mel bands and a pitch track
(`acoustics`). One part of the `Student` judges what the backbone makes of the clip as a whole by the clips it knows that are like
it; a small part pays attention over time to the bands and the pitch. An utterance is the weighted mean of both. Where neutral
speech of the same voice is at hand, as it is wherever an emotion vector is made from two pools, the first part is told how the
clip differs from it: much of what makes a voice sound moved is how it departs from its own rest. `Encoder` puts all of it behind plain numpy calls. Gain does not matter: every
clip is measured against its own loud frames, as the teacher normalises its wave.
"""

import functools
import itertools
import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from scipy.ndimage import gaussian_filter1d
from scipy.signal import resample_poly

from cmet_engine import cache, models
from cmet_engine.emotion.acoustics import (
    AUDIBLE,
    BANDS,
    CHANNELS,
    HOP,
    RATE,
    acoustics,
)
from cmet_engine.emotion.backbone import EMBEDDED as BACKBONE
from cmet_engine.emotion.backbone import Backbone, load_backbone
from cmet_engine.emotion.intensity import FrameFeatures, intensity
from cmet_engine.emotion.student import Student, StudentInput
from cmet_engine.emotion.student_weights import EMBEDDED, load_student
from cmet_engine.emotion.vector import VECTOR_SIZE
from cmet_engine.emotion.voice_check import check_voice
from cmet_engine.errors import CmetError
from cmet_engine.media import audio

STEP = 0.25  # seconds between two frame readings
_STRIDE = 8  # acoustic frames in one step of the network
_SPAN = 0.5  # seconds, Gaussian width of what one frame reading hears: one or two syllables
_WINDOW = 200  # acoustic frames that the kernel hears for one reading
_STRETCH = 500  # acoustic frames
_TOGETHER = 8  # stretches that the backbone hears at a time
_PART, _MARGIN = 500, 100  # acoustic frames: a long clip is read along in parts of 5 s with a second around them


class ClipFeatures(NamedTuple):
    """A recording heard once, before it is known what neutral speech it is to be told apart from."""

    statistics: np.ndarray  # float32 [1280]
    place: np.ndarray  # float32 [1024], what the sequence part says, times its weight
    scores: np.ndarray  # float32 [classes], the same


class Encoder:
    """The embedded speech encoder: numpy in, numpy out.

    Attributes:
        backbone: what it hears with.
        identity: tells what it answers apart from what others answer, for a cache; None for weights from nowhere.
        emotions: names of the emotions that `emotions_of` scores.
        figures: what was measured on speakers not trained on, by name.
    """

    def __init__(self, student: Student, *, device: str = "cpu", figures: dict | None = None) -> None:
        self.device = torch.device(device)
        self.student = student.eval().to(self.device)
        self.backbone = load_backbone(device)
        self.emotions = student.config.emotions
        self.figures = figures or {}
        self.identity: tuple[str, ...] | None = None

    def utterance(self, wave: np.ndarray, rate: int, neutral: np.ndarray | None = None) -> np.ndarray:
        """Where a recording lies in the emotion2vec+ large space.

        Args:
            wave: float [S] in [-1, 1], mono, any length from 0.3 s.
            rate: samples a second; other than 16000 is resampled.
            neutral: mean of `ClipFeatures.statistics` [1280] over neutral recordings of the same voice, if there are any.

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
        features = np.empty((len(times), VECTOR_SIZE), np.float32)
        for start, stop, part in _parts(heard):
            begin = start / 100
            chosen = np.flatnonzero((times * 100 >= start) & ((times * 100 < stop) | (stop >= len(heard))))
            if not len(chosen):
                continue
            with torch.inference_mode():
                hidden, mask, summary = self.student.encode_sequence(self._heights(part.acoustics))
            at = (np.arange(hidden.shape[1]) * _STRIDE + part.first) / 100 - begin
            near = np.exp(-0.5 * ((at[None] - (times[chosen, None] - begin)) / _SPAN) ** 2)  # [P, T]
            weight = torch.from_numpy(near.astype(np.float32)).to(self.device) * mask[0].float()
            sound = torch.from_numpy(wave[part.first * HOP :][: len(part.acoustics) * HOP])
            (sounds,) = self.backbone(sound[None].to(self.device))
            first = (
                np.clip((times[chosen] * 100).astype(int) - _WINDOW // 2, 0, max(0, len(heard) - _WINDOW)) - part.first
            )
            rows = torch.from_numpy(sounds.summaries(first, first + _WINDOW)).to(self.device)
            with torch.inference_mode():
                places = self.student.pooled(hidden, weight[None], summary).features[0].float()
                features[chosen] = (
                    torch.lerp(self.student.predict(rows)[0], places, self.student.config.share).cpu().numpy()
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

    def along(self, wave: np.ndarray, rate: int) -> FrameFeatures:
        """What `intensity` needs of a recording; see `utterance` for arguments and errors."""
        at_rate, heard = self._heard(wave, rate)
        times, features = self._moments(at_rate, heard, len(wave) / rate)
        at = np.minimum((times * 100).astype(int), len(heard) - 1)
        spoken = gaussian_filter1d((heard[:, BANDS + 3] > AUDIBLE).astype(np.float64), 15)[at]  # [F]
        energy = gaussian_filter1d(heard[:, BANDS + 3].astype(np.float64), 25)[at]
        return FrameFeatures(times, features, spoken, energy)

    def _heard(self, wave: np.ndarray, rate: int) -> tuple[np.ndarray, np.ndarray]:
        """The recording at 16 kHz, float32 [S], and its acoustics [F, 84], once both are checked."""
        audio.check_speech(wave, rate, "The recording")
        wave = to_rate(wave, rate)
        heard = acoustics(wave)
        check_voice(heard, "The recording")
        return wave, heard

    def _heights(self, heard: np.ndarray) -> StudentInput:
        """`heard` [F, 84] as a batch of one."""
        batch = torch.from_numpy(heard)[None].to(self.device)
        return self.student.prepare(batch, torch.tensor([len(heard)], device=self.device))

    def listen(self, wave: np.ndarray, heard: np.ndarray) -> ClipFeatures:
        """Hear a whole recording, given as float32 [S] at 16 kHz and what `acoustics` makes of it [F, 84].

        A long recording is heard in stretches of about five seconds, like those it was trained with, weighted by
        how much is spoken in each.
        """
        place, scores = self.sequenced(heard)
        return ClipFeatures(statistics(wave, self.backbone), place, scores)

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
                reading = self.student(self.student.prepare(batch.to(self.device), lengths))
                place, scores = place + share @ reading.features, scores + share @ reading.scores
        return (config.share * place).cpu().numpy(), (config.score_share * scores).cpu().numpy()

    def told(self, listened: ClipFeatures, neutral: np.ndarray | None = None) -> "Prediction":
        """What the encoder says of a recording it `listened` to.

        Args:
            listened: what `listen` gives.
            neutral: mean of `ClipFeatures.statistics` [1280] over neutral recordings of the same voice; None: the recording alone tells.
        """
        config = self.student.config
        with torch.inference_mode():
            row, place, scores = (torch.from_numpy(part).to(self.device) for part in listened)
            if neutral is None or not len(self.student.neutral_kernel.known):
                features, judged = self.student.predict(row[None])
            else:
                features, judged = self.student.predict_beside_neutral(
                    row[None], torch.from_numpy(neutral).to(self.device)
                )
            features = place + (1 - config.share) * features[0]
            scores = scores + (1 - config.score_share) * judged[0]
            # labels of many speakers taught the scores, the teacher's features of two most of the places
            features = torch.lerp(features, scores.softmax(0) @ self.student.prototypes, config.lean)
        return Prediction(features.cpu().numpy(), scores.cpu().numpy())

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

    def pools(self, wanted: Sequence[ClipFeatures], neutral: Sequence[ClipFeatures]) -> "Pools":
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


def statistics(wave: np.ndarray, backbone: Backbone) -> np.ndarray:
    """What the `backbone` makes of a recording as a whole, float32 [S] at 16 kHz: [1280], mean of its stretches by how much is spoken in each."""
    device = next(backbone.parameters()).device
    count = max(1, round(len(wave) / (_STRETCH * HOP)))
    stretches = torch.from_numpy(np.ascontiguousarray(wave[: len(wave) // count * count], np.float32)).view(count, -1)
    heard = [sounds for some in stretches.split(_TOGETHER) for sounds in backbone(some.to(device))]
    weights = np.array([float(sounds.spoken.sum()) + 1e-3 for sounds in heard])
    return (weights / weights.sum() @ np.stack([sounds.summary() for sounds in heard])).astype(np.float32)


class Pools(NamedTuple):
    """Two pools of one voice as the encoder hears them."""

    wanted: np.ndarray  # float32 [N, 1024]
    neutral: np.ndarray  # float32 [M, 1024]
    drawn: np.ndarray  # float32 [1024], how far all together drew the difference of the two


class Prediction(NamedTuple):
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
    path = models.asset(EMBEDDED) if name == "embedded" else Path(name)
    student, figures = load_student(path)
    encoder = Encoder(student, device=device, figures=figures)
    encoder.identity = (cache.content(path), cache.content(models.asset(BACKBONE)), device)
    return encoder
