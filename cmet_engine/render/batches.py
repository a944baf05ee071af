"""Networks run in batches that the memory holds."""

import logging
from collections.abc import Callable, Mapping
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from cmet_engine.errors import CmetError
from cmet_engine.models.device import resolve

log = logging.getLogger(__name__)


class Movable(Protocol):
    """Networks that move to a device together."""

    def to(self, device: str) -> Any:
        """Move them."""


class BatchRunner:
    """Runs networks on a device.

    When a GPU runs out of memory the batch is halved. When a single frame does not fit, the work continues on the CPU. The
    user is warned of each once.

    Args:
        networks: to run.
        device: see `models.device.resolve`.
        batch: frames at a time; None for the device's usual number.
        usual: that number by kind of device.
        warn: called with a sentence for the user.

    Raises:
        MissingWeights: the device is not on this machine.
    """

    def __init__(
        self, networks: Movable, device: str, batch: int | None, usual: Mapping[str, int], warn: Callable[[str], None]
    ):
        self._movable, self.device, self.warn, self._usual = networks, resolve(device), warn, usual
        self.batch = batch or self._usual_batch
        self._warned: set[str] = set()
        self._captured: Captured | None = None
        self._captures = True
        networks.to(self.device)

    @property
    def _usual_batch(self) -> int:
        return self._usual.get(torch.device(self.device).type, self._usual["cpu"])

    def warn_once(self, sentence: str) -> None:
        """Say a sentence, the first time."""
        if sentence not in self._warned:
            self._warned.add(sentence)
            self.warn(sentence)

    def forget(self) -> None:
        """Let go of what is kept on the device between batches."""
        self._captured = None

    def replayed(self, work: Callable[..., Tensor], about: tuple[Any, ...], *inputs: Tensor) -> Tensor:
        """`work(*inputs)`; on a CUDA GPU as a captured graph, so that hundreds of small launches become one.

        Args:
            work: from tensors [B, …] to one [B, …], without a step on the CPU in between.
            about: what else its result depends on; compared by identity.
            inputs: at most `batch` rows each.
        """
        if not self.device.startswith("cuda") or not self._captures:
            return work(*inputs)
        captured = self._captured
        if captured is None or not captured.fits(about, self.batch, inputs):
            self._captured = None  # its memory first
            try:
                self._captured = captured = Captured(work, about, self.batch, inputs)
            except torch.OutOfMemoryError:
                raise
            except RuntimeError as error:
                log.warning("The GPU's work is not captured, so it takes longer: %s", error)
                self._captures = False
                return work(*inputs)
        return captured(*inputs)

    def in_batches(self, count: int, work: Callable[[slice], tuple[np.ndarray, ...]]) -> list[np.ndarray]:
        """The columns that `work` gives for parts of `count` frames, each joined."""
        parts, start = [], 0
        with torch.inference_mode():
            while start < count:
                done = self.guarded(work, slice(start, min(start + self.batch, count)))
                parts.append(done)
                start += len(done[0])
        return [np.concatenate(columns) for columns in zip(*parts, strict=True)]

    def guarded(self, work: Callable[[slice], Any], part: slice) -> Any:
        """`work(part)`; of fewer frames, or on the CPU, where the memory does not hold them."""
        while True:
            try:
                return work(part)
            except torch.OutOfMemoryError as error:
                self.forget()
                if self.device.startswith("cuda"):
                    torch.cuda.empty_cache()
                if self.batch > 1:
                    self.batch //= 2
                    part = slice(part.start, min(part.stop, part.start + self.batch))
                    self.warn_once("The memory does not hold the usual batch; fewer frames are rendered at a time.")
                elif self.device != "cpu":
                    self.device = "cpu"
                    self.batch = self._usual_batch
                    self._movable.to("cpu")
                    self.warn_once(
                        "The GPU's memory does not hold one frame; the work continues on the CPU, much slower."
                    )
                else:
                    raise CmetError(
                        "The memory of this machine does not hold one frame; close other programs."
                    ) from error


class Captured:
    """A function of tensors as a CUDA graph, of a whole batch; see `BatchRunner.replayed`."""

    def __init__(self, work: Callable[..., Tensor], about: tuple[Any, ...], batch: int, inputs: tuple[Tensor, ...]):
        self._about = about
        self._inputs = [x[:1].expand(batch, *x.shape[1:]).clone() for x in inputs]
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):  # values derived from the weights must exist before the capture
            for _ in range(3):
                work(*self._inputs)
        torch.cuda.current_stream().wait_stream(stream)
        self._graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self._graph):
            self._result = work(*self._inputs)

    def fits(self, about: tuple[Any, ...], batch: int, inputs: tuple[Tensor, ...]) -> bool:
        """Whether the graph does this work for inputs like these."""
        return (
            len(about) == len(self._about)
            and all(a is b for a, b in zip(about, self._about, strict=True))
            and all(
                (batch, *new.shape[1:]) == kept.shape and new.dtype == kept.dtype
                for new, kept in zip(inputs, self._inputs, strict=True)
            )
        )

    def __call__(self, *inputs: Tensor) -> Tensor:
        """The result for `inputs`."""
        count = len(inputs[0])
        for kept, new in zip(self._inputs, inputs, strict=True):
            kept[:count].copy_(new)
        self._graph.replay()
        return self._result[:count].clone()
