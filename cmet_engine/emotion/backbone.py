"""The frozen feature extractor of the speech encoder: lower layers of two published networks.

Whisper's encoder (Radford et al. 2022) was trained to transcribe 680,000 hours of speech. Of its smallest model, as Smart
Turn v3.2 fine-tuned it, this uses the two convolutions, the first layer and the attention of the second. The speaker
encoder of Wan et al. 2018 (as Resemblyzer trained it) tells speakers apart; two of its three recurrent layers are used.
Deeper layers of either know more of words and speakers and less of how something is said. The weights are the published
ones under their published names; what is built on them is trained by the project.
"""

import functools
import itertools
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from safetensors.numpy import save_file

from cmet_engine.emotion.acoustics import AUDIBLE, HOP, WINDOW, hann
from cmet_engine.emotion.mel import mel_filters
from cmet_engine.emotion.predictions import ENCODER_FILES
from cmet_engine.files import whole_file
from cmet_engine.models import assets
from cmet_engine.models.layers import Weights, attention, convolution, gelu, layer_norm, linear, lstm
from cmet_engine.models.quantisation import pack, read

EMBEDDED = ENCODER_FILES[1]
FORMAT = "cmet-speech-backbone/1"
WIDTH, HEADS = 384, 6  # of Whisper tiny
SPEAKER_WIDTH = 256  # of the recurrent layers
STEPS = 400  # of 20 ms, for which position embeddings are stored
WHISPER_BANDS, SPEAKER_BANDS = 80, 40
STATISTICS = 2 * (WIDTH + SPEAKER_WIDTH)  # length of `BackboneFeatures.summary`
SPEAKER_MEAN = slice(2 * WIDTH, 2 * WIDTH + SPEAKER_WIDTH)  # the part of it that identifies the speaker best
_BATCH = 8  # waves that go through the recurrent layers together: their steps wait for each other
_FEW = 5  # steps of a network; a segment with fewer spoken ones is averaged as a whole
LOUD = 0.063  # root mean square that the clip's loud frames are scaled to: those of speech whose mean level is -30 dBFS


