"""Layers of small networks, computed with NumPy so that nobody need wait for torch: float32, channels last.

They give what torch's layers of the same names give, within float32 rounding.
"""

from collections.abc import Iterable

import numpy as np
import scipy
from numpy.lib.stride_tricks import sliding_window_view

EPSILON = 1e-5
"""Of batch and layer normalisation: torch's default."""

Weights = dict[str, np.ndarray]
"""The arrays of a network by the names of its parameters."""


def product(x: np.ndarray, matrix: np.ndarray) -> np.ndarray:
    """`x @ matrix` in one call of the matrix product, where NumPy makes one for every leading index."""
    return (x.reshape(-1, x.shape[-1]) @ matrix).reshape(*x.shape[:-1], -1)


def linear(weights: Weights, name: str, x: np.ndarray) -> np.ndarray:
    """`torch.nn.Linear`: [..., inputs] -> [..., outputs]."""
    result = product(x, weights[f"{name}.weight"].T)
    return result + weights[f"{name}.bias"] if f"{name}.bias" in weights else result


def layer_norm(weights: Weights, name: str, x: np.ndarray) -> np.ndarray:
    """`torch.nn.LayerNorm` over the last axis."""
    x = x - x.mean(-1, keepdims=True)
    x /= np.sqrt(np.square(x).mean(-1, keepdims=True) + EPSILON)
    return x * weights[f"{name}.weight"] + weights[f"{name}.bias"]


def convolution(weights: Weights, name: str, x: np.ndarray, *, stride: int = 1, padding: int = 0) -> np.ndarray:
    """`torch.nn.Conv1d` along the last axis but one: [B, T, inputs] -> [B, T', outputs]."""
    kernel = weights[f"{name}.weight"]  # [outputs, inputs, size]
    padded = np.pad(x, ((0, 0), (padding, padding), (0, 0)))
    seen = sliding_window_view(padded, kernel.shape[2], 1)[:, ::stride]  # [B, T', inputs, size]
    return product(seen.reshape(*seen.shape[:2], -1), kernel.reshape(len(kernel), -1).T) + weights[f"{name}.bias"]


def attention(given: Iterable[np.ndarray], heads: int) -> np.ndarray:
    """Scaled dot-product attention with several heads: query, key and value, [B, T, width] each -> [B, T, width]."""
    query, key, value = (x.reshape(*x.shape[:2], heads, -1).transpose(0, 2, 1, 3) for x in given)
    scores = query @ key.swapaxes(2, 3)
    scores *= np.float32(1 / np.sqrt(key.shape[3]))
    scores -= scores.max(-1, keepdims=True)
    np.exp(scores, out=scores)
    scores /= scores.sum(-1, keepdims=True)
    mixed = scores @ value  # [B, heads, T, width / heads]
    return mixed.transpose(0, 2, 1, 3).reshape(mixed.shape[0], mixed.shape[2], -1)


def lstm(weights: Weights, name: str, layers: int, x: np.ndarray) -> np.ndarray:
    """`torch.nn.LSTM`, batch first: [B, T, inputs] -> [B, T, width]."""
    for layer in range(layers):
        inner = weights[f"{name}.weight_hh_l{layer}"].T  # [width, 4 * width]: input, forget, cell and output gate
        width = len(inner)
        # the logistic function is half a tanh of half its argument, plus a half
        half = np.full(4 * width, np.float32(0.5))
        half[2 * width : 3 * width] = 1
        bias = weights[f"{name}.bias_ih_l{layer}"] + weights[f"{name}.bias_hh_l{layer}"]
        given = (product(x, weights[f"{name}.weight_ih_l{layer}"].T) + bias) * half
        inner = inner * half
        x = np.empty((*x.shape[:2], width), np.float32)
        hidden, cell = np.zeros((len(x), width), np.float32), np.zeros((len(x), width), np.float32)
        for step in range(x.shape[1]):
            gates = np.tanh(given[:, step] + hidden @ inner)
            enter, keep, new, leave = (gates[:, k * width : (k + 1) * width] for k in range(4))
            cell = ((keep + 1) * cell + (enter + 1) * new) * np.float32(0.5)
            hidden = (leave + 1) * np.tanh(cell) * np.float32(0.5)
            x[:, step] = hidden
    return x


def gelu(x: np.ndarray) -> np.ndarray:
    """Gaussian error linear unit (Hendrycks and Gimpel 2016)."""
    return 0.5 * x * (1 + scipy.special.erf(x * np.float32(np.sqrt(0.5))))
