"""The smooth rise from 0 to 1 that thresholds and fades are made of."""

from typing import Any

import numpy as np


def smoothstep(values: Any, low: float, high: float) -> Any:
    """0 below `low`, 1 above `high`, smooth between; the other way round where `low` is the larger."""
    t = np.clip((values - low) / (high - low), 0, 1)
    return t * t * (3 - 2 * t)
