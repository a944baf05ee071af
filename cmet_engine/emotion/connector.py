"""The C-MET connector: from a difference of voices to a difference of expressions, window by window.

Choi et al., "Cross-Modal Emotion Transfer for Emotion Editing in Talking Face Video" (CVPR 2026, arXiv 2604.07786),
section 3. An emotion is a difference of two pools of speech; the connector turns it, together with what the face does
and with what was predicted for the window before, into a difference of facial expression for every frame.

With its default sizes the class holds the published weights (28.7 M parameters, EDTalk's 10 expression codes); smaller
sizes and 52 coefficients give the embedded model. The names of the parameters are those of the published file.
"""

import contextlib
import math
from collections.abc import Iterator
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from cmet_engine.emotion.embedded_connector import WINDOW, check_input, window_starts
from cmet_engine.errors import InvalidInput

MAX_WINDOW = 512  # length of the published position tables

Codes = TypeVar("Codes", np.ndarray, Tensor)


class _ConvBlock(nn.Module):
    """Convolution over the axis of the codes, batch normalisation, a residual where the shape allows it, activation."""

    def __init__(
        self,
        channels_in: int,
        channels_out: int,
        kernel: int,
        stride: int = 1,
        *,
        residual: bool = False,
        last: bool = False,
    ):
        super().__init__()
        padding = 1 if kernel == 3 else 0
        self.conv_block = nn.Sequential(
            nn.Conv1d(channels_in, channels_out, kernel, stride, padding), nn.BatchNorm1d(channels_out)
        )
        self.residual = residual
        self.activation = torch.tanh if last else torch.relu

    def forward(self, x: Tensor) -> Tensor:  # [B, C, L] -> [B, C', L']
        y = self.conv_block(x)
        return self.activation(y + x if self.residual else y)


def code_encoder(code_dim: int, base: int, width: int) -> nn.Sequential:
    """[B, 1, D] -> [B, width, 1]: two halvings along the codes, one convolution over what remains, then pointwise."""
    remaining = (code_dim + 3) // 4  # length after two strides of two: 10 -> 5 -> 3
    # The published network (10 codes) reads two of the three positions that remain; a larger space is read whole.
    closing, stride = (2, 2) if remaining in (2, 3) else (remaining, 1)
    blocks = [
        _ConvBlock(1, base, 3),
        _ConvBlock(base, 2 * base, 3, 2),
        _ConvBlock(2 * base, 2 * base, 3, residual=True),
        _ConvBlock(2 * base, 2 * base, 3, residual=True),
        _ConvBlock(2 * base, 4 * base, 3, 2),
        _ConvBlock(4 * base, 4 * base, 3, residual=True),
        _ConvBlock(4 * base, 4 * base, 3, residual=True),
        _ConvBlock(4 * base, 8 * base, closing, stride),
    ]
    channels = 8 * base
    while channels < width:
        blocks.append(_ConvBlock(channels, 2 * channels, 1, last=2 * channels == width))
        channels *= 2
    if channels != width or width == 8 * base:
        raise ValueError(f"width must be base_channels x 16, x 32, x 64, ...; got width {width}, base_channels {base}")
    return nn.Sequential(*blocks)


class _Positions(nn.Module):
    """Sinusoidal positions (Vaswani et al. 2017, section 3.5), kept in the state dict as the published file does."""

    pe: Tensor

    def __init__(self, width: int):
        super().__init__()
        position = torch.arange(MAX_WINDOW, dtype=torch.float32)[:, None]
        rate = torch.exp(torch.arange(0, width, 2, dtype=torch.float32) * (-math.log(10000.0) / width))
        table = torch.stack((torch.sin(position * rate), torch.cos(position * rate)), dim=-1)  # [L, width/2, 2]
        self.register_buffer("pe", table.reshape(1, MAX_WINDOW, width))


