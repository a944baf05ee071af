"""Putting a drawn face back into its frame: aligned, in the frame's colours, under a soft mask that follows the head."""

import functools

import cv2
import numpy as np

from cmet_engine.face.landmarks import COARSE_EYES, COARSE_LIPS, OVAL
from cmet_engine.face.pose import template
from cmet_engine.render.edtalk.crop import SIZE, Crops
from cmet_engine.smoothstep import smoothstep

# MediaPipe's landmarks around the face, the eyes and the lips, in order.

FEATHER = 0.045  # standard deviation of the mask's edge, in crop sizes
REACH = 1.12  # the mask is that much larger than the outline of the face,
CHIN_REACH = 1.3  # below its centre that much: an edited jaw may open further
BORDER = 0.04  # within this of the crop's border, in crop sizes, the mask fades to nothing
CONTRAST = (0.75, 1.33)  # limits to the change of contrast of a colour channel
_HIDDEN = 1 / 512  # a mask below half a step of an 8-bit picture changes nothing


def outline_mask(points: np.ndarray) -> np.ndarray:
    """The soft mask of a face, float32 [256, 256] in 0..1, from its landmarks in the crop [478, 2]."""
    outline = points[list(OVAL)]
    centre = outline.mean(axis=0)
    away = outline - centre
    away *= np.where(away[:, 1:] > 0, [[REACH, CHIN_REACH]], [[REACH, REACH]])
    mask = np.zeros((SIZE, SIZE), np.float32)
    fraction = 4  # bits behind the point in OpenCV's drawing
    polygon = np.round((centre + away) * (1 << fraction)).astype(np.int32)
    cv2.fillPoly(mask, [polygon], (1.0,), lineType=cv2.LINE_AA, shift=fraction)
    sigma = FEATHER * SIZE
    inner = cv2.erode(mask, np.ones((3, 3), np.uint8), iterations=round(sigma))
    return cv2.GaussianBlur(inner, (0, 0), sigma) * border_mask()


@functools.cache
def border_mask() -> np.ndarray:
    """float32 [256, 256]: 1 inside, falling smoothly to 0 at the border of the crop."""
    place = np.minimum(np.arange(SIZE), np.arange(SIZE)[::-1]) / SIZE
    ramp = smoothstep((place - 0.25 * BORDER) / BORDER, 0, 1).astype(np.float32)
    return ramp[:, None] * ramp


def skin_mask(points: np.ndarray) -> np.ndarray:
    """bool [256, 256]: the face without eyes and lips, which change with the expression."""
    mask: np.ndarray = np.zeros((SIZE, SIZE), np.uint8)
    cv2.fillConvexPoly(mask, cv2.convexHull(np.round(points[list(OVAL)]).astype(np.int32)), (1,))
    mask = cv2.erode(mask, np.ones((9, 9), np.uint8))
    for ring in (*COARSE_EYES, COARSE_LIPS):
        hull = cv2.convexHull(np.round(points[list(ring)]).astype(np.int32))
        hole = np.zeros_like(mask)
        cv2.fillConvexPoly(hole, hull, (1,))
        mask[cv2.dilate(hole, np.ones((13, 13), np.uint8)) > 0] = 0
    return mask > 0


def match_colour(drawn: np.ndarray, original: np.ndarray, where: np.ndarray) -> np.ndarray:
    """`drawn` with the mean and, within limits, the contrast that each channel of `original` has `where` it counts.

    Args:
        drawn, original: [256, 256, 3] in 0..255.
        where: bool [256, 256].

    Returns:
        float32 [256, 256, 3].
    """
    drawn = drawn.astype(np.float32)
    if (levels := colour_levels(drawn, original, where)) is None:
        return drawn
    mean, gain, wanted = levels
    return (drawn - mean) * gain + wanted


def colour_levels(
    drawn: np.ndarray, original: np.ndarray, where: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray] | None:
    """What `match_colour` applies to each channel: the drawn mean, the gain, the wanted mean; None where too little is seen."""
    if where.sum() < 64:
        return None
    a, b = drawn[where], original[where].astype(np.float32)
    gain = np.clip(b.std(axis=0) / np.maximum(a.std(axis=0), 1e-3), *CONTRAST)
    return a.mean(axis=0), gain, b.mean(axis=0)


