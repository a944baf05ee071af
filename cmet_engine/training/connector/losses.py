"""The losses that a connector is trained with (arXiv 2604.07786, section 3.3, and the numbers of its published training).

Total: reconstruction in both directions + 0.1 contrastive + 0.05 directional.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

# the published training's numbers
CONTRASTIVE_WEIGHT = 0.1
DIRECTIONAL_WEIGHT = 0.05
FOCAL_BETA = 0.2
FOCAL_GAMMA = 1.0
TEMPERATURE = 0.1


def focal_reconstruction(
    predicted: Tensor, wanted: Tensor, *, beta: float = FOCAL_BETA, gamma: float = FOCAL_GAMMA
) -> Tensor:
    """Squared error in which large errors count more: mean of e² (2σ(β|e|) - 1)^γ (focal regression, Yang et al. 2021, eq. 4).

    Args:
        predicted, wanted: [..., D] changes of expression, any shape, equal.
        beta, gamma: how fast and how strongly small errors lose weight.

    Returns:
        A number, 0 for a perfect prediction.
    """
    error = predicted - wanted
    return (error.square() * (2 * torch.sigmoid(beta * error.abs()) - 1) ** gamma).mean()


def contrastive(expression: Tensor, speech: Tensor, emotion: Tensor, *, temperature: float = TEMPERATURE) -> Tensor:
    """Pull the changes of face and voice of one emotion together, others apart (Khosla et al. 2020, eq. 2).

    Args:
        expression: [B, W] tokens of the change of expression (emotional minus neutral, mean over the window).
        speech: [B, W] tokens of the emotion vectors.
        emotion: [B] labels.

    Returns:
        A number.
    """
    features = F.normalize(torch.cat((expression, speech)), dim=-1)  # [2B, W]
    labels = torch.cat((emotion, emotion))
    logits = features @ features.T / temperature  # [2B, 2B]
    itself = torch.eye(len(labels), dtype=torch.bool, device=logits.device)
    logits = logits.masked_fill(itself, -torch.inf)
    log_share = logits - torch.logsumexp(logits, dim=1, keepdim=True)
    same = (labels[:, None] == labels[None]) & ~itself
    return -(log_share.masked_fill(~same, 0).sum(1) / same.sum(1).clamp(min=1)).mean()


def directional(forward: Tensor, backward: Tensor) -> Tensor:
    """The way to the emotion and the way back point in opposite directions: mean of (1 + cos)².

    Args:
        forward: [..., D] change predicted for the emotion vector.
        backward: [..., D] change predicted for its negative on the emotional expression.

    Returns:
        A number between 0 (opposite) and 4 (the same).
    """
    return (1 + F.cosine_similarity(forward, backward, dim=-1)).square().mean()
