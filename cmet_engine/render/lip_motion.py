"""Corrections of the landmark motion around the mouth: its width, its opening, the red of the lips, the skin beside the corners.

Motion and landmarks are pose-free (outer-eye distances, y upwards), except where a function says pixels.
"""

from functools import cache

import cv2
import numpy as np

from cmet_engine import arkit
from cmet_engine.face.landmarks import (
    CHIN_TIP,
    EARS,
    INNER_LIP_CORNERS,
    IRIS,
    LOWER_LIP_INNER,
    LOWER_LIP_OUTER,
    OUTER_EYE_CORNERS,
    OUTER_LIP_CORNERS,
    UPPER_LIP_INNER,
    UPPER_LIP_OUTER,
)
from cmet_engine.face.lips import INNER_LIPS, OPENERS, said_opening
from cmet_engine.face.pose import template
from cmet_engine.smoothstep import smoothstep

CORNER_REACH = 0.11
"""Outer corners of the mouth, and the width (outer-eye distances) over which the skin around them moves along."""


@cache
def _corner_shares() -> np.ndarray:
    """How far each landmark follows each corner of the mouth: [478, 2]; lips follow their own motion."""
    points = template().points
    away = np.linalg.norm(points[:, None, :2] - points[None, list(OUTER_LIP_CORNERS), :2], axis=2)
    shares = np.exp(-((away / CORNER_REACH) ** 2))
    outline = points[[*UPPER_LIP_OUTER, *LOWER_LIP_OUTER[::-1]], :2].astype(np.float32)
    lips = [cv2.pointPolygonTest(outline, (float(x), float(y)), False) >= 0 for x, y in points[:, :2]]
    shares[lips] = 0
    shares[IRIS] = 0
    return shares


def round_corners(motion: np.ndarray) -> np.ndarray:
    """Let the skin beside the corners of the mouth move along with them: a corner that moves alone bends into a hook.

    Args:
        motion: [N, 478, 3] pose-free.

    Returns:
        [N, 478, 3].
    """
    result = motion.copy()
    for corner, share in zip(OUTER_LIP_CORNERS, _corner_shares().T, strict=True):
        result += share[None, :, None] * (motion[:, corner, None] - motion)
    return result


LEAST_WIDTH, ROUNDED_WIDTH = 0.53, 0.36
"""A mouth gets no narrower than a relaxed one, or one that is rounded in full (outer-eye distances; fits over ten talking people)."""

_WIDTH_REACH = 0.3
"""Width, in outer-eye distances, over which a correction of the mouth's width fades around the lips."""


@cache
def _width_share() -> np.ndarray:
    """How far each landmark follows a correction of the mouth's width: [478], -1 and 1 at the corners."""
    points = template().points
    ends = points[list(OUTER_LIP_CORNERS), 0]
    lips = points[[*UPPER_LIP_OUTER, *LOWER_LIP_OUTER], 1]
    beside = np.maximum(np.maximum(points[:, 0] - ends.max(), ends.min() - points[:, 0]), 0)
    beyond = np.maximum(np.maximum(points[:, 1] - lips.max(), lips.min() - points[:, 1]), 0)
    share = np.clip(points[:, 0] / np.abs(ends).mean(), -1, 1) * np.exp(-((beside**2 + beyond**2) / _WIDTH_REACH**2))
    share[IRIS] = 0
    return share


def keep_width(points: np.ndarray, motion: np.ndarray, delta: np.ndarray) -> np.ndarray:
    """Keep a mouth that gets narrower from getting narrower than a relaxed one, unless it is asked to be rounded.

    Args:
        points: [N, 478, 3] pose-free.
        motion: [N, 478, 3], how they would move.
        delta: [N, 52] change of the coefficients.
    """
    first, second = OUTER_LIP_CORNERS
    before = np.abs(points[:, first, 0] - points[:, second, 0])
    after = np.abs(points[:, first, 0] + motion[:, first, 0] - points[:, second, 0] - motion[:, second, 0])
    rounded = smoothstep(np.maximum(delta[:, arkit.columns(("mouthPucker", "mouthFunnel"))], 0).sum(1), 0.0, 0.6)
    least = np.minimum(before, LEAST_WIDTH + rounded * (ROUNDED_WIDTH - LEAST_WIDTH))
    missing = np.maximum(least - after, 0)
    if not missing.any():
        return motion
    result = motion.copy()
    result[..., 0] += missing[:, None] / 2 * _width_share()
    return result


SIDEWAYS = {"mouth": 0.07, "jaw": 0.09}
"""How far `mouthLeft`/`Right` shift the lips and `jawLeft`/`Right` the chin, in outer-eye distances: MediaPipe's model, hence the
network, hardly knows them."""

