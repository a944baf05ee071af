"""Training of the small models between landmarks and coefficients: mean face, basis and solver.

The order is basis (with the mean face and what turning the head does to landmarks), then solver, which needs it. All learn from what `observe` wrote, and never from the people kept aside. Needs torch.
"""

import sys
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from safetensors.numpy import save_file
from torch import nn
from torch.nn import functional as F

from cmet_engine import arkit
from cmet_engine.errors import CmetError
from cmet_engine.face import pose
from cmet_engine.face.blendshapes import BASIS_FILE, BLIND, SOLVER_FILE, mirror_motion, read_back, rest_face
from cmet_engine.face.landmarks import OUTER_EYE_CORNERS
from cmet_engine.face.pose import TEMPLATE_FILE, Template, fit_similarity, normalise, pose_terms
from cmet_engine.face.smooth import smooth, window_half
from cmet_engine.models import assets
from cmet_engine.training.blendshape_teacher import Teacher
from cmet_engine.training.rig_shapes import rig_shapes

TEST_EVERY = 5  # of the people in the pictures, every fifth (by the number in the name) is kept aside
STILLS = "stills.npz"
CLIPS = "clips"


@dataclass
class Sample:
    """Pictures, or frames of one clip, with what was seen in them.

    Attributes:
        name: "stills", or the clip's name.
        landmarks: float32 [N, 478, 3] pixels, the tracker's.
        teacher_landmarks: float32 [N, 478, 3] pixels, those that the teacher saw.
        scores: float32 [N, 52] the teacher's scores in canonical order.
        varied: bool [N], a bent picture; the others of a clip are its frames in order.
    """

    name: str
    landmarks: np.ndarray
    teacher_landmarks: np.ndarray
    scores: np.ndarray
    varied: np.ndarray

    @property
    def clip(self) -> bool:
        """Frames of a clip, not pictures of many people."""
        return self.name != "stills"

    def only(self, rows: np.ndarray) -> "Sample":
        """Some of the rows."""
        return Sample(
            self.name, self.landmarks[rows], self.teacher_landmarks[rows], self.scores[rows], self.varied[rows]
        )


def canonical(scores: np.ndarray, names: list[str]) -> np.ndarray:
    """The teacher's scores [N, K] in canonical order [N, 52]."""
    result = np.zeros((len(scores), arkit.COUNT), np.float32)
    for column, name in enumerate(names):
        if name in arkit.INDEX:
            result[:, arkit.INDEX[name]] = scores[:, column]
    return result


def load_observations(folder: Path, test_clips: set[str], *, test: bool) -> list[Sample]:
    """What `observe` wrote: of the people to train on, or of those kept aside.

    Args:
        folder: holds `stills.npz` and `clips/*.npz`.
        test_clips: names of the clips kept aside.
        test: which of the two.

    Raises:
        CmetError: nothing is there.
    """
    samples = []
    for path in [folder / STILLS, *sorted((folder / CLIPS).glob("*.npz"))]:
        if not path.exists():
            continue
        with np.load(path) as data:
            sample = Sample(
                path.stem,
                data["landmarks"],
                data["teacher_landmarks"],
                canonical(data["teacher_scores"], [str(n) for n in data["names"]]),
                data["variant"] > 0,
            )
            if sample.clip:
                if (path.stem in test_clips) == test:
                    samples.append(sample)
            else:
                aside = np.array([int(str(p)[1:], 16) % TEST_EVERY == 0 for p in data["person"]])
                samples.append(sample.only(aside == test))
    if not samples:
        raise CmetError(f"{folder} holds no observations; run the observation of pictures and clips first.")
    return samples


def read_names(path: Path | None) -> set[str]:
    """Names of clips, one a line."""
    return set(path.read_text("utf-8").split()) if path else set()


