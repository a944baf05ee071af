"""The refiner's loss and optimisation, for the fit to one clip (`fitting`) and for the generic weights (`training.refiner`).

Needs torch.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from cmet_engine.render.refine import pairs
from cmet_engine.render.refine.network import Refiner, compose

BATCH = 4
"""Training pairs of a step."""

RATE = 1e-3
"""Adam's highest learning rate for the generic weights; the fit to a clip takes a third of it."""

CLOSE_WEIGHT = 5.0
"""How much more eyes and mouth count than the rest of the face."""


def loss_of(network: Refiner, packed: Tensor) -> tuple[Tensor, dict[str, float]]:
    """The loss of a batch of training pairs, uint8 [B, CHANNELS, R, R], and its parts by name."""
    pictures, target, geometry, prior, near, mask = pairs.unpack(packed)
    weights, flow, shade = network(pictures, geometry, prior)
    predicted = compose(pictures, weights, flow, shade, mask)
    importance = mask * (1 + CLOSE_WEIGHT * near)
    total = importance.sum() * 3
    error = torch.sqrt((predicted - target) ** 2 + 1e-6)
    pixel = (importance * error).sum() / total
    slopes = pixel.new_zeros(())
    energy = pixel.new_zeros(())
    a, b, w = predicted, target, importance
    for level in range(3):
        (ax, ay), (bx, by) = _slopes(a), _slopes(b)
        inner = w[..., :-1, :-1]
        slopes = slopes + (inner * ((ax - bx).abs() + (ay - by).abs())).sum() / (inner.sum() * 3)
        if level == 0:  # as much fine texture as the target has, wherever it lies
            own, true = ((x.abs() + y.abs()).mean(1, keepdim=True) for x, y in ((ax, ay), (bx, by)))
            spread = [F.avg_pool2d(inner * v, 9, 4) for v in (own, true)]
            energy = (spread[0] - spread[1]).abs().mean() / (inner.mean() + 1e-6)
        a, b, w = (F.avg_pool2d(v, 2) for v in (a, b, w))
    still = flow.abs().mean() + 0.3 * sum(s.abs().mean() for s in _slopes(flow)) * flow.shape[-1] / 32
    calm = shade.abs().mean()
    loss = pixel + 0.6 * slopes + energy + 0.3 * still + 0.02 * calm
    with torch.no_grad():
        draft = torch.sqrt((pictures[:, :3] - target) ** 2 + 1e-6)
        parts = {
            "pixel": float(pixel), "draft": float((importance * draft).sum() / total), "slopes": float(slopes),
            "energy": float(energy), "flow": float(still), "shade": float(calm),
        }  # fmt: skip
    return loss, parts


def _slopes(values: Tensor) -> tuple[Tensor, Tensor]:
    """Differences along x and along y, each [..., R - 1, R - 1]."""
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
    """Train a network in place with Adam; the learning rate warms up over 30 steps and falls as a cosine.

    Args:
        network: on its device; left in evaluation mode.
        batches: called with the step, gives its training pairs uint8 [B, CHANNELS, R, R].
        steps: in all.
        start: the first step, of a run that goes on.
        rate: the highest learning rate.
        state: of the optimiser, of a run that goes on.
        after: called after every step with the step, the optimiser and the parts of the loss.
    """
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
