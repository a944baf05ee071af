"""The refiner made ready for one clip: reference frames, and the generic network, fitted to the clip where that is asked for.

A fit is kept in the cache by the content of the clip, so another emotion does not fit again; an interrupted one goes on
from its last checkpoint. Needs torch.
"""

import contextlib
import hashlib
import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from cmet_engine import cache, fingerprint
from cmet_engine.face.tracker import FaceGeometry
from cmet_engine.media.source import Source
from cmet_engine.models import assets
from cmet_engine.models.device import resolve
from cmet_engine.progress import Progress, Stage
from cmet_engine.render.refine.network import WEIGHTS, Refiner, load_refiner, save_refiner
from cmet_engine.render.refine.optimise import BATCH, optimise
from cmet_engine.render.refine.pairs import ClipFrames, Deltas, make_pair, read_frames
from cmet_engine.render.refine.quality import LEVELS, duration, estimate
from cmet_engine.render.refine.reference_frames import ReferenceFrames, open_references, usable_frames

log = logging.getLogger(__name__)

LEAST_FRAMES = 24
"""A clip that shows the face in fewer frames is not fitted to: the network would overfit."""

LEAST_CHANGE = 0.004
"""Lips and lids that move less than this (standard deviation, outer-eye distances) give nothing to fit to."""

POOL = 80
"""Training pairs that are ready at the same time; one of them is replaced every step."""

FIT_RATE = 3e-4
"""Adam's highest learning rate."""

CHECKPOINT_STEPS = 25

UNREASONABLE = 1200.0
"""Seconds of estimate beyond which the user is warned."""


@dataclass
class Prepared:
    """What a `RefinedRenderer` needs, and what the user should know.

    Attributes:
        references: the clip's reference frames.
        network: on its device.
        size: side of the canonical face crop, pixels.
        messages: sentences for the user.
    """

    references: ReferenceFrames
    network: Refiner
    size: int
    messages: list[str] = field(default_factory=list)


def prepare(
    clip: Path | Source,
    geometry: FaceGeometry,
    deltas: Deltas,
    quality: str,
    *,
    face: int | str = 0,
    device: str = "auto",
    among: np.ndarray | None = None,
    steps: int | None = None,
    timed: bool = True,
    progress: Progress | None = None,
) -> Prepared:
    """Read the reference frames, and fit the network to the clip if the quality asks for it and that was not done before.

    Args:
        clip: the footage.
        geometry: where the face is in every frame of it.
        deltas: emotions for the training pairs; called only where a fit is needed.
        quality: `standard` or `best`.
        face: which face `geometry` follows, for the cache.
        device: see `models.device.resolve`.
        among: frames that may be references or training pairs; None for all that show the face.
        steps: of the fit; None for those of the quality, 0 for the generic network as it is.
        timed: tell the user how long it will about take where that is long; in the log alone where not.
        progress: called with ("fit", steps done, in all); what it raises ends the work, and the fit goes on from there
            the next time.

    Raises:
        CmetError: the clip cannot be read, the embedded weights are missing, or the device is not on this machine.
    """
    level = LEVELS[quality]
    steps = level.steps if steps is None else steps
    usable = usable_frames(geometry) if among is None else among
    unit = resolve(device)
    references = open_references(clip, geometry, level.largest, usable)
    network = load_refiner().to(unit)
    messages = _obstacles(usable, references, steps > 0)
    if messages:
        steps = 0
    if unit == "cpu" and steps and (seconds := estimate(len(geometry), quality)) > UNREASONABLE:
        sentence = f"On this processor '{quality}' takes {duration(seconds)} for this clip; --quality draft is quick."
        messages += [sentence] if timed else []
        log.warning(sentence)  # now, not when it is over
    if steps:
        frames_used = hashlib.sha256(usable.tobytes()).hexdigest()
        code = fingerprint.code(__name__, "cmet_engine.face.clip")
        footage = Source.of(clip)
        parts = (footage.reading, face, quality, steps, assets.checksums(f"{WEIGHTS}.safetensors"), frames_used)
        name = cache.key("refiner", footage.path, code, *parts) if footage.path.is_file() else None
        if not _restored(network, name):
            frames = read_frames(clip, geometry, deltas, usable, round(1.5 * level.size))
            _Fit(network, name, frames, level.size, steps, progress).run()
    return Prepared(references, network, level.size, messages)


