"""The published networks on a device: crops to codes, codes to crops, in batches that the memory holds."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from cmet_engine import cache
from cmet_engine.emotion.connector import Connector
from cmet_engine.models import registry, store
from cmet_engine.render.batches import BatchRunner
from cmet_engine.render.edtalk.audio2lip import Audio2Lip
from cmet_engine.render.edtalk.generator import Generator, Source

BATCH = {"cpu": 4, "mps": 4, "cuda": 32}
"""Frames at a time, by kind of device."""


@dataclass
class Networks:
    """The published networks that the renderer works with.

    Attributes:
        generator: EDTalk.
        connector: C-MET's, 10 codes; None where the expression comes from a draft.
        audio2lip: sound to lip codes; None where lips come from the clip.
        identity: checksum of the generator's weights; None for weights that come from no file.
    """

    generator: Generator
    connector: Connector | None
    audio2lip: Audio2Lip | None = None
    identity: str | None = None

    @classmethod
    def load(cls, *, voice: bool, connector: bool = True) -> "Networks":
        """The published weights of this machine.

        Args:
            voice: lip codes are to be computed from sound.
            connector: the expression is to be computed from an emotion.

        Raises:
            CmetError: weights are missing or damaged; the sentence says what to do.
        """
        generator = store.load("edtalk_generator", Generator)
        change = store.load("connector", Connector) if connector else None
        audio2lip = store.load("audio2lip", Audio2Lip) if voice else None
        return cls(generator, change, audio2lip, cache.content(registry.path_of("edtalk_generator")))

    def to(self, device: str) -> "Networks":
        """Move the networks to a device; returns itself."""
        with torch.inference_mode(False):  # weights moved within inference mode lose their version counters
            for network in (self.generator, self.connector, self.audio2lip):
                if network is not None:
                    network.to(device)
        return self


@dataclass
class Codes:
    """EDTalk's latent codes of N frames.

    Attributes:
        expression: float32 [N, 10].
        pose: float32 [N, 6].
        lip: float32 [N, 20].
    """

    expression: np.ndarray
    pose: np.ndarray
    lip: np.ndarray


class NetworkRunner(BatchRunner):
    """Runs the generator in batches on a device, in half precision on a CUDA GPU; see `BatchRunner`."""

    def __init__(self, networks: Networks, device: str, batch: int | None, warn: Callable[[str], None]):
        self.networks = networks
        super().__init__(networks, device, batch, BATCH, warn)

    @property
    def precision(self) -> torch.dtype:
        """What feature maps are computed in."""
        return torch.float16 if self.device.startswith("cuda") else torch.float32

    def encode(self, images: Sequence[np.ndarray]) -> Codes:
        """Codes of crops uint8 [256, 256, 3]."""

        def work(part: slice) -> tuple[np.ndarray, ...]:
            pixels = _pixels(images[part], self.device).to(self.precision)
            return tuple(_numpy(value) for value in self.networks.generator.codes(pixels))

        expression, pose, lip = self.in_batches(len(images), work)
        return Codes(expression, pose, lip)

    def encode_source(self, image: np.ndarray) -> Source:
        """Feature maps of the crop uint8 [256, 256, 3] whose appearance the decoded frames keep."""

        def work(part: slice) -> tuple[Source]:
            del part
            return (self.networks.generator.source(_pixels([image], self.device)),)

        with torch.inference_mode():
            return self.guarded(work, slice(0, 1))[0].to(self.precision)

    def decode(self, source: Source, lip: np.ndarray, pose: np.ndarray, expression: np.ndarray) -> np.ndarray:
        """Crops uint8 [B, 256, 256, 3] from codes [B, …]."""

        def work(part: slice) -> tuple[np.ndarray]:
            codes = [torch.from_numpy(np.ascontiguousarray(c[part])).to(self.device) for c in (lip, pose, expression)]
            at = source if source.latent.device.type == torch.device(self.device).type else _moved(source, self.device)
            generator = self.networks.generator
            pictures = self.replayed(lambda *codes: generator.render(at, *codes), (at, generator), *codes)
            levels = ((pictures.float().clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8)
            return (_numpy(levels.permute(0, 2, 3, 1)),)

        return self.in_batches(len(lip), work)[0]


def _pixels(images: Sequence[np.ndarray], device: str) -> Tensor:
    """uint8 [B, S, S, 3] -> [B, 3, S, S] in [-1, 1]."""
    levels = torch.from_numpy(np.stack(list(images))).to(device)
    return levels.permute(0, 3, 1, 2).float() / 127.5 - 1


def _numpy(value: Tensor) -> np.ndarray:
    return value.cpu().numpy()


def _moved(source: Source, device: str) -> Source:
    dtype = torch.float16 if device.startswith("cuda") else torch.float32
    maps = (tuple(x.to(device, dtype) for x in group) for group in (source.features, source.normalised))
    return Source(source.latent.to(device), *maps)
