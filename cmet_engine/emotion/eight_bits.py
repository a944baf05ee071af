"""Matrices stored in eight bits: every row in 127 steps each way of its largest value."""

import torch

SCALE = ".scale"
"""Ending of the name that the rows' steps are stored under."""


def pack(name: str, value: torch.Tensor) -> dict[str, torch.Tensor]:
    """`value` float32 [R, ...] as it is stored: int8 under its name, and the step of every row, float32 [R]."""
    step = value.flatten(1).abs().amax(1).clamp(min=1e-12) / 127
    return {name: (value / _rows(step, value)).round().to(torch.int8).contiguous(), name + SCALE: step}


def unpack(stored: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """All tensors as float32, those that `pack` stored multiplied out; whole numbers stay as they are."""
    result = {}
    for name, value in stored.items():
        step = stored.get(name + SCALE)
        if step is not None:
            result[name] = value.float() * _rows(step, value)
        elif not name.endswith(SCALE):
            result[name] = value.float() if value.is_floating_point() else value
    return result


def rounded(value: torch.Tensor) -> torch.Tensor:
    """`value` as it comes back from a file."""
    return unpack(pack("", value))[""]


def _rows(step: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
    return step.reshape(-1, *[1] * (value.dim() - 1))