def alignment(drawn: np.ndarray, tracked: np.ndarray) -> np.ndarray | None:
    """The similarity [2, 3] that moves drawn faces onto tracked ones, from landmarks [K, 478, 2] in the crop.

    Landmarks count as far as they move with the skull. The answers of the K frames are joined by their median, so that
    one badly found face does no harm. None if there are fewer than three, or if they are too far from the mark to be a
    misalignment (an eighth of the crop, or a fifth of the size).
    """
    if len(drawn) < 3:
        return None
    weights = template().weights / template().weights.sum()
    found = []
    for a, b in zip(drawn, tracked, strict=True):
        mean_a, mean_b = weights @ a, weights @ b
        x, y = a - mean_a, b - mean_b
        # complex numbers: a similarity of the plane is a multiplication and an addition
        p, q = x[:, 0] + 1j * x[:, 1], y[:, 0] + 1j * y[:, 1]
        turn = (weights * q * p.conj()).sum() / (weights * np.abs(p) ** 2).sum()
        centre = mean_b - mean_a
        found.append([turn.real, turn.imag, *centre, *mean_a])
    real, imaginary, move_x, move_y, x0, y0 = np.median(found, axis=0)
    if np.hypot(move_x, move_y) > SIZE / 8 or abs(np.hypot(real, imaginary) - 1) > 0.2:
        return None
    linear = np.array([[real, -imaginary], [imaginary, real]])
    offset = np.array([x0 + move_x, y0 + move_y]) - linear @ [x0, y0]
    return np.column_stack([linear, offset])


def paste(
    image: np.ndarray,
    face: np.ndarray,
    mask: np.ndarray,
    crops: Crops,
    index: int,
    align: np.ndarray | None = None,
) -> np.ndarray:
    """Blend a drawn crop into its frame.

    Args:
        image: uint8 [H, W, 3], the frame.
        face: [S, S, 3] in 0..255, the drawn crop; S is 256 or, enhanced, a multiple of it.
        mask: float32 [256, 256] in 0..1.
        crops: the squares of the clip.
        index: which of them.
        align: [2, 3] from `alignment`, in pixels of the 256-pixel crop.

    Returns:
        uint8 [H, W, 3]. Outside the mask every pixel is the frame's own, bit by bit.
    """
    height, width = image.shape[:2]
    half = crops.sides[index] / 2
    low = np.floor(crops.centres[index] - half).astype(int)
    high = np.ceil(crops.centres[index] + half).astype(int) + 1
    left, top = np.clip(low, 0, [width, height])
    right, bottom = np.clip(high, 0, [width, height])
    if right <= left or bottom <= top:
        return image
    to_crop = np.vstack([crops.matrix(index), [0, 0, 1]])
    to_crop[:2, 2] += to_crop[:2, :2] @ [left, top]  # from pixels of the part that is worked on
    part = (int(right - left), int(bottom - top))
    # where each pixel of the frame lies in the crop; OpenCV reads backwards with WARP_INVERSE_MAP
    weight = cv2.warpAffine(mask, to_crop[:2], part, flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP)
    weight[weight < _HIDDEN] = 0
    if not weight.any():
        return image
    scale = face.shape[0] / SIZE
    larger = np.array([[scale, 0, (scale - 1) / 2], [0, scale, (scale - 1) / 2], [0, 0, 1]])
    undo = np.eye(3) if align is None else np.linalg.inv(np.vstack([align, [0, 0, 1]]))
    back = (larger @ undo @ to_crop)[:2]
    shrink = face.shape[0] / crops.sides[index]
    face = face.astype(np.float32)
    if shrink > 1.25:
        face = cv2.GaussianBlur(face, (0, 0), 0.5 * np.sqrt(shrink**2 - 1))  # against aliasing
    way = cv2.INTER_CUBIC if shrink < 1 else cv2.INTER_LINEAR
    drawn = cv2.warpAffine(face, back, part, flags=way | cv2.WARP_INVERSE_MAP, borderMode=cv2.BORDER_REPLICATE)
    result = image.copy()
    window = result[top:bottom, left:right]
    blended = window + weight[..., None] * (drawn - window)
    touched = weight > 0
    window[touched] = np.clip(np.rint(blended[touched]), 0, 255).astype(np.uint8)
    return result
