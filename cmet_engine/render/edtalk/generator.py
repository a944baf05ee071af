"""The EDTalk generator: a face taken apart into lips, head pose and expression, and put together again.

Tan et al., "EDTalk: Efficient Disentanglement for Emotional Talking Head Synthesis" (ECCV 2024, arXiv 2404.01647),
built on LIA (Wang et al., ICLR 2022). A picture becomes a latent and feature maps; lip, pose and expression codes are
coordinates along orthogonal directions in the space of the latent; a decoder warps the source's features to where the
sum of source latent and directions says.

`Generator.codes` encodes pictures to codes, `Generator.source` encodes the picture whose appearance is kept, and
`Generator.render` decodes frames from codes. What depends on the source alone is computed once by `source`.
"""

import math
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cmet_engine.render.edtalk.layers import (
    GAIN,
    LEAK,
    ConvLayer,
    Derived,
    EqualConv,
    EqualLinear,
    ModulatedConv,
    ResBlock,
    StyledConv,
    Upsample,
    channels_last,
    pointwise,
    widened,
)

SIZE = 256  # pixels, the published networks' pictures are square
_NORM_EPS = 1e-5  # of the instance normalisation in the expression layers


@dataclass(frozen=True)
class Source:
    """The picture whose appearance is kept, encoded once.

    Attributes:
        latent: [1, style_dim].
        features: feature maps [1, C, h, w], from 8x8 to the full size.
        normalised: for each of them what the expression layer makes of it before it knows an expression.
    """

    latent: Tensor
    features: tuple[Tensor, ...]
    normalised: tuple[Tensor, ...]

    def to(self, dtype: torch.dtype) -> "Source":
        """The same with feature maps of another precision, which the decoder computes in. The latent stays as it is."""
        return Source(
            self.latent, tuple(x.to(dtype) for x in self.features), tuple(x.to(dtype) for x in self.normalised)
        )


class Encoder(nn.Module):
    """Picture -> latent and feature maps."""

    def __init__(self, size: int, style_dim: int, channels: dict[int, int]):
        super().__init__()
        layers: list[nn.Module] = [ConvLayer(3, channels[size], 1)]
        resolution = size
        while resolution > 4:
            layers.append(ResBlock(channels[resolution], channels[resolution // 2]))
            resolution //= 2
        layers.append(EqualConv(channels[4], style_dim, 4))
        self.convs = nn.ModuleList(layers)

    def forward(self, images: Tensor) -> tuple[Tensor, list[Tensor]]:
        """[B, 3, S, S] -> latent [B, style_dim] and feature maps [B, C, h, w] from 8x8 to S x S."""
        x, maps = images, []
        for layer in self.convs:
            x = layer(x)
            maps.append(x)
        return x.flatten(1), maps[-3::-1]  # without the latent itself and the 4x4 map


class _AdaptiveNorm(nn.Module):
    """Scale and offset of a normalised map as functions of the expression direction."""

    def __init__(self, channels: int, style_dim: int, hidden: int):
        super().__init__()
        self.mlp_shared = nn.Sequential(nn.Linear(style_dim, hidden), nn.ReLU())
        self.mlp_gamma = nn.Linear(hidden, channels)
        self.mlp_beta = nn.Linear(hidden, channels)

    def forward(self, expression: Tensor) -> tuple[Tensor, Tensor]:
        """[B, style_dim] -> scale and offset, each [B, C]."""
        hidden = self.mlp_shared(expression)
        return 1 + self.mlp_gamma(hidden), self.mlp_beta(hidden)


class ExpressionLayer(nn.Module):
    """Adds an expression to a feature map of the source: one convolution, normalised, scaled and offset by channel.

    The published layer computes its first convolution and norm too, but drops the result; what it returns depends on
    the second alone. Their weights are kept for the sake of the file. The convolution hence sees the source only, and
    an expression costs a scale and an offset.
    """

    def __init__(self, channels: int, style_dim: int, hidden: int):
        super().__init__()
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=1)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1)
        self.norm1 = _AdaptiveNorm(channels, style_dim, hidden)
        self.norm2 = _AdaptiveNorm(channels, style_dim, hidden)

    def prepare(self, feature: Tensor) -> Tensor:
        """The part that does not depend on the expression: the normalised convolution, [1, C, h, w]."""
        x = F.conv2d(feature, self.conv2.weight, padding=1)  # the normalisation would take its bias away again
        return channels_last(F.instance_norm(widened(x), eps=_NORM_EPS)).to(feature.dtype)

    def forward(self, expression: Tensor) -> tuple[Tensor, Tensor]:
        """Scale and offset [B, C] of `prepare`'s map, from the sum of the expression directions [B, style_dim]."""
        return self.norm2(expression)


class _ToRGB(nn.Module):
    upsample: Upsample

    def __init__(self, channels: int, *, up: bool = True):
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(1, 3, 1, 1))
        if up:
            self.upsample = Upsample()
        self.conv = ConvLayer(channels, 3, 1)

    def weight(self) -> Tensor:
        """[3, C], the gain of the activation included."""
        conv: Any = self.conv[0]
        weight = conv.weight[:, :, 0, 0]
        return weight * (GAIN / math.sqrt(weight.shape[1]))

    def finish(self, mixed: Tensor, picture: Tensor | None) -> Tensor:
        """Bias, activation and the picture of the level below: [B, 3, h, w]."""
        activation: Any = self.conv[1]
        out = F.leaky_relu(mixed + activation.bias * GAIN, LEAK) + self.bias
        return out if picture is None else out + self.upsample(picture)

    def forward(self, x: Tensor, picture: Tensor | None) -> Tensor:
        return self.finish(pointwise(x, self.weight().expand(len(x), -1, -1)), picture)


