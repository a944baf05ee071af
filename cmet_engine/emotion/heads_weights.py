"""How the heads of the speech encoder are stored: safetensors with their configuration."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save_file

from cmet_engine.emotion.heads import Heads, HeadsConfig, Kernel
from cmet_engine.emotion.predictions import ENCODER_FILES
from cmet_engine.files import whole_file
from cmet_engine.models.layers import Weights
from cmet_engine.models.quantisation import pack, read

FORMAT = "cmet-speech-encoder/6"
EMBEDDED = ENCODER_FILES[0]
KERNELS = ("kernel", "neutral_kernel")
KERNEL_ARRAYS = ("directions", "known", "weights", "offset")
SCALES = ("statistics_mean", "statistics_scale", "difference_scale")
_INT8 = ("directions", "known")  # stored as int8, all else as float32


def arrays(heads: Heads) -> Weights:
    """The arrays of heads by the names under which they are stored."""
    kernels = {
        f"{kernel}.{name}": getattr(getattr(heads, kernel), name) for kernel in KERNELS for name in KERNEL_ARRAYS
    }
    return kernels | {name: getattr(heads, name) for name in SCALES}


def save_heads(heads: Heads, path: str | Path, figures: dict, *, force: bool = False) -> None:
    """Write heads with their configuration and figures."""
    stored: Weights = {}
    for name, value in arrays(heads).items():
        stored |= pack(name, value) if name.endswith(_INT8) else {name: np.ascontiguousarray(value)}
    about = {"format": FORMAT, "config": json.dumps(asdict(heads.config)), "figures": json.dumps(figures)}
    with whole_file(path, force=force) as temporary:
        save_file(stored, temporary, about)


def load_heads(path: str | Path) -> tuple[Heads, dict]:
    """Read what `save_heads` wrote: the heads (float32) and their figures.

    Raises:
        CmetError: the file is missing, damaged, or no speech encoder of this project.
    """
    stored, about = read(Path(path), FORMAT, "the speech encoder", "is not a speech encoder of this project")
    given = json.loads(about["config"])
    values: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in given.items()}
    config = HeadsConfig(**values)
    alone, beside = (
        Kernel(config.reach, *(stored[f"{kernel}.{name}"] for name in KERNEL_ARRAYS)) for kernel in KERNELS
    )
    heads = Heads(config, alone, beside, *(stored[name] for name in SCALES))
    return heads, json.loads(about.get("figures", "{}"))
