"""The losses of the motion model: how far the estimated coefficients, and the openings of eyes and lips, are from what was asked."""

import torch
from torch.nn import functional as F

from cmet_engine import arkit
from cmet_engine.emotion.protection import LIP_GAP
from cmet_engine.face.lips import INNER_LIPS, LIDS
from cmet_engine.face.pose import LANDMARKS

OVERSHOOT = {
    "jawOpen": 1.5, "mouthFrown": 1.8, "mouthStretch": 1.6, "browInnerUp": 1.6, "mouthPress": 1.8, "mouthUpperUp": 0.9,
    "mouthShrug": 1.3, "eyeSquint": 1.25, "mouthDimple": 1.3,
}  # fmt: skip
"""Factors of the asked changes that the landmarker underestimates, found with people of the training side."""


def by_prefix(values: dict[str, float], rest: float) -> torch.Tensor:
    """[52] from values for every name that begins with a key."""
    result = torch.full((arkit.COUNT,), rest)
    for prefix, value in values.items():
        result[[i for i, n in enumerate(arkit.NAMES) if n.startswith(prefix)]] = value
    return result


def estimate_loss(
    estimate: torch.Tensor, wanted: torch.Tensor, change: torch.Tensor, gaze: list[int], unseen: list[int]
) -> torch.Tensor:
    """How far the estimate is from what was asked [B], weighted towards the asked coefficients."""
    inner, brows = arkit.INDEX["browInnerUp"], arkit.columns(("browDownLeft", "browDownRight"))
    size = change.abs()
    tolerance = torch.where(
        size >= 0.15,
        0.08 * (0.4 / size.clamp(0.15, 0.8)).sqrt(),
        torch.where(size > 0.03, torch.tensor(0.2), torch.tensor(0.25)),
    )
    smile = torch.tensor([n.startswith("mouthSmile") for n in arkit.NAMES])  # shown teeth must not turn into a smile
    tolerance = torch.where(smile & (change <= 0.1), tolerance.clamp(max=0.1), tolerance)
    tolerance[:, gaze] = 0.5
    tolerance[:, unseen] = 10.0
    tolerance[:, inner] /= 1.5
    # the landmarker hardly ever reports raised inner brows and lowered brows together: the larger one is wanted
    both = (change[:, inner] > 0.2)[:, None] & (change[:, brows] > 0)
    tolerance[:, brows] = torch.where(both, 4 * tolerance[:, brows], tolerance[:, brows])
    corners = torch.tensor([n.startswith(("mouthFrown", "mouthStretch")) for n in arkit.NAMES])
    tolerance = torch.where(corners & (change > 0.15), tolerance / 1.5, tolerance)
    fit = F.huber_loss((estimate - wanted) / tolerance, torch.zeros_like(estimate), delta=2.0, reduction="none").sum(1)
    # logits too, because the estimate is flat near 0 and a gradient is needed there
    far = (torch.logit(estimate.clamp(0.003, 0.99)) - torch.logit(wanted.clamp(0.01, 0.97))).abs()
    return fit + 0.5 * (far * (size / 0.3).clamp(max=2)).sum(1)


def opening_loss(before: torch.Tensor, after: torch.Tensor, change: torch.Tensor) -> torch.Tensor:
    """Penalty [B] for eyes and lips that open or close further than the coefficients ask for."""
    old, new = (v.view(-1, LANDMARKS, 3)[..., 1] for v in (before, after))
    upper, lower = (list(v) for v in zip(*INNER_LIPS, strict=True))
    row = torch.zeros(arkit.COUNT)
    for name, value in LIP_GAP.items():
        names = [name] if name in arkit.INDEX else [name + "Left", name + "Right"]
        row[arkit.columns(names)] = value / len(names) * (0.4 if name == "mouthUpperUp" else 1.0)
    asked = (change @ row)[:, None]
    gap, moved = old[:, upper] - old[:, lower], new[:, upper] - new[:, lower]
    wanted = torch.maximum(gap + asked * torch.tensor([0.6, 0.9, 1.0, 0.9, 0.6]), gap.clamp(max=0.004))
    wanted = torch.where(asked < 0, torch.maximum(wanted, gap * 0.5), wanted)
    loss = (((moved - wanted) / 0.012) ** 2).clamp(max=200).mean(1)
    for side, pairs in zip(("Left", "Right"), LIDS, strict=True):
        upper, lower = (list(v) for v in zip(*pairs, strict=True))
        gap, moved = (old[:, upper] - old[:, lower]).mean(1), (new[:, upper] - new[:, lower]).mean(1)
        blink, squint, wide = (
            change[:, arkit.INDEX[n + side]].clamp(0, 1) for n in ("eyeBlink", "eyeSquint", "eyeWide")
        )
        most = gap.clamp(min=0.068) * (1.06 + 0.45 * wide)
        least = gap * (0.9 - 0.3 * squint - 0.9 * blink).clamp(min=0)
        over, under = (moved - most).clamp(min=0), (least - moved).clamp(min=0)
        loss = loss + ((over / 0.008) ** 2 + (under / 0.008) ** 2).clamp(max=200)
    return loss
