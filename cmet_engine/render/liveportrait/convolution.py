"""Convolutions arranged for speed with the same numbers.

Tensors are channels-last. On a CPU, wide 3x3 convolutions are computed by Winograd's minimal filtering F(4x4, 3x3) (Lavin and Gray
2016): 36 products in place of 144 for 16 outputs. The one large kernel, 7x7x7, is a product of spectra, tile by tile. What both need
of the weights is derived once. A GPU's own library does as much by itself.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cmet_engine.models.derived import Derived

WIDE = 100
"""Inputs times outputs over their sum from which Winograd's form is faster; measured on one core with AVX2."""
STRIP = 16_000_000
"""Numbers of one strip of transformed tiles: they stay in the cache."""

# F(4x4, 3x3) with the points 0, ±1, ±2 and infinity: input, kernel and output transform.
_INPUT = (
    (4, 0, -5, 0, 1, 0), (0, -4, -4, 1, 1, 0), (0, 4, -4, -1, 1, 0),
    (0, -2, -1, 2, 1, 0), (0, 2, -1, -2, 1, 0), (0, 4, 0, -5, 0, 1),
)  # fmt: skip
_KERNEL = (
    (1 / 4, 0, 0), (-1 / 6, -1 / 6, -1 / 6), (-1 / 6, 1 / 6, -1 / 6),
    (1 / 24, 1 / 12, 1 / 6), (1 / 24, -1 / 12, 1 / 6), (0, 0, 1),
)  # fmt: skip
_OUTPUT = ((1, 1, 1, 1, 1, 0), (0, 1, -1, 2, -2, 0), (0, 1, 1, 4, 4, 0), (0, 1, -1, 8, -8, 1))


class Conv(Derived):
    """A convolution of stride 1 whose output is as large as its input, in two or three dimensions.

    Args:
        inputs, outputs: channels.
        kernel: side, odd.
        dimensions: 2 or 3.
        bias: whether there is one.
    """

    def __init__(self, inputs: int, outputs: int, kernel: int, dimensions: int = 2, *, bias: bool = True):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(outputs, inputs, *[kernel] * dimensions))
        self.bias = nn.Parameter(torch.zeros(outputs)) if bias else None

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, (D,) H, W] -> [B, O, (D,) H, W]."""
        return convolved(self, x, self.weight, self.bias)


def convolved(owner: Derived, x: Tensor, weight: Tensor, bias: Tensor | None, name: str = "") -> Tensor:
    """`x` convolved with `weight`, centred; what is derived from the weight is kept by `owner` under `name`."""
    outputs, inputs, *kernel = weight.shape
    fast = x.device.type == "cpu" and x.dtype == torch.float32 and not torch.is_grad_enabled()
    wide = kernel[-1] == 3 and len(kernel) * inputs * outputs >= 2 * WIDE * (inputs + outputs)
    if fast and wide and x.shape[-1] % 4 == 0 and x.shape[-2] % 4 == 0:
        return _winograd(x, owner.derive(f"winograd {name}", lambda: winograd_weight(weight), weight), bias)
    if fast and len(kernel) == 3 and kernel[0] > 3 and x.shape[-1] % TILE == 0 and x.shape[-2] % TILE == 0:
        return _by_spectra(
            x,
            owner.derive(f"spectra {name} {x.shape[2]}", lambda: _spectra(weight, x.shape[2]), weight),
            bias,
            kernel[0],
        )
    convolve = F.conv2d if len(kernel) == 2 else F.conv3d
    layout = torch.channels_last if len(kernel) == 2 else torch.channels_last_3d
    laid = owner.derive(f"laid {name}", lambda: weight.contiguous(memory_format=layout), weight)
    return convolve(x.contiguous(memory_format=layout), laid, bias, padding=kernel[0] // 2)


def winograd_weight(weight: Tensor) -> Tensor:
    """A kernel [O, C, (3,) 3, 3] in Winograd's domain: [36, 1 or 3, C, O]."""
    transform = torch.tensor(_KERNEL, dtype=torch.float64, device=weight.device)
    deep = weight.double().reshape(*weight.shape[:2], -1, 3, 3)
    spread = torch.einsum("ai,ocdij,bj->abdco", transform, deep, transform)
    return spread.reshape(36, deep.shape[2], *spread.shape[3:]).to(weight.dtype).contiguous()


