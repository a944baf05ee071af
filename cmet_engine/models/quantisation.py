"""Matrices stored in eight bits: every row in 127 steps each way of its largest value."""

from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open

from cmet_engine.errors import CmetError

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


def read(path: Path, form: str, what: str, unlike: str) -> tuple[dict[str, torch.Tensor], dict[str, str]]:
    """Tensors of a safetensors file, unpacked, and what it says of itself.

    Args:
        path: of the file.
        form: the format that it must say it has.
        what: it is, for the message that it cannot be read.
        unlike: what is said of one of another format, after its name.

    Raises:
        CmetError: the file is missing, damaged, or of another format.
    """
    try:
        with safe_open(path, "pt") as file:
            about = file.metadata() or {}
            stored = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 (not a dict)
    except (OSError, SafetensorError) as error:
        raise CmetError(f"Cannot read {what} {path}: the file is missing or damaged.") from error
    if about.get("format") != form:
        raise CmetError(f"{path.name} {unlike} (format '{about.get('format')}').")
    return unpack(stored), about


def rounded(value: torch.Tensor) -> torch.Tensor:
    """`value` as it comes back from a file."""
    return unpack(pack("", value))[""]


def _rows(step: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
    return step.reshape(-1, *[1] * (value.dim() - 1))
