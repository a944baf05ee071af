"""The networks of LivePortrait (Guo et al. 2024) and PerformRecast with their published names, and S, R_lip, R_eye."""

import itertools
from typing import Literal

from torch import Tensor, nn

from cmet_engine.render.liveportrait.appearance import AppearanceExtractor, TokenAppearanceExtractor
from cmet_engine.render.liveportrait.decoder import Decoder
from cmet_engine.render.liveportrait.motion import MotionExtractor
from cmet_engine.render.liveportrait.warping import WarpingNetwork

__all__ = [
    "AppearanceExtractor", "Decoder", "MotionExtractor", "Stitching", "TokenAppearanceExtractor", "WarpingNetwork",
]  # fmt: skip

_SIZES = {"stitching": (126, 128, 128, 64, 65), "lip": (65, 128, 128, 64, 63), "eye": (66, 256, 256, 128, 128, 64, 63)}


class Stitching(nn.Module):
    """A small network that moves keypoints: so that the shoulders stay (stitching), lips close (lip) or eyes open (eye).

    Args:
        kind: which of the three.
    """

    def __init__(self, kind: Literal["stitching", "lip", "eye"] = "stitching"):
        super().__init__()
        sizes = _SIZES[kind]
        layers: list[nn.Module] = []
        for inputs, outputs in itertools.pairwise(sizes):
            layers += [nn.Linear(inputs, outputs), nn.ReLU()]
        self.mlp = nn.Sequential(*layers[:-1])

    def forward(self, x: Tensor) -> Tensor:
        """[B, 126 | 65 | 66] -> [B, 65 | 63 | 63]."""
        return self.mlp(x)