_LIPS_WIDTH = 0.2  # outer-eye distances over which a shift of the lips fades


@cache
def _sideways_shares() -> dict[str, np.ndarray]:
    """How far each landmark goes along when lips or jaw go sideways: [478] each."""
    points = template().points
    lips = points[[*UPPER_LIP_OUTER, *LOWER_LIP_OUTER], :2]
    beyond = np.maximum(np.maximum(points[:, :2] - lips.max(0), lips.min(0) - points[:, :2]), 0)
    mouth = np.exp(-(beyond**2).sum(1) / _LIPS_WIDTH**2)
    jaw = smoothstep(-points[:, 1], -float(points[UPPER_LIP_INNER[5], 1]), -float(points[CHIN_TIP, 1]))
    jaw = np.asarray(jaw * smoothstep(-np.abs(points[:, 0]), -float(np.abs(points[list(EARS), 0]).max()), -0.2))
    mouth[IRIS] = jaw[IRIS] = 0
    return {"mouth": mouth, "jaw": jaw}


def move_sideways(motion: np.ndarray, delta: np.ndarray) -> np.ndarray:
    """Add what `mouthLeft`, `mouthRight`, `jawLeft` and `jawRight` ask for.

    Args:
        motion: [N, 478, 3] pose-free.
        delta: [N, 52] change of the coefficients.
    """
    left = np.sign(template().points[OUTER_EYE_CORNERS[1], 0])
    result = motion
    for name, share in _sideways_shares().items():
        way = delta[:, arkit.INDEX[name + "Left"]] - delta[:, arkit.INDEX[name + "Right"]]
        if way.any():
            result = result.copy() if result is motion else result
            result[..., 0] += left * SIDEWAYS[name] * way[:, None] * share
    return result


LEAST_OPENING = 0.03
"""Curves that say less than this (outer-eye distances) of an opening that is seen are taken to say this much."""

SAID_OPEN = (0.0, 0.03)
"""A rise of the opening that the curves say counts from the first (outer-eye distances) on, and in full from the second."""

TOUCHING_OPEN = (0.02, 0.06)
"""The same for lips that touch: the curves of a real face are no more exact than this."""

PRESSES = ~OPENERS & (np.array(arkit.NAMES) != "mouthClose")
PRESSED_HARDER = 0.035
"""What presses the lips together, and up to how much of it (outer-eye distances) they touch harder and not sooner."""

EMPTIED, PRESS_SHUTS = (0.75, 0.95), (0.0, 0.03)
"""Share of what the curves say of an opening that is taken away, and press on the lips (outer-eye distances): from the latter two on
nothing is left of the opening, however little the curves said of it."""

MOST_OVER = 1.1
"""Lips open at most this many times as far as the curves say, whatever the network thinks."""

LIPS_TOUCHING = (0.01, 0.03)
"""Lips touch below the first opening, and do not above the second."""

LIPS_TOUCH, LIPS_APART = 0.015, 0.05
"""Lips nearer than the first touch all along; those further apart than the second have a shape of their own."""

_LIP_REACH = 0.09
"""Width, in outer-eye distances, over which a correction of the lips fades."""


@cache
def _lip_field() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """How a correction of the lips' opening spreads.

    Returns:
        The share [478] of every landmark (above 0 on the upper lip, below 0 on the lower one), and the sideways places [7] of
        the corners and the pairs of inner landmarks, ascending, with their order.
    """
    points = template().points
    upper, lower = np.array(INNER_LIPS).T
    left, right = points[list(INNER_LIP_CORNERS)]
    pairs = np.concatenate([[left[0]], points[upper, 0], [right[0]]])
    order = np.argsort(pairs)
    seam = np.interp(points[:, 0], pairs[order], np.concatenate([[left[1]], points[upper, 1], [right[1]]])[order])
    under = np.interp(points[:, 0], pairs[order], np.concatenate([[left[1]], points[lower, 1], [right[1]]])[order])
    middle = (seam + under) / 2
    above = points[:, 1] - middle
    inside = (points[:, 0] > min(left[0], right[0]) - 0.02) & (points[:, 0] < max(left[0], right[0]) + 0.02)
    side = np.sign(above)
    side[list(UPPER_LIP_INNER)], side[list(LOWER_LIP_INNER)] = 1, -1
    side[list(INNER_LIP_CORNERS)] = 0
    share = side * np.exp(-((np.maximum(np.abs(above) - 0.02, 0) / _LIP_REACH) ** 2)) * inside
    share[IRIS] = 0
    return share, pairs[order], order


PRESSED, LIPS_MOVE = 0.016, 0.015
"""By how much touching lips are pressed together (outer-eye distances) once they move by the second amount."""


