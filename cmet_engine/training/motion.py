"""Training of the `warp` renderer's motion model. Needs torch, the observations that the solver is trained with, and pictures.

Three steps. (1) From the observations: a prior, how the landmarks of one person move between expressions (principal
components of the differences within a person, mirrored too). (2) `render_samples`: faces warped by many motions, and what
`face_landmarker.task` reads from the pictures; a proxy network learns that reading from landmarks and motion, on real and
on warped faces. (3) `train_motion`: the motion network is trained through the frozen proxies so that the reading becomes
what was asked, near the prior, with eyes and lips as open as the coefficients ask for. People of the test side take part in
none of it.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import torch
from safetensors.numpy import save_file
from torch import nn
from torch.nn import functional as F

from cmet_engine import arkit
from cmet_engine.emotion import facs
from cmet_engine.emotion.expression_classifier import FrameReader
from cmet_engine.emotion.protection import LIP_GAP
from cmet_engine.emotions import LIBRARY
from cmet_engine.face.blendshapes import load_basis
from cmet_engine.face.landmarks import INNER_LIPS, LANDMARKS, LIDS, OVAL
from cmet_engine.face.pose import denormalise_motion, normalise, template
from cmet_engine.progress import Progress, Stage
from cmet_engine.render.motion import IRIS, UNSEEN, UNSEEN_SHARE, Motion, load_motion
from cmet_engine.render.warp import facing_weights, warp
from cmet_engine.smoothstep import smoothstep
from cmet_engine.training.face import TEST_EVERY, canonical

COMPONENTS, CODE, HIDDEN = 60, 40, 192
SIZE = LANDMARKS * 3

OVERSHOOT = {
    "jawOpen": 1.5, "mouthFrown": 1.8, "mouthStretch": 1.6, "browInnerUp": 1.6, "mouthPress": 1.8, "mouthUpperUp": 0.9,
    "mouthShrug": 1.3, "eyeSquint": 1.25, "mouthDimple": 1.3,
}  # fmt: skip
"""What is asked of the proxy beyond the change itself: raises that it reports late, found with people of the training side."""


@dataclass(frozen=True)
class Person:
    """Pictures of one person, or frames of one clip: landmarks [N, 478, 3] pixels, and the teacher's scores [N, 52]."""

    name: str
    landmarks: np.ndarray
    scores: np.ndarray
    clip: bool


def people(folder: Path, test_clips: frozenset[str] | set[str]) -> list[Person]:
    """Everybody of the training side in the folder that `face.observe` wrote, one entry per person or clip."""
    result = []
    with np.load(folder / "stills.npz") as data:
        names = [str(n) for n in data["names"]]
        landmarks, scores, who = data["landmarks"], canonical(data["teacher_scores"], names), data["person"]
    good = np.isfinite(landmarks).all((1, 2)) & np.isfinite(scores).all(1)
    for name in np.unique(who[good]):
        if int(str(name)[1:], 16) % TEST_EVERY:
            rows = good & (who == name)
            result.append(Person(str(name), landmarks[rows], scores[rows], False))
    for path in sorted((folder / "clips").glob("*.npz")):
        if path.stem in test_clips:
            continue
        with np.load(path) as data:
            landmarks, scores = data["landmarks"], canonical(data["teacher_scores"], [str(n) for n in data["names"]])
        good = np.isfinite(landmarks).all((1, 2)) & np.isfinite(scores).all(1)
        result.append(Person(path.stem, landmarks[good], scores[good], True))
    return result


@dataclass(frozen=True)
class Warped:
    """Faces that were warped and read: pose-free points and motions [K, 478, 3], scores before and after [K, 52]."""

    points: np.ndarray
    motion: np.ndarray
    before: np.ndarray
    after: np.ndarray


