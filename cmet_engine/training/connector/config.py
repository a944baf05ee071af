"""Every number of a connector's training."""

import math
from dataclasses import asdict, dataclass
from pathlib import Path

from cmet_engine import arkit
from cmet_engine.emotion.connector import Connector, code_encoder
from cmet_engine.emotion.connector_weights import ConnectorSize
from cmet_engine.emotion.vector import VECTOR_SIZE
from cmet_engine.errors import InvalidInput
from cmet_engine.files import read_json
from cmet_engine.training.connector import losses
from cmet_engine.training.corpora.speech import TEACHER_SIZE
from cmet_engine.training.settings import read_settings
from cmet_engine.training.speech.config import HELD_OUT

HELD_SPEAKERS = (
    *HELD_OUT,
    *(f"crema_{number}" for number in (1010, 1020, 1028, 1036, 1044, 1052, 1060, 1068, 1076, 1086)),
)
"""Speakers that neither the embedded speech encoder nor the connector is trained on."""


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
        focal_beta, focal_gamma, temperature: of the reconstruction and of the contrast, see `connector.losses`.
        checkpoint_every: steps between two checkpoints.
        held_speakers: speakers (and their faces) that are never trained on but measured with. Where the data holds none of
            them, every fifth speaker is held out; an empty list holds nobody out.
        pool: clips that an emotion vector is the mean of, on each side.
        scaled_vectors: bring emotion vectors to the length that `cmet edit` brings them to; off, they stay as extracted.
        reference: how often the network is given the change of the window before; otherwise zeros, as in the first window of a clip.
        common: share of the vectors that are an emotion's mean over speakers, moved by noise of up to `common_noise` of its length.
        vector_noise: normal noise on every number of a vector.
        blend, blend_range: share of the rows that blend two emotions, and the part of the second, least and most.
        pictures: share of the expressions that take their direction from a labelled picture, of those that agree with the
            published expression by a cosine of `agreement`.
        draws: emotion vectors and expressions that are drawn for each emotion, once.
        candidates: of so many drawn expressions the one nearest to what the actor does is taken.
        reference_drift, reference_noise: the reference is multiplied by a number in this range, and moved by normal noise.

    From `common` on, the numbers above are of data that is not paired. The window (5 frames), the frame
    rate (25) and the scale of the coefficients (8) are part of what the weights mean, not of a run.
    """

    seed: int = 1
    expression_dim: int = arkit.COUNT
    speech_dim: int = VECTOR_SIZE
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
    contrastive: float = losses.CONTRASTIVE_WEIGHT
    directional: float = losses.DIRECTIONAL_WEIGHT
    focal_beta: float = losses.FOCAL_BETA
    focal_gamma: float = losses.FOCAL_GAMMA
    temperature: float = losses.TEMPERATURE
    checkpoint_every: int = 500
    clip: float = 1.0
    held_speakers: tuple[str, ...] = HELD_SPEAKERS
    scaled_vectors: bool = True
    common_noise: float = 0.35
    vector_noise: float = 0.02
    blend_range: tuple[float, float] = (0.15, 0.5)
    agreement: float = 0.25
    draws: int = 600
    reference_drift: tuple[float, float] = (0.7, 1.15)
    reference_noise: float = 0.02

    @classmethod
    def load(cls, path: str | Path, defaults: "ConnectorConfig | None" = None) -> "ConnectorConfig":
        """Read a JSON object of these numbers; those that are missing are taken from `defaults`.

        Raises:
            CmetError: the file cannot be read, or a field is unknown, of the wrong kind, or out of range.
        """
        path = Path(path)
        config = read_settings(read_json(path), defaults or cls(), path.name)
        if problem := config.problem():
            raise InvalidInput(f"{path.name}: {problem}")
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
            expression_dim=10, speech_dim=TEACHER_SIZE, width=1024, layers=4, feedforward=1024, steps=200_000, batch=128, learning_rate=1e-4, warmup=0,
            blend=0.0, reference=1.0, average=0.0, checkpoint_every=5000, scaled_vectors=False,
        )  # fmt: skip

    def build(self) -> Connector:
        """A network of these sizes with fresh weights."""
        return ConnectorSize.of(asdict(self)).build()


_COUNTS = frozenset("expression_dim speech_dim width layers heads feedforward base_channels steps batch checkpoint_every pool draws candidates".split())  # fmt: skip
_SHARES = frozenset("dropout average embedded_share reference common blend blend_range pictures agreement final_rate".split())  # fmt: skip
