"""What a face looks like, as a volume of features: from a picture (LivePortrait), or from tokens of a picture (PerformRecast)."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cmet_engine.models.derived import Derived
from cmet_engine.render.liveportrait.blocks import ConvNorm
from cmet_engine.render.liveportrait.convolution import Conv

CHANNELS, DEPTH = 32, 16
"""Of the volume."""


class Residual3d(nn.Module):
    """Two 3x3x3 convolutions, each after its batch norm and ReLU, added to the input."""

    def __init__(self, channels: int):
        super().__init__()
        self.conv1, self.conv2 = Conv(channels, channels, 3, 3), Conv(channels, channels, 3, 3)
        self.norm1, self.norm2 = nn.BatchNorm3d(channels), nn.BatchNorm3d(channels)

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, D, H, W] -> the same shape."""
        return x + self.conv2(F.relu(self.norm2(self.conv1(F.relu(self.norm1(x))))))


class Volume(nn.Sequential):
    """512 planes seen as 32 channels of 16 planes, and six residual blocks."""

    def __init__(self) -> None:
        super().__init__()
        for number in range(6):
            self.add_module(f"3dr{number}", Residual3d(CHANNELS))

    def forward(self, x: Tensor) -> Tensor:
        """[B, 512, 64, 64] -> [B, 32, 16, 64, 64]."""
        return super().forward(x.contiguous().unflatten(1, (CHANNELS, DEPTH)))


class AppearanceExtractor(nn.Module):
    """LivePortrait's appearance network."""

    def __init__(self) -> None:
        super().__init__()
        self.first = ConvNorm(3, 64)
        self.down_blocks = nn.ModuleList([ConvNorm(64, 128), ConvNorm(128, 256)])
        self.second = Conv(256, CHANNELS * DEPTH, 1)
        self.resblocks_3d = Volume()

    def forward(self, picture: Tensor) -> Tensor:
        """RGB [B, 3, 256, 256] in 0..1 -> volume [B, 32, 16, 64, 64]."""
        x = F.relu(self.first(picture))
        for block in self.down_blocks:
            x = F.avg_pool2d(F.relu(block(x)), 2)
        return self.resblocks_3d(self.second(x))


class _Attention(nn.Module):
    def __init__(self, width: int, heads: int):
        super().__init__()
        self.heads = heads
        self.qkv, self.proj = nn.Linear(width, 3 * width), nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        """[B, N, C] -> [B, N, C]."""
        query, key, value = self.qkv(x).unflatten(2, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        return self.proj(F.scaled_dot_product_attention(query, key, value).transpose(1, 2).flatten(2))


class _Perceptron(nn.Module):
    def __init__(self, width: int):
        super().__init__()
        self.fc1, self.fc2 = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(F.gelu(self.fc1(x)))


class _Block(nn.Module):
    def __init__(self, width: int, heads: int):
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(width, 1e-6), nn.LayerNorm(width, 1e-6)
        self.attn, self.mlp = _Attention(width, heads), _Perceptron(width)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attn(self.norm1(x))
        return x + self.mlp(self.norm2(x))


class VisionTransformer(Derived):
    """ViT-B/16 (Dosovitskiy et al. 2021) on pictures of another size than its table of positions was made for.

    Attributes:
        side: patches per side in that table.
    """

    patch_embed: Any
    _mean: Tensor
    _deviation: Tensor

    def __init__(self, width: int = 768, depth: int = 12, heads: int = 12, patch: int = 16, side: int = 14):
        super().__init__()
        self.side = side
        self.cls_token = nn.Parameter(torch.zeros(1, 1, width))
        self.pos_embed = nn.Parameter(torch.zeros(1, 1 + side**2, width))
        self.patch_embed = nn.Module()
        self.patch_embed.proj = nn.Conv2d(3, width, patch, patch)
        self.blocks = nn.Sequential(*(_Block(width, heads) for _ in range(depth)))
        self.norm = nn.LayerNorm(width, 1e-6)
        self.register_buffer("_mean", torch.tensor([0.485, 0.456, 0.406])[:, None, None], persistent=False)
        self.register_buffer("_deviation", torch.tensor([0.229, 0.224, 0.225])[:, None, None], persistent=False)

    def forward(self, picture: Tensor) -> Tensor:
        """RGB [B, 3, H, W] in 0..1 -> tokens [B, H/16, W/16, C] without that of the class."""
        patches = self.patch_embed.proj((picture - self._mean) / self._deviation)
        height, width = patches.shape[2:]
        places = self.derive(f"places {height} {width}", lambda: self._places(height, width), self.pos_embed)
        begin = self.cls_token.expand(len(picture), -1, -1)
        x = torch.cat([begin, patches.flatten(2).transpose(1, 2)], 1) + places
        return self.norm(self.blocks(x))[:, 1:].unflatten(1, (height, width))

    def _places(self, height: int, width: int) -> Tensor:
        """The table of positions for another number of patches: [1, 1 + height * width, C]."""
        own, grid = self.pos_embed[:, :1], self.pos_embed[:, 1:]
        table = grid.transpose(1, 2).unflatten(2, (self.side, self.side)).float()
        sized = F.interpolate(table, (height, width), mode="bicubic", antialias=True, align_corners=False)
        return torch.cat([own, sized.flatten(2).transpose(1, 2).to(own.dtype)], 1)


class TokenAppearanceExtractor(nn.Module):
    """PerformRecast's appearance network."""

    dinov2_img_encoder: Any

    def __init__(self) -> None:
        super().__init__()
        self.dinov2_img_encoder = nn.Module()
        self.dinov2_img_encoder.model = VisionTransformer()
        self.t_conv = nn.ConvTranspose2d(768, 768, 2, 2)
        self.conv = Conv(768, CHANNELS * DEPTH, 1)
        self.resblocks_3d = Volume()

    def forward(self, picture: Tensor) -> Tensor:
        """RGB [B, 3, 512, 512] in 0..1 -> volume [B, 32, 16, 64, 64]."""
        tokens = self.dinov2_img_encoder.model(picture)
        return self.resblocks_3d(self.conv(F.gelu(self.t_conv(tokens.permute(0, 3, 1, 2)))))