def _winograd(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """A 3x3 or 3x3x3 convolution; see the module. `weight` is of `winograd_weight`."""
    flat = x.ndim == 4
    x = x[:, :, None] if flat else x
    batch, inputs, depth, height, width = x.shape
    taps, outputs = weight.shape[1], weight.shape[3]
    into = torch.tensor(_INPUT, dtype=x.dtype)
    out_of = torch.tensor(_OUTPUT, dtype=x.dtype)
    into, out_of = torch.kron(into, into), torch.kron(out_of, out_of)
    edge = taps // 2
    padded = F.pad(x.permute(0, 2, 3, 4, 1), (0, 0, 1, 1, 1, 1, edge, edge))  # [B, D+2e, H+2, W+2, C]
    result = x.new_empty(batch, depth, height, width, outputs)
    across, down = width // 4, height // 4
    rows = max(1, min(down, STRIP // (36 * across * (depth + 2 * edge) * max(inputs, outputs))))
    for picture, drawn in zip(padded, result, strict=True):
        for row in range(0, down, rows):
            count = min(rows, down - row)
            strip = picture[:, 4 * row : 4 * (row + count) + 2]
            tiles = x.new_empty(36, depth + 2 * edge, count, across, inputs)
            for i in range(6):
                for j in range(6):
                    tiles[6 * i + j] = strip[:, i : i + 4 * count - 3 : 4, j : j + 4 * across - 3 : 4]
            spread = (into @ tiles.view(36, -1)).view(36, -1, count * across, inputs)
            product = torch.bmm(spread[:, :depth].reshape(36, -1, inputs), weight[:, 0])
            for tap in range(1, taps):
                product.baddbmm_(spread[:, tap : tap + depth].reshape(36, -1, inputs), weight[:, tap])
            squares = (out_of @ product.view(36, -1)).view(4, 4, depth, count, across, outputs)
            lines = squares.permute(2, 3, 0, 4, 1, 5).reshape(depth, 4 * count, width, outputs)
            drawn[:, 4 * row : 4 * (row + count)] = lines if bias is None else lines + bias
    result = result.permute(0, 4, 1, 2, 3)
    return result[:, :, 0] if flat else result


TILE = 16
"""Side of the squares whose spectra are multiplied."""


def _spectra(weight: Tensor, depth: int) -> Tensor:
    """The conjugate spectra of a kernel [O, C, k, k, k] for tiles of `depth`: complex64 [F, C, O]."""
    edge = weight.shape[-1] - 1
    size = (depth + edge, TILE + edge, TILE + edge)
    found = torch.fft.rfftn(weight.double(), size).conj().flatten(2).permute(2, 1, 0)
    return found.to(torch.complex64).contiguous()


def _by_spectra(x: Tensor, spectra: Tensor, bias: Tensor | None, kernel: int) -> Tensor:
    """A convolution [B, C, D, H, W] -> [B, O, D, H, W] as a product of spectra."""
    batch, _channels, depth, height, width = x.shape
    edge = kernel - 1
    size = (depth + edge, TILE + edge, TILE + edge)
    padded = F.pad(x.contiguous(), (edge // 2,) * 6)
    result = x.new_empty(batch, spectra.shape[2], depth, height, width)
    for row in range(0, height, TILE):
        strip = padded[:, :, :, row : row + TILE + edge].unfold(4, TILE + edge, TILE).permute(0, 4, 1, 2, 3, 5)
        found = torch.fft.rfftn(strip, dim=(3, 4, 5))  # [B, W/T, C, d, h, w']
        bins = found.shape[3:]
        product = torch.bmm(found.flatten(3).flatten(0, 1).permute(2, 0, 1), spectra)  # [F, B*W/T, O]
        tiles = torch.fft.irfftn(product.permute(1, 2, 0).reshape(-1, product.shape[2], *bins), size)
        tiles = tiles[:, :, :depth, :TILE, :TILE].reshape(batch, -1, *tiles.shape[1:2], depth, TILE, TILE)
        result[:, :, :, row : row + TILE] = tiles.permute(0, 2, 3, 4, 1, 5).flatten(4)
    return result if bias is None else result + bias[:, None, None, None]
