"""The network that blends a draft with references from other frames: a small U-Net in the canonical face crop.

For every pixel it predicts the weights of the draft and of the two references, a small displacement of each reference, and a
bounded shading; it generates nothing else of its own.
"""

from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional as F

from cmet_engine.errors import CmetError
from cmet_engine.models.assets import asset
from cmet_engine.models.tensors import read_tensors

WEIGHTS = "refiner"
"""The generic weights, among the embedded models."""

SOURCES = 3
"""The draft, and two references."""

GEOMETRY = 12
"""Channels beside the pictures: place on the mean face (3), eyes, mouth, inwardness, stretch (3) and bend (3) of the sources."""

INPUTS = 3 * SOURCES + GEOMETRY
MOST_FLOW = 0.03
"""Largest displacement of a reference, as a share of the crop's side."""

MOST_SHADE = 0.3
"""Largest shading, where 1 is white."""

WIDTHS = (24, 48, 72, 96)  # half a million parameters, 1 MB as float16
_OUTPUTS = SOURCES + 2 * (SOURCES - 1) + 3


def _block(inputs: int, outputs: int, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, 3, stride, 1), nn.SiLU(), nn.Conv2d(outputs, outputs, 3, 1, 1), nn.SiLU()
    )


class Refiner(nn.Module):
    """`(pictures [B, 9, R, R] in 0..1, geometry [B, 12, R, R], prior [B, 3, R, R]) -> (weights, flow, shade)`; R divides by 16.

    The prior is a rule of thumb for the weights, as logits. An untrained network, whose last layer is zero, follows it.
    """

    def __init__(self) -> None:
        super().__init__()
        a, b, c, d = WIDTHS
        self.first = nn.Conv2d(4 * INPUTS, a, 1)
        self.down1 = _block(a, a)
        self.down2 = _block(a, b, 2)
        self.down3 = _block(b, c, 2)
        self.down4 = _block(c, d, 2)
        self.up3 = _block(d + c, c)
        self.up2 = _block(c + b, b)
        self.up1 = _block(b + a, a)
        self.last = nn.Conv2d(a, 4 * _OUTPUTS, 1)
        nn.init.zeros_(self.last.weight)
        nn.init.zeros_(self.last.bias)  # type: ignore[arg-type]

    def forward(self, pictures: Tensor, geometry: Tensor, prior: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Weights [B, 3, R, R] that sum to 1, flow [B, 4, R, R] in shares of R (x, y of each reference), shade [B, 3, R, R]."""
        x = torch.cat([pictures - 0.5, geometry], 1)
        x = F.silu(self.first(F.pixel_unshuffle(x, 2)))  # [B, a, R/2, R/2]
        x1 = self.down1(x)
        x2 = self.down2(x1)
        x3 = self.down3(x2)
        x = self.down4(x3)  # [B, d, R/16, R/16]
        x = self.up3(torch.cat([_larger(x), x3], 1))
        x = self.up2(torch.cat([_larger(x), x2], 1))
        x = self.up1(torch.cat([_larger(x), x1], 1))
        x = F.pixel_shuffle(self.last(x), 2)  # [B, 10, R, R]
        weights = torch.softmax(prior + x[:, :SOURCES], 1)
        flow = MOST_FLOW * torch.tanh(x[:, SOURCES : SOURCES + 4])
        shade = MOST_SHADE * torch.tanh(x[:, SOURCES + 4 :])
        return weights, flow, shade


def _larger(x: Tensor) -> Tensor:
    return F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=False)


def compose(pictures: Tensor, weights: Tensor, flow: Tensor, shade: Tensor, mask: Tensor) -> Tensor:
    """Blend the pictures by weights, flow and shade: [B, 3, R, R]; the draft alone where the mask [B, 1, R, R] is 0."""
    draft = pictures[:, :3]
    size = draft.shape[-1]
    step = torch.arange(size, device=draft.device, dtype=draft.dtype) * (2 / (size - 1)) - 1
    grid = torch.stack(torch.meshgrid(step, step, indexing="xy"), -1)  # [R, R, 2]: x, y
    change = shade
    for k in range(SOURCES - 1):
        at = grid + (2 * size / (size - 1)) * flow[:, 2 * k : 2 * k + 2].permute(0, 2, 3, 1)
        reference = F.grid_sample(
            pictures[:, 3 * k + 3 : 3 * k + 6], at, mode="bilinear", padding_mode="border", align_corners=True
        )
        change = change + weights[:, k + 1 : k + 2] * (reference - draft)
    result: Any = draft + mask * change
    return result


def load_refiner(path: Path | None = None) -> Refiner:
    """The refiner with its generic weights, or with those in a file, in evaluation mode on the CPU.

    Raises:
        CmetError: the file is missing or damaged.
    """
    file = asset(f"{WEIGHTS}.safetensors") if path is None else path
    broken = f"{file.name} does not hold the refiner's weights; remove it and start again."
    stored, _ = read_tensors(file, broken)
    network = Refiner()
    try:
        network.load_state_dict({name: value.float() for name, value in stored.items()})
    except RuntimeError as error:
        raise CmetError(broken) from error
    return network.eval()


def save_refiner(network: Refiner, path: Path) -> None:
    """Write the weights as float16 safetensors."""
    save_file({name: value.half().contiguous().cpu() for name, value in network.state_dict().items()}, path)
