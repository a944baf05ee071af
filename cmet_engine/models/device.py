"""Where networks run: one list of devices, one choice, one refusal."""

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
    import torch

    if kind == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    if kind == "cuda" and not torch.cuda.is_available():
        raise MissingWeights("There is no CUDA GPU that torch can use on this machine; use --device cpu.")
    if kind == "mps" and not torch.backends.mps.is_available():
        raise MissingWeights("There is no Apple GPU (mps) that torch can use on this machine; use --device cpu.")
    return device
