"""What the student is trained towards: which clips, how often each, and the teacher's place for each."""

import math
from dataclasses import dataclass

import numpy as np
import torch

from cmet_engine.emotion.speech import Student
from cmet_engine.emotions import EXTENDED
from cmet_engine.errors import InvalidInput
from cmet_engine.training.speech.clips import Clips
from cmet_engine.training.speech.config import TrainingConfig


def held_out(clips: Clips, config: TrainingConfig) -> np.ndarray:
    """bool [N]: clips that a run with this configuration never trains on."""
    apart = np.isin(clips.speaker, config.held_out)
    if config.held_out_every:
        for emotion in EXTENDED:
            own = np.flatnonzero((clips.emotion == emotion) & (clips.dataset == "gemini"))
            apart[own[:: config.held_out_every]] = True
    return apart


def to_train_on(clips: Clips, config: TrainingConfig) -> np.ndarray:
    """Clips int [M] that a run with this configuration trains on.

    Raises:
        CmetError: there are none.
    """
    labels = clips.labels(config.student.emotions)
    chosen = np.flatnonzero(~held_out(clips, config) & ((labels >= 0) | clips.taught))
    if not len(chosen):
        raise InvalidInput("No clip is left to train on; check the labels and the speakers that are held out.")
    return chosen


@dataclass(frozen=True)
class Targets:
    """What the student should predict for each clip.

    Attributes:
        places: float32 [N, 1024], the teacher's feature, or its mean for the emotion where there is none.
        weight: float32 [N], of those places in the loss.
        labels: int64 [N], class, -1 where labels are not used.
        speaker: int64 [N], number of the speaker.
        spread: mean squared distance of the teacher's features from their mean.
        prototypes: float32 [classes, 1024], mean place of each emotion.
    """

    places: torch.Tensor
    weight: torch.Tensor
    labels: torch.Tensor
    speaker: torch.Tensor
    spread: float
    prototypes: torch.Tensor


def make_targets(clips: Clips, chosen: np.ndarray, config: TrainingConfig) -> Targets:
    """Targets of all clips, made from the `chosen` [M] alone."""
    labels = clips.labels(config.student.emotions)
    taught = clips.taught
    known = np.zeros(len(clips), bool)
    known[chosen] = taught[chosen]
    if not known.any():
        raise InvalidInput(
            "No clip to train on has a teacher's feature; the student needs some to learn the space from."
        )
    neutral = (
        clips.teacher[known & (labels == 0)].mean(0) if (known & (labels == 0)).any() else clips.teacher[known].mean(0)
    )
    means = np.tile(neutral, (len(config.student.emotions), 1))
    for number in range(len(means)):
        if (of := known & (labels == number)).any():
            means[number] = clips.teacher[of].mean(0)
    if "bored" in config.student.emotions and "sad" in config.student.emotions:
        # no corpus with teacher's features holds boredom: low arousal as in sadness, half as far from neutral
        sad = means[config.student.emotions.index("sad")]
        means[config.student.emotions.index("bored")] = (neutral + sad) / 2
    places = np.where(taught[:, None], clips.teacher, means[np.maximum(labels, 0)])
    weight = np.where(taught, config.distill, config.pseudo * (labels >= 0))
    centre = clips.teacher[known].mean(0)
    spread = float(((clips.teacher[known] - centre) ** 2).sum(1).mean())
    return Targets(
        torch.from_numpy(places.astype(np.float32)),
        torch.from_numpy(weight.astype(np.float32)),
        torch.from_numpy(labels),
        torch.from_numpy(np.unique(clips.speaker, return_inverse=True)[1]),
        spread,
        torch.from_numpy(means.astype(np.float32)),
    )


def new_student(clips: Clips, chosen: np.ndarray, config: TrainingConfig) -> Student:
    """A student with random weights whose scales come from the `chosen` [M] clips: input, and the teacher's principal directions."""
    torch.manual_seed(config.seed)
    student = Student(config.student)
    some = np.concatenate([clips.acoustics[0][n] for n in chosen[::5]]).astype(np.float32)
    known = clips.teacher[chosen][clips.taught[chosen]]
    centre = known.mean(0)
    _, scale, directions = np.linalg.svd(known - centre, full_matrices=False)
    count = min(config.student.basis, len(directions))
    student.input_mean.copy_(torch.from_numpy(some.mean(0)))
    student.input_scale.copy_(torch.from_numpy(some.std(0) + 1e-3))
    usual = clips.statistics[0][chosen]
    student.statistics_mean.copy_(torch.from_numpy(usual.mean(0)))
    student.statistics_scale.copy_(torch.from_numpy(usual.std(0) + 1e-6))
    of = np.unique(clips.speaker[chosen], return_inverse=True)[1]
    own = np.stack([usual[of == speaker].mean(0) for speaker in range(of.max() + 1)])
    student.difference_scale.copy_(torch.from_numpy((usual - own[of]).std(0) + 1e-6))
    student.space_mean.copy_(torch.from_numpy(centre))
    student.space_basis[:count] = torch.from_numpy(directions[:count] * (scale[:count, None] / math.sqrt(len(known))))
    return student


def clip_weights(clips: Clips, chosen: np.ndarray, config: TrainingConfig) -> np.ndarray:
    """How often each of the `chosen` [M] clips is drawn: datasets by their share, rare emotions more often."""
    weights = np.zeros(len(clips))
    for dataset in np.unique(clips.dataset[chosen]):
        own = chosen[clips.dataset[chosen] == dataset]
        _, place, count = np.unique(clips.emotion[own], return_inverse=True, return_counts=True)
        share = count[place] ** -config.balance
        weights[own] = config.shares.get(str(dataset), 1.0) * share / share.sum()
    return weights[chosen]
