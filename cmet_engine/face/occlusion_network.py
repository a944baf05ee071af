"""The network that sees what lies before a face, run with NumPy: a small U-Net on the canonical crop.

`training.occlusion.network` trains it.
"""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from cmet_engine.errors import InvalidInput
from cmet_engine.models.assets import asset
from cmet_engine.models.tensors import read_arrays
from cmet_engine.processes import cores

WEIGHTS_FILE = "face_occlusion.safetensors"
SIDE = 128
"""Pixels of the crop."""

CELL = 2
"""Side of the cells of the crop that the network works on."""

LEVELS = 3
"""How often the picture is halved from there."""


class OcclusionNetwork:
    """The network with its weights: `arrays` as `training.occlusion.network.save_network` writes them."""

    def __init__(self, arrays: dict[str, np.ndarray]) -> None:
        self._layers = {
            name.removesuffix(".weight"): (
                np.ascontiguousarray(value.transpose(2, 3, 1, 0).astype(np.float32)),  # [rows, columns, inputs, outputs]
                arrays[name.removesuffix("weight") + "bias"].astype(np.float32),
            )
            for name, value in arrays.items() if name.endswith(".weight")
        }  # fmt: skip
        named = [f"{way}.{k}.{n}" for way in ("down", "up") for k in range(LEVELS) for n in range(2)]
        if self._layers.keys() != {"first", "last", *named}:
            raise KeyError("layers")

    def probability(self, crops: Sequence[np.ndarray]) -> np.ndarray:
        """Probability that something lies before the face, for crops uint8 [R, R, 3]: float32 [B, R, R]; R divides by 16."""
        with ThreadPoolExecutor(max(min(cores(), len(crops)), 1)) as pool:
            return np.stack(list(pool.map(self._one, crops)))

    def _one(self, crop: np.ndarray) -> np.ndarray:
        cells = len(crop) // CELL
        x = crop.reshape(cells, CELL, cells, CELL, 3).transpose(0, 2, 4, 1, 3).reshape(cells, cells, -1)
        levels = [self._layer("first", x.astype(np.float32) / 255 - 0.5)]
        for k in range(LEVELS):
            levels.append(self._layer(f"down.{k}.1", self._layer(f"down.{k}.0", levels[-1], 2)))
        x = levels.pop()
        for k in range(LEVELS):
            x = np.concatenate([x.repeat(2, 0).repeat(2, 1), levels.pop()], 2)
            x = self._layer(f"up.{k}.1", self._layer(f"up.{k}.0", x))
        x = self._convolved("last", x, 1).reshape(cells, cells, CELL, CELL).transpose(0, 2, 1, 3)
        return 1 / (1 + np.exp(-x.reshape(len(crop), len(crop))))

    def _layer(self, name: str, x: np.ndarray, stride: int = 1) -> np.ndarray:
        result = self._convolved(name, x, stride)
        return np.maximum(result, 0, out=result)

    def _convolved(self, name: str, x: np.ndarray, stride: int) -> np.ndarray:
        """A convolution of [h, w, inputs] with zeros around: one matrix product over every pixel's neighbourhood."""
        weight, bias = self._layers[name]
        size, inputs = len(weight), x.shape[2]
        rows, columns = x.shape[0] // stride, x.shape[1] // stride
        if size > 1:
            padded = np.zeros((x.shape[0] + size - 1, x.shape[1] + size - 1, inputs), np.float32)
            padded[size // 2 : -(size // 2), size // 2 : -(size // 2)] = x
            near = sliding_window_view(padded, (size, size), (0, 1))[::stride, ::stride]  # type: ignore[call-overload]
            x = near.transpose(0, 1, 3, 4, 2)
        product = x.reshape(rows * columns, -1) @ weight.reshape(-1, weight.shape[3])
        product += bias
        return product.reshape(rows, columns, -1)


def load_network(path: Path | None = None) -> OcclusionNetwork:
    """The embedded network, or that of a file.

    Raises:
        CmetError: the file is missing or damaged.
    """
    file = asset(WEIGHTS_FILE) if path is None else path
    broken = f"{file.name} does not hold the weights of the occlusion network; install the package again."
    try:
        return OcclusionNetwork(read_arrays(file, broken)[0])
    except KeyError as error:
        raise InvalidInput(broken) from error
