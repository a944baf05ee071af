"""Corrections of the landmark motion around the eyes: brows, forehead and lids.

Motion and landmarks are pose-free (outer-eye distances, y upwards).
"""

import itertools
from functools import cache

import numpy as np

from cmet_engine import arkit
from cmet_engine.face.landmarks import (
    FOREHEAD_LINES,
    IRIS,
    LEFT_EYE_CORNERS,
    LID_STRIPS,
    OUTER_EYE_CORNERS,
    RIGHT_EYE_CORNERS,
)
from cmet_engine.face.lips import LIDS
from cmet_engine.face.pose import template
from cmet_engine.render.mesh import OPENINGS
from cmet_engine.smoothstep import smoothstep

BROW_INNER, BROW_OUTER = 0.2, 0.5
"""Where, sideways from the middle in outer-eye distances, the inner part of a brow ends and the outer part begins."""

OUTER_STAYS = 1.0
"""Share of the rise of the outer part that is taken back where the inner part is asked to rise alone (FACS AU 1 without 2)."""

DRAWN_IN = 0.022
"""How far inner brows that rise and are lowered at once come together (FACS AU 1+4), in outer-eye distances."""


def tilt_brows(motion: np.ndarray, delta: np.ndarray) -> np.ndarray:
    """Raise the inner ends of the brows alone where only they are asked to rise: sad and fearful brows slant, they do not arch.

    Few people can do it at will, so the motions of recorded faces raise the whole brow.

    Args:
        motion: [N, 478, 3] pose-free.
        delta: [N, 52] change of the coefficients.

    Returns:
        [N, 478, 3].
    """
    points = template().points
    result = motion.copy()
    inner = np.maximum(delta[:, arkit.INDEX["browInnerUp"]], 0)
    low, high = points[_EYELID_TOP, 1], points[_BROW_TOP, 1]
    height = smoothstep(points[:, 1], float(low), float(high))
    for side, sign in (
        ("Left", np.sign(points[OUTER_EYE_CORNERS[1], 0])),
        ("Right", -np.sign(points[OUTER_EYE_CORNERS[1], 0])),
    ):
        outer = np.maximum(delta[:, arkit.INDEX["browOuterUp" + side]], 0)
        alone = smoothstep(inner, 0.05, 0.25) * np.clip(1 - outer / np.maximum(inner, 1e-6), 0, 1)  # [N]
        place = sign * points[:, 0]
        field = height * smoothstep(place, BROW_INNER, BROW_OUTER) * OUTER_STAYS
        result[..., 1] -= alone[:, None] * field * np.maximum(motion[..., 1], 0)
        together = np.minimum(inner, np.maximum(delta[:, arkit.INDEX["browDown" + side]], 0) / 0.18) * (inner > 0)
        near = height * smoothstep(place, 0.02, 0.1) * smoothstep(place, BROW_OUTER, BROW_INNER)
        result[..., 0] -= sign * DRAWN_IN * np.clip(together, 0, 1)[:, None] * near
    return result


_EYELID_TOP, _BROW_TOP = 159, 105  # the height at which a correction of the brows begins, and from which it is full

_BROW, _LID = (65, 52, 53), (158, 159, 160)  # lower edge of the right brow, and the upper lid below it
BROW_LEAST = 0.35
"""A brow comes no nearer to the lid than this share of their distance: it would cover the eye."""

BROW_MOST = 0.9
"""A brow rises from the lid by at most this share of their distance: the frame shows no more skin than lies between them."""


def keep_brows(points: np.ndarray, motion: np.ndarray) -> np.ndarray:
    """Limit brows that would come down over the eyes, or rise further than the skin below them can be stretched.

    Args:
        points: [N, 478, 3] pose-free.
        motion: [N, 478, 3], how they would move.
    """
    face, mirror = template().points, template().mirror
    result = motion.copy()
    for brow, lid in ((list(_BROW), list(_LID)), (mirror[list(_BROW)], mirror[list(_LID)])):
        before = np.maximum((points[:, brow, 1] - points[:, lid, 1]).mean(1), 0.02)
        rise = (motion[:, brow, 1] - motion[:, lid, 1]).mean(1)
        up, down = np.maximum(rise, 0) / (BROW_MOST * before), np.maximum(-rise, 1e-6)
        share = np.minimum(1.0, (1 - BROW_LEAST) * before / down) * (1 + up**4) ** -0.25  # [N]
        outer = np.sign(face[brow, 0].mean())
        low, high = face[lid, 1].mean(), face[brow, 1].mean()
        field = smoothstep(face[:, 1], float(low), float(high)) * smoothstep(outer * face[:, 0], -0.06, 0.06)
        result *= 1 - field[None, :, None] * (1 - share)[:, None, None]
    return result


