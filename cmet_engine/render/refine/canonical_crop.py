"""The face mesh rasterised in the canonical crop: which place of a source every pixel of a target comes from.

Everything here is geometry, in numpy and OpenCV.
"""

from dataclasses import dataclass
from functools import cache

import cv2
import numpy as np

from cmet_engine.face.crop import apply
from cmet_engine.face.landmarks import OPENINGS, OVAL, SKIN
from cmet_engine.face.pose import template
from cmet_engine.render import mesh

_SUBPIXEL = 4  # bits of a fraction of a pixel in OpenCV's drawing
MOST_STRETCH = 1.5
"""Limit of the logarithm of how much a triangle grows."""


@cache
def _corners() -> np.ndarray:
    """int32 [T, 3], triangles of the face and of its openings, without the rings around it."""
    corners, kind = mesh.layers()
    return np.ascontiguousarray(corners[kind > 0])


@cache
def _canonical() -> np.ndarray:
    """float32 [468, 3], where each landmark lies on the mean face, about -1 to 1."""
    return template().points[:SKIN].astype(np.float32)


@cache
def _inward() -> np.ndarray:
    """float32 [468], 0 on the outline of the mean face, 1 from a fifth of its size inwards."""
    points = template().points[:SKIN, :2]
    outline = points[list(OVAL)]
    away = np.sqrt(((points[:, None] - outline) ** 2).sum(-1)).min(1)
    return np.clip(away / 0.28, 0, 1).astype(np.float32)


@dataclass(frozen=True)
class Raster:
    """The mesh of a target, rasterised in the crop.

    Attributes:
        target: float64 [468, 2], the landmarks in the crop.
        which: int32 [R, R], the triangle seen at every pixel; the number of triangles where there is none.
        opening: int8 [R, R], 0 skin, 1 right eye, 2 left eye, 3 mouth.
    """

    target: np.ndarray
    which: np.ndarray
    opening: np.ndarray

    @property
    def size(self) -> int:
        """R."""
        return len(self.which)

    @property
    def inside(self) -> np.ndarray:
        """bool [R, R], the face."""
        result: np.ndarray = self.which < len(_corners())
        return result

    def values(self, at_landmarks: np.ndarray) -> np.ndarray:
        """Values [468, C] of the landmarks, linearly interpolated in the triangles: float32 [R, R, C]; 0 outside."""
        corners = _corners()
        a, b, c = (self.target[corners[:, k]] for k in range(3))
        va, vb, vc = (np.asarray(at_landmarks, np.float64)[corners[:, k]] for k in range(3))
        gx, gy, flat = mesh.gradients((a, b, c), (va, vb, vc), 0.02)  # a flat triangle is one place
        middle = (va + vb + vc) / 3
        constant = np.where(flat[:, None], middle, va - gx * a[:, :1] - gy * a[:, 1:])
        # each number of the triangles by itself: NumPy fetches and computes these faster than a few for every pixel
        tables = np.zeros((3, va.shape[1], len(corners) + 1), np.float32)
        tables[..., :-1] = gx.T, gy.T, constant.T
        x = np.arange(self.size, dtype=np.float32)
        result = np.empty((self.size, self.size, va.shape[1]), np.float32)
        for k, (across, down, fixed) in enumerate(tables.transpose(1, 0, 2)):
            value = across.take(self.which)
            value *= x
            part = down.take(self.which)
            part *= x[:, None]
            value += part
            value += fixed.take(self.which)
            result[..., k] = value
        return result

    def sources(self, landmarks: np.ndarray) -> np.ndarray:
        """Where in a picture with these landmarks [478, 3] every pixel comes from: float32 [R, R, 2] pixels.

        Outside the face, pixels follow the affine map that fits the landmarks best.
        """
        points = np.asarray(landmarks[:SKIN, :2], np.float64)
        plane = np.column_stack([self.target, np.ones(len(self.target))])
        fit = np.linalg.lstsq(plane, points, rcond=None)[0]  # [3, 2]
        bent = self.values(points - plane @ fit)
        inside = self.inside.astype(np.float32)
        # round the creases between triangles, but not the edges of lids and lips
        width = 0.012 * self.size
        smooth = cv2.GaussianBlur(bent, (0, 0), width)
        weight = cv2.GaussianBlur(inside, (0, 0), width)[..., None]
        edges = cv2.dilate((self.opening > 0).astype(np.float32), np.ones((5, 5), np.uint8))
        share = np.clip(cv2.GaussianBlur(edges, (0, 0), width), 0, 1)[..., None]
        smooth = np.where(self.inside[..., None], smooth / np.maximum(weight, 0.3), smooth)
        bent = smooth + (bent - smooth) * share
        x = np.arange(self.size, dtype=np.float32)
        flat = np.empty_like(bent)
        for k in range(2):
            flat[..., k] = (fit[0, k] * x)[None, :] + (fit[1, k] * x)[:, None] + fit[2, k]
        result: np.ndarray = flat + bent
        return result

    def stretch(self, landmarks: np.ndarray) -> np.ndarray:
        """Logarithm of how much larger each triangle is here than in a picture with these landmarks: float32 [R, R].

        Areas are relative to the whole face; 0 outside.
        """
        corners = _corners()

        def areas(points: np.ndarray) -> np.ndarray:
            a, b, c = (points[corners[:, k]] for k in range(3))
            return np.abs((b - a)[:, 0] * (c - a)[:, 1] - (b - a)[:, 1] * (c - a)[:, 0])

        here, there = areas(self.target), areas(np.asarray(landmarks[:SKIN, :2], np.float64))
        least_here, least_there = 0.2 * here.mean(), 0.2 * there.mean()
        ratio = np.log((here + least_here) / here.sum()) - np.log((there + least_there) / there.sum())
        table = np.append(np.clip(ratio, -MOST_STRETCH, MOST_STRETCH), 0).astype(np.float32)
        drawn = table[self.which]
        return cv2.GaussianBlur(drawn, (0, 0), 0.012 * self.size)

    def canonical(self) -> np.ndarray:
        """Place on the mean face: float32 [R, R, 3]."""
        return self.values(_canonical())

    def inward(self) -> np.ndarray:
        """0 outside and on the outline of the face, 1 well inside: float32 [R, R], smooth."""
        drawn = self.values(_inward()[:, None])[..., 0] * self.inside
        return cv2.GaussianBlur(drawn, (0, 0), 0.02 * self.size)


