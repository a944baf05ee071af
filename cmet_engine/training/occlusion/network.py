"""The network that sees what lies before a face, as it is trained: a small U-Net on the canonical crop.

`face.occlusion_network` runs what `save_network` writes.
"""

import itertools
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional as F

from cmet_engine.face.occlusion_network import CELL

WIDTHS = (20, 40, 72, 112)  # 370,000 parameters, 0.7 MB as float16


def _layer(inputs: int, outputs: int, size: int = 3, stride: int = 1) -> nn.Sequential:
    convolution = nn.Conv2d(inputs, outputs, size, stride, size // 2, bias=False)
    return nn.Sequential(convolution, nn.BatchNorm2d(outputs), nn.ReLU(inplace=True))


class OcclusionNetwork(nn.Module):
    """Canonical crops [B, 3, R, R] in 0..1 -> logits of something before the face [B, R, R]; R divides by 16."""

    def __init__(self) -> None:
        super().__init__()
        self.first = _layer(3 * CELL**2, WIDTHS[0])
        pairs = list(itertools.pairwise(WIDTHS))
        self.down = nn.ModuleList(nn.Sequential(_layer(a, b, stride=2), _layer(b, b)) for a, b in pairs)
        self.up = nn.ModuleList(nn.Sequential(_layer(a + b, a, 1), _layer(a, a)) for a, b in reversed(pairs))
        self.last = nn.Conv2d(WIDTHS[0], CELL**2, 3, padding=1)

    def forward(self, pictures: Tensor) -> Tensor:
        """Logits [B, R, R]."""
        levels = [self.first(F.pixel_unshuffle(pictures - 0.5, CELL))]  # [B, 20, R/2, R/2]
        for down in self.down:
            levels.append(down(levels[-1]))
        x = levels.pop()  # [B, 112, R/16, R/16]
        for up in self.up:
            x = up(torch.cat([F.interpolate(x, scale_factor=2, mode="nearest"), levels.pop()], 1))
        result: Tensor = F.pixel_shuffle(self.last(x), CELL)[:, 0]  # [B, R, R]
        return result


def save_network(network: OcclusionNetwork, path: Path) -> None:
    """Write the convolutions as float16, each with the normalisation after it in its weights and bias."""
    stored: dict[str, Tensor] = {}
    layers = {name: layer for name, layer in network.named_modules() if isinstance(layer, nn.Sequential)}
    for name, layer in layers.items():
        convolution, normalisation = layer[0], layer[1]
        if isinstance(convolution, nn.Conv2d) and isinstance(normalisation, nn.BatchNorm2d):
            fused = nn.utils.fuse_conv_bn_eval(convolution.eval(), normalisation.eval())
            stored |= {f"{name}.{part}": value for part, value in fused.named_parameters()}
    stored |= {f"last.{part}": value for part, value in network.last.named_parameters()}
    save_file({name: value.detach().half().contiguous() for name, value in stored.items()}, path)
