"""The losses that the speech encoder is trained with."""

import numpy as np
import torch
import torch.nn.functional as F

from cmet_engine.emotion.student import StudentOutput
from cmet_engine.training.speech.config import TrainingConfig
from cmet_engine.training.speech.targets import Targets

LOSSES = ("label", "distance", "direction", "difference", "contrast")


def losses(
    reading: StudentOutput,
    targets: Targets,
    picked: np.ndarray,
    mixed: tuple[float, np.ndarray] | None,
    centre: torch.Tensor,
    config: TrainingConfig,
) -> dict[str, torch.Tensor]:
    """The weighted parts of the loss of a batch of clips `picked` [B], which were `mixed` (share of the first, partner [B]) or not."""
    count = len(config.student.emotions)
    device = reading.scores.device
    places, weight, labels = (
        t[torch.from_numpy(picked)].to(device) for t in (targets.places, targets.weight, targets.labels)
    )
    known = (labels >= 0).float()
    wanted = F.one_hot(labels.clamp(min=0), count).float() * known[:, None]
    if mixed is not None:
        share, partner = mixed[0], torch.from_numpy(mixed[1]).to(device)
        wanted, places, weight, known = (share * t + (1 - share) * t[partner] for t in (wanted, places, weight, known))
    smooth = wanted * (1 - config.label_smoothing) + known[:, None] * config.label_smoothing / count
    features = reading.features.float()
    parts = {
        "label": -config.label * (smooth * F.log_softmax(reading.scores.float(), 1)).sum(1).mean(),
        "distance": (((features - places) ** 2).sum(1) / targets.spread * weight).mean(),
        "direction": config.direction
        * ((1 - F.cosine_similarity(features - centre, places - centre, dim=1)) * weight).mean(),
    }
    if config.difference and mixed is None:
        parts["difference"] = config.difference * difference_loss(features, places, torch.from_numpy(picked), targets)
    if config.contrast and mixed is None and int((labels >= 0).sum()) > 1:
        # Khosla et al. 2020, Supervised Contrastive Learning, equation 2
        unit = F.normalize(reading.embedding.float()[labels >= 0], dim=1)
        own = labels[labels >= 0]
        itself = torch.eye(len(own), dtype=torch.bool, device=device)
        alike = (own[:, None] == own[None]) & ~itself
        scores = (unit @ unit.T / config.temperature).masked_fill(itself, -1e9)
        log_share = scores - torch.logsumexp(scores, 1, keepdim=True)
        pairs = alike.sum(1)
        if bool((pairs > 0).any()):
            parts["contrast"] = -config.contrast * ((log_share * alike).sum(1) / pairs.clamp(min=1))[pairs > 0].mean()
    return parts


def difference_loss(places: torch.Tensor, wanted: torch.Tensor, rows: torch.Tensor, targets: Targets) -> torch.Tensor:
    """How far the difference of each emotional clip from the same speaker's neutral ones in the batch is off: angle and distance.

    Args:
        places, wanted: [B, any], where the clips lie and where they should.
        rows: int64 [B], which clips they are.
        targets: of all clips.

    Returns:
        Mean over the clips that have a neutral one beside them, weighted as their places are; 0 without any.
    """
    labels, speaker, weight = (t[rows].to(places.device) for t in (targets.labels, targets.speaker, targets.weight))
    neutral = ((speaker[:, None] == speaker[None]) & (labels == 0)[None]).to(places.dtype)  # [B, B]
    measured = (neutral.sum(1) > 0) & (labels > 0)
    if not bool(measured.any()):
        return places.sum() * 0
    average = neutral / neutral.sum(1, keepdim=True).clamp(min=1)
    vector, true = ((p - average @ p)[measured] for p in (places, wanted))
    off = 1 - F.cosine_similarity(vector, true, dim=1) + ((vector - true) ** 2).sum(1) / targets.spread
    return (off * weight[measured]).mean()
