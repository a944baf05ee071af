"""The solver, which predicts coefficients from landmarks: MediaPipe's blendshape scores distilled into a small network."""

from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from cmet_engine import arkit
from cmet_engine.face import pose
from cmet_engine.face.blendshapes import SOLVER_FILE, mirror_motion
from cmet_engine.face.pose import normalise, pose_terms
from cmet_engine.progress import Progress, Stage
from cmet_engine.training.blendshape_teacher import Teacher
from cmet_engine.training.face.samples import Sample, load_observations, read_names, write_asset
from cmet_engine.training.loop import TOTAL, Loop

SOLVER_WIDTH = 384  # of the hidden layers; these are the embedded solver's, whose errors the model card lists
SOLVER_PAIRS = 140_000
SOLVER_EPOCHS = 12
SOLVER_BATCH = 256
LANDMARK_NOISE = 0.002  # outer-eye distances
SOLVER_RATE = 1e-3
PAIRS_AT_ONCE = 512
SPREAD_ROWS = 20_000  # faces that the spread of the inputs is taken from


class Pairs:
    """Endless pairs of pose-free landmarks and teacher's scores, most of them of synthetic faces.

    A synthetic face is an observed one moved by the difference between two other frames. The landmarks that the teacher is
    given move in the same way, or are what a linear map predicts from the tracker's, plus an error that the map made
    elsewhere. The teacher, run on them, gives the scores.
    """

    PLAIN = 0.15  # share of faces left as they are
    LARGEST = 1.2  # times the difference
    EXPECTED = 0.6  # share whose teacher's landmarks come from the map

    def __init__(self, samples: list[Sample], task: Path, seed: int) -> None:
        self._random = np.random.default_rng(seed)
        self._teacher = Teacher(task)
        mean = pose.template()
        self._groups = []
        for sample in samples:
            for mirrored in (False, True):
                seen, theirs = sample.landmarks, sample.teacher_landmarks
                if mirrored:
                    seen, theirs = pose.mirrored(seen, 0.0), pose.mirrored(theirs, 0.0)
                x, head = normalise(seen)
                y, their_head = normalise(theirs)
                self._groups.append(
                    (
                        (x - mean.points).astype(np.float32),
                        pose_terms(head.rotation)[:, :2].astype(np.float32),
                        (y - mean.points).astype(np.float32),
                        their_head,
                    )
                )
        sizes = np.array([len(g[0]) for g in self._groups])
        self._share = sizes / sizes.sum()
        a = np.concatenate([g[0] for g in self._groups]).reshape(sizes.sum(), -1)
        b = np.concatenate([g[2] for g in self._groups]).reshape(sizes.sum(), -1)
        self._map = np.linalg.solve(a.T @ a + 3 * np.eye(a.shape[1], dtype=np.float32), a.T @ b)
        self._errors = (b - a @ self._map).reshape(-1, pose.LANDMARKS, 3).astype(np.float16)
        self._first = np.concatenate([[0], np.cumsum(sizes)])

    def take(self, count: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Pose-free landmarks minus the mean face [count, 478, 3], sines of yaw and pitch [count, 2], scores [count, 52]."""
        random, mean = self._random, pose.template()
        faces, heads, pixels = [], [], []
        for g in random.choice(len(self._groups), count, p=self._share):
            x, turns, y, their_head = self._groups[g]
            i = random.integers(len(x))
            face, theirs = x[i].copy(), y[i].copy()
            if random.random() > self.PLAIN:
                other = self._groups[g if random.random() < 0.5 else random.choice(len(self._groups), p=self._share)]
                j, k = random.integers(len(other[0]), size=2)
                amount = random.uniform(0, self.LARGEST)
                face += amount * (other[0][j] - other[0][k])
                theirs += amount * (other[2][j] - other[2][k])
                if random.random() < self.EXPECTED:
                    error = self._errors[random.integers(self._first[g], self._first[g + 1])]
                    theirs = (face.reshape(-1) @ self._map).reshape(-1, 3) + error
            faces.append(face)
            heads.append(turns[i])
            pixels.append(pose.denormalise((mean.points + theirs)[None], their_head[i : i + 1])[0])
        scores = self._teacher(torch.from_numpy(np.stack(pixels).astype(np.float32))).numpy()
        return np.stack(faces), np.stack(heads), scores


def train_solver(
    observations: Path,
    task: Path,
    *,
    test_clips: Path | None = None,
    pairs: int = SOLVER_PAIRS,
    epochs: int = SOLVER_EPOCHS,
    seed: int = 0,
    progress: Progress | None = None,
) -> Path:
    """Distil MediaPipe's blendshape scores into a small network on the tracker's landmarks; writes the solver, returns its file.

    Args:
        observations: folder that `observe` wrote.
        task: MediaPipe's `face_landmarker.task`, the teacher.
        test_clips: file with the names of the held-out clips.
        pairs: synthetic faces (see `Pairs`), beside the observed ones.
        epochs: times that all are shown.
        seed: of all chance.
        progress: called as `progress(stage, done, total)`.
    """
    torch.manual_seed(seed)
    samples = load_observations(observations, read_names(test_clips), test=False)
    synthetic = Pairs(samples, task, seed)
    faces: list[np.ndarray] = []
    heads: list[np.ndarray] = []
    scores: list[np.ndarray] = []
    for done in range(0, pairs, PAIRS_AT_ONCE):
        if progress:
            progress(Stage.SYNTHESISE, done, pairs)
        for column, part in zip((faces, heads, scores), synthetic.take(PAIRS_AT_ONCE), strict=True):
            column.append(part.astype(np.float16))
    mean = pose.template()
    for sample in samples:
        x, head = normalise(sample.landmarks)
        turns = pose_terms(head.rotation)[:, :2]
        for mirrored in (False, True):
            face = (x - mean.points).reshape(len(x), -1)
            faces.append((mirror_motion(face) if mirrored else face).reshape(x.shape).astype(np.float16))
            heads.append((turns * pose.POSE_MIRROR[:2] if mirrored else turns).astype(np.float16))
            scores.append((sample.scores[:, arkit.MIRROR] if mirrored else sample.scores).astype(np.float16))
    return fit_solver(
        np.concatenate(faces), np.concatenate(heads), np.concatenate(scores), epochs=epochs, progress=progress
    )


def fit_solver(
    faces: np.ndarray, heads: np.ndarray, scores: np.ndarray, *, epochs: int, progress: Progress | None = None
) -> Path:
    """Train the network on pairs (see `Pairs.take`) and write it; returns its file."""
    x = torch.from_numpy(faces.reshape(len(faces), -1))
    scale = 1 / (x[:: max(1, len(x) // SPREAD_ROWS)].float().std(0) + 0.003)
    turns, wanted = torch.from_numpy(heads), torch.from_numpy(scores)
    spread = wanted[:: max(1, len(wanted) // SPREAD_ROWS)].float().std(0)
    weight = 1 / (spread + 0.03)  # a coefficient that moves little counts as much as one that moves much
    weight /= weight.mean()
    network = _network(x.shape[1] + 2)
    per_epoch = len(x) // SOLVER_BATCH
    steps = epochs * per_epoch
    order = torch.empty(0)

    def rows(step: int) -> Tensor:
        nonlocal order
        at = step % per_epoch
        if at == 0:
            order = torch.randperm(len(x))
        return order[at * SOLVER_BATCH : (at + 1) * SOLVER_BATCH]

    def objective(_: int, rows: Tensor) -> dict[str, Tensor]:
        face = x[rows].float() + LANDMARK_NOISE * torch.randn(SOLVER_BATCH, x.shape[1])
        predicted = torch.sigmoid(network(torch.cat([face * scale, turns[rows].float()], 1)))
        return {TOTAL: (weight * _error_loss(predicted - wanted[rows].float())).mean()}

    optimiser = torch.optim.AdamW(network.parameters(), SOLVER_RATE, weight_decay=1e-2)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, SOLVER_RATE, total_steps=steps)
    Loop(network, optimiser, schedule, rows, objective, (TOTAL,), steps, progress=progress).run()
    arrays = {"scale": scale.numpy()}
    for i, layer in enumerate(m for m in network if isinstance(m, nn.Linear)):
        arrays[f"layers.{i}.weight"] = layer.weight.detach().numpy().copy()
        arrays[f"layers.{i}.bias"] = layer.bias.detach().numpy().copy()
    return write_asset(SOLVER_FILE, arrays)


def _network(inputs: int) -> nn.Sequential:
    """Landmarks and head [B, inputs] -> logits [B, 52]."""
    return nn.Sequential(
        nn.Linear(inputs, SOLVER_WIDTH),
        nn.GELU(approximate="tanh"),
        nn.Dropout(0.05),
        nn.Linear(SOLVER_WIDTH, SOLVER_WIDTH),
        nn.GELU(approximate="tanh"),
        nn.Dropout(0.05),
        nn.Linear(SOLVER_WIDTH, arkit.COUNT),
    )


def _error_loss(error: Tensor) -> Tensor:
    """Loss of each coefficient's error [B, 52]: squared, and absolute so that small errors count too."""
    return 2 * error**2 + 0.6 * F.smooth_l1_loss(error, torch.zeros_like(error), reduction="none", beta=0.02)
