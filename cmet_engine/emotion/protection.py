"""Limits of an edit: it must not part closed lips, stop a blink, move the gaze or press the brows into the eyes."""

import functools

import numpy as np
import scipy

from cmet_engine import arkit
from cmet_engine.emotion.coefficients import by_side, starting_with
from cmet_engine.face.blendshapes import load_basis
from cmet_engine.face.lips import INNER_LIPS, OPENERS, PARTS, held_opening, said_opening, spoken
from cmet_engine.smoothstep import smoothstep

KNEE = 0.85
"""Above this value the rise of a coefficient is compressed so that it approaches 1 without being cut."""

LIP_GAP = {
    "jawOpen": 0.352,
    "mouthFunnel": 0.137,
    "mouthLowerDown": 0.164,
    "mouthUpperUp": 0.105,
    "mouthDimple": 0.10,
    "mouthClose": -0.337,
    "mouthPress": -0.069,
    "mouthShrugLower": -0.069,
    "mouthRollLower": -0.052,
    "mouthPucker": -0.042,
    "mouthStretch": -0.039,
}
"""Opening between the inner lips per coefficient, in outer-eye distances; both sides together where there are two.

Ridge regression from coefficients to landmarks 13 and 14 over 6,000 frames of 28 talking clips; it follows the measured
opening with a correlation of 0.94.
"""

LIP_GAP_AT_REST = 0.046
"""The constant of the same regression."""

LIPS_CLOSED = 0.055
"""Below this predicted opening the lips count as closed and nothing may part them. Faces differ: a clip's own least
opening (its 3rd percentile) plus `CLIP_MARGIN` counts too."""

CLIP_MARGIN = 0.02
OPENING_RANGE = 0.05
"""Lips that are this much further open are free."""

_OPENERS = {"jawOpen": 1.0, "mouthLowerDown": 1.0, "mouthFunnel": 1.0, "mouthPucker": 1.0, "mouthUpperUp": 0.25}
"""What parts the lips, or rounds them as for a vowel, and the share of it that a closure holds back. The lower lip follows the rest of
a raised upper lip."""

_CLOSERS = {
    "mouthShrugLower": 1.0, "mouthShrugUpper": 0.5, "mouthPress": 0.8, "mouthDimple": 0.5, "mouthRollLower": 0.7, "mouthRollUpper": 0.7,
    "mouthUpperUp": 0.3,
}  # fmt: skip
"""What closes or thickens lips that speech has opened, and the share of it that an open mouth holds back."""

MOST_PRESS = 0.4
"""Most that an edit adds to `mouthPress`; pressed further, the red of the lips vanishes from the picture."""

CLOSURE_MARGIN = 0.008
"""An edit presses closed lips together by this much more, in outer-eye distances."""

MOST_BROW = 1.0
"""Most by which an edit lowers the brows: `browDown` added plus raised brows (mean of inner and outer) taken away."""

LEAST_BLINK = 0.3
"""The least rise of `eyeBlink` above the clip's median that counts as a blink."""

CLOSURE_SECONDS = 0.05
"""How long before and after a closure the lips are held too; a closure for p, b, m lasts about 0.1 s."""

FURTHER_OPEN = 0.35
"""An emotion opens the mouth further by at most this share of how far speech has opened it, so that the rhythm stays."""

JAW_OF_EMOTION, GAP_OF_JAW = 0.3, 0.35
"""A rise of `jawOpen` beyond the first opens the lips in any case, by the second (outer-eye distances) per unit."""

HELD_IN_SPEECH = 0.06
"""Talking lips stay apart by up to this much (outer-eye distances) for a while; what is held open beyond may close."""

_ROUNDED = ("mouthPucker", "mouthFunnel")  # lips rounded for a vowel: pulling the corners apart would unsay it
_SPREADERS = ("mouthSmile", "mouthStretch", "mouthDimple", "mouthFrown")

MOST_RAISE = 0.65
"""Most by which an edit raises the inner brows: `browInnerUp` added plus `browDown` taken away."""

DRAWN_TOGETHER = 0.18
"""Most of `browDown` beside a full `browInnerUp`: fear and sadness raise and draw the brows together (FACS AU 1+4), which ARKit
spells as inner brows up; a lowered brow in the same frame contradicts it, and no blendshape estimator reports both."""

MOST_SLANT, OUTER_ALONG = 0.4, 0.4
"""Most by which an edit raises `browInnerUp` beyond the second times what it raises `browOuterUp`. That slants the brows by 5 mm:
of forty talking people, with fear and grief among them, nobody's inner brows rise by more than 4 mm against the outer ones."""

RELEASED = 0.2
"""Of the `browDown` that an actor holds, what a rise of `browInnerUp` needs less: the brows come up from further below."""


