"""Training of the signatures that tell people's faces apart (`cmet train identity`).

One picture of each person is enough: each is bent by the project's own `warp` into other expressions and turned a little, and
found again by the tracker; the look is also learned under changed light, focus, noise and occlusion. Axes are fitted that separate
people best against all of that.
"""

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from safetensors.numpy import save_file
from scipy.linalg import eigh
from scipy.spatial.transform import Rotation
from torch import Tensor

from cmet_engine import arkit
from cmet_engine.errors import InvalidInput
from cmet_engine.face.identity import look_features, rest_shape, texture
from cmet_engine.face.mesh import Detector, Mesh, box_of, cut_window
from cmet_engine.face.pose import Pose, denormalise, normalise
from cmet_engine.files import whole_file
from cmet_engine.media.picture import read_picture
from cmet_engine.progress import Progress, Stage
from cmet_engine.render.motion import landmark_motion
from cmet_engine.render.warp import warp
from cmet_engine.training.labelled_pictures import read_people

FORMAT = "cmet-identity/1"
SAMPLES = "samples.npz"
WINDOW = 192
"""Pixels of the window that a picture is cut to, twice as wide as the face."""
BENT = (
    ("browInnerUp", "browOuterUpLeft", "browOuterUpRight"), ("browDownLeft", "browDownRight"), ("jawOpen",),
    ("eyeSquintLeft", "eyeSquintRight"), ("eyeBlinkLeft", "eyeBlinkRight"), ("eyeWideLeft", "eyeWideRight"),
    ("mouthSmileLeft", "mouthSmileRight"), ("mouthFrownLeft", "mouthFrownRight"), ("mouthPucker",), ("mouthFunnel",),
    ("mouthStretchLeft", "mouthStretchRight"), ("mouthPressLeft", "mouthPressRight"),
    ("mouthUpperUpLeft", "mouthUpperUpRight"), ("mouthLowerDownLeft", "mouthLowerDownRight"),
)  # fmt: skip
"""Coefficients that are changed together."""
VARIANTS = 5
"""Bent copies of each picture."""
YAW, PITCH = 13.0, 7.0
"""Standard deviation by which they are turned, degrees."""
DISTURBED_BATCH = 200
"""Textures that are disturbed at a time."""


@dataclass(frozen=True)
class Axes:
    """How many axes are fitted: principal `components` kept, discriminant axes `kept`, and `shrinkage`, the share of the mean
    variance within people that is added to all directions."""

    components: int
    kept: int
    shrinkage: float


GEOMETRY, LOOK = Axes(100, 48, 0.01), Axes(250, 128, 0.2)


@dataclass(frozen=True)
class Samples:
    """Faces to learn from: `textures` uint8 [N, 64, 64, 3], `landmarks` [N, 478, 3], `person` int [N] counted from 0."""

    textures: np.ndarray
    landmarks: np.ndarray
    person: np.ndarray


def train_identity(index: Path, output: Path, work: Path, *, progress: Progress | None = None) -> dict[str, int]:
    """Train the signatures on pictures; the bent pictures are kept in `work`, and taken from there the next time.

    Args:
        index: a table with the columns `path` (beside the table) and `person`.
        output: weights to write (.safetensors), half precision.
        work: folder for the bent pictures.
        progress: called with ("warp", pictures done, in all).

    Returns:
        Numbers of people and faces.

    Raises:
        CmetError: the table or its pictures cannot be read, or fewer than two people are shown.
    """
    work.mkdir(parents=True, exist_ok=True)
    samples = _samples(index, work / SAMPLES, progress)
    people = int(samples.person.max()) + 1 if len(samples.person) else 0
    if people < 2:
        raise InvalidInput(f"{index} shows {people} people whose face is found; signatures need many.")
    looks = np.concatenate([look_features(part) for part in _with_disturbed(samples.textures)])
    arrays: dict[str, np.ndarray] = {}
    arrays["geometry_mean"], arrays["geometry_axes"] = fit_axes(rest_shape(samples.landmarks), samples.person, GEOMETRY)
    arrays["look_mean"], arrays["look_axes"] = fit_axes(looks, np.tile(samples.person, 2), LOOK)
    with whole_file(output, force=True) as temporary:
        half = {name: np.ascontiguousarray(values, np.float16) for name, values in arrays.items()}
        save_file(half, temporary, {"format": FORMAT})
    return {"people": people, "faces": len(samples.person)}


