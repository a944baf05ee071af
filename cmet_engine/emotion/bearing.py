"""How people hold head and gaze in an emotion, and how they blink, for characters; footage keeps its own.

Sources, by the keys used in `BEARINGS`:
    WALLBOTT Wallbott 1998, Bodily expression of emotion, European Journal of Social Psychology 28: head down in sadness, back in joy
    COULSON  Coulson 2004, Attributing emotion to static body postures, Journal of Nonverbal Behavior 28: the bend of the head
    GAZE     Adams & Kleck 2005, Effects of direct and averted gaze, Emotion 5(1): sadness and fear look away, anger and joy ahead
    CONTEMPT Izard & Haynes 1988, On the form and universality of the contempt expression: the head raised and tilted
    SYMPATHY Haidt & Keltner 1999, Cognition & Emotion 13(3): the head forward and tilted
Amounts are small, for a face that speaks to somebody.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import scipy

from cmet_engine import arkit
from cmet_engine.track import CoefficientTrack


@dataclass(frozen=True)
class Bearing:
    """What an emotion at full strength adds.

    Attributes:
        head: degrees of yaw, pitch and roll, with the signs of `face.pose.rotation_degrees`: pitch above 0 looks down.
        gaze: degrees of yaw and pitch of the eyes in the head.
        blinks: share of the blinks that are left.
        blink_length: how much longer a blink takes.
    """

    head: tuple[float, float, float] = (0.0, 0.0, 0.0)
    gaze: tuple[float, float] = (0.0, 0.0)
    blinks: float = 1.0
    blink_length: float = 1.0


BEARINGS = {
    "sad": Bearing((0, 6, 2), (0, 7), 1.0, 1.6),  # WALLBOTT, COULSON, GAZE
    "happy": Bearing((0, -2, 1)),  # WALLBOTT, COULSON
    "angry": Bearing((0, 4, 0), (0, -4)),  # COULSON: bent forward, the eyes stay on the other
    "fear": Bearing((0, -3, 0), (0, 0), 0.4),  # COULSON
    "surprised": Bearing((0, -3, 0), (0, 0), 0.4),  # COULSON
    "disgusted": Bearing((3, -3, 0), (-3, 0)),  # COULSON: back and away
    "contempt": Bearing((0, -4, 2), (0, 4)),  # CONTEMPT: looks down on the other
    "empathetic": Bearing((0, 3, 4), (0, -2)),  # SYMPATHY
    "romantic": Bearing((0, 2, 4), (0, -2)),  # as empathetic
    "sarcastic": Bearing((0, -2, 3)),  # as contempt, less
}
"""Those of the library; an emotion that is not listed holds the head as it is."""

DEGREE = 0.03
"""What an eye's degree is as `eyeLook…`: slope between the two in Live Link Face's takes (0.029 across, 0.034 down)."""

MOST_TURN = 12.0
"""Degrees by which several emotions together turn head or eyes at most."""

SETTLING = 0.25
"""Gaussian width in seconds by which head and eyes follow the strength of an emotion."""

CLOSING = 0.35
"""A blink rises further than this above the clip's median."""

OPENED = 0.15
"""It lasts while the lids are this far below it."""

LONGEST_BLINK = 0.6  # seconds; what takes longer are closed eyes

_BLINKS = arkit.columns(["eyeBlinkLeft", "eyeBlinkRight"])


