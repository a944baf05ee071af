"""The refiner's generic weights, trained on training pairs from clips of many people. `cmet train refiner`."""

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from cmet_engine.emotion.clip_emotions import basic_emotion_deltas
from cmet_engine.errors import InvalidInput
from cmet_engine.face.clip import track_clip
from cmet_engine.files import whole_file
from cmet_engine.progress import Progress, Stage
from cmet_engine.render.refine import pairs as training_pairs
from cmet_engine.render.refine.network import Refiner, save_refiner
from cmet_engine.render.refine.optimise import BATCH, optimise
from cmet_engine.render.refine.reference_frames import usable_frames

STEPS, PAIRS, SIZE = 1600, 110, 192
"""Steps, training pairs made from each clip, and side of the canonical crop in pixels."""

CHECKPOINT_STEPS = 100


def train_generic(
    clips: Sequence[Path],
    output: Path,
    work: Path,
    *,
    steps: int = STEPS,
    pairs: int = PAIRS,
    device: str = "cpu",
    progress: Progress | None = None,
) -> dict[str, float]:
    """Train the generic weights on clips of many people; an interrupted run goes on from what lies in `work`.

    Args:
        clips: videos, one face each.
        output: weights to write (.safetensors).
        work: folder for training pairs (1 MB each) and the checkpoint.
        steps: of training, `BATCH` training pairs each.
        pairs: made from each clip.
        device: `cpu` or `cuda`.
        progress: called with ("train", done, in all).

    Returns:
        The loss's parts, means over the last steps.

    Raises:
        CmetError: there are no clips, or one cannot be read or shows no face.
    """
    if not clips:
        raise InvalidInput("There are no clips to train on; give a folder with videos of talking people.")
    work.mkdir(parents=True, exist_ok=True)
    stored = _training_pairs(clips, work, pairs, lambda: progress(Stage.TRAIN, 0, steps) if progress else None)
    network, start, state = Refiner(), 0, None
    checkpoint = work / "checkpoint.pt"
    if checkpoint.is_file():
        kept = torch.load(checkpoint, map_location="cpu", weights_only=True)
        network.load_state_dict(kept["network"])
        start, state = int(kept["step"]), kept["optimiser"]
    network.to(device)
    random = np.random.default_rng(start)
    recent: list[dict[str, float]] = []

    def batch(_: int) -> Tensor:
        chosen = [stored[random.integers(len(stored))] for _ in range(BATCH)]
        return torch.from_numpy(np.stack([of_clip[random.integers(len(of_clip))] for of_clip in chosen]))

    def after(step: int, optimiser: torch.optim.Optimizer, parts: dict[str, float]) -> None:
        recent.append(parts)
        del recent[:-CHECKPOINT_STEPS]
        if (step + 1) % CHECKPOINT_STEPS == 0:
            state = {"network": network.state_dict(), "optimiser": optimiser.state_dict(), "step": step + 1}
            with whole_file(checkpoint, force=True) as temporary:
                torch.save(state, temporary)
        if progress:
            progress(Stage.TRAIN, step + 1, steps)

    optimise(network, batch, steps, start=start, state=state, after=after)
    with whole_file(output, force=True) as temporary:
        save_refiner(network, temporary)
    return {name: round(float(np.mean([p[name] for p in recent])), 5) for name in (recent[0] if recent else {})}


def _training_pairs(clips: Sequence[Path], work: Path, count: int, after: Callable[[], None]) -> list[np.ndarray]:
    """Training pairs of every clip, uint8 [count, CHANNELS, R, R], read from files in `work` that are made where absent."""
    stored = []
    for number, clip in enumerate(clips):
        file = work / f"{clip.stem}.npy"
        if not file.is_file():
            geometry, source = track_clip(clip)
            deltas = partial(basic_emotion_deltas, source)
            frames = training_pairs.read_frames(clip, geometry, deltas, usable_frames(geometry), round(1.5 * SIZE))
            random = np.random.default_rng(number)
            made = np.stack([training_pairs.make_pair(frames, SIZE, random) for _ in range(count)])
            with whole_file(file) as temporary, temporary.open("wb") as opened:
                np.save(opened, made)
        stored.append(np.load(file, mmap_mode="r"))
        after()
    return stored