TURNING = 0.15
"""Gaussian width in seconds by which a face goes over from silence to speech."""

_GAP_ROW = by_side(LIP_GAP, split=True)
_OPENER = by_side(_OPENERS)
_CLOSER = by_side(_CLOSERS)
_SPREADER = starting_with(_SPREADERS)
_PRESS = starting_with(("mouthPress",))
_GAZE = starting_with(("eyeLook",))


def lip_gap(coefficients: np.ndarray) -> np.ndarray:
    """Predicted opening between the inner lips [N] of coefficients [N, 52], in outer-eye distances, 0 or more."""
    return np.maximum(coefficients @ _GAP_ROW + LIP_GAP_AT_REST, 0.0)


def speaking(source: np.ndarray, fps: float) -> np.ndarray:
    """How far a face [N, 52] speaks, [N] in 0..1: 1 wherever lips open and close at syllable rate nearby."""
    near = spoken(np.maximum(said_opening(source), 0), fps).astype(np.float64)
    wide = scipy.ndimage.maximum_filter1d(near, 2 * round(2 * TURNING * fps) + 1, mode="nearest")
    share: np.ndarray = scipy.ndimage.gaussian_filter1d(wide, max(TURNING * fps, 1e-3), mode="nearest")
    return share


@functools.cache
def lip_parting() -> np.ndarray:
    """How far each coefficient parts the inner lips of the renderer's face basis [52], in outer-eye distances."""
    upper, lower = np.array(INNER_LIPS).T
    motion = load_basis().components[:, :, 1]  # [52, 478], upwards
    return (motion[:, upper] - motion[:, lower]).mean(1).astype(np.float64)


def limit_brows(source: np.ndarray, change: np.ndarray, strength: np.ndarray | float = 1.0) -> np.ndarray:
    """Keep the brows off the eyes, and from standing like a roof.

    Args:
        source: [N, 52].
        change: [N, 52], what an edit adds and takes away.
        strength: [N], of all emotions together; beyond 1 the brows may slant further by as much.

    Returns:
        The change with brows lowered by at most `MOST_BROW` and slanted by at most `MOST_SLANT` on each side.
    """
    change = np.maximum(change, -np.maximum(source, 0))  # at most what is there can be taken away
    inner = arkit.INDEX["browInnerUp"]
    raised = np.clip(change[:, inner] / 0.3, 0, 1)
    give = np.ones(len(change))
    for side in ("Left", "Right"):
        down, outer = arkit.INDEX["browDown" + side], arkit.INDEX["browOuterUp" + side]
        lowered = np.maximum(change[:, down], 0)
        returned = -(np.minimum(change[:, inner], 0) + np.minimum(change[:, outer], 0)) / 2
        back = -np.minimum(change[:, down], 0)
        change[:, down] *= np.clip((MOST_RAISE - np.maximum(change[:, inner], 0)) / np.maximum(back, 1e-6), 0, 1) ** (
            back > 0
        )
        most = 1 - raised + raised * DRAWN_TOGETHER
        change[:, down] = np.minimum(change[:, down], most)
        room = np.maximum(MOST_BROW - 0.8 * lowered, 0)  # the added scowl comes before the brows that were up
        share = np.minimum(room / np.maximum(returned, 1e-6), 1)
        change[:, outer] *= np.where(change[:, outer] < 0, share, 1)
        change[:, down] *= np.minimum(MOST_BROW / np.maximum(lowered, 1e-6), 1)
        give = np.minimum(give, share)
    change[:, inner] *= np.where(change[:, inner] < 0, give, 1)
    held = source[:, arkit.columns(["browDownLeft", "browDownRight"])].mean(1)
    rise = np.maximum(change[:, inner], 0)
    change[:, inner] -= np.minimum(RELEASED * np.clip(held, 0, 1), 0.5 * rise)
    _limit_slant(change, MOST_SLANT * np.maximum(strength, 1))
    return change


def _limit_slant(change: np.ndarray, most: np.ndarray | float) -> None:
    """Hold the inner brows where they would stand like a roof, and raise the outer ones by half of what is missing; in place."""
    inner, outer = arkit.INDEX["browInnerUp"], arkit.columns(["browOuterUpLeft", "browOuterUpRight"])
    beyond = np.maximum(change[:, inner] - OUTER_ALONG * change[:, outer].mean(1) - most, 0) / (1 + 0.5 * OUTER_ALONG)
    change[:, inner] -= beyond
    change[:, outer] += 0.5 * beyond[:, None]


def protect(source: np.ndarray, change: np.ndarray, fps: float) -> np.ndarray:
    """The `change` [N, 52] without what would alter a sound, stop a blink or move the gaze of `source` [N, 52]."""
    change = change.copy()
    change[:, _GAZE] = 0
    speech, closed = speaking(source, fps), _closed_share(source, fps)  # [N]
    _protect_speech(source, change, speech, closed)
    _protect_blinks(source, change)
    _close_lips(source, change, speech * closed)
    _keep_opening(source, change, speech, fps)
    return change


