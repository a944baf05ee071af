"""What lies before the face is taken off before the skin moves, and put back unmoved."""

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np

from cmet_engine.face.crop import apply, crop_transform, inverse
from cmet_engine.face.landmarks import OVAL
from cmet_engine.media.planes import Box
from cmet_engine.render.openings import quantised
from cmet_engine.smoothstep import smoothstep

EDGE = (0.12, 0.5)
"""Probability below which a pixel is the face's, and above which it is the occluder's."""

CHANGED = (3.0, 8.0)
"""Grey levels: what lies behind an occluder counts as changed from the first on, and fully from the second."""


SEEN, THIN, CONTRAST = 0.4, 0.007, 8.0
"""Around an occluder the face is seen where its alpha is no more than the first and nothing is thin: differs by so many grey levels from
the picture blurred by the second, a share of the face's width. Brows behind rims keep their drawing so."""

FADES = 0.03
"""Share of the face's width within its tracked outline over which skin is completed less and less: behind lies what is no skin."""


@dataclass(frozen=True)
class Occluder:
    """What lies before the face in a part of a frame.

    Attributes:
        box: (left, top, right, bottom), pixels of the part.
        alpha: float32 [h, w] in 0..1 in the box: 1 where only the occluder is seen.
        known: float32 [h, w], 1 where the face is seen, 0 under the occluder and one pixel of the matte around it, where lenses and
            codecs leave halos.
        face: float32 [h, w], 1 on the face, fading to 0 beside it.
        width: of the face, pixels.
    """

    box: Box
    alpha: np.ndarray
    known: np.ndarray
    face: np.ndarray
    width: float

    def taken_off(self, part: np.ndarray) -> np.ndarray:
        """The part with the face completed from its own skin around the occluder: a new picture of the same type and shape.

        Beside the face, where next to nothing moves, the occluder stays: what lies behind it there is no skin.
        """
        left, top, right, bottom = self.box
        result = part.copy()
        below = part[top:bottom, left:right]
        known = np.maximum(self.known, (self.alpha <= SEEN) * self._plain(below))
        skin = known * (self.face >= 1)
        if skin.any():
            filled = below + (completed(below, skin) - below) * cv2.merge([self.face * (1 - known)] * 3)
            result[top:bottom, left:right] = quantised(filled, part.dtype)
        return result

    def _plain(self, below: np.ndarray) -> np.ndarray:
        """Where a picture shows nothing thin, such as a rim or its halo: float32 [h, w], 0 or 1."""
        gray = below.astype(np.float32).mean(2)
        thin: Any = np.abs(gray - cv2.GaussianBlur(gray, (0, 0), max(THIN * self.width, 0.8))) > CONTRAST
        side = 2 * round(3 * THIN * self.width) + 1  # a rim is found by both of its edges
        thin = cv2.morphologyEx(thin.astype(np.float32), cv2.MORPH_CLOSE, np.ones((side, side), np.uint8))
        return 1 - cv2.dilate(thin, np.ones((3, 3), np.uint8))

    def put_back(self, part: np.ndarray, drawn: np.ndarray, behind: np.ndarray) -> np.ndarray:
        """The rendered picture `drawn` with the occluder as it was in `part`, its soft edge and shadow with it.

        What was made up `behind` it (`taken_off`) and looks the same in `drawn` is as it was, too, however unsure the occluder is.
        """
        left, top, right, bottom = self.box
        result = drawn.copy()
        own, moved, made_up = (p[top:bottom, left:right].astype(np.float32) for p in (part, drawn, behind))
        changed = cv2.dilate(np.abs(moved - made_up).max(2), np.ones((3, 3), np.uint8))
        still = (1 - smoothstep(changed, *CHANGED)) * cv2.blur(1 - self.known, (3, 3))
        alpha = cv2.merge([np.maximum(self.alpha, still)] * 3)
        result[top:bottom, left:right] = quantised(moved + (own - moved) * alpha, part.dtype)
        return result


def occluder(matte: np.ndarray, landmarks: np.ndarray, shape: tuple[int, ...]) -> Occluder | None:
    """An occluder by its matte.

    Args:
        matte: float32 [R, R] on the canonical crop; see `face.occlusion`.
        landmarks: [478, 3] pixels of the part.
        shape: of the part, (height, width, …).

    Returns:
        None where nothing of it lies in the part.
    """
    size = len(matte)
    transform = crop_transform(landmarks, size)
    rows, columns = (np.flatnonzero((matte > EDGE[0]).any(axis)) for axis in (1, 0))
    if not len(rows):
        return None
    low, high = np.array([columns[0], rows[0]]) - 2.0, np.array([columns[-1], rows[-1]]) + 3.0
    corners = apply(inverse(transform), np.array([low, high, [low[0], high[1]], [high[0], low[1]]]))
    left, top = (int(v) for v in np.clip(np.floor(corners.min(0)), 0, [shape[1], shape[0]]))
    right, bottom = (int(v) for v in np.clip(np.ceil(corners.max(0)), 0, [shape[1], shape[0]]))
    if right - left < 2 or bottom - top < 2:
        return None
    shifted = np.column_stack([transform[:, :2], transform[:, :2] @ [left, top] + transform[:, 2]])
    alpha, near = (
        cv2.warpAffine(
            values, shifted, (right - left, bottom - top), flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
            borderMode=cv2.BORDER_REPLICATE,
        )
        for values in (matte, cv2.dilate(matte, np.ones((3, 3), np.uint8)))
    )  # fmt: skip
    known = (near <= EDGE[0]).astype(np.float32)
    outline = landmarks[list(OVAL), :2] - [left, top]
    width = float(np.ptp(outline[:, 0]))
    opaque = smoothstep(alpha, *EDGE).astype(np.float32)
    return Occluder((left, top, right, bottom), opaque, known, _face(outline, width, known.shape), width)


def _face(outline: np.ndarray, width: float, shape: tuple[int, ...]) -> np.ndarray:
    """The inside of the outline [K, 2] pixels of a face of this width, which fades within it: float32 [h, w]."""
    inside: Any = np.zeros(shape, np.uint8)
    cv2.fillPoly(inside, [np.round(outline).astype(np.int32)], (1,))
    away = cv2.distanceTransform(inside, cv2.DIST_L2, 3)
    return np.clip(away / max(FADES * width, 1.0), 0, 1).astype(np.float32)


def completed(picture: np.ndarray, known: np.ndarray) -> np.ndarray:
    """A picture [h, w, 3] whose pixels with `known` [h, w] 0 are made up from those around them with 1: float32 [h, w, 3].

    Push and pull on a pyramid (Gortler et al., "The Lumigraph", SIGGRAPH 1996, section 4.3).
    """
    levels: list[tuple[Any, Any]] = [(picture.astype(np.float32) * cv2.merge([known] * 3), known)]
    while min(levels[-1][1].shape) > 2 and levels[-1][1].min() <= 0:
        colours, weight = levels[-1]
        levels.append((cv2.pyrDown(colours), cv2.pyrDown(weight)))
    colours, weight = levels.pop()
    below: Any = colours / cv2.merge([np.maximum(weight, 1e-6)] * 3)
    for colours, weight in reversed(levels):
        below = cv2.pyrUp(below, dstsize=weight.shape[::-1])
        own = colours / cv2.merge([np.maximum(weight, 1e-6)] * 3)
        below = below + (own - below) * cv2.merge([np.minimum(weight, 1)] * 3)
    return below
