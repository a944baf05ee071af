"""The edit: an emotion timeline becomes a change of a coefficient track, and what is said stays said.

Steps, in the order of `edit_track`: the expression deltas of the emotions used, weighted by the timeline and made alive
by the actor's own activity and the voice's emphasis; in `replace` mode the clip's standing expression taken away first;
the protections of lips, blinks and speech shapes; and the sum kept in range.
"""

import difflib
import functools
import hashlib
from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
from scipy.ndimage import gaussian_filter1d, maximum_filter1d

from cmet_engine import arkit
from cmet_engine.errors import CmetError
from cmet_engine.face.blendshapes import load_basis
from cmet_engine.face.lips import INNER_LIPS
from cmet_engine.models import asset
from cmet_engine.smoothstep import smoothstep
from cmet_engine.timeline import EmotionTimeline
from cmet_engine.track import CoefficientTrack

if TYPE_CHECKING:
    from cmet_engine.emotion.connector import Connector
    from cmet_engine.emotion.library import EmotionVector

MODES = ("add", "replace")

CONNECTOR_FILE = "connector_arkit.safetensors"

SMOOTH_SECONDS = 0.12
"""Gaussian width in time of what the connector predicts: its windows join without a step."""

SOFT_RANGE = 0.8
"""A strength beyond 1 approaches 1 + SOFT_RANGE."""

KNEE = 0.85
"""Above this value a coefficient's raise is compressed so that it approaches 1 instead of being cut."""

LIFE = 0.18
"""How far the actor's own activity and the voice's emphasis each raise or lower the edit at most."""

LIFE_SECONDS = 0.25
"""Gaussian width of what is followed for that: slower than a syllable, so nothing flickers."""

STANDING_SECONDS = 0.5
"""Gaussian width that separates a held expression from the movements of speech (a syllable takes about 0.2 s)."""

OPPOSITE_SHARE = 0.6
"""How much of an action's amount its antagonist gets where an emotion is reversed."""

REMEMBERED = 4
"""Answers of `expression_deltas` that are kept: of ten minutes and two emotions each takes 12 MB."""

_ANTAGONISTS = {
    "mouthSmile": "mouthFrown",
    "mouthFrown": "mouthSmile",
    "browDown": "browOuterUp",
    "browOuterUp": "browDown",
    "browInnerUp": "browDown",
    "eyeSquint": "eyeWide",
    "eyeWide": "eyeSquint",
    "mouthStretch": "mouthPucker",
    "mouthPucker": "mouthStretch",
    "mouthPress": "mouthLowerDown",
    "cheekSquint": "mouthFrown",
}

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
LIPS_CLOSED = 0.055
"""Below this predicted opening the lips count as closed and nothing may part them. Faces differ: a clip's own least
opening (its 3rd percentile) plus `CLIP_MARGIN` counts too."""

CLIP_MARGIN = 0.02
OPENING_RANGE = 0.05
"""So much further open, nothing is held back any more."""

_OPENERS = {"jawOpen": 1.0, "mouthLowerDown": 1.0, "mouthFunnel": 1.0, "mouthUpperUp": 0.25}
"""What parts the lips, and the share of it that a closure holds back; the rest of a raised upper lip the lower lip follows."""

_CLOSERS = {
    "mouthShrugLower": 1.0, "mouthShrugUpper": 0.5, "mouthPress": 0.8, "mouthDimple": 0.5, "mouthRollLower": 0.7, "mouthRollUpper": 0.7,
    "mouthUpperUp": 0.3,
}  # fmt: skip
"""What closes or thickens lips that speech has opened, and the share of it that an open mouth holds back."""

MOST_PRESS = 0.4
"""How far an edit presses the lips at the most; pressed further their red vanishes from the picture."""

CLOSURE_MARGIN = 0.008
"""Lips that are closed are pressed together by this much more under an edit, in outer-eye distances."""

MOST_BROW = 1.0
"""How far an edit lowers the brows at the most: `browDown` added plus raised brows (mean of inner and outer) given back."""

LEAST_BLINK = 0.3
"""A rise of `eyeBlink` above the clip's median counts as a blink from about this size on."""

CLOSURE_SECONDS = 0.05
"""How long before and after a closure the lips are already held; a closure for p, b, m lasts about 0.1 s."""

_ROUNDED = ("mouthPucker", "mouthFunnel")  # lips rounded for a vowel: pulling the corners apart would unsay it
_SPREADERS = ("mouthSmile", "mouthStretch", "mouthDimple", "mouthFrown")
MOST_RAISE = 0.65
"""How far an edit raises the inner brows at the most: `browInnerUp` added plus a scowl (`browDown`) given back."""

