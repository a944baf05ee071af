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


def columns_of(name: str) -> list[int]:
    """Columns of a name without a side: left and right, or the middle one."""
    return arkit.columns([name] if name in arkit.INDEX else [name + "Left", name + "Right"])


def starting_with(prefixes: tuple[str, ...]) -> np.ndarray:
    """bool [52]: the coefficients whose names begin with one of `prefixes`."""
    return np.array([name.startswith(prefixes) for name in arkit.NAMES])
