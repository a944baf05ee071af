"""Batches for a connector, from data that is not paired (D = 52) and from pairs of the same actor (any D)."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from cmet_engine import arkit
from cmet_engine.emotion import facs
from cmet_engine.emotion.embedded_connector import EXPRESSION_SCALE, VECTOR_NORM, WINDOW, unit_vector
from cmet_engine.emotion.vector import VECTOR_SIZE, library_vector
from cmet_engine.errors import InvalidInput
from cmet_engine.training.connector.config import ConnectorConfig
from cmet_engine.training.connector.faces import Faces
from cmet_engine.training.connector.samplers import ExpressionSampler, VectorSampler, has_vectors
from cmet_engine.training.connector.speech import Speech, pooled_vectors


@dataclass
class Batch:
    """One batch: emotion vectors [B, 1, S], neutral and emotional windows, reference [B, T, D], labels [B]."""

    speech: Tensor
    neutral: Tensor
    emotional: Tensor
    reference: Tensor
    emotion: Tensor


class UnpairedBatches:
    """Batches for D = 52; `batches(step)` is the same whenever it is called.

    Each row: two consecutive windows of an actor, an emotion vector, and the second window with an expression added. Of a
    few drawn expressions the one nearest to what the actor does anyway is taken. Some rows are blends of two emotions.
    """

    def __init__(self, speech: Speech, faces: Faces, config: ConnectorConfig, emotions: Sequence[str]) -> None:
        rng = np.random.default_rng(config.seed)
        vectors, expressions = VectorSampler(speech, config), ExpressionSampler(faces, config)
        for emotion in emotions:
            if not has_vectors(emotion, speech):
                raise InvalidInput(f"There is no speech labelled '{emotion}'; add some or leave the emotion out.")
        self.config, self.emotions = config, list(emotions)
        self._vectors = np.stack([[vectors(e, rng) for _ in range(config.draws)] for e in emotions])  # [E, K, S]
        self._add_common(speech, rng)
        self._added = np.stack([expressions(e, config.draws, rng) for e in emotions])  # [E, K, 52]
        self._relaxes = np.stack([facs.relaxed_share(e) for e in emotions])  # [E, 52]
        self._tracks = [t for t in faces.tracks if len(t) >= 2 * WINDOW]
        share = np.sqrt(np.array([len(t) for t in self._tracks], np.float64))
        self._share = share / share.sum()

    def _add_common(self, speech: Speech, rng: np.random.Generator) -> None:
        """Put the library's vector, or an emotion's mean over speakers, moved by noise, in place of `config.common` of the drawn."""
        config = self.config
        if speech.features.shape[1] == VECTOR_SIZE:
            common = {emotion: library_vector(emotion) for emotion in self.emotions}
        else:
            common = pooled_vectors(speech, self.emotions)
        count = round(config.common * config.draws)
        for number, emotion in enumerate(self.emotions):
            if emotion in common:
                size = self._vectors.shape[-1]
                noise = rng.normal(size=(count, size)) * VECTOR_NORM / size**0.5  # of the length of a vector
                spread = rng.uniform(0, config.common_noise, (count, 1))
                self._vectors[number, :count] = unit_vector(common[emotion]) + spread * noise

    def __call__(self, step: int) -> Batch:
        """Batch number `step`."""
        config, rng = self.config, np.random.default_rng((self.config.seed, step))
        count = config.batch
        window = self._windows(rng)
        label = rng.integers(len(self.emotions), size=count)
        other = rng.integers(len(self.emotions), size=count)
        part = np.where(rng.random(count) < config.blend, rng.uniform(*config.blend_range, count), 0)[:, None]
        first, second = self._draw(label, window, rng), self._draw(other, window, rng)
        vector, added, relaxed = ((1 - part) * a + part * b for a, b in zip(first, second, strict=True))
        emotional = np.clip(window + added[:, None] - relaxed[:, None] * window, 0, 1)

        before = (emotional - window)[:, :WINDOW]
        given = (rng.random(count) < config.reference)[:, None, None]
        drift = rng.uniform(*config.reference_drift, (count, 1, 1))
        before = given * (drift * before + rng.normal(0, config.reference_noise, before.shape))
        vector = vector + rng.normal(0, config.vector_noise, vector.shape)

        def tensor(values: np.ndarray) -> Tensor:
            return torch.as_tensor(values, dtype=torch.float32)

        return Batch(
            tensor(vector[:, None]),
            tensor(window[:, WINDOW:]) * EXPRESSION_SCALE,
            tensor(emotional[:, WINDOW:]) * EXPRESSION_SCALE,
            tensor(before) * EXPRESSION_SCALE,
            torch.as_tensor(label),
        )

    def _windows(self, rng: np.random.Generator) -> np.ndarray:
        """Two consecutive windows of random tracks, half of them mirrored: [B, 2T, 52]."""
        count = self.config.batch
        chosen = rng.choice(len(self._tracks), count, p=self._share)
        starts = [rng.integers(len(self._tracks[c]) - 2 * WINDOW + 1) for c in chosen]
        window = np.stack([self._tracks[c][s : s + 2 * WINDOW] for c, s in zip(chosen, starts, strict=True)])
        flip = rng.random(count) < 0.5
        window[flip] = window[flip][:, :, arkit.MIRROR]
        return window

    def _draw(
        self, label: np.ndarray, window: np.ndarray, rng: np.random.Generator
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Emotion vectors [B, S], added expressions [B, 52] and relaxed shares [B, 52] for labels [B]."""
        candidates = rng.integers(self.config.draws, size=(len(label), self.config.candidates))
        drawn = self._added[label[:, None], candidates]  # [B, K, 52]
        apart = (((drawn - window.mean(1)[:, None]) ** 2) * (drawn > 0.05)).sum(-1)  # [B, K]
        nearest = drawn[np.arange(len(label)), apart.argmin(1)]
        return self._vectors[label, rng.integers(self.config.draws, size=len(label))], nearest, self._relaxes[label]