DRAWN_TOGETHER = 0.18
"""Most of `browDown` beside a full `browInnerUp`: fear and sadness raise and draw the brows together (FACS AU 1+4), which ARKit
spells as inner brows up; a lowered brow in the same frame contradicts it, and no reader reports both."""

_STANDING = ("brow", "cheek", "nose", "eyeSquint", "eyeWide", "mouthSmile", "mouthFrown", "mouthDimple", "mouthPress", "mouthStretch", "mouthShrug", "jawForward", "mouthLeft", "mouthRight")  # fmt: skip
_NEUTRAL_BAND = {"browDown": 0.3, "browInnerUp": 0.12, "browOuterUp": 0.12, "eyeSquint": 0.5, "mouthPress": 0.08}
"""How much of each coefficient people hold without any expression (75th percentile of pictures labelled neutral); else 0.03."""


def _by_side(values: Mapping[str, float], rest: float = 0.0, *, split: bool = False) -> np.ndarray:
    """[52] from names without a side; `split` shares the value between the two sides."""
    result = np.full(arkit.COUNT, rest)
    for name, value in values.items():
        columns = _columns(name)
        result[columns] = value / len(columns) if split else value
    return result


def _columns(name: str) -> list[int]:
    """Columns of a name without a side: left and right, or the middle one."""
    return arkit.columns([name] if name in arkit.INDEX else [name + "Left", name + "Right"])


def _mask(prefixes: tuple[str, ...]) -> np.ndarray:
    return np.array([name.startswith(prefixes) for name in arkit.NAMES])


_GAP_ROW = _by_side(LIP_GAP, split=True)
_OPENER = _by_side(_OPENERS)
_CLOSER = _by_side(_CLOSERS)
_SPREADER = _mask(_SPREADERS)
_PRESS = _mask(("mouthPress",))
_GAZE = _mask(("eyeLook",))
_HELD = _mask(_STANDING)
_BAND = _by_side(_NEUTRAL_BAND, 0.03)


def lip_gap(coefficients: np.ndarray) -> np.ndarray:
    """Predicted opening between the inner lips [N] of coefficients [N, 52], in outer-eye distances, 0 or more."""
    return np.maximum(coefficients @ _GAP_ROW + LIP_GAP_AT_REST, 0.0)


@functools.cache
def lip_parting() -> np.ndarray:
    """How far each coefficient parts the inner lips on the face that is rendered [52], in outer-eye distances."""
    upper, lower = np.array(INNER_LIPS).T
    motion = load_basis().components[:, :, 1]  # [52, 478], upwards
    return (motion[:, upper] - motion[:, lower]).mean(1).astype(np.float64)


def soften(strength: np.ndarray) -> np.ndarray:
    """Strength as asked to strength as applied: itself up to 1, then approaching 1 + `SOFT_RANGE`; odd."""
    size = np.abs(strength)
    return np.sign(strength) * np.where(size <= 1, size, 1 + SOFT_RANGE * np.tanh((size - 1) / SOFT_RANGE))


def opposite(delta: np.ndarray) -> np.ndarray:
    """The reverse of expression deltas [..., 52]: every action taken back, and some of its antagonist added."""
    result = -delta
    for name, other in _ANTAGONISTS.items():
        targets = _columns(other)
        for source in _columns(name):
            same_side = [c for c in targets if arkit.NAMES[c][-4:] == arkit.NAMES[source][-4:]]
            for target in same_side or targets:
                result[..., target] += OPPOSITE_SHARE * np.maximum(delta[..., source], 0)
    return result


def edit_track(
    track: CoefficientTrack,
    timeline: EmotionTimeline,
    library: "Mapping[str, EmotionVector]",
    *,
    emphasis: np.ndarray | None = None,
    mode: str = "add",
) -> CoefficientTrack:
    """Give a track the emotions of a timeline.

    Args:
        track: what the actor does, N frames.
        timeline: which emotion, when, how strong; where keys overlap, their emotions add.
        library: emotion vectors by name, as `emotion.library.load_library` gives them.
        emphasis: [N], how strongly the voice carries emotion at each frame, in any unit; only its rise and fall
            over the clip matters.
        mode: `add` keeps the actor's own expression underneath; `replace` first takes away what the actor holds
            over longer than a syllable, wherever the timeline acts, so that edits do not stack.

    Returns:
        A new track of the same length and times: coefficients within [0, 1] (values of the source beyond are kept
        where nothing was edited), gaze, head and eye rotation as they were.

    Raises:
        CmetError: an emotion is not in the library (the nearest name is given), a key starts after the end of the
            clip, the mode is unknown, or `emphasis` has the wrong length.
    """
    if mode not in MODES:
        raise CmetError(f"mode '{mode}' is not one of {', '.join(MODES)}.")
    if emphasis is not None and len(emphasis) != len(track):
        raise CmetError(f"emphasis has {len(emphasis)} values for a track of {len(track)} frames.")
    check_emotions(timeline, library)
    result = track.copy()
    if not len(track):
        return result
    fps = float(track.fps)
    source = track.coefficients.astype(np.float64)
    weights = {name: soften(w.astype(np.float64)) for name, w in timeline.weights(track.times, track.duration).items()}
    if not any(w.any() for w in weights.values()):
        return result
    acting = np.clip(np.sum([np.abs(w) for w in weights.values()], 0), 0, 1)[:, None]  # [N, 1]

    standing = np.zeros_like(source)
    if mode == "replace":
        standing = acting * standing_expression(source, fps, track.valid)
    base = source - standing
    deltas = expression_deltas({name: library[name] for name in weights}, base, track.times)
    added = np.zeros_like(source)
    for name, weight in weights.items():
        delta = deltas[name]  # [N, 52]
        added += np.where(weight[:, None] >= 0, delta, opposite(delta)) * np.abs(weight)[:, None]
    added *= _life(source, fps, emphasis)[:, None]
    change = _protect(source, _limit_brows(source, added - standing), fps)
    result.coefficients = _within_range(source, change).astype(np.float32)
    result.meta = {**track.meta, "emotions": list(weights), "edit_mode": mode}
    return result


