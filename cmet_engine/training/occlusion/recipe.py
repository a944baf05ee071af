"""One training run of the occlusion network, and what `cmet train occlusion` does around it.

Faces with occluders are drawn all the time; a batch photographs some of the latest in new light.
"""

import json
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from cmet_engine.errors import InvalidInput
from cmet_engine.face.occlusion_network import SIDE
from cmet_engine.files import whole_file
from cmet_engine.progress import Progress
from cmet_engine.training.loop import TOTAL, Checkpoint, LearningRate, Loop, warm_cosine
from cmet_engine.training.occlusion.network import OcclusionNetwork, save_network
from cmet_engine.training.occlusion.samples import Faces, draw_scene, photograph, read_faces
from cmet_engine.training.settings import parse_settings

FACES, CHECKPOINT, WEIGHTS, FIGURES = "faces.npz", "checkpoint.pt", "occlusion.safetensors", "figures.json"
TEST_SAMPLES = 400
"""Faces of held-out people with occluders, on which the finished network is measured."""
TEST_SEED = 7
AHEAD = 64
"""Scenes beyond the pool that threads which make batches ahead may hold."""
LEAST_COVERED = 20.0
"""Pixels from which on a face counts as covered in the Dice loss."""
POSITIVE = 2.0
"""Weight of covered pixels in the cross-entropy: they are few."""


@dataclass(frozen=True)
class OcclusionConfig:
    """Every number of a training run.

    Attributes:
        seed: the same seed gives the same weights on the same machine.
        steps, batch: how many batches of how many crops.
        pool, drawn: how many scenes a batch is chosen from, and how many of them are replaced by new ones every step.
        learning_rate, warmup, weight_decay, clip: AdamW with a linear rise and a cosine fall; length of the gradient.
        average: decay of the running average of the weights, which is what is saved.
        overlap: weight of the soft Dice loss (Milletari et al. 2016, section 3) beside the cross-entropy.
        checkpoint: steps between two checkpoints.
    """

    seed: int = 1
    steps: int = 6000
    batch: int = 16
    pool: int = 512
    drawn: int = 3
    learning_rate: float = 3e-3
    warmup: int = 100
    weight_decay: float = 0.01
    clip: float = 2.0
    average: float = 0.99
    overlap: float = 1.0
    checkpoint: int = 50

    @classmethod
    def from_json(cls, text: str, name: str = "the configuration") -> "OcclusionConfig":
        """Read a configuration; fields that are absent keep their default.

        Raises:
            InvalidInput: not JSON, an unknown field, or a value of the wrong kind; the message names it.
        """
        return parse_settings(text, cls(), name)


def train_occlusion(
    index: Path,
    work: Path,
    *,
    config: OcclusionConfig | None = None,
    device: str = "cpu",
    workers: int = 0,
    progress: Progress | None = None,
) -> dict[str, float]:
    """Train the network; an interrupted run goes on from what lies in `work`, which receives the weights and figures, too.

    Args:
        index: see `read_faces`.
        work: folder; made when absent.
        config: every number; None: the defaults.
        device: `cpu`, `cuda` or `mps`.
        workers: threads that draw batches ahead.
        progress: called as `progress(stage, done, total)`.

    Returns:
        `iou`, `precision` and `recall` on people held out, and the share of bare faces with something found.

    Raises:
        CmetError: see `read_faces` and `Loop.run`, or there are too few people.
    """
    config = config or OcclusionConfig()
    try:
        work.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InvalidInput(f"Cannot make the folder {work}: {error.strerror}.") from error
    faces = read_faces(index, work / FACES, progress)
    held_out = faces.held_out
    if held_out.all() or not held_out.any():
        raise InvalidInput(f"{index} shows too few people; every fifth is kept to measure the result on.")
    network = _train(faces.chosen(~held_out), work, config, device, workers, progress)
    with whole_file(work / WEIGHTS, force=True) as temporary:
        save_network(network, temporary)
    figures = measure_network(network, faces.chosen(held_out), TEST_SAMPLES)
    (work / FIGURES).write_text(json.dumps(figures, indent=2) + "\n", "utf-8")
    return figures


