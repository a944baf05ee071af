"""Networks that stand for the face landmarker: the scores that it would report of a warped face, with a gradient."""

from collections.abc import Iterable

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from cmet_engine import arkit
from cmet_engine.face.pose import normalise
from cmet_engine.training.loop import TOTAL, Loop
from cmet_engine.training.motion.data import SIZE, Person, Warped

BATCH = 128
LANDMARK_NOISE = 0.006  # outer-eye distances


class Proxy(nn.Module):
    """The scores (logits [B, 52]) that `face_landmarker.task` would report of a face [B, 1434] warped by a motion [B, 1434]."""

    def __init__(self, mean: np.ndarray, spread: np.ndarray, motion_spread: np.ndarray) -> None:
        super().__init__()
        self.mean, self.spread, self.motion_spread = (
            torch.as_tensor(v, dtype=torch.float32) for v in (mean, spread, motion_spread)
        )
        self.place, self.shift = nn.Linear(SIZE, 256), nn.Linear(SIZE, 256, bias=False)
        self.second, self.last = nn.Linear(256, 128), nn.Linear(128, arkit.COUNT)
        nn.init.normal_(self.shift.weight, 0, 0.005)

    def forward(self, points: torch.Tensor, motion: torch.Tensor) -> torch.Tensor:
        """Logits; the warped face lies at `points + motion`."""
        x = self.place((points + motion - self.mean) / self.spread) + self.shift(motion / self.motion_spread)
        return self.last(F.silu(self.second(F.silu(x))))


def train_proxy(everybody: Iterable[Person], warped: Warped, *, seed: int, steps: int = 3000) -> Proxy:
    """Learn the landmarker's scores from real faces (no motion) and warped ones, about half of each."""
    rng = np.random.default_rng(seed)
    torch.manual_seed(seed)
    everybody = list(everybody)
    points = np.concatenate([normalise(s.landmarks[:: 2 if s.clip else 1])[0].reshape(-1, SIZE) for s in everybody])
    scores = np.concatenate([s.scores[:: 2 if s.clip else 1] for s in everybody])
    mean, spread = points.mean(0), points.std(0) + 0.003
    motion = warped.motion.reshape(-1, SIZE)
    proxy = Proxy(mean, spread, motion.std(0) + 0.01)
    x = torch.as_tensor(np.concatenate([points, warped.points.reshape(-1, SIZE)]), dtype=torch.float32)
    m = torch.as_tensor(np.concatenate([np.zeros_like(points), motion]), dtype=torch.float32)
    target = torch.as_tensor(np.concatenate([scores, warped.after]), dtype=torch.float32)
    chance = np.concatenate([np.full(len(points), 0.45 / len(points)), np.full(len(motion), 0.55 / len(motion))])
    optimiser = torch.optim.AdamW(proxy.parameters(), 1e-3, weight_decay=0.03)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, 2e-3, steps)

    def rows(_: int) -> np.ndarray:
        return rng.choice(len(x), BATCH, p=chance)

    def objective(_: int, rows: np.ndarray) -> dict[str, torch.Tensor]:
        estimate = torch.sigmoid(proxy(x[rows] + torch.randn(BATCH, SIZE) * LANDMARK_NOISE, m[rows]))
        error = estimate - target[rows]
        return {TOTAL: (error.abs() + error**2).mean()}

    Loop(proxy, optimiser, schedule, rows, objective, (TOTAL,), steps).run()
    return proxy.requires_grad_(False)
