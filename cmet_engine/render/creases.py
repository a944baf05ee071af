"""Creases of the skin, which a face shows where its skin is pushed together and which displaced pixels alone cannot show.

Between brows that are drawn together stand two furrows, a sneer wrinkles the bridge of the nose and deepens the fold beside it
(FACS action units 4, 9 and 10: Ekman, Friesen & Hager 2002). Each crease is a line on the mean face that moves with the
landmarks. Its shade is a narrow dark core between two faint light edges, as strong as the change of its coefficients.
"""

from dataclasses import dataclass
from functools import cache
from typing import Any

import cv2
import numpy as np

from cmet_engine import arkit
from cmet_engine.face.landmarks import OUTER_EYE_CORNERS
from cmet_engine.face.pose import template
from cmet_engine.render import mesh
from cmet_engine.render.openings import quantised


@dataclass(frozen=True)
class Crease:
    """One crease of the right half of the face; the left half has its mirror image.

    Attributes:
        line: corners of the line on the mean face, (x, y) in outer-eye distances, y upwards.
        driver: by coefficient without its side, the share of its change that counts.
        full: the change at which it has its full depth.
        width: Gaussian width in outer-eye distances.
        depth: share of the light that is missing in its middle.
    """

    line: tuple[tuple[float, float], ...]
    driver: dict[str, float]
    full: float
    width: float
    depth: float


_SNEER = {"noseSneer": 1.0, "mouthUpperUp": 0.4}

# places, widths and depths were set by eye on training-side clips
CREASES = (
    Crease(((-0.095, 0.60), (-0.08, 0.52), (-0.06, 0.44)), {"browDown": 1.0}, 0.5, 0.018, 0.15),
    Crease(((-0.015, 0.34), (-0.075, 0.29), (-0.125, 0.22)), {"noseSneer": 1.0}, 0.8, 0.020, 0.11),
    Crease(((-0.03, 0.27), (-0.09, 0.21), (-0.14, 0.14)), {"noseSneer": 1.0}, 0.8, 0.020, 0.09),
    Crease(((-0.23, 0.02), (-0.29, -0.07), (-0.35, -0.18)), _SNEER, 1.0, 0.016, 0.18),
    Crease(((-0.25, -0.05), (-0.35, -0.17), (-0.41, -0.30)), {"mouthSmile": 1.0, "mouthDimple": 0.4}, 0.8, 0.02, 0.12),
)

EDGES, EDGE_WIDTH = 0.55, 2.2
"""The light beside a crease: as a share of its darkness, and how much wider it is."""

TINT = np.array([0.85, 1.0, 1.0], np.float32)
"""How much each of red, green and blue is missing: shaded skin is redder."""

SAMPLES = 17  # points along a crease
GRID = 96
"""Longest side of the grid on which creases are rendered; it is enlarged for larger faces."""

LEAST = 0.02
"""Below this share of its depth a crease is left out."""


