"""One training run of a connector."""

from collections.abc import Callable
from dataclasses import asdict, fields
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from cmet_engine.emotion.connector import Connector
from cmet_engine.progress import Progress
from cmet_engine.training.connector import losses
from cmet_engine.training.connector.batches import Batch
from cmet_engine.training.connector.config import ConnectorConfig
from cmet_engine.training.loop import TOTAL, Checkpoint, LearningRate, Loop, warm_cosine

PARTS = (TOTAL, "reconstruction", "contrastive", "directional")
"""The losses in the curve of a run, beside the steps done."""

RECORD_EVERY = 50  # steps between two rows of the curve


def connector_loss(network: Connector, batch: Batch, config: ConnectorConfig, device: str = "cpu") -> dict[str, Tensor]:
    """The losses of a batch, named as in `PARTS`: the total, reconstruction both ways, contrastive, directional."""
    speech, neutral, emotional, reference, emotion = (
        getattr(batch, f.name).to(device, non_blocking=True) for f in fields(Batch)
    )
    wanted = emotional - neutral
    tokens = {
        sign: (network.encode_reference(sign * reference), network.encode_speech(sign * speech)) for sign in (1, -1)
    }
    before, after = network.encode_expression(neutral), network.encode_expression(emotional)
    forward = network.fuse(*tokens[1], before)
    backward = network.fuse(*tokens[-1], after)
    focus = {"beta": config.focal_beta, "gamma": config.focal_gamma}
    reconstruction = losses.focal_reconstruction(forward, wanted, **focus)
    reconstruction = reconstruction + losses.focal_reconstruction(backward, -wanted, **focus)
    change = (after - before).mean(1)  # [B, width]
    contrast = losses.contrastive(change, tokens[1][1].squeeze(1), emotion, temperature=config.temperature)
    back = losses.contrastive(-change, tokens[-1][1].squeeze(1), emotion, temperature=config.temperature)
    contrast = (contrast + back) / 2
    direction = losses.directional(forward, backward)
    total = reconstruction + config.contrastive * contrast + config.directional * direction
    return dict(zip(PARTS, (total, reconstruction, contrast, direction), strict=True))


def train_connector(
    batches: Callable[[int], Batch],
    config: ConnectorConfig,
    *,
    checkpoint: Path | None = None,
    device: str = "cpu",
    workers: int = 1,
    mixed_precision: bool | None = None,
    start: Connector | None = None,
    progress: Progress | None = None,
) -> tuple[Connector, list[list[float]]]:
    """Train a connector with the paper's losses.

    Args:
        batches: step number -> batch: `UnpairedBatches` or `PairedBatches`.
        config: every number.
        checkpoint: file that the run is saved to every `checkpoint_every` steps, with its loss curve beside it as `.csv` and
            `.svg`, and resumed from when it is there.
        device: `cpu`, `cuda` or `mps`.
        workers: threads that make batches ahead.
        mixed_precision: matrix products in bfloat16; None does so on a CUDA GPU.
        start: a trained network of the same sizes to go on from; None starts afresh.
        progress: called as `progress(stage, done, total)`.

    Returns:
        The network in evaluation mode (with a running average of its weights) and the loss curve: rows of the steps done and
        the losses of `PARTS`.

    Raises:
        CmetError: the checkpoint is damaged or of a run with other settings or data, the disk is full, or the loss is no
            longer a number.
    """
    torch.manual_seed(config.seed)
    network = config.build()
    if start is not None:
        network.load_state_dict(start.state_dict())
    network.to(device)
    kind = torch.device(device).type
    mixed = kind == "cuda" if mixed_precision is None else mixed_precision

    def objective(_: int, batch: Batch) -> dict[str, Tensor]:
        with torch.autocast(kind, torch.bfloat16, enabled=mixed):
            return connector_loss(network, batch, config, device)

    optimiser = torch.optim.AdamW(network.parameters(), lr=config.learning_rate, weight_decay=config.weight_decay)
    rate = warm_cosine(config.learning_rate, warmup=config.warmup, steps=config.steps, final=config.final_rate)
    saved = partial(Checkpoint, config=asdict(config), data=_fingerprint(batches(0)), every=config.checkpoint_every)
    loop = Loop(
        network, optimiser, LearningRate(optimiser, rate), batches, objective, PARTS, config.steps,
        average=config.average, clip=config.clip, record_every=RECORD_EVERY, workers=workers, progress=progress,
        checkpoint=None if checkpoint is None else saved(checkpoint, curve=checkpoint.stem),
    )  # fmt: skip
    return network, loop.run()


def _fingerprint(batch: Batch) -> Tensor:
    """A batch in a few numbers [B, 5], by which a run on other data is recognised."""
    return torch.cat((batch.speech[:, 0, :4], batch.emotional.mean((1, 2))[:, None]), 1)
