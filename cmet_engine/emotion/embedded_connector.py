"""The connector that ships with the project, computed with NumPy, so that an edit need not wait for torch.

It predicts what `connector.Connector` with the same weights predicts, within float32 rounding. An emotion vector is brought
to one length (`unit_vector`) and a track to 25 frames a second in the network's scale (`resampled`, `EXPRESSION_SCALE`)
before the network sees them; these choices are part of what the weights mean.
"""

import functools
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from cmet_engine.errors import InvalidInput
from cmet_engine.models.assets import asset
from cmet_engine.models.layers import EPSILON, gelu, layer_norm, linear, product
from cmet_engine.models.tensors import read_arrays

CONNECTOR_FILE = "connector_arkit.safetensors"

WINDOW = 5  # frames the connector sees at a time (arXiv 2604.07786, section 4.1: T = 5)

VECTOR_NORM = 10.0
"""Length of the emotion vectors that the network sees."""

VECTOR_FLOOR = 0.5
"""Vectors much shorter than this stay short: a voice that hardly differs from neutral."""

EXPRESSION_SCALE = 8.0
"""Coefficients (0 to 1) times this are the numbers that the network sees: about the spread of EDTalk's codes, for which
the paper's loss weights were chosen."""

FRAME_RATE = 25
"""Frames a second of the tracks that the network sees: the rate of the paper's data (arXiv 2604.07786)."""

_Layer = Callable[[np.ndarray], np.ndarray]


def unit_vector(vector: np.ndarray) -> np.ndarray:
    """An emotion vector [..., S] brought to the length that the network sees."""
    vector = np.asarray(vector, np.float32)
    size = np.sqrt(np.square(vector).sum(-1, keepdims=True) + VECTOR_FLOOR**2)
    return VECTOR_NORM * vector / size


def resampled(values: np.ndarray, times: np.ndarray, rate: float) -> tuple[np.ndarray, np.ndarray]:
    """Values [N, C] at `times` [N] read at an even rate: ([M, C] float32, [M] seconds)."""
    even = times[0] + np.arange(max(round((times[-1] - times[0]) * rate) + 1, 1)) / rate
    columns = [np.interp(even, times, values[:, c]) for c in range(values.shape[1])]
    return np.stack(columns, 1).astype(np.float32), even


def check_input(speech: tuple[int, ...], speech_dim: int, codes: tuple[int, ...], dim: int, finite: bool) -> None:
    """Check the shapes of emotion vectors and of a track, and whether they are `finite`.

    Raises:
        InvalidInput: a vector or a frame has the wrong length, or holds a number that is not finite.
    """
    if speech[-1] != speech_dim:
        raise InvalidInput(
            f"An emotion vector has {speech[-1]} numbers where the connector takes {speech_dim}; make it with the same speech encoder."
        )
    if len(codes) != 2 or codes[1] != dim:
        raise InvalidInput(f"A track of {dim} numbers a frame is wanted, not an array of shape {codes}.")
    if not finite:
        raise InvalidInput(
            "The emotion vector or the track holds a number that is not finite; fill the frames without a face before the edit."
        )


def window_starts(frames: int) -> list[int]:
    """Where the windows of a track of at least `WINDOW` frames begin; the last reaches back over frames already done."""
    starts = [*range(0, frames - WINDOW + 1, WINDOW)]
    return starts if frames % WINDOW == 0 else [*starts, frames - WINDOW]


