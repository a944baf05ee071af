"""Jitter of tracked landmarks, removed without lag.

The filter looks at both sides of every frame (zero phase) and adapts to motion: a quadratic is fitted to the frames
around (Savitzky and Golay, "Smoothing and differentiation of data by simplified least squares procedures", Analytical
Chemistry 36, 1964), and the frame's departure from it is kept in the proportion in which it exceeds the tracker's
noise (J.-S. Lee, "Digital image enhancement and noise filtering by use of local statistics", PAMI 2, 1980, eq. 8). A
resting face is smoothed in full; a blink or a closing of the lips departs far from the quadratic and stays.
"""

from collections.abc import Iterator

import numpy as np
import scipy

from cmet_engine.face.geometry import Landmarks

WINDOW_SECONDS = 0.3
"""The quadratic spans this long, at least 5 frames."""
CHUNK = 512
"""Frames smoothed at a time."""
NOISE_FACTOR = 1.5
"""Noise over the median energy of the departures in a frame: most landmarks at most moments hold jitter only."""


def smooth_shot(
    raw: Landmarks | np.ndarray, valid: np.ndarray, first: int, last: int, rate: float
) -> Iterator[np.ndarray]:
    """Filled and smoothed landmarks of frames first..last-1, in chunks [n, 478, 3] float32, in order.

    Args:
        raw: landmarks of the whole clip, read by slice.
        valid: bool [N] of the whole clip; at least one is True between `first` and `last`.
        first: first frame of the shot.
        last: the frame after the last of the shot.
        rate: frames a second.
    """
    half = window_half(rate)
    context = 4 * half
    known = first + np.flatnonzero(valid[first:last])
    for start in range(first, last, CHUNK):
        stop = min(start + CHUNK, last)
        low, high = max(first, start - context), min(last, stop + context)
        values = _filled(raw, known, low, high)
        yield smooth(values, half)[start - low : stop - low].astype(np.float32)


def window_half(rate: float) -> int:
    """Frames on either side that the quadratic spans."""
    return max(2, round(WINDOW_SECONDS * rate / 2))


def _filled(raw: Landmarks | np.ndarray, known: np.ndarray, low: int, high: int) -> np.ndarray:
    """float64 [high - low, 478, 3]; frames that are not known lie on the line between their known neighbours."""
    values = np.asarray(raw[low:high], np.float64)
    here = np.arange(low, high)
    unknown = here[~np.isin(here, known)]
    if len(unknown):
        after = np.searchsorted(known, unknown)
        left, right = known[np.maximum(after - 1, 0)], known[np.minimum(after, len(known) - 1)]
        left = np.where(after == 0, right, left)
        for frame, a, b in zip(unknown, left, right, strict=True):
            t = 0.0 if a == b else (frame - a) / (b - a)
            values[frame - low] = (1 - t) * raw[int(a)] + t * raw[int(b)]
    return values


def smooth(values: np.ndarray, half: int) -> np.ndarray:
    """Landmarks [N, L, 3] of one shot without jitter; see the module's docstring."""
    n = len(values)
    half = min(half, (n - 1) // 2)
    if half < 1:
        return values
    trend = local_quadratic(values, half)
    departure = values - trend
    energy = (departure[..., :2] ** 2).sum(2)  # [N, L]
    local = scipy.ndimage.gaussian_filter1d(energy, half / 2, axis=0, mode="nearest")
    noise = NOISE_FACTOR * np.median(energy, axis=1)
    noise = np.minimum(noise, np.median(noise))[:, None]
    gain = np.clip(1 - noise / np.maximum(local, 1e-12), 0, 1)
    return trend + gain[..., None] * departure


def local_quadratic(values: np.ndarray, half: int) -> np.ndarray:
    """Value at every frame of the quadratic fitted to `half` frames on either side; at the ends to as many as there are.

    Even at the ends the fit stays symmetric about its frame: the window shrinks, so nothing lags or overshoots.
    """
    n = len(values)
    kernel = _quadratic_kernel(half)
    result = scipy.ndimage.convolve1d(values, kernel, axis=0, mode="nearest")
    for i in range(min(half, n)):
        for frame in {i, n - 1 - i}:
            reach = min(frame, n - 1 - frame, half)
            result[frame] = np.tensordot(_quadratic_kernel(reach), values[frame - reach : frame + reach + 1], 1)
    return result


def _quadratic_kernel(half: int) -> np.ndarray:
    if half == 0:
        return np.ones(1)
    t = np.arange(-half, half + 1)
    return np.linalg.pinv(np.stack([np.ones_like(t), t, t**2], 1))[0]
