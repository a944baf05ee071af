"""Training of the embedded connector on data that is not paired, and of the published one on pairs.

Unpaired (D = 52): one side is pools of emotional speech; the other is faces: windows of talking people as they are, and
what an emotion adds to them, drawn from published facial actions (`prior`) and from labelled pictures that show them.
Paired (D = 10): codes of the same actor speaking neutrally and with emotion, as the paper trains.
"""

import json
import logging
import math
import pickle
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor

from cmet_engine import arkit
from cmet_engine.emotion import facs
from cmet_engine.emotion.connector import WINDOW, Connector, code_deltas, code_encoder
from cmet_engine.emotions import LIBRARY
from cmet_engine.errors import CmetError
from cmet_engine.files import check_writable, whole_file
from cmet_engine.models.tensors import read_tensors
from cmet_engine.progress import Progress, Stage
from cmet_engine.track import CoefficientTrack
from cmet_engine.training import connector_losses
from cmet_engine.training.run import (
    ahead,
    layout_hint,
    load_state,
    save_state,
    warn_unknown_labels,
    write_losses,
)

if TYPE_CHECKING:
    from cmet_engine.emotion.expression_classifier import Pictures

log = logging.getLogger(__name__)


class Hearing(Protocol):
    """A speech encoder: `emotion.speech.Encoder` or `emotion.emotion2vec.PublishedEncoder`."""

    def utterance(self, wave: np.ndarray, rate: int) -> np.ndarray:
        """Where a wave [S] lies in the emotion2vec+ space: float32 [1024]."""


VECTOR_NORM = 10.0  # length of the emotion vectors that the network sees; the teacher's own are 9 to 13 long
VECTOR_FLOOR = 0.5  # vectors much shorter than this stay short: a voice that hardly differs from neutral
EXPRESSION_SCALE = 8.0
"""Coefficients (0 to 1) times this are the numbers that the network sees: about the spread of EDTalk's codes, for which
the paper's loss weights were chosen."""

AS_HEARD = " as heard"
"""Added to the name of a speaker whose features come from the embedded encoder instead of the teacher: the two are never mixed."""

FRAME_RATE = 25  # frames a second of the tracks that the network sees (the rate of the paper's data)

HELD_SPEAKERS = ("mead_W009", "ravdess_17", "ravdess_18", "ravdess_19", "ravdess_20", "emodb_08", "emodb_10")
"""Voices that neither the embedded speech encoder nor the connector was trained on."""


@dataclass(frozen=True)
class ConnectorConfig:
    """Every number of a training run; `load` reads them from a JSON file, missing ones keep their default.

    Attributes:
        seed: the same seed and data give the same weights on the same machine.
        expression_dim: D, numbers that describe the expression of one frame: 52 coefficients or EDTalk's 10 codes.
        speech_dim: length of the emotion vector.
        width, layers, heads, feedforward, dropout, base_channels: of the network, see `Connector`.
        steps, batch: how many batches of how many windows.
        learning_rate, warmup, final_rate, weight_decay, clip: AdamW; a linear rise over `warmup` steps and a cosine fall to
            `final_rate` of the rate (warmup 0: the rate stays); the most that the gradient measures.
        average: decay of the running average of the weights, which is what is saved (0: the weights themselves).
        contrastive, directional: weights of these losses beside the reconstruction's 1.
        focal_beta, focal_gamma, temperature: of the reconstruction and of the contrast, see `losses`.
        checkpoint_every: steps between two checkpoints.
        held_speakers: voices (and their faces) that are never trained on but measured with. Where the data holds none of
            them, every fifth speaker is kept; an empty list keeps nobody.
        pool: clips that an emotion vector is the mean of, on each side.
        heard_share: how often a voice is drawn as the embedded encoder hears it, where the teacher heard it, too.
        scaled_vectors: bring emotion vectors to the length that `cmet edit` brings them to; off, they stay as heard.
        reference: how often the change of the window before is shown; otherwise zeros, as in the first window of a clip.
        common: share of the vectors that are an emotion's mean over voices, moved by noise of up to `common_noise` of its length.
        vector_noise: normal noise on every number of a vector.
        blend, blend_range: share of the rows that blend two emotions, and the part of the second, least and most.
        pictures: share of the expressions that take their direction from a labelled picture, of those that agree with the
            published expression by a cosine of `agreement`.
        bank: draws of voices and of faces an emotion, made once.
        candidates: of so many drawn expressions the one nearest to what the actor does is taken.
        reference_drift, reference_noise: the reference is multiplied by a number in this range, and moved by normal noise.

    From `common` on, the numbers above are of data that is not paired. The window (5 frames), the frame
    rate (25) and the scale of the coefficients (8) are part of what the weights mean, not of a run.
    """

    seed: int = 1
    expression_dim: int = arkit.COUNT
    speech_dim: int = 1024
    width: int = 128
    layers: int = 2
    heads: int = 4
    feedforward: int = 256
    dropout: float = 0.1
    base_channels: int = 4
    steps: int = 1000
    batch: int = 64
    learning_rate: float = 1e-3
    warmup: int = 200
    final_rate: float = 0.02
    weight_decay: float = 1e-5
    pool: int = 10
    blend: float = 0.6
    common: float = 0.6
    pictures: float = 0.1
    candidates: int = 2
    reference: float = 0.7
    average: float = 0.998
    contrastive: float = connector_losses.CONTRASTIVE_WEIGHT
    directional: float = connector_losses.DIRECTIONAL_WEIGHT
    focal_beta: float = connector_losses.FOCAL_BETA
    focal_gamma: float = connector_losses.FOCAL_GAMMA
    temperature: float = connector_losses.TEMPERATURE
    checkpoint_every: int = 500
    clip: float = 1.0
    held_speakers: tuple[str, ...] = HELD_SPEAKERS
    heard_share: float = 0.2
    scaled_vectors: bool = True
    common_noise: float = 0.35
    vector_noise: float = 0.02
    blend_range: tuple[float, float] = (0.15, 0.5)
    agreement: float = 0.25
    bank: int = 600
    reference_drift: tuple[float, float] = (0.7, 1.15)
    reference_noise: float = 0.02

    @classmethod
    def load(cls, path: str | Path, defaults: "ConnectorConfig | None" = None) -> "ConnectorConfig":
        """Read a JSON object of these numbers; those that are missing are taken from `defaults`.

        Raises:
            CmetError: the file cannot be read, or a field is unknown, of the wrong kind, or out of range.
        """
        path, defaults = Path(path), defaults or cls()
        try:
            document = json.loads(path.read_text("utf-8"))
        except OSError as error:
            raise CmetError(f"Cannot read {path}: {error.strerror}.") from error
        except (ValueError, RecursionError) as error:
            raise CmetError(f"{path.name}: not valid JSON.") from error
        if not isinstance(document, dict):
            raise CmetError(f"{path.name}: a JSON object of settings is wanted.")
        values = asdict(defaults)
        for name, value in document.items():
            if name not in values:
                raise CmetError(f"{path.name}: the setting '{name}' is unknown; known are {', '.join(values)}.")
            default = values[name]
            if not _is_like(value, default):
                raise CmetError(
                    f"{path.name}: the setting '{name}' is {value!r}; something like {default!r} is wanted."
                )
            values[name] = tuple(value) if isinstance(value, list) else value
        config = cls(**values)
        if problem := config.problem():
            raise CmetError(f"{path.name}: {problem}")
        return config

    def problem(self) -> str | None:
        """A sentence naming the first setting that no run can work with, else None."""
        for name, value in asdict(self).items():
            numbers = [v for v in (value if isinstance(value, tuple) else (value,)) if not isinstance(v, str)]
            least = 1 if name in _COUNTS else 0
            if any(not (math.isfinite(v) and v >= least) for v in numbers):
                return f"the setting '{name}' is {value!r}; it must be {least} or more."
            if name in _SHARES and any(v > 1 for v in numbers):
                return f"the setting '{name}' is {value!r}; it must lie between 0 and 1."
        for name in ("learning_rate", "clip", "temperature"):
            if getattr(self, name) == 0:
                return f"the setting '{name}' is 0; it must be more."
        if self.width % self.heads:
            return f"the setting 'width' is {self.width}; it must be a multiple of 'heads' ({self.heads})."
        try:
            code_encoder(self.expression_dim, self.base_channels, self.width)
        except ValueError as error:
            return f"the sizes do not fit: {error}."
        return None

    def __post_init__(self) -> None:
        for name, value in asdict(self).items():
            if isinstance(value, list):  # as JSON keeps a tuple
                object.__setattr__(self, name, tuple(value))

    @classmethod
    def published(cls) -> "ConnectorConfig":
        """The paper's own settings for EDTalk's 10 codes."""
        return cls(
            expression_dim=10, width=1024, layers=4, feedforward=1024, steps=200_000, batch=128, learning_rate=1e-4, warmup=0,
            blend=0.0, reference=1.0, average=0.0, checkpoint_every=5000, scaled_vectors=False,
        )  # fmt: skip

    def build(self) -> Connector:
        """A network of these sizes with fresh weights."""
        return Connector(
            self.expression_dim,
            speech_dim=self.speech_dim,
            width=self.width,
            layers=self.layers,
            heads=self.heads,
            feedforward=self.feedforward,
            dropout=self.dropout,
            base_channels=self.base_channels,
        )


