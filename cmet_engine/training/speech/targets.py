"""Which clips the heads are trained on, and how much each counts."""

import numpy as np

from cmet_engine.emotions import EXTENDED
from cmet_engine.errors import InvalidInput
from cmet_engine.training.speech.clips import Clips
from cmet_engine.training.speech.config import TrainingConfig


def held_out(clips: Clips, config: TrainingConfig) -> np.ndarray:
    """bool [N]: clips that a run with this configuration never trains on."""
    apart = np.isin(clips.speaker, config.held_out) | ~np.isin(clips.dataset, list(config.datasets))
    if config.held_out_crema:
        speakers = np.unique(clips.speaker[clips.dataset == "crema"])
        apart |= np.isin(clips.speaker, speakers[config.held_out_crema - 1 :: config.held_out_crema])
    if config.held_out_every:
        for emotion in EXTENDED:
            own = np.flatnonzero((clips.emotion == emotion) & (clips.dataset == "gemini"))
            apart[own[:: config.held_out_every]] = True
    return apart


def to_train_on(clips: Clips, config: TrainingConfig) -> np.ndarray:
    """Clips int [M] that a run with this configuration trains on.

    Raises:
        CmetError: there are none, or no speaker among them has two neutral clips.
    """
    chosen = np.flatnonzero(~held_out(clips, config))
    if not len(chosen):
        raise InvalidInput(
            f"No clip is left to train on; check the speakers that are held out and the datasets ({', '.join(config.datasets)})."
        )
    calm = clips.speaker[chosen[clips.emotion[chosen] == "neutral"]]
    if not len(calm) or np.unique(calm, return_counts=True)[1].max() < 2:
        raise InvalidInput(
            "No speaker to train on has two neutral clips, from which the encoder learns what neutral speech is; add some."
        )
    return chosen


def clip_weights(clips: Clips, chosen: np.ndarray, config: TrainingConfig) -> np.ndarray:
    """How much each of the `chosen` [M] clips counts: datasets by their share, rare emotions more; 1 in the mean."""
    weights = np.zeros(len(clips))
    for dataset in np.unique(clips.dataset[chosen]):
        own = chosen[clips.dataset[chosen] == dataset]
        _, place, count = np.unique(clips.emotion[own], return_inverse=True, return_counts=True)
        share = count[place] ** -config.balance
        weights[own] = config.datasets.get(str(dataset), 1.0) * share / share.sum()
    return weights[chosen] / weights[chosen].mean()
