"""How the landmarks of a face must move so that its coefficients change as asked.

A linear basis is too weak where brows and mouth corners act, because coefficients answer late and steeply to the motion.
So a small network gives, for a face and a change of its coefficients, the motion among those that real faces make
(principal components of how people's landmarks move, with their variances) whose rendered picture reads back as asked; it
was trained through a differentiable model of that reading (`render.motion_training`). What the reader of coefficients is
blind to (`cheekSquint`, `noseSneer`, `cheekPuff`, `jawForward`, `tongueOut`) and the gaze come from the linear basis.
"""

import itertools
from dataclasses import dataclass
from functools import cache

import cv2
import numpy as np

from cmet_engine import arkit
from cmet_engine.errors import CmetError
from cmet_engine.face.blendshapes import load_basis
from cmet_engine.face.lips import INNER_LIPS, LIDS
from cmet_engine.face.pose import LANDMARKS, denormalise_motion, normalise, template
from cmet_engine.face.teeth import CORNERS
from cmet_engine.models.assets import asset
from cmet_engine.models.tensors import read_arrays
from cmet_engine.render import mesh
from cmet_engine.smoothstep import smoothstep

MOTION_FILE = "warp_motion.safetensors"

UNSEEN: tuple[str, ...] = tuple(
    n for n in arkit.NAMES if n.startswith(("cheekSquint", "noseSneer", "cheekPuff", "jawForward", "tongueOut"))
)
"""Coefficients that MediaPipe's blendshape model hardly ever reports, whatever the face does."""

UNSEEN_SHARE = np.array([0.6 if n.startswith("noseSneer") else 1.0 for n in UNSEEN], np.float32)
"""A sneer comes with a raised upper lip, which the network moves already: its own share is smaller."""

_DRIVEN = {
    "mouthFrown": 1.15, "mouthPress": 0.9, "mouthStretch": 0.8, "browInnerUp": 2.3, "browOuterUp": 1.7, "browDown": 1.6,
    "mouthShrugLower": 1.2, "eyeBlink": 2.0, "eyeSquint": 1.5, "eyeWide": 2.8, "mouthUpperUp": 1.4, "mouthDimple": 0.4,
    "mouthSmile": 1.2, "mouthLowerDown": 1.6, "jawOpen": 1.2,
}  # fmt: skip
DRIVE = np.array([next((v for k, v in _DRIVEN.items() if n.startswith(k)), 1.1) for n in arkit.NAMES], np.float32)
"""What the network is asked for, per unit of change: most of it comes out a little weak, a stretched mouth too strong."""

IRIS = slice(468, LANDMARKS)

MIDDLE = 0.28
"""Half the width, in outer-eye distances, of the strip down the middle in which left and right blend."""

LEFT_EYE_CORNER = 263

ALONE = np.array([0.25 if n.startswith("mouthSmile") else 0.0 for n in arkit.NAMES], np.float32)
"""How much further one side goes where it acts alone, by its lead over the other: people and readers notice half a smile less."""

BROW_ALONE = 0.7
"""A brow raised alone rises as a whole, but ARKit has one `browInnerUp` for both: its side gets this share of the lead."""