@cache
def _opening_of() -> np.ndarray:
    """int8 [T + 1], which opening a triangle lies in; 0 for skin."""
    corners, kind = mesh.layers()
    fillings = corners[kind == 2]
    result = np.zeros(len(_corners()) + 1, np.int8)
    first = len(_corners()) - len(fillings)
    for number, lines in enumerate(OPENINGS, 1):
        points = set(lines[0]) | set(lines[1])
        for k, corner in enumerate(fillings):
            if set(corner.tolist()) <= points:
                result[first + k] = number
    return result


def rasterise(landmarks: np.ndarray, transform: np.ndarray, size: int) -> Raster:
    """Rasterise the mesh of a face in its canonical crop.

    Args:
        landmarks: [478, 3] pixels of the frame, the target.
        transform: [2, 3] of `crop_transform`.
        size: R.
    """
    target = apply(transform, landmarks[:SKIN])
    corners = _corners()
    depth = landmarks[:SKIN, 2][corners].mean(1)
    depth = np.where(_opening_of()[:-1] > 0, depth - 1e5, depth)
    points = np.round(target * 2**_SUBPIXEL).astype(np.int32)
    which = np.full((size, size), len(corners), np.int32)
    order = np.argsort(-depth)
    drawn = points[corners[order]]
    for triangle, number in zip(drawn, order.tolist(), strict=True):
        cv2.fillConvexPoly(which, triangle, (number,), 8, _SUBPIXEL)
    return Raster(target, which, _opening_of()[which])