_COUNTS = frozenset("expression_dim speech_dim width layers heads feedforward base_channels steps batch checkpoint_every pool bank candidates".split())  # fmt: skip
_SHARES = frozenset("dropout average heard_share reference common blend blend_range pictures agreement final_rate".split())  # fmt: skip


def _is_like(value: Any, default: Any) -> bool:
    """Whether a value read from JSON is of the kind of `default`: a number, a yes or no, a pair of numbers, a list of names."""
    if isinstance(default, tuple):
        names = not default or isinstance(default[0], str)
        fits = isinstance(value, list) and (names or len(value) == len(default))
        return fits and all(isinstance(v, str) if names else _is_like(v, default[0]) for v in value)
    if isinstance(default, float):
        return isinstance(value, int | float) and not isinstance(value, bool)
    return type(value) is type(default)


@dataclass(frozen=True)
class Speech:
    """Utterance features of labelled speech: `features` [N, 1024], `emotion` [N], `speaker` [N] (text)."""

    features: np.ndarray
    emotion: np.ndarray
    speaker: np.ndarray

    def __post_init__(self) -> None:
        if self.features.ndim != 2 or not len(self.features) == len(self.emotion) == len(self.speaker):
            raise CmetError("The speech features, emotions and speakers must be lists of the same length.")
        if not np.isfinite(self.features).all():
            row = int(np.argwhere(~np.isfinite(self.features))[0][0])
            raise CmetError(f"The speech feature number {row} holds a value that is not a number; extract it again.")
        if "neutral" not in self.emotion:
            raise CmetError("The speech holds no clip labelled 'neutral'; an emotion is a difference from neutral.")

    def chosen(self, keep: np.ndarray) -> "Speech":
        """Only the clips where `keep` is True."""
        return Speech(self.features[keep], self.emotion[keep], self.speaker[keep])


@dataclass(frozen=True)
class Faces:
    """The other side: what faces do.

    Attributes:
        tracks: coefficient tracks [n, 52] of talking people at `FRAME_RATE`.
        pictures: [N, 52] coefficients of labelled pictures.
        emotion: [N] their labels.
    """

    tracks: list[np.ndarray]
    pictures: np.ndarray
    emotion: np.ndarray

    def __post_init__(self) -> None:
        if not any(len(t) >= 2 * WINDOW for t in self.tracks):
            raise CmetError(f"No track is {2 * WINDOW} frames long; the connector learns from pairs of windows.")


def unit_vector(vector: np.ndarray) -> np.ndarray:
    """An emotion vector [..., 1024] brought to the length that the network sees."""
    vector = np.asarray(vector, np.float32)
    size = np.sqrt(np.square(vector).sum(-1, keepdims=True) + VECTOR_FLOOR**2)
    return VECTOR_NORM * vector / size


class VectorSampler:
    """Draws emotion vectors: the mean of a pool of emotional clips minus the mean of a pool of the same voice's neutral ones."""

    def __init__(self, speech: Speech, config: ConnectorConfig) -> None:
        self.speech, self.config = speech, config
        self._rows: dict[tuple[str, str], np.ndarray] = {}
        for speaker in np.unique(speech.speaker):
            for emotion in np.unique(speech.emotion[speech.speaker == speaker]):
                rows = np.flatnonzero((speech.speaker == speaker) & (speech.emotion == emotion))
                self._rows[str(speaker), str(emotion)] = rows
        heard = np.array([s.endswith(AS_HEARD) for s in speech.speaker])
        neutral = speech.emotion == "neutral"
        # a voice without neutral clips is compared with all neutral clips of the same encoder, else with all
        self._neutral = {k: np.flatnonzero(neutral & (heard == k) if (neutral & (heard == k)).any() else neutral) for k in (False, True)}  # fmt: skip

    def speakers(self, emotion: str) -> list[str]:
        """Voices that have clips of an emotion."""
        return [s for s, e in self._rows if e == emotion]

    def has(self, speaker: str, emotion: str) -> bool:
        """Whether a voice has clips of an emotion, as the teacher or as the encoder hears it."""
        return (speaker, emotion) in self._rows or (speaker + AS_HEARD, emotion) in self._rows

    def __call__(self, emotion: str, rng: np.random.Generator, speaker: str | None = None) -> np.ndarray:
        """One vector [1024] of an emotion, from `speaker` or from one at random."""
        wanted = self.speakers(emotion)
        if speaker is not None:
            wanted = [s for s in wanted if s in (speaker, speaker + AS_HEARD)]
        heard = [s for s in wanted if s.endswith(AS_HEARD)]
        taught = [s for s in wanted if not s.endswith(AS_HEARD)]
        pool = heard if not taught or (heard and rng.random() < self.config.heard_share) else taught
        voice = pool[rng.integers(len(pool))]
        emotional = rng.choice(self._rows[voice, emotion], self.config.pool)
        neutral = rng.choice(
            self._rows.get((voice, "neutral"), self._neutral[voice.endswith(AS_HEARD)]), self.config.pool
        )
        features = self.speech.features
        vector = features[emotional].mean(0, dtype=np.float64) - features[neutral].mean(0, dtype=np.float64)
        return unit_vector(vector) if self.config.scaled_vectors else vector.astype(np.float32)


