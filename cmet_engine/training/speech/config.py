"""Every number of the speech encoder's training."""

import json
from dataclasses import asdict, dataclass, field, replace

from cmet_engine.emotion.heads import HeadsConfig
from cmet_engine.training.settings import parse_settings

HELD_OUT = ("emodb_08", "emodb_10")
"""Beside every seventh speaker of CREMA-D."""


@dataclass(frozen=True)
class TrainingConfig:
    """Every number of a training run.

    Attributes:
        seed: the same seed gives the same weights on the same machine.
        varied: copies of every clip with another room, microphone, background and channel; where a corpus has one speaker only,
            also with another voice.
        tempo: how much faster or slower such a voice speaks at the most, natural log.
        datasets: how much each dataset counts; one that is not named is measured, not trained on.
        balance: 1 lets every emotion of a dataset count equally, 0 by how many clips it has.
        heard: how much of a clip's label is what raters heard in it, where they were asked.
        held_out: speakers that are never trained on.
        held_out_crema: every how many-th speaker of CREMA-D, by number, is not trained on either (0: none).
        held_out_every: every how many-th clip of an extended emotion is not trained on (0: none; one speaker has them all).
        known: most clips that are centres of the kernels.
        ridge: weight of the kernels' smoothness against their error.
        calm: added to the share of neutral that the kernel beside neutral speech gives.
        natural: how much a clip as it is weighs against each of its variations.
        heads: shape of what is trained.
    """

    seed: int = 1
    varied: int = 1
    tempo: float = 0.15
    datasets: dict[str, float] = field(
        default_factory=lambda: {"crema": 1.0, "emodb": 0.3, "gemini": 0.1, "thorsten": 0.01, "a2f": 0.01}
    )
    balance: float = 0.5
    heard: float = 0.3
    held_out: tuple[str, ...] = HELD_OUT
    held_out_crema: int = 7
    held_out_every: int = 3
    known: int = 2000
    ridge: float = 0.08
    calm: float = 0.0
    natural: float = 3.0
    heads: HeadsConfig = field(default_factory=HeadsConfig)

    @classmethod
    def research(cls) -> "TrainingConfig":
        """The numbers of the research variant: RAVDESS and MEAD are trained on, too, which may not be used commercially."""
        default = cls()
        return replace(
            default,
            datasets=default.datasets | {"ravdess": 1.0, "mead": 0.3},
            held_out=(*HELD_OUT, "mead_W009", *(f"ravdess_{number}" for number in range(17, 21))),
        )

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