@dataclass(frozen=True)
class Motion:
    """The network and the motions it mixes.

    Attributes:
        mean: float32 [1434], pose-free landmarks of the mean face.
        shape: float32 [1434, 40], turns a face into a short code.
        linear: float32 [60, 52].
        layers: three (weight [out, in], bias [out]) of the network on code and change.
        components: float32 [1434, 60], motions of the landmarks, one standard deviation each, fading at the outline.
        weights: float32 [478], how far a landmark takes part in any motion.
    """

    mean: np.ndarray
    shape: np.ndarray
    linear: np.ndarray
    layers: tuple[tuple[np.ndarray, np.ndarray], ...]
    components: np.ndarray
    weights: np.ndarray

    def pose_free(self, points: np.ndarray, delta: np.ndarray) -> np.ndarray:
        """Motion [N, 478, 3] in outer-eye distances of pose-free faces [N, 478, 3] for a change [N, 52]; 0 for none.

        The network knows how a whole face moves; people hardly ever move one half alone, so it draws that weakly. Each half is
        therefore taken from a face of which both sides do what this one does, and they blend across the middle. The face is seen
        in a mirror too and both answers are averaged, so left and right are treated alike.
        """
        delta = np.asarray(delta, np.float32)
        seen = delta * np.where(delta > 0, DRIVE, 1.1)
        seen[:, arkit.columns(arkit.GAZE)] = 0
        points = points.astype(np.float32)
        mirror, sides = template().mirror, np.array([-1, 1, 1], np.float32)
        motion = np.zeros_like(points)
        for share, both in zip(_halves(), _evened(seen), strict=True):
            answer = self._answer(points, both)
            answer += (self._answer((points * sides)[:, mirror], both) * sides)[:, mirror]
            motion += answer * share[:, None] / 2
        rest = np.zeros_like(delta)
        unseen = arkit.columns(UNSEEN)
        rest[:, unseen] = delta[:, unseen] * UNSEEN_SHARE
        motion += load_basis().pose_free_motion(rest) * self.weights[:, None]
        gaze = np.zeros_like(delta)
        gaze[:, arkit.columns(arkit.GAZE)] = delta[:, arkit.columns(arkit.GAZE)]
        motion[:, IRIS] = load_basis().pose_free_motion(gaze)[:, IRIS]
        return motion

    def _answer(self, points: np.ndarray, delta: np.ndarray) -> np.ndarray:
        code = (points.reshape(len(points), -1) - self.mean) @ self.shape
        mix = delta @ self.linear.T + self._network(code, delta) - self._network(code, np.zeros_like(delta))
        return (mix @ self.components.T).reshape(-1, LANDMARKS, 3)

    def _network(self, code: np.ndarray, delta: np.ndarray) -> np.ndarray:
        x = np.concatenate([code, delta], 1)  # [N, 92]
        for i, (weight, bias) in enumerate(self.layers):
            x = x @ weight.T + bias
            if i < len(self.layers) - 1:
                x = x / (1 + np.exp(-x))
        return x


def _halves() -> tuple[np.ndarray, np.ndarray]:
    """How far each landmark belongs to the left and to the right half of the face: [478] each, together 1."""
    x = template().points[:, 0]
    left = smoothstep(x * np.sign(x[LEFT_EYE_CORNER]), -MIDDLE, MIDDLE).astype(np.float32)
    return left, 1 - left