class _ToFlow(Derived):
    """Where each place of a level samples the source's features, and with which weight."""

    def __init__(self, channels: int, style_dim: int):
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(1, 3, 1, 1))
        self.upsample = Upsample()
        self.conv = ModulatedConv(channels, 3, 1, style_dim)

    def forward(self, x: Tensor, style: Tensor, flow: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
        """x [B, C, h, w] -> sampling grid [B, h, w, 2], mask [B, 1, h, w], flow [B, 3, h, w] for the next level."""
        out = self.conv.mix(x, style) + self.bias
        if flow is not None:
            out = out + self.upsample(flow)
        side = x.shape[-1]
        line = torch.linspace(-1, 1, side, device=x.device, dtype=torch.float64).to(out.dtype)
        grid = torch.stack(torch.meshgrid(line, line, indexing="xy"), dim=-1)  # [h, w, (x, y)]
        return torch.tanh(out[:, :2]).permute(0, 2, 3, 1) + grid, torch.sigmoid(out[:, 2:]), out


class Decoder(nn.Module):
    """Style and source features -> picture."""

    def __init__(self, size: int, style_dim: int, channels: dict[int, int], hidden: int):
        super().__init__()
        self.input: Any = nn.Module()
        self.input.input = nn.Parameter(torch.randn(1, channels[4], 4, 4))
        self.conv1 = StyledConv(channels[4], channels[4], 3, style_dim)
        self.to_rgb1 = _ToRGB(channels[4], up=False)  # in the published file, never used
        convs: list[nn.Module] = []
        to_rgbs: list[nn.Module] = []
        to_flows: list[nn.Module] = []
        expressions: list[nn.Module] = []
        resolution, below = 8, channels[4]
        while resolution <= size:
            width = channels[resolution]
            convs.append(StyledConv(below, width, 3, style_dim, up=True))
            convs.append(StyledConv(width, width, 3, style_dim))
            to_rgbs.append(_ToRGB(width))
            to_flows.append(_ToFlow(width, style_dim))
            expressions.append(ExpressionLayer(width, style_dim, hidden))
            resolution, below = 2 * resolution, width
        self.convs = nn.ModuleList(convs)
        self.to_rgbs = nn.ModuleList(to_rgbs)
        self.to_flows = nn.ModuleList(to_flows)
        self.fineadainresblock = nn.ModuleList(expressions)

    def forward(self, style: Tensor, source: Source, expression: Tensor) -> Tensor:
        """style and expression [B, style_dim] -> [B, 3, S, S]."""
        dtype = source.features[0].dtype
        batch, last, convs = len(style), len(self.to_rgbs) - 1, list(self.convs)
        x = channels_last(self.input.input.to(dtype).expand(batch, -1, -1, -1))
        x = self.conv1(x, style)
        picture = flow = None
        layers: Any = zip(self.to_rgbs, self.to_flows, self.fineadainresblock, strict=True)
        for level, (to_rgb, to_flow, layer) in enumerate(layers):
            x = convs[2 * level](x, style)
            x = convs[2 * level + 1](x, style)
            grid, mask, flow = to_flow(x, style, flow)
            feature = source.features[level]
            normalised = source.normalised[level]
            scale, offset = layer(expression)  # [B, C]
            if level == last:
                # Nothing but the picture leaves the last level. Mixing channels to RGB and sampling commute, so the
                # three mixed channels are sampled instead of all.
                weight = to_rgb.weight()  # [3, C]
                mixed = pointwise(normalised.expand(batch, -1, -1, -1), weight * scale[:, None])
                mixed = mixed + (pointwise(feature, weight[None]) + (offset @ weight.t())[:, :, None, None])
                warped = F.grid_sample(mixed, grid, align_corners=False)
                return to_rgb.finish(warped * mask, picture)
            edited = torch.addcmul(
                feature + offset[:, :, None, None].to(dtype), normalised, scale[:, :, None, None].to(dtype)
            )
            warped = sample(edited, grid) * mask.to(dtype)
            picture = to_rgb(warped, picture)
            x = torch.addcmul(warped, x, (1 - mask).to(dtype))
        raise AssertionError("a decoder has at least one level")


def sample(x: Tensor, grid: Tensor) -> Tensor:
    """`grid_sample` (bilinear, zeros outside) of channels-last maps [B, C, h, w] at grid [B, h, w, 2].

    On the CPU each place is a weighted sum of four rows of C numbers, which lie together in memory; the built-in
    sampler walks channel by channel.
    """
    if x.device.type != "cpu" or torch.is_grad_enabled() or x.dtype is not torch.float32:
        return channels_last(F.grid_sample(x, grid.to(x.dtype), align_corners=False))
    batch, channels, height, width = x.shape
    place = ((grid + 1) * torch.tensor([width, height]) - 1) / 2  # pixels, [B, h, w, (x, y)]
    corner = place.floor()
    fraction = place - corner
    columns = torch.stack((corner[..., 0], corner[..., 0] + 1), dim=-1)  # [B, h, w, 2]
    rows = torch.stack((corner[..., 1], corner[..., 1] + 1), dim=-1)
    weight_x = torch.stack((1 - fraction[..., 0], fraction[..., 0]), dim=-1) * ((columns >= 0) & (columns < width))
    weight_y = torch.stack((1 - fraction[..., 1], fraction[..., 1]), dim=-1) * ((rows >= 0) & (rows < height))
    first = (torch.arange(batch) * height * width).view(batch, 1, 1, 1)
    base = first + rows.clamp(0, height - 1).long() * width
    index = base[..., :, None] + columns.clamp(0, width - 1).long()[..., None, :]  # [B, h, w, 2 (y), 2 (x)]
    weight = weight_y[..., :, None] * weight_x[..., None, :]
    table = x.permute(0, 2, 3, 1).reshape(-1, channels)
    out = F.embedding_bag(index.view(-1, 4), table, per_sample_weights=weight.view(-1, 4), mode="sum")
    return out.view(batch, *grid.shape[1:3], channels).permute(0, 3, 1, 2)


class _Directions(nn.Module):
    def __init__(self, style_dim: int, count: int):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(style_dim, count))


