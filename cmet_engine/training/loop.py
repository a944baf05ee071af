"""The training loop of every network here: schedule, averaged weights, checkpoints, loss curve.

A batch depends on its number alone, and a checkpoint holds everything that the steps change. An interrupted run that is
begun again therefore ends with the weights of an uninterrupted one, bit for bit on the same machine.
"""

import io
import logging
import math
import pickle
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Generic, TypeVar

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR, LRScheduler
from torch.optim.swa_utils import AveragedModel

from cmet_engine.errors import InvalidInput
from cmet_engine.files import whole_file
from cmet_engine.progress import Progress, Stage
from cmet_engine.training.curves import write_losses

log = logging.getLogger(__name__)

T = TypeVar("T")

TOTAL = "total"
"""Name of the loss that is minimised; the other losses are recorded only."""


class LearningRate(LambdaLR):
    """The learning rate as a function of the step: `rate(step)` itself, not a factor."""

    def get_lr(self) -> list[float | Tensor]:
        """The rate of every parameter group at the present step."""
        return [rate(self.last_epoch) for rate in self.lr_lambdas]


@dataclass(frozen=True)
class Checkpoint:
    """Where a run is saved, and what it is a run of.

    Attributes:
        path: the file; it appears whole or not at all.
        config: every number of the run.
        data: some numbers of the first batch, by which a run on other data is recognised; None checks nothing.
        every: steps between two checkpoints.
        curve: stem of the loss curve beside the file (`.csv`, `.svg`).
    """

    path: Path
    config: dict[str, Any]
    data: Tensor | None
    every: int
    curve: str


DATA_TOLERANCE = 0.02
"""How far the numbers of `Checkpoint.data` may be off: features that are extracted again differ by rounding."""


