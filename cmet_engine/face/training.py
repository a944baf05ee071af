"""Training of the two small models between landmarks and coefficients: the solver and the basis. Needs torch.

Data: a cache of what MediaPipe saw in pictures and clips (`observe`), split by person.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from cmet_engine import arkit

TEST_EVERY = 5  # of the people in the pictures, every fifth (by the number in the name) is never trained on


@dataclass
class Samples:
    """Frames of one clip, or pictures of one person.

    Attributes:
        name: of the clip or the person.
        landmarks: float32 [N, 478, 3] pixels.
        teacher: float32 [N, 52] the teacher's scores in canonical order; columns it does not have are 0.
        test: this person is kept aside.
        clip: frames of one clip, in order.
    """

    name: str
    landmarks: np.ndarray
    teacher: np.ndarray
    test: bool
    clip: bool


def canonical(scores: np.ndarray, names: list[str]) -> np.ndarray:
    """The teacher's scores [N, K] in canonical order [N, 52]."""
    result = np.zeros((len(scores), arkit.COUNT), np.float32)
    for column, name in enumerate(names):
        if name in arkit.INDEX:
            result[:, arkit.INDEX[name]] = scores[:, column]
    return result


def load_observations(folder: Path, test_clips: set[str]) -> list[Samples]:
    """Everything in a cache folder: `stills.npz` and `clips/*.npz`."""
    samples = []
    with np.load(folder / "stills.npz") as data:
        names = [str(n) for n in data["names"]]
        landmarks, scores, people = data["landmarks"], canonical(data["teacher_scores"], names), data["person"]
    good = np.isfinite(landmarks).all((1, 2)) & np.isfinite(scores).all(1)
    for person in np.unique(people[good]):
        rows = good & (people == person)
        test = int(str(person)[1:], 16) % TEST_EVERY == 0
        samples.append(Samples(str(person), landmarks[rows], scores[rows], test, False))
    for path in sorted((folder / "clips").glob("*.npz")):
        with np.load(path) as data:
            landmarks, scores = data["landmarks"], canonical(data["teacher_scores"], [str(n) for n in data["names"]])
        good = np.isfinite(landmarks).all((1, 2)) & np.isfinite(scores).all(1)
        samples.append(Samples(path.stem, landmarks[good], scores[good], path.stem in test_clips, True))
    return samples