def _with_disturbed(textures: np.ndarray) -> Iterator[np.ndarray]:
    """The textures as they are, then all of them disturbed, some at a time."""
    parts = [textures[k : k + DISTURBED_BATCH] for k in range(0, len(textures), DISTURBED_BATCH)]
    yield from parts
    face = (textures > 0).any((0, 3))
    for number, part in enumerate(parts):
        pictures = torch.from_numpy(part).permute(0, 3, 1, 2).float() / 255
        changed = disturbed(pictures, torch.Generator().manual_seed(number)).permute(0, 2, 3, 1).numpy()
        yield (changed * 255).astype(np.uint8) * face[None, :, :, None]


def _samples(index: Path, stored: Path, progress: Progress | None) -> Samples:
    """The pictures' faces as they are and bent, from `stored` where that is there."""
    if not stored.is_file():
        made = _make_samples(index, progress)
        with whole_file(stored) as temporary, temporary.open("wb") as file:
            np.savez(file, **vars(made))
    with np.load(stored) as arrays:
        return Samples(**arrays)


def _make_samples(index: Path, progress: Progress | None) -> Samples:
    rows = read_people(index)
    numbers: dict[str, int] = {}
    textures, landmarks, person = [], [], []
    random = np.random.default_rng(0)
    with contextlib.closing(Detector()) as detector, contextlib.closing(Mesh()) as mesh:
        for done, (path, who) in enumerate(rows, 1):
            found = _face(read_picture(index.parent / path), detector, mesh)
            for picture, points in [] if found is None else [found, *_bent(*found, mesh, random)]:
                textures.append(texture(picture, points))
                landmarks.append(points)
                person.append(numbers.setdefault(who, len(numbers)))
            if progress:
                progress(Stage.WARP, done, len(rows))
    return Samples(np.array(textures), np.array(landmarks), np.array(person, np.int64))


def _face(image: np.ndarray, detector: Detector, mesh: Mesh) -> tuple[np.ndarray, np.ndarray] | None:
    """The largest face of a picture: a window around it uint8 [192, 192, 3], and landmarks [478, 3] in it."""
    for box in detector.find(image):
        mesh.forget()
        if (points := mesh.find(image, box)) is None:
            continue
        place = box_of(points)
        window, left, top, side = cut_window(image, place.x, place.y, 2 * place.side, WINDOW)
        scale = WINDOW / side
        window = cv2.resize(window, (WINDOW, WINDOW), interpolation=cv2.INTER_AREA)
        return window, ((points - np.array([left, top, 0])) * scale).astype(np.float32)
    return None


def _bent(
    picture: np.ndarray, points: np.ndarray, mesh: Mesh, random: np.random.Generator
) -> Sequence[tuple[np.ndarray, np.ndarray]]:
    """Copies of a picture with other expressions, turned a little, each with the landmarks that are found in it."""
    result = []
    for _ in range(VARIANTS):
        delta = np.zeros((1, arkit.COUNT), np.float32)
        for group in random.choice(len(BENT), random.integers(1, 4), replace=False):
            delta[0, arkit.columns(BENT[group])] = random.uniform(-0.5, 0.9)
        moved = points.astype(np.float64) + landmark_motion(points[None], delta)[0]
        free, pose = normalise(moved[None])
        turn = Rotation.from_euler("yx", [random.normal(0, YAW), random.normal(0, PITCH)], degrees=True)
        target = denormalise(free, Pose(pose.scale, turn.as_matrix()[None] @ pose.rotation, pose.offset))[0]
        drawn = warp(picture, points, target - points)
        mesh.forget()
        if (found := mesh.find(drawn, box_of(target))) is not None:
            result.append((drawn, found))
    return result