def taking_part() -> np.ndarray:
    """How far a landmark takes part in any motion [478]: it fades towards temples and ears, keeps a part under the hairline
    and all of it at the chin.
    """
    points = template().points  # y up
    away = np.sqrt(((points[:, None, :2] - points[list(OVAL), :2]) ** 2).sum(-1)).min(1)
    height = -points[:, 1]
    weights = np.maximum(smoothstep(away, 0.0, 0.22), smoothstep(height, 0.55, 0.95))
    weights = np.maximum(weights, 0.4 * smoothstep(height, -0.2, -0.45))
    weights[IRIS] = 1
    return weights


def motion_prior(everybody: Iterable[Person]) -> tuple[np.ndarray, np.ndarray]:
    """Principal components [1434, 60] of how landmarks move within a person, and their variances [60]."""
    covariance, total = np.zeros((SIZE, SIZE)), 0.0
    mirror = template().mirror
    for person in everybody:
        if len(person.landmarks) < 2:
            continue
        step = max(1, len(person.landmarks) // 300) * 2 if person.clip else 1
        points = normalise(person.landmarks[::step])[0]
        if len(points) < 2:
            continue
        away = points - points.mean(0)
        share = 40.0 if person.clip else float(min(len(points), 4))  # a clip must not count as hundreds of people
        for rows in (away, (away * [-1, 1, 1])[:, mirror]):
            rows = rows.reshape(len(rows), -1)
            covariance += rows.T @ rows * (share / (len(rows) - 1))
            total += share
    values, vectors = np.linalg.eigh(covariance / total)
    components = vectors[:, ::-1][:, :COMPONENTS].reshape(LANDMARKS, 3, COMPONENTS).copy()
    components[IRIS] = 0  # eyes look where they looked
    return components.reshape(SIZE, COMPONENTS), values[::-1][:COMPONENTS].copy()


def draw_changes(source: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Random changes [N, 52] to ask of faces with coefficients `source` [N, 52]: emotions, mixtures of two, single shapes."""
    left = [arkit.INDEX[a] for a, _ in arkit.PAIRS]
    right = [arkit.INDEX[b] for _, b in arkit.PAIRS]
    change = np.zeros_like(source)
    for row, now in zip(change, source, strict=True):
        kind = rng.random()
        if kind < 0.7:
            names = rng.choice(LIBRARY, 1 if kind < 0.55 else 2, replace=False)
            for name in names:
                strength = rng.uniform(0.3, 1.3) / (1 if len(names) == 1 else 1.4)
                row += strength * (
                    facs.mean_expression(name) * rng.normal(1, 0.25, arkit.COUNT)
                    - np.broadcast_to(facs.relaxed_share(name), arkit.COUNT) * now
                )
        else:
            columns = rng.choice(arkit.COUNT, rng.integers(1, 6), replace=False)
            row[columns] = rng.uniform(-0.5, 0.9, len(columns))
        lean = rng.normal(1, 0.1)
        row[left] *= lean
        row[right] *= 2 - lean
    change = np.clip(source + change, 0, 0.97) - np.clip(source, 0, 0.97)
    change[:, arkit.columns(arkit.GAZE)] = 0
    return change.astype(np.float32)


def render_samples(
    pictures: Iterable[tuple[np.ndarray, np.ndarray]],
    motion: Motion,
    landmarker: Path,
    *,
    seed: int = 0,
    each: int = 2,
    progress: Progress | None = None,
) -> Warped:
    """Warp faces by what a motion model answers, scaled and disturbed, and read the pictures.

    Args:
        pictures: (uint8 [H, W, 3], landmarks [478, 3] pixels) of people of the training side.
        motion: a first or earlier model.
        landmarker: MediaPipe's `face_landmarker.task`.
        seed: of the drawing.
        each: warps of every picture.
        progress: called with ("warping", pictures done, None).
    """
    rng, reader = np.random.default_rng(seed), FrameReader(landmarker)
    rows: list[tuple[np.ndarray, ...]] = []
    for done, (image, landmarks) in enumerate(pictures):
        if progress:
            progress(Stage.WARP, done, None)
        before = reader([image])[1]
        if not np.isfinite(before).all():
            continue
        points, pose = normalise(landmarks[None])
        for _ in range(each):
            move = motion.pose_free(points, draw_changes(before, rng) * rng.uniform(0.7, 1.6))
            move = move * (1 if rng.random() < 0.5 else rng.uniform(0.5, 1.3))
            if rng.random() < 0.4:
                move = move + 0.5 * (motion.components @ rng.normal(size=COMPONENTS)).reshape(1, LANDMARKS, 3)
            move = move * facing_weights(landmarks[None])[..., None]
            if np.abs(move).max() > 0.3:
                continue
            after = reader([warp(image, landmarks.astype(np.float64), denormalise_motion(move, pose)[0])])[1]
            if np.isfinite(after).all():
                rows.append((points[0], move[0], before[0], after[0]))
    return Warped(*(np.array(column, np.float32) for column in zip(*rows, strict=True)))


class Proxy(nn.Module):
    """What `face_landmarker.task` would read (logits [B, 52]) from a face [B, 1434] whose picture was warped by [B, 1434]."""

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
    """Learn the reader from real faces (no motion) and warped ones, about half of each."""
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
    for _ in range(steps):
        rows = rng.choice(len(x), 128, p=chance)
        read = torch.sigmoid(proxy(x[rows] + torch.randn(128, SIZE) * 0.006, m[rows]))
        error = read - target[rows]
        optimiser.zero_grad()
        (error.abs() + error**2).mean().backward()
        optimiser.step()
        schedule.step()
    return proxy.eval().requires_grad_(False)


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


def by_prefix(values: dict[str, float], rest: float) -> torch.Tensor:
    """[52] from values for every name that begins with a key."""
    result = torch.full((arkit.COUNT,), rest)
    for prefix, value in values.items():
        result[[i for i, n in enumerate(arkit.NAMES) if n.startswith(prefix)]] = value
    return result


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
        proxies: from `train_proxy`, with different seeds, so that none of them is outwitted.
        path: the safetensors file to write.
        naturalness: weight of the squared distance from rest, in standard deviations of what people do.
        steps: of 96 faces each.
        seed: of the drawing.
        progress: called with ("training", steps done, steps).
    """
    everybody = list(everybody)
    rng = np.random.default_rng(seed)
    torch.manual_seed(seed)
    components, variances = motion_prior(everybody)
    weights = taking_part()
    components = (components.reshape(LANDMARKS, -1) * weights[:, None]).reshape(SIZE, COMPONENTS) * np.sqrt(variances)
    faces = [normalise(s.landmarks[:: 2 if s.clip else 1])[0].reshape(-1, SIZE) for s in everybody]
    chance = np.concatenate([np.full(len(f), len(f) ** -0.5) for f in faces])
    points = np.concatenate(faces).astype(np.float32)
    mean = points.mean(0)
    _, size, directions = np.linalg.svd((points - mean)[rng.permutation(len(points))[:3000]], full_matrices=False)
    shape = (0.3 * directions[:CODE].T / (size[:CODE] / np.sqrt(min(len(points), 3000)))).astype(np.float32)
    unseen, gaze = arkit.columns(UNSEEN), arkit.columns(arkit.GAZE)
    fixed = (load_basis().components[unseen] * UNSEEN_SHARE[:, None, None] * weights[:, None]).reshape(
        len(unseen), SIZE
    )
    mix = torch.as_tensor(components, dtype=torch.float32)
    fixed_motion = torch.as_tensor(fixed, dtype=torch.float32)
    network = MotionNetwork()
    optimiser = torch.optim.AdamW(network.parameters(), 1e-3, weight_decay=1e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, 2e-3, steps)
    overshoot = by_prefix(OVERSHOOT, 1.0)
    x_all, code_all = torch.from_numpy(points), torch.from_numpy((points - mean) @ shape)
    for step in range(steps):
        if progress:
            progress(Stage.TRAIN, step, steps)
        rows = rng.choice(len(points), 96, p=chance / chance.sum())
        x, proxy = x_all[rows], proxies[step % len(proxies)]
        now = torch.sigmoid(proxy(x, torch.zeros_like(x)))
        start = now.numpy().copy()
        start[:, unseen] = 0
        change = torch.from_numpy(draw_changes(start, rng))
        amounts = network(code_all[rows], change)
        motion = amounts @ mix.T + change[:, unseen] @ fixed_motion
        read = torch.sigmoid(proxy(x, motion))
        wanted = (now + torch.where(change > 0, overshoot, torch.ones(())) * change).clamp(0, 0.97)
        loss = _reading_loss(read, wanted, change, gaze, unseen) + naturalness * (amounts**2).sum(1)
        loss = (loss + 0.5 * _opening_loss(x, x + motion, change)).mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        schedule.step()
    arrays = {"mean": mean, "shape": shape, "linear": network.linear.weight, "components": mix, "weights": weights}
    for i, layer in enumerate(network.layers):
        arrays |= {f"layers.{i}.weight": layer.weight, f"layers.{i}.bias": layer.bias}
    save_file(
        {
            k: np.ascontiguousarray(v.detach().numpy() if isinstance(v, torch.Tensor) else v, np.float32)
            for k, v in arrays.items()
        },
        path,
    )


def _reading_loss(
    read: torch.Tensor, wanted: torch.Tensor, change: torch.Tensor, gaze: list[int], unseen: list[int]
) -> torch.Tensor:
    """How far the reading is from what was asked [B], asked coefficients above all."""
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
    # the reader hardly ever reports raised inner brows and lowered brows together: the larger one is wanted
    both = (change[:, inner] > 0.2)[:, None] & (change[:, brows] > 0)
    tolerance[:, brows] = torch.where(both, 4 * tolerance[:, brows], tolerance[:, brows])
    corners = torch.tensor([n.startswith(("mouthFrown", "mouthStretch")) for n in arkit.NAMES])
    tolerance = torch.where(corners & (change > 0.15), tolerance / 1.5, tolerance)
    fit = F.huber_loss((read - wanted) / tolerance, torch.zeros_like(read), delta=2.0, reduction="none").sum(1)
    # logits too, because the reading is flat near 0 and a gradient is needed there
    far = (torch.logit(read.clamp(0.003, 0.99)) - torch.logit(wanted.clamp(0.01, 0.97))).abs()
    return fit + 0.5 * (far * (size / 0.3).clamp(max=2)).sum(1)


def _opening_loss(before: torch.Tensor, after: torch.Tensor, change: torch.Tensor) -> torch.Tensor:
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


def train(
    observations: Path,
    stills: Path,
    landmarker: Path,
    output: Path,
    *,
    test_clips: frozenset[str] | set[str] = frozenset(),
    count: int = 2500,
    progress: Progress | None = None,
) -> None:
    """The whole training, starting from the embedded model.

    Args:
        observations: folder that `face.observe` wrote.
        stills: folder that the pictures' paths in it are relative to.
        landmarker: MediaPipe's `face_landmarker.task`.
        output: the safetensors file to write.
        test_clips: names of the clips kept aside.
        count: pictures to warp, each twice.
        progress: called with (stage, done, in all).
    """
    everybody = people(observations, test_clips)
    with np.load(observations / "stills.npz") as data:
        who = np.array([int(str(p)[1:], 16) % TEST_EVERY for p in data["person"]])
        landmarks, paths = data["landmarks"], data["paths"]
        if "variant" in data:
            who[data["variant"] > 0] = 0  # bent pictures are not on the disk
    rows = np.flatnonzero((who > 0) & np.isfinite(landmarks).all((1, 2)))
    rows = np.random.default_rng(0).permutation(rows)[:count]

    def pictures() -> Iterable[tuple[np.ndarray, np.ndarray]]:
        for row in rows:
            image = cv2.imread(str(stills / str(paths[row])))
            if image is not None:
                yield np.ascontiguousarray(image[..., ::-1]), landmarks[row]

    warped = render_samples(pictures(), load_motion(), landmarker, progress=progress)
    proxies = [train_proxy(everybody, warped, seed=seed) for seed in (1, 2, 3)]
    train_motion(everybody, proxies, output, progress=progress)
