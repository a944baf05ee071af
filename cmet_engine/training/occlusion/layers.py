"""Drawing occluders: a picture, the mask of what lies before the face, and shapes with a soft edge."""

from dataclasses import dataclass

import cv2
import numpy as np

CANVAS = 192
"""Pixels of the square that everything is drawn on; half as wide again as the network's crop."""

_SUBPIXEL = 4


@dataclass
class Scene:
    """A face that occluders are drawn over.

    Attributes:
        picture: float32 [192, 192, 3] in 0..255; changed in place.
        landmarks: float64 [478, 3] pixels.
        covered: float32 [192, 192] in 0..1, what lies before the face.
        others: uint8 pictures [S, S, 3] of other people, for textures.
    """

    picture: np.ndarray
    landmarks: np.ndarray
    covered: np.ndarray
    others: list[np.ndarray]

    def put(self, colours: np.ndarray, alpha: np.ndarray, *, counts: bool = True) -> None:
        """Lay colours ([192, 192, 3], or one [3]) over the picture; `counts`: they are an occluder."""
        if (part := _bounds(alpha)) is None:
            return
        alpha = alpha[part].astype(np.float32)
        colours = np.asarray(colours[part] if colours.ndim == 3 else colours, np.float32)
        self.picture[part] += (colours - self.picture[part]) * alpha[..., None]
        if counts:
            np.maximum(self.covered[part], alpha, out=self.covered[part])

    def shade(self, alpha: np.ndarray, strength: float, blur: float, shift: np.ndarray) -> None:
        """The shadow of a shape: darker by `strength` where it falls."""
        moved = cv2.warpAffine(alpha, np.array([[1, 0, shift[0]], [0, 1, shift[1]]], np.float64), (CANVAS, CANVAS))
        soft = cv2.GaussianBlur(moved, (0, 0), max(blur, 0.3))
        if (part := _bounds(soft)) is not None:
            self.picture[part] *= np.float32(1) - np.float32(strength) * soft[part][..., None]


def _bounds(mask: np.ndarray) -> tuple[slice, slice] | None:
    """Rows and columns of what is not 0; None where nothing is."""
    x, y, width, height = cv2.boundingRect((mask > 0.002).astype(np.uint8))
    return (slice(y, y + height), slice(x, x + width)) if width else None


def polygon(points: np.ndarray) -> np.ndarray:
    """A filled polygon [K, 2] pixels: float32 [192, 192] in 0..1 with a soft edge."""
    mask = np.zeros((CANVAS, CANVAS), np.uint8)
    cv2.fillPoly(mask, [_fixed(points)], (255,), cv2.LINE_AA, _SUBPIXEL)
    return mask.astype(np.float32) / 255


def line(points: np.ndarray, width: float | np.ndarray, *, closed: bool = False) -> np.ndarray:
    """A line through points [K, 2] of a width in pixels, one or [K]: float32 [192, 192] in 0..1 with a soft edge.

    Lines thinner than a pixel are fainter.
    """
    mask = np.zeros((CANVAS, CANVAS), np.uint8)
    add_line(mask, points, np.broadcast_to(np.asarray(width, np.float64), len(points)), closed=closed)
    return mask.astype(np.float32) / 255


def add_line(mask: np.ndarray, points: np.ndarray, widths: np.ndarray, *, closed: bool = False) -> None:
    """Draw a line into a mask, uint8 [192, 192]; see `line`."""
    fixed = _fixed(points)
    if closed:
        fixed, widths = np.concatenate([fixed, fixed[:1]]), np.append(widths, widths[:1])
    for start, end, wide in zip(fixed[:-1], fixed[1:], widths[:-1], strict=True):
        value = round(255 * min(1.0, float(wide)))
        if wide > 2.5:  # thick lines have their width to the pixel only: a polygon has it exactly
            _stroke(mask, start, end, float(wide))
        else:
            cv2.line(mask, start.tolist(), end.tolist(), (value,), max(1, round(float(wide))), cv2.LINE_AA, _SUBPIXEL)


def _stroke(mask: np.ndarray, start: np.ndarray, end: np.ndarray, width: float) -> None:
    one = 1 << _SUBPIXEL
    along = (end - start).astype(np.float64)
    length = float(np.hypot(*along))
    radius = round(width / 2 * one)
    if length > 0:
        side = np.array([-along[1], along[0]]) / length * radius
        corners = np.round([start + side, end + side, end - side, start - side]).astype(np.int32)
        cv2.fillConvexPoly(mask, corners, (255,), cv2.LINE_AA, _SUBPIXEL)
    for place in (start, end):
        cv2.circle(mask, place.tolist(), radius, (255,), -1, cv2.LINE_AA, _SUBPIXEL)


def _fixed(points: np.ndarray) -> np.ndarray:
    return np.round(np.clip(points, -1000, 2000) * 2**_SUBPIXEL).astype(np.int32)


def noise(random: np.random.Generator, cells: int) -> np.ndarray:
    """Smooth noise of about `cells` bumps a side: float32 [192, 192], standard deviation about 1."""
    small = random.standard_normal((cells + 2, cells + 2)).astype(np.float32)
    return cv2.resize(small, (CANVAS, CANVAS), interpolation=cv2.INTER_CUBIC)


def texture(scene: Scene, random: np.random.Generator) -> np.ndarray:
    """A part of somebody's picture, turned, stretched and tinted: float32 [192, 192, 3]."""
    other = scene.others[random.integers(len(scene.others))]
    side = len(other)
    size = side * random.uniform(0.15, 0.9)
    corner = random.uniform(0, side - size, 2)
    angle = random.uniform(0, 2 * np.pi)
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]) * (CANVAS / size)
    turn *= random.uniform(0.6, 1.6, (1, 2))
    shift = np.full(2, CANVAS / 2) - turn @ (corner + size / 2)
    drawn = cv2.warpAffine(
        other, np.column_stack([turn, shift]), (CANVAS, CANVAS), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT
    )
    return drawn.astype(np.float32) * random.uniform(0.5, 1.4, 3).astype(np.float32)


def smooth_blob(random: np.random.Generator, centre: np.ndarray, radius: float) -> np.ndarray:
    """The outline of a random smooth shape: [64, 2] pixels."""
    angles = np.linspace(0, 2 * np.pi, 64, endpoint=False)
    reach = np.ones(64)
    for k in range(1, 6):
        reach += random.normal(0, 0.35 / k) * np.cos(k * angles + random.uniform(0, 6.3))
    reach = np.clip(reach, 0.25, 2.0) * radius
    stretch, turn = random.uniform(0.4, 1.0), random.uniform(0, np.pi)
    x, y = np.cos(angles) * reach, np.sin(angles) * reach * stretch
    return centre + np.stack([x * np.cos(turn) - y * np.sin(turn), x * np.sin(turn) + y * np.cos(turn)], 1)


def curve(points: np.ndarray, count: int = 24) -> np.ndarray:
    """A Bézier curve of any degree through control points [K, 2]: [count, 2]."""
    t = np.linspace(0, 1, count)[:, None, None]
    level: np.ndarray = np.broadcast_to(np.asarray(points, np.float64), (count, *points.shape))
    while level.shape[1] > 1:
        level = level[:, :-1] * (1 - t) + level[:, 1:] * t
    return level[:, 0]