FOREHEAD_STRETCH = 2.3
"""Skin above a brow that comes down is stretched to at most this many times its height: more smears the brow's upper edge."""


def keep_forehead(points: np.ndarray, motion: np.ndarray) -> np.ndarray:
    """Let the forehead come down with brows that stood high.

    A raised brow lies close to the landmarks above it, which hardly move by themselves: the little skin between them would be
    stretched far.

    Args:
        points: [N, 478, 3] pose-free.
        motion: [N, 478, 3], how they would move.
    """
    mirror, result = template().mirror, motion.copy()
    for below, above in itertools.pairwise(FOREHEAD_LINES):
        for lower, upper in ((list(below), list(above)), (mirror[list(below)], mirror[list(above)])):
            gap = np.maximum(points[:, upper, 1] - points[:, lower, 1], 0)  # [N, 6]
            most = result[:, lower, 1] + (FOREHEAD_STRETCH - 1) * gap
            result[:, upper, 1] = np.where(
                result[:, lower, 1] < 0, np.minimum(result[:, upper, 1], most), result[:, upper, 1]
            )
    return result


LID_LEAST = (0.55, 0.2, 0.15, 0.85)
"""Least height of the strips of an upper lid, from its edge up to the brow, and of the brow, as shares of what they were: skin that
is pushed further goes over the edge with its lashes, and leaves a dark jagged line there."""


LID_MOST, LIDS_MEET = 1.1, (0.14, 0.05)
"""Most height of the lowest strip of lids that are shut, likewise: the skin next to the lashes lies firmly on the lid, and would draw
them out. Lids count as shut in full where the eye's opening is the last share of its width, and from the one before on not at all."""


def keep_lid_skin(points: np.ndarray, motion: np.ndarray) -> np.ndarray:
    """Keep the skin of the upper lid above the lid's edge when the brow comes down, and next to a shut lid's when the brow rises.

    Args:
        points: [N, 478, 3] pose-free.
        motion: [N, 478, 3], how they would move.
    """
    mirror, result = template().mirror, motion.copy()
    for k, ((below, above), least) in enumerate(zip(LID_STRIPS, LID_LEAST, strict=True)):
        strip = np.array(below), np.array(above)
        sides = strip, (mirror[strip[0]], mirror[strip[1]])
        for (lower, upper), (lids, opposite) in zip(sides, OPENINGS[:2], strict=True):  # right, left
            gap = np.maximum(points[:, upper, 1] - points[:, lower, 1], 0)  # [N, 5 or 7]
            lowest = result[:, lower, 1] - (1 - least) * gap
            result[:, upper, 1] = np.maximum(result[:, upper, 1], lowest)
            if k == 0:
                width = np.abs(points[:, lids[-1], 0] - points[:, lids[0], 0])
                opening = (points[:, lids, 1] - points[:, opposite, 1]).max(1)
                shut = smoothstep(opening / np.maximum(width, 1e-6), *LIDS_MEET)
                beyond = np.maximum(result[:, upper, 1] - result[:, lower, 1] - (LID_MOST - 1) * gap, 0)
                result[:, upper, 1] -= shut[:, None] * beyond
    return result


LOWER_LID = 0.25
"""Share of a change of the eye's opening that the lower lid takes; of a squint it takes the larger part."""

LOWER_LID_SQUINT = 0.6
"""That larger part."""

EYE_WIDEST = 0.55
"""An eye opens further by at most this share of its opening: the frame shows no more of the eyeball."""

EYE_NARROWEST, BLINK_CLOSES, SQUINT_CLOSES = 0.7, 1.4, 0.5
"""An eye closes by at most these shares of what `eyeBlink` and `eyeSquint` ask for together, and never by more than the first
share of its opening: the blendshape model that the network was trained with responds late to a lid that comes down."""

SHUT, SHUT_BY = (0.55, 0.85), (0.1, 0.3)
"""An `eyeBlink` of the second shuts the eye whatever it did, of the first not by itself, if it rises by the latter two."""

_LID_REACH = 0.07
"""Width, in outer-eye distances, over which a correction of the lids fades."""

