"""emotion2vec+: the speech encoder in whose space C-MET takes differences of emotion.

Ma et al., "emotion2vec: Self-Supervised Pre-Training for Speech Emotion Representation" (arXiv 2312.15185): the audio
half of data2vec 2.0 (Baevski et al. 2022) without its training-only decoder. Sizes and parameter names are those of
the published emotion2vec+ large file; the class is a `transformers` model, so `from_pretrained` and `save_pretrained`
read and write folders that the hub's tools understand.
"""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import AutoConfig, AutoModel, PretrainedConfig, PreTrainedModel

from cmet_engine.emotion.acoustics import RATE, to_rate
from cmet_engine.errors import InvalidInput
from cmet_engine.models import store
from cmet_engine.models.device import resolve

LABELS = "angry disgusted fearful happy neutral other sad surprised unknown".split()
MIN_SAMPLES = 400  # one frame of features
_FRAME_RATE = 50  # features a second: strides of 320 samples
_QUERY_BLOCK = 1024  # frames whose attention is computed at a time: memory grows with length, not with its square


class Emotion2vecConfig(PretrainedConfig):
    """Sizes of the network; the defaults are emotion2vec+ large (313 M parameters).

    Args:
        embed_dim: E, size of a frame's feature.
        num_heads: attention heads.
        depth, prenet_depth: transformer blocks after and inside the audio encoder; all are alike.
        mlp_ratio: hidden size of a block's feed-forward part in units of `embed_dim`.
        extra_tokens: learned tokens in front of the frames; dropped from the output.
        conv_layers: (channels, kernel, stride) of the convolutions on the wave.
        position_depth, position_width, position_groups: of the convolutional position encoding.
        labels: names of the classes of the classification head; empty leaves the head out.
    """

    model_type = "emotion2vec"
    attribute_map = {"hidden_size": "embed_dim", "num_attention_heads": "num_heads", "num_hidden_layers": "depth"}  # noqa: RUF012 (transformers' own way)

    def __init__(
        self,
        embed_dim: int = 1024,
        num_heads: int = 16,
        depth: int = 16,
        prenet_depth: int = 8,
        mlp_ratio: float = 4.0,
        norm_eps: float = 1e-5,
        extra_tokens: int = 10,
        conv_layers: tuple[tuple[int, int, int], ...] = (
            (512, 10, 5),
            *(((512, 3, 2),) * 4),
            (512, 2, 2),
            (512, 2, 2),
        ),
        position_depth: int = 5,
        position_width: int = 95,
        position_groups: int = 16,
        labels: tuple[str, ...] = tuple(LABELS),
        **kwargs: Any,
    ):
        self.embed_dim = embed_dim
        self.num_heads = num_heads
        self.depth = depth
        self.prenet_depth = prenet_depth
        self.mlp_ratio = mlp_ratio
        self.norm_eps = norm_eps
        self.extra_tokens = extra_tokens
        self.conv_layers = [list(layer) for layer in conv_layers]
        self.position_depth = position_depth
        self.position_width = position_width
        self.position_groups = position_groups
        self.labels = list(labels)
        super().__init__(**kwargs)


