"""The frozen feature extractor of the speech encoder: lower layers of two published networks.

Whisper's encoder (Radford et al. 2022) was trained to transcribe 680,000 hours of speech. Of its smallest model, as Smart
Turn v3.2 fine-tuned it, this uses the two convolutions, the first layer and the attention of the second. The speaker
encoder of Wan et al. 2018 (as Resemblyzer trained it) tells speakers apart; two of its three recurrent layers are used.
Deeper layers of either know more of words and speakers and less of how something is said. The weights are the published
ones under their published names; what is built on them is trained by the project.
"""

import functools
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch import nn

from cmet_engine.emotion.acoustics import AUDIBLE, HOP, WINDOW
from cmet_engine.emotion.mel import mel_filters
from cmet_engine.emotion.predictions import ENCODER_FILES
from cmet_engine.files import whole_file
from cmet_engine.models import assets
from cmet_engine.models.quantisation import pack, read

EMBEDDED = ENCODER_FILES[1]
FORMAT = "cmet-speech-backbone/1"
WIDTH, HEADS, INNER = 384, 6, 1536  # of Whisper tiny
SPEAKER_WIDTH = 256  # of the recurrent layers
STEPS = 400  # of 20 ms, for which position embeddings are stored
WHISPER_BANDS, SPEAKER_BANDS = 80, 40
STATISTICS = 2 * (WIDTH + SPEAKER_WIDTH)  # length of `BackboneFeatures.summary`
SPEAKER_MEAN = slice(2 * WIDTH, 2 * WIDTH + SPEAKER_WIDTH)  # the part of it that identifies the speaker best
_FEW = 5  # steps of a network; a segment with fewer spoken ones is averaged as a whole
LOUD = 0.063  # root mean square that the clip's loud frames are scaled to: those of speech whose mean level is -30 dBFS


def _filters(bands: int) -> torch.Tensor:
    """Filters of equal area on Slaney's mel scale, which both networks were trained with: float32 [bands, 201]."""
    return mel_filters(bands, WINDOW)


