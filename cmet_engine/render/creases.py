"""Creases of the skin, which a face shows where its skin is pushed together and which displaced pixels alone cannot show.

Between brows that are drawn together stand two furrows, brows that rise wrinkle the forehead across, a sneer wrinkles the bridge
of the nose and deepens the fold beside it (FACS action units 4, 1 and 2, 9 and 10: Ekman, Friesen & Hager 2002). Each crease is a
line on the mean face that moves with the landmarks. Its shade is a narrow dark core between two faint light edges, as strong as
the change of its coefficients.

Where an expression goes, so do the creases that it made in the picture: the fold beside a smile, the lines of a raised
forehead. What is darker than the skin on both sides of it is brought near to that skin along the lines where such folds lie.
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
from cmet_engine.smoothstep import smoothstep


@dataclass(frozen=True)
class Mark:
    """A line on the right half of the face, where expressions mark the skin; the left half has its mirror image.

    Attributes:
        line: corners of the line on the mean face, (x, y) in outer-eye distances, y upwards.
        driver: by coefficient without its side, the share of its change that counts.
        full: the change at which the mark is fully there, or gone.
        width: Gaussian width in outer-eye distances.
    """

    line: tuple[tuple[float, float], ...]
    driver: dict[str, float]
    full: float
    width: float


@dataclass(frozen=True)
class Crease(Mark):
    """What a rise of its coefficients draws.

    Attributes:
        depth: share of the light that is missing in its middle.
    """

    depth: float

    def amount(self, rises: list[tuple[float, float]]) -> float:
        """Share of it that is drawn, 0 to 1, for the shares and rises of its coefficients."""
        return min(sum(share * max(rise, 0.0) for share, rise in rises) / self.full, 1.0) ** 1.5


_BROWS_UP = {"browInnerUp": 0.8, "browOuterUp": 0.6}
_SNEER = {"noseSneer": 1.0, "mouthUpperUp": 0.4}

# places, widths and depths were set by eye on training-side clips
CREASES = (
    Crease(((-0.095, 0.60), (-0.08, 0.52), (-0.06, 0.44)), {"browDown": 1.0}, 0.5, 0.018, 0.23),
    Crease(((0.08, 0.70), (-0.10, 0.69), (-0.28, 0.72), (-0.44, 0.70)), _BROWS_UP, 0.8, 0.016, 0.13),
    Crease(((0.08, 0.79), (-0.10, 0.78), (-0.26, 0.80), (-0.40, 0.79)), _BROWS_UP, 0.8, 0.016, 0.11),
    Crease(((-0.015, 0.34), (-0.075, 0.29), (-0.125, 0.22)), {"noseSneer": 1.0}, 0.8, 0.020, 0.18),
    Crease(((-0.03, 0.27), (-0.09, 0.21), (-0.14, 0.14)), {"noseSneer": 1.0}, 0.8, 0.020, 0.15),
    Crease(((-0.23, 0.02), (-0.29, -0.07), (-0.35, -0.18)), _SNEER, 1.0, 0.016, 0.26),
    Crease(((-0.25, -0.05), (-0.35, -0.17), (-0.41, -0.30)), {"mouthSmile": 1.0, "mouthDimple": 0.4}, 0.8, 0.02, 0.12),
)


@dataclass(frozen=True)
class Fold(Mark):
    """What a fall of its coefficients takes away, in a strip along the line.

    Attributes:
        deepest: share of the light that is missing, beyond which a dark line is something else: hair, a rim, the lips' line.
    """

    deepest: float

    def amount(self, rises: list[tuple[float, float]]) -> float:
        """Share of it that is taken away, 0 to 1, for the shares and rises of its coefficients."""
        return min(max(-sum(share * rise for share, rise in rises) / self.full, 0.0), 1.0)


_RAISED = {"browInnerUp": 0.6, "browOuterUp": 0.6, "browDown": -0.6}

# places and widths were set by eye on training-side clips
FOLDS = (
    Fold(((-0.25, -0.03), (-0.34, -0.17), (-0.40, -0.33), (-0.40, -0.50)), {"mouthSmile": 1.0}, 0.35, 0.06, 1.0),
    Fold(((-0.53, 0.37), (-0.60, 0.38), (-0.66, 0.38)), {"mouthSmile": 0.5, "cheekSquint": 1.0}, 0.4, 0.05, 0.3),
    Fold(((-0.45, 0.79), (-0.25, 0.83), (0.05, 0.84)), _RAISED, 0.35, 0.11, 0.35),
    Fold(((-0.095, 0.62), (-0.08, 0.52), (-0.06, 0.42)), {"browDown": 1.0, "noseSneer": 0.5}, 0.4, 0.03, 0.35),
)

WIDEST = 0.1
"""Outer-eye distances across a fold, at most."""

FOLD_GRID = 192
"""Longest side of the grid on which folds are looked for: what is finer than that, pores and grain, stays."""

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
    """A picture without the folds that go with a change of expression, and with the creases that it makes.

    Args:
        picture: uint8 or float32 [H, W, 3], rendered with the changed expression.
        landmarks: [478, 3] pixels of the picture.
        change: [52], change of the coefficients.
        facing: [478], how far each landmark takes part (see `warp.facing_weights`).

    Returns:
        The very same array where there is nothing to draw, else a new one.
    """
    unit, result = float(np.linalg.norm(np.subtract(*landmarks[list(OUTER_EYE_CORNERS), :2]))), picture
    for kinds, grid, draw in ((FOLDS, FOLD_GRID, _smooth), (CREASES, GRID, _shade)):
        amounts = [(k, share) for k, share in enumerate(_amounts(kinds, change)) if share > LEAST]
        if not amounts:
            continue
        corners, shares = _anchors(tuple(kind.line for kind in kinds))
        lines = (landmarks[corners][..., :2] * shares[..., None]).sum(2)  # [C, SAMPLES, 2]
        seen = (facing[corners] * shares).sum(2).mean(1)  # [C]
        drawn = np.concatenate([lines[k] for k, _ in amounts])
        margin = 2 * unit * max(0.06, *(kinds[k // 2].width for k, _ in amounts))
        height, width = picture.shape[:2]
        x0, y0 = (int(v) for v in np.clip(np.floor(drawn.min(0) - margin), 0, [width, height]))
        x1, y1 = (int(v) for v in np.clip(np.ceil(drawn.max(0) + margin), 0, [width, height]))
        if x1 - x0 < 4 or y1 - y0 < 4:
            continue
        scale = min(1.0, grid / max(x1 - x0, y1 - y0))
        size = (max(round((x1 - x0) * scale), 1), max(round((y1 - y0) * scale), 1))
        strengths = [
            (kinds[k // 2], share * float(seen[k]), (lines[k] - [x0, y0]) * scale) for k, share in amounts
        ]  # fmt: skip
        if result is picture:
            result = picture.copy()
        region = result[y0:y1, x0:x1]
        region[...] = quantised(draw(region.astype(np.float32), size, strengths, unit * scale), result.dtype)
    return result


def _shade(region: Any, size: tuple[int, int], creases: list[tuple[Any, float, np.ndarray]], unit: float) -> Any:
    """A part of a picture with creases: each with its strength and its line on a grid of `size`."""
    by_width: dict[float, Any] = {}
    for crease, strength, line in creases:
        dark = _line(line, size) * np.float32(strength * crease.depth)
        by_width[crease.width] = by_width.get(crease.width, 0) + dark
    shade: Any = 0
    for width, lines in by_width.items():
        sigma = max(width * unit, 0.7)
        shade = shade + _blurred(lines, sigma) - EDGES / EDGE_WIDTH * _blurred(lines, sigma * EDGE_WIDTH)
    shade = _enlarged(shade, region)
    return region * cv2.merge([1 - shade * tint for tint in TINT])


def _smooth(region: Any, size: tuple[int, int], folds: list[tuple[Any, float, np.ndarray]], unit: float) -> Any:
    """A part of a picture whose folds are brought near to the skin beside them."""
    small = cv2.GaussianBlur(cv2.resize(region, size, interpolation=cv2.INTER_AREA), (0, 0), max(0.008 * unit, 0.6))
    across = 2 * max(round(WIDEST * unit / 2), 1) + 1
    disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (across, across))
    beside = cv2.GaussianBlur(cv2.morphologyEx(small, cv2.MORPH_CLOSE, disc), (0, 0), max(0.02 * unit, 0.6))
    missing = np.maximum(beside - small, 0)
    depth = _brightest(missing) / np.maximum(_brightest(beside), 1)
    coarse = (max(size[0] // 4, 1), max(size[1] // 4, 1))  # the strips are smooth
    strips: dict[float, Any] = {}
    for fold, strength, line in folds:
        near = np.minimum(2 * _blurred(_line(line / 4, coarse), max(fold.width * unit / 4, 1.0)), 1)
        strips[fold.deepest] = np.maximum(near * np.float32(strength), strips.get(fold.deepest, 0))
    share: Any = np.zeros((size[1], size[0]), np.float32)
    for deepest, strip in strips.items():
        np.maximum(share, _enlarged(strip, share) * smoothstep(depth, deepest, 0.7 * deepest), out=share)
    return region + _enlarged(missing * share[..., None], region)


def _brightest(values: Any) -> Any:
    """The largest channel [h, w] of [h, w, 3]; quicker than NumPy's."""
    red, green, blue = cv2.split(values)
    return cv2.max(cv2.max(red, green), blue)


