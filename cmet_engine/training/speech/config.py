"""Every number of the speech encoder's training."""

import json
from dataclasses import asdict, dataclass, field

from cmet_engine.emotion.student import StudentConfig
from cmet_engine.training.settings import parse_settings


@dataclass(frozen=True)
class TrainingConfig:
    """Every number of a training run.

    Attributes:
        seed: the same seed gives the same weights on the same machine.
        voices: augmented voices of every speaker (`voice_augmentation`): there are few speakers to learn from.
        tempo: how much faster or slower those speak at the most, natural log.
        varied: copies of every clip with another room, microphone and channel, for the statistics.
        steps, batch: how many batches of how many clips.
        learning_rate, warmup, weight_decay, clip: AdamW with a linear rise and a cosine fall; length of the gradient.
        average: decay of the running average of the weights, which is what is saved.
        crop: acoustic frames of a batch, shortest and longest.
        rates: tempo against the prepared copy, slowest and fastest.
        label_smoothing: share of each label that is spread over all classes.
        label, distill, pseudo, direction, contrast: weights of the losses; `pseudo` is what the teacher's mean for an emotion weighs for a
            clip without a teacher's feature, `direction` what the angle weighs against the distance.
        difference: weight of the difference from the same speaker's neutral clips in the batch: what an emotion vector is
            made of.
        temperature: of the contrast between emotions (Khosla et al. 2020).
        mixup, mixup_shape: share of batches whose clips are mixed in pairs, and the Beta distribution they are mixed by.
        held_out: speakers that are never trained on.
        held_out_every: every how many-th clip of an extended emotion is not trained on (0: none; one speaker has them all).
        shares: how much of a batch each dataset takes; one not named takes 1.
        balance: 1 draws every emotion of a dataset equally often, 0 as often as it has clips.
        calm: added to the score of neutral after training: most speech is neutral, while batches hold emotions about equally often.
        checkpoint: steps between two checkpoints.
        kernel_known: most clips that are centres of the kernels over the clip's statistics.
        kernel_ridge: weight of their smoothness against their error.
        kernel_calm: added to the share of neutral that the kernel beside neutral speech gives, which is too high otherwise.
        kernel_natural: how much a clip's natural voice weighs in them against each of its variations.
        student: shape of the network.
    """

    seed: int = 1
    voices: int = 8
    tempo: float = 0.15
    varied: int = 3
    steps: int = 2400
    batch: int = 32
    learning_rate: float = 2e-3
    warmup: int = 200
    weight_decay: float = 0.03
    clip: float = 2.0
    average: float = 0.998
    crop: tuple[int, int] = (140, 260)
    rates: tuple[float, float] = (0.85, 1.18)
    label_smoothing: float = 0.1
    label: float = 1.0
    distill: float = 1.0
    pseudo: float = 0.3
    direction: float = 0.5
    contrast: float = 0.2
    difference: float = 0.5
    temperature: float = 0.15
    mixup: float = 0.3
    mixup_shape: float = 0.4
    held_out: tuple[str, ...] = (
        "mead_W009", "ravdess_17", "ravdess_18", "ravdess_19", "ravdess_20", "emodb_08", "emodb_10",
    )  # fmt: skip
    held_out_every: int = 3
    shares: dict[str, float] = field(
        default_factory=lambda: {"ravdess": 1.0, "emodb": 0.6, "mead": 1.0, "gemini": 0.35, "meld": 0.03}
    )
    balance: float = 0.5
    calm: float = 0.5
    checkpoint: int = 250
    kernel_known: int = 2000
    kernel_ridge: float = 0.08
    kernel_calm: float = -0.1
    kernel_natural: float = 3.0
    student: StudentConfig = field(default_factory=StudentConfig)

    @classmethod
    def from_json(cls, text: str, name: str = "the configuration") -> "TrainingConfig":
        """Read a configuration; fields that are absent keep their default.

        Raises:
            CmetError: not JSON, an unknown field, or a value of the wrong kind; the message names it.
        """
        return parse_settings(text, cls(), name)

    def to_json(self) -> str:
        """The text that `from_json` reads."""
        return json.dumps(asdict(self), indent=2) + "\n"
