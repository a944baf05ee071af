"""Kernels that are stored with the vectors of their spectral norm (Miyato et al. 2018), as PyTorch's older form does."""

from collections.abc import Mapping

from torch import Tensor


def divided(kernel: Tensor, u: Tensor, v: Tensor) -> Tensor:
    """A kernel [O, C, k, k] divided by uᵀ·W·v, W being the kernel as [O, C·k·k]."""
    return kernel / (u @ (kernel.flatten(1) @ v))


def without_spectral_norm(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A state dict with `weight` in place of every `weight_orig`, `weight_u` and `weight_v`."""
    result = {
        name: value for name, value in state.items() if not name.endswith(("weight_orig", "weight_u", "weight_v"))
    }
    for name in state:
        if name.endswith("weight_orig"):
            base = name.removesuffix("_orig")
            kernel, u, v = (state[base + part].double() for part in ("_orig", "_u", "_v"))
            result[base] = divided(kernel, u, v).float()
    return result
