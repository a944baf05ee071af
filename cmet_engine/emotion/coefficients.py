"""Sets of ARKit coefficients by names without a side."""

from collections.abc import Mapping

import numpy as np

from cmet_engine import arkit


def by_side(values: Mapping[str, float], rest: float = 0.0, *, split: bool = False) -> np.ndarray:
    """[52] from names without a side; `split` shares the value between the two sides."""
    result = np.full(arkit.COUNT, rest)
    for name, value in values.items():
        columns = columns_of(name)
        result[columns] = value / len(columns) if split else value
    return result


def columns_of(name: str, side: str = "") -> list[int]:
    """Columns of a name without a side: left and right, one of them (`L`, `R`), or the middle one."""
    if name in arkit.INDEX:
        return arkit.columns([name])
    return arkit.columns([name + s for s in {"": ("Left", "Right"), "L": ("Left",), "R": ("Right",)}[side]])


def starting_with(prefixes: tuple[str, ...]) -> np.ndarray:
    """bool [52]: the coefficients whose names begin with one of `prefixes`."""
    return np.array([name.startswith(prefixes) for name in arkit.NAMES])


def bridged(values: np.ndarray, valid: np.ndarray) -> np.ndarray:
    """`values` [N, C], which run on in a straight line where `valid` [N] says that they were not seen; as they are where none was."""
    seen = np.flatnonzero(valid)
    if not 0 < len(seen) < len(values):
        return values
    return np.stack([np.interp(np.arange(len(values)), seen, column) for column in values[seen].T], 1)


ANTAGONISTS = {
    "mouthSmile": "mouthFrown",
    "mouthFrown": "mouthSmile",
    "browDown": "browOuterUp",
    "browOuterUp": "browDown",
    "browInnerUp": "browDown",
    "eyeSquint": "eyeWide",
    "eyeWide": "eyeSquint",
    "mouthStretch": "mouthPucker",
    "mouthPucker": "mouthStretch",
    "mouthPress": "mouthLowerDown",
    "cheekSquint": "mouthFrown",
}
"""Actions that pull the other way, by names without a side."""

NEUTRAL_BAND = by_side(
    {"browDown": 0.3, "browInnerUp": 0.12, "browOuterUp": 0.12, "eyeSquint": 0.5, "mouthPress": 0.08}, 0.03
)
"""Values [52] that neutral faces hold (75th percentile of pictures labelled neutral)."""
