"""Training of the refiner: a generic start over many clips, and the fit to one clip from there.

Both see nothing but lessons that the clips themselves give (`samples`). Needs torch.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor
from torch.nn import functional as F

from cmet_engine.errors import CmetError
from cmet_engine.files import whole_file
from cmet_engine.models.assets import asset
from cmet_engine.models.tensors import read_tensors
from cmet_engine.progress import Progress, Stage
from cmet_engine.render.refine import training_pairs
from cmet_engine.render.refine.network import Refiner, compose

WEIGHTS = "refiner"
"""The generic start, among the embedded models."""

BATCH = 4
RATE = 1e-3
"""Adam's rate at its highest, for the generic start; the fit takes a third of it."""

CLOSE_WEIGHT = 5.0
"""How much more eyes and mouth count than the rest of the face."""

STEPS, LESSONS, SIZE = 1600, 110, 192
"""Of the generic start: steps, lessons made from each clip, and side of the square."""

CHECKPOINT_STEPS = 100


def loss_of(network: Refiner, packed: Tensor) -> tuple[Tensor, dict[str, float]]:
    """The loss of a batch of lessons, uint8 [B, CHANNELS, R, R]; and its parts."""
    pictures, answer, geometry, prior, near, mask = training_pairs.unpack(packed)
    weights, flow, shade = network(pictures, geometry, prior)
    made = compose(pictures, weights, flow, shade, mask)
    importance = mask * (1 + CLOSE_WEIGHT * near)
    total = importance.sum() * 3
    error = torch.sqrt((made - answer) ** 2 + 1e-6)
    pixel = (importance * error).sum() / total
    slopes = pixel.new_zeros(())
    energy = pixel.new_zeros(())
    a, b, w = made, answer, importance
    for level in range(3):
        (ax, ay), (bx, by) = _slopes(a), _slopes(b)
        inner = w[..., :-1, :-1]
        slopes = slopes + (inner * ((ax - bx).abs() + (ay - by).abs())).sum() / (inner.sum() * 3)
        if level == 0:  # as much fine texture as there should be, wherever it lies
            mine, true = ((x.abs() + y.abs()).mean(1, keepdim=True) for x, y in ((ax, ay), (bx, by)))
            spread = [F.avg_pool2d(inner * v, 9, 4) for v in (mine, true)]
            energy = (spread[0] - spread[1]).abs().mean() / (inner.mean() + 1e-6)
        a, b, w = (F.avg_pool2d(v, 2) for v in (a, b, w))
    still = flow.abs().mean() + 0.3 * sum(s.abs().mean() for s in _slopes(flow)) * flow.shape[-1] / 32
    calm = shade.abs().mean()
    loss = pixel + 0.6 * slopes + energy + 0.3 * still + 0.02 * calm
    with torch.no_grad():
        draft = torch.sqrt((pictures[:, :3] - answer) ** 2 + 1e-6)
        parts = {
            "pixel": float(pixel), "draft": float((importance * draft).sum() / total), "slopes": float(slopes),
            "energy": float(energy), "flow": float(still), "shade": float(calm),
        }  # fmt: skip
    return loss, parts


def _slopes(values: Tensor) -> tuple[Tensor, Tensor]:
    return (
        values[..., :-1, 1:] - values[..., :-1, :-1],
        values[..., 1:, :-1] - values[..., :-1, :-1],
    )


