"""Audio2Lip: EDTalk's lip codes from sound.

The convolutions on the mel spectrogram are those of Wav2Lip's audio encoder (Prajwal et al. 2020); a linear layer maps
them to the lip codes of `Generator` (Tan et al. 2024).
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

# (channels out, kernel, stride, padding); a layer that keeps channels and size adds its input
_LAYERS = (
    (32, 3, (1, 1), 1),
    (32, 3, (1, 1), 1),
    (32, 3, (1, 1), 1),
    (64, 3, (3, 1), 1),
    (64, 3, (1, 1), 1),
    (64, 3, (1, 1), 1),
    (128, 3, (3, 3), 1),
    (128, 3, (1, 1), 1),
    (128, 3, (1, 1), 1),
    (256, 3, (3, 2), 1),
    (256, 3, (1, 1), 1),
    (512, 3, (1, 1), 0),
    (512, 1, (1, 1), 0),
)


class _ConvBlock(nn.Module):
    def __init__(self, channels_in: int, channels_out: int, kernel: int, stride: tuple[int, int], padding: int):
        super().__init__()
        self.conv_block = nn.Sequential(
            nn.Conv2d(channels_in, channels_out, kernel, stride, padding), nn.BatchNorm2d(channels_out)
        )
        self.residual = channels_in == channels_out and stride == (1, 1) and kernel == 3

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv_block(x)
        return F.relu(y + x if self.residual else y)


class Audio2Lip(nn.Module):
    """Mel windows -> lip codes."""

    def __init__(self) -> None:
        super().__init__()
        blocks = []
        channels = 1
        for channels_out, kernel, stride, padding in _LAYERS:
            blocks.append(_ConvBlock(channels, channels_out, kernel, stride, padding))
            channels = channels_out
        self.audio_encoder = nn.Sequential(*blocks)
        self.mapping = nn.Linear(channels, 20)

    def forward(self, mel: Tensor) -> Tensor:
        """[B, 1, 80, 16] windows from `cmet_engine.media.audio.lip_mel` -> lip codes [B, 20]."""
        return self.mapping(self.audio_encoder(mel).flatten(1))


def smooth(codes: Tensor) -> Tensor:
    """Smooth lip codes over time as the published pipeline does: [N, 20] -> [N, 20].

    Three taps of a Gaussian with a sigma of one frame, zeros before the first and after the last frame.
    """
    taps = torch.exp(-0.5 * torch.tensor([1.0, 0.0, 1.0], dtype=torch.float64))
    taps = (taps / taps.sum()).to(codes)
    padded = F.pad(codes, (0, 0, 1, 1))
    return taps[0] * padded[:-2] + taps[1] * padded[1:-1] + taps[2] * padded[2:]
