"""From two sets of keypoints to a deformed volume of features: the dense motion network, and what is made of its result.

The candidates of motion are shifts of the whole grid, so the deformation is the grid plus a weighted mean of the shifts, heat maps
are products of three lines, and one call samples all candidates. Where the hourglass enlarges a large map before a convolution, a CPU
computes the four phases of the result at the size of the map.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cmet_engine.models.derived import Derived
from cmet_engine.render.liveportrait.appearance import CHANNELS, DEPTH
from cmet_engine.render.liveportrait.blocks import ConvNorm, folded
from cmet_engine.render.liveportrait.convolution import Conv, to_one_plane

SPREAD = 0.01
"""Variance of a heat map."""
COMPRESSED = 4
WIDTHS = (64, 128, 256, 512, 1024)


class _Encoder(nn.Module):
    def __init__(self, inputs: int, widths: tuple[int, ...]):
        super().__init__()
        self.down_blocks = nn.ModuleList(ConvNorm(a, b, 3) for a, b in zip((inputs, *widths), widths, strict=False))

    def forward(self, x: Tensor) -> list[Tensor]:
        maps = [x]
        for block in self.down_blocks:
            maps.append(F.avg_pool3d(F.relu(block(maps[-1])), (1, 2, 2)))
        return maps


class _Decoder(Derived):
    def __init__(self, inputs: int, widths: tuple[int, ...]):
        super().__init__()
        outputs = (*widths[-2::-1], 32)
        self.up_blocks = nn.ModuleList(
            ConvNorm(widths[-1] if n == 0 else 2 * outputs[n - 1], out, 3) for n, out in enumerate(outputs)
        )
        self.conv, self.norm = Conv(32 + inputs, 32 + inputs, 3, 3), nn.BatchNorm3d(32 + inputs)

    def forward(self, maps: list[Tensor]) -> Tensor:
        x = maps[-1]
        for block, skip in zip(self.up_blocks, maps[-2::-1], strict=True):
            x = torch.cat([F.relu(block(x, 2)), skip], 1)
        return F.relu(folded(self, self.conv, self.norm, x))


class _Hourglass(nn.Module):
    def __init__(self, inputs: int, widths: tuple[int, ...]):
        super().__init__()
        self.encoder, self.decoder = _Encoder(inputs, widths), _Decoder(inputs, widths)

    def forward(self, x: Tensor) -> Tensor:
        return self.decoder(self.encoder(x))


class DenseMotion(Derived):
    """Where each cell of the volume comes from.

    Args:
        points: number of keypoints.
        widths: channels of the hourglass, from its outside in.
    """

    def __init__(self, points: int, widths: tuple[int, ...] = WIDTHS):
        super().__init__()
        channels = (points + 1) * (COMPRESSED + 1)
        self.hourglass = _Hourglass(channels, widths)
        self.mask = Conv(channels + 32, points + 1, 7, 3)
        self.compress, self.norm = Conv(CHANNELS, COMPRESSED, 1, 3), nn.BatchNorm3d(COMPRESSED)
        self.occlusion = Conv((channels + 32) * DEPTH, 1, 7)

    def forward(self, volume: Tensor, source: Tensor, driving: Tensor) -> tuple[Tensor, Tensor]:
        """Volume [B, 32, D, H, W], points [B, K, 3] twice -> deformation [B, D, H, W, 3], occlusion map [B, 1, H, W]."""
        axes = [torch.linspace(-1, 1, n, device=volume.device) for n in volume.shape[:1:-1]]  # x, y, z
        shifts = F.pad(source.float() - driving.float(), (0, 0, 1, 0))  # [B, 1 + K, 3]; the first is rest
        grid = torch.stack(torch.meshgrid(*axes[::-1], indexing="ij")[::-1], -1)
        candidates = grid + shifts[:, :, None, None, None]  # [B, 1 + K, D, H, W, 3]
        small = F.relu(folded(self, self.compress, self.norm, volume))
        sampled = sample(small, candidates.flatten(1, 2)).unflatten(2, candidates.shape[1:3])  # [B, 4, 1 + K, D, H, W]
        heat = F.pad(heat_maps(driving, axes) - heat_maps(source, axes), (0,) * 6 + (1, 0))
        features = torch.cat([heat[:, :, None].to(small.dtype), sampled.transpose(1, 2)], 2).flatten(1, 2)
        found = self.hourglass(features)
        mask = F.softmax(self.mask(found).float(), 1)  # [B, 1 + K, D, H, W]
        deformation = grid + torch.einsum("bkdhw,bkc->bdhwc", mask, shifts)
        occlusion = to_one_plane(self, found, self.occlusion)
        return deformation, torch.sigmoid(occlusion)


def heat_maps(points: Tensor, axes: list[Tensor]) -> Tensor:
    """Gaussians around points [B, K, 3] on the grid of `axes` x, y, z: [B, K, D, H, W]."""
    x, y, z = (torch.exp(-((axis - points[..., n, None].float()) ** 2) / (2 * SPREAD)) for n, axis in enumerate(axes))
    return z[..., :, None, None] * (y[..., :, None] * x[..., None, :])[:, :, None]


def sample(volume: Tensor, places: Tensor) -> Tensor:
    """A volume [B, C, D, H, W] at places [B, D', H', W', 3] in -1..1: trilinear, zeros outside, as published not corner to corner."""
    # half precision is too coarse for places
    sampled = F.grid_sample(volume.float().contiguous(), places.float(), padding_mode="zeros", align_corners=False)
    return sampled.to(volume.dtype)


class WarpingNetwork(nn.Module):
    """Deforms a volume so that its points come to lie where the driving ones do.

    Args:
        points: number of keypoints.
        widths: see `DenseMotion`.
    """

    def __init__(self, points: int = 21, widths: tuple[int, ...] = WIDTHS):
        super().__init__()
        self.dense_motion_network = DenseMotion(points, widths)
        self.third = ConvNorm(CHANNELS * DEPTH, 256)
        self.fourth = Conv(256, 256, 1)

    def forward(self, volume: Tensor, kp_source: Tensor, kp_driving: Tensor) -> dict[str, Tensor]:
        """Volume [B, 32, 16, 64, 64], points [B, K, 3] -> out [B, 256, 64, 64], deformation [B, 16, 64, 64, 3], occlusion_map [B, 1, 64, 64]."""
        deformation, occlusion = self.dense_motion_network(volume, kp_source, kp_driving)
        planes = sample(volume, deformation).flatten(1, 2)
        out = self.fourth(F.leaky_relu(self.third(planes), 0.01)) * occlusion
        return {"out": out, "deformation": deformation, "occlusion_map": occlusion}