def optimise(
    network: Refiner,
    batches: Callable[[int], Tensor],
    steps: int,
    *,
    start: int = 0,
    rate: float = RATE,
    state: dict[str, Any] | None = None,
    after: Callable[[int, torch.optim.Optimizer, dict[str, float]], None] | None = None,
) -> None:
    """Train in place; `batches(step)` gives lessons, the rate warms up and falls to nothing, `after` is told every step."""
    device = next(network.parameters()).device
    optimiser = torch.optim.Adam(network.parameters(), lr=rate, betas=(0.9, 0.99))
    if state is not None:
        optimiser.load_state_dict(state)
    network.train()
    for step in range(start, steps):
        share = min(1.0, (step + 1) / 30) * 0.5 * (1 + np.cos(np.pi * step / steps))
        for group in optimiser.param_groups:
            group["lr"] = rate * max(float(share), 0.01)
        loss, parts = loss_of(network, batches(step).to(device, non_blocking=True))
        optimiser.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimiser.step()
        if after is not None:
            after(step, optimiser, parts)
    network.eval()


def load_refiner(path: Path | None = None) -> Refiner:
    """The generic start, or the weights in a file.

    Raises:
        CmetError: the file is missing or damaged.
    """
    file = asset(f"{WEIGHTS}.safetensors") if path is None else path
    network = Refiner()
    unlike = f"{file.name} does not hold the refiner's weights; remove it and start again."
    stored, _ = read_tensors(file, unlike)
    try:
        network.load_state_dict({name: value.float() for name, value in stored.items()})
    except RuntimeError as error:
        raise CmetError(unlike) from error
    return network.eval()


def save_refiner(network: Refiner, path: Path) -> None:
    """Write the weights as float16 safetensors."""
    save_file({name: value.half().contiguous().cpu() for name, value in network.state_dict().items()}, path)


def train_generic(
    clips: Sequence[Path],
    output: Path,
    work: Path,
    *,
    steps: int = STEPS,
    lessons: int = LESSONS,
    device: str = "cpu",
    progress: Progress | None = None,
) -> dict[str, float]:
    """Train the generic start on clips of many people; an interrupted run goes on from what lies in `work`.

    Args:
        clips: videos, one face each.
        output: weights to write (.safetensors).
        work: folder for lessons (1 MB each) and the checkpoint.
        steps: of training, `BATCH` lessons each.
        lessons: made from each clip.
        device: `cpu` or `cuda`.
        progress: called with ("train", done, in all).

    Returns:
        The loss's parts, means over the last steps.

    Raises:
        CmetError: there are no clips, or one cannot be read or shows no face.
    """
    from cmet_engine.face.clip import track_clip

    if not clips:
        raise CmetError("There are no clips to train on; give a folder with videos of talking people.")
    work.mkdir(parents=True, exist_ok=True)
    stored = []
    for number, clip in enumerate(clips):
        file = work / f"{clip.stem}.npy"
        if not file.is_file():
            geometry, source = track_clip(clip)
            usable = training_pairs.usable_frames(geometry)
            taken = training_pairs.read_lessons(clip, geometry, source, usable, round(1.5 * SIZE))
            random = np.random.default_rng(number)
            made = np.stack([training_pairs.lesson(taken, SIZE, random) for _ in range(lessons)])
            with whole_file(file) as temporary, temporary.open("wb") as opened:
                np.save(opened, made)
        stored.append(np.load(file, mmap_mode="r"))
        if progress:
            progress(Stage.TRAIN, 0, steps)
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
        return torch.from_numpy(np.stack([lesson[random.integers(len(lesson))] for lesson in chosen]))

    def after(step: int, optimiser: torch.optim.Optimizer, parts: dict[str, float]) -> None:
        recent.append(parts)
        del recent[:-CHECKPOINT_STEPS]
        if (step + 1) % CHECKPOINT_STEPS == 0:
            with whole_file(checkpoint, force=True) as temporary:
                torch.save(
                    {"network": network.state_dict(), "optimiser": optimiser.state_dict(), "step": step + 1}, temporary
                )
        if progress:
            progress(Stage.TRAIN, step + 1, steps)

    optimise(network, batch, steps, start=start, state=state, after=after)
    with whole_file(output, force=True) as temporary:
        save_refiner(network, temporary)
    return {name: round(float(np.mean([p[name] for p in recent])), 5) for name in (recent[0] if recent else {})}