def _train(
    faces: Faces, work: Path, config: OcclusionConfig, device: str, workers: int, progress: Progress | None
) -> OcclusionNetwork:
    torch.manual_seed(config.seed)
    network = OcclusionNetwork().to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    optimiser = torch.optim.AdamW(network.parameters(), config.learning_rate, weight_decay=config.weight_decay)
    schedule = LearningRate(optimiser, warm_cosine(config.learning_rate, warmup=config.warmup, steps=config.steps))

    @lru_cache(config.pool + AHEAD)
    def scene(number: int) -> tuple[np.ndarray, np.ndarray]:
        return draw_scene(faces, np.random.default_rng((config.seed, 0, number)))

    def batches(step: int) -> tuple[Tensor, Tensor]:
        random = np.random.default_rng((config.seed, 1, step))
        latest = config.drawn * step + np.arange(config.pool)
        chosen = [*latest[: config.drawn], *random.choice(latest, config.batch - config.drawn, replace=False)]
        pictures, covered = zip(*(photograph(scene(int(k)), random) for k in chosen), strict=True)
        return torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2), torch.from_numpy(np.stack(covered))

    def objective(_: int, batch: tuple[Tensor, Tensor]) -> dict[str, Tensor]:
        pictures = (batch[0].to(device).float() / 255).contiguous(memory_format=torch.channels_last)
        return losses(network(pictures), batch[1].to(device), config.overlap)

    checkpoint = Checkpoint(work / CHECKPOINT, asdict(config), None, config.checkpoint, "losses")
    Loop(
        network, optimiser, schedule, batches, objective, (TOTAL, "entropy", "overlap"), config.steps,
        average=config.average, clip=config.clip, checkpoint=checkpoint, record_every=20, workers=workers,
        progress=progress,
    ).run()  # fmt: skip
    return network.cpu()


def losses(logits: Tensor, covered: Tensor, overlap: float) -> dict[str, Tensor]:
    """Cross-entropy and soft Dice loss of logits [B, R, R]; `covered` [B, R, R, 2] in 0..1 is what is covered and what counts."""
    covered, known = covered.unbind(-1)
    entropy = F.binary_cross_entropy_with_logits(logits, covered, known, pos_weight=logits.new_tensor(POSITIVE))
    found, covered = torch.sigmoid(logits) * known, covered * known
    shared, both = (found * covered).sum((1, 2)), (found**2 + covered**2).sum((1, 2))
    some = covered.sum((1, 2)) > LEAST_COVERED  # the entropy alone speaks for bare faces
    dice = (1 - 2 * shared / both.clamp(min=1))[some].mean() if some.any() else shared.new_zeros(())
    return {TOTAL: entropy + overlap * dice, "entropy": entropy, "overlap": dice}


def measure_network(network: OcclusionNetwork, faces: Faces, count: int) -> dict[str, float]:
    """How well the network finds occluders that are drawn over faces; pixels are counted over all pictures together.

    Returns:
        `iou`, `precision`, `recall` of pixels at least half covered, and `bare`, the share of uncovered faces of which more
        than a thousandth is taken for covered.
    """
    network.eval()
    hit = found = true = 0
    bare: list[bool] = []
    random = np.random.default_rng(TEST_SEED)
    for _ in range(count):
        picture, covered = photograph(draw_scene(faces, random), random)
        known = covered[..., 1] > 0.5
        with torch.inference_mode():
            logits = network(torch.from_numpy(picture).permute(2, 0, 1)[None].float() / 255)[0].numpy()
        seen, wanted = (logits > 0) & known, (covered[..., 0] > 0.5) & known
        hit, found, true = hit + int((seen & wanted).sum()), found + int(seen.sum()), true + int(wanted.sum())
        if not wanted.any():
            bare.append(float(seen.mean()) > 1e-3)
    return {
        "iou": hit / max(found + true - hit, 1), "precision": hit / max(found, 1), "recall": hit / max(true, 1),
        "bare": float(np.mean(bare)) if bare else 0.0, "crops": count, "side": SIDE,
    }  # fmt: skip
