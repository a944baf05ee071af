"""From deformed features to a picture: SPADE (Park et al. 2019), every normalisation steered by the features.

The features are enlarged by repeating their cells, so a 3x3 convolution of the enlarged map takes few different values per cell:
they are computed at the size of the features and laid out. Gain and offset of a normalisation are one convolution, and are applied
strip by strip as it goes. What a block enlarges it normalises beforehand, and the 1x1 convolution of a shortcut goes into its offset.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cmet_engine.models.derived import Derived
from cmet_engine.models.spectral import divided
from cmet_engine.render.liveportrait.convolution import Conv, convolved, laid_out, phase_kernels, phases

HIDDEN = 128
LEAK = 0.2


class SpectralConv(Derived):
    """A convolution whose kernel is divided by its largest singular value, as the stored vectors give it."""

    weight_u: Tensor
    weight_v: Tensor

    def __init__(self, inputs: int, outputs: int, kernel: int, *, bias: bool = True):
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(outputs)) if bias else None
        self.weight_orig = nn.Parameter(torch.zeros(outputs, inputs, kernel, kernel))
        self.register_buffer("weight_u", torch.zeros(outputs))
        self.register_buffer("weight_v", torch.zeros(inputs * kernel**2))

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, H, W] -> [B, O, H, W]."""
        return convolved(self, x, self.kernel(), self.bias)

    def kernel(self) -> Tensor:
        """[O, C, k, k], divided."""
        parts = (self.weight_orig, self.weight_u, self.weight_v)
        return self.derive("weight", lambda: divided(*parts), *parts)


class Norm(Derived):
    """Gain and offset of an instance norm, which follow from the features."""

    def __init__(self, channels: int, features: int, hidden: int):
        super().__init__()
        self.mlp_shared = nn.Sequential(Conv(features, hidden, 3))
        self.mlp_gamma, self.mlp_beta = Conv(hidden, channels, 3), Conv(hidden, channels, 3)

    def forward(self, x: Tensor, features: Tensor, enlarge: int) -> Tensor:
        """x normalised [B, C, H, W], features [B, F, h, w], H a multiple of h -> [B, C, e·H, e·W], after a leaky ReLU."""
        gamma: Any = self.mlp_gamma
        beta: Any = self.mlp_beta
        both = self.derive("both", lambda: torch.cat([gamma.weight, beta.weight]), gamma.weight, beta.weight)
        offset = self.derive("offset", lambda: torch.cat([gamma.bias + 1, beta.bias]), gamma.bias, beta.bias)

        def steered(part: Tensor, pictures: slice, rows: slice) -> Tensor:
            gain, shift = part.chunk(2, 1)
            return F.leaky_relu(modulated(x[pictures], gain, shift, rows, enlarge), LEAK)

        return convolved(self, self._hidden(features, enlarge * x.shape[-1]), both, offset, "both", steered)

    def linear(self, x: Tensor, features: Tensor, enlarge: int, weight: Tensor) -> Tensor:
        """The same without the ReLU, then `weight` [O, C, 1, 1]: [B, O, e·H, e·W]. The offset passes it beforehand."""
        gamma: Any = self.mlp_gamma
        beta: Any = self.mlp_beta
        parts = (gamma.weight, gamma.bias, beta.weight, beta.bias, weight)

        def through(value: Tensor) -> Tensor:
            return torch.tensordot(weight[:, :, 0, 0].double(), value.double(), 1).to(value.dtype)

        both = self.derive("both", lambda: torch.cat([gamma.weight, through(beta.weight)]), *parts)
        offset = self.derive("offset", lambda: torch.cat([gamma.bias + 1, through(beta.bias)]), *parts)

        def steered(part: Tensor, pictures: slice, rows: slice) -> Tensor:
            gain, shift = part.split([x.shape[1], len(weight)], 1)
            cells = modulated(x[pictures], gain, None, rows, enlarge).permute(0, 2, 3, 1)
            return (cells @ weight[:, :, 0, 0].T).permute(0, 3, 1, 2) + shift

        return convolved(self, self._hidden(features, enlarge * x.shape[-1]), both, offset, "both", steered)

    def _hidden(self, features: Tensor, width: int) -> Tensor:
        """[B, F, h, w] -> [B, 128, W/w·h, W], what gain and offset are made of."""
        factor = width // features.shape[-1]
        shared: Any = self.mlp_shared[0]
        weight = self.derive(f"phases {factor}", lambda: phase_kernels(shared.weight, factor), shared.weight)
        bias = self.derive(f"bias {factor}", lambda: shared.bias.repeat(len(phases(factor)) ** 2), shared.bias)
        return laid_out(F.relu(convolved(self, features, weight, bias, f"shared {factor}")), factor)


