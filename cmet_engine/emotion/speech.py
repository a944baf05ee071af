"""The embedded speech encoder: recordings to probabilities of emotions, and to points in the space of `vector`.

A frozen feature extractor (`backbone`) turns the wave into statistics of the whole recording; the `Heads` tell the emotions
from them by kernel regression. Where neutral speech of the same speaker is at hand, as it is when an emotion vector is made
from two pools, they also take how the statistics differ from it, because a voice sounds moved by how it departs from its
own neutral.

It is computed with NumPy, on the processor: nobody waits for torch, and every machine gives the same vectors. Gain does not
matter: levels are relative to the recording's own loud frames.
"""

import functools
import itertools
import math
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import scipy

from cmet_engine import cache
from cmet_engine.emotion.acoustics import AUDIBLE, BANDS, HOP, acoustics, to_rate
from cmet_engine.emotion.backbone import Backbone, load_backbone
from cmet_engine.emotion.heads import EMOTIONS, Heads, places
from cmet_engine.emotion.heads_weights import load_heads
from cmet_engine.emotion.predictions import ENCODER_FILES, FrameFeatures, PoolPredictions, Prediction, softmax
from cmet_engine.emotion.vector import VECTOR_SIZE
from cmet_engine.emotion.voice_check import check_voice
from cmet_engine.emotions import LIBRARY
from cmet_engine.media import audio
from cmet_engine.models import assets

STEP = 0.25  # seconds between two moments of `Encoder.frame_features`
_WINDOW = 200  # acoustic frames in the statistics of one moment
_SEGMENT = 500  # acoustic frames: about the longest recordings that the encoder was trained with
_PART, _MARGIN = 500, 100  # acoustic frames: moments are predicted in parts of 5 s with a second around them