class EmbeddedConnector:
    """A connector that `connector_weights.save_connector` wrote, for prediction alone.

    Args:
        path: the safetensors file.

    Raises:
        CmetError: the file is missing, damaged, or of another kind.
    """

    def __init__(self, path: Path) -> None:
        stored, about = read_arrays(path)
        self._weights = {name: value.astype(np.float32) for name, value in stored.items()}
        sizes = json.loads(about["config"])
        self.expression_dim, self.speech_dim, self._heads = (
            int(sizes[name]) for name in ("expression_dim", "speech_dim", "heads")
        )
        self._expression = self._code_encoder("exp_encoder")
        self._reference = self._code_encoder("ref_encoder")
        layers = "fusion_transformer_encoder.transformer_encoder.layers"
        self._transformer = [self._transformer_layer(f"{layers}.{n}.") for n in range(int(sizes["layers"]))]
        width = len(self._weights["Norm.weight"])
        rate = np.exp(np.arange(0, width, 2) * (-np.log(10000.0) / width))
        angles = np.arange(WINDOW)[:, None] * rate
        positions = np.stack((np.sin(angles), np.cos(angles)), -1).reshape(WINDOW, width)
        kind = self._weights["fusion_transformer_encoder.modality.weight"]
        places = (
            positions + kind[1],
            kind[2:3],
            positions + kind[3],
        )  # of the reference, the speech and the expression
        self._places = np.concatenate(places).astype(np.float32)  # [2T + 1, width]

    def deltas(self, vectors: np.ndarray, codes: np.ndarray) -> np.ndarray:
        """The change of expression of every frame of a track, for several emotion vectors; see `connector.code_deltas`.

        Args:
            vectors: [E, 13].
            codes: [N, 52].

        Returns:
            float32 [E, N, 52].

        Raises:
            InvalidInput: a vector or a frame has the wrong length, or holds a number that is not finite.
        """
        vectors, track = np.asarray(vectors, np.float32), np.asarray(codes, np.float32)
        finite = bool(np.isfinite(vectors).all() and np.isfinite(track).all())
        check_input(vectors.shape, self.speech_dim, track.shape, self.expression_dim, finite)
        frames = len(track)
        deltas = np.zeros((len(vectors), frames, self.expression_dim), np.float32)
        if not frames:
            return deltas
        track = np.pad(track, ((0, max(0, WINDOW - frames)), (0, 0)), mode="edge")
        spoken = layer_norm(
            self._weights, "speaker_encoder.norm", gelu(linear(self._weights, "speaker_encoder.proj", vectors))
        )[:, None]
        expressions = self._tokens(self._expression, track)
        done = 0
        for start in window_starts(len(track)):
            before = deltas[:, max(0, start - WINDOW) : start]
            before = np.pad(before, ((0, 0), (WINDOW - before.shape[1], 0), (0, 0)))
            expression = np.broadcast_to(expressions[start : start + WINDOW], (len(vectors), WINDOW, spoken.shape[2]))
            tokens = np.concatenate((self._tokens(self._reference, before), spoken, expression), 1) + self._places
            for layer in self._transformer:
                tokens = layer(tokens)
            hidden = gelu(linear(self._weights, "projector.projector.0", tokens[:, WINDOW + 1 :]))
            delta = linear(self._weights, "projector.projector.2", hidden)  # [E, T, 52]
            end = min(start + WINDOW, frames)
            deltas[:, done:end] = delta[:, done - start : end - start]
            done = end
        return deltas

    def _tokens(self, encoder: list[_Layer], codes: np.ndarray) -> np.ndarray:
        """Tokens [..., width] of codes [..., 52]."""
        x = codes.reshape(-1, codes.shape[-1], 1)
        for layer in encoder:
            x = layer(x)
        return layer_norm(self._weights, "Norm", x[:, 0]).reshape(*codes.shape[:-1], -1)

    def _code_encoder(self, name: str) -> list[_Layer]:
        """The layers of `connector.code_encoder`, from [B, 52, 1] to [B, 1, width], channels last."""
        count = sum(key.startswith(name) and key.endswith("conv_block.0.weight") for key in self._weights)
        return [self._convolution(f"{name}.{n}.conv_block.", last=n == count - 1) for n in range(count)]

    def _convolution(self, name: str, *, last: bool) -> _Layer:
        """One `connector._ConvBlock`; the batch normalisation goes into the weights of the convolution."""
        weights = {key.removeprefix(name): value for key, value in self._weights.items() if key.startswith(name)}
        gain = weights["1.weight"] / np.sqrt(weights["1.running_var"] + EPSILON)
        kernel = weights["0.weight"] * gain[:, None, None]  # [C', C, k]
        bias = (weights["0.bias"] - weights["1.running_mean"]) * gain + weights["1.bias"]
        outs, ins, size = kernel.shape
        padding, residual = int(size == 3), outs == ins
        stride = 2 if size == 3 and outs == 2 * ins and ins > 1 else 1
        matrix = kernel.reshape(outs, -1).T  # [C·k, C']

        def layer(x: np.ndarray) -> np.ndarray:
            padded = np.pad(x, ((0, 0), (padding, padding), (0, 0)))
            seen = sliding_window_view(padded, size, axis=1)[:, ::stride]  # [B, L', C, k]
            y = product(seen.reshape(*seen.shape[:2], -1), matrix) + bias
            y = y + x if residual else y
            return np.tanh(y) if last else np.maximum(y, 0)

        return layer

    def _transformer_layer(self, name: str) -> _Layer:
        """One `torch.nn.TransformerEncoderLayer` with its defaults: normalised after each half, ReLU inside."""

        def layer(x: np.ndarray) -> np.ndarray:
            batch, length, width = x.shape
            inputs = product(x, self._weights[f"{name}self_attn.in_proj_weight"].T)
            inputs += self._weights[f"{name}self_attn.in_proj_bias"]
            split = inputs.reshape(batch, length, 3, self._heads, -1).transpose(2, 0, 3, 1, 4)
            query, key, value = split  # each [B, H, L, width / H]
            scores = query @ key.swapaxes(2, 3) / np.float32(np.sqrt(key.shape[3]))
            scores = np.exp(scores - scores.max(-1, keepdims=True))
            mixed = scores / scores.sum(-1, keepdims=True) @ value
            mixed = mixed.transpose(0, 2, 1, 3).reshape(batch, length, width)
            x = layer_norm(self._weights, f"{name}norm1", x + linear(self._weights, f"{name}self_attn.out_proj", mixed))
            inner = np.maximum(linear(self._weights, f"{name}linear1", x), 0)
            return layer_norm(self._weights, f"{name}norm2", x + linear(self._weights, f"{name}linear2", inner))

        return layer


@functools.cache
def embedded_connector() -> EmbeddedConnector:
    """The connector that ships with the project.

    Raises:
        CmetError: the embedded file is missing or damaged.
    """
    return EmbeddedConnector(asset(CONNECTOR_FILE))