def _protect_speech(source: np.ndarray, change: np.ndarray, speech: np.ndarray, closed: np.ndarray) -> None:
    """Keep lips closed that speech has closed, open lips open and rounded lips round; in place."""
    change -= (speech * closed)[:, None] * np.maximum(change, 0) * _OPENER
    change -= (1 - closed)[:, None] * np.maximum(change, 0) * _CLOSER
    change[:, _PRESS] = np.minimum(change[:, _PRESS], MOST_PRESS)
    rounded = np.clip(source[:, [arkit.INDEX[n] for n in _ROUNDED]].max(1, initial=0), 0, 1)[:, None]
    change[:, _SPREADER] *= 1 - 0.5 * rounded


def _keep_opening(source: np.ndarray, change: np.ndarray, speech: np.ndarray, fps: float) -> None:
    """Keep how far speech opens the lips: what is held open may close, and all may open a little further; in place."""
    opening = np.maximum(said_opening(source), 0)
    held = np.maximum(held_opening(opening, fps) - HELD_IN_SPEECH, 0)
    parts = change * PARTS * OPENERS
    closing, parting = np.minimum(parts, 0).sum(1), np.maximum(parts, 0).sum(1)
    share = np.clip((held + parting) / np.maximum(-closing, 1e-6), 0, 1)  # [N]
    change *= np.where(parts < 0, share[:, None], 1)
    close = arkit.INDEX["mouthClose"]
    beyond = np.maximum(-held - CLOSURE_MARGIN - said_opening(change), 0) / -PARTS[close]
    change[:, close] -= np.minimum(beyond, np.maximum(change[:, close], 0))
    most = FURTHER_OPEN * opening + GAP_OF_JAW * np.maximum(change[:, arkit.INDEX["jawOpen"]] - JAW_OF_EMOTION, 0)
    change[:, close] += speech * np.maximum(said_opening(change) - most, 0) / -PARTS[close]


def _protect_blinks(source: np.ndarray, change: np.ndarray) -> None:
    """Let eyes close fully in a blink, whatever the emotion does to the lids; in place."""
    for side in ("Left", "Right"):
        closing = scipy.ndimage.maximum_filter1d(source[:, arkit.INDEX["eyeBlink" + side]], 3)
        rest, most = np.quantile(closing, (0.5, 0.995))
        depth = max(most - rest, LEAST_BLINK)
        blink = smoothstep(closing, rest + 0.15 * depth, rest + 0.45 * depth)  # 1 in a blink
        for name in ("eyeWide", "eyeSquint"):
            change[:, arkit.INDEX[name + side]] *= 1 - blink
        column = change[:, arkit.INDEX["eyeBlink" + side]]
        column[column < 0] *= (1 - blink)[column < 0]


def _close_lips(source: np.ndarray, change: np.ndarray, closed: np.ndarray) -> None:
    """Make up with `mouthClose` for what would still part closed lips; in place."""
    parting, close = lip_parting(), arkit.INDEX["mouthClose"]
    possible = within_range(source, change) - source
    edited = np.clip(np.abs(possible).max(1) / 0.1, 0, 1)  # 0 where nothing is edited
    residual = closed * (possible @ parting + CLOSURE_MARGIN * edited)  # by how much the edit would part closed lips
    change[:, close] += np.maximum(residual, 0) / max(-parting[close], 0.1)


def _closed_share(source: np.ndarray, fps: float) -> np.ndarray:
    """1 where the lips are closed or about to be, 0 where they are open [N]; widened and smoothed so that nothing flickers."""
    gap = lip_gap(source)
    closed = max(LIPS_CLOSED, float(np.quantile(gap, 0.03)) + CLIP_MARGIN)
    share = 1 - smoothstep(gap, closed, closed + OPENING_RANGE)
    around = max(round(CLOSURE_SECONDS * fps), 1)
    return scipy.ndimage.gaussian_filter1d(
        scipy.ndimage.maximum_filter1d(share, 2 * around + 1, mode="nearest"), around / 2, mode="nearest"
    )


def within_range(source: np.ndarray, change: np.ndarray) -> np.ndarray:
    """`source + change`, kept in [0, 1] without a hard edge at the top; values without a change stay as they are."""
    wanted = source + change
    start = np.maximum(source, KNEE)
    room = np.maximum(1 - start, 1e-6)
    soft = start + room * np.tanh(np.maximum(wanted - start, 0) / room)
    raised = np.where(wanted > start, soft, wanted)
    bounded = np.clip(raised, np.minimum(source, 0), np.maximum(source, 1))
    return np.where(change == 0, source, bounded)