def move_lips(
    points: np.ndarray, motion: np.ndarray, delta: np.ndarray, source: np.ndarray | None = None
) -> np.ndarray:
    """Let the lips open and close as the curves say; they never pass through each other.

    An opening gets smaller by the share of it that the curves take away: without any of it the lips close, whatever the face did.
    What presses or closes the lips takes its own amount off.

    Args:
        points: [N, 478, 3] pose-free.
        motion: [N, 478, 3], how they would move.
        delta: [N, 52] change of the coefficients.
        source: [N, 52] the coefficients before; None: they say the opening that is seen.

    Returns:
        [N, 478, 3], the motion with the openings corrected, in depth, too; the correction is shared by both lips and fades around them.
    """
    upper, lower = np.array(INNER_LIPS).T
    before = points[:, upper, 1] - points[:, lower, 1]  # [N, 5]
    change = motion[:, upper, 1] - motion[:, lower, 1]
    mean = before.mean(1)
    said = mean if source is None else said_opening(source)
    openers = mean if source is None else said_opening(np.maximum(source, 0) * OPENERS)
    rise = said_opening(np.maximum(delta, 0) * OPENERS)
    loss = said_opening(np.minimum(delta, 0) * OPENERS)
    press = np.maximum(-said_opening(delta * ~OPENERS), 0)
    asked = np.maximum(rise - press, 0)
    kept = np.clip(1 + loss / np.maximum(openers, LEAST_OPENING), 0, 1)
    touching = 1 - smoothstep(mean, *LIPS_TOUCHING)
    parting = (1 - touching) * smoothstep(asked, *SAID_OPEN)
    parting += touching * smoothstep(asked + np.minimum(said, 0), *TOUCHING_OPEN)
    parting *= asked / np.maximum(rise, 1e-6)
    further = parting * np.clip(change.mean(1), 0, MOST_OVER * asked)
    emptied = smoothstep(-loss / np.maximum(openers, 1e-6), *EMPTIED) * smoothstep(press, *PRESS_SHUTS)
    kept = kept * (1 - emptied)
    rest = np.maximum(mean, 0) * kept
    harder = np.clip(said_opening(delta * (PRESSES & (delta > 0))), -PRESSED_HARDER, 0)
    pressed = np.maximum(rest - np.maximum(press + harder - rise, 0), 0) / np.maximum(rest, 1e-6)
    kept = kept * np.where(rest > 0, pressed, 1)
    opening = np.maximum(mean, 0) * kept + further
    shape = smoothstep(opening, LIPS_TOUCH, LIPS_APART)[:, None] * (change - change.mean(1, keepdims=True))
    after = before * kept[:, None] + further[:, None] + shape
    # lips that move while they touch are pressed together: stretched lips look parted sooner
    moved = np.clip(np.abs(motion[:, upper]).max((1, 2)) / LIPS_MOVE, 0, 1)
    after -= (PRESSED * moved * (1 - smoothstep(opening, *LIPS_TOUCHING)))[:, None]
    after = np.maximum(after, np.minimum(before, 0.002))
    result = motion.copy()
    result[..., 1] += _spread_lips(after - before - change) / 2
    deep = (points + motion)[:, upper, 2] - (points + motion)[
        :, lower, 2
    ]  # seen from above or below, it parts lips, too
    result[..., 2] -= _spread_lips(deep * (1 - kept)[:, None]) / 2
    return result


def _spread_lips(correction: np.ndarray) -> np.ndarray:
    """Spread a correction [N, 5] of the opening between the inner lips over all landmarks: [N, 478], above 0 on the upper lip."""
    share, pairs, order = _lip_field()
    correction = np.pad(correction, ((0, 0), (1, 1)))[:, order]  # 0 in the corners
    place = np.clip(template().points[:, 0], pairs[0], pairs[-1])
    index = np.clip(np.searchsorted(pairs, place) - 1, 0, len(pairs) - 2)
    part = (place - pairs[index]) / (pairs[index + 1] - pairs[index])
    return (correction[:, index] * (1 - part) + correction[:, index + 1] * part) * share


LEAST_RED = 0.55
"""Lips keep at least this share of the height of their red: pressed lips thin out, but do not vanish."""

ROLLED_IN = 0.65
"""A full `mouthRoll` hides this share of the red at least."""

ROLLED = (0.3, 0.8)
"""A rise of `mouthRoll` beyond the first may hide the red, from the second on in full."""


