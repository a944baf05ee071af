"""The embedded speech encoder: recordings to points in the emotion2vec+ large space (1024 dimensions).

A frozen feature extractor (`backbone`) turns the wave into statistics of the whole clip; `acoustics` turns it into
log-mel bands and a pitch track. The `Student` predicts from both: kernel regression on the statistics, and a small
network with attention over time on the bands and the pitch. The result is their weighted mean. Where neutral speech of
the same speaker is at hand, as it is when an emotion vector is made from two pools, the kernel regression also takes how
the clip's statistics differ from it, because a voice sounds moved by how it departs from its own neutral.

`Encoder` wraps this in plain numpy calls. Gain does not matter: levels are relative to the clip's own loud frames, as
the teacher normalises its wave.
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

from cmet_engine import cache
from cmet_engine.emotion.acoustics import AUDIBLE, BANDS, CHANNELS, HOP, acoustics, to_rate
from cmet_engine.emotion.backbone import Backbone, load_backbone
from cmet_engine.emotion.predictions import ENCODER_FILES, ClipFeatures, FrameFeatures, PoolPredictions, Prediction
from cmet_engine.emotion.student import Student, StudentInput
from cmet_engine.emotion.student_weights import load_student
from cmet_engine.emotion.vector import VECTOR_SIZE
from cmet_engine.emotion.voice_check import check_voice
from cmet_engine.media import audio
from cmet_engine.models import assets
from cmet_engine.models.device import resolve

STEP = 0.25  # seconds between two moments of `Encoder.frame_features`
_STRIDE = 8  # acoustic frames in one step of the network
_SPAN = 0.5  # seconds, Gaussian width of the sequence part's features of one moment: one or two syllables
_WINDOW = 200  # acoustic frames in the kernels' statistics of one moment
_SEGMENT = 500  # acoustic frames: the length of the clips that the encoder was trained with
_BATCH = 8  # segments per batch
_PART, _MARGIN = 500, 100  # acoustic frames: moments are predicted in parts of 5 s with a second around them


class Encoder:
    """The embedded speech encoder: numpy in, numpy out.

    Attributes:
        backbone: the feature extractor.
        identity: distinguishes the results from those of other weights or devices, for a cache; None if the weights came
            from no file.
        emotions: names of the emotions that are scored; the first is neutral.
        figures: measurements on held-out speakers, by name.
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
            neutral: mean of `ClipFeatures.statistics` [1280] over neutral recordings of the same speaker, if there are any.

        Returns:
            float32 [1024].

        Raises:
            InvalidInput: the wave is not mono, holds values that are not numbers, is too short or silent, or nobody speaks.
        """
        return self.predict(self.encode(*self._prepare(wave, rate)), neutral).features

    def frame_features(self, wave: np.ndarray, rate: int) -> FrameFeatures:
        """Where the voice lies at each moment, four times a second; see `utterance` for arguments and errors.

        The features of a moment are those of the recording plus what differs around that moment from the recording's
        average: within about a second for the sequence part, within two seconds for the kernels.
        """
        at_rate, bands = self._prepare(wave, rate)
        times, features = self._moments(at_rate, bands, len(wave) / rate)
        at = np.minimum((times * 100).astype(int), len(bands) - 1)
        spoken = gaussian_filter1d((bands[:, BANDS + 3] > AUDIBLE).astype(np.float64), 15)[at]  # [F]
        energy = gaussian_filter1d(bands[:, BANDS + 3].astype(np.float64), 25)[at]
        return FrameFeatures(times, features, spoken, energy)

    def _moments(self, wave: np.ndarray, bands: np.ndarray, seconds: float) -> tuple[np.ndarray, np.ndarray]:
        """Times and features of `frame_features`, of a `wave` [S] at 16 kHz, its acoustics `bands` [F, 84] and its length."""
        times = np.arange(max(1, math.ceil(seconds / STEP))) * STEP
        features = np.empty((len(times), VECTOR_SIZE), np.float32)
        for start, stop, part in _parts(bands):
            chosen = np.flatnonzero((times * 100 >= start) & ((times * 100 < stop) | (stop >= len(bands))))
            if len(chosen):
                features[chosen] = self._part_moments(wave, len(bands), part, start / 100, times[chosen])
        at = np.minimum((times * 100).astype(int), len(bands) - 1)
        spoken = gaussian_filter1d((bands[:, BANDS + 3] > AUDIBLE).astype(np.float64), 25)[at] + 1e-6  # [F]
        whole = self.predict(self.encode(wave, bands)).features
        features += whole - np.average(features, axis=0, weights=spoken).astype(np.float32)
        return times, features

    def _part_moments(
        self, wave: np.ndarray, frames: int, part: "_Part", begin: float, times: np.ndarray
    ) -> np.ndarray:
        """Features float32 [M, 1024] at the `times` [M] of one part, which begins at `begin` seconds of `frames` frames."""
        with torch.inference_mode():
            hidden, mask, summary = self.student.encode_sequence(self._input(part.acoustics))
        at = (np.arange(hidden.shape[1]) * _STRIDE + part.first) / 100 - begin
        near = np.exp(-0.5 * ((at[None] - (times[:, None] - begin)) / _SPAN) ** 2)  # [M, T]
        weight = torch.from_numpy(near.astype(np.float32)).to(self.device) * mask[0].float()
        samples = torch.from_numpy(wave[part.first * HOP :][: len(part.acoustics) * HOP])
        (extracted,) = self.backbone(samples[None].to(self.device))
        first = np.clip((times * 100).astype(int) - _WINDOW // 2, 0, max(0, frames - _WINDOW)) - part.first
        rows = torch.from_numpy(extracted.summaries(first, first + _WINDOW)).to(self.device)
        with torch.inference_mode():
            places = self.student.pool(hidden, weight[None], summary).features[0].float()
            return torch.lerp(self.student.predict(rows)[0], places, self.student.config.share).cpu().numpy()

    def _prepare(self, wave: np.ndarray, rate: int) -> tuple[np.ndarray, np.ndarray]:
        """The recording at 16 kHz, float32 [S], and its acoustics [F, 84], once both are checked."""
        audio.check_speech(wave, rate, "The recording")
        wave = to_rate(wave, rate)
        bands = acoustics(wave)
        check_voice(bands, "The recording")
        return wave, bands

    def _input(self, bands: np.ndarray) -> StudentInput:
        """Acoustics `bands` [F, 84] as a batch of one."""
        batch = torch.from_numpy(bands)[None].to(self.device)
        return self.student.prepare(batch, torch.tensor([len(bands)], device=self.device))

    def encode(self, wave: np.ndarray, bands: np.ndarray) -> ClipFeatures:
        """Features of a whole recording, given as float32 [S] at 16 kHz and as its `acoustics` [F, 84].

        A long recording is encoded in segments of about five seconds, the length that the encoder was trained with,
        weighted by how much is spoken in each.
        """
        place, scores = self.encode_sequence(bands)
        return ClipFeatures(statistics(wave, self.backbone), place, scores)

    def encode_sequence(self, bands: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The sequence part's share of a prediction, from `acoustics` [F, 84]: place float32 [1024], scores [classes]."""
        segments = np.array_split(bands, max(1, round(len(bands) / _SEGMENT)))
        spoken = np.array([(part[:, BANDS + 3] > AUDIBLE).sum() + 1e-3 for part in segments], np.float32)
        weights = torch.from_numpy(spoken / spoken.sum()).to(self.device)
        config = self.student.config
        place = scores = torch.zeros((), device=self.device)
        for first, share in enumerate(weights.split(_BATCH)):
            some = segments[first * _BATCH :][:_BATCH]
            lengths = torch.tensor([len(part) for part in some], device=self.device)
            batch = torch.from_numpy(np.stack([np.resize(part, (len(some[0]), CHANNELS)) for part in some]))
            with torch.inference_mode():
                output = self.student(self.student.prepare(batch.to(self.device), lengths))
                place, scores = place + share @ output.features, scores + share @ output.scores
        return (config.share * place).cpu().numpy(), (config.score_share * scores).cpu().numpy()

    def predict(self, clip: ClipFeatures, neutral: np.ndarray | None = None) -> Prediction:
        """Point in the teacher's space and emotion scores of a recording.

        Args:
            clip: what `encode` gives.
            neutral: mean of `ClipFeatures.statistics` [1280] over neutral recordings of the same speaker; None predicts
                from the recording alone.
        """
        config = self.student.config
        with torch.inference_mode():
            row, place, scores = (torch.from_numpy(part).to(self.device) for part in clip)
            if neutral is None or not len(self.student.neutral_kernel.known):
                features, kernel_scores = self.student.predict(row[None])
            else:
                beside = torch.from_numpy(neutral).to(self.device)
                features, kernel_scores = self.student.predict_beside_neutral(row[None], beside)
            features = place + (1 - config.share) * features[0]
            scores = scores + (1 - config.score_share) * kernel_scores[0]
            # the scores were trained on labels of many speakers, the features mostly on the teacher's for two of them
            features = torch.lerp(features, scores.softmax(0) @ self.student.prototypes, config.lean)
        return Prediction(features.cpu().numpy(), scores.cpu().numpy())

    def pool_probabilities(self, scores: np.ndarray) -> np.ndarray:
        """Which emotion several recordings share, given that it is not neutral.

        Args:
            scores: [classes], the mean of their scores beside neutral recordings.

        Returns:
            float32 [classes - 1], probability of each emotion but neutral under equal priors: the class frequencies of
            the training data are divided out (Bayes' rule).
        """
        prior = self.student.neutral_kernel.offset[1 : len(scores)].cpu().numpy()
        known = prior > 1e-3  # the others do not occur in the training data
        logits = self.student.config.pool_sharpness * scores[1:] - np.log(np.where(known, prior, 1.0))
        logits = np.where(known | ~known.any(), logits, -np.inf)
        share = np.exp(logits - logits.max())
        return (share / share.sum()).astype(np.float32)

    def predict_pools(self, wanted: Sequence[ClipFeatures], neutral: Sequence[ClipFeatures]) -> PoolPredictions:
        """Features of two pools of one speaker. Each recording is compared with the neutral ones, a neutral one with the others.

        Several recordings together show more surely than one which emotion they share. Their difference from the neutral
        ones is moved further towards the directions of the emotions that `pool_probabilities` finds. Contempt lies so near
        neutral in the teacher's space that a small share of another emotion would hide it, so directions are mixed, not
        prototypes.
        """
        rests = np.stack([clip.statistics for clip in neutral])  # [M, 1280]
        total = rests.sum(0)
        others = [(total - own) / (len(rests) - 1) for own in rests] if len(rests) > 1 else [total]
        rest = (total / len(rests)).astype(np.float32)
        moved = [self.predict(clip, rest) for clip in wanted]
        still = [self.predict(clip, other.astype(np.float32)) for clip, other in zip(neutral, others, strict=True)]
        places = self.student.prototypes.cpu().numpy()
        directions = places[1:] - places[0]
        shares = self.pool_probabilities(np.mean([prediction.scores for prediction in moved], 0))
        direction = shares @ (directions / np.maximum(np.linalg.norm(directions, axis=1, keepdims=True), 1e-6))
        lean = self.student.config.pool_lean
        one, other = (np.stack([prediction.features for prediction in pool]) for pool in (moved, still))
        length = np.linalg.norm(one.mean(0) - other.mean(0)) / max(float(np.linalg.norm(direction)), 1e-6)
        here, there = lean * (places[0] + length * direction - one.mean(0)), lean * (places[0] - other.mean(0))
        return PoolPredictions(*(part.astype(np.float32) for part in (one + here, other + there, here - there)))