def check_emotions(timeline: EmotionTimeline, library: "Mapping[str, EmotionVector]") -> None:
    """Check that the library holds every emotion of a timeline.

    Raises:
        CmetError: one is missing; the message names it, the nearest spelling and the known ones.
    """
    for name in timeline.names():
        if name not in library:
            near = difflib.get_close_matches(name.lower(), list(library), 1, 0.5)
            hint = f" Did you mean '{near[0]}'?" if near else ""
            raise CmetError(f"The emotion '{name}' is unknown.{hint} Known are {', '.join(sorted(library))}.")


def expression_deltas(
    vectors: "Mapping[str, EmotionVector]", base: np.ndarray, times: np.ndarray
) -> dict[str, np.ndarray]:
    """What each emotion changes at full strength on an actor's face, as the embedded connector predicts it.

    Args:
        vectors: emotion vectors by name.
        base: [N, 52], the actor's expression.
        times: [N] seconds.

    Returns:
        Name -> [N, 52], smooth in time. A vector of no length (neutral) changes nothing. The last answers are remembered, for
        another strength asks the same again.
    """
    digest = hashlib.sha256(repr(list(vectors)).encode())
    for array in (base, times, *(vector.vector for vector in vectors.values())):
        digest.update(np.ascontiguousarray(array).data)
    key = digest.digest()
    result = _remembered.get(key)
    if result is None:
        result = _expression_deltas(vectors, base, times)
        _remembered[key] = result
        while len(_remembered) > REMEMBERED:
            _remembered.pop(next(iter(_remembered)), None)
    return {name: delta.copy() for name, delta in result.items()}


_remembered: dict[bytes, dict[str, np.ndarray]] = {}


def _expression_deltas(
    vectors: "Mapping[str, EmotionVector]", base: np.ndarray, times: np.ndarray
) -> dict[str, np.ndarray]:
    from cmet_engine.emotion.connector import code_deltas
    from cmet_engine.emotion.connector_weights import EXPRESSION_SCALE, FRAME_RATE, resampled, unit_vector

    result = {name: np.zeros_like(base) for name in vectors}
    moving = [name for name, vector in vectors.items() if np.linalg.norm(vector.vector) > 1e-3]
    if not moving:
        return result
    even, at = resampled(base, times, FRAME_RATE)  # the network's windows are of 5 frames at this rate
    stacked = unit_vector(np.stack([vectors[name].vector for name in moving]))
    deltas = code_deltas(embedded_connector(), stacked, np.clip(even, 0, 1) * EXPRESSION_SCALE) / EXPRESSION_SCALE
    deltas = gaussian_filter1d(deltas, SMOOTH_SECONDS * FRAME_RATE, axis=1, mode="nearest")
    for name, delta in zip(moving, deltas, strict=True):
        result[name] = np.stack([np.interp(times, at, delta[:, c]) for c in range(arkit.COUNT)], 1)
    return result


@functools.cache
def embedded_connector() -> "Connector":
    """The connector that ships with the project.

    Raises:
        CmetError: the embedded file is missing or damaged.
    """
    from cmet_engine.emotion.connector_weights import load_connector

    return load_connector(asset(CONNECTOR_FILE))[0]


