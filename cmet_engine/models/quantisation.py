"""int8 quantisation of matrices, symmetric, with one scale per row (the row's largest absolute value is 127 steps)."""

from pathlib import Path

import torch

from cmet_engine.models.tensors import read_tensors

SCALE = ".scale"
"""Ending of the name under which the scales of the rows are stored."""


def pack(name: str, value: torch.Tensor) -> dict[str, torch.Tensor]:
    """A tensor float32 [R, ...], quantised: int8 [R, ...] under its name, and the scale of every row, float32 [R]."""
    step = value.flatten(1).abs().amax(1).clamp(min=1e-12) / 127
    return {name: (value / _rows(step, value)).round().to(torch.int8).contiguous(), name + SCALE: step}


def unpack(stored: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """All tensors as float32, those that `pack` quantised dequantised; integers stay as they are."""
    result = {}
    for name, value in stored.items():
        step = stored.get(name + SCALE)
        if step is not None:
            result[name] = value.float() * _rows(step, value)
        elif not name.endswith(SCALE):
            result[name] = value.float() if value.is_floating_point() else value
    return result


def read(path: Path, form: str, what: str, unlike: str) -> tuple[dict[str, torch.Tensor], dict[str, str]]:
    """The tensors of a safetensors file, dequantised, and its metadata.

    Args:
        path: of the file.
        form: the `format` that its metadata must name.
        what: what the file holds, for the message that it cannot be read.
        unlike: what is said of a file of another format, after its name.

    Raises:
        NotFound, InvalidInput: the file is missing, damaged, or of another format.
    """
    broken = f"Cannot read {what} {path}: the file is missing or damaged."
    stored, metadata = read_tensors(path, broken, form=form, unlike=unlike)
    return unpack(stored), metadata


def rounded(value: torch.Tensor) -> torch.Tensor:
    """A tensor float32 [R, ...] after quantisation and dequantisation."""
    return unpack(pack("", value))[""]


def _rows(step: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
    return step.reshape(-1, *[1] * (value.dim() - 1))
