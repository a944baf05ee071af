"""Training of the motion model, in three steps.

1. The observations give the principal components of how the landmarks of one person move between expressions.
2. Faces are warped by many motions, and `face_landmarker.task` estimates the coefficients of the pictures. Proxy networks
   learn that estimate from landmarks and motion, on real and on warped faces.
3. The motion network is trained through the frozen proxies so that the estimate becomes what was asked, near what people
   do, with eyes and lips as open as the coefficients ask for.

Held-out people take part in none of it.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import torch
from safetensors.numpy import save_file
from torch import nn
from torch.nn import functional as F

from cmet_engine import arkit
from cmet_engine.face.blendshapes import load_basis
from cmet_engine.face.pose import LANDMARKS, normalise
from cmet_engine.progress import Progress
from cmet_engine.render.motion import UNSEEN, UNSEEN_SHARE, Motion, load_motion
from cmet_engine.training.face.samples import observed_pictures
from cmet_engine.training.loop import TOTAL, Loop
from cmet_engine.training.motion.data import (
    CODE,
    COMPONENTS,
    HIDDEN,
    SIZE,
    Person,
    draw_changes,
    motion_prior,
    people,
    render_samples,
    taking_part,
)
from cmet_engine.training.motion.losses import OVERSHOOT, by_prefix, estimate_loss, opening_loss
from cmet_engine.training.motion.proxy import Proxy, train_proxy

BATCH = 96


class MotionNetwork(nn.Module):
    """Code of a face [B, 40] and change [B, 52] -> amounts of the components, in standard deviations [B, 60]; 0 for none."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(arkit.COUNT, COMPONENTS, bias=False)
        last = nn.Linear(HIDDEN, COMPONENTS)
        nn.init.zeros_(last.weight)
        self.layers = nn.ModuleList([nn.Linear(CODE + arkit.COUNT, HIDDEN), nn.Linear(HIDDEN, HIDDEN), last])

    def bent(self, code: torch.Tensor, change: torch.Tensor) -> torch.Tensor:
        """The part that is not linear."""
        x = torch.cat([code, change], 1)
        return self.layers[2](F.silu(self.layers[1](F.silu(self.layers[0](x)))))

    def forward(self, code: torch.Tensor, change: torch.Tensor) -> torch.Tensor:
        """Amounts [B, 60]."""
        return self.linear(change) + self.bent(code, change) - self.bent(code, torch.zeros_like(change))


def train_motion(
    everybody: Iterable[Person],
    proxies: list[Proxy],
    path: Path,
    *,
    naturalness: float = 0.15,
    steps: int = 2500,
    seed: int = 0,
    progress: Progress | None = None,
) -> None:
    """Train the motion network through frozen proxies and write the asset.

    Args:
        everybody: from `people`.
        proxies: from `train_proxy`, with different seeds, so that the network cannot exploit the errors of one.
        path: the safetensors file to write.
        naturalness: weight of the squared distance from rest, in standard deviations of what people do.
        steps: of `BATCH` faces each.
        seed: of the drawing.
        progress: called as `progress(Stage.TRAIN, steps done, steps)`.
    """
    rng = np.random.default_rng(seed)
    torch.manual_seed(seed)
    faces = _faces(list(everybody), rng)
    unseen, gaze = arkit.columns(UNSEEN), arkit.columns(arkit.GAZE)
    fixed = (load_basis().components[unseen] * UNSEEN_SHARE[:, None, None] * faces.weights[:, None]).reshape(
        len(unseen), SIZE
    )
    mix = torch.as_tensor(faces.components, dtype=torch.float32)
    fixed_motion = torch.as_tensor(fixed, dtype=torch.float32)
    network = MotionNetwork()
    optimiser = torch.optim.AdamW(network.parameters(), 1e-3, weight_decay=1e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, 2e-3, steps)
    overshoot = by_prefix(OVERSHOOT, 1.0)
    x_all, code_all = torch.from_numpy(faces.points), torch.from_numpy((faces.points - faces.mean) @ faces.shape)

    def rows(_: int) -> np.ndarray:
        return rng.choice(len(x_all), BATCH, p=faces.chance)

    def objective(step: int, rows: np.ndarray) -> dict[str, torch.Tensor]:
        x, proxy = x_all[rows], proxies[step % len(proxies)]
        now = torch.sigmoid(proxy(x, torch.zeros_like(x)))
        start = now.numpy().copy()
        start[:, unseen] = 0
        change = torch.from_numpy(draw_changes(start, rng))
        amounts = network(code_all[rows], change)
        motion = amounts @ mix.T + change[:, unseen] @ fixed_motion
        estimate = torch.sigmoid(proxy(x, motion))
        wanted = (now + torch.where(change > 0, overshoot, torch.ones(())) * change).clamp(0, 0.97)
        loss = estimate_loss(estimate, wanted, change, gaze, unseen) + naturalness * (amounts**2).sum(1)
        return {TOTAL: (loss + 0.5 * opening_loss(x, x + motion, change)).mean()}

    Loop(network, optimiser, schedule, rows, objective, (TOTAL,), steps, progress=progress).run()
    _write(path, network, faces, mix)


