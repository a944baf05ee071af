"""The refiner made ready for one clip: frames to borrow from, and the generic network fitted to the clip.

The fit is kept in the cache by the content of the clip, so another emotion does not fit again; an interrupted one goes on
from its last checkpoint.
"""

import contextlib
import hashlib
import logging
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from cmet_engine import cache, fingerprint
from cmet_engine.media.video import VideoReader
from cmet_engine.models import assets
from cmet_engine.models import device as devices
from cmet_engine.progress import Progress, Stage
from cmet_engine.render.refine import training_pairs
from cmet_engine.render.refine.reference_frames import Crops
from cmet_engine.render.refine.renderer import open_bank
from cmet_engine.track import CoefficientTrack

log = logging.getLogger(__name__)


QUALITIES = ("auto", "draft", "standard", "best")


@dataclass(frozen=True)
class Level:
    """What a quality means.

    Attributes:
        size: side of the face's square that the network works in, pixels.
        steps: of the fit.
        largest: longest side of a borrowed crop, pixels.
    """

    size: int
    steps: int
    largest: int


LEVELS = {"standard": Level(192, 160, 640), "best": Level(320, 500, 1024)}

LEAST_FRAMES = 24
"""A clip that shows the face in fewer frames is not fitted to: it would be learned by heart."""

LEAST_CHANGE = 0.004
"""Lips and lids that move less than this (standard deviation, outer-eye distances) teach nothing."""

POOL = 80
"""Lessons that wait at the same time; one of them is made anew every step."""

FIT_RATE = 3e-4
CHECKPOINT_STEPS = 25

STEP_GFLOP, FRAME_GFLOP = 34.0, 2.9
"""Work of one step of the fit and of the network on one frame, at `standard`."""

FRAME_SECONDS = 0.12
"""What else a refined frame of a 512-pixel clip costs on one core."""

UNREASONABLE = 1200.0
"""Seconds of estimate beyond which the user is told so."""

SHARE_OF_PEAK = 0.5
"""Of the speed of a large matrix product, what the network reaches."""


@dataclass
class Prepared:
    """What a `RefinedRenderer` needs, and what the user should know.

    Attributes:
        crops: frames to borrow from.
        network: a `Refiner` on its device.
        size: side of the square.
        messages: sentences.
    """

    crops: Crops
    network: Any
    size: int
    messages: list[str] = field(default_factory=list)


def resolve(quality: str, device: str) -> str:
    """`auto` becomes `standard` on a GPU and `draft` without one."""
    if quality != "auto":
        return quality
    return "standard" if devices.resolve(device) != "cpu" else "draft"


def estimate(frames: int, quality: str = "standard") -> float:
    """Seconds that fit and rendering would about take on this machine's processor."""
    level = LEVELS[quality]
    one = np.ones((768, 768), np.float32)
    one @ one
    begun = time.perf_counter()
    for _ in range(4):
        one @ one
    speed = 4 * 2 * 768**3 / 1e9 / max(time.perf_counter() - begun, 1e-6)  # GFLOP a second, all cores
    scale = (level.size / LEVELS["standard"].size) ** 2
    work = scale * (level.steps * STEP_GFLOP + frames * FRAME_GFLOP)
    return float(work / (SHARE_OF_PEAK * speed) + frames * FRAME_SECONDS * scale)


def advice(frames: int | None) -> str:
    """One sentence for those who got a draft because there is no GPU; with an estimate for a clip of `frames`."""
    takes = "that takes longer" if frames is None else f"here that takes {duration(estimate(frames))} the first time"
    return (
        "This is a draft: the picture's own pixels were moved. --quality standard takes teeth, lids and folds from other "
        f"frames of the clip; {takes}."
    )


def duration(seconds: float) -> str:
    """`about 40 seconds`, `about 3 minutes`, `about 2 hours`."""
    if seconds < 90:
        return f"about {max(10, round(seconds, -1)):.0f} seconds"
    if seconds < 5400:
        return f"about {seconds / 60:.0f} minutes"
    return f"about {seconds / 3600:.0f} hours"