class Encoder:
    """The embedded speech encoder.

    Attributes:
        backbone: the feature extractor.
        identity: distinguishes the results from those of other weights, for a cache; None if the weights came from no file.
        emotions: names of the emotions that are scored; the first is neutral.
        figures: measurements on held-out speakers, by name.
    """

    def __init__(self, heads: Heads, *, figures: dict | None = None) -> None:
        self.heads = heads
        self.backbone = load_backbone()
        self.emotions = heads.config.emotions
        self.figures = figures or {}
        self.identity: tuple[str, ...] | None = None

    def utterance(self, wave: np.ndarray, rate: int, neutral: np.ndarray | None = None) -> np.ndarray:
        """Where a recording lies in the encoder's space.

        Args:
            wave: float [S] in [-1, 1], mono, any length from 0.3 s.
            rate: samples a second; other than 16000 is resampled.
            neutral: mean of `encode` [1280] over neutral recordings of the same speaker, if there are any.

        Returns:
            float32 [13].

        Raises:
            InvalidInput: the wave is not mono, holds values that are not numbers, is too short or silent, or nobody speaks.
        """
        return self.predict(self.encode(self._prepare(wave, rate)[0]), neutral).features

    def frame_features(self, wave: np.ndarray, rate: int) -> FrameFeatures:
        """Where the voice lies at each moment, four times a second; see `utterance` for arguments and errors.

        The features of a moment are those of the recording plus what differs within two seconds around that moment from
        the recording's average.
        """
        at_rate, bands = self._prepare(wave, rate)
        times, features = self._moments(at_rate, bands, len(wave) / rate)
        at = np.minimum((times * 100).astype(int), len(bands) - 1)
        spoken = scipy.ndimage.gaussian_filter1d((bands[:, BANDS + 3] > AUDIBLE).astype(np.float64), 15)[at]  # [F]
        energy = scipy.ndimage.gaussian_filter1d(bands[:, BANDS + 3].astype(np.float64), 25)[at]
        return FrameFeatures(times, features, spoken, energy)

    def _moments(self, wave: np.ndarray, bands: np.ndarray, seconds: float) -> tuple[np.ndarray, np.ndarray]:
        """Times and features of `frame_features`, of a `wave` [S] at 16 kHz, its acoustics `bands` [F, 84] and its length."""
        times = np.arange(max(1, math.ceil(seconds / STEP))) * STEP
        features = np.empty((len(times), VECTOR_SIZE), np.float32)
        parts = [
            (chosen, first, wave[first * HOP : (stop + _MARGIN) * HOP])
            for start, stop, first in _parts(len(bands))
            if len(chosen := np.flatnonzero((times * 100 >= start) & ((times * 100 < stop) | (stop >= len(bands)))))
        ]
        for (chosen, first, _), extracted in zip(parts, self.backbone(part for *_, part in parts), strict=True):
            begin = np.clip((times[chosen] * 100).astype(int) - _WINDOW // 2, 0, max(0, len(bands) - _WINDOW)) - first
            features[chosen] = self.predict(extracted.summaries(begin, begin + _WINDOW)).features
        at = np.minimum((times * 100).astype(int), len(bands) - 1)
        spoken = (
            scipy.ndimage.gaussian_filter1d((bands[:, BANDS + 3] > AUDIBLE).astype(np.float64), 25)[at] + 1e-6
        )  # [F]
        whole = self.predict(self.encode(wave)).features
        features += whole - np.average(features, axis=0, weights=spoken).astype(np.float32)
        return times, features

    def _prepare(self, wave: np.ndarray, rate: int) -> tuple[np.ndarray, np.ndarray]:
        """The recording at 16 kHz, float32 [S], and its acoustics [F, 84], once both are checked."""
        audio.check_speech(wave, rate, "The recording")
        wave = to_rate(wave, rate)
        bands = acoustics(wave)
        check_voice(bands, "The recording")
        return wave, bands

    def encode(self, wave: np.ndarray) -> np.ndarray:
        """Statistics float32 [1280] of a whole recording, given as float32 [S] at 16 kHz; see `statistics`."""
        return statistics(wave, self.backbone)

    def predict(self, recordings: np.ndarray, neutral: np.ndarray | None = None) -> Prediction:
        """Points in the encoder's space and emotion scores of recordings.

        Args:
            recordings: what `encode` gives, of one [1280] or several [N, 1280].
            neutral: mean of the same [1280], or for each [N, 1280], over neutral recordings of the same speaker; None
                predicts from the recordings alone.
        """
        scores = self.heads(np.atleast_2d(recordings), neutral).reshape(*recordings.shape[:-1], -1)
        return Prediction(places(softmax(scores)), scores)

    def pool_probabilities(self, scores: np.ndarray, *, beside: bool = True) -> np.ndarray:
        """Which emotion several recordings share, given that it is not neutral.

        Args:
            scores: [classes], the mean of their scores.
            beside: whether the scores are those beside neutral recordings.

        Returns:
            float32 [classes - 1], probability of each emotion but neutral under equal priors: the class frequencies of
            the training data are divided out (Bayes' rule).
        """
        kernel = self.heads.neutral_kernel if beside and len(self.heads.neutral_kernel.known) else self.heads.kernel
        prior = kernel.offset[1:]
        known = prior > 1e-4  # the others do not occur in the training data
        logits = self.heads.config.pool_sharpness * scores[1:] - np.log(np.where(known, prior, 1.0))
        return softmax(np.where(known | ~known.any(), logits, -np.inf)).astype(np.float32)

    def predict_pools(self, wanted: Sequence[np.ndarray], neutral: Sequence[np.ndarray]) -> PoolPredictions:
        """Features of two pools of one speaker. Each recording is compared with the neutral ones, a neutral one with the others.

        Args:
            wanted: what `encode` gives of the recordings of the emotion.
            neutral: the same of neutral recordings; none: each recording is taken alone.
        """
        rows = np.stack(wanted)
        if not len(neutral):
            moved, still = self.predict(rows), np.zeros((0, VECTOR_SIZE), np.float32)
        else:
            rests = np.stack(neutral)
            total = rests.sum(0)
            others = (total - rests) / (len(rests) - 1) if len(rests) > 1 else rests
            moved = self.predict(rows, (total / len(rests)).astype(np.float32))
            still = self.predict(rests, others.astype(np.float32)).features
        shares = self.pool_probabilities(moved.scores.mean(0), beside=bool(len(neutral)))
        return PoolPredictions(moved.features, still, shares[[EMOTIONS.index(name) - 1 for name in LIBRARY]])


def statistics(wave: np.ndarray, backbone: Backbone) -> np.ndarray:
    """Statistics float32 [1280] of the `backbone`'s features of a recording float32 [S] at 16 kHz.

    The mean over its segments, weighted by how much is spoken in each.
    """
    count = max(1, round(len(wave) / (_SEGMENT * HOP)))
    segments = np.asarray(wave[: len(wave) // count * count], np.float32).reshape(count, -1)
    weights, rows = zip(*((float(one.spoken.sum()) + 1e-3, one.summary()) for one in backbone(segments)), strict=True)
    return (np.array(weights) / sum(weights) @ np.stack(rows)).astype(np.float32)


def _parts(frames: int) -> Iterator[tuple[int, int, int]]:
    """Parts (start, stop) of bounded length of so many acoustic frames, and the frame a second before each."""
    count = max(1, math.ceil(frames / _PART - 0.15))  # no part shorter than two seconds
    edges = [frames * n // count for n in range(count + 1)]
    for start, stop in itertools.pairwise(edges):
        yield start, stop, max(0, start - _MARGIN)


@functools.cache
def load_encoder(name: str = "embedded") -> Encoder:
    """A speech encoder that is ready to use.

    Args:
        name: `embedded`, or the path of a `.safetensors` that `cmet train encoder` wrote.

    Raises:
        CmetError: the file is missing, damaged, or no speech encoder.
    """
    path = assets.asset(ENCODER_FILES[0]) if name == "embedded" else Path(name)
    heads, figures = load_heads(path)
    encoder = Encoder(heads, figures=figures)
    encoder.identity = (cache.content(path), cache.content(assets.asset(ENCODER_FILES[1])))
    return encoder