@dataclass(frozen=True)
class _Faces:
    """Faces to train with, and what the network is built on.

    Attributes:
        points: float32 [N, 1434] pose-free landmarks.
        chance: [N] how often each is drawn.
        mean: [1434] of the landmarks.
        shape: float32 [1434, 40] landmarks -> code of a face.
        components: [1434, 60] of motion, in standard deviations, faded by `weights` [478].
    """

    points: np.ndarray
    chance: np.ndarray
    mean: np.ndarray
    shape: np.ndarray
    components: np.ndarray
    weights: np.ndarray


def first_motion(everybody: list[Person]) -> Motion:
    """A motion model that moves the landmarks as the basis does, to warp the first faces with where there is no other."""
    faces = _faces(everybody, np.random.default_rng(0))
    wanted = (load_basis().components * faces.weights[:, None]).reshape(arkit.COUNT, SIZE)
    linear = np.linalg.lstsq(faces.components, wanted.T, rcond=1e-6)[0].astype(np.float32)
    layers = ((HIDDEN, CODE + arkit.COUNT), (HIDDEN, HIDDEN), (COMPONENTS, HIDDEN))
    empty = tuple((np.zeros(shape, np.float32), np.zeros(shape[0], np.float32)) for shape in layers)
    mix = faces.components.astype(np.float32)
    return Motion(faces.mean, faces.shape, linear, empty, mix, faces.weights.astype(np.float32))


def _faces(everybody: list[Person], rng: np.random.Generator) -> _Faces:
    components, variances = motion_prior(everybody)
    weights = taking_part()
    components = (components.reshape(LANDMARKS, -1) * weights[:, None]).reshape(SIZE, COMPONENTS) * np.sqrt(variances)
    faces = [normalise(s.landmarks[:: 2 if s.clip else 1])[0].reshape(-1, SIZE) for s in everybody]
    chance = np.concatenate([np.full(len(f), len(f) ** -0.5) for f in faces])
    points = np.concatenate(faces).astype(np.float32)
    mean = points.mean(0)
    _, size, directions = np.linalg.svd((points - mean)[rng.permutation(len(points))[:3000]], full_matrices=False)
    shape = (0.3 * directions[:CODE].T / (size[:CODE] / np.sqrt(min(len(points), 3000)))).astype(np.float32)
    return _Faces(points, chance / chance.sum(), mean, shape, components, weights)


def _write(path: Path, network: MotionNetwork, faces: _Faces, mix: torch.Tensor) -> None:
    arrays = {
        "mean": faces.mean, "shape": faces.shape, "linear": network.linear.weight, "components": mix,
        "weights": faces.weights,
    }  # fmt: skip
    for i, layer in enumerate(network.layers):
        arrays |= {f"layers.{i}.weight": layer.weight, f"layers.{i}.bias": layer.bias}
    save_file(
        {
            k: np.ascontiguousarray(v.detach().numpy() if isinstance(v, torch.Tensor) else v, np.float32)
            for k, v in arrays.items()
        },
        path,
    )


def train_from_observations(
    observations: Path,
    stills: Path,
    landmarker: Path,
    output: Path,
    *,
    test_clips: frozenset[str] | set[str] = frozenset(),
    count: int = 2500,
    afresh: bool = False,
    progress: Progress | None = None,
) -> None:
    """The whole training, starting from the embedded model, or `afresh` from the basis.

    Args:
        observations: folder that `observe` wrote.
        stills: folder that the pictures' paths in it are relative to.
        landmarker: MediaPipe's `face_landmarker.task`.
        output: the safetensors file to write.
        test_clips: names of the held-out clips.
        count: pictures to warp, each twice.
        progress: called as `progress(stage, done, total)`.
    """
    everybody = people(observations, test_clips)
    paths, landmarks = observed_pictures(observations)
    rows = np.random.default_rng(0).permutation(len(paths))[:count]

    def pictures() -> Iterator[tuple[np.ndarray, np.ndarray]]:
        for row in rows:
            image = cv2.imread(str(stills / paths[row]))
            if image is not None:
                yield np.ascontiguousarray(image[..., ::-1]), landmarks[row]

    start = first_motion(everybody) if afresh else load_motion()
    warped = render_samples(pictures(), start, landmarker, progress=progress)
    proxies = [train_proxy(everybody, warped, seed=seed) for seed in (1, 2, 3)]
    train_motion(everybody, proxies, output, progress=progress)
