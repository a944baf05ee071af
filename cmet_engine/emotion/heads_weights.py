"""How the heads of the speech encoder are stored: safetensors with their configuration."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from cmet_engine.emotion.heads import Heads, HeadsConfig
from cmet_engine.emotion.predictions import ENCODER_FILES
from cmet_engine.files import whole_file
from cmet_engine.models.quantisation import pack, read

FORMAT = "cmet-speech-encoder/6"
EMBEDDED = ENCODER_FILES[0]
_INT8 = ("directions", "known")  # stored as int8, all else as float32


def save_heads(heads: Heads, path: str | Path, figures: dict, *, force: bool = False) -> None:
    """Write heads with their configuration and figures."""
    state: dict[str, torch.Tensor] = {}
    for name, value in heads.state_dict().items():
        state |= pack(name, value) if name.endswith(_INT8) else {name: value.contiguous()}
    about = {"format": FORMAT, "config": json.dumps(asdict(heads.config)), "figures": json.dumps(figures)}
    with whole_file(path, force=force) as temporary:
        save_file(state, temporary, about)


def load_heads(path: str | Path) -> tuple[Heads, dict]:
    """Read what `save_heads` wrote: the heads (float32) and their figures.

    Raises:
        CmetError: the file is missing, damaged, or no speech encoder of this project.
    """
    state, about = read(Path(path), FORMAT, "the speech encoder", "is not a speech encoder of this project")
    given = json.loads(about["config"])
    values: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in given.items()}
    heads = Heads(HeadsConfig(**values), len(state["kernel.known"]), len(state["neutral_kernel.known"]))
    heads.load_state_dict(state, strict=True)
    return heads, json.loads(about.get("figures", "{}"))
