"""Building blocks of the EDTalk networks, arranged for speed without a change of numbers.

The blocks are those of StyleGAN2 (Karras et al. 2020) as LIA (Wang et al. 2022) uses them. Four things differ from the
published way of computing them:

- a modulated convolution scales its input by the style and its output by the demodulation, so that all frames of a
  batch share one set of weights (Karras et al. 2020, section 2.2, read from right to left);
- the gain of an equalised layer and of its activation are folded into the weights once, not at every call;
- a blur is one depthwise convolution, and where only every second pixel is needed only that one is computed;
- tensors are channels-last, which is what the CPU's and the GPU's convolutions want.

Where it costs little the published order of operations is kept, so that rounding falls as it does there: for the source
picture, which is encoded once (given in the plain layout, a layer computes in that layout and order), and on the CPU
for the modulated convolutions of small maps (`ModulatedConv.alone`). These decide where the large maps are sampled,
and a warp turns a rounding in a place into an error of a whole pixel.

Gradients flow as usual: nothing is kept from one call to the next while gradients are on.
"""

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cmet_engine.models.derived import Derived

LEAK = 0.2  # slope of StyleGAN2's leaky ReLU
GAIN = math.sqrt(2.0)  # restores the variance that the leaky ReLU takes
SMALL = 32  # sides of maps up to this are computed in the published order on the CPU


def channels_last(x: Tensor) -> Tensor:
    """The same values, channels last in memory."""
    return x.contiguous(memory_format=torch.channels_last)


def widened(x: Tensor) -> Tensor:
    """Half precision as float32, anything else as it is: for what must not be rounded early."""
    return x.float() if x.dtype in (torch.float16, torch.bfloat16) else x


def blur_kernel() -> Tensor:
    """The 4x4 binomial kernel of all blurs, sum 1."""
    line = torch.tensor([1.0, 3.0, 3.0, 1.0]) / 8
    return line[:, None] * line


class Blur(Derived):
    """Blurs every channel; `gain` makes up for inserted zeros. Holds the published `kernel` buffer."""

    kernel: Tensor

    def __init__(self, padding: int, gain: float = 1.0):
        super().__init__()
        self.padding = padding
        self.register_buffer("kernel", blur_kernel() * gain)

    def forward(self, x: Tensor, stride: int = 1) -> Tensor:
        """[B, C, H, W] -> blurred, every `stride`-th pixel."""
        batch, channels = x.shape[:2]
        if x.is_contiguous():  # channel by channel, every pixel: the published order
            flat = F.conv2d(
                F.pad(x, (self.padding,) * 4).flatten(0, 1)[:, None], self.kernel.flip(0, 1).to(x.dtype)[None, None]
            )
            return flat.view(batch, channels, *flat.shape[2:])[:, :, ::stride, ::stride]
        weight = self.derive(
            f"{channels} {x.dtype}",
            lambda: channels_last(self.kernel.flip(0, 1).to(x.dtype).expand(channels, 1, 4, 4).clone()),
            self.kernel,
        )
        return F.conv2d(channels_last(x), weight, stride=stride, padding=self.padding, groups=channels)