_EYE_CORNERS = (LEFT_EYE_CORNERS[::-1], RIGHT_EYE_CORNERS)  # outer and inner, of the left and the right eye


@cache
def _lid_fields() -> tuple[tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray], ...]:
    """How a correction of the lids spreads, for the left and the right eye.

    Returns:
        For each eye and every landmark: its share [478] of the correction; whether it follows the upper lid, bool [478]; and
        between which two places along the eye it lies, as index [478] of the first and part [478] of the way to the next (the
        corners are the first and the last place).
    """
    points = template().points
    results = []
    for pairs, (outer, inner), lids in zip(LIDS, _EYE_CORNERS, (OPENINGS[1], OPENINGS[0]), strict=True):
        upper, lower = np.array(sorted(pairs, key=lambda pair: abs(points[pair[0], 0] - points[outer, 0]))).T
        sign = np.sign(points[inner, 0] - points[outer, 0])
        along = sign * points[[outer, *upper, inner], 0]
        place = np.clip(sign * points[:, 0], along[0], along[-1])
        tops = np.interp(place, along, points[[outer, *upper, inner], 1])
        bottoms = np.interp(place, along, points[[outer, *lower, inner], 1])
        above = points[:, 1] > (tops + bottoms) / 2
        above[list(lids[0])], above[list(lids[1])] = True, False
        away = np.maximum(np.maximum(points[:, 1] - tops, bottoms - points[:, 1]), 0)
        share = np.exp(-(away**2 + (sign * points[:, 0] - place) ** 2) / _LID_REACH**2)
        share[IRIS] = 0
        index = np.clip(np.searchsorted(along, place) - 1, 0, len(along) - 2)
        results.append((share, above, index, (place - along[index]) / (along[index + 1] - along[index])))
    return tuple(results)


def keep_lids(
    points: np.ndarray, motion: np.ndarray, delta: np.ndarray, source: np.ndarray | None = None
) -> np.ndarray:
    """Let eyes open and close by their lids, the upper one above all, instead of sliding over the eyeball.

    Args:
        points: [N, 478, 3] pose-free.
        motion: [N, 478, 3], how they would move.
        delta: [N, 52] change of the coefficients.
        source: [N, 52] the coefficients before; None: an open eye's.
    """
    result = motion.copy()
    face = template().points
    for side, pairs, (outer, _), (share, above, index, part) in zip(
        ("Left", "Right"), LIDS, _EYE_CORNERS, _lid_fields(), strict=True
    ):
        upper, lower = np.array(sorted(pairs, key=lambda pair: abs(face[pair[0], 0] - face[outer, 0]))).T
        gap = points[:, upper, 1] - points[:, lower, 1]  # [N, 4]
        change = motion[:, upper, 1] - motion[:, lower, 1]
        squint, blink, wide = (delta[:, arkit.INDEX[name + side]] for name in ("eyeSquint", "eyeBlink", "eyeWide"))
        closing = np.clip(
            BLINK_CLOSES * np.maximum(blink, 0) + SQUINT_CLOSES * np.maximum(squint, 0), 0.05, EYE_NARROWEST
        )
        change = np.clip(change, -closing[:, None] * np.maximum(gap, 0), EYE_WIDEST * np.maximum(gap, 0))
        wanted = blink if source is None else blink + source[:, arkit.INDEX["eyeBlink" + side]]
        shut = smoothstep(wanted, *SHUT) * smoothstep(blink, *SHUT_BY)
        change += shut[:, None] * (-np.maximum(gap, 0) - change)
        of_squint = np.abs(squint) / np.maximum(np.abs(squint) + np.abs(blink) + np.abs(wide), 1e-6)
        lower_share = LOWER_LID + (LOWER_LID_SQUINT - LOWER_LID) * of_squint[:, None]
        to_upper = np.pad(change * (1 - lower_share) - motion[:, upper, 1], ((0, 0), (1, 1)))
        to_lower = np.pad(-change * lower_share - motion[:, lower, 1], ((0, 0), (1, 1)))
        for ends in (to_upper, to_lower):  # the corners are fixed to the bone
            ends[:, 0], ends[:, -1] = (-motion[:, corner, 1] for corner in _EYE_CORNERS[side == "Right"])
        spread = np.where(
            above,
            to_upper[:, index] * (1 - part) + to_upper[:, index + 1] * part,
            to_lower[:, index] * (1 - part) + to_lower[:, index + 1] * part,
        )
        result[..., 1] += spread * share
    return result
