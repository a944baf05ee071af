"""Where networks run: one list of devices, one choice, one refusal."""

import ctypes
import sys
from pathlib import Path

from cmet_engine.choices import DEVICES
from cmet_engine.errors import MissingWeights


def resolve(device: str = "auto") -> str:
    """The device that `device` stands for on this machine: `cpu`, `cuda` (also `cuda:1`) or `mps`.

    `auto` is a CUDA GPU where there is one, else the CPU; Apple's `mps` is used where it is asked for by name.

    Raises:
        MissingWeights: the device is not on this machine, or no such device is known.
    """
    kind = device.partition(":")[0]
    if kind not in DEVICES:
        raise MissingWeights(f"The device '{device}' is unknown; use one of {', '.join(DEVICES)}.")
    if kind == "cpu":
        return device
    if kind == "auto" and not _gpu_possible():
        return "cpu"
    import torch

    if kind == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    if kind == "cuda" and not torch.cuda.is_available():
        raise MissingWeights("There is no CUDA GPU that torch can use on this machine; use --device cpu.")
    if kind == "mps" and not torch.backends.mps.is_available():
        raise MissingWeights("There is no Apple GPU (mps) that torch can use on this machine; use --device cpu.")
    return device


def _gpu_possible() -> bool:
    """Whether torch might find a CUDA GPU; False where it cannot, which is known without importing it."""
    if "torch" in sys.modules or Path("/dev/kfd").exists():  # the device that AMD's ROCm needs
        return True
    if sys.platform == "darwin":
        return False
    try:  # what torch itself loads first
        ctypes.CDLL("nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1")
    except OSError:
        return False
    return True