class _Fusion(nn.Module):
    """Transformer over the tokens [reference x T, speech, expression x T]."""

    REFERENCE, SPEECH, EXPRESSION = 1, 2, 3  # rows of the modality table; row 0 is unused padding

    def __init__(self, width: int, layers: int, heads: int, feedforward: int, dropout: float):
        super().__init__()
        self.position_r = _Positions(width)
        self.position_e = _Positions(width)
        self.modality = nn.Embedding(4, width, padding_idx=0)
        self.dropout = nn.Dropout(dropout)
        layer = nn.TransformerEncoderLayer(width, heads, feedforward, dropout, batch_first=True)
        self.transformer_encoder = nn.TransformerEncoder(layer, layers, enable_nested_tensor=False)

    def forward(self, reference: Tensor, speech: Tensor, expression: Tensor) -> Tensor:
        kind = self.modality.weight
        window = expression.shape[1]
        tokens = torch.cat(
            (
                reference + self.position_r.pe[:, :window] + kind[self.REFERENCE],
                speech + kind[self.SPEECH],
                expression + self.position_e.pe[:, :window] + kind[self.EXPRESSION],
            ),
            dim=1,
        )  # [B, 2T + 1, width]
        return self.transformer_encoder(self.dropout(tokens))


class _SpeechEncoder(nn.Module):
    def __init__(self, speech_dim: int, width: int):
        super().__init__()
        self.proj = nn.Linear(speech_dim, width)
        self.norm = nn.LayerNorm(width)

    def forward(self, speech: Tensor) -> Tensor:
        return self.norm(nn.functional.gelu(self.proj(speech)))


class _Projector(nn.Module):
    def __init__(self, width: int, expression_dim: int):
        super().__init__()
        self.projector = nn.Sequential(
            nn.Linear(width, expression_dim), nn.GELU(), nn.Linear(expression_dim, expression_dim)
        )

    def forward(self, tokens: Tensor) -> Tensor:
        return self.projector(tokens)


class Connector(nn.Module):
    """Predicts the change of expression that goes with a change of voice.

    Args:
        expression_dim: D, numbers that describe the expression of one frame (10 EDTalk codes, 52 coefficients).
        speech_dim: length of the emotion vector (1024 in the emotion2vec+ space).
        width: size of a token; must be `base_channels` x 16, x 32, x 64, ...
        layers, heads, feedforward, dropout: of the transformer.
        base_channels: channels of the first convolution over the codes.

    The defaults are the published sizes.
    """

    def __init__(
        self,
        expression_dim: int = 10,
        *,
        speech_dim: int = 1024,
        width: int = 1024,
        layers: int = 4,
        heads: int = 4,
        feedforward: int = 1024,
        dropout: float = 0.1,
        base_channels: int = 4,
    ):
        super().__init__()
        self.expression_dim = expression_dim
        self.speech_dim = speech_dim
        self.fusion_transformer_encoder = _Fusion(width, layers, heads, feedforward, dropout)
        self.exp_encoder = code_encoder(expression_dim, base_channels, width)
        self.ref_encoder = code_encoder(expression_dim, base_channels, width)
        self.speaker_encoder = _SpeechEncoder(speech_dim, width)
        self.projector = _Projector(width, expression_dim)
        self.Norm = nn.LayerNorm(width)
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.xavier_normal_(module.weight)
                nn.init.zeros_(module.bias)

    def encode_reference(self, reference: Tensor) -> Tensor:
        """Tokens [B, T, width] of the change predicted before, [B, T, D]."""
        return self._encode(self.ref_encoder, reference)

    def encode_expression(self, expression: Tensor) -> Tensor:
        """Tokens [B, T, width] of the expression as it is, [B, T, D]."""
        return self._encode(self.exp_encoder, expression)

    def encode_speech(self, speech: Tensor) -> Tensor:
        """Token [B, 1, width] of the emotion vector [B, 1, speech_dim]."""
        return self.speaker_encoder(speech)

    def fuse(self, reference: Tensor, speech: Tensor, expression: Tensor) -> Tensor:
        """The change of expression [B, T, D] from tokens [B, T, width], [B, 1, width], [B, T, width]."""
        window = expression.shape[1]
        tokens = self.fusion_transformer_encoder(reference, speech, expression)  # [B, 2T + 1, width]
        return self.projector(tokens[:, window + 1 :])  # the expression's own tokens -> [B, T, D]

    def forward(self, reference: Tensor, speech: Tensor, expression: Tensor) -> Tensor:
        """Predict the change of expression of one window.

        Args:
            reference: [B, T, D], the change predicted for the window before; zeros at first.
            speech: [B, 1, speech_dim], the emotion vector (a difference of two pools of speech).
            expression: [B, T, D], the expression as it is.

        Returns:
            [B, T, D], to be added to `expression`.
        """
        return self.fuse(
            self.encode_reference(reference), self.encode_speech(speech), self.encode_expression(expression)
        )

    def _encode(self, encoder: nn.Module, codes: Tensor) -> Tensor:
        batch, window, dim = codes.shape
        if dim != self.expression_dim:
            raise InvalidInput(
                f"The connector works on {self.expression_dim} numbers a frame, but was given {dim}; use the model of that space."
            )
        tokens = encoder(codes.reshape(batch * window, 1, dim)).squeeze(-1)  # [B·T, width]
        return self.Norm(tokens).reshape(batch, window, -1)


