"""int8 quantisation of matrices, symmetric, with one scale per row (the row's largest absolute value is 127 steps)."""

from pathlib import Path

import numpy as np

from cmet_engine.models.tensors import read_arrays

SCALE = ".scale"
"""Ending of the name under which the scales of the rows are stored."""


def pack(name: str, value: np.ndarray) -> dict[str, np.ndarray]:
    """An array float32 [R, ...], quantised: int8 [R, ...] under its name, and the scale of every row, float32 [R]."""
    step = np.maximum(np.abs(value.reshape(len(value), -1)).max(1), np.float32(1e-12)) / 127
    return {name: np.rint(value / _rows(step, value)).astype(np.int8), name + SCALE: step}


def unpack(stored: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """All arrays as float32, those that `pack` quantised dequantised; integers stay as they are."""
    result = {}
    for name, value in stored.items():
        step = stored.get(name + SCALE)
        if step is not None:
            result[name] = value.astype(np.float32) * _rows(step, value)
        elif not name.endswith(SCALE):
            result[name] = value.astype(np.float32) if value.dtype.kind == "f" else value
    return result


def read(path: Path, form: str, what: str, unlike: str) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """The arrays of a safetensors file, dequantised, and its metadata.

    Args:
        path: of the file.
        form: the `format` that its metadata must name.
        what: what the file holds, for the message that it cannot be read.
        unlike: what is said of a file of another format, after its name.

    Raises:
        NotFound, InvalidInput: the file is missing, damaged, or of another format.
    """
    broken = f"Cannot read {what} {path}: the file is missing or damaged."
    stored, metadata = read_arrays(path, broken, form=form, unlike=unlike)
    return unpack(stored), metadata


def rounded(value: np.ndarray) -> np.ndarray:
    """An array float32 [R, ...] after quantisation and dequantisation."""
    return unpack(pack("", value))[""]


def _rows(step: np.ndarray, value: np.ndarray) -> np.ndarray:
    return step.reshape(-1, *[1] * (value.ndim - 1))