def train_template(observations: Path, *, test_clips: Path | None = None) -> None:
    """The mean face, and which landmarks sit on bone; writes `face_template.safetensors`.

    Generalised Procrustes analysis (Gower 1975) with the weights of `Template`; left and right are averaged.
    """
    from scipy.optimize import linear_sum_assignment

    samples = load_observations(observations, read_names(test_clips), test=False)
    flip, sides = np.array([1.0, -1.0, -1.0]), np.array([-1.0, 1.0, 1.0])
    stills = np.concatenate([s.landmarks[~s.varied] for s in samples if not s.clip]).astype(np.float64) * flip
    clips = [s.landmarks[~s.varied][::10].astype(np.float64) * flip for s in samples if s.clip]
    points = stills[0] - stills[0].mean(0)
    points /= np.linalg.norm(np.subtract(*points[list(OUTER_EYE_CORNERS)]))
    weights = np.ones(pose.LANDMARKS)
    mirror = np.arange(pose.LANDMARKS)

    def aligned(x: np.ndarray) -> np.ndarray:
        scale, rotation, offset = fit_similarity(x, points, weights)
        return ((x - offset[:, None]) / scale[:, None, None]) @ rotation

    for step in range(15):
        points = np.median(aligned(stills), 0)
        if step < 5:
            reflected = points * sides
            reflected += (points - reflected).mean(0)
            distance = np.linalg.norm(reflected[:, None] - points[None], axis=2)
            mirror = linear_sum_assignment(distance)[1]
        points = (points + (points * sides)[mirror]) / 2
        points[:, 0] -= points[list(OUTER_EYE_CORNERS), 0].mean()
        points /= np.linalg.norm(np.subtract(*points[list(OUTER_EYE_CORNERS)]))
        if step >= 5:
            variance = np.median([aligned(c).var(0).sum(1) for c in clips], axis=0)
            variance = (variance + variance[mirror]) / 2
            weights = 1 / (variance + 1e-4)
            weights /= weights.max()
    _write(
        TEMPLATE_FILE,
        {
            "points": points.astype(np.float32),
            "weights": weights.astype(np.float32),
            "mirror": mirror.astype(np.int64),
            "turning": np.zeros((pose.POSE_TERMS, pose.LANDMARKS, 3), np.float32),
        },
    )
    pose.template.cache_clear()


BASIS_ROUNDS = 2  # of reading coefficients back and fitting anew
SHAPE_STRENGTH = (
    1.0  # how much the rig's shape of a coefficient weighs against what was seen, in square roots of frames
)
BLIND_STRENGTH = 20.0  # times that, where the teacher sees nothing
TURNING_STRENGTH = 0.05
OTHER_SIDE_STRENGTH = 50.0  # times the strength, for a coefficient of one side on the other side's landmarks
MIDDLE = 0.15  # outer-eye distances from the middle to where the other side begins in full
_BOTH_SIDES = ("jawLeft", "jawRight", "mouthLeft", "mouthRight")  # a direction, not a side of the face


def train_basis(observations: Path, rig: Path, *, test_clips: Path | None = None) -> None:
    """How each coefficient moves the landmarks, and how turning the head seems to; writes basis and template.

    The mean face is made first where there are pictures of many people; a solver trained before must be trained anew.

    Ridge regression over the clips towards the shapes of a rig (ICT-FaceKit), coefficients first from the teacher, then
    read back from the landmarks (`blendshapes.read_back`), in turns. Left and right are mirror images of each other.

    Args:
        observations: folder that `observe` wrote.
        rig: `ict_facekit_light.npz`.
        test_clips: file with the names of the clips kept aside.
    """
    if (observations / STILLS).exists():
        train_template(observations, test_clips=test_clips)
    else:
        _reset_turning()
    mean = pose.template()
    clips = [s for s in load_observations(observations, read_names(test_clips), test=False) if s.clip]
    points, terms, scores = [], [], []
    for sample in clips:
        frames = sample.only(~sample.varied)
        if len(frames.landmarks) < 10:
            continue
        x, head = normalise(frames.landmarks)
        points.append((x - mean.points).reshape(len(x), -1))
        terms.append(pose_terms(head.rotation))
        scores.append(smooth(frames.scores[..., None].astype(np.float64), window_half(25.0))[..., 0])
    shapes = rig_shapes(rig).reshape(arkit.COUNT, -1)
    strength = np.full(arkit.COUNT + pose.POSE_TERMS, SHAPE_STRENGTH)
    strength[[arkit.INDEX[n] for n in BLIND]] *= BLIND_STRENGTH
    strength[arkit.COUNT :] = TURNING_STRENGTH
    target = np.concatenate([shapes, np.zeros((pose.POSE_TERMS, shapes.shape[1]))])
    coefficients = [c.copy() for c in scores]
    components, turning = shapes, np.zeros((pose.POSE_TERMS, shapes.shape[1]))
    for step in range(BASIS_ROUNDS):
        if step:
            for i, x in enumerate(points):
                still = x - terms[i] @ turning
                rest = rest_face(still, scores[i], components)
                coefficients[i] = read_back((still - rest) @ components.T, scores[i], components)
        left, right = np.zeros((len(strength), len(strength))), np.zeros_like(target)
        for x, c, t in zip(points, coefficients, terms, strict=True):
            for mirrored in (False, True):
                if mirrored:
                    x, c, t = mirror_motion(x), c[:, arkit.MIRROR], t * pose.POSE_MIRROR
                rows = np.concatenate([c, t], 1)
                rows, motion = rows - rows.mean(0), x - x.mean(0)
                weight = len(rows) ** -0.5  # a long clip counts more than a short one, but not in proportion
                left, right = left + weight * rows.T @ rows, right + weight * rows.T @ motion
        solved = _solve_by_side(left, right, strength, target)
        components, turning = solved[: arkit.COUNT], solved[arkit.COUNT :]
        components = (components + mirror_motion(components)[list(arkit.MIRROR)]) / 2
        turning = (turning + mirror_motion(turning) * pose.POSE_MIRROR[:, None]) / 2
    _write(BASIS_FILE, {"components": components.reshape(arkit.COUNT, -1, 3).astype(np.float32)})
    _write_template(mean, turning)


