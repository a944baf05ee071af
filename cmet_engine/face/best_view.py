"""Which picture of a person shows them best: from the front, sharp, large, with open eyes, and with nothing before the face."""

from collections.abc import Sequence
from typing import NamedTuple

import cv2
import numpy as np

from cmet_engine.face.identity import on_face, texture
from cmet_engine.face.landmarks import CHIN_TIP, EARS, FOREHEAD, LEFT_EYE_CORNERS, LIDS, RIGHT_EYE_CORNERS

MOST = 24
"""Views of a person that are kept to choose from."""
CELLS = 8
"""Cells across and down a face in which views are compared."""
OPEN = 0.2
"""Height of an eye over its width from which it counts as open."""
USUAL, COVERED = 0.5, 1.0
"""How much a cell of a face may differ from what it mostly looks like, in contrasts of the face; what differs so much is covered."""


class View(NamedTuple):
    """A person in one frame.

    Attributes:
        score: how well the face is to be seen, covered or not; above 0.
        look: float32 [8, 8] brightness of the parts of the face, without that of the whole and its contrast; NaN beside the face.
        picture: uint8 [H, W, 3].
    """

    score: float
    look: np.ndarray
    picture: np.ndarray


def view(image: np.ndarray, landmarks: np.ndarray, picture: np.ndarray) -> View:
    """The view of a person.

    Args:
        image: the frame, uint8 [H, W, 3].
        landmarks: [478, 3] pixels.
        picture: what is kept of it, the face in its middle.
    """
    across = landmarks[EARS[1]] - landmarks[EARS[0]]
    down = landmarks[CHIN_TIP] - landmarks[FOREHEAD]
    normal = np.cross(across, down)
    frontal = float((normal[2] / (np.linalg.norm(normal) + 1e-9)) ** 4)
    eyes = min(
        float(np.mean([_length(landmarks, pair) for pair in lids]) / (_length(landmarks, corners) + 1e-6))
        for lids, corners in zip(LIDS, (LEFT_EYE_CORNERS, RIGHT_EYE_CORNERS), strict=True)
    )
    gray = cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY).astype(np.float32)
    quarter = len(gray) // 4
    middle = gray[quarter:-quarter, quarter:-quarter]
    sharp = float(cv2.Laplacian(middle, cv2.CV_32F).std() / (middle.std() + 1))
    size = float(np.linalg.norm(down[:2]))
    score = frontal * min(max(eyes / OPEN, 0.1), 1.0) * sharp**0.5 * size**0.5
    return View(max(score, 1e-6), _look(texture(image, landmarks)), picture)


def kept(views: list[View]) -> list[View]:
    """The best of some views of a person, at most `MOST`, in their order."""
    if len(views) <= MOST:
        return views
    least = sorted(one.score for one in views)[len(views) - MOST]
    return [one for one in views if one.score >= least][:MOST]


def best(views: Sequence[View]) -> View:
    """The view to show: the best of those in which no part of the face looks otherwise than it mostly does."""
    usual = np.median([one.look for one in views], 0)

    def worth(one: View) -> float:
        unlike = float(np.nanquantile(np.abs(one.look - usual), 0.9))
        return one.score * min(max((COVERED - unlike) / (COVERED - USUAL), 0.01), 1.0)

    return max(views, key=worth)


def _length(landmarks: np.ndarray, pair: Sequence[int]) -> float:
    return float(np.linalg.norm(landmarks[pair[0], :2] - landmarks[pair[1], :2]))


def _look(face: np.ndarray) -> np.ndarray:
    gray, seen = cv2.cvtColor(face, cv2.COLOR_RGB2GRAY).astype(np.float32), on_face()
    gray = (gray - gray[seen].mean()) / (gray[seen].std() + 4)
    share = cv2.resize(seen.astype(np.float32), (CELLS, CELLS), interpolation=cv2.INTER_AREA)
    means = cv2.resize(gray * seen, (CELLS, CELLS), interpolation=cv2.INTER_AREA) / np.maximum(share, 1e-6)
    return np.where(share > 0.5, means, np.nan).astype(np.float32)