@dataclass
class Loop(Generic[T]):
    """One training run.

    Attributes:
        network: trained in place, on the device where it is.
        optimiser, schedule: of the network; the schedule moves on with every step.
        batches: step number -> batch, the same whenever it is called.
        objective: (step number, batch) -> losses by name; `TOTAL` is minimised.
        recorded: names of the losses in the curve.
        steps: of the whole run.
        average: decay of the running average of the weights (Polyak and Juditsky 1992), which is what remains; the decay
            rises to it over the first steps. None: the weights as the last step left them.
        clip: length that the gradient is cut to; None: any.
        checkpoint: None saves nothing.
        record_every: steps between two rows of the curve.
        workers: threads that make batches ahead; 0 makes each batch when its step begins.
        progress: called as `progress(Stage.TRAIN, steps done, steps)`.
        losses: the curve so far: rows of steps done and the `recorded` losses.
    """

    network: nn.Module
    optimiser: Optimizer
    schedule: LRScheduler
    batches: Callable[[int], T]
    objective: Callable[[int, T], dict[str, Tensor]]
    recorded: Sequence[str]
    steps: int
    average: float | None = None
    clip: float | None = None
    checkpoint: Checkpoint | None = None
    record_every: int = 1
    workers: int = 0
    progress: Progress | None = None
    losses: list[list[float]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._averaged = None if self.average is None else _averaged(self.network, self.average)

    def run(self, until: int | None = None) -> list[list[float]]:
        """Train to the end, from the checkpoint where there is one; returns the curve.

        Args:
            until: stop after this step, with a checkpoint; the schedule stays that of the whole run.

        Raises:
            CmetError: the checkpoint is damaged or of another run, the disk is full, or a loss is not a number.
        """
        first, last = 0, self.steps if until is None else min(until, self.steps)
        if self.checkpoint is not None:
            if self.checkpoint.path.exists():
                first = self._resume(self.checkpoint)
            else:
                self._save(self.checkpoint, 0)  # a full disk is reported before the work, not after it
        self.network.train()
        for step, batch in enumerate(ahead(self.batches, first, last, self.workers), first):
            losses = self._step(step, batch)
            done = step + 1
            if step % self.record_every == 0 or done == self.steps:
                self.losses.append([done, *(losses[name].item() if name in losses else 0.0 for name in self.recorded)])
            if self.checkpoint is not None and (done % self.checkpoint.every == 0 or done == last):
                self._save(self.checkpoint, done)
            if self.progress:
                self.progress(Stage.TRAIN, done, self.steps)
        if self._averaged is not None:
            self.network.load_state_dict(self._averaged.module.state_dict())
        self.network.eval()
        return self.losses

    def _step(self, step: int, batch: T) -> dict[str, Tensor]:
        """One step of the optimiser; returns the losses, detached."""
        losses = self.objective(step, batch)
        total = losses[TOTAL]
        if not torch.isfinite(total):
            raise InvalidInput(
                f"The training loss is not a number at step {step}; lower learning_rate or check the features."
            )
        self.optimiser.zero_grad()
        total.backward()
        if self.clip is not None:
            nn.utils.clip_grad_norm_(self.network.parameters(), self.clip)
        self.optimiser.step()
        self.schedule.step()
        if self._averaged is not None:
            self._averaged.update_parameters(self.network)
        return {name: loss.detach() for name, loss in losses.items()}

    def _save(self, checkpoint: Checkpoint, done: int) -> None:
        state = {
            "config": checkpoint.config, "data": checkpoint.data, "step": done, "losses": self.losses,
            "network": self.network.state_dict(), "optimiser": self.optimiser.state_dict(),
            "schedule": self.schedule.state_dict(), "random": _random_state(),
            "average": None if self._averaged is None else self._averaged.state_dict(),
        }  # fmt: skip
        save_state(checkpoint.path, state)
        if self.losses:
            write_losses(checkpoint.path.parent, self.recorded, self.losses, checkpoint.curve)
            row = zip(self.recorded, self.losses[-1][1:], strict=True)
            log.info("step %d of %d: %s", done, self.steps, ", ".join(f"{name} {value:.3f}" for name, value in row))

    def _resume(self, checkpoint: Checkpoint) -> int:
        """Take the state of a checkpoint; returns the steps that it has done."""
        path = checkpoint.path
        state = load_state(path, str(next(self.network.parameters()).device))
        if state.get("config") != checkpoint.config:
            raise InvalidInput(
                f"{path} belongs to a run with another configuration; choose another place for this run or remove it."
            )
        if not _same_data(state.get("data"), checkpoint.data):
            raise InvalidInput(
                f"{path} belongs to a run on other data; choose another place for this run or remove it."
            )
        try:
            self.network.load_state_dict(state["network"])
            self.optimiser.load_state_dict(state["optimiser"])
            self.schedule.load_state_dict(state["schedule"])
            if self._averaged is not None:
                self._averaged.load_state_dict(state["average"])
            _set_random_state(state["random"])
            self.losses[:] = state["losses"]
            return int(state["step"])
        except (KeyError, TypeError, RuntimeError, ValueError) as error:
            raise InvalidInput(f"{path} is damaged or no checkpoint; remove it to begin anew.") from error


def warm_cosine(rate: float, *, warmup: int, steps: int, final: float = 0.0) -> Callable[[int], float]:
    """Step -> learning rate: a linear rise over `warmup` steps, then a cosine fall over all `steps` to the share `final`.

    With `warmup` 0 the rate stays as it is.
    """

    def at(step: int) -> float:
        if warmup == 0:
            return rate
        if step < warmup:
            return rate * ((step + 1) / warmup)
        return rate * (final + (1 - final) * 0.5 * (1 + math.cos(math.pi * min(step / steps, 1))))

    return at


def _averaged(network: nn.Module, decay: float) -> AveragedModel:
    """A running average of the network's weights and buffers, which begins at the network as it is."""

    @torch.no_grad()
    def follow(average: Sequence[Tensor], present: Sequence[Tensor], updates: Tensor | int) -> None:
        count = int(updates)
        share = 1 - min(decay, count / (count + 9))
        for mean, value in zip(average, present, strict=True):
            if mean.is_floating_point():
                mean.lerp_(value, share)
            else:  # the counters of batch normalisation
                mean.copy_(value)

    averaged = AveragedModel(network, multi_avg_fn=follow, use_buffers=True)
    averaged.update_parameters(network)  # the first call only copies
    return averaged


def _random_state() -> dict[str, Any]:
    """State of torch's random numbers on the CPU and on every GPU: dropout draws from it."""
    return {"cpu": torch.get_rng_state(), "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else []}


def _set_random_state(state: dict[str, Any]) -> None:
    torch.set_rng_state(state["cpu"].cpu())
    if state["cuda"] and len(state["cuda"]) == torch.cuda.device_count():
        torch.cuda.set_rng_state_all([generator.cpu() for generator in state["cuda"]])


def _same_data(stored: Tensor | None, present: Tensor | None) -> bool:
    if stored is None or present is None:
        return stored is present
    stored = stored.cpu()
    return stored.shape == present.shape and torch.allclose(
        stored, present.cpu(), atol=DATA_TOLERANCE, rtol=DATA_TOLERANCE
    )


def ahead(batches: Callable[[int], T], first: int, last: int, workers: int) -> Iterator[T]:
    """Batches number `first` to `last`, in order; `workers` threads make some of them ahead, 0 makes none."""
    if workers < 1:
        yield from map(batches, range(first, last))
        return
    with ThreadPoolExecutor(workers) as pool:
        waiting: list[Future] = []
        for step in range(first, last + 2 * workers):
            if step < last:
                waiting.append(pool.submit(batches, step))
            if step >= first + 2 * workers:
                yield waiting.pop(0).result()


def save_state(path: Path, state: dict[str, Any]) -> None:
    """Write a checkpoint whole or not at all; an earlier one stays until then.

    Raises:
        CmetError: the disk is full or the folder cannot be written.
    """
    buffer = io.BytesIO()  # torch's own writer hides why it could not write
    torch.save(state, buffer)
    with whole_file(path, force=True) as temporary:
        temporary.write_bytes(buffer.getbuffer())


def load_state(path: Path, device: str = "cpu") -> dict[str, Any]:
    """Read a checkpoint that `save_state` wrote.

    Raises:
        CmetError: the file is damaged or no checkpoint.
    """
    try:
        state = torch.load(path, map_location=device, weights_only=True)
    except (OSError, RuntimeError, EOFError, ValueError, KeyError, pickle.UnpicklingError) as error:
        raise InvalidInput(f"{path} is damaged or no checkpoint; remove it to begin anew.") from error
    if not isinstance(state, dict):
        raise InvalidInput(f"{path} is damaged or no checkpoint; remove it to begin anew.")
    return state