def _solve_by_side(left: np.ndarray, right: np.ndarray, strength: np.ndarray, target: np.ndarray) -> np.ndarray:
    """Ridge regression towards `target`, held harder to it where a coefficient of one side would move the other.

    Real faces nearly always blink and smile with both sides, so that data alone cannot tell which side belongs to which.
    """
    solved = np.linalg.solve(left + np.diag(strength), right + strength[:, None] * target)
    across = np.repeat(pose.template().points[:, 0], 3)  # above 0: the person's left
    for side, inward in (("Right", 1), ("Left", -1)):
        held = strength.copy()
        held[[i for i, name in enumerate(arkit.NAMES) if name.endswith(side) and name not in _BOTH_SIDES]] *= (
            OTHER_SIDE_STRENGTH
        )
        other = np.linalg.solve(left + np.diag(held), right + held[:, None] * target)
        share = np.clip(inward * across / MIDDLE, 0, 1)
        solved += share**2 * (3 - 2 * share) * (other - solved)
    return solved


def _reset_turning() -> None:
    mean = pose.template()
    _write_template(mean, np.zeros_like(mean.turning))


def _write_template(mean: Template, turning: np.ndarray) -> None:
    _write(
        TEMPLATE_FILE,
        {
            "points": mean.points.astype(np.float32),
            "weights": mean.weights.astype(np.float32),
            "mirror": mean.mirror.astype(np.int64),
            "turning": turning.reshape(pose.POSE_TERMS, pose.LANDMARKS, 3).astype(np.float32),
        },
    )
    pose.template.cache_clear()


class Pairs:
    """Endless pairs of pose-free landmarks and teacher's scores, many of them of faces that nobody has.

    A face borrows the change of expression between two other frames. The teacher's own landmarks make the same move, or
    are what a linear map expects from the tracker's plus an error that the map made elsewhere; the teacher, run on
    them, says the scores.
    """

    PLAIN = 0.15  # share of frames left as they are
    LARGEST = 1.2  # of a borrowed change
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


SOLVER_WIDTH = 384
SOLVER_PAIRS = 140_000
SOLVER_EPOCHS = 12
SOLVER_BATCH = 256
LANDMARK_NOISE = 0.002  # outer-eye distances
SOLVER_RATE = 1e-3