class BackboneFeatures(NamedTuple):
    """What the backbone extracts from a segment of speech."""

    whisper: torch.Tensor  # [T, 384], every 20 ms
    speaker: torch.Tensor  # [F, 256], of the speaker encoder, every 10 ms
    spoken: torch.Tensor  # bool [F], loud enough to be speech

    def summary(self) -> np.ndarray:
        """Mean and standard deviation of both over the spoken frames, or over all where hardly any is spoken: float32 [1280]."""
        parts = []
        for values, spoken in self._tracks():
            values = values[spoken] if spoken.sum() >= _FEW else values
            parts += [values.mean(0), values.std(0, correction=0)]
        return torch.cat(parts).cpu().numpy()

    def summaries(self, first: np.ndarray, last: np.ndarray) -> np.ndarray:
        """`summary` of windows that begin and end at these frames of 10 ms, int [N]: float32 [N, 1280]."""
        parts = []
        for step, (values, spoken) in zip((2, 1), self._tracks(), strict=True):
            count = len(values)
            start = torch.from_numpy(np.minimum(first // step, count - 1)).to(values.device)
            stop = torch.from_numpy(np.minimum(-(-last // step), count)).to(values.device)
            stop = torch.maximum(stop, start + 1)
            both = torch.cat([values, values.square()], 1).double()
            sums = []
            for weight in (spoken.double(), torch.ones(count, dtype=torch.float64, device=values.device)):
                total = F.pad((torch.cat([both, both.new_ones(count, 1)], 1) * weight[:, None]).cumsum(0), (0, 0, 1, 0))
                sums.append(total[stop] - total[start])
            voiced, whole = sums
            chosen = torch.where(voiced[:, -1:] < _FEW, whole, voiced)
            mean, square = (chosen[:, :-1] / chosen[:, -1:]).chunk(2, 1)
            parts += [mean, (square - mean.square()).clamp(min=0).sqrt()]
        return torch.cat(parts, 1).float().cpu().numpy()

    def _tracks(self) -> tuple[tuple[torch.Tensor, torch.Tensor], tuple[torch.Tensor, torch.Tensor]]:
        """The features of either network, and which of its steps are spoken."""
        pairs = F.pad(self.spoken, (0, len(self.spoken) % 2)).unflatten(0, (-1, 2)).any(1)[: len(self.whisper)]
        return (self.whisper, pairs), (self.speaker, self.spoken)


class _Layer(nn.Module):
    """A layer of Whisper's encoder, or its attention alone; the names are those of the published weights."""

    def __init__(self, whole: bool) -> None:
        super().__init__()
        self.self_attn = nn.ModuleDict(
            {
                name: nn.Linear(WIDTH, WIDTH, bias=name != "k_proj")
                for name in ("q_proj", "k_proj", "v_proj", "out_proj")
            }
        )
        self.self_attn_layer_norm = nn.LayerNorm(WIDTH)
        self.whole = whole
        if whole:
            self.fc1, self.fc2 = nn.Linear(WIDTH, INNER), nn.Linear(INNER, WIDTH)
            self.final_layer_norm = nn.LayerNorm(WIDTH)

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        """[B, T, 384] -> [B, T, 384]."""
        normed = self.self_attn_layer_norm(hidden)
        query, key, value = (
            self.self_attn[name](normed).unflatten(2, (HEADS, -1)).transpose(1, 2)
            for name in ("q_proj", "k_proj", "v_proj")
        )
        mixed = F.scaled_dot_product_attention(query, key, value)
        hidden = hidden + self.self_attn["out_proj"](mixed.transpose(1, 2).flatten(2))
        if self.whole:
            hidden = hidden + self.fc2(F.gelu(self.fc1(self.final_layer_norm(hidden))))
        return hidden


class Backbone(nn.Module):
    """Both networks, from the wave to their features; their weights are loaded, not trained."""

    whisper_filters: torch.Tensor
    speaker_filters: torch.Tensor
    window: torch.Tensor
    encoder: Any  # its names are those of the published weights

    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.Module()
        self.encoder.conv1 = nn.Conv1d(WHISPER_BANDS, WIDTH, 3, padding=1)
        self.encoder.conv2 = nn.Conv1d(WIDTH, WIDTH, 3, stride=2, padding=1)
        self.encoder.embed_positions = nn.Embedding(STEPS, WIDTH)
        self.encoder.layers = nn.ModuleList([_Layer(True), _Layer(False)])
        self.lstm = nn.LSTM(SPEAKER_BANDS, SPEAKER_WIDTH, 2, batch_first=True)
        self.register_buffer("whisper_filters", _filters(WHISPER_BANDS), persistent=False)
        self.register_buffer("speaker_filters", _filters(SPEAKER_BANDS), persistent=False)
        self.register_buffer("window", torch.hann_window(WINDOW), persistent=False)

    @torch.inference_mode()
    def forward(self, waves: torch.Tensor) -> list[BackboneFeatures]:
        """Features of waves, float32 [B, S] at 16 kHz, of at most 8 s each; gain does not matter.

        Raises:
            ValueError: they are longer.
        """
        if waves.shape[1] > STEPS * 2 * HOP:
            raise ValueError(f"{waves.shape[1]} samples are more than {STEPS * 2 * HOP}")
        waves = F.pad(waves - waves.mean(1, keepdim=True), (0, max(0, 2 * WINDOW - waves.shape[1])))
        spectrum = torch.stft(waves, WINDOW, HOP, window=self.window, return_complex=True)[:, :, :-1]
        power = spectrum.real.square() + spectrum.imag.square()  # [B, 201, F]
        energy = power.sum(1)  # [B, F]
        loud = torch.quantile(energy, 0.95, dim=1, keepdim=True).clamp(min=1e-8)
        # by Parseval the mean square of a frame is twice its one-sided power over the window's own and the transform's length
        power = power * (LOUD**2 * WINDOW * float(self.window.square().sum()) / 2 / loud[:, :, None])
        mel = (self.whisper_filters @ power * (2 / LOUD) ** 2).clamp(min=1e-10).log10()
        mel = (torch.maximum(mel, mel.amax((1, 2), keepdim=True) - 8) + 4) / 4
        hidden = F.gelu(self.encoder.conv1(mel))
        hidden = F.gelu(self.encoder.conv2(hidden)).transpose(1, 2)  # [B, T, 384]
        hidden = hidden + self.encoder.embed_positions.weight[: hidden.shape[1]]
        for layer in self.encoder.layers:
            hidden = layer(hidden)
        speaker = self.lstm((self.speaker_filters @ power).transpose(1, 2))[0]  # [B, F, 256]
        spoken = (energy / loud).clamp(min=1e-30).log() > AUDIBLE
        return [BackboneFeatures(*one) for one in zip(hidden, speaker, spoken, strict=True)]


def save_backbone(state: dict[str, torch.Tensor], path: str | Path, sources: dict[str, str]) -> None:
    """Write published weights, float32 by their published names: Whisper's matrices as int8 by row, all else as float16.

    Args:
        state: every weight of `Backbone`.
        path: what to write.
        sources: where the weights come from; stored in the file.
    """
    packed: dict[str, torch.Tensor] = {}
    for name, value in state.items():
        int8 = name.startswith("encoder.") and value.dim() > 1 and "positions" not in name
        packed |= pack(name, value) if int8 else {name: value.half().contiguous()}
    with whole_file(path, force=True) as temporary:
        save_file(packed, temporary, {"format": FORMAT, **sources})


def read_backbone(path: str | Path) -> Backbone:
    """Read what `save_backbone` wrote.

    Raises:
        CmetError: the file is missing, damaged, or no such weights.
    """
    what = "the backbone of the speech encoder"
    stored, _ = read(Path(path), FORMAT, what, f"does not hold {what}")
    backbone = Backbone()
    backbone.load_state_dict(stored, strict=True)
    return backbone.eval().requires_grad_(False)


@functools.cache
def load_backbone(device: str) -> Backbone:
    """The embedded backbone on `device`, its checksum compared; loaded once."""
    return read_backbone(assets.asset(EMBEDDED)).to(device)
