"""The edit: apply an emotion timeline to a coefficient track and keep what is said.

Steps, in the order of `edit_track`: in `replace` mode, take away the expression that the actor holds; predict the
expression deltas of the emotions; weight them by the timeline, the actor's own activity and the voice's emphasis;
protect lips, blinks and speech shapes (`protection`); and keep the sum in range.
"""

import hashlib
from collections.abc import Mapping

import numpy as np
import scipy

from cmet_engine import arkit
from cmet_engine.emotion.bearing import with_bearing
from cmet_engine.emotion.coefficients import ANTAGONISTS, NEUTRAL_BAND, bridged, columns_of, starting_with
from cmet_engine.emotion.embedded_connector import (
    EXPRESSION_SCALE,
    FRAME_RATE,
    embedded_connector,
    resampled,
    unit_vector,
)
from cmet_engine.emotion.families import on_other_side, shaped
from cmet_engine.emotion.library import unknown_emotion
from cmet_engine.emotion.likeness import Likeness
from cmet_engine.emotion.protection import limit_brows, protect, speaking, within_range
from cmet_engine.emotion.vector import EmotionVector
from cmet_engine.emotions import LIKE
from cmet_engine.errors import InvalidInput
from cmet_engine.timeline import EmotionTimeline
from cmet_engine.track import CoefficientTrack

MODES = ("add", "replace")

SMOOTH_SECONDS = 0.12
"""Gaussian width in time by which the connector's deltas are smoothed, so that its windows join without a step."""

SOFT_RANGE = 0.8
"""A strength beyond 1 approaches 1 + SOFT_RANGE."""

DYNAMICS = 0.18
"""How far the actor's own activity and the voice's emphasis each raise or lower the edit at most."""

DYNAMICS_SECONDS = 0.25
"""Gaussian width by which activity and emphasis are smoothed: slower than a syllable, so that nothing flickers."""

HELD_SECONDS = 0.5
"""Gaussian width that separates a held expression from the movements of speech (a syllable takes about 0.2 s)."""

OPPOSITE_SHARE = 0.6
"""How much of an action's amount its antagonist gets where an emotion is reversed."""

CACHED_DELTAS = 4
"""Results of `expression_deltas` that are kept; one of ten minutes and two emotions takes 12 MB."""

_HELD_NAMES = ("brow", "cheek", "nose", "eyeSquint", "eyeWide", "mouthSmile", "mouthFrown", "mouthDimple", "mouthPress", "mouthStretch", "mouthShrug", "jawForward", "mouthLeft", "mouthRight")  # fmt: skip
_HELD = starting_with(_HELD_NAMES)


def soften(strength: np.ndarray) -> np.ndarray:
    """Requested to applied strength: the same up to 1, then approaching 1 + `SOFT_RANGE`; an odd function."""
    size = np.abs(strength)
    return np.sign(strength) * np.where(size <= 1, size, 1 + SOFT_RANGE * np.tanh((size - 1) / SOFT_RANGE))


def opposite(delta: np.ndarray) -> np.ndarray:
    """The reverse of expression deltas [..., 52]: negated, with a share of each action's antagonist added."""
    result = -delta
    for name, other in ANTAGONISTS.items():
        targets = columns_of(other)
        for source in columns_of(name):
            same_side = [c for c in targets if arkit.NAMES[c][-4:] == arkit.NAMES[source][-4:]]
            for target in same_side or targets:
                result[..., target] += OPPOSITE_SHARE * np.maximum(delta[..., source], 0)
    return result


