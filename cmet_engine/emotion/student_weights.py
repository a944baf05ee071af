"""How the student network is stored: safetensors with its configuration."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from cmet_engine.emotion.predictions import ENCODER_FILES
from cmet_engine.emotion.student import Student, StudentConfig
from cmet_engine.files import whole_file
from cmet_engine.models.quantisation import pack, read

FORMAT = "cmet-speech-encoder/5"
EMBEDDED = ENCODER_FILES[0]
_EXACT = ("kernel.weights", "neutral_kernel.weights", "statistics_", "difference_")  # stored as float32
_INT8 = ("directions", "known")  # stored as int8


def save_student(student: Student, path: str | Path, figures: dict, *, force: bool = False) -> None:
    """Write a student network with its configuration and figures: safetensors, float16 but for `_EXACT` and `_INT8`."""
    state: dict[str, torch.Tensor] = {}
    for name, value in student.state_dict().items():
        half = value.is_floating_point() and not name.startswith(_EXACT)
        state |= pack(name, value) if name.endswith(_INT8) else {name: value.half().contiguous() if half else value}
    about = {"format": FORMAT, "config": json.dumps(asdict(student.config)), "figures": json.dumps(figures)}
    with whole_file(path, force=force) as temporary:
        save_file(state, temporary, about)


def load_student(path: str | Path) -> tuple[Student, dict]:
    """Read what `save_student` wrote: the network (float32) and its figures.

    Raises:
        CmetError: the file is missing, damaged, or no speech encoder of this project.
    """
    state, about = read(Path(path), FORMAT, "the speech encoder", "is not a speech encoder of this project")
    given = json.loads(about["config"])
    values: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in given.items()}
    student = Student(StudentConfig(**values), len(state["kernel.known"]), len(state["neutral_kernel.known"]))
    student.load_state_dict(state, strict=True)
    return student, json.loads(about.get("figures", "{}"))
