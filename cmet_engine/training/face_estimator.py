"""Landmarks and blendshape scores of single pictures, as MediaPipe or the embedded solver estimates them."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from cmet_engine import arkit
from cmet_engine.face.blendshapes import load_solver
from cmet_engine.face.mesh import Landmarker

_TASK_COLUMNS = arkit.columns(sorted(name for name in arkit.NAMES if name != "tongueOut"))
"""MediaPipe reports its scores in alphabetical order, without `tongueOut`."""


class FaceEstimator:
    """Landmarks [K, 478, 3] pixels and blendshape scores [K, 52] of single pictures, NaN where no face was found.

    With `face_landmarker.task` no part of an edit was fitted through this estimator at run time; without it the embedded
    tracker and solver estimate both.

    Args:
        landmarker: MediaPipe's `face_landmarker.task`, or None.

    Raises:
        CmetError: the file is missing or is no face landmarker.
    """

    def __init__(self, landmarker: Path | None) -> None:
        self._scored = landmarker is not None
        self._landmarker = Landmarker(None if landmarker is None else Path(landmarker))

    def __call__(self, images: Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
        """Landmarks and scores of RGB pictures [H, W, 3]."""
        landmarks = np.full((len(images), 478, 3), np.nan, np.float32)
        scores = np.full((len(images), arkit.COUNT), np.nan, np.float32)
        for row, image in enumerate(images):
            if found := self._landmarker.detect(image):
                landmarks[row] = found[0]
                scores[row] = 0
                scores[row, _TASK_COLUMNS] = found[1][1:]  # the first is `_neutral`
        seen = np.isfinite(landmarks).all((1, 2))
        if not self._scored and seen.any():
            scores[seen] = load_solver().coefficients(landmarks[seen])
        return landmarks, scores