class ExpressionSampler:
    """Draws what an emotion adds to a face: published actions, varied as labelled pictures that show them vary.

    A picture contributes its direction (its coefficients minus the mean neutral picture), at the size of a drawn
    published expression, for what MediaPipe can see; what it is blind to comes from the published expression.
    """

    def __init__(self, faces: Faces, config: ConnectorConfig) -> None:
        self.share = config.pictures
        blind = [
            n.startswith(("cheekSquint", "noseSneer", "cheekPuff", "jawForward", "tongueOut")) for n in arkit.NAMES
        ]
        speech_or_gaze = [n.startswith(("eyeLook", "jaw", "mouthFunnel", "mouthPucker", "mouthClose", "mouthLeft", "mouthRight")) for n in arkit.NAMES]  # fmt: skip
        self._visible = ~(np.array(blind) | np.array(speech_or_gaze))
        neutral = faces.pictures[faces.emotion == "neutral"]
        rest = neutral.mean(0) if len(neutral) else np.zeros(arkit.COUNT)
        self._directions: dict[str, np.ndarray] = {}
        for emotion in LIBRARY:
            moves = np.where(self._visible, faces.pictures[faces.emotion == emotion] - rest, 0)
            wanted = np.where(self._visible, facs.mean_expression(emotion), 0)
            cosines = moves @ wanted / (np.linalg.norm(moves, axis=1) * np.linalg.norm(wanted) + 1e-9)
            self._directions[emotion] = moves[cosines >= config.agreement]  # labels of pictures are noisy

    def pictures(self, emotion: str) -> int:
        """How many pictures show the published actions of an emotion."""
        return len(self._directions[emotion])

    def __call__(self, emotion: str, count: int, rng: np.random.Generator) -> np.ndarray:
        """`count` expressions [count, 52] of an emotion."""
        drawn = facs.sample_expressions(emotion, count, rng)
        directions = self._directions[emotion]
        if len(directions):
            for row in np.flatnonzero(rng.random(count) < self.share):
                move = directions[rng.integers(len(directions))]
                size = np.linalg.norm(drawn[row, self._visible]) / max(float(np.linalg.norm(move)), 1e-6)
                drawn[row, self._visible] = (drawn[row] / 2 + size * move / 2)[self._visible]
        return drawn


@dataclass
class Batch:
    """One batch: emotion vectors [B, 1, 1024], neutral and emotional windows, reference [B, T, D], labels [B]."""

    speech: Tensor
    neutral: Tensor
    emotional: Tensor
    reference: Tensor
    emotion: Tensor


