"""What a timeline shows of a clip and of its edit, thinned out to what can be drawn."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import scipy

from cmet_engine import arkit
from cmet_engine.emotion import bearing
from cmet_engine.track import CoefficientTrack

SINKS = 8.0  # dB by which a voice sinks between words
QUIET = 60.0  # dB below the loudest, below which nobody speaks
SYLLABLE, NEXT_WORD = 1.5, 5  # frames of 20 ms: width of what is smoothed, and the least between two words


def moving(
    source: CoefficientTrack, edited: CoefficientTrack, points: int, most: int, first: Sequence[str] = ()
) -> dict[str, Any]:
    """The curves that an edit moves most.

    Args:
        source, edited: the curves before and after.
        points: how many values of a curve, at most.
        most: how many curves.
        first: names of curves that are among them in any case.

    Returns:
        `times` in seconds, and `source` and `edited` as {name: values at these times}.
    """
    change = np.abs(edited.coefficients - source.coefficients).max(0) if len(source) else np.zeros(len(arkit.NAMES))
    order = [arkit.NAMES[i] for i in np.argsort(-change, kind="stable")]
    names = list(dict.fromkeys([*first, *order]))[:most]
    chosen = np.unique(np.linspace(0, len(source) - 1, min(points, len(source))).round().astype(int))

    def values(track: CoefficientTrack) -> dict[str, list[float]]:
        return {n: track.coefficients[chosen, arkit.NAMES.index(n)].astype(float).round(4).tolist() for n in names}

    times = np.asarray(source.times, float)[chosen].round(4).tolist()
    return {"times": times, "source": values(source), "edited": values(edited)}


def blinks(track: CoefficientTrack) -> list[float]:
    """The moments, in seconds, at which both eyes are shut most; see `bearing.blinks`."""
    lids = track.coefficients[:, arkit.columns(("eyeBlinkLeft", "eyeBlinkRight"))].min(1)
    found = bearing.blinks(lids, float(track.fps))
    return [round(float(track.times[start + int(lids[start : stop + 1].argmax())]), 4) for start, stop in found]


def word_edges(wave: np.ndarray, rate: int) -> list[float]:
    """The moments, in seconds, at which a voice in a wave float32 [S] sinks for a moment: between words as a rule, and some syllables."""
    step = rate // 50
    count = len(wave) // step
    if count < 3:
        return []
    power = np.square(wave[: count * step].reshape(count, step)).mean(1)
    loud = 10 * np.log10(scipy.ndimage.gaussian_filter1d(power, SYLLABLE) + 1e-9)  # dB, every 20 ms
    sinks, _ = scipy.signal.find_peaks(-loud, prominence=SINKS, distance=NEXT_WORD)
    return [round((int(n) + 0.5) / 50, 3) for n in sinks if loud[n] > loud.max() - QUIET]


def peaks(wave: np.ndarray, points: int) -> list[float]:
    """The largest amplitude of a wave float32 [S] in each of `points` stretches of equal length, 0 to 1; empty for no sound."""
    count = min(points, len(wave))
    if not count:
        return []
    starts = np.linspace(0, len(wave), count, endpoint=False).astype(int)
    loudest = np.maximum.reduceat(np.abs(wave), starts)
    return (loudest / max(float(loudest.max()), 1e-6)).round(3).tolist()