def edit_track(
    track: CoefficientTrack,
    timeline: EmotionTimeline,
    library: Mapping[str, EmotionVector],
    *,
    emphasis: np.ndarray | None = None,
    mode: str = "add",
    likeness: Likeness | None = None,
    bearing: bool = False,
) -> CoefficientTrack:
    """Apply the emotions of a timeline to a track.

    Args:
        track: what the actor does, N frames.
        timeline: which emotion, when, how strong; where keys overlap, their emotions add.
        library: emotion vectors by name, as `emotion.library.load_library` gives them.
        emphasis: [N], how strongly the voice carries emotion at each frame, in any unit; only its change over the
            clip matters.
        mode: `add` keeps the actor's own expression underneath; `replace` first takes away, wherever the timeline
            acts, what the actor holds for longer than a syllable, so that edits do not stack.
        likeness: the expression of a reference, which keys named `LIKE` put on.
        bearing: head, gaze and blinks go with the emotions, too (see `bearing`).

    Returns:
        A new track of the same length and times: coefficients within [0, 1] (values of the source beyond are kept
        where nothing was edited); without `bearing` gaze, head and eye rotation as they were.

    Raises:
        InvalidInput: an emotion is not in the library (the nearest name is given), a key starts after the end of the
            clip, the mode is unknown, or `emphasis` has the wrong length.
    """
    if mode not in MODES:
        raise InvalidInput(f"mode '{mode}' is not one of {', '.join(MODES)}.")
    if emphasis is not None and len(emphasis) != len(track):
        raise InvalidInput(f"emphasis has {len(emphasis)} values for a track of {len(track)} frames.")
    check_emotions(timeline, library, likeness)
    result = track.copy()
    if not len(track):
        return result
    fps = float(track.fps)
    source = track.coefficients.astype(np.float64)
    weights = _applied(timeline, track)
    if not any(w.any() for w in weights.values()):
        return result
    strength = np.sum([np.abs(w) for w in weights.values()], 0)  # [N]
    acting = np.minimum(strength, 1)[:, None]
    held = np.zeros_like(source)
    if mode == "replace":
        held = acting * held_expression(source, fps, track.valid)
    base = source - held
    deltas = expression_deltas({n: library[n] for n in weights if n != LIKE}, base, track.times)
    gain = _dynamics(source, fps, emphasis)[:, None]
    deltas = {name: gain * delta for name, delta in deltas.items()}
    if likeness is not None and LIKE in weights:
        deltas[LIKE] = likeness.change(base, track.times + timeline.begins)
    added = _added(deltas, timeline, track, weights)
    change = protect(source, limit_brows(source, added - held, strength), fps)
    result.coefficients = within_range(source, change).astype(np.float32)
    result.meta = {**track.meta, "emotions": list(weights), "edit_mode": mode}
    return with_bearing(result, weights) if bearing else result


def _added(
    deltas: Mapping[str, np.ndarray],
    timeline: EmotionTimeline,
    track: CoefficientTrack,
    weights: Mapping[str, np.ndarray],
) -> np.ndarray:
    """The sum of the emotions' `deltas` by their strengths in every region: float64 [N, 52]."""
    added = np.zeros((len(track), arkit.COUNT))
    opposites = {name: opposite(delta) for name, delta in deltas.items()}
    for region, names in timeline.regions().items():
        columns = arkit.columns(names)
        own = weights if region is None else _applied(timeline, track, region)
        for name, weight in own.items():
            delta = np.where(weight[:, None] >= 0, deltas[name][:, columns], opposites[name][:, columns])  # [N, C]
            added[:, columns] += delta * np.abs(weight)[:, None]
    return added


def _applied(timeline: EmotionTimeline, track: CoefficientTrack, region: str | None = None) -> dict[str, np.ndarray]:
    """The strength of each emotion as it is applied, float64 [N], in a region or the face as a whole."""
    weights = timeline.weights(track.times, track.duration, region)
    return {name: soften(weight.astype(np.float64)) for name, weight in weights.items()}


def check_emotions(
    timeline: EmotionTimeline, library: Mapping[str, EmotionVector], likeness: Likeness | None = None
) -> None:
    """Check that the library holds every emotion of a timeline, and that there is a reference where a key is named `LIKE`.

    Raises:
        InvalidInput: one is missing; the message names it, the nearest spelling and the known ones.
    """
    for name in timeline.names():
        if name == LIKE:
            if likeness is None:
                raise InvalidInput(f"The emotion '{LIKE}' needs a face to take it from; add --like FILE.")
        elif name not in library:
            raise unknown_emotion(name, library)