def _obstacles(usable: np.ndarray, references: ReferenceFrames, fit: bool) -> list[str]:
    """Why a clip gives the network little, or cannot be fitted to, in a sentence; nothing where neither is so."""
    if fit and len(usable) < LEAST_FRAMES:
        return [
            f"Only {len(usable)} frames show the face: too few to fit to, so the renderer works as it was trained on others."
        ]
    if _still(references):
        return [
            "The face hardly moves in this clip, so it never shows another mouth or eye than this one; "
            "what an edit uncovers is made up from the picture itself."
        ]
    return []


def _still(references: ReferenceFrames) -> bool:
    if len(references) < 2:
        return True
    appearance = references.appearance
    return float(max(appearance.lips.std(0).max(), appearance.eyes[:, :2].std(0).max())) < LEAST_CHANGE


def _restored(network: Refiner, name: str | None) -> bool:
    """Load the weights of an earlier fit, if there are some."""
    if name and (entry := cache.get(name)):
        with contextlib.suppress(Exception):  # a damaged entry is passed over
            network.load_state_dict(load_refiner(entry / "refiner.safetensors").state_dict())
            return True
    return False


class _Fit:
    """One fit of a network to a clip, with checkpoints in the cache under `name` (None keeps nothing)."""

    def __init__(
        self, network: Refiner, name: str | None, frames: ClipFrames, size: int, steps: int, progress: Progress | None
    ) -> None:
        self._network, self._name, self._frames, self._size = network, name, frames, size
        self._steps, self._progress = steps, progress

    def run(self) -> None:
        """Fit in place."""
        begin, state = self._resumed()
        if self._progress:
            self._progress(Stage.FIT, begin, self._steps)
        optimise(
            self._network, self._batches(begin), self._steps, start=begin, rate=FIT_RATE, state=state, after=self._after
        )
        # the numbers that the cache holds, so that the first rendering equals those that take them from there
        network = self._network
        network.load_state_dict({name: value.half().to(value.dtype) for name, value in network.state_dict().items()})
        if self._name:
            cache.put(self._name, lambda folder: save_refiner(network, folder / "refiner.safetensors"))
            cache.forget(f"{self._name}-unfinished")

    def _resumed(self) -> tuple[int, dict[str, Any] | None]:
        """The first step, and the optimiser's state, of an interrupted fit."""
        if self._name and (entry := cache.get(f"{self._name}-unfinished")):
            with contextlib.suppress(Exception):  # a damaged checkpoint is passed over
                state = torch.load(entry / "state.pt", map_location="cpu", weights_only=True)
                self._network.load_state_dict(state["network"])
                return int(state["step"]), state["optimiser"]
        return 0, None

    def _batches(self, begin: int) -> Callable[[int], Tensor]:
        """Training pairs of every step from `begin` on; the same again after an interruption."""

        def made(number: int) -> np.ndarray:
            return make_pair(self._frames, self._size, np.random.default_rng((0, number)))

        held = min(POOL, 2 * self._steps)
        # pair k of the pool is replaced at the steps k, k + held, …
        pool = [made(k + held * max(0, -(-(begin - k) // held))) for k in range(held)]

        def batch(step: int) -> Tensor:
            chosen = np.random.default_rng((1, step)).integers(held, size=BATCH)
            result = torch.from_numpy(np.stack([pool[k] for k in chosen]))
            pool[step % held] = made(step + held)
            return result

        return batch

    def _after(self, step: int, optimiser: torch.optim.Optimizer, _: dict[str, float]) -> None:
        if (step + 1) % CHECKPOINT_STEPS == 0:
            self._keep(step + 1, optimiser)
        if self._progress:
            try:
                self._progress(Stage.FIT, step + 1, self._steps)
            except BaseException:  # cancelled: nothing that was learned is lost
                self._keep(step + 1, optimiser)
                raise

    def _keep(self, step: int, optimiser: torch.optim.Optimizer) -> None:
        if self._name:
            state = {"network": self._network.state_dict(), "optimiser": optimiser.state_dict(), "step": step}
            cache.put(f"{self._name}-unfinished", lambda folder: torch.save(state, folder / "state.pt"))