def standing_expression(coefficients: np.ndarray, fps: float, valid: np.ndarray | None = None) -> np.ndarray:
    """The expression that the actor holds, apart from the movements of speech: [N, 52], 0 or more.

    Slow values of brows, lids, cheeks, nose and mouth corners, beyond what people hold on a neutral face. What only
    speech moves (jaw, rounding, parting of the lips) and gaze and blinks are never part of it.
    """
    values = np.asarray(coefficients, np.float64)
    if valid is not None and valid.any() and not valid.all():
        seen = np.flatnonzero(valid)
        values = np.stack([np.interp(np.arange(len(values)), seen, values[seen, c]) for c in range(arkit.COUNT)], 1)
    slow = gaussian_filter1d(values, max(STANDING_SECONDS * fps, 0.5), axis=0, mode="nearest")
    return np.where(_HELD, np.maximum(slow - _BAND, 0.0), 0.0)


def _life(source: np.ndarray, fps: float, emphasis: np.ndarray | None) -> np.ndarray:
    """Gain [N] around 1 that follows how lively the actor is at each moment and how much the voice stresses it."""
    gain = np.ones(len(source))
    activity = source[:, _mask(("brow", "jawOpen", "mouthLowerDown", "mouthSmile"))].sum(1)
    for signal in (activity, emphasis):
        if signal is None:
            continue
        signal = np.nan_to_num(np.asarray(signal, np.float64))
        slow = gaussian_filter1d(signal, max(LIFE_SECONDS * fps, 0.5), mode="nearest")
        spread = np.subtract(*np.quantile(slow, (0.9, 0.1)))
        if spread > 1e-6:
            gain += LIFE * np.tanh((slow - np.median(slow)) / max(spread, 0.05))
    return gain


def _limit_brows(source: np.ndarray, change: np.ndarray) -> np.ndarray:
    """Keep the brows off the eyes: what lowers them, new and given back, adds up to `MOST_BROW` on each side at the most."""
    change = np.maximum(change, -np.maximum(source, 0))  # no more can be given back than there is
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
    return change


def _protect(source: np.ndarray, change: np.ndarray, fps: float) -> np.ndarray:
    """Hold back what an emotion changes [N, 52] where it would unsay a sound, stop a blink or move the gaze."""
    change = change.copy()
    change[:, _GAZE] = 0

    closed = _closed_share(source, fps)[:, None]  # [N, 1]
    held = np.maximum(change, 0) * _OPENER
    change -= closed * held
    change -= (1 - closed) * np.maximum(change, 0) * _CLOSER
    change[:, _PRESS] = np.minimum(change[:, _PRESS], MOST_PRESS)
    rounded = np.clip(source[:, [arkit.INDEX[n] for n in _ROUNDED]].max(1, initial=0), 0, 1)[:, None]
    change[:, _SPREADER] *= 1 - 0.5 * rounded

    for side in ("Left", "Right"):
        closing = maximum_filter1d(source[:, arkit.INDEX["eyeBlink" + side]], 3)
        rest, most = np.quantile(closing, (0.5, 0.995))
        depth = max(most - rest, LEAST_BLINK)
        blink = smoothstep(closing, rest + 0.15 * depth, rest + 0.45 * depth)  # 1 in a blink
        for name in ("eyeWide", "eyeSquint"):
            change[:, arkit.INDEX[name + side]] *= 1 - blink
        column = change[:, arkit.INDEX["eyeBlink" + side]]
        column[column < 0] *= (1 - blink)[column < 0]
    parting, close = lip_parting(), arkit.INDEX["mouthClose"]
    possible = _within_range(source, change) - source
    edited = np.clip(np.abs(possible).max(1) / 0.1, 0, 1)  # 0 where nothing is edited
    residual = closed[:, 0] * (
        possible @ parting + CLOSURE_MARGIN * edited
    )  # by how much the edit would part closed lips
    change[:, close] += np.maximum(residual, 0) / max(-parting[close], 0.1)
    return change


def _closed_share(source: np.ndarray, fps: float) -> np.ndarray:
    """1 where the lips are closed or about to be, 0 where they are open [N]; widened and smoothed so that nothing flaps."""
    gap = lip_gap(source)
    closed = max(LIPS_CLOSED, float(np.quantile(gap, 0.03)) + CLIP_MARGIN)
    share = 1 - smoothstep(gap, closed, closed + OPENING_RANGE)
    around = max(round(CLOSURE_SECONDS * fps), 1)
    return gaussian_filter1d(maximum_filter1d(share, 2 * around + 1, mode="nearest"), around / 2, mode="nearest")


def _within_range(source: np.ndarray, change: np.ndarray) -> np.ndarray:
    """`source + change`, kept in [0, 1] without a hard edge at the top; what is not changed stays as it was."""
    wanted = source + change
    start = np.maximum(source, KNEE)
    room = np.maximum(1 - start, 1e-6)
    soft = start + room * np.tanh(np.maximum(wanted - start, 0) / room)
    raised = np.where(wanted > start, soft, wanted)
    bounded = np.clip(raised, np.minimum(source, 0), np.maximum(source, 1))
    return np.where(change == 0, source, bounded)
