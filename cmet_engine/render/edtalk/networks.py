"""The published networks on a device: crops to codes, codes to crops, in batches that the memory holds."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from cmet_engine import cache
from cmet_engine.emotion.connector import Connector
from cmet_engine.errors import CmetError
from cmet_engine.models import registry, store
from cmet_engine.models.device import resolve
from cmet_engine.render.edtalk.audio2lip import Audio2Lip
from cmet_engine.render.edtalk.generator import Generator, Source

BATCH = {"cpu": 4, "mps": 4, "cuda": 32}
"""Frames at a time, by kind of device."""


@dataclass
class Networks:
    """The published networks that the renderer works with.

    Attributes:
        generator: EDTalk.
        connector: C-MET's, 10 codes.
        audio2lip: sound to lip codes; None where lips come from the clip.
        identity: checksum of the generator's weights; None for weights that come from no file.
    """

    generator: Generator
    connector: Connector
    audio2lip: Audio2Lip | None = None
    identity: str | None = None

    @classmethod
    def load(cls, *, voice: bool) -> "Networks":
        """The published weights of this machine.

        Args:
            voice: lip codes are to be computed from sound.

        Raises:
            CmetError: weights are missing or damaged; the sentence says what to do.
        """
        generator, connector = store.load("edtalk_generator", Generator), store.load("connector", Connector)
        audio2lip = store.load("audio2lip", Audio2Lip) if voice else None
        return cls(generator, connector, audio2lip, cache.content(registry.path_of("edtalk_generator")))

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


class NetworkRunner:
    """Runs the generator in batches on a device, in half precision on a CUDA GPU.

    When a GPU runs out of memory the batch is halved. When a single frame does not fit, the work continues on the CPU. The
    user is warned of each once.

    Args:
        networks: to run.
        device: see `models.device.resolve`.
        batch: frames at a time; None for the device's usual number.
        warn: called with a sentence for the user.

    Raises:
        MissingWeights: the device is not on this machine.
    """

    def __init__(self, networks: Networks, device: str, batch: int | None, warn: Callable[[str], None]):
        self.networks, self.device, self.warn = networks, resolve(device), warn
        self.batch = batch or _usual_batch(self.device)
        self._graph: _Graph | None = None
        self._warned: set[str] = set()
        networks.to(self.device)

    def _warn_once(self, sentence: str) -> None:
        if sentence not in self._warned:
            self._warned.add(sentence)
            self.warn(sentence)

    @property
    def precision(self) -> torch.dtype:
        """What feature maps are computed in."""
        return torch.float16 if self.device.startswith("cuda") else torch.float32

    def encode(self, images: Sequence[np.ndarray]) -> Codes:
        """Codes of crops uint8 [256, 256, 3]."""

        def work(part: slice) -> tuple[np.ndarray, ...]:
            pixels = _pixels(images[part], self.device).to(self.precision)
            return tuple(_numpy(value) for value in self.networks.generator.codes(pixels))

        expression, pose, lip = self._in_batches(len(images), work)
        return Codes(expression, pose, lip)

    def encode_source(self, image: np.ndarray) -> Source:
        """Feature maps of the crop uint8 [256, 256, 3] whose appearance the decoded frames keep."""

        def work(part: slice) -> tuple[Source]:
            del part
            return (self.networks.generator.source(_pixels([image], self.device)),)

        with torch.inference_mode():
            return self._guarded(work, slice(0, 1))[0].to(self.precision)

    def decode(self, source: Source, lip: np.ndarray, pose: np.ndarray, expression: np.ndarray) -> np.ndarray:
        """Crops uint8 [B, 256, 256, 3] from codes [B, …]."""

        def work(part: slice) -> tuple[np.ndarray]:
            codes = [torch.from_numpy(np.ascontiguousarray(c[part])).to(self.device) for c in (lip, pose, expression)]
            at = source if source.latent.device.type == torch.device(self.device).type else _moved(source, self.device)
            pictures = self._render(at, codes)
            levels = ((pictures.float().clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8)
            return (_numpy(levels.permute(0, 2, 3, 1)),)

        return self._in_batches(len(lip), work)[0]

    def _render(self, source: Source, codes: list[Tensor]) -> Tensor:
        if not self.device.startswith("cuda"):
            return self.networks.generator.render(source, *codes)
        if self._graph is None or not self._graph.fits(source, self.batch):
            self._graph = _Graph(self.networks.generator, source, self.batch)
        return self._graph(codes)

    def _in_batches(self, count: int, work: Callable[[slice], tuple[np.ndarray, ...]]) -> list[np.ndarray]:
        parts, start = [], 0
        with torch.inference_mode():
            while start < count:
                done = self._guarded(work, slice(start, min(start + self.batch, count)))
                parts.append(done)
                start += len(done[0])
        return [np.concatenate(columns) for columns in zip(*parts, strict=True)]

    def _guarded(self, work: Callable[[slice], Any], part: slice) -> Any:
        """`work(part)`; of fewer frames, or on the CPU, where the memory does not hold them."""
        while True:
            try:
                return work(part)
            except torch.OutOfMemoryError as error:
                self._graph = None
                if self.device.startswith("cuda"):
                    torch.cuda.empty_cache()
                if self.batch > 1:
                    self.batch //= 2
                    part = slice(part.start, min(part.stop, part.start + self.batch))
                    self._warn_once("The memory does not hold the usual batch; fewer frames are rendered at a time.")
                elif self.device != "cpu":
                    self.device, self.batch = "cpu", _usual_batch("cpu")
                    self.networks.to("cpu")
                    self._warn_once(
                        "The GPU's memory does not hold one frame; the work continues on the CPU, much slower."
                    )
                else:
                    raise CmetError(
                        "The memory of this machine does not hold one frame; close other programs."
                    ) from error


class _Graph:
    """The decoder captured as a CUDA graph: the hundreds of small launches of a batch become one."""

    def __init__(self, generator: Generator, source: Source, batch: int):
        self._source, self._batch = source, batch
        sizes = (generator.lip_dim, generator.pose_dim, generator.expression_dim)
        self._codes = [torch.zeros(batch, size, device=source.latent.device) for size in sizes]
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):  # values derived from the weights must exist before the capture
            for _ in range(3):
                generator.render(source, *self._codes)
        torch.cuda.current_stream().wait_stream(stream)
        self._graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self._graph):
            self._pictures = generator.render(source, *self._codes)

    def fits(self, source: Source, batch: int) -> bool:
        return self._source is source and self._batch == batch

    def __call__(self, codes: list[Tensor]) -> Tensor:
        count = len(codes[0])
        for kept, new in zip(self._codes, codes, strict=True):
            kept[:count].copy_(new)
        self._graph.replay()
        return self._pictures[:count].clone()


def _usual_batch(device: str) -> int:
    return BATCH.get(torch.device(device).type, BATCH["cpu"])


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