class Generator(Derived):
    """EDTalk's encoder, code heads, orthogonal directions and decoder.

    Args:
        size: side of the square pictures, a power of two.
        style_dim: length of the latent.
        lip_dim, pose_dim, expression_dim: numbers of codes.
        max_channels, channel_budget: a map of side r has min(max_channels, channel_budget / r) channels.
        expression_hidden: hidden size in the expression layers.

    The defaults are the published sizes (64.2 M parameters).
    """

    def __init__(
        self,
        size: int = SIZE,
        style_dim: int = 512,
        lip_dim: int = 20,
        pose_dim: int = 6,
        expression_dim: int = 10,
        *,
        max_channels: int = 512,
        channel_budget: int = 16384,
        expression_hidden: int = 128,
    ):
        super().__init__()
        channels = {1 << i: min(max_channels, channel_budget >> i) for i in range(2, size.bit_length())}
        self.size, self.lip_dim, self.pose_dim, self.expression_dim = size, lip_dim, pose_dim, expression_dim
        self.enc: Any = nn.Module()
        self.enc.net_app = Encoder(size, style_dim, channels)
        self.dec = Decoder(size, style_dim, channels, expression_hidden)
        self.direction_lipnonlip = _Directions(style_dim, lip_dim + pose_dim)
        self.direction_exp = _Directions(style_dim, expression_dim)
        self.fc = nn.Sequential(*(EqualLinear(style_dim, style_dim) for _ in range(4)))
        self.lip_fc = _head(style_dim, lip_dim)
        self.pose_fc = _head(style_dim, pose_dim)
        self.exp_fc = _head(style_dim, expression_dim)

    def codes(self, images: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Read the codes of pictures.

        Args:
            images: [B, 3, S, S] RGB in [-1, 1]; half precision makes the encoder work in half precision.

        Returns:
            expression [B, 10], pose [B, 6], lip [B, 20].
        """
        latent, _ = self.enc.net_app(channels_last(images))
        shared = self.fc(widened(latent))
        return self.exp_fc(shared), self.pose_fc(shared), self.lip_fc(shared)

    def source(self, image: Tensor) -> Source:
        """Encode the picture whose appearance is kept: [1, 3, S, S] RGB in [-1, 1]."""
        latent, features = self.enc.net_app(image.contiguous())
        layers: Any = self.dec.fineadainresblock
        normalised = tuple(layer.prepare(feature) for layer, feature in zip(layers, features, strict=True))
        return Source(widened(latent), tuple(channels_last(feature) for feature in features), normalised)

    def basis(self) -> Tensor:
        """The orthogonal directions [style_dim, lip + pose + expression], by QR decomposition of the learned ones."""
        lip_pose, expression = self.direction_lipnonlip.weight, self.direction_exp.weight

        def decompose() -> Tensor:
            # on the CPU, so that the signs of the directions are the same on every device
            learned = torch.cat((lip_pose, expression), dim=1).cpu() + 1e-8
            return torch.linalg.qr(widened(learned)).Q.to(lip_pose.device)

        return self.derive("basis", decompose, lip_pose, expression)

    def render(self, source: Tensor | Source, lip: Tensor, pose: Tensor, expression: Tensor) -> Tensor:
        """Draw frames.

        Args:
            source: picture [1, 3, S, S] RGB in [-1, 1], or what `source` made of it (encode once, render often);
                `Source.to` half precision makes the decoder work in half precision.
            lip: [B, 20].
            pose: [B, 6].
            expression: [B, 10].

        Returns:
            [B, 3, S, S] RGB, about [-1, 1], not clamped.
        """
        if not isinstance(source, Source):
            source = self.source(source)
        basis = self.basis()
        style = source.latent + torch.cat((lip, pose, expression), dim=1) @ basis.t()  # [B, style_dim]
        return self.dec(style, source, expression @ basis[:, -self.expression_dim :].t())


def _head(style_dim: int, codes: int) -> nn.Sequential:
    return nn.Sequential(
        EqualLinear(style_dim, style_dim), EqualLinear(style_dim, style_dim), EqualLinear(style_dim, codes)
    )