def code_deltas(connector: Connector, speech: Codes, codes: Codes) -> Codes:
    """The change of expression of every frame of a track, for one or several emotion vectors.

    Frames go through the connector in windows of `WINDOW`; the reference of a window is the change predicted for the
    frames before it, zeros before the first (the published loop). A track that does not divide evenly ends with a
    window that reaches back over frames already done, so that the network always sees a full window of real frames
    and every frame gets its change. A track shorter than a window is filled up with its last frame.

    Args:
        connector: the network; it runs in evaluation mode and is left in the mode it was in.
        speech: emotion vectors, [speech_dim] or [E, speech_dim]; several run as one batch.
        codes: [N, D], numpy or torch.

    Returns:
        [N, D], or [E, N, D] for several vectors, of the same kind as `codes`.

    Raises:
        InvalidInput: a vector or a frame has the wrong length, or holds a number that is not finite.
    """
    parameter = next(connector.parameters())
    vectors = torch.as_tensor(speech).to(parameter)
    track = torch.as_tensor(codes).to(parameter)
    single = vectors.ndim == 1
    vectors = vectors.reshape(-1, vectors.shape[-1])
    finite = bool(torch.isfinite(vectors).all() and torch.isfinite(track).all())
    check_input(vectors.shape, connector.speech_dim, tuple(track.shape), connector.expression_dim, finite)

    frames, dim = track.shape
    deltas = track.new_zeros(len(vectors), frames, dim)
    if frames:
        with torch.no_grad(), _evaluating(connector):
            _fill_windows(connector, vectors, track, deltas)
    result = deltas[0] if single else deltas
    return result.cpu().numpy() if isinstance(codes, np.ndarray) else result.to(codes)


def _fill_windows(connector: Connector, vectors: Tensor, track: Tensor, deltas: Tensor) -> None:
    """Fill `deltas` [E, N, D] window by window. What does not depend on earlier windows is encoded once."""
    emotions, (frames, dim) = len(vectors), track.shape
    if frames < WINDOW:
        track = torch.cat((track, track[-1:].expand(WINDOW - frames, dim)))
    speech = connector.encode_speech(vectors[:, None])  # [E, 1, width]
    done = 0
    for start in window_starts(len(track)):
        expression = connector.encode_expression(track[None, start : start + WINDOW])  # [1, T, width]
        before = deltas[:, max(0, start - WINDOW) : start]
        reference = torch.cat((before.new_zeros(emotions, WINDOW - before.shape[1], dim), before), dim=1)
        delta = connector.fuse(
            connector.encode_reference(reference), speech, expression.expand(emotions, -1, -1)
        )  # [E, T, D]
        end = min(start + WINDOW, frames)
        deltas[:, done:end] = delta[:, done - start : end - start]
        done = end


def edit_codes(connector: Connector, speech: Codes, codes: Codes) -> Codes:
    """Add the change that goes with an emotion vector to every frame of a track.

    Args:
        connector: the network.
        speech: [speech_dim], the emotion vector.
        codes: [N, D], numpy or torch; every frame is edited.

    Returns:
        [N, D] of the same kind as `codes`.

    Raises:
        InvalidInput: see `code_deltas`.
    """
    return codes + code_deltas(connector, speech, codes)


@contextlib.contextmanager
def _evaluating(module: nn.Module) -> Iterator[None]:
    training = module.training
    module.eval()
    try:
        yield
    finally:
        module.train(training)