def with_bearing(edited: CoefficientTrack, weights: Mapping[str, np.ndarray]) -> CoefficientTrack:
    """An edited track whose head, gaze and blinks go with its emotions.

    Args:
        edited: N frames.
        weights: strength of every emotion, [N] each; those below 0 are passed over.
    """
    result, fps = edited.copy(), float(edited.fps)
    strengths = {name: np.clip(weight, 0, 1.5) for name, weight in weights.items() if name in BEARINGS}
    turn = np.zeros((len(edited), 5))
    for name, weight in strengths.items():
        turn += weight[:, None] * np.array([*BEARINGS[name].head, *BEARINGS[name].gaze])
    turn = MOST_TURN * np.tanh(turn / MOST_TURN)
    turn = scipy.ndimage.gaussian_filter1d(turn, max(SETTLING * fps, 1e-3), axis=0, mode="nearest").astype(np.float32)
    result.head_rotation += turn[:, :3]
    result.eye_rotation += turn[:, [3, 4, 3, 4]]
    _look(result.coefficients, turn[:, 3:])
    _blink(result.coefficients, strengths, fps)
    return result


def _look(coefficients: np.ndarray, gaze: np.ndarray) -> None:
    """Turn the gaze of coefficients [N, 52] by degrees [N, 2] of yaw (to the person's own right) and pitch (down); in place."""
    for one, other, degrees in (
        ("eyeLookDownLeft", "eyeLookUpLeft", gaze[:, 1]),
        ("eyeLookDownRight", "eyeLookUpRight", gaze[:, 1]),
        ("eyeLookInLeft", "eyeLookOutLeft", gaze[:, 0]),
        ("eyeLookOutRight", "eyeLookInRight", gaze[:, 0]),
    ):
        towards, away = arkit.INDEX[one], arkit.INDEX[other]
        moved = degrees != 0
        net = (coefficients[:, towards] - coefficients[:, away] + DEGREE * degrees)[moved]
        coefficients[moved, towards], coefficients[moved, away] = np.clip(net, 0, 1), np.clip(-net, 0, 1)


def _blink(coefficients: np.ndarray, strengths: Mapping[str, np.ndarray], fps: float) -> None:
    """Leave out some blinks of coefficients [N, 52] and slow down the others, as the emotions at that moment want; in place."""
    lids = coefficients[:, _BLINKS]
    missing = 0.0
    for first, last in list(blinks(lids.min(1), fps)):
        peak = (first + last) // 2
        here = {name: float(weight[peak]) for name, weight in strengths.items()}
        missing += 1 - min([1.0, *(1 - min(w, 1.0) * (1 - BEARINGS[name].blinks) for name, w in here.items())])
        if missing >= 0.5:  # of every so many blinks one is left out
            missing -= 1
            at = np.arange(first, last + 1)
            for column in _BLINKS:
                ends = coefficients[[first, last], column]
                coefficients[first : last + 1, column] = np.interp(at, [first, last], ends)
            continue
        length = max([1.0, *(1 + min(w, 1.0) * (BEARINGS[name].blink_length - 1) for name, w in here.items())])
        if length > 1:
            _slow_down(coefficients, lids, first, last, length)


def _slow_down(coefficients: np.ndarray, lids: np.ndarray, first: int, last: int, length: float) -> None:
    """Make the blink between two frames take `length` times as long, around its middle; in place."""
    middle, reach = (first + last) / 2, int(np.ceil((last - first) / 2 * length))
    around = np.arange(max(0, int(middle) - reach), min(len(lids), int(np.ceil(middle)) + reach + 1))
    at = np.clip(middle + (around - middle) / length, first, last)
    for column, values in zip(_BLINKS, lids.T, strict=True):
        slower = np.interp(at, np.arange(len(values)), values)
        coefficients[around, column] = np.maximum(coefficients[around, column], slower)


def blinks(lids: np.ndarray, fps: float) -> Iterator[tuple[int, int]]:
    """First and last frame of the blinks of a track whose lids are closed by `lids` [N]."""
    if not len(lids):
        return
    rest = float(np.median(lids))
    edges = np.flatnonzero(np.diff(np.concatenate([[0], (lids > rest + OPENED).astype(int), [0]])))
    for start, stop in edges.reshape(-1, 2):
        if lids[start:stop].max() > rest + CLOSING and stop - start <= LONGEST_BLINK * fps:
            yield max(int(start) - 1, 0), min(int(stop), len(lids) - 1)
