"""Keypoints, head pose and expression of a face: ConvNeXt V2 (Woo et al. 2023) with a head for each."""

import itertools
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

BINS = 66
"""Of an angle."""
DEPTHS, WIDTHS = (3, 3, 9, 3), (96, 192, 384, 768)


class ResponseNorm(nn.Module):
    """Global response normalisation."""

    def __init__(self, channels: int):
        super().__init__()
        self.gamma = nn.Parameter(torch.zeros(1, 1, 1, channels))
        self.beta = nn.Parameter(torch.zeros(1, 1, 1, channels))

    def forward(self, x: Tensor) -> Tensor:
        """[B, H, W, C] -> the same shape."""
        response = x.square().sum((1, 2), keepdim=True).sqrt()
        share = response / (response.mean(-1, keepdim=True) + 1e-6)
        return self.gamma * (x * share) + self.beta + x


class _Block(nn.Module):
    def __init__(self, width: int):
        super().__init__()
        self.dwconv = nn.Conv2d(width, width, 7, padding=3, groups=width)
        self.norm = nn.LayerNorm(width, 1e-6)
        self.pwconv1, self.pwconv2 = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)
        self.grn = ResponseNorm(4 * width)

    def forward(self, x: Tensor) -> Tensor:
        """[B, H, W, C] -> the same shape."""
        y = self.norm(self.dwconv(x.permute(0, 3, 1, 2)).permute(0, 2, 3, 1))
        return x + self.pwconv2(self.grn(F.gelu(self.pwconv1(y))))


def _down(inputs: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(nn.LayerNorm(inputs, 1e-6), nn.Conv2d(inputs, outputs, 2, 2))


class MotionExtractor(nn.Module):
    """The motion network of LivePortrait (21 points, one scale) or PerformRecast (49 points, a scale per axis).

    Args:
        points: number of keypoints.
        scales: numbers of the scale. The names of a network with one begin with `detector.`.
        widths, depths: channels and blocks of the stages.
    """

    def __init__(
        self, points: int = 21, scales: int = 1, widths: tuple[int, ...] = WIDTHS, depths: tuple[int, ...] = DEPTHS
    ):
        super().__init__()
        if scales == 1:
            self.detector = nn.Module()
        home = self._home
        stem = nn.Sequential(nn.Conv2d(3, widths[0], 4, 4), nn.LayerNorm(widths[0], 1e-6))
        home.downsample_layers = nn.ModuleList([stem, *(_down(a, b) for a, b in itertools.pairwise(widths))])
        home.stages = nn.ModuleList(
            nn.Sequential(*(_Block(width) for _ in range(depth))) for depth, width in zip(depths, widths, strict=True)
        )
        home.norm = nn.LayerNorm(widths[-1], 1e-6)
        self._sizes = {
            "kp": 3 * points,
            "scale": scales,
            "pitch": BINS,
            "yaw": BINS,
            "roll": BINS,
            "t": 3,
            "exp": 3 * points,
        }
        for name, size in self._sizes.items():
            setattr(home, f"fc_{name}", nn.Linear(widths[-1], size))

    @property
    def _home(self) -> Any:  # a module, whose parts mypy does not know
        return self._modules.get("detector") or self

    def forward(self, picture: Tensor) -> dict[str, Tensor]:
        """RGB [B, 3, 256, 256] in 0..1 -> kp, exp [B, 3 * points] as x, y, z in turn; pitch, yaw, roll [B, 66]; t [B, 3]; scale [B, scales]."""
        home = self._home
        x = picture.permute(0, 2, 3, 1)
        for (first, second), stage in zip(home.downsample_layers, home.stages, strict=True):
            for layer in (first, second):
                convolution = isinstance(layer, nn.Conv2d)
                x = layer(x.permute(0, 3, 1, 2)).permute(0, 2, 3, 1) if convolution else layer(x)
            x = stage(x)
        pooled = home.norm(x.mean((1, 2)))
        return {name: getattr(home, f"fc_{name}")(pooled) for name in self._sizes}