class BackboneFeatures(NamedTuple):
    """What the backbone extracts from a segment of speech."""

    whisper: np.ndarray  # [T, 384], every 20 ms
    speaker: np.ndarray  # [F, 256], of the speaker encoder, every 10 ms
    spoken: np.ndarray  # bool [F], loud enough to be speech

    def summary(self) -> np.ndarray:
        """Mean and standard deviation of both over the spoken frames, or over all where hardly any is spoken: float32 [1280]."""
        parts = []
        for values, spoken in self._tracks():
            values = values[spoken] if spoken.sum() >= _FEW else values
            parts += [values.mean(0), values.std(0)]
        return np.concatenate(parts)

    def summaries(self, first: np.ndarray, last: np.ndarray) -> np.ndarray:
        """`summary` of windows that begin and end at these frames of 10 ms, int [N]: float32 [N, 1280]."""
        parts = []
        for step, (values, spoken) in zip((2, 1), self._tracks(), strict=True):
            count = len(values)
            start = np.minimum(first // step, count - 1)
            stop = np.maximum(np.minimum(-(-last // step), count), start + 1)
            both = np.concatenate([values, np.square(values), np.ones((count, 1))], 1)  # float64
            sums = []
            for weight in (spoken, np.ones(count)):
                total = np.pad((both * weight[:, None]).cumsum(0), ((1, 0), (0, 0)))
                sums.append(total[stop] - total[start])
            voiced, whole = sums
            chosen = np.where(voiced[:, -1:] < _FEW, whole, voiced)
            mean, square = np.split(chosen[:, :-1] / chosen[:, -1:], 2, 1)
            parts += [mean, np.sqrt(np.maximum(square - np.square(mean), 0))]
        return np.concatenate(parts, 1).astype(np.float32)

    def _tracks(self) -> tuple[tuple[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]:
        """The features of either network, and which of its steps are spoken."""
        pairs = np.pad(self.spoken, (0, len(self.spoken) % 2)).reshape(-1, 2).any(1)[: len(self.whisper)]
        return (self.whisper, pairs), (self.speaker, self.spoken)


class Backbone:
    """Both networks, from the wave to their features.

    Args:
        weights: float32, by their published names.
    """

    def __init__(self, weights: Weights) -> None:
        self.weights = weights
        self._whisper_filters = mel_filters(WHISPER_BANDS, WINDOW)  # filters of equal area on Slaney's mel scale,
        self._speaker_filters = mel_filters(SPEAKER_BANDS, WINDOW)  # which both networks were trained with
        self._window = hann(WINDOW)

    def __call__(self, waves: Iterable[np.ndarray]) -> Iterator[BackboneFeatures]:
        """Features of waves, float32 [S] at 16 kHz, of at most 8 s each, one after the other; gain does not matter.

        Raises:
            ValueError: they are longer.
        """
        waves = iter(waves)
        while some := list(itertools.islice(waves, _BATCH)):
            powers, spoken = zip(*(self.levelled(wave) for wave in some), strict=True)
            bands = np.zeros((len(some), max(map(len, powers)), SPEAKER_BANDS), np.float32)
            for row, power in zip(bands, powers, strict=True):
                row[: len(power)] = power @ self._speaker_filters.T
            # [B, F, 256]; what is behind the end of a wave changes nothing before it
            speaker = lstm(self.weights, "lstm", 2, bands)
            for power, row, loud in zip(powers, speaker, spoken, strict=True):
                yield BackboneFeatures(self.whisper(self._log_mel(power)), row[: len(power)].copy(), loud)

    def levelled(self, wave: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Power spectra float32 [F, 201] of a wave [S] with its loud frames at one level, and which frames are spoken, bool [F].

        Raises:
            ValueError: the wave is longer than 8 s.
        """
        if len(wave) > STEPS * 2 * HOP:
            raise ValueError(f"{len(wave)} samples are more than {STEPS * 2 * HOP}")
        wave = np.pad(wave - wave.mean(), (0, max(0, 2 * WINDOW - len(wave))))
        around = np.pad(wave, WINDOW // 2, mode="reflect")
        spectrum = np.fft.rfft(sliding_window_view(around, WINDOW)[::HOP][:-1] * self._window)
        power = np.square(spectrum.real) + np.square(spectrum.imag)  # [F, 201]
        energy = power.sum(1)  # [F]
        loud = max(float(np.quantile(energy, 0.95)), 1e-8)
        # by Parseval the mean square of a frame is twice its one-sided power over the window's own and the transform's length
        power *= LOUD**2 * WINDOW * float(np.square(self._window).sum()) / 2 / loud
        return power.astype(np.float32), np.log(np.maximum(energy / loud, 1e-30)) > AUDIBLE

    def _log_mel(self, power: np.ndarray) -> np.ndarray:
        """The input of `whisper` for power spectra [F, 201]."""
        mel = np.log10(np.maximum(power @ self._whisper_filters.T * np.float32((2 / LOUD) ** 2), 1e-10))
        return (np.maximum(mel, mel.max() - 8) + 4) / 4

    def whisper(self, mel: np.ndarray) -> np.ndarray:
        """What Whisper's lower layers make of log-mel bands [F, 80], every 20 ms: [T, 384]."""
        weights = self.weights
        hidden = gelu(convolution(weights, "encoder.conv1", mel[None], padding=1))
        hidden = gelu(convolution(weights, "encoder.conv2", hidden, stride=2, padding=1))
        hidden = hidden + weights["encoder.embed_positions.weight"][: hidden.shape[1]]
        hidden = hidden + self._attended(0, hidden)
        inner = layer_norm(weights, "encoder.layers.0.final_layer_norm", hidden)
        inner = gelu(linear(weights, "encoder.layers.0.fc1", inner))
        hidden = hidden + linear(weights, "encoder.layers.0.fc2", inner)
        return (hidden + self._attended(1, hidden))[0]

    def _attended(self, layer: int, hidden: np.ndarray) -> np.ndarray:
        """What the attention of a layer adds to [1, T, 384]."""
        name = f"encoder.layers.{layer}.self_attn"
        normed = layer_norm(self.weights, f"{name}_layer_norm", hidden)
        given = (linear(self.weights, f"{name}.{part}_proj", normed) for part in "qkv")
        return linear(self.weights, f"{name}.out_proj", attention(given, HEADS))


def save_backbone(weights: Weights, path: str | Path, sources: dict[str, str]) -> None:
    """Write published weights, float32 by their published names: Whisper's matrices as int8 by row, all else as float16.

    Args:
        weights: of `Backbone`.
        path: what to write.
        sources: where the weights come from; stored in the file.
    """
    packed: Weights = {}
    for name, value in weights.items():
        int8 = name.startswith("encoder.") and value.ndim > 1 and "positions" not in name
        packed |= pack(name, value) if int8 else {name: value.astype(np.float16)}
    with whole_file(path, force=True) as temporary:
        save_file(packed, temporary, {"format": FORMAT, **sources})


def read_backbone(path: str | Path) -> Backbone:
    """Read what `save_backbone` wrote.

    Raises:
        CmetError: the file is missing, damaged, or no such weights.
    """
    what = "the backbone of the speech encoder"
    return Backbone(read(Path(path), FORMAT, what, f"does not hold {what}")[0])


@functools.cache
def load_backbone() -> Backbone:
    """The embedded backbone, its checksum compared; loaded once."""
    return read_backbone(assets.asset(EMBEDDED))