class PairedBatches:
    """Batches as the paper draws them: the same speaker, once neutral and once with an emotion, in any expression space.

    Args:
        speech: features of the speakers.
        codes: (speaker, emotion) -> list of [n, D] expressions over time.
        config: every number; `batches(step)` is the same whenever it is called.

    Raises:
        CmetError: no speaker has neutral and emotional recordings on both sides, or codes are of another size.
    """

    def __init__(self, speech: Speech, codes: dict[tuple[str, str], list[np.ndarray]], config: ConnectorConfig) -> None:
        self.config = config
        self._vectors = VectorSampler(speech, config)
        self._codes = {k: [c for c in v if len(c) >= 2 * WINDOW] for k, v in codes.items()}
        for (speaker, emotion), tracks in codes.items():
            for track in tracks:
                if track.ndim != 2 or track.shape[1] != config.expression_dim:
                    raise InvalidInput(
                        f"The codes of {speaker}, {emotion} have shape {list(track.shape)}; "
                        f"[frames, {config.expression_dim}] is expected."
                    )
        self._pairs = [
            (s, e)
            for s, e in self._codes
            if e != "neutral" and self._codes[s, e] and self._codes.get((s, "neutral")) and self._vectors.has(s, e)
        ]
        if not self._pairs:
            faces, voices = {s for s, _ in codes}, {str(s) for s in speech.speaker}
            raise InvalidInput(
                "No speaker has both neutral and emotional faces, and speech of that emotion; the faces are of "
                f"{_some(faces)}, the speech is of {_some(voices)}; check the labels and the folders."
            )
        self._labels = sorted({e for _, e in self._pairs})

    def __call__(self, step: int) -> Batch:
        """Batch number `step`."""
        rng = np.random.default_rng((self.config.seed, step))
        scale = EXPRESSION_SCALE if self.config.expression_dim == arkit.COUNT else 1.0
        rows: dict[str, list[np.ndarray]] = {"speech": [], "neutral": [], "emotional": [], "reference": []}
        labels = []
        for _ in range(self.config.batch):
            speaker, emotion = self._pairs[rng.integers(len(self._pairs))]
            neutral = self._window(speaker, "neutral", rng) * scale
            emotional = self._window(speaker, emotion, rng) * scale
            rows["speech"].append(self._vectors(emotion, rng, speaker)[None])
            rows["neutral"].append(neutral[WINDOW:])
            rows["emotional"].append(emotional[WINDOW:])
            rows["reference"].append((emotional - neutral)[:WINDOW] * (rng.random() < self.config.reference))
            labels.append(self._labels.index(emotion))
        arrays = {k: torch.as_tensor(np.asarray(v), dtype=torch.float32) for k, v in rows.items()}
        return Batch(**arrays, emotion=torch.as_tensor(labels))

    def _window(self, speaker: str, emotion: str, rng: np.random.Generator) -> np.ndarray:
        tracks = self._codes[speaker, emotion]
        track = tracks[rng.integers(len(tracks))]
        start = rng.integers(len(track) - 2 * WINDOW + 1)
        return track[start : start + 2 * WINDOW]


def _some(names: set[str]) -> str:
    """The first few names, for a message."""
    return ", ".join(sorted(names)[:5]) or "none"


Batches = UnpairedBatches | PairedBatches