def _evened(change: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The change [N, 52] with both sides doing what the left one does, and what the right one does."""
    left, right = np.array([[arkit.INDEX[a], arkit.INDEX[b]] for a, b in arkit.PAIRS]).T
    results = change.copy(), change.copy()
    results[0][:, right], results[1][:, left] = change[:, left], change[:, right]
    inner = arkit.INDEX["browInnerUp"]
    lead = change[:, arkit.INDEX["browOuterUpLeft"]] - change[:, arkit.INDEX["browOuterUpRight"]]
    for result, above in zip(results, (lead, -lead), strict=True):
        result[:, inner] += BROW_ALONE * np.maximum(above, 0)
    for a, b in ((left, right), (right, left)):
        result = results[0] if a is left else results[1]
        more = np.maximum(change[:, a] - np.maximum(change[:, b], 0), 0) * ALONE[a]
        result[:, a] += more
        result[:, b] += more
    return results


@cache
def load_motion() -> Motion:
    """The embedded model.

    Raises:
        CmetError: the embedded file is missing or damaged.
    """
    w, _ = read_arrays(asset(MOTION_FILE))
    layers = tuple((w[f"layers.{i}.weight"], w[f"layers.{i}.bias"]) for i in range(3))
    return Motion(w["mean"], w["shape"], w["linear"], layers, w["components"], w["weights"])


def landmark_motion(landmarks: np.ndarray, delta: np.ndarray) -> np.ndarray:
    """How the landmarks of single frames move when the coefficients change.

    Args:
        landmarks: [N, 478, 3] pixels, of the frames as they are.
        delta: [N, 52], how the coefficients shall change.

    Returns:
        float64 [N, 478, 3] pixels, turned with the head; 0 where the landmarks are not finite.

    Raises:
        CmetError: shapes do not match.
    """
    if np.shape(delta) != (len(landmarks), arkit.COUNT):
        raise CmetError(
            f"The coefficient change has shape {list(np.shape(delta))}; expected {[len(landmarks), arkit.COUNT]}."
        )
    points, pose = normalise(landmarks)
    known = np.isfinite(points).all((1, 2))
    points = np.where(known[:, None, None], points, template().points)
    wanted = np.asarray(delta, np.float64)
    motion = keep_lids(points, tilt_brows(load_motion().pose_free(points, delta), wanted), wanted)
    motion = keep_forehead(points, keep_brows(points, round_corners(motion)))
    motion = keep_lips(points, motion, wanted)
    motion = keep_red(points, motion, wanted)
    return np.where(known[:, None, None], np.nan_to_num(denormalise_motion(motion, pose)), 0.0)


LIP_CORNERS, CORNER_REACH = (61, 291), 0.11
"""Outer corners of the mouth, and how far around them (outer-eye distances) the skin goes along."""


@cache
def _corner_shares() -> np.ndarray:
    """How far each landmark follows each corner of the mouth: [478, 2]; lips follow their own motion."""
    points = template().points
    away = np.linalg.norm(points[:, None, :2] - points[None, list(LIP_CORNERS), :2], axis=2)
    shares = np.exp(-((away / CORNER_REACH) ** 2))
    outline = points[[*mesh.UPPER_LIP_OUTER, *mesh.LOWER_LIP_OUTER[::-1]], :2].astype(np.float32)
    lips = [cv2.pointPolygonTest(outline, (float(x), float(y)), False) >= 0 for x, y in points[:, :2]]
    shares[lips] = 0
    shares[IRIS] = 0
    return shares


def round_corners(motion: np.ndarray) -> np.ndarray:
    """Let the skin beside the mouth's corners go along with them: a corner that moves alone bends into a hook.

    Args:
        motion: [N, 478, 3] pose-free.

    Returns:
        [N, 478, 3].
    """
    result = motion.copy()
    for corner, share in zip(LIP_CORNERS, _corner_shares().T, strict=True):
        result += share[None, :, None] * (motion[:, corner, None] - motion)
    return result


BROW_INNER, BROW_OUTER = 0.2, 0.5
"""Where, sideways from the middle in outer-eye distances, the inner part of a brow ends and the outer part begins."""

OUTER_STAYS = 1.0
"""Share of the rise of the outer part that is taken back where the inner part is asked to rise alone (FACS AU 1 without 2)."""

DRAWN_IN = 0.022
"""How far inner brows that rise and are lowered at once come together (FACS AU 1+4), in outer-eye distances."""


def tilt_brows(motion: np.ndarray, delta: np.ndarray) -> np.ndarray:
    """Raise the inner ends of the brows alone where only they are asked to rise: sad and fearful brows slant, they do not arch.

    Few people can do it at will, so the motions that faces were seen to make raise the whole brow.

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
    for side, sign in (("Left", np.sign(points[LEFT_EYE_CORNER, 0])), ("Right", -np.sign(points[LEFT_EYE_CORNER, 0]))):
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
"""A brow comes no nearer to the lid than this share of where it was: it would cover the eye."""

BROW_MOST = 0.9
"""A brow rises from the lid by at most this share of where it was: the skin between them is all that the frame shows of it."""


def keep_brows(points: np.ndarray, motion: np.ndarray) -> np.ndarray:
    """Hold brows back that would come down over the eyes, or rise further than the skin below them can be stretched.

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


_FOREHEAD = ((9, 107, 66, 105, 63, 70), (151, 108, 69, 104, 68, 71), (10, 109, 67, 103, 54, 21))
"""Upper edge of the right brow from the middle outwards, and the two rows of landmarks above it."""

FOREHEAD_STRETCH = 2.3
"""The skin above a brow that comes down is stretched to at most this many times its height: more smears the brow's upper edge."""


def keep_forehead(points: np.ndarray, motion: np.ndarray) -> np.ndarray:
    """Let the forehead come down with the brows where these stood high below it.

    A raised brow lies close to the landmarks above it, which hardly move by themselves: the little skin between would be drawn out.

    Args:
        points: [N, 478, 3] pose-free.
        motion: [N, 478, 3], how they would move.
    """
    mirror, result = template().mirror, motion.copy()
    for below, above in itertools.pairwise(_FOREHEAD):
        for lower, upper in ((list(below), list(above)), (mirror[list(below)], mirror[list(above)])):
            gap = np.maximum(points[:, upper, 1] - points[:, lower, 1], 0)  # [N, 6]
            most = result[:, lower, 1] + (FOREHEAD_STRETCH - 1) * gap
            result[:, upper, 1] = np.where(
                result[:, lower, 1] < 0, np.minimum(result[:, upper, 1], most), result[:, upper, 1]
            )
    return result


LOWER_LID = 0.25
"""Share of a change of the eye's opening that the lower lid takes; of a squint it takes the larger part."""

LOWER_LID_SQUINT = 0.6

EYE_WIDEST = 0.55
"""An eye opens further by at most this share of its opening: more of the eyeball than that was not seen."""

EYE_NARROWEST, BLINK_CLOSES, SQUINT_CLOSES = 0.7, 1.4, 0.5
"""An eye closes by at most these shares of what `eyeBlink` and `eyeSquint` ask for together, and never by more than the first
share of its opening: the reader that the network was trained with notices late how far a lid has come down."""

_LID_REACH = 0.07
"""How far around the lids a correction of their motion is spread, in outer-eye distances."""

_EYE_CORNERS = ((263, 362), (33, 133))  # outer and inner, of the left and the right eye


@cache
def _lid_fields() -> tuple[tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray], ...]:
    """For the left and the right eye and every landmark: share [478] of a correction of the lids, whether it follows the
    upper one [478], and between which places along the eye (index [478] and part [478]; the corners are the first and last).
    """
    from cmet_engine.render.mesh import OPENINGS

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