def statistics(wave: np.ndarray, backbone: Backbone) -> np.ndarray:
    """Statistics float32 [1280] of the `backbone`'s features of a recording float32 [S] at 16 kHz.

    The mean over its segments, weighted by how much is spoken in each.
    """
    device = next(backbone.parameters()).device
    count = max(1, round(len(wave) / (_SEGMENT * HOP)))
    segments = torch.from_numpy(np.ascontiguousarray(wave[: len(wave) // count * count], np.float32)).view(count, -1)
    extracted = [features for some in segments.split(_BATCH) for features in backbone(some.to(device))]
    weights = np.array([float(features.spoken.sum()) + 1e-3 for features in extracted])
    return (weights / weights.sum() @ np.stack([features.summary() for features in extracted])).astype(np.float32)


class _Part(NamedTuple):
    first: int  # acoustic frame at which it begins
    acoustics: np.ndarray  # [F, 84]


def _parts(bands: np.ndarray) -> Iterator[tuple[int, int, _Part]]:
    """Parts (start, stop) of `bands` [F, 84] of bounded length, each with the frames a second around it."""
    count = max(1, math.ceil(len(bands) / _PART - 0.15))  # no part shorter than two seconds
    edges = [len(bands) * n // count for n in range(count + 1)]
    for start, stop in itertools.pairwise(edges):
        first = max(0, start - _MARGIN)
        yield start, stop, _Part(first, bands[first : stop + _MARGIN])


@functools.cache
def load_encoder(name: str = "embedded", *, device: str = "cpu") -> Encoder:
    """A speech encoder that is ready to use.

    Args:
        name: `embedded`, or the path of a `.safetensors` that `cmet train encoder` wrote.
        device: see `models.device.resolve`.

    Raises:
        CmetError: the file is missing, damaged, or no speech encoder; or the device is not on this machine.
    """
    device = resolve(device)
    path = assets.asset(ENCODER_FILES[0]) if name == "embedded" else Path(name)
    student, figures = load_student(path)
    encoder = Encoder(student, device=device, figures=figures)
    encoder.identity = (cache.content(path), cache.content(assets.asset(ENCODER_FILES[1])), device)
    return encoder