class UnpairedBatches:
    """Batches for D = 52; `batches(step)` is the same whenever it is asked for.

    Each row: an actor's two consecutive windows, an emotion vector, and the actor's second window with the expression
    added that, out of a few draws, is nearest to what the actor does anyway. Some rows are blends of two emotions.
    """

    def __init__(self, speech: Speech, faces: Faces, config: ConnectorConfig, emotions: Sequence[str]) -> None:
        rng = np.random.default_rng(config.seed)
        voices, looks = VectorSampler(speech, config), ExpressionSampler(faces, config)
        for emotion in emotions:
            if not voices.speakers(emotion):
                raise CmetError(f"There is no speech labelled '{emotion}'; add some or leave the emotion out.")
        self.config, self.emotions = config, list(emotions)
        self._vectors = np.stack([[voices(e, rng) for _ in range(config.bank)] for e in emotions])  # [E, K, 1024]
        taught = np.array([not s.endswith(AS_HEARD) for s in speech.speaker])
        common = pooled_vectors(
            speech.chosen(taught) if (taught & (speech.emotion == "neutral")).any() else speech, emotions
        )
        count = round(config.common * config.bank)
        for number, emotion in enumerate(emotions):
            if emotion in common:
                noise = rng.normal(size=(count, self._vectors.shape[-1])) * VECTOR_NORM / 32
                spread = rng.uniform(0, config.common_noise, (count, 1))  # length of the noise beside the vector's
                self._vectors[number, :count] = unit_vector(common[emotion]) + spread * noise
        self._added = np.stack([looks(e, config.bank, rng) for e in emotions])  # [E, K, 52]
        self._relaxes = np.stack([facs.relaxed_share(e) for e in emotions])  # [E, 52]
        self._tracks = [t for t in faces.tracks if len(t) >= 2 * WINDOW]
        share = np.sqrt(np.array([len(t) for t in self._tracks], np.float64))
        self._share = share / share.sum()

    def __call__(self, step: int) -> Batch:
        """Batch number `step`."""
        config, rng = self.config, np.random.default_rng((self.config.seed, step))
        count = config.batch
        chosen = rng.choice(len(self._tracks), count, p=self._share)
        starts = [rng.integers(len(self._tracks[c]) - 2 * WINDOW + 1) for c in chosen]
        window = np.stack([self._tracks[c][s : s + 2 * WINDOW] for c, s in zip(chosen, starts, strict=True)])
        flip = rng.random(count) < 0.5
        window[flip] = window[flip][:, :, arkit.MIRROR]  # [B, 2T, 52]

        label = rng.integers(len(self.emotions), size=count)
        other = rng.integers(len(self.emotions), size=count)
        part = np.where(rng.random(count) < config.blend, rng.uniform(*config.blend_range, count), 0)[:, None]
        first, second = self._draw(label, window, rng), self._draw(other, window, rng)
        vector, added, relaxed = ((1 - part) * a + part * b for a, b in zip(first, second, strict=True))
        emotional = np.clip(window + added[:, None] - relaxed[:, None] * window, 0, 1)

        before = (emotional - window)[:, :WINDOW]
        seen = (rng.random(count) < config.reference)[:, None, None]
        drift = rng.uniform(*config.reference_drift, (count, 1, 1))
        before = seen * (drift * before + rng.normal(0, config.reference_noise, before.shape))
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

    def _draw(
        self, label: np.ndarray, window: np.ndarray, rng: np.random.Generator
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Emotion vectors [B, 1024], added expressions [B, 52] and relaxed shares [B, 52] for labels [B]."""
        candidates = rng.integers(self.config.bank, size=(len(label), self.config.candidates))
        looks = self._added[label[:, None], candidates]  # [B, K, 52]
        apart = (((looks - window.mean(1)[:, None]) ** 2) * (looks > 0.05)).sum(-1)  # [B, K]
        look = looks[np.arange(len(label)), apart.argmin(1)]
        return self._vectors[label, rng.integers(self.config.bank, size=len(label))], look, self._relaxes[label]


class PairedBatches:
    """Batches of the paper's own kind: the same voice, once neutral and once with an emotion, in any expression space.

    Args:
        speech: features of the voices.
        codes: (speaker, emotion) -> list of [n, D] expressions over time.
        config: every number; `batches(step)` is the same whenever it is asked for.

    Raises:
        CmetError: no speaker has neutral and emotional recordings on both sides, or codes are of another size.
    """

    def __init__(self, speech: Speech, codes: dict[tuple[str, str], list[np.ndarray]], config: ConnectorConfig) -> None:
        self.config = config
        self._voices = VectorSampler(speech, config)
        self._codes = {k: [c for c in v if len(c) >= 2 * WINDOW] for k, v in codes.items()}
        for (speaker, emotion), tracks in codes.items():
            for track in tracks:
                if track.ndim != 2 or track.shape[1] != config.expression_dim:
                    raise CmetError(
                        f"The codes of {speaker}, {emotion} have shape {list(track.shape)}; "
                        f"[frames, {config.expression_dim}] is expected."
                    )
        self._pairs = [
            (s, e)
            for s, e in self._codes
            if e != "neutral" and self._codes[s, e] and self._codes.get((s, "neutral")) and self._voices.has(s, e)
        ]
        if not self._pairs:
            faces, voices = (", ".join(sorted(names)[:5]) or "none" for names in ({s for s, _ in codes}, {s.replace(AS_HEARD, "") for s in speech.speaker}))  # fmt: skip
            raise CmetError(
                "No speaker has both neutral and emotional faces, and speech of that emotion; the faces are of "
                f"{faces}, the speech is of {voices}; check the labels and the folders."
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
            calm = self._window(speaker, "neutral", rng) * scale
            moved = self._window(speaker, emotion, rng) * scale
            rows["speech"].append(self._voices(emotion, rng, speaker)[None])
            rows["neutral"].append(calm[WINDOW:])
            rows["emotional"].append(moved[WINDOW:])
            rows["reference"].append((moved - calm)[:WINDOW] * (rng.random() < self.config.reference))
            labels.append(self._labels.index(emotion))
        arrays = {k: torch.as_tensor(np.asarray(v), dtype=torch.float32) for k, v in rows.items()}
        return Batch(**arrays, emotion=torch.as_tensor(labels))

    def _window(self, speaker: str, emotion: str, rng: np.random.Generator) -> np.ndarray:
        tracks = self._codes[speaker, emotion]
        track = tracks[rng.integers(len(tracks))]
        start = rng.integers(len(track) - 2 * WINDOW + 1)
        return track[start : start + 2 * WINDOW]


Batches = UnpairedBatches | PairedBatches


def connector_loss(
    network: Connector, batch: Batch, config: ConnectorConfig, device: str = "cpu"
) -> tuple[Tensor, tuple[Tensor, Tensor, Tensor]]:
    """Total loss of a batch and its parts: reconstruction both ways, contrastive, directional."""
    speech, neutral, emotional, reference, emotion = (
        getattr(batch, f.name).to(device, non_blocking=True) for f in fields(Batch)
    )
    wanted = emotional - neutral
    tokens = {
        sign: (network.encode_reference(sign * reference), network.encode_speech(sign * speech)) for sign in (1, -1)
    }
    calm, moved = network.encode_expression(neutral), network.encode_expression(emotional)
    forward = network.fuse(*tokens[1], calm)
    backward = network.fuse(*tokens[-1], moved)
    focus = {"beta": config.focal_beta, "gamma": config.focal_gamma}
    reconstruction = connector_losses.focal_reconstruction(forward, wanted, **focus)
    reconstruction = reconstruction + connector_losses.focal_reconstruction(backward, -wanted, **focus)
    change = (moved - calm).mean(1)  # [B, width]
    contrast = connector_losses.contrastive(change, tokens[1][1].squeeze(1), emotion, temperature=config.temperature)
    back = connector_losses.contrastive(-change, tokens[-1][1].squeeze(1), emotion, temperature=config.temperature)
    contrast = (contrast + back) / 2
    direction = connector_losses.directional(forward, backward)
    total = reconstruction + config.contrastive * contrast + config.directional * direction
    return total, (reconstruction, contrast, direction)


PARTS = ("total", "reconstruction", "contrastive", "directional")
"""What a row of a `Curve` holds after the step."""


@dataclass
class Curve:
    """Losses along a run: one row per report: step, total, reconstruction, contrastive, directional."""

    rows: list[list[float]] = field(default_factory=list)


def train_connector(
    batches: Callable[[int], Batch],
    config: ConnectorConfig,
    *,
    checkpoint: Path | None = None,
    device: str = "cpu",
    workers: int = 1,
    mixed_precision: bool | None = None,
    start: Connector | None = None,
    progress: Progress | None = None,
) -> tuple[Connector, Curve]:
    """Train a connector with the paper's losses.

    Args:
        batches: step number -> batch: `UnpairedBatches` or `PairedBatches`.
        config: every number.
        checkpoint: file that the run is saved to every `checkpoint_every` steps, the losses so far beside it as `.csv` and `.svg`,
            and resumed from when it is there.
        device: `cpu` or `cuda`.
        workers: threads that make batches ahead.
        mixed_precision: matrix products in bfloat16; None does so on a GPU.
        start: a trained network of the same sizes to go on from; None starts afresh.

    Returns:
        The network in evaluation mode (with a running average of its weights) and the loss curve.

    Raises:
        CmetError: the checkpoint is damaged or of a run with other settings or data, the disk is full, or the loss is no longer a number.
    """
    torch.manual_seed(config.seed)
    network = config.build()
    if start is not None:
        network.load_state_dict(start.state_dict())
    network.to(device)
    optimiser = torch.optim.AdamW(network.parameters(), lr=config.learning_rate, weight_decay=config.weight_decay)

    def rate(step: int) -> float:
        if config.warmup == 0:
            return 1.0
        if step < config.warmup:
            return (step + 1) / config.warmup
        return config.final_rate + (1 - config.final_rate) * 0.5 * (1 + math.cos(math.pi * min(step / config.steps, 1)))

    schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, rate)
    average = {k: v.detach().clone() for k, v in network.state_dict().items()}
    curve, first = Curve(), 0
    look = _first_look(batches)
    if checkpoint is not None and checkpoint.exists():
        state = load_state(checkpoint, device)
        if state.get("config") != asdict(config):
            raise CmetError(f"{checkpoint} belongs to a run with other settings; choose another file or remove it.")
        then = state["look"].cpu()
        if then.shape != look.shape or not torch.allclose(then, look, atol=0.02, rtol=0.02):
            raise CmetError(f"{checkpoint} belongs to a run on other data; choose another file or remove it.")
        network.load_state_dict(state["network"])
        optimiser.load_state_dict(state["optimiser"])
        schedule.load_state_dict(state["schedule"])
        average, first, curve.rows = state["average"], state["step"], state["curve"]
        torch.set_rng_state(state["random"].cpu())

    def keep(step: int) -> None:
        if checkpoint is None:
            return
        save_state(checkpoint, {
            "config": asdict(config), "network": network.state_dict(), "optimiser": optimiser.state_dict(),
            "schedule": schedule.state_dict(), "average": average, "step": step, "curve": curve.rows,
            "random": torch.get_rng_state(), "look": look,
        })  # fmt: skip
        if curve.rows:
            write_losses(checkpoint.parent, PARTS, curve.rows, checkpoint.stem)

    if first == 0:
        keep(0)  # a disk that is full is told before the work, not after it
    network.train()
    kind = torch.device(device).type
    mixed = kind == "cuda" if mixed_precision is None else mixed_precision
    for step, batch in enumerate(ahead(batches, first, config.steps, workers), first):
        with torch.autocast(kind, torch.bfloat16, enabled=mixed):
            total, parts = connector_loss(network, batch, config, device)
        if not torch.isfinite(total):
            raise CmetError(
                f"The training loss is not a number at step {step}; lower learning_rate or check the features."
            )
        optimiser.zero_grad()
        total.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), config.clip)
        optimiser.step()
        schedule.step()
        with torch.no_grad():
            decay = min(config.average, (step + 1) / (step + 10))
            for name, value in network.state_dict().items():
                if value.dtype.is_floating_point:
                    average[name].lerp_(value, 1 - decay)
                else:
                    average[name].copy_(value)
        if step % 50 == 0 or step + 1 == config.steps:
            curve.rows.append([step, total.item(), *(p.item() for p in parts)])
        if (step + 1) % config.checkpoint_every == 0 or step + 1 == config.steps:
            keep(step + 1)
        if progress:
            progress(Stage.TRAIN, step + 1, config.steps)
    network.load_state_dict(average)
    return network.eval(), curve


def _first_look(batches: Callable[[int], Batch]) -> Tensor:
    """The first batch in a few numbers [B, 5]: a checkpoint of a run on other data is told by it."""
    first = batches(0)
    return torch.cat((first.speech[:, 0, :4], first.emotional.mean((1, 2))[:, None]), 1)


def save_connector(
    network: Connector, config: ConnectorConfig, path: str | Path, figures: dict, *, force: bool = False
) -> None:
    """Write a trained connector as safetensors (float16), its settings and measured figures in the header.

    Raises:
        CmetError: the file cannot be written, or is there already and `force` is off.
    """
    tensors = {
        k: (v.half() if v.dtype == torch.float32 else v).contiguous()
        for k, v in network.state_dict().items()
        if not k.endswith(".pe")  # the position tables follow from the sizes
    }
    with whole_file(path, force=force) as temporary:
        save_file(tensors, temporary, {"config": json.dumps(asdict(config)), "figures": json.dumps(figures)})


def load_connector(path: str | Path) -> tuple[Connector, dict]:
    """A connector that `save_connector` wrote, in evaluation mode, and its figures.

    Raises:
        CmetError: the file is missing, damaged, or of another kind.
    """
    network, _, figures = read_connector(path)
    return network, figures


def read_connector(path: str | Path) -> tuple[Connector, ConnectorConfig, dict]:
    """A connector in evaluation mode, the settings it was trained with, and its figures.

    Args:
        path: what `cmet train connector` wrote: `.safetensors`, or `.pth` in the published form. The published checkpoint itself
            says nothing of settings and figures: then they are the paper's, and none.

    Raises:
        CmetError: the file is missing, damaged, or of another kind.
    """
    path = Path(path)
    if path.suffix in (".pth", ".pt"):
        return _read_published(path)
    if not path.is_file():
        raise CmetError(f"The connector {path} is missing.")
    unlike = f"{path.name} is not a connector that `cmet train connector` wrote."
    tensors, header = read_tensors(path, unlike)
    try:
        config = ConnectorConfig(**json.loads(header["config"]))
        network = config.build()
        tables = {k: v for k, v in network.state_dict().items() if k.endswith(".pe")}
        network.load_state_dict(
            {**tables, **{k: v.float() if v.is_floating_point() else v for k, v in tensors.items()}}
        )
        return network.eval(), config, json.loads(header.get("figures", "{}"))
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        raise CmetError(unlike) from error


def embed_connector(path: str | Path) -> Path:
    """Make a trained connector of 52 coefficients the embedded one of this copy: weights and checksum; returns the file.

    Raises:
        CmetError: it is not such a connector, or the installation cannot be written.
    """
    from cmet_engine.emotion.edit import CONNECTOR_FILE
    from cmet_engine.models.assets import ASSETS, record

    network, _, _ = read_connector(path)
    if network.expression_dim != arkit.COUNT:
        raise CmetError(
            f"{path} works on {network.expression_dim} numbers a frame; the embedded connector on {arkit.COUNT}."
        )
    with whole_file(ASSETS / CONNECTOR_FILE, force=True) as temporary:
        temporary.write_bytes(Path(path).read_bytes())
    record(CONNECTOR_FILE)
    return ASSETS / CONNECTOR_FILE


def _read_published(path: Path) -> tuple[Connector, ConnectorConfig, dict]:
    """`read_connector` of a checkpoint in the published form."""
    if not path.is_file():
        raise CmetError(f"The connector {path} is missing.")
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
        config = (
            ConnectorConfig(**json.loads(content["config"])) if "config" in content else ConnectorConfig.published()
        )
        network = config.build()
        network.load_state_dict(content["state_dict"])
        return network.eval(), config, json.loads(content.get("figures", "{}"))
    except (OSError, KeyError, TypeError, ValueError, RuntimeError, EOFError, pickle.UnpicklingError) as error:
        raise CmetError(f"{path.name} is not a connector that `cmet train connector` wrote.") from error


def read_speech(
    folders: Sequence[str | Path],
    encoder: "Hearing | None" = None,
    progress: Progress | None = None,
    *,
    instead: "Hearing | None" = None,
) -> Speech:
    """Features of labelled speech in corpus folders (layouts: see `speech_training.read_corpus`).

    The teacher's features are used where they lie beside the recordings. A recording that cannot be heard is left out with a
    warning that names it.

    Args:
        folders: the corpora.
        encoder: also hears every recording, as a speaker of its own (`AS_HEARD`), so that vectors which users make with
            it are familiar.
        progress: called as `progress(stage, done, total)`.
        instead: hears the recordings that the teacher was never run on, in the teacher's place.

    Raises:
        CmetError: a folder is of no known layout, or nothing usable is in it.
    """
    from cmet_engine.media import audio
    from cmet_engine.training.speech import read_corpus

    features, emotions, speakers = [], [], []

    def add(feature: np.ndarray, emotion: str, speaker: str) -> None:
        features.append(feature)
        emotions.append(emotion)
        speakers.append(speaker)

    for folder in folders:
        corpus = read_corpus(folder)
        for number, recording in enumerate(corpus.recordings):
            if recording.name in corpus.teacher:
                add(corpus.teacher[recording.name], recording.emotion, recording.speaker)
            listener = instead if encoder is None and recording.name not in corpus.teacher else encoder
            if listener is not None:
                try:
                    wave = audio.load(recording.path)
                    audio.check_speech(wave, audio.RATE, recording.name)
                    heard = listener.utterance(wave, audio.RATE)
                except CmetError as error:
                    log.warning("left out: %s", str(error).replace("The recording", recording.name, 1))
                else:
                    add(heard, recording.emotion, recording.speaker + (AS_HEARD if listener is encoder else ""))
            if progress:
                progress(Stage.CORPUS_SPEECH, number + 1, len(corpus.recordings))
    if not features:
        raise CmetError(f"No usable speech was found in {', '.join(str(f) for f in folders)}.")
    return Speech(np.stack(features).astype(np.float32), np.array(emotions), np.array(speakers))


def read_tracks(paths: Sequence[str | Path]) -> list[np.ndarray]:
    """Coefficient tracks (files, or folders of `.npz` tracks that `cmet track` wrote) at `FRAME_RATE`: list of [n, 52].

    Raises:
        CmetError: a file is damaged, or a folder holds no track.
    """
    tracks = []
    for path in map(Path, paths):
        files = sorted(path.glob("*.npz")) if path.is_dir() else [path]
        if not files:
            raise CmetError(f"{path} holds no .npz track; make some with: cmet track CLIP -o {path}/CLIP.npz")
        for file in files:
            tracks += _at_frame_rate(CoefficientTrack.load(file))
    return tracks


def _at_frame_rate(track: CoefficientTrack) -> list[np.ndarray]:
    """The frames with a face [n, 52] at `FRAME_RATE`; none where there are too few of them for a pair of windows."""
    seen = track.valid
    if seen.sum() < 2 * WINDOW:
        return []
    return [resampled(track.coefficients[seen], track.times[seen], FRAME_RATE)[0]]


def resampled(values: np.ndarray, times: np.ndarray, rate: float) -> tuple[np.ndarray, np.ndarray]:
    """Values [N, C] at `times` [N] read at an even rate: ([M, C] float32, [M] seconds)."""
    even = times[0] + np.arange(max(round((times[-1] - times[0]) * rate) + 1, 1)) / rate
    columns = [np.interp(even, times, values[:, c]) for c in range(values.shape[1])]
    return np.stack(columns, 1).astype(np.float32), even


MEAD_VIDEO = "*/video/front/*/level_*/*.mp4"
CREMA_VIDEO = "VideoFlash/*.flv"


def find_videos(folder: str | Path) -> list[tuple[Path, str, str]]:
    """Labelled videos of MEAD (`SPEAKER/video/front/EMOTION/level_N/NNN.mp4`) or CREMA-D
    (`VideoFlash/1001_DFA_ANG_XX.flv`) as distributed: (path, speaker, emotion), speakers named as `read_corpus` does.

    Raises:
        CmetError: the folder has neither layout.
    """  # fmt: skip
    from cmet_engine.training.speech import CREMA_EMOTIONS, MEAD_EMOTIONS

    folder = Path(folder)
    found = []
    unknown: Counter[str] = Counter()
    for path in sorted(folder.glob(MEAD_VIDEO)):
        speaker, _, _, emotion = path.relative_to(folder).parts[:4]
        if emotion in MEAD_EMOTIONS:
            found.append((path, f"mead_{speaker}", MEAD_EMOTIONS[emotion]))
        else:
            unknown[emotion] += 1
    warn_unknown_labels(folder, unknown, list(MEAD_EMOTIONS))
    unknown = Counter()
    for path in sorted(folder.glob(CREMA_VIDEO)):
        parts = path.stem.split("_")
        if len(parts) == 4 and parts[2] in CREMA_EMOTIONS:
            found.append((path, f"crema_{parts[0]}", CREMA_EMOTIONS[parts[2]]))
        else:
            unknown[parts[2] if len(parts) == 4 else path.stem] += 1
    warn_unknown_labels(folder, unknown, list(CREMA_EMOTIONS))
    if not found:
        raise CmetError(
            f"{folder} holds no videos of a known layout: MEAD's SPEAKER/video/front/EMOTION/level_N/NNN.mp4 or "
            f"CREMA-D's VideoFlash/1001_DFA_ANG_XX.flv{layout_hint(folder)}."
        )
    return found


def track_videos(
    folder: str | Path, cache: Path | None, progress: Progress | None = None
) -> dict[tuple[str, str], list[np.ndarray]]:
    """Faces of a MEAD or CREMA-D folder as `PairedBatches` takes them.

    A video that cannot be read or shows no face is left out with a warning that names it.

    Args:
        folder: see `find_videos`.
        cache: folder in which the tracks are kept for the next run; None tracks as `cmet track` does, with the program's own cache.
        progress: called as `progress(stage, done, total)`.

    Raises:
        CmetError: the folder has no known layout, or not one video can be used.
    """
    from cmet_engine.face.clip import track_clip

    videos = find_videos(folder)
    codes: dict[tuple[str, str], list[np.ndarray]] = {}
    for number, (path, speaker, emotion) in enumerate(videos):
        stored = None if cache is None else cache / f"{'_'.join(path.relative_to(folder).with_suffix('').parts)}.npz"
        try:
            if stored is not None and stored.exists():
                track = CoefficientTrack.load(stored)
            else:
                track = track_clip(path)[1]
                if stored is not None:
                    stored.parent.mkdir(parents=True, exist_ok=True)
                    track.save(stored)
            codes.setdefault((speaker, emotion), []).extend(_at_frame_rate(track))
        except CmetError as error:
            log.warning("left out: %s", error)
        if progress:
            progress(Stage.CORPUS_TRACKING, number + 1, len(videos))
    if not any(codes.values()):
        raise CmetError(f"Not one of the {len(videos)} videos in {folder} shows a face that can be tracked.")
    return codes


def read_codes(folder: str | Path) -> dict[tuple[str, str], list[np.ndarray]]:
    """EDTalk codes for the published settings: `SPEAKER/EMOTION/NAME.npy`, each [n, 10], speakers as in the speech index.

    Raises:
        CmetError: the folder holds none, or a file is damaged.
    """
    folder = Path(folder)
    codes: dict[tuple[str, str], list[np.ndarray]] = {}
    for path in sorted(folder.glob("*/*/*.npy")):
        try:
            values = np.load(path, allow_pickle=False).astype(np.float32)
        except (OSError, ValueError, EOFError) as error:
            raise CmetError(f"{path} is not a file of codes; make it again.") from error
        if not np.isfinite(values).all():
            raise CmetError(f"{path} holds values that are not numbers; make it again.")
        codes.setdefault((path.parts[-3], path.parts[-2]), []).append(values)
    if not codes:
        raise CmetError(f"{folder} holds no codes; the layout is SPEAKER/EMOTION/NAME.npy.")
    return codes


def mean_directions(
    network: Connector, vectors: dict[str, np.ndarray], faces: Sequence[np.ndarray]
) -> dict[str, np.ndarray]:
    """What a connector adds on average to talking faces, for each emotion vector: name -> [52]."""
    names = list(vectors)
    stacked = unit_vector(np.stack([vectors[n] for n in names]))
    deltas = [code_deltas(network, stacked, t.astype(np.float32) * EXPRESSION_SCALE) / EXPRESSION_SCALE for t in faces]
    return dict(zip(names, np.concatenate(deltas, 1).mean(1), strict=True))


def pooled_vectors(speech: Speech, emotions: Sequence[str]) -> dict[str, np.ndarray]:
    """Emotion vectors over all clips: mean over speakers of (emotion - the same speaker's neutral, or all neutral)."""
    every = speech.features[speech.emotion == "neutral"].mean(0)
    result = {}
    for emotion in emotions:
        each = []
        for speaker in np.unique(speech.speaker[speech.emotion == emotion]):
            own = speech.speaker == speaker
            calm = own & (speech.emotion == "neutral")
            rest = speech.features[calm].mean(0) if calm.any() else every
            each.append(speech.features[own & (speech.emotion == emotion)].mean(0) - rest)
        if each:
            result[emotion] = np.mean(each, 0)
    return result


def zero_shot(
    speech: Speech,
    faces: Faces,
    config: ConnectorConfig,
    full: Connector,
    emotions: Sequence[str] = LIBRARY,
    progress: Progress | None = None,
) -> dict[str, float]:
    """Leave each emotion out of training: cosine of the direction then predicted with the one that `full` learned.

    Returns:
        Name -> cosine, and `mean`.
    """
    vectors = pooled_vectors(speech, emotions)
    tracks = [t[:100] for t in faces.tracks[:8]]
    learned = mean_directions(full, vectors, tracks)
    result: dict[str, float] = {}
    for number, left_out in enumerate(vectors):
        rest = [e for e in vectors if e != left_out]
        network, _ = train_connector(UnpairedBatches(speech, faces, config, rest), config)
        guess = mean_directions(network, {left_out: vectors[left_out]}, tracks)[left_out]
        result[left_out] = float(
            guess @ learned[left_out] / max(np.linalg.norm(guess) * np.linalg.norm(learned[left_out]), 1e-9)
        )
        if progress:
            progress(Stage.HOLD_OUT, number + 1, len(vectors))
    result["mean"] = float(np.mean(list(result.values())))
    return result


def compare_models(
    network: Connector, train: Batches, held_out: Batches, steps: int = 40, penalty: float = 30.0
) -> dict[str, dict[str, float]]:
    """The connector against ridge regression and a small MLP, on people and speakers that none of them was trained on.

    Ridge and MLP see the emotion vector and the mean expression of the window, and predict the mean change. The connector
    gets no reference, as in the first window of a clip, so that it knows no more than they do.

    Returns:
        For `connector`, `ridge`, `mlp`: `explained` (share of the variance of the change) and `cosine` with it.
    """

    def collect(batches: Batches, first: int) -> tuple[np.ndarray, np.ndarray, list[Batch]]:
        drawn = [batches(first + k) for k in range(steps)]
        inputs = [torch.cat((b.speech.squeeze(1) / VECTOR_NORM, b.neutral.mean(1)), 1) for b in drawn]
        changes = [(b.emotional - b.neutral).mean(1) for b in drawn]
        return torch.cat(inputs).numpy(), torch.cat(changes).numpy(), drawn

    x, y, _ = collect(train, 0)
    x_new, y_new, drawn = collect(held_out, 10_000)
    mean_x, mean_y = x.mean(0), y.mean(0)
    gram = (x - mean_x).T @ (x - mean_x)
    weights = np.linalg.solve(gram + penalty * np.eye(len(gram)), (x - mean_x).T @ (y - mean_y))
    guesses = {"ridge": (x_new - mean_x) @ weights + mean_y}

    torch.manual_seed(train.config.seed)
    mlp = torch.nn.Sequential(torch.nn.Linear(x.shape[1], 128), torch.nn.GELU(), torch.nn.Linear(128, y.shape[1]))
    optimiser = torch.optim.AdamW(mlp.parameters(), 1e-3, weight_decay=1e-2)
    inputs, wanted = torch.as_tensor(x), torch.as_tensor(y)
    for step in range(600):
        rows = torch.as_tensor(np.random.default_rng(step).integers(len(x), size=256))
        loss = (mlp(inputs[rows]) - wanted[rows]).square().mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    with torch.no_grad():
        guesses["mlp"] = mlp(torch.as_tensor(x_new)).numpy()
        guesses["connector"] = torch.cat(
            [network(torch.zeros_like(b.reference), b.speech, b.neutral).mean(1) for b in drawn]
        ).numpy()
    result = {}
    for name, guess in guesses.items():
        explained = 1 - ((guess - y_new) ** 2).sum() / ((y_new - mean_y) ** 2).sum()
        lengths = np.linalg.norm(guess, axis=1) * np.linalg.norm(y_new, axis=1)
        cosine = ((guess * y_new).sum(1) / np.maximum(lengths, 1e-9)).mean()
        result[name] = {"explained": round(float(explained), 4), "cosine": round(float(cosine), 4)}
    return result


def train_embedded(
    speech: Speech,
    faces: Sequence[np.ndarray],
    pictures: "Pictures",
    output: str | Path,
    config: ConnectorConfig | None = None,
    *,
    compare: bool = True,
    checkpoint: Path | None = None,
    device: str = "cpu",
    workers: int = 1,
    start: Connector | None = None,
    force: bool = False,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Train the D = 52 connector from folders already read, measure it, and write it with its figures and loss curve.

    Args:
        speech: from `read_speech`.
        faces: coefficient tracks of talking people at `FRAME_RATE`, from `read_tracks`; the last fifth (at least one) is kept
            for measuring.
        pictures: labelled pictures, from `judge.load_pictures`; people of group 0 are kept for measuring.
        output: the safetensors file; the loss curve goes beside it as `.csv` and `.svg`.
        config: every number; None takes the defaults.
        compare: also fit ridge and MLP and measure all three on what was kept.
        checkpoint, device, workers, start, progress: see `train_connector`.
        force: replace an earlier file.

    Returns:
        The figures: clips, people, speakers, losses, and `held_out` from `compare_models`.

    Raises:
        CmetError: data is missing, or the output cannot be written.
    """
    config = config or ConnectorConfig()
    check_writable(output, force=force)
    known, unheard = _split(speech, faces, pictures, config)
    network, curve = train_connector(
        known, config, checkpoint=checkpoint, device=device, workers=workers, start=start, progress=progress
    )
    network = network.cpu()
    figures: dict[str, Any] = {
        "speech_clips": len(speech.emotion),
        "held_speakers": list(config.held_speakers),
        "losses": dict(zip(("step", *PARTS), curve.rows[-1], strict=True)),
    }
    if compare:
        figures["held_out"] = compare_models(network, known, unheard)
    save_connector(network, config, output, figures, force=force)
    write_losses(Path(output).parent, PARTS, curve.rows, Path(output).stem)
    return figures


def _split(
    speech: Speech,
    faces: Sequence[np.ndarray],
    pictures: "Pictures",
    config: ConnectorConfig,
) -> tuple[UnpairedBatches, UnpairedBatches]:
    """Batches to train with, and batches of voices, people and tracks that are kept from it.

    The last fifth of the tracks and the pictures' group 0 are kept. An emotion that only one voice has (the extended ones)
    cannot be kept by voice: every fifth of its clips is.
    """
    emotions = [e for e in LIBRARY if (speech.emotion == e).any()]
    held = np.isin(np.char.replace(speech.speaker.astype(str), AS_HEARD, ""), config.held_speakers)
    for emotion in (*emotions, "neutral"):
        rows = np.flatnonzero(speech.emotion == emotion)
        if not held[rows].any() or held[rows].all():
            held[rows] = np.arange(len(rows)) % 5 == 0
    count = max(len(faces) // 5, 1) if len(faces) > 1 else 0
    seen, new = pictures.chosen(pictures.fold != 0), pictures.chosen(pictures.fold == 0)
    learned = Faces(list(faces[: len(faces) - count]), seen.coefficients, seen.emotion)
    kept = Faces(list(faces[len(faces) - count :]) if count else list(faces), new.coefficients, new.emotion)
    present = [e for e in emotions if (speech.emotion[held] == e).any()]
    return (
        UnpairedBatches(speech.chosen(~held), learned, config, emotions),
        UnpairedBatches(speech.chosen(held), kept, config, present),
    )


def split_pairs(
    speech: Speech, faces: dict[tuple[str, str], list[np.ndarray]], config: ConnectorConfig
) -> tuple[PairedBatches, PairedBatches | None, list[str]]:
    """Batches of the speakers that are trained on, of those that are kept aside (None: nobody), and the names of these.

    Kept aside are those of `config.held_speakers` that are there; where none is, every fifth speaker, unless the list is empty.

    Raises:
        CmetError: nobody is left to train on, or faces and voices do not match.
    """
    people = sorted({speaker for speaker, _ in faces})
    held = [p for p in people if p in config.held_speakers]
    if not held and config.held_speakers and len(people) > 1:
        held = people[::5]
    if len(held) == len(people):
        raise CmetError(
            f"Every speaker with faces is kept aside ({', '.join(held)}); leave some out of 'held_speakers' in the configuration."
        )

    def batches(chosen: Callable[[str], bool]) -> PairedBatches:
        voices = np.array([chosen(str(s).removesuffix(AS_HEARD)) for s in speech.speaker])
        return PairedBatches(speech.chosen(voices), {k: v for k, v in faces.items() if chosen(k[0])}, config)

    known = batches(lambda speaker: speaker not in held)
    try:
        unheard = batches(lambda speaker: speaker in held) if held else None
    except CmetError as error:
        log.warning("nobody can be measured with who was not trained on: %s", error)
        unheard = None
    return known, unheard, held


def train_from_folders(
    output: str | Path,
    *,
    speech: Sequence[str | Path],
    pictures: str | Path | None = None,
    tracks: Sequence[str | Path] = (),
    videos: str | Path | None = None,
    codes: str | Path | None = None,
    config: ConnectorConfig | None = None,
    hear: bool = True,
    checkpoint: Path | None = None,
    device: str = "cpu",
    workers: int = 1,
    force: bool = False,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """What `cmet train connector` does. One of three kinds of faces is given:

    - `pictures` and `tracks`: data that is not paired (D = 52), as the embedded connector is trained;
    - `videos`: MEAD or CREMA-D as distributed, tracked first (D = 52, pairs of the same actor);
    - `codes`: EDTalk codes, `SPEAKER/EMOTION/NAME.npy` (D = 10, the paper's settings unless `config` says otherwise).

    Pairs are measured on speakers kept aside (`split_pairs`), where there are any.

    Args:
        output: safetensors file for D = 52, a checkpoint in the published form (`state_dict`) for D = 10.
        speech: corpus folders, see `read_speech`.
        hear: also hear the speech with the embedded encoder; with `codes` only the recordings without a teacher's feature are
            heard, by emotion2vec+ large if its weights are on this machine.
        config, checkpoint, device, workers, force, progress: see `train_connector`.

    Returns:
        The figures of the run. Its loss curve lies beside `output` as `.csv` and `.svg`.

    Raises:
        CmetError: data is missing or of an unknown layout, or the output cannot be written.
    """  # fmt: skip
    from cmet_engine.emotion.expression_classifier import load_pictures
    from cmet_engine.emotion.speech import load_encoder

    output = check_writable(output, force=force)
    _check_one_kind(pictures, videos, codes)
    run: dict[str, Any] = {"checkpoint": checkpoint, "device": device, "workers": workers, "progress": progress}
    if pictures is not None:
        labelled, talking = load_pictures(pictures), read_tracks(tracks)  # read before listening, which takes long
        voices = read_speech(speech, load_encoder(device=device) if hear else None, progress)
        return train_embedded(voices, talking, labelled.reviewed(), output, config, force=force, **run)
    config = config or (ConnectorConfig() if codes is None else ConnectorConfig.published())
    voices, paired = _read_pairs(speech, videos, codes, hear, device, output.parent / f"{output.stem}-tracks", progress)
    known, unheard, held = split_pairs(voices, paired, config)
    network, curve = train_connector(known, config, **run)
    network = network.cpu()
    figures: dict[str, Any] = {
        "pairs": len(paired),
        "held_speakers": held,
        "losses": dict(zip(("step", *PARTS), curve.rows[-1], strict=True)),
    }
    if unheard is not None:
        figures["held_out"] = compare_models(network, known, unheard)
    if codes is not None:
        content = {
            "state_dict": network.state_dict(), "config": json.dumps(asdict(config)), "figures": json.dumps(figures),
        }  # fmt: skip
        with whole_file(output, force=force) as temporary:
            torch.save(content, temporary)
    else:
        save_connector(network, config, output, figures, force=force)
    write_losses(output.parent, PARTS, curve.rows, output.stem)
    return figures


def _check_one_kind(pictures: str | Path | None, videos: str | Path | None, codes: str | Path | None) -> None:
    if (pictures is not None) + (videos is not None) + (codes is not None) != 1:
        raise CmetError(
            "Give one kind of faces: labelled pictures with tracks, a folder of videos, or a folder of codes."
        )


def _read_pairs(
    speech: Sequence[str | Path],
    videos: str | Path | None,
    codes: str | Path | None,
    hear: bool,
    device: str,
    cache: Path | None,
    progress: Progress | None,
) -> tuple[Speech, dict[tuple[str, str], list[np.ndarray]]]:
    """Voices and faces of the same people, from folders."""
    from cmet_engine.emotion.emotion2vec import PublishedEncoder
    from cmet_engine.emotion.speech import load_encoder
    from cmet_engine.models import registry
    from cmet_engine.training.speech import read_corpus

    corpora = [read_corpus(folder) for folder in speech]  # told wrong before the videos are tracked, which takes long
    if codes is None:
        assert videos is not None
        faces = track_videos(videos, cache, progress)
        return read_speech(speech, load_encoder(device=device) if hear else None, progress), faces
    faces = read_codes(codes)
    if not hear:
        return read_speech(speech, None, progress), faces
    published = registry.is_here("emotion2vec_plus_large")
    listener: Hearing = PublishedEncoder(device=device) if published else load_encoder(device=device)
    if not published and any(len(corpus.teacher) < len(corpus.recordings) for corpus in corpora):
        log.warning(
            "recordings without a teacher's feature are heard by the embedded encoder, which only comes near the "
            "emotion2vec+ large that the published connector listens to; `cmet models pull emotion2vec` brings that here."
        )
    return read_speech(speech, None, progress, instead=listener), faces


def evaluate_connector(
    *,
    speech: Sequence[str | Path],
    pictures: str | Path | None = None,
    tracks: Sequence[str | Path] = (),
    videos: str | Path | None = None,
    codes: str | Path | None = None,
    cache: Path | None = None,
    file: str | Path | None = None,
    hear: bool = True,
    leave_out: bool = False,
    steps: int = 400,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """What `cmet eval connector` does: a trained connector against ridge and MLP on people and voices kept aside.

    Args:
        speech, pictures, tracks, videos, codes: as in training.
        cache: folder in which tracks of `videos` are kept.
        file: the connector; None takes the embedded one.
        hear: also use the speech as the embedded encoder hears it.
        leave_out: also train once without each emotion, `steps` long, and compare what is then predicted for it.

    Returns:
        `held_out` from `compare_models`; with `leave_out` also `zero_shot`.

    Raises:
        CmetError: data is missing, nobody in it was kept aside, or the connector is of another space.
    """
    from cmet_engine.emotion.edit import CONNECTOR_FILE
    from cmet_engine.emotion.expression_classifier import load_pictures
    from cmet_engine.emotion.speech import load_encoder
    from cmet_engine.models.assets import asset

    _check_one_kind(pictures, videos, codes)
    network, config, _ = read_connector(file or asset(CONNECTOR_FILE))
    wanted = arkit.COUNT if codes is None else ConnectorConfig.published().expression_dim
    if network.expression_dim != wanted:
        raise CmetError(
            f"The connector works on {network.expression_dim} numbers a frame, these faces have {wanted}; "
            "give one that was trained on such faces with --weights."
        )
    if pictures is None:
        voices, paired = _read_pairs(speech, videos, codes, hear, "cpu", cache, progress)
        known, unheard, held = split_pairs(voices, paired, config)
        if unheard is None:
            raise CmetError(
                "Nobody in this data was kept from training; name speakers in 'held_speakers' and train again."
            )
        return {"held_speakers": held, "held_out": compare_models(network, known, unheard)}
    labelled, faces = load_pictures(pictures).reviewed(), read_tracks(tracks)
    voices = read_speech(speech, load_encoder() if hear else None, progress)
    known_unpaired, unheard_unpaired = _split(voices, faces, labelled, config)
    result: dict[str, Any] = {"held_out": compare_models(network, known_unpaired, unheard_unpaired)}
    if leave_out:
        short = ConnectorConfig(steps=steps, warmup=50)
        emotions = [e for e in LIBRARY if (voices.emotion == e).any()]
        seen = labelled.chosen(labelled.fold != 0)
        result["zero_shot"] = zero_shot(
            voices, Faces(faces, seen.coefficients, seen.emotion), short, network, emotions, progress
        )
    return result
