"""From the raw output of the motion networks to keypoints, and what becomes of them when the expression changes."""

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

OTHERS = (0, 3, 4, 5, 7, 8, 9, 10)
"""Points of LivePortrait that move the head too: of these an edit of the expression takes single axes at most."""
AXES = ((3, 1), (4, 1), (5, 2), (8, 2), (9, 1), (9, 2))
PROCESS = 1e-5
"""Variance of a step of the random walk that the smoothing assumes."""
OBSERVATION = 3e-7
"""Variance of a reading: the published default, which takes away the smallest jitter only."""
RECAST_PI = 3.14
"""PerformRecast was trained with it."""


def degrees(bins: Tensor, offset: float = 97.5) -> Tensor:
    """An angle from its 66 bins [B, 66]: degrees [B]."""
    index = torch.arange(bins.shape[1], dtype=torch.float32, device=bins.device)
    return 3 * (torch.softmax(bins.float(), 1) * index).sum(1) - offset


def _turns(motion: Mapping[str, Tensor], offset: float, pi: float) -> tuple[Tensor, Tensor, Tensor]:
    """Rotations about x, y and z (pitch, yaw, roll), each [B, 3, 3] for column vectors."""
    turned = []
    for axis, name in enumerate(("pitch", "yaw", "roll")):
        angle = degrees(motion[name], offset) / 180 * pi
        cos, sin = torch.cos(angle), torch.sin(angle)
        matrix = torch.zeros(len(angle), 3, 3, device=angle.device)
        a, b = (axis + 1) % 3, (axis + 2) % 3
        matrix[:, axis, axis] = 1
        matrix[:, a, a], matrix[:, b, b], matrix[:, b, a], matrix[:, a, b] = cos, cos, sin, -sin
        turned.append(matrix)
    return turned[0], turned[1], turned[2]


def rotation(motion: Mapping[str, Tensor]) -> Tensor:
    """LivePortrait's head rotation [B, 3, 3]; multiplied from the right to points as rows."""
    x, y, z = _turns(motion, 97.5, np.pi)
    return (z @ y @ x).transpose(1, 2)


def transform(motion: Mapping[str, Tensor]) -> Tensor:
    """LivePortrait's keypoints [B, 21, 3]; the expression is added after the rotation, in the picture's axes."""
    kp, exp = (motion[name].float().reshape(len(motion["t"]), -1, 3) for name in ("kp", "exp"))
    return motion["scale"].float()[:, None] * (kp @ rotation(motion) + exp) + _shift(motion)


def rotation_recast(motion: Mapping[str, Tensor]) -> Tensor:
    """PerformRecast's head rotation [B, 3, 3], for points as columns."""
    x, y, z = _turns(motion, 99, RECAST_PI)
    return x @ y @ z


def transform_recast(motion: Mapping[str, Tensor]) -> Tensor:
    """PerformRecast's keypoints [B, 49, 3]; the expression is added before the rotation, the scale of each axis after it."""
    kp, exp = (motion[name].float().reshape(len(motion["t"]), -1, 3) for name in ("kp", "exp"))
    return motion["scale"].float()[:, None] * ((kp + exp) @ rotation_recast(motion).transpose(1, 2)) + _shift(motion)


def _shift(motion: Mapping[str, Tensor]) -> Tensor:
    """Translation [B, 1, 3] without depth."""
    return motion["t"].float()[:, None] * motion["t"].new_tensor([1, 1, 0])


def change(source: Mapping[str, Tensor], draft: Mapping[str, Tensor]) -> Tensor:
    """How LivePortrait's keypoints [B, 21, 3] move when the expression becomes that of the draft; the pose stays the source's."""
    delta = (draft["exp"] - source["exp"]).float().reshape(len(source["t"]), -1, 3)
    kept = torch.zeros(delta.shape[1:], device=delta.device)
    kept[[point for point in range(len(kept)) if point not in OTHERS]] = 1
    for point, axis in AXES:
        kept[point, axis] = 1
    return source["scale"].float()[:, None] * delta * kept


def change_recast(source: Mapping[str, Tensor], draft: Mapping[str, Tensor], *, replace: bool = False) -> Tensor:
    """`change` for PerformRecast [B, 49, 3].

    Args:
        source, draft: raw motion.
        replace: its published mode 1, which takes the lips in part from the source; else its mode 2.
    """
    own, wanted = (motion["exp"].float().reshape(len(motion["t"]), -1, 3) for motion in (source, draft))
    if replace:
        wanted = wanted.clone()
        lips, corners = [31, 32, 33, 36, 37, 38], [44, 45, 46]
        wanted[:, lips + corners, 2] = own[:, lips + corners, 2]
        wanted[:, corners, 0] = own[:, corners, 0]
        wanted[:, lips, :2] = 0.3 * own[:, lips, :2] + 0.7 * wanted[:, lips, :2]
        wanted[:, corners, 1] = 0.2 * own[:, corners, 1] + 0.8 * wanted[:, corners, 1]
    return source["scale"].float()[:, None] * ((wanted - own) @ rotation_recast(source).transpose(1, 2))


def smooth(track: np.ndarray, variance: float = OBSERVATION) -> np.ndarray:
    """A track [T, …] smoothed over time: a Kalman filter of a random walk, forwards and backwards, each number by itself.

    Args:
        track: readings, one row a frame.
        variance: of a reading.
    """
    values = np.asarray(track, np.float64)
    count = len(values)
    if count < 2:
        return np.asarray(track)
    means, variances = np.empty_like(values), np.empty(count)
    mean, spread = values[0], 1.0
    for n in range(count):
        if n:
            spread += PROCESS
        gain = spread / (spread + variance)
        mean, spread = mean + gain * (values[n] - mean), (1 - gain) * spread
        means[n], variances[n] = mean, spread
    for n in range(count - 2, -1, -1):
        gain = variances[n] / (variances[n] + PROCESS)
        means[n] += gain * (means[n + 1] - means[n])
    return means.astype(np.asarray(track).dtype)
