"""Whether the rows of teeth are seen to meet between the lips: landmarks do not show it, and a renderer needs it."""

import cv2
import numpy as np

from cmet_engine.face.landmarks import INNER_LIP_CORNERS, INNER_LIPS, RED_OF_LIPS
from cmet_engine.smoothstep import smoothstep

CLENCHED = (0.42, 0.58)
"""Darkest place between the lips as a share of the brightest, over the middle of the mouth: below the first the rows of teeth
are apart, from the second on they meet."""

BRIGHT = (0.9, 1.02)
"""Brightness of the brightest tenth between the lips as a share of the lips': from the second on there are teeth to show."""

TOO_THIN, TOO_WIDE = (0.05, 0.1), (0.6, 0.45)
"""Opening as a share of the mouth's width: below the first pair nothing can be seen between the lips, above the second bright
places there are not rows that meet."""

DIP, ONE_ROW = (0.04, 0.12), 1.1
"""Darkness between two rows of teeth, as a share of the darker row's brightness: below the first no border is seen, from the second
on it is sure. The border of one row that is seen alone lies beyond the lower lip."""

_COLUMNS, _ROWS = 24, 16  # samples between the lips, across and down
_EDGES = (0.12, 0.88)  # of the way from the upper lip to the lower: the red of the lips is left out
_BRIGHTEST = 0.9  # quantile of the brightness between the lips that counts as teeth
_BLUR = 0.8  # standard deviation in samples: a single dark or bright pixel says nothing


_LINES = np.array(INNER_LIPS).T  # [2, 5], of the upper and the lower lip
_AT = np.linspace(0, _LINES.shape[1] - 1, _COLUMNS)  # where along them samples are taken
_AFTER = np.minimum(_AT.astype(int), _LINES.shape[1] - 2)
_SHARE = (_AT - _AFTER)[:, None]
_DEPTH = np.linspace(*_EDGES, _ROWS)[:, None, None]


def teeth_meet(image: np.ndarray, landmarks: np.ndarray) -> float:
    """1 where a picture shows teeth from lip to lip (an s, a long e, a grin), 0 where it shows a gap or no teeth.

    Args:
        image: uint8 [H, W, 3].
        landmarks: [478, 3] pixels.
    """
    edges, between = _between_lips(image, landmarks)
    bright = max(_quantile(between, _BRIGHTEST), 1e-3)
    darkest = _median(between.min(0)) / bright
    lips = max(float(colour_of_lips(image, landmarks).mean()), 1e-3)
    width = float(np.linalg.norm(landmarks[INNER_LIP_CORNERS[1], :2] - landmarks[INNER_LIP_CORNERS[0], :2]))
    wide = float(np.linalg.norm(edges[1] - edges[0], axis=1).max()) / max(width, 1e-3)
    shown = smoothstep(bright / lips, *BRIGHT) * smoothstep(wide, *TOO_THIN) * smoothstep(wide, *TOO_WIDE)
    return float(smoothstep(darkest, *CLENCHED) * shown)


def row_border(image: np.ndarray, landmarks: np.ndarray) -> float:
    """Where between the lips the upper row of teeth ends, as a share of the way from the upper lip to the lower one.

    It is the darkest place between two brighter ones; `ONE_ROW` where there is none, and one row is all that is seen.

    Args:
        image: uint8 or float32 [H, W, 3].
        landmarks: [478, 3] pixels.
    """
    _, between = _between_lips(image, landmarks)
    above = np.maximum.accumulate(between, 0)
    below = np.maximum.accumulate(between[::-1], 0)[::-1]
    dips = 1 - between / np.maximum(np.minimum(above, below), 1e-3)  # [_ROWS, _COLUMNS]
    place = _median(_DEPTH.ravel()[dips.argmax(0)])
    return ONE_ROW + (place - ONE_ROW) * float(smoothstep(_median(dips.max(0)), *DIP))


def _quantile(values: np.ndarray, share: float) -> float:
    """`np.quantile`, which takes ten times as long for so few values."""
    ordered = np.sort(values, axis=None)
    below, part = divmod((len(ordered) - 1) * share, 1)
    low, high = ordered[int(below)], ordered[min(int(below) + 1, len(ordered) - 1)]
    return float(low + (high - low) * part if part < 0.5 else high - (high - low) * (1 - part))


def _median(values: np.ndarray) -> float:
    """`np.median`, likewise."""
    ordered = np.sort(values)
    return float((ordered[(len(ordered) - 1) // 2] + ordered[len(ordered) // 2]) / 2)


def _between_lips(image: np.ndarray, landmarks: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The edges of the lips [2, _COLUMNS, 2] over the middle of the mouth, and the brightness between them [_ROWS, _COLUMNS]."""
    lines = landmarks[_LINES, :2].astype(np.float64)  # [2, 5, 2], across the middle half
    edges = (lines[:, _AFTER + 1] - lines[:, _AFTER]) * _SHARE + lines[:, _AFTER]
    places = (edges[0] * (1 - _DEPTH) + edges[1] * _DEPTH).astype(np.float32)
    between = cv2.remap(image, places, np.empty(0), cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    return edges, cv2.GaussianBlur(between.astype(np.float32).mean(-1), (0, 0), _BLUR)


def colour_of_lips(image: np.ndarray, landmarks: np.ndarray) -> np.ndarray:
    """Mean colour of the red of the lips: float32 [3]."""
    points = np.clip(np.round(landmarks[list(RED_OF_LIPS), :2]).astype(int), 0, np.array(image.shape[1::-1]) - 1)
    return image[points[:, 1], points[:, 0]].astype(np.float32).mean(0)
