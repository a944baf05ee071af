"""What the networks have in common: a convolution with its batch norm, folded into one."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cmet_engine.models.derived import Derived
from cmet_engine.render.liveportrait.convolution import Conv, convolved, laid_out, phase_kernels, phases

LARGE = 16
"""Side of a map from which kernels of all phases, which are four times as many, cost a CPU less than enlarging it."""


class ConvNorm(Derived):
    """A 3x3 or 3x3x3 convolution and batch norm with its stored statistics."""

    def __init__(self, inputs: int, outputs: int, dimensions: int = 2):
        super().__init__()
        self.conv = Conv(inputs, outputs, 3, dimensions)
        self.norm = (nn.BatchNorm2d if dimensions == 2 else nn.BatchNorm3d)(outputs)

    def forward(self, x: Tensor, enlarge: int = 1) -> Tensor:
        """[B, C, (D,) H, W], height and width enlarged by repeating cells -> [B, O, (D,) e·H, e·W]."""
        if enlarge > 1 and (x.device.type != "cpu" or x.shape[-1] < LARGE):
            x, enlarge = F.interpolate(x, scale_factor=(1, enlarge, enlarge)[5 - x.ndim :]), 1
        return folded(self, self.conv, self.norm, x, enlarge)


def folded(owner: Derived, conv: Any, norm: Any, x: Tensor, enlarge: int = 1) -> Tensor:
    """norm(conv(x)) as one convolution; its weights are kept by `owner`. `conv` is a `Conv`, `norm` a batch norm."""
    mean, variance, gain, bias = norm.running_mean, norm.running_var, norm.weight, norm.bias
    scale = owner.derive("scale", lambda: gain.double() / torch.sqrt(variance.double() + norm.eps), gain, variance)
    weight = owner.derive(
        "weight",
        lambda: (conv.weight.double() * scale.view(-1, *[1] * (conv.weight.ndim - 1))).to(x.dtype),
        conv.weight,
        scale,
    )
    offset = owner.derive(
        "offset", lambda: ((conv.bias.double() - mean) * scale + bias).to(x.dtype), conv.bias, mean, bias, scale
    )
    if enlarge > 1:
        kernels = owner.derive("phases", lambda: phase_kernels(weight, enlarge), weight)
        return laid_out(convolved(owner, x, kernels, offset.repeat(len(phases(enlarge)) ** 2)), enlarge)
    return convolved(owner, x, weight, offset)
