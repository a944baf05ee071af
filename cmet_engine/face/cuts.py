"""Where a new shot begins."""

import numpy as np

CUT_LEAST = 22.0  # mean change of the picture, of 255, below which nothing is a cut
CUT_TIMES = 5.0  # and how many times the usual change it must be


class CutFinder:
    """Tells where a new shot begins: the picture changes at once, and far more than it did over the frames before."""

    def __init__(self) -> None:
        self._last: np.ndarray | None = None
        self._usual = CUT_LEAST / CUT_TIMES

    def state(self) -> dict[str, np.ndarray]:
        """What is known of the frames before, for `go_on`."""
        assert self._last is not None
        return {"last": self._last, "usual": np.array(self._usual)}

    def go_on(self, state: dict[str, np.ndarray]) -> None:
        """Go on from a `state`."""
        self._last, self._usual = state["last"], float(state["usual"])

    def is_cut(self, image: np.ndarray) -> bool:
        """Whether a shot begins with this frame, uint8 [H, W, 3]."""
        import cv2

        step = max(1, min(image.shape[:2]) // 64)
        small = cv2.resize(np.ascontiguousarray(image[::step, ::step]), (32, 32), interpolation=cv2.INTER_AREA).astype(
            np.float32
        )
        if self._last is None:
            self._last = small
            return False
        change = float(np.abs(small - self._last).mean())
        self._last = small
        cut = change > CUT_LEAST and change > CUT_TIMES * self._usual
        if not cut:
            self._usual += (change - self._usual) * 0.1
        return cut