class _Transpose(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.transpose(1, 2)


class _Attention(nn.Module):
    def __init__(self, dim: int, heads: int):
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(dim, 3 * dim)
        self.proj = nn.Linear(dim, dim)

    def forward(self, x: Tensor, slopes: Tensor, extra: int) -> Tensor:
        batch, tokens, dim = x.shape
        qkv = self.qkv(x).view(batch, tokens, 3, self.heads, dim // self.heads)
        query, key, value = qkv.permute(2, 0, 3, 1, 4).unbind(0)  # each [B, H, N, E/H]
        blocks = []
        for start in range(0, tokens, _QUERY_BLOCK):
            rows = query[:, :, start : start + _QUERY_BLOCK]
            bias = _distance_bias(start, rows.shape[2], tokens, extra, slopes)
            blocks.append(F.scaled_dot_product_attention(rows, key, value, attn_mask=bias))
        return self.proj(torch.cat(blocks, dim=2).transpose(1, 2).reshape(batch, tokens, dim))


def _distance_bias(start: int, rows: int, tokens: int, extra: int, slopes: Tensor) -> Tensor:
    """ALiBi (Press et al. 2022), symmetric: -slope x distance in frames; 0 where an extra token takes part.

    Rows `start` to `start + rows` of the [H, N, N] bias, as [1, H, rows, N].
    """
    place = torch.arange(tokens, device=slopes.device, dtype=slopes.dtype)
    query = place[start : start + rows, None]
    distance = (query - place).abs() * ((query >= extra) & (place >= extra))
    return -slopes.view(1, -1, 1, 1) * distance


class _FeedForward(nn.Module):
    def __init__(self, dim: int, hidden: int):
        super().__init__()
        self.fc1 = nn.Linear(dim, hidden)
        self.fc2 = nn.Linear(hidden, dim)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(F.gelu(self.fc1(x)))


class _Block(nn.Module):
    """Transformer block, normalised after each of its two residuals."""

    def __init__(self, config: Emotion2vecConfig):
        super().__init__()
        dim = config.embed_dim
        self.norm1 = nn.LayerNorm(dim, config.norm_eps)
        self.attn = _Attention(dim, config.num_heads)
        self.norm2 = nn.LayerNorm(dim, config.norm_eps)
        self.mlp = _FeedForward(dim, int(dim * config.mlp_ratio))

    def forward(self, x: Tensor, slopes: Tensor, extra: int) -> Tensor:
        x = self.norm1(x + self.attn(x, slopes, extra))
        return self.norm2(x + self.mlp(x))


class _WaveEncoder(nn.Module):
    """Strided convolutions: [B, S] samples -> [B, C, F], about 50 frames a second."""

    def __init__(self, config: Emotion2vecConfig):
        super().__init__()
        self.conv_layers = nn.ModuleList()
        channels_in = 1
        for channels, kernel, stride in config.conv_layers:
            self.conv_layers.append(
                nn.Sequential(
                    nn.Conv1d(channels_in, channels, kernel, stride, bias=False),
                    nn.Identity(),  # dropout in the published file; keeps the numbering of what follows
                    nn.Sequential(_Transpose(), nn.LayerNorm(channels), _Transpose()),
                    nn.GELU(),
                )
            )
            channels_in = channels

    def forward(self, wave: Tensor) -> Tensor:
        x = wave[:, None]
        for layer in self.conv_layers:
            x = layer(x)
        return x


class _PositionLayer(nn.Sequential):
    def __init__(self, config: Emotion2vecConfig):
        kernel = max(3, config.position_width // config.position_depth)
        super().__init__(
            nn.Conv1d(config.embed_dim, config.embed_dim, kernel, padding=kernel // 2, groups=config.position_groups),
            _Transpose(),
            nn.LayerNorm(config.embed_dim, elementwise_affine=False),
            _Transpose(),
            nn.GELU(),
        )

    def forward(self, x: Tensor) -> Tensor:  # [B, E, F]; an even kernel would give one frame too many
        return super().forward(x)[..., : x.shape[-1]]


class _Context(nn.Module):
    def __init__(self, config: Emotion2vecConfig):
        super().__init__()
        self.blocks = nn.ModuleList(_Block(config) for _ in range(config.prenet_depth))
        self.norm = nn.LayerNorm(config.embed_dim, config.norm_eps)


class _AudioEncoder(nn.Module):
    def __init__(self, config: Emotion2vecConfig):
        super().__init__()
        channels = config.conv_layers[-1][0]
        self.extra_tokens = nn.Parameter(torch.zeros(1, config.extra_tokens, config.embed_dim))
        self.alibi_scale = nn.Parameter(torch.ones(1, 1, config.num_heads, 1, 1))
        self.local_encoder = _WaveEncoder(config)
        self.project_features = nn.Sequential(
            _Transpose(), nn.LayerNorm(channels), nn.Linear(channels, config.embed_dim)
        )
        positions = [_PositionLayer(config) for _ in range(config.position_depth)]
        self.relative_positional_encoder = nn.Sequential(_Transpose(), *positions, _Transpose())
        self.context_encoder = _Context(config)


class Emotion2vec(PreTrainedModel):
    """The speech encoder that C-MET's emotion vectors live in.

    Args:
        config: sizes, as `Emotion2vecConfig` or a mapping of its arguments; None for emotion2vec+ large.
    """

    config_class = Emotion2vecConfig
    base_model_prefix = ""
    main_input_name = "wave"
    _supports_sdpa = True

    def __init__(self, config: Emotion2vecConfig | Mapping[str, Any] | None = None):
        if not isinstance(config, PretrainedConfig):
            config = Emotion2vecConfig(**(config or {}))
        super().__init__(config)
        self.modality_encoders = nn.ModuleDict({"AUDIO": _AudioEncoder(config)})
        self.blocks = nn.ModuleList(_Block(config) for _ in range(config.depth))
        self.proj = nn.Linear(config.embed_dim, len(config.labels)) if config.labels else None
        self.post_init()

    def _init_weights(self, module: nn.Module) -> None:
        if isinstance(module, nn.Linear):
            nn.init.trunc_normal_(module.weight, std=0.02)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
        elif isinstance(module, nn.Conv1d):
            nn.init.kaiming_normal_(module.weight)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
        elif isinstance(module, nn.LayerNorm) and module.elementwise_affine:
            nn.init.ones_(module.weight)
            nn.init.zeros_(module.bias)
        elif isinstance(module, _AudioEncoder):
            nn.init.ones_(module.alibi_scale)
            nn.init.zeros_(module.extra_tokens)

    def frames(self, wave: Tensor) -> Tensor:
        """Features of every frame, 50 a second.

        Args:
            wave: [B, S] samples at 16 kHz of any loudness; each row is brought to zero mean and unit variance first.

        Returns:
            [B, F, E].

        Raises:
            InvalidInput: the wave is shorter than one frame (25 ms) or not [B, S].
        """
        if wave.ndim != 2 or wave.shape[1] < MIN_SAMPLES:
            raise InvalidInput(
                f"emotion2vec takes [B, S] samples at {RATE} Hz, at least {MIN_SAMPLES} of them, but got {tuple(wave.shape)}."
            )
        encoder: Any = self.modality_encoders["AUDIO"]
        wave = F.layer_norm(wave, wave.shape[1:]).to(encoder.extra_tokens.dtype)
        x = encoder.project_features(encoder.local_encoder(wave))  # [B, F, E]
        x = x + encoder.relative_positional_encoder(x)
        extra = encoder.extra_tokens.shape[1]
        x = torch.cat((encoder.extra_tokens.expand(len(x), -1, -1), x), dim=1)
        slopes = self._slopes(x) * encoder.alibi_scale.flatten().clamp_min(0)
        x = encoder.context_encoder.norm(x)
        for block in (*encoder.context_encoder.blocks, *self.blocks):
            x = block(x, slopes, extra)
        return x[:, extra:]

    def utterance(self, wave: Tensor) -> Tensor:
        """One feature for each whole wave: [B, S] -> [B, E], the mean over its frames."""
        return self.frames(wave).mean(dim=1)

    def forward(self, wave: Tensor) -> Tensor:
        """Scores of the classes before the softmax: [B, S] -> [B, labels], in the order of `config.labels`."""
        if self.proj is None:
            raise InvalidInput("This emotion2vec model has no classification head; use frames() or utterance().")
        return self.proj(self.utterance(wave))

    def _slopes(self, like: Tensor) -> Tensor:
        """ALiBi's slopes [H]: 2^(-8/H), its square, ...; for other counts, of the powers of two around H."""

        def powers(heads: int) -> list[float]:
            return [2 ** (-8 * (i + 1) / heads) for i in range(heads)]

        heads = self.config.num_heads
        below = 2 ** int(math.log2(heads))
        slopes = powers(below) + powers(2 * below)[0::2][: heads - below]
        return torch.tensor(slopes, dtype=like.dtype, device=like.device)


AutoConfig.register(Emotion2vecConfig.model_type, Emotion2vecConfig)
AutoModel.register(Emotion2vecConfig, Emotion2vec)


class PublishedEncoder:
    """emotion2vec+ large with its published weights, numpy in and numpy out, like `emotion.speech.Encoder`.

    Args:
        model: the network; None loads the published weights.
        device: see `models.device.resolve`.

    Raises:
        CmetError: the weights are missing or damaged, or the device is not on this machine.
    """

    def __init__(self, model: Emotion2vec | None = None, *, device: str = "cpu") -> None:
        if model is None:
            model = store.load("emotion2vec_plus_large", Emotion2vec)
        self.device = torch.device(resolve(device))
        self.model: Any = model.eval().to(self.device)

    def utterance(self, wave: np.ndarray, rate: int) -> np.ndarray:
        """Where a recording lies in the emotion2vec+ space.

        Args:
            wave: float [S] in [-1, 1], mono.
            rate: samples a second; other than 16000 is resampled.

        Returns:
            float32 [E].

        Raises:
            InvalidInput: the wave is too short.
        """
        return self._frames(wave, rate).mean(axis=0)

    def frames(self, wave: np.ndarray, rate: int) -> tuple[np.ndarray, np.ndarray]:
        """Times float64 [F] in seconds and features float32 [F, E], 50 a second; see `utterance`."""
        features = self._frames(wave, rate)
        return np.arange(len(features)) / _FRAME_RATE, features

    def _frames(self, wave: np.ndarray, rate: int) -> np.ndarray:
        wave = to_rate(wave, rate)
        with torch.inference_mode():
            return self.model.frames(torch.from_numpy(wave[None]).to(self.device))[0].float().cpu().numpy()