def keep_lids(points: np.ndarray, motion: np.ndarray, delta: np.ndarray) -> np.ndarray:
    """Let eyes open and close by their lids, the upper one above all, instead of sliding over the eyeball.

    Args:
        points: [N, 478, 3] pose-free.
        motion: [N, 478, 3], how they would move.
        delta: [N, 52] change of the coefficients.
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


LIPS_TOUCH, LIPS_APART = 0.015, 0.05
"""Below the first opening (outer-eye distances) lips that are not asked to part stay as they are; above the second they are free."""

LIPS_TOUCHING = (0.01, 0.03)
"""Touching surely below the first opening, surely not above the second."""

FURTHER_OPEN = 0.35
"""An emotion opens the mouth further by at most this share of how far speech has opened it, so that the rhythm stays."""

JAW_OF_EMOTION, LIP_GAP_OF_JAW = 0.3, 0.35
"""What `jawOpen` is raised by beyond the first (by hand, or by a strong edit) opens the lips whatever they did, by so much."""

_LIP_REACH = 0.09
"""How far around the inner lips a correction of their opening is spread, in outer-eye distances."""

_PARTING = {"jawOpen": 1.2, "mouthLowerDownLeft": 0.3, "mouthLowerDownRight": 0.3, "mouthFunnel": 0.5}


@cache
def _lip_field() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """For every landmark: share [478] of a lip correction (upper lip above 0, lower below), and between which pairs it lies."""
    points = template().points
    upper, lower = np.array(INNER_LIPS).T
    left, right = points[list(CORNERS)]
    pairs = np.concatenate([[left[0]], points[upper, 0], [right[0]]])
    order = np.argsort(pairs)
    seam = np.interp(points[:, 0], pairs[order], np.concatenate([[left[1]], points[upper, 1], [right[1]]])[order])
    under = np.interp(points[:, 0], pairs[order], np.concatenate([[left[1]], points[lower, 1], [right[1]]])[order])
    middle = (seam + under) / 2
    above = points[:, 1] - middle
    inside = (points[:, 0] > min(left[0], right[0]) - 0.02) & (points[:, 0] < max(left[0], right[0]) + 0.02)
    side = np.sign(above)
    side[list(mesh.UPPER_LIP_INNER)], side[list(mesh.LOWER_LIP_INNER)] = 1, -1
    side[list(CORNERS)] = 0
    share = side * np.exp(-((np.maximum(np.abs(above) - 0.02, 0) / _LIP_REACH) ** 2)) * inside
    share[IRIS] = 0
    return share, pairs[order], order


PRESSED, LIPS_MOVE = 0.016, 0.015
"""By how much touching lips are pressed together (outer-eye distances) once they move by the second amount."""


def keep_lips(points: np.ndarray, motion: np.ndarray, delta: np.ndarray) -> np.ndarray:
    """Keep lips closed that are closed and not asked to part, and lips from passing through each other.

    Args:
        points: [N, 478, 3] pose-free.
        motion: [N, 478, 3], how they would move.
        delta: [N, 52] change of the coefficients.

    Returns:
        [N, 478, 3], the motion with the openings corrected; the correction is shared by both lips and fades around them.
    """
    upper, lower = np.array(INNER_LIPS).T
    before = points[:, upper, 1] - points[:, lower, 1]  # [N, 5]
    change = motion[:, upper, 1] - motion[:, lower, 1]
    asked = sum(share * np.maximum(delta[:, arkit.INDEX[name]], 0) for name, share in _PARTING.items())
    held = 1 - smoothstep(before.mean(1), LIPS_TOUCH, LIPS_APART)
    # touching lips take a clear wish to part: a little jaw under a p, b or m is the emotion's, not the speaker's
    touching = 1 - smoothstep(before.mean(1), *LIPS_TOUCHING)
    asked = np.asarray(asked)
    parting = (1 - touching) * smoothstep(asked, 0.04, 0.14) + touching * smoothstep(asked, 0.2, 0.4)
    held = held * (1 - parting)
    wanted = change * (1 - held[:, None])
    # what is said is said by how far the lips open: an emotion shapes them and leaves their mean opening alone
    wanted -= (1 - parting)[:, None] * wanted.mean(1, keepdims=True)
    jaw = np.maximum(delta[:, arkit.INDEX["jawOpen"]] - JAW_OF_EMOTION, 0)
    most = FURTHER_OPEN * np.maximum(before.mean(1), 0) + LIP_GAP_OF_JAW * jaw
    wanted -= np.maximum(wanted.mean(1) - most, 0)[:, None]
    # lips that move while they touch are pressed together: a tracker, and an eye, sees stretched lips parted sooner
    moved = np.clip(np.abs(motion[:, upper]).max((1, 2)) / LIPS_MOVE, 0, 1)
    wanted -= (PRESSED * moved * touching * (1 - parting))[:, None]
    wanted = np.maximum(before + wanted, np.minimum(before, 0.002)) - before
    result = motion.copy()
    result[..., 1] += _spread_lips(wanted - change) / 2
    return result


def _spread_lips(correction: np.ndarray) -> np.ndarray:
    """What each landmark gets of a correction [N, 5] of the opening between the inner lips: [N, 478], above 0 on the upper lip."""
    share, pairs, order = _lip_field()
    correction = np.pad(correction, ((0, 0), (1, 1)))[:, order]  # 0 in the corners
    place = np.clip(template().points[:, 0], pairs[0], pairs[-1])
    index = np.clip(np.searchsorted(pairs, place) - 1, 0, len(pairs) - 2)
    part = (place - pairs[index]) / (pairs[index + 1] - pairs[index])
    return (correction[:, index] * (1 - part) + correction[:, index + 1] * part) * share


LEAST_RED = 0.55
"""Lips keep at least this share of the height of their red: pressed ones thin out, and do not vanish into a line."""

ROLLED = (0.3, 0.8)
"""A rise of `mouthRoll` beyond the first hides the red all the same, from the second on freely."""


@cache
def _red_fields() -> list[tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, float]]:
    """For either lip: outer and inner landmarks [9], share [478] of a correction of its height, [478, 9] between which pairs, and up."""
    points = template().points
    result = []
    for outer, inner, up in (
        (mesh.UPPER_LIP_OUTER, mesh.UPPER_LIP_INNER, 1.0),
        (mesh.LOWER_LIP_OUTER, mesh.LOWER_LIP_INNER, -1.0),
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
    """Keep the red of the lips from being pressed to nothing.

    Args:
        points: [N, 478, 3] pose-free.
        motion: [N, 478, 3], how they would move.
        delta: [N, 52] change of the coefficients.

    Returns:
        [N, 478, 3]; outer edges that come too near the inner ones are held off, and the skin beyond goes along.
    """
    result = motion
    for (far, near, share, mix, up), name in zip(_red_fields(), ("mouthRollUpper", "mouthRollLower"), strict=True):
        before = np.maximum(up * (points[:, far, 1] - points[:, near, 1]), 0)
        after = before + up * (motion[:, far, 1] - motion[:, near, 1])
        least = LEAST_RED * (1 - smoothstep(delta[:, arkit.INDEX[name]], *ROLLED))[:, None]
        missing = np.maximum(least * before - after, 0)
        if missing.any():
            result = result.copy() if result is motion else result
            result[..., 1] += up * (missing @ mix.T) * share
    return result


TEETH_PART = 0.25
"""Teeth that meet keep the lips from parting by more than this share of how far they are apart."""

JAW_WISHED = (0.4, 0.65)
"""A rise of `jawOpen` beyond the first opens a jaw that is shut, from the second on freely: no emotion at strength 1 asks for it."""


def hold_lips(landmarks: np.ndarray, moves: np.ndarray, teeth: np.ndarray, jaw: np.ndarray) -> np.ndarray:
    """Motion whose lips part little over teeth that meet: a jaw that is shut stays shut.

    Args:
        landmarks: [N, 478, 3] pixels.
        moves: [N, 478, 3] pixels.
        teeth: [N], 0 to 1, whether the frames show teeth that meet (`face.teeth`).
        jaw: [N], change of `jawOpen`.

    Returns:
        [N, 478, 3]; what goes beyond `TEETH_PART` is taken back by both lips alike, fading around them and towards the corners.
    """
    upper, lower = np.array(INNER_LIPS).T
    way = landmarks[:, CORNERS[1], :2] - landmarks[:, CORNERS[0], :2]
    across = np.stack([-way[:, 1], way[:, 0]], 1) / np.maximum(np.linalg.norm(way, axis=1), 1e-6)[:, None]
    before = np.einsum("nkc,nc->n", landmarks[:, lower, :2] - landmarks[:, upper, :2], across) / len(upper)
    further = np.einsum("nkc,nc->n", moves[:, lower, :2] - moves[:, upper, :2], across) / len(upper)
    shut = teeth * (1 - smoothstep(jaw, *JAW_WISHED))
    beyond = shut * np.maximum(further - TEETH_PART * np.maximum(before, 0), 0)
    if not beyond.any():
        return moves
    result = moves.copy()
    taken = _spread_lips(np.repeat(beyond[:, None], len(upper), 1)) / 2
    result[..., :2] += taken[..., None] * across[:, None]
    return result