def creased(picture: np.ndarray, landmarks: np.ndarray, change: np.ndarray, facing: np.ndarray) -> np.ndarray:
    """A picture with the creases that a change of expression makes.

    Args:
        picture: uint8 or float32 [H, W, 3], rendered with the changed expression.
        landmarks: [478, 3] pixels of the picture.
        change: [52], change of the coefficients.
        facing: [478], how far each landmark takes part (see `warp.facing_weights`).

    Returns:
        The very same array where there is no crease to draw, else a new one.
    """
    amounts = [(k, share) for k, share in enumerate(_amounts(change)) if share > LEAST]
    if not amounts:
        return picture
    corners, shares = _anchors()
    unit = float(np.linalg.norm(np.subtract(*landmarks[list(OUTER_EYE_CORNERS), :2])))
    lines = (landmarks[corners][..., :2] * shares[..., None]).sum(2)  # [C, SAMPLES, 2]
    seen = (facing[corners] * shares).sum(2).mean(1)  # [C]
    drawn = np.concatenate([lines[k] for k, _ in amounts])
    margin = 0.12 * unit
    height, width = picture.shape[:2]
    x0, y0 = (int(v) for v in np.clip(np.floor(drawn.min(0) - margin), 0, [width, height]))
    x1, y1 = (int(v) for v in np.clip(np.ceil(drawn.max(0) + margin), 0, [width, height]))
    if x1 - x0 < 4 or y1 - y0 < 4:
        return picture
    scale = min(1.0, GRID / max(x1 - x0, y1 - y0))
    size = (max(round((x1 - x0) * scale), 1), max(round((y1 - y0) * scale), 1))
    drawn_by_width: dict[float, np.ndarray] = {}
    for k, share in amounts:
        crease = CREASES[k // 2]
        line = _line((lines[k] - [x0, y0]) * scale, size) * np.float32(share * float(seen[k]) * crease.depth)
        drawn_by_width[crease.width] = drawn_by_width.get(crease.width, 0) + line
    shade: Any = sum(_profile(line, max(width * unit * scale, 0.7)) for width, line in drawn_by_width.items())
    if scale < 1:
        shade = cv2.resize(shade, (x1 - x0, y1 - y0), interpolation=cv2.INTER_LINEAR)
    result = picture.copy()
    region = result[y0:y1, x0:x1].astype(np.float32)
    region *= cv2.merge([1 - shade * tint for tint in TINT])
    result[y0:y1, x0:x1] = quantised(region, result.dtype)
    return result


def _amounts(change: np.ndarray) -> list[float]:
    """Share of its depth that each crease has, 0 to 1: right and left of the first, of the second, and so on."""
    result = []
    for crease in CREASES:
        for side in ("Right", "Left"):
            total = sum(share * max(change[arkit.INDEX[n + side]], 0.0) for n, share in crease.driver.items())
            result.append(float(min(total / crease.full, 1.0)) ** 1.5)
    return result


def _line(line: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """A line [SAMPLES, 2] in pixels of a grid, a pixel wide, that fades towards its ends: float32 [h, w] in 0..1."""
    mask: Any = np.zeros((size[1], size[0]), np.float32)
    fade = np.sin(np.pi * np.linspace(0.06, 0.94, len(line))) ** 0.8
    points = np.round(line * 16).astype(int).tolist()
    for start, end, value in zip(points[:-1], points[1:], (fade[:-1] + fade[1:]) / 2, strict=True):
        cv2.line(mask, start, end, (float(value),), 1, cv2.LINE_8, 4)
    return np.asarray(mask)


def _profile(lines: np.ndarray, sigma: float) -> Any:
    """Shade [h, w] of thin lines: 1 in their middle, a little below 0 beside them, 0 at their ends."""
    core = cv2.GaussianBlur(lines, (0, 0), sigma)
    around = cv2.GaussianBlur(lines, (0, 0), sigma * EDGE_WIDTH)
    return (core - EDGES * around) * np.float32(sigma * np.sqrt(2 * np.pi))


@cache
def _anchors() -> tuple[np.ndarray, np.ndarray]:
    """The lines on the mesh: landmarks [C, SAMPLES, 3] and their shares [C, SAMPLES, 3], right and left by turns."""
    points, mirror = template().points[:, :2], template().mirror
    corners = mesh.triangles()
    a, b, c = (points[corners[:, k]] for k in range(3))
    lines = []
    for crease in CREASES:
        ends = np.linspace(0, 1, len(crease.line))
        places = np.stack([np.interp(np.linspace(0, 1, SAMPLES), ends, np.array(crease.line)[:, k]) for k in (0, 1)], 1)
        which, weights = [], []
        for place in places:
            area = _cross(b - a, c - a)
            with np.errstate(divide="ignore", invalid="ignore"):
                v, w = _cross(place - a, c - a) / area, _cross(b - a, place - a) / area
            shares = np.stack([1 - v - w, v, w], 1)
            best = int(np.nanargmax(shares.min(1)))  # the triangle that the place lies in
            which.append(corners[best])
            weights.append(np.clip(shares[best], 0, 1) / np.clip(shares[best], 0, 1).sum())
        lines.append((np.array(which), np.array(weights)))
        lines.append((mirror[np.array(which)], np.array(weights)))
    return np.stack([w for w, _ in lines]), np.stack([s for _, s in lines])


def _cross(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    return first[..., 0] * second[..., 1] - first[..., 1] * second[..., 0]