def train_solver(
    observations: Path,
    task: Path,
    *,
    test_clips: Path | None = None,
    pairs: int = SOLVER_PAIRS,
    epochs: int = SOLVER_EPOCHS,
    minutes: float | None = None,
    seed: int = 0,
) -> None:
    """Distil MediaPipe's blendshape scores into a small network on the tracker's landmarks; writes the solver.

    Args:
        observations: folder that `observe` wrote.
        task: MediaPipe's `face_landmarker.task`, the teacher.
        test_clips: file with the names of the clips kept aside.
        pairs: faces made by borrowing (see `Pairs`), beside those seen.
        epochs: times that all are shown.
        minutes: stop making pairs after this long.
        seed: of all chance.
    """
    torch.manual_seed(seed)
    samples = load_observations(observations, read_names(test_clips), test=False)
    made = Pairs(samples, task, seed)
    faces: list[np.ndarray] = []
    heads: list[np.ndarray] = []
    scores: list[np.ndarray] = []
    began = time.monotonic()
    for done in range(0, pairs, 512):
        for kept, part in zip((faces, heads, scores), made.take(512), strict=True):
            kept.append(part.astype(np.float16))
        if done % 10240 == 0:
            print(f"made {done} of {pairs} pairs, {time.monotonic() - began:.0f} s", file=sys.stderr, flush=True)
        if minutes and time.monotonic() - began > 60 * minutes:
            break
    mean = pose.template()
    for sample in samples:
        x, head = normalise(sample.landmarks)
        turns = pose_terms(head.rotation)[:, :2]
        for mirrored in (False, True):
            face = (x - mean.points).reshape(len(x), -1)
            faces.append((mirror_motion(face) if mirrored else face).reshape(x.shape).astype(np.float16))
            heads.append((turns * pose.POSE_MIRROR[:2] if mirrored else turns).astype(np.float16))
            scores.append((sample.scores[:, arkit.MIRROR] if mirrored else sample.scores).astype(np.float16))
    fit_solver(np.concatenate(faces), np.concatenate(heads), np.concatenate(scores), epochs=epochs)


def fit_solver(faces: np.ndarray, heads: np.ndarray, scores: np.ndarray, *, epochs: int) -> None:
    """Train the network on pairs (see `Pairs.take`) and write it."""
    x = torch.from_numpy(faces.reshape(len(faces), -1))
    scale = 1 / (x[:: max(1, len(x) // 20000)].float().std(0) + 0.003)
    turns, wanted = torch.from_numpy(heads), torch.from_numpy(scores)
    spread = wanted[:: max(1, len(wanted) // 20000)].float().std(0)
    weight = 1 / (spread + 0.03)  # a coefficient that moves little counts as much as one that moves much
    weight /= weight.mean()
    net = nn.Sequential(
        nn.Linear(x.shape[1] + 2, SOLVER_WIDTH),
        nn.GELU(approximate="tanh"),
        nn.Dropout(0.05),
        nn.Linear(SOLVER_WIDTH, SOLVER_WIDTH),
        nn.GELU(approximate="tanh"),
        nn.Dropout(0.05),
        nn.Linear(SOLVER_WIDTH, arkit.COUNT),
    )
    optimiser = torch.optim.AdamW(net.parameters(), SOLVER_RATE, weight_decay=1e-2)
    steps = epochs * (len(x) // SOLVER_BATCH)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, SOLVER_RATE, total_steps=steps)
    began = time.monotonic()
    for epoch in range(epochs):
        order, total = torch.randperm(len(x)), 0.0
        for i in range(0, len(x) - SOLVER_BATCH + 1, SOLVER_BATCH):
            rows = order[i : i + SOLVER_BATCH]
            face = x[rows].float() + LANDMARK_NOISE * torch.randn(SOLVER_BATCH, x.shape[1])
            error = torch.sigmoid(net(torch.cat([face * scale, turns[rows].float()], 1))) - wanted[rows].float()
            loss = (
                weight
                * (2 * error**2 + 0.6 * F.smooth_l1_loss(error, torch.zeros_like(error), reduction="none", beta=0.02))
            ).mean()
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            schedule.step()
            total += loss.detach().item()
        print(
            f"epoch {epoch + 1} of {epochs}: loss {total * SOLVER_BATCH / len(x):.5f}, {time.monotonic() - began:.0f} s",
            file=sys.stderr,
            flush=True,
        )
    arrays = {"scale": scale.numpy()}
    for i, layer in enumerate(m for m in net if isinstance(m, nn.Linear)):
        arrays[f"layers.{i}.weight"] = layer.weight.detach().numpy().copy()
        arrays[f"layers.{i}.bias"] = layer.bias.detach().numpy().copy()
    _write(SOLVER_FILE, arrays)


def _write(name: str, arrays: dict[str, np.ndarray]) -> None:
    save_file({k: np.ascontiguousarray(v) for k, v in arrays.items()}, assets.ASSETS / name)
    print(f"wrote {name}, SHA-256 {assets.record(name)}", flush=True)