def expression_deltas(
    vectors: Mapping[str, EmotionVector], base: np.ndarray, times: np.ndarray
) -> dict[str, np.ndarray]:
    """The change of expression by each emotion at full strength, as the embedded connector predicts it.

    Args:
        vectors: emotion vectors by name.
        base: [N, 52], the actor's expression.
        times: [N] seconds.

    Returns:
        Name -> [N, 52], smooth in time. A vector of no length (neutral) changes nothing. The last results are cached, because
        an edit at another strength needs the same ones.
    """
    digest = hashlib.sha256(repr(list(vectors)).encode())
    for array in (base, times, *(vector.vector for vector in vectors.values())):
        digest.update(np.ascontiguousarray(array).data)
    key = digest.digest()
    result = _cached_deltas.get(key)
    if result is None:
        result = _expression_deltas(vectors, base, times)
        _cached_deltas[key] = result
        while len(_cached_deltas) > CACHED_DELTAS:
            _cached_deltas.pop(next(iter(_cached_deltas)), None)
    return {name: delta.copy() for name, delta in result.items()}


_cached_deltas: dict[bytes, dict[str, np.ndarray]] = {}


def _expression_deltas(
    vectors: Mapping[str, EmotionVector], base: np.ndarray, times: np.ndarray
) -> dict[str, np.ndarray]:
    result = {name: np.zeros_like(base) for name in vectors}
    moving = [name for name, vector in vectors.items() if np.linalg.norm(vector.vector) > 1e-3]
    if not moving:
        return result
    even, at = resampled(base, times, FRAME_RATE)  # the network's windows are of 5 frames at this rate
    speech = speaking(even, FRAME_RATE)
    turned = [name for name in moving if on_other_side(vectors[name].vector, even)]
    for names, sides in ([n for n in moving if n not in turned], range(arkit.COUNT)), (turned, arkit.MIRROR):
        if not names:
            continue
        seen = even[:, list(sides)]
        stacked = unit_vector(np.stack([vectors[name].vector for name in names]))
        deltas = embedded_connector().deltas(stacked, np.clip(seen, 0, 1) * EXPRESSION_SCALE) / EXPRESSION_SCALE
        deltas = scipy.ndimage.gaussian_filter1d(deltas, SMOOTH_SECONDS * FRAME_RATE, axis=1, mode="nearest")
        for name, delta in zip(names, deltas, strict=True):
            delta = shaped(delta, vectors[name].vector, seen, speech)
            result[name] = np.stack([np.interp(times, at, delta[:, c]) for c in sides], 1)
    return result


def held_expression(coefficients: np.ndarray, fps: float, valid: np.ndarray | None = None) -> np.ndarray:
    """The expression that the actor holds, without the movements of speech: [N, 52], 0 or more.

    Slow values of brows, lids, cheeks, nose and mouth corners, beyond what people hold on a neutral face. What only
    speech moves (jaw, rounding, parting of the lips) and gaze and blinks are never part of it.
    """
    values = np.asarray(coefficients, np.float64)
    if valid is not None:
        values = bridged(values, valid)
    slow = scipy.ndimage.gaussian_filter1d(values, max(HELD_SECONDS * fps, 0.5), axis=0, mode="nearest")
    return np.where(_HELD, np.maximum(slow - NEUTRAL_BAND, 0.0), 0.0)


def _dynamics(source: np.ndarray, fps: float, emphasis: np.ndarray | None) -> np.ndarray:
    """Gain [N] around 1 that follows the actor's activity and the voice's emphasis at each moment."""
    gain = np.ones(len(source))
    activity = source[:, starting_with(("brow", "jawOpen", "mouthLowerDown", "mouthSmile"))].sum(1)
    for signal in (activity, emphasis):
        if signal is None:
            continue
        signal = np.nan_to_num(np.asarray(signal, np.float64))
        slow = scipy.ndimage.gaussian_filter1d(signal, max(DYNAMICS_SECONDS * fps, 0.5), mode="nearest")
        spread = np.subtract(*np.quantile(slow, (0.9, 0.1)))
        if spread > 1e-6:
            gain += DYNAMICS * np.tanh((slow - np.median(slow)) / max(spread, 0.05))
    return gain