def normalised(x: Tensor) -> Tensor:
    """Instance norm without gain: [B, C, H, W] -> the same shape."""
    centred = x.float() - x.float().mean((2, 3), keepdim=True)
    return (centred * torch.rsqrt(centred.square().mean((2, 3), keepdim=True) + 1e-5)).to(x.dtype)


def modulated(x: Tensor, gain: Tensor, shift: Tensor | None, rows: slice, enlarge: int) -> Tensor:
    """The rows of `x` [B, C, H, W], enlarged by repeating its cells, times `gain` [B, C, h, e·W] plus `shift` (None: 0)."""

    def cells(value: Tensor) -> Tensor:
        return value.unflatten(3, (-1, enlarge)).unflatten(2, (-1, enlarge))

    part = x[:, :, rows.start // enlarge : rows.stop // enlarge, None, :, None]
    done = part * cells(gain) if shift is None else torch.addcmul(cells(shift), part, cells(gain))
    return done.flatten(4).flatten(2, 3)


class Block(nn.Module):
    """A residual block with SPADE norms."""

    def __init__(self, inputs: int, outputs: int, features: int, hidden: int):
        super().__init__()
        middle = min(inputs, outputs)
        self.conv_0, self.conv_1 = SpectralConv(inputs, middle, 3), SpectralConv(middle, outputs, 3)
        self.norm_0, self.norm_1 = Norm(inputs, features, hidden), Norm(middle, features, hidden)
        if inputs != outputs:
            self.conv_s, self.norm_s = SpectralConv(inputs, outputs, 1, bias=False), Norm(inputs, features, hidden)

    def forward(self, x: Tensor, features: Tensor, enlarge: int = 1) -> Tensor:
        """x [B, C, H, W], enlarged by repeating its cells, features [B, F, h, w] -> [B, O, e·H, e·W]."""
        plain = normalised(x)
        y = self.conv_0(self.norm_0(plain, features, enlarge))
        y = self.conv_1(self.norm_1(normalised(y), features, 1))
        if hasattr(self, "conv_s"):
            return y + self.norm_s.linear(plain, features, enlarge, self.conv_s.kernel())
        return y + (x if enlarge == 1 else F.interpolate(x, scale_factor=enlarge, mode="nearest"))


class Decoder(nn.Module):
    """LivePortrait's decoder.

    Args:
        plain: the kernels are divided by their largest singular value already, as converted weights are.
        width, hidden: channels of the blocks, and within their norms.
    """

    def __init__(self, *, plain: bool = False, width: int = 512, hidden: int = HIDDEN):
        super().__init__()
        self.fc = Conv(256, width, 3)
        for number in range(6):
            self.add_module(f"G_middle_{number}", Block(width, width, 256, hidden))
        self.up_0, self.up_1 = Block(width, width // 2, 256, hidden), Block(width // 2, 64, 256, hidden)
        self.conv_img = nn.Sequential(Conv(64, 12, 3))
        if plain:
            for block in (*self._middle, self.up_0, self.up_1):
                for name in ("conv_0", "conv_1", "conv_s"):
                    if hasattr(block, name):
                        outputs, inputs, kernel = getattr(block, name).weight_orig.shape[:3]
                        setattr(block, name, Conv(inputs, outputs, kernel, bias=name != "conv_s"))

    @property
    def _middle(self) -> list[nn.Module]:
        return [self.get_submodule(f"G_middle_{number}") for number in range(6)]

    def forward(self, feature: Tensor) -> Tensor:
        """[B, 256, 64, 64] -> RGB [B, 3, 512, 512] in 0..1."""
        x = self.fc(feature)
        for block in self._middle:
            x = block(x, feature)
        for block in (self.up_0, self.up_1):
            x = block(x, feature, 2)
        return torch.sigmoid(F.pixel_shuffle(self.conv_img(F.leaky_relu(x, LEAK)).float(), 2))