@cache
def _red_fields() -> list[tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, float]]:
    """How a correction of the height of each lip spreads.

    Returns:
        For the upper and the lower lip: outer and inner landmarks [9] each, the share [478] of every landmark, the weights
        [478, 9] of the nine places, and the sign of the outward direction.
    """
    points = template().points
    result = []
    for outer, inner, up in (
        (UPPER_LIP_OUTER, UPPER_LIP_INNER, 1.0),
        (LOWER_LIP_OUTER, LOWER_LIP_INNER, -1.0),
    ):
        far, near = np.array(outer[1:-1]), np.array(inner[1:-1])
        x = (points[far, 0] + points[near, 0]) / 2
        order = np.argsort(x)
        far, near, x = far[order], near[order], x[order]
        edges = [np.interp(points[:, 0], points[own, 0], points[own, 1]) for own in (far, near)]
        height = up * (points[:, 1] - edges[1])
        within = np.clip(height / np.maximum(up * (edges[0] - edges[1]), 1e-6), 0, 1)
        share = within * np.exp(-((np.maximum(up * (points[:, 1] - edges[0]), 0) / _LIP_REACH) ** 2))
        beside = np.maximum(x[0] - points[:, 0], 0) + np.maximum(points[:, 0] - x[-1], 0)
        share *= np.exp(-((beside / (_LIP_REACH / 2)) ** 2))
        share[IRIS] = 0
        mix = np.stack([np.interp(points[:, 0], x, row) for row in np.eye(len(x))], 1)
        result.append((far, near, share, mix, up))
    return result


def keep_red(points: np.ndarray, motion: np.ndarray, delta: np.ndarray) -> np.ndarray:
    """Roll the lips in as asked, and else keep the red of the lips at `LEAST_RED` of its height at least.

    Args:
        points: [N, 478, 3] pose-free.
        motion: [N, 478, 3], how they would move.
        delta: [N, 52] change of the coefficients.

    Returns:
        [N, 478, 3]; outer edges that come too near the inner ones are held off, and the skin beyond moves along.
    """
    result = motion
    for (far, near, share, mix, up), name in zip(_red_fields(), ("mouthRollUpper", "mouthRollLower"), strict=True):
        before = np.maximum(up * (points[:, far, 1] - points[:, near, 1]), 0)
        after = before + up * (motion[:, far, 1] - motion[:, near, 1])
        least = LEAST_RED * (1 - smoothstep(delta[:, arkit.INDEX[name]], *ROLLED))[:, None]
        most = 1 - ROLLED_IN * np.clip(delta[:, arkit.INDEX[name]], 0, 1)[:, None]
        rolled = np.where(delta[:, arkit.INDEX[name], None] > 0, np.maximum(after - most * before, 0), 0)
        missing = np.maximum(least * before - after, 0) - rolled
        if missing.any():
            result = result.copy() if result is motion else result
            result[..., 1] += up * (missing @ mix.T) * share
    return result


TEETH_PART = 0.25
"""Teeth that meet keep the lips from parting by more than this share of how far they are apart."""

JAW_ASKED = (0.2, 0.35)
"""A rise of `jawOpen` beyond that of `mouthClose` opens a shut jaw from the first on, from the second on freely."""


def hold_lips(landmarks: np.ndarray, moves: np.ndarray, teeth: np.ndarray, jaw: np.ndarray) -> np.ndarray:
    """Limit the parting of the lips over teeth that meet: a jaw that is shut stays shut.

    Args:
        landmarks: [N, 478, 3] pixels.
        moves: [N, 478, 3] pixels.
        teeth: [N], 0 to 1, whether the frames show teeth that meet (`face.teeth`).
        jaw: [N], change of `jawOpen` without that of `mouthClose`.

    Returns:
        [N, 478, 3]; both lips alike take back what exceeds `TEETH_PART`, fading around them and towards the corners.
    """
    upper, lower = np.array(INNER_LIPS).T
    way = landmarks[:, INNER_LIP_CORNERS[1], :2] - landmarks[:, INNER_LIP_CORNERS[0], :2]
    across = np.stack([-way[:, 1], way[:, 0]], 1) / np.maximum(np.linalg.norm(way, axis=1), 1e-6)[:, None]
    before = np.einsum("nkc,nc->n", landmarks[:, lower, :2] - landmarks[:, upper, :2], across) / len(upper)
    further = np.einsum("nkc,nc->n", moves[:, lower, :2] - moves[:, upper, :2], across) / len(upper)
    shut = teeth * (1 - smoothstep(jaw, *JAW_ASKED))
    beyond = shut * np.maximum(further - TEETH_PART * np.maximum(before, 0), 0)
    if not beyond.any():
        return moves
    result = moves.copy()
    taken = _spread_lips(np.repeat(beyond[:, None], len(upper), 1)) / 2
    result[..., :2] += taken[..., None] * across[:, None]
    return result
