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
from scipy.ndimage import gaussian_filter1d

from cmet_engine import arkit
from cmet_engine.emotion.coefficients import by_side, columns_of, starting_with
from cmet_engine.emotion.protection import limit_brows, protect, within_range
from cmet_engine.errors import CmetError
from cmet_engine.models import asset
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

_STANDING = ("brow", "cheek", "nose", "eyeSquint", "eyeWide", "mouthSmile", "mouthFrown", "mouthDimple", "mouthPress", "mouthStretch", "mouthShrug", "jawForward", "mouthLeft", "mouthRight")  # fmt: skip
_NEUTRAL_BAND = {"browDown": 0.3, "browInnerUp": 0.12, "browOuterUp": 0.12, "eyeSquint": 0.5, "mouthPress": 0.08}
"""How much of each coefficient people hold without any expression (75th percentile of pictures labelled neutral); else 0.03."""
_HELD = starting_with(_STANDING)
_BAND = by_side(_NEUTRAL_BAND, 0.03)


def soften(strength: np.ndarray) -> np.ndarray:
    """Strength as asked to strength as applied: itself up to 1, then approaching 1 + `SOFT_RANGE`; odd."""
    size = np.abs(strength)
    return np.sign(strength) * np.where(size <= 1, size, 1 + SOFT_RANGE * np.tanh((size - 1) / SOFT_RANGE))


def opposite(delta: np.ndarray) -> np.ndarray:
    """The reverse of expression deltas [..., 52]: every action taken back, and some of its antagonist added."""
    result = -delta
    for name, other in _ANTAGONISTS.items():
        targets = columns_of(other)
        for source in columns_of(name):
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
    change = protect(source, limit_brows(source, added - standing), fps)
    result.coefficients = within_range(source, change).astype(np.float32)
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
    from cmet_engine.training.connector import EXPRESSION_SCALE, FRAME_RATE, resampled, unit_vector

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
    from cmet_engine.training.connector import load_connector

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
    activity = source[:, starting_with(("brow", "jawOpen", "mouthLowerDown", "mouthSmile"))].sum(1)
    for signal in (activity, emphasis):
        if signal is None:
            continue
        signal = np.nan_to_num(np.asarray(signal, np.float64))
        slow = gaussian_filter1d(signal, max(LIFE_SECONDS * fps, 0.5), mode="nearest")
        spread = np.subtract(*np.quantile(slow, (0.9, 0.1)))
        if spread > 1e-6:
            gain += LIFE * np.tanh((slow - np.median(slow)) / max(spread, 0.05))
    return gain
