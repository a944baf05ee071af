"""Where a new shot begins."""

import cv2
import numpy as np

from cmet_engine.media.info import Frame

CUT_LEAST = 22.0
"""Mean change of the picture, of 255, below which nothing is a cut."""
CUT_TIMES = 5.0
"""A cut changes the picture by at least this many times the usual change."""
_USUAL_SHARE = 0.1  # of each new change in the running mean of the usual one
_SIDE = 32  # pixels of the thumbnails that are compared


def thumbnail_of(frame: Frame) -> np.ndarray:
    """A frame as `CutFinder` compares it with others: float32 [32, 32, 3]."""
    step = max(1, min(frame.shape[:2]) // (2 * _SIDE))
    coarse = np.ascontiguousarray(frame.sparse(step))
    return cv2.resize(coarse, (_SIDE, _SIDE), interpolation=cv2.INTER_AREA).astype(np.float32)


class CutFinder:
    """Says where a new shot begins: the picture changes at once, and far more than it did over the frames before."""

    def __init__(self) -> None:
        self._last: np.ndarray | None = None
        self._usual = CUT_LEAST / CUT_TIMES

    def state(self) -> dict[str, np.ndarray]:
        """What is known of the frames before, for `restore`."""
        assert self._last is not None
        return {"last": self._last, "usual": np.array(self._usual)}

    def restore(self, state: dict[str, np.ndarray]) -> None:
        """Go on from a `state`."""
        self._last, self._usual = state["last"], float(state["usual"])

    def is_cut(self, thumbnail: np.ndarray) -> bool:
        """Whether a shot begins with the frame of a `thumbnail_of`; to be asked about every frame in order."""
        if self._last is None:
            self._last = thumbnail
            return False
        change = float(np.abs(thumbnail - self._last).mean())
        self._last = thumbnail
        cut = change > CUT_LEAST and change > CUT_TIMES * self._usual
        if not cut:
            self._usual += (change - self._usual) * _USUAL_SHARE
        return cut
