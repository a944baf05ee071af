"""Convolutions arranged for speed with the same numbers.

Tensors are channels-last. On a CPU, wide 3x3 convolutions are computed by Winograd's minimal filtering F(4x4, 3x3) (Lavin and Gray
2016): 36 products in place of 144 for 16 outputs, in strips that stay in the cache and reuse their memory. The one large kernel, 7x7x7,
is a product of spectra, tile by tile; a 7x7 kernel with one output is a product and a sum. What they need of the weights is derived
once. A GPU's own library does as much by itself.
"""

import itertools
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cmet_engine.models.derived import Derived

WIDE = 64
"""Inputs times outputs over their sum from which Winograd's form is faster; measured on one core with AVX2."""
STRIP = 4_800_000
"""Numbers of one strip of transformed tiles: they stay near, and are enough for a fast product."""

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

    def kernel(self) -> Tensor:
        """[O, C, (k,) k, k]."""
        return self.weight


Finish = Callable[[Tensor, slice, slice], Tensor]
"""What becomes of a part of a convolution's result: `(part [b, O, h, W], pictures, rows) -> [b, P, h, W]`."""


def convolved(
    owner: Derived, x: Tensor, weight: Tensor, bias: Tensor | None, name: str = "", finish: Finish | None = None
) -> Tensor:
    """`x` convolved with `weight`, centred; what is derived from the weight is kept by `owner` under `name`.

    What follows a convolution in two dimensions cell by cell goes into `finish`, which sees parts while they are in the cache.
    """
    outputs, inputs, *kernel = weight.shape
    fast = x.device.type == "cpu" and x.dtype == torch.float32 and not torch.is_grad_enabled()
    wide = kernel[-1] == 3 and len(kernel) * inputs * outputs >= 2 * WIDE * (inputs + outputs)
    if fast and wide and x.shape[-1] % 4 == 0 and x.shape[-2] % 4 == 0:
        spread = owner.derive(f"winograd {name}", lambda: winograd_weight(weight), weight)
        return _winograd(x, spread, weight.new_zeros(outputs) if bias is None else bias, finish)
    if fast and len(kernel) == 3 and kernel[0] > 3 and x.shape[-1] % TILE == 0 and x.shape[-2] % TILE == 0:
        spectra = owner.derive(f"spectra {name} {x.shape[2]}", lambda: _spectra(weight, x.shape[2]), weight)
        return _by_spectra(x, spectra, bias, kernel[0])
    convolve = F.conv2d if len(kernel) == 2 else F.conv3d
    layout = torch.channels_last if len(kernel) == 2 else torch.channels_last_3d
    laid = owner.derive(f"laid {name}", lambda: weight.contiguous(memory_format=layout), weight)
    whole = convolve(x.contiguous(memory_format=layout), laid, bias, padding=kernel[0] // 2)
    return whole if finish is None else finish(whole, slice(0, len(x)), slice(0, x.shape[-2]))


def phases(factor: int) -> list[int]:
    """The places within a cell repeated `factor` times that a 3-wide kernel tells apart."""
    return sorted({0, min(1, factor - 1), factor - 1})


def phase_kernels(weight: Tensor, factor: int) -> Tensor:
    """What a kernel [O, C, (3,) 3, 3] on a map enlarged by `factor` is on the map itself: [P·P·O, C, (3,) 3, 3] for P phases.

    The map's height and width are enlarged by repeating its cells.
    """
    if factor == 1:
        return weight
    folds = weight.new_zeros(len(phases(factor)), 3, 3)  # phase, neighbour, tap
    for number, phase in enumerate(phases(factor)):
        for tap in range(3):
            folds[number, (phase + tap - 1) // factor + 1, tap] = 1
    return torch.einsum("pai,oc...ij,qbj->pqoc...ab", folds, weight, folds).flatten(0, 2)


def laid_out(x: Tensor, factor: int) -> Tensor:
    """The values of all phases [B, P·P·O, (D,) h, w] as the enlarged map [B, O, (D,) factor·h, factor·w]."""
    if factor == 1:
        return x
    kinds = phases(factor)
    # made where it is used: a graph captures no copy to a GPU
    cell = torch.arange(factor, device=x.device).clamp(max=1)
    cell[-1] = len(kinds) - 1
    split = x.movedim(1, -1).unflatten(-1, (len(kinds), len(kinds), -1))  # [B, (D,) h, w, P, P, O]
    cells = split[..., cell[:, None], cell, :]
    return cells.transpose(-4, -3).flatten(-3, -2).flatten(-4, -3).movedim(-1, 1)


def winograd_weight(weight: Tensor) -> Tensor:
    """A kernel [O, C, (3,) 3, 3] in Winograd's domain: [36, 1 or 3, C', O'], channels filled up to whole vectors."""
    outputs, inputs = weight.shape[:2]
    weight = F.pad(weight, (0,) * 2 * (weight.ndim - 2) + (0, -inputs % 8, 0, -outputs % 8))
    transform = torch.tensor(_KERNEL, dtype=torch.float64, device=weight.device)
    deep = weight.double().reshape(*weight.shape[:2], -1, 3, 3)
    spread = torch.einsum("ai,ocdij,bj->abdco", transform, deep, transform)
    return spread.reshape(36, deep.shape[2], *spread.shape[3:]).to(weight.dtype).contiguous()


def _winograd(x: Tensor, weight: Tensor, bias: Tensor, finish: Finish | None) -> Tensor:
    """A 3x3 or 3x3x3 convolution; see the module. `weight` is of `winograd_weight`."""
    flat = x.ndim == 4
    x = x[:, :, None] if flat else x
    batch, channels, depth, height, width = x.shape
    taps, inputs, outputs = weight.shape[1:]
    edge, across, down = taps // 2, width // 4, height // 4
    most = STRIP // (36 * across * (depth + 2 * edge) * max(inputs, outputs))
    rows = max(n for n in range(1, down + 1) if n == 1 or (n <= most and down % n == 0))
    line = rows * across  # tiles of a strip, at one depth
    strip = x.new_zeros(depth + 2 * edge, 4 * rows + 2, width + 2, inputs)
    windows = strip.unfold(1, 6, 4).unfold(2, 6, 4).permute(0, 1, 2, 4, 5, 3)  # [D+2e, rows, W/4, 6, 6, C]
    tiles, spread = (x.new_empty((depth + 2 * edge) * line, 36, inputs) for _ in range(2))
    product, squares = (x.new_empty(depth * line, number, outputs) for number in (36, 16))
    into, out_of = (torch.tensor(matrix, dtype=x.dtype) for matrix in (_INPUT, _OUTPUT))
    into, out_of = torch.kron(into, into), torch.kron(out_of, out_of)
    result = None
    for number, row in itertools.product(range(batch), range(0, height, 4 * rows)):
        first, last = max(row - 1, 0), min(row + 4 * rows + 1, height)
        strip[:, [0, -1]] = 0
        inside = strip[edge : edge + depth, first - row + 1 : last - row + 1, 1:-1, :channels]
        inside.copy_(x[number, :, :, first:last].permute(1, 2, 3, 0))
        tiles.view(windows.shape).copy_(windows)
        torch.bmm(into.expand(len(tiles), 36, 36), tiles, out=spread)
        by_place, into_place = spread.transpose(0, 1), product.transpose(0, 1)
        torch.bmm(by_place[:, : depth * line], weight[:, 0], out=into_place)
        for tap in range(1, taps):
            into_place.baddbmm_(by_place[:, tap * line : (tap + depth) * line], weight[:, tap])
        torch.bmm(out_of.expand(len(squares), 16, 36), product, out=squares)
        lines = x.new_empty(depth, rows, 4, across, 4, len(bias))
        places = squares.view(depth, rows, across, 4, 4, outputs).transpose(2, 3)
        torch.add(places[..., : len(bias)], bias, out=lines)
        part = lines.view(1, depth, 4 * rows, width, -1).permute(0, 4, 1, 2, 3)
        drawn = slice(row, row + 4 * rows)
        if finish is not None:
            part = finish(part[:, :, 0], slice(number, number + 1), drawn)[:, :, None]
        if result is None:
            result = x.new_empty(batch, depth, height, width, part.shape[1]).permute(0, 4, 1, 2, 3)
        result[number, :, :, drawn] = part[0]
    assert result is not None
    return result[:, :, 0] if flat else result


TILE = 16
"""Side of the squares whose spectra are multiplied."""


def _spectra(weight: Tensor, depth: int) -> Tensor:
    """The conjugate spectra of a kernel [O, C, k, k, k] for tiles of `depth`: complex64 [F, C, O]."""
    edge = weight.shape[-1] - 1
    size = (depth + edge // 2, TILE + edge, TILE + edge)
    found = torch.fft.rfftn(weight.double(), size).conj().flatten(2).permute(2, 1, 0)
    return found.to(torch.complex64).contiguous()


def _by_spectra(x: Tensor, spectra: Tensor, bias: Tensor | None, kernel: int) -> Tensor:
    """A convolution [B, C, D, H, W] -> [B, O, D, H, W] as a product of spectra.

    Along the depth, which is short, spectra are products with a matrix; they wrap around into half a kernel of zeros.
    """
    batch, channels, depth, height, width = x.shape
    reach = kernel // 2
    side, length = TILE + 2 * reach, depth + reach
    turn, place = torch.arange(length).double() / length, torch.arange(depth).double()
    there = torch.exp(-2j * torch.pi * turn[:, None] * place).to(torch.complex64)  # [L, D]
    back = (torch.exp(2j * torch.pi * (place - reach)[:, None] * turn) / length).to(torch.complex64)
    result = x.new_empty(batch, spectra.shape[2], depth, height, width)
    for picture, drawn in zip(x.transpose(1, 2).flatten(3), result, strict=True):
        planes = torch.stack([plane.contiguous() for plane in picture]).view(depth, channels, height, width)
        padded = F.pad(planes, (reach,) * 4)
        for row in range(0, height, TILE):
            found = torch.fft.rfft2(padded[:, :, row : row + side].unfold(3, side, TILE).transpose(2, 3))
            bins = found.shape[3:]  # [D, C, W/T, h, w']
            found = (there @ found.flatten(1)).view(length, channels, -1, bins.numel()).permute(0, 3, 2, 1)
            product = back @ torch.bmm(found.flatten(0, 1).contiguous(), spectra).view(length, -1)
            product = product.view(depth, *bins, -1, spectra.shape[2]).permute(4, 0, 3, 1, 2)
            tiles = torch.fft.irfft2(product, (side, side))[..., :TILE, :TILE]  # [O, D, W/T, T, T]
            drawn[:, :, row : row + TILE] = tiles.transpose(2, 3).flatten(3)
    return result if bias is None else result + bias[:, None, None, None]


def to_one_plane(owner: Derived, x: Tensor, conv: Conv) -> Tensor:
    """All planes of `x` [B, C, D, H, W] convolved to one, [B, 1, H, W], by a `conv` of C·D planes.

    On a CPU a product for every tap, then a sum of what the taps gave, each in its place.
    """
    weight = conv.weight
    if x.device.type != "cpu":
        return conv(x.contiguous().flatten(1, 2))
    channels, depth, height, width = x.shape[1:]
    taps = owner.derive(
        "taps", lambda: weight[0].flip(1, 2).reshape(channels, depth, -1).transpose(0, 1).contiguous(), weight
    )
    products = (x.permute(0, 2, 3, 4, 1).flatten(2, 3) @ taps).sum(1)  # [B, H·W, k²]
    side = weight.shape[-1]
    plane = F.fold(products.transpose(1, 2), (height, width), side, padding=side // 2)
    return plane if conv.bias is None else plane + conv.bias
