"""The smooth rise from 0 to 1 that thresholds and fades are made of."""

from typing import Any

import numpy as np


def smoothstep(values: Any, low: float, high: float) -> Any:
    """0 below `low`, 1 above `high`, smooth between; the other way round where `low` is the larger."""
    t = (values - low) / (high - low)
    if not isinstance(t, np.ndarray):
        t = min(max(t, 0.0), 1.0)
        return t * t * (3 - 2 * t)
    np.minimum(np.maximum(t, 0, out=t), 1, out=t)  # np.clip is slow on small arrays
    slope = t * -2
    slope += 3
    t *= t
    t *= slope
    return t