def _enlarged(values: Any, region: np.ndarray) -> Any:
    height, width = region.shape[:2]
    if values.shape[:2] == (height, width):
        return values
    return cv2.resize(values, (width, height), interpolation=cv2.INTER_LINEAR)


def _amounts(kinds: tuple[Crease, ...] | tuple[Fold, ...], change: np.ndarray) -> list[float]:
    """Share of each crease or fold that is drawn or taken away, 0 to 1: right and left of the first, of the second, and so on."""
    result = []
    for kind in kinds:
        for side in ("Right", "Left"):
            rises = [
                (share, float(change[arkit.INDEX[name if name in arkit.INDEX else name + side]]))
                for name, share in kind.driver.items()
            ]
            result.append(kind.amount(rises))
    return result


def _line(line: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """A line [SAMPLES, 2] in pixels of a grid, a pixel wide, that fades towards its ends: float32 [h, w] in 0..1."""
    mask: Any = np.zeros((size[1], size[0]), np.float32)
    fade = np.sin(np.pi * np.linspace(0.06, 0.94, len(line))) ** 0.8
    points = np.round(line * 16).astype(int).tolist()
    for start, end, value in zip(points[:-1], points[1:], (fade[:-1] + fade[1:]) / 2, strict=True):
        cv2.line(mask, start, end, (float(value),), 1, cv2.LINE_8, 4)
    return np.asarray(mask)


def _blurred(lines: np.ndarray, sigma: float) -> Any:
    """Thin lines [h, w], blurred, with their values where they were."""
    return cv2.GaussianBlur(lines, (0, 0), sigma) * np.float32(sigma * np.sqrt(2 * np.pi))


@cache
def _anchors(kinds: tuple[tuple[tuple[float, float], ...], ...]) -> tuple[np.ndarray, np.ndarray]:
    """The lines on the mesh: landmarks [C, SAMPLES, 3] and their shares [C, SAMPLES, 3], right and left by turns."""
    points, mirror = template().points[:, :2], template().mirror
    corners = mesh.triangles()
    a, b, c = (points[corners[:, k]] for k in range(3))
    lines = []
    for corners_of_line in kinds:
        ends = np.linspace(0, 1, len(corners_of_line))
        places = np.stack(
            [np.interp(np.linspace(0, 1, SAMPLES), ends, np.array(corners_of_line)[:, k]) for k in (0, 1)], 1
        )
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
