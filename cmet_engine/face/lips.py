"""How far lips and eyes are open, from landmarks: the one measure of what must survive an edit."""

import numpy as np
import scipy

from cmet_engine import arkit
from cmet_engine.face.landmarks import INNER_LIPS, LIDS
from cmet_engine.face.pose import normalise

LIPS_CLOSED = 0.02
"""Lips count as closed below this opening: 2 % of the outer-eye distance, about 2 mm on an adult."""

LIPS_OPEN = 0.03
"""Lips that were closed count as parted above this opening; between the two a tracker cannot decide."""

_PARTS = {
    "jawOpen": 0.352, "mouthFunnel": 0.137, "mouthLowerDownLeft": 0.082, "mouthLowerDownRight": 0.082,
    "mouthUpperUpLeft": 0.053, "mouthUpperUpRight": 0.053, "mouthClose": -0.337, "mouthPressLeft": -0.035,
    "mouthPressRight": -0.035, "mouthShrugLower": -0.069, "mouthRollLower": -0.052, "mouthPucker": -0.042,
}  # fmt: skip
PARTS = np.array([_PARTS.get(name, 0.0) for name in arkit.NAMES])
"""How far each coefficient parts the inner lips, in outer-eye distances; below 0 it presses them together.

Ridge regression from coefficients to landmarks over 6,000 frames of 28 talking clips, without those that only go along (dimples).
"""

OPENERS = PARTS > 0


def said_opening(coefficients: np.ndarray) -> np.ndarray:
    """How far curves [N, 52] part the lips, or a change of them does further, in outer-eye distances: [N]; below 0 they press."""
    return np.asarray(coefficients, np.float64) @ PARTS


HELD_SECONDS, SOFT_SECONDS = 1.0, 0.1
"""What stays open for so long is expression, such as a smile over the teeth; the rest is speech. It is smoothed over the second."""


def held_opening(opening: np.ndarray, fps: float) -> np.ndarray:
    """The part [N] of an opening of the lips [N] that is held; what lies above opens and closes at syllable rate and is speech."""
    long = max(round(HELD_SECONDS * fps), 2)
    held = scipy.ndimage.grey_opening(np.asarray(opening, np.float64), long, mode="nearest")
    return scipy.ndimage.gaussian_filter1d(held, max(SOFT_SECONDS * fps, 0.5), mode="nearest")


def spoken(opening: np.ndarray, fps: float) -> np.ndarray:
    """bool [N], the frames near which the lips [N] open at syllable rate: lips that are closed there say something."""
    above = np.asarray(opening, np.float64) - held_opening(opening, fps)
    return scipy.ndimage.maximum_filter1d(above, max(round(HELD_SECONDS * fps), 2) | 1, mode="nearest") >= LIPS_OPEN


def _gaps(points: np.ndarray, pairs: tuple[tuple[int, int], ...]) -> np.ndarray:
    upper, lower = np.array(pairs).T
    return (points[:, upper, 1] - points[:, lower, 1]).mean(1)


def lip_opening(landmarks: np.ndarray) -> np.ndarray:
    """Gap between the inner lips over the outer-eye distance.

    Measured upright in the pose-free space, so position, size and rotation of the head do not change it.

    Args:
        landmarks: [N, 478, 3] pixels.

    Returns:
        float32 [N]; 0 and a little below where the lips touch.
    """
    return _gaps(normalise(landmarks)[0], INNER_LIPS).astype(np.float32)


def eye_opening(landmarks: np.ndarray) -> np.ndarray:
    """Gap between the lids of each eye over the outer-eye distance: float32 [N, 2], left and right."""
    points = normalise(landmarks)[0]
    return np.stack([_gaps(points, pairs) for pairs in LIDS], 1).astype(np.float32)