class Upsample(Derived):
    """Doubles height and width of a few channels (pictures and flows)."""

    kernel: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("kernel", blur_kernel() * 4)

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, H, W] -> [B, C, 2H, 2W]."""
        channels = x.shape[1]
        weight = self.derive(
            f"{channels} {x.dtype}",
            lambda: self.kernel.to(x.dtype).expand(channels, 1, 4, 4).clone(),
            self.kernel,
        )
        return F.conv_transpose2d(x, weight, stride=2, padding=1, groups=channels)


class EqualLinear(Derived):
    """Linear layer whose weights are scaled by 1/√inputs when used."""

    def __init__(self, inputs: int, outputs: int, bias: float = 0.0):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(outputs, inputs))
        self.bias = nn.Parameter(torch.full((outputs,), bias))

    def forward(self, x: Tensor) -> Tensor:
        """[..., inputs] -> [..., outputs]."""
        weight = self.derive("weight", lambda: self.weight * (1 / math.sqrt(self.weight.shape[1])), self.weight)
        return F.linear(x, weight, self.bias)


class EqualConv(Derived):
    """The weights of a convolution, scaled by 1/√(inputs · kernel²) when used."""

    def __init__(self, channels_in: int, channels_out: int, kernel: int):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(channels_out, channels_in, kernel, kernel))

    def scaled(self, gain: float, x: Tensor) -> Tensor:
        """Weights for `conv2d` on x, times `gain`, in its precision and layout."""
        scale = gain / math.sqrt(self.weight[0].numel())
        if x.is_contiguous():  # the plain layout is for what happens once: nothing to keep
            return (self.weight * scale).to(x.dtype)
        return self.derive(f"{gain} {x.dtype}", lambda: channels_last(self.weight * scale).to(x.dtype), self.weight)

    def forward(self, x: Tensor) -> Tensor:
        """[B, in, H, W] -> [B, out, H - k + 1, W - k + 1]."""
        return F.conv2d(x, self.scaled(1.0, x))


class Activation(nn.Module):
    """The bias of a leaky ReLU; the convolution before it applies both."""

    def __init__(self, channels: int):
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(1, channels, 1, 1))


class ConvLayer(nn.Sequential):
    """Convolution and leaky ReLU, after a blur and with a stride of two if it goes down.

    The layer's parts keep their published numbers: [blur,] convolution[, activation].
    """

    def __init__(self, channels_in: int, channels_out: int, kernel: int, *, down: bool = False, activate: bool = True):
        parts: list[nn.Module] = [Blur((kernel + 1) // 2)] if down else []
        parts.append(EqualConv(channels_in, channels_out, kernel))
        if activate:
            parts.append(Activation(channels_out))
        super().__init__(*parts)
        self.down, self.activate, self.kernel = down, activate, kernel

    def forward(self, x: Tensor) -> Tensor:
        """[B, in, H, W] -> [B, out, H, W], or half the height and width."""
        conv: Any = self[int(self.down)]
        stride, padding = (2, 0) if self.down else (1, self.kernel // 2)
        if self.down:
            # a 1x1 convolution with a stride reads every second pixel: blur only those
            if self.kernel == 1 and not x.is_contiguous():
                x, stride = self[0](x, stride=2), 1
            else:
                x = self[0](x)
        if not self.activate:
            return F.conv2d(x, conv.scaled(1.0, x), stride=stride, padding=padding)
        activation: Any = self[-1]
        if x.is_contiguous():
            x = F.conv2d(x, conv.scaled(1.0, x), stride=stride, padding=padding)
            return F.leaky_relu(x + activation.bias.to(x.dtype), LEAK) * GAIN
        # leaky(x) · √2 = leaky(√2 · x), so the gain goes into weights and bias
        bias = activation.bias.flatten() * GAIN
        x = F.conv2d(x, conv.scaled(GAIN, x), bias.to(x.dtype), stride=stride, padding=padding)
        return F.leaky_relu(x, LEAK, inplace=not torch.is_grad_enabled())


class ResBlock(nn.Module):
    """Halves height and width: two convolutions beside a 1x1 one."""

    def __init__(self, channels_in: int, channels_out: int):
        super().__init__()
        self.conv1 = ConvLayer(channels_in, channels_in, 3)
        self.conv2 = ConvLayer(channels_in, channels_out, 3, down=True)
        self.skip = ConvLayer(channels_in, channels_out, 1, down=True, activate=False)

    def forward(self, x: Tensor) -> Tensor:
        """[B, in, H, W] -> [B, out, H/2, W/2]."""
        return (self.conv2(self.conv1(x)) + self.skip(x)) / GAIN


class ModulatedConv(Derived):
    """Convolution whose input channels are scaled by a style, one set of weights for all frames of a batch.

    Args:
        channels_in, channels_out, kernel: of the convolution.
        style_dim: length of the style.
        up: double height and width (transposed convolution, then blur).
    """

    def __init__(self, channels_in: int, channels_out: int, kernel: int, style_dim: int, *, up: bool = False):
        super().__init__()
        self.up = up
        self.kernel = kernel
        self.weight = nn.Parameter(torch.randn(1, channels_out, channels_in, kernel, kernel))
        self.modulation = EqualLinear(style_dim, channels_in, bias=1.0)
        if up:
            self.blur = Blur(1, gain=4.0)

    def scaled(self) -> Tensor:
        """Weights [out, in, k, k] before modulation, float32."""
        return self.weight[0] * (1 / math.sqrt(self.weight[0, 0].numel()))

    def forward(self, x: Tensor, style: Tensor) -> Tensor:
        """x [B or 1, in, H, W], style [B, style_dim] -> demodulated [B, out, H', W'], times the activation's gain."""
        dtype = x.dtype
        scale = self.modulation(widened(style))  # [B, in]
        if dtype is torch.float16:  # demodulation undoes any common factor, so take one that cannot overflow
            scale = scale / scale.abs().amax(dim=1, keepdim=True).clamp_min(1e-8)
        energy = self.derive("energy", lambda: self.scaled().square().sum((2, 3)).t().contiguous(), self.weight)
        demodulation = GAIN * torch.rsqrt(scale.square() @ energy + 1e-8)  # [B, out]
        x = x * scale[:, :, None, None].to(dtype)
        if self.up:
            weight = self.derive(
                f"up {dtype}", lambda: channels_last(self.scaled().transpose(0, 1)).to(dtype), self.weight
            )
            x = self.blur(F.conv_transpose2d(x, weight, stride=2))
        else:
            weight = self.derive(f"flat {dtype}", lambda: channels_last(self.scaled()).to(dtype), self.weight)
            x = F.conv2d(x, weight, padding=self.kernel // 2)
        return x * demodulation[:, :, None, None].to(dtype)

    def alone(self, x: Tensor, style: Tensor) -> Tensor:
        """The same without the gain, in the published order: weights of each frame's own, one frame after the other."""
        scaled = self.derive("scaled", self.scaled, self.weight)
        scale = self.modulation(style)
        frames = []
        for frame, row in zip(x.split(1), scale, strict=True):
            weight = scaled * row[None, :, None, None]
            weight = weight * torch.rsqrt(weight.square().sum((1, 2, 3)) + 1e-8)[:, None, None, None]
            frame = frame.contiguous()
            if self.up:
                frames.append(self.blur(F.conv_transpose2d(frame, weight.transpose(0, 1).contiguous(), stride=2)))
            else:
                frames.append(F.conv2d(frame, weight, padding=self.kernel // 2))
        return torch.cat(frames)

    def mix(self, x: Tensor, style: Tensor) -> Tensor:
        """A 1x1 convolution to a few channels without demodulation: [B, in, H, W] -> [B, out, H, W], at least float32."""
        if _small(x):
            weights = self.derive("scaled", self.scaled, self.weight) * self.modulation(style)[:, None, :, None, None]
            return torch.cat([F.conv2d(*pair) for pair in zip(x.contiguous().split(1), weights, strict=True)])
        weight = self.derive("mix", lambda: self.scaled()[:, :, 0, 0], self.weight)  # [out, in]
        return pointwise(x, weight * self.modulation(widened(style))[:, None])


def _small(x: Tensor) -> bool:
    """Whether a map is computed in the published order."""
    return x.shape[-1] <= SMALL and x.device.type == "cpu" and x.dtype in (torch.float32, torch.float64)


def pointwise(x: Tensor, weight: Tensor) -> Tensor:
    """1x1 convolution with weights of each frame's own: x [B, in, H, W], weight [B, out, in] -> [B, out, H, W], at least float32."""
    batch, _, height, width = x.shape
    rows = x.permute(0, 2, 3, 1).reshape(batch, height * width, -1)  # a view where memory is channels-last
    mixed = torch.bmm(rows, weight.to(x.dtype).transpose(1, 2))
    return widened(mixed).transpose(1, 2).reshape(batch, -1, height, width)


class StyledConv(nn.Module):
    """Modulated convolution, bias, leaky ReLU. The published noise input is always absent; its weight is kept."""

    def __init__(self, channels_in: int, channels_out: int, kernel: int, style_dim: int, *, up: bool = False):
        super().__init__()
        self.conv = ModulatedConv(channels_in, channels_out, kernel, style_dim, up=up)
        self.noise = nn.Module()
        self.noise.weight = nn.Parameter(torch.zeros(1))
        self.activate = Activation(channels_out)

    def forward(self, x: Tensor, style: Tensor) -> Tensor:
        """x [B or 1, in, H, W], style [B, style_dim] -> [B, out, H', W']."""
        if _small(x) and x.shape[-1] * (1 + self.conv.up) <= SMALL:
            return F.leaky_relu(self.conv.alone(x, style) + self.activate.bias, LEAK) * GAIN
        x = self.conv(channels_last(x), style) + (self.activate.bias * GAIN).to(x.dtype)
        return F.leaky_relu(x, LEAK, inplace=not torch.is_grad_enabled())