def prepare(
    clip: Path,
    geometry: Any,
    source: CoefficientTrack,
    quality: str,
    *,
    face: int = 0,
    device: str = "auto",
    among: np.ndarray | None = None,
    steps: int | None = None,
    timed: bool = True,
    progress: Progress | None = None,
) -> Prepared:
    """Choose and read the bank, and fit the network to the clip unless that was done before.

    Args:
        clip: the footage.
        geometry: a `FaceGeometry` of it.
        source: its coefficients.
        quality: `standard` or `best`.
        face: which face `geometry` follows, for the cache.
        device: see `models.device.resolve`.
        among: frames that bank and fit may see; None for all that show the face.
        steps: of the fit; None for those of the quality, 0 for the generic start as it is.
        timed: say how long it will about take where that is long; in the log alone where not.
        progress: called with ("fit", steps done, in all); what it raises ends the work, and the fit goes on from there
            the next time.

    Raises:
        CmetError: the clip cannot be read, or the embedded weights are missing.
    """
    from cmet_engine.render.refine.training import WEIGHTS, load_refiner

    level = LEVELS[quality]
    steps = level.steps if steps is None else steps
    usable = training_pairs.usable_frames(geometry) if among is None else among
    messages: list[str] = []
    unit = devices.resolve(device)
    crops = open_bank(VideoReader(clip), geometry, level.largest, usable)
    network = load_refiner().to(unit)
    if len(usable) < LEAST_FRAMES:
        steps = 0
        messages.append(
            f"Only {len(usable)} frames show the face: too few to fit to, so the renderer works as it was trained on others."
        )
    elif _still(crops):
        steps = 0
        messages.append(
            "The face hardly moves in this clip, so it never shows another mouth or eye than this one; "
            "what an edit uncovers is made up from the picture itself."
        )
    if unit == "cpu" and steps and (seconds := estimate(len(geometry), quality)) > UNREASONABLE:
        sentence = f"On this processor '{quality}' takes {duration(seconds)} for this clip; --quality draft is quick."
        messages += [sentence] if timed else []
        log.warning(sentence)  # now, not when it is over
    if steps:
        parts = (
            face,
            quality,
            steps,
            assets.checksums(f"{WEIGHTS}.safetensors"),
            hashlib.sha256(usable.tobytes()).hexdigest(),
        )
        _fit(network, clip, geometry, source, usable, level, steps, parts, progress)
    return Prepared(crops, network, level.size, messages)


def _still(crops: Crops) -> bool:
    if len(crops) < 2:
        return True
    return float(max(crops.looks.lips.std(0).max(), crops.looks.eyes[:, :2].std(0).max())) < LEAST_CHANGE


def _fit(
    network: Any,
    clip: Path,
    geometry: Any,
    source: CoefficientTrack,
    usable: np.ndarray,
    level: Level,
    steps: int,
    parts: tuple[object, ...],
    progress: Progress | None,
) -> None:
    """Fit in place, or take what an earlier fit found."""
    import torch

    from cmet_engine.render.refine import training

    name = (
        cache.key("refiner", clip, fingerprint.code(__name__, "cmet_engine.face.clip"), *parts)
        if clip.is_file()
        else None
    )
    if name and (entry := cache.get(name)):
        with contextlib.suppress(Exception):
            network.load_state_dict(training.load_refiner(entry / "refiner.safetensors").state_dict())
            return
    unfinished = f"{name}-unfinished"
    begin, optimiser_state = 0, None
    if name and (entry := cache.get(unfinished)):
        with contextlib.suppress(Exception):  # a damaged checkpoint is passed over
            state = torch.load(entry / "state.pt", map_location="cpu", weights_only=True)
            network.load_state_dict(state["network"])
            begin, optimiser_state = int(state["step"]), state["optimiser"]
    lessons = training_pairs.read_lessons(clip, geometry, source, usable, round(1.5 * level.size))

    def made(number: int) -> np.ndarray:
        return training_pairs.lesson(lessons, level.size, np.random.default_rng((0, number)))

    held = min(POOL, 2 * steps)
    # lesson k of the pool is replaced at the steps k, k + held, ...: the same again after an interruption
    pool = [made(k + held * max(0, -(-(begin - k) // held))) for k in range(held)]

    def batch(step: int) -> Any:
        chosen = np.random.default_rng((1, step)).integers(held, size=training.BATCH)
        result = torch.from_numpy(np.stack([pool[k] for k in chosen]))
        pool[step % held] = made(step + held)
        return result

    def keep(step: int, optimiser: Any) -> None:
        if name:
            state = {"network": network.state_dict(), "optimiser": optimiser.state_dict(), "step": step}
            cache.put(unfinished, lambda folder: torch.save(state, folder / "state.pt"))

    def after(step: int, optimiser: Any, _: dict[str, float]) -> None:
        if (step + 1) % CHECKPOINT_STEPS == 0:
            keep(step + 1, optimiser)
        if progress:
            try:
                progress(Stage.FIT, step + 1, steps)
            except BaseException:  # cancelled: nothing that was learned is lost
                keep(step + 1, optimiser)
                raise

    if progress:
        progress(Stage.FIT, begin, steps)
    training.optimise(network, batch, steps, start=begin, rate=FIT_RATE, state=optimiser_state, after=after)
    # the numbers that the cache holds, so that the first rendering equals those that take them from there
    network.load_state_dict({name: value.half().to(value.dtype) for name, value in network.state_dict().items()})
    if name:
        cache.put(name, lambda folder: training.save_refiner(network, folder / "refiner.safetensors"))
        cache.forget(unfinished)