def fit_axes(values: np.ndarray, person: np.ndarray, axes: Axes) -> tuple[np.ndarray, np.ndarray]:
    """Mean [D] of values and the axes [D, K] along which people differ most against what differs within one person.

    Fisher's linear discriminant in the space of the principal components, regularised.

    Args:
        values: [N, D].
        person: int [N], counted from 0.
        axes: how many.
    """
    mean = values.mean(0)
    centred = values - mean
    components = np.linalg.eigh(centred.T @ centred)[1][:, ::-1][:, : axes.components]
    x = centred @ components
    centres = np.zeros((int(person.max()) + 1, x.shape[1]))
    np.add.at(centres, person, x)
    centres /= np.bincount(person)[:, None]
    within = np.cov((x - centres[person]).T, bias=True)
    within += axes.shrinkage * np.trace(within) / len(within) * np.eye(len(within))
    directions = eigh(np.cov(centres.T), within)[1][:, ::-1][:, : axes.kept]
    found = components @ directions
    return mean, found / np.linalg.norm(found, axis=0).mean()


def disturbed(x: Tensor, random: torch.Generator) -> Tensor:
    """Textures [B, 3, S, S] in 0..1 as other cameras, light and landmarks would give them."""
    count, size = len(x), x.shape[2]

    def uniform(low: float, high: float, *shape: int) -> Tensor:
        return low + (high - low) * torch.rand(count, *shape, generator=random)

    angle, scale, mirror = uniform(-0.08, 0.08), uniform(0.94, 1.06), torch.sign(uniform(-1, 1))
    cosine, sine = scale * torch.cos(angle), scale * torch.sin(angle)
    rows = [[cosine * mirror, -sine, uniform(-0.04, 0.04)], [sine * mirror, cosine, uniform(-0.04, 0.04)]]
    places = F.affine_grid(torch.stack([torch.stack(row, 1) for row in rows], 1), list(x.shape), align_corners=False)
    slips = torch.randn(count, 2, 5, 5, generator=random) * 0.02  # of the landmarks
    places = places + F.interpolate(slips, size=(size, size), mode="bicubic").permute(0, 2, 3, 1)
    x = F.grid_sample(x, places, padding_mode="border", align_corners=False)
    sharpness = uniform(0, 1)
    for least, factor in ((0.6, 2), (0.85, 3)):
        soft = sharpness > least
        if soft.any():
            small = F.interpolate(x[soft], scale_factor=1 / factor, mode="area")
            x[soft] = F.interpolate(small, size=(size, size), mode="bilinear")
    x = x.clamp(1e-3, 1) ** torch.exp(uniform(-0.5, 0.5, 1, 1, 1))
    shade = F.interpolate(torch.randn(count, 1, 3, 3, generator=random) * 0.25, size=(size, size), mode="bicubic")
    x = x * torch.exp(uniform(-0.4, 0.4, 1, 1, 1) + uniform(-0.15, 0.15, 3, 1, 1) + shade)
    gray = x.mean(1, keepdim=True)
    x = gray + (x - gray) * uniform(0, 1.2, 1, 1, 1)
    noise = torch.randn(x.shape, generator=random)
    x = (x + noise * uniform(0, 0.02, 1, 1, 1)).clamp(0, 1)
    return torch.where(_occluded(count, size, random), uniform(0, 1, 3, 1, 1), x)


def _occluded(count: int, size: int, random: torch.Generator) -> Tensor:
    """Where something stands before the face: a rectangle in every fourth of the pictures, bool [B, 1, S, S]."""
    draw = torch.rand(5, count, 1, 1, generator=random)
    height, width = size * (0.12 + 0.25 * draw[0]), size * (0.12 + 0.3 * draw[1])
    top, left = draw[2] * (size - height), draw[3] * (size - width)
    at = torch.arange(size)
    inside_y = (at[None, :, None] >= top) & (at[None, :, None] < top + height)
    inside_x = (at[None, None, :] >= left) & (at[None, None, :] < left + width)
    return (inside_y & inside_x & (draw[4] < 0.25))[:, None]
