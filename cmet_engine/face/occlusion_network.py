"""The network that sees what lies before a face: a small U-Net on the canonical crop."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional as F

from cmet_engine.errors import CmetError
from cmet_engine.models.assets import asset
from cmet_engine.models.tensors import read_tensors

WEIGHTS_FILE = "face_occlusion.safetensors"
SIDE = 128
"""Pixels of the crop."""

CELL = 4
"""Side of the cells of the crop that the network works on."""

WIDTHS = (48, 64, 96)  # 300,000 parameters, 0.6 MB as float16


def _layer(inputs: int, outputs: int, size: int = 3, stride: int = 1) -> nn.Sequential:
    convolution = nn.Conv2d(inputs, outputs, size, stride, size // 2, bias=False)
    return nn.Sequential(convolution, nn.BatchNorm2d(outputs), nn.SiLU())


class OcclusionNetwork(nn.Module):
    """Canonical crops [B, 3, R, R] in 0..1 -> logits of something before the face [B, R, R]; R divides by 16."""

    def __init__(self) -> None:
        super().__init__()
        a, b, c = WIDTHS
        self.down1 = _layer(3 * CELL**2, a)
        self.down2 = nn.Sequential(_layer(a, b, stride=2), _layer(b, b))
        self.down3 = nn.Sequential(_layer(b, c, stride=2), _layer(c, c))
        self.up2 = nn.Sequential(_layer(c + b, b, 1), _layer(b, b))
        self.up1 = nn.Sequential(_layer(b + a, a, 1), _layer(a, a))
        self.last = nn.Conv2d(a, CELL**2, 1)

    def forward(self, pictures: Tensor) -> Tensor:
        """Logits [B, R, R]."""
        x1 = self.down1(F.pixel_unshuffle(pictures - 0.5, CELL))  # [B, a, R/4, R/4]
        x2 = self.down2(x1)
        x = self.down3(x2)  # [B, c, R/16, R/16]
        x = self.up2(torch.cat([_larger(x), x2], 1))
        x = self.up1(torch.cat([_larger(x), x1], 1))
        result: Tensor = F.pixel_shuffle(self.last(x), CELL)[:, 0]  # [B, R, R]
        return result

    @torch.inference_mode()
    def probability(self, crops: Sequence[np.ndarray]) -> np.ndarray:
        """Probability that something lies before the face, for crops uint8 [R, R, 3]: float32 [B, R, R]."""
        pictures = torch.from_numpy(np.stack(crops)).permute(0, 3, 1, 2).float() / 255
        found: np.ndarray = torch.sigmoid(self(pictures)).numpy()
        return found


def _larger(x: Tensor) -> Tensor:
    return F.interpolate(x, scale_factor=2, mode="nearest")


def load_network(path: Path | None = None) -> OcclusionNetwork:
    """The embedded network, or that of a file, in evaluation mode on the CPU.

    Raises:
        CmetError: the file is missing or damaged.
    """
    file = asset(WEIGHTS_FILE) if path is None else path
    broken = f"{file.name} does not hold the weights of the occlusion network; install the package again."
    stored, _ = read_tensors(file, broken)
    network = OcclusionNetwork()
    try:
        network.load_state_dict({k: v.float() if v.is_floating_point() else v for k, v in stored.items()})
    except RuntimeError as error:
        raise CmetError(broken) from error
    return network.eval()


def save_network(network: OcclusionNetwork, path: Path) -> None:
    """Write the weights as float16."""
    state = network.state_dict()
    save_file({k: v.half().contiguous() if v.is_floating_point() else v for k, v in state.items()}, path)
