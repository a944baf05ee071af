"""Where the eyes look, from the irises."""

import numpy as np

from cmet_engine.face.landmarks import LEFT_EYE_CORNERS, LEFT_IRIS, RIGHT_EYE_CORNERS, RIGHT_IRIS
from cmet_engine.face.pose import template

_EYEBALL = 0.135  # radius of an eyeball in outer-eye distances: 12.1 mm of 89 mm, mean adult anthropometry
_FURTHEST = 0.9  # sine of the angle beyond which an iris is a misreading
_IRIS_LANDMARKS = 5  # centre and four landmarks on the edge


def gaze_degrees(points: np.ndarray) -> np.ndarray:
    """Gaze relative to the head from the irises.

    The iris moves on a ball of the eye's radius; it looks straight ahead where the mean face has it, seen from the middle
    between the corners of the eye.

    Args:
        points: pose-free landmarks [N, 478, 3].

    Returns:
        float32 [N, 4] degrees: left yaw, left pitch, right yaw, right pitch; above 0: to the person's own right, down.
    """
    offset = _iris_offsets(points) - _iris_offsets(template().points[None])
    return -np.degrees(np.arcsin(np.clip(offset / _EYEBALL, -_FURTHEST, _FURTHEST))).astype(np.float32)


def _iris_offsets(points: np.ndarray) -> np.ndarray:
    """float64 [N, 4]: how far left and right iris lie along and above the line between the corners of their eye."""
    offsets = []
    for (inner, outer), centre in ((LEFT_EYE_CORNERS, LEFT_IRIS), (RIGHT_EYE_CORNERS, RIGHT_IRIS)):
        middle = (points[:, inner] + points[:, outer]) / 2
        iris = points[:, centre : centre + _IRIS_LANDMARKS].mean(1)
        across = points[:, max(inner, outer)] - points[:, min(inner, outer)]
        across = across * np.sign(across[:, :1])  # from the picture's left to its right
        tilt = np.arctan2(across[:, 1], across[:, 0])
        dx, dy = (iris - middle)[:, 0], (iris - middle)[:, 1]
        offsets += [np.cos(tilt) * dx + np.sin(tilt) * dy, np.cos(tilt) * dy - np.sin(tilt) * dx]
    return np.stack(offsets, 1)
