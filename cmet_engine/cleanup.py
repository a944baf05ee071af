"""Cleaning up a take before it goes onto a character: jitter, and the side of the face."""

from collections.abc import Mapping
from fractions import Fraction

import numpy as np

from cmet_engine import arkit
from cmet_engine.errors import InvalidInput
from cmet_engine.timeline import REGIONS
from cmet_engine.track import CoefficientTrack

HEAD = "head"  # region: the angles of head and eyes
PARTS = (*REGIONS, HEAD)

_WIDTH = 0.06  # seconds, standard deviation of the Gaussian that says what a value would be without jitter
_CORE = 3.0  # a value further off than this many standard deviations of the jitter is motion, at full strength
# the quantile of second differences that is jitter alone, and what it is of a normal distribution's standard deviation
_QUIET, _QUIET_SHARE = 0.25, 0.3186
# jitter of a coefficient, and of an angle in degrees, that is believed; what is more moves all the time
_MOST, _MOST_DEGREES = 0.02, 0.7


def steadied(track: CoefficientTrack, strengths: Mapping[str, float]) -> CoefficientTrack:
    """The take without the jitter of its tracker; blinks and consonants, which are larger than it, stay as sharp as they were.

    Each curve is smoothed, and what the smoothing took off comes back as far as it is larger than the curve's own jitter
    (coring with a Wiener gain). The jitter is measured on the smaller second differences, where nothing is acted.

    Args:
        track: any take.
        strengths: 0 to 1 for each of `PARTS` that shall be steadied: 1 takes off all that is below three times the jitter.

    Raises:
        KeyError: a region is not one of `PARTS`.
    """
    result = track.copy()
    if len(track) < 3:
        return result
    kernel = _kernel(track)
    for part, strength in strengths.items():
        if part == HEAD:
            for name in ("head_rotation", "eye_rotation"):
                setattr(result, name, _without_jitter(getattr(track, name), kernel, strength, _MOST_DEGREES))
        else:
            columns = arkit.columns(REGIONS[part])
            result.coefficients[:, columns] = _without_jitter(track.coefficients[:, columns], kernel, strength, _MOST)
    return result


def _kernel(track: CoefficientTrack) -> np.ndarray:
    """A Gaussian over frames [2 R + 1], `_WIDTH` wide."""
    width = _WIDTH / float(np.median(np.diff(track.times)))
    reach = min(max(1, round(3 * width)), len(track) - 1)
    weights = np.exp(-0.5 * (np.arange(-reach, reach + 1) / width) ** 2)
    return weights / weights.sum()


def _without_jitter(values: np.ndarray, kernel: np.ndarray, strength: float, most: float) -> np.ndarray:
    """float32 [N, K] without what is within `strength` times `_CORE` of the jitter; see `steadied`."""
    reach = len(kernel) // 2
    padded = np.pad(values.astype(np.float64), ((reach, reach), (0, 0)), mode="reflect", reflect_type="odd")
    smooth = np.stack([np.convolve(column, kernel, "valid") for column in padded.T], 1)
    off = values - smooth
    second = np.abs(np.diff(values.astype(np.float64), 2, axis=0))
    # second differences of white noise have six times its variance
    jitter = np.quantile(second, _QUIET, 0) / _QUIET_SHARE / np.sqrt(6)
    core = strength * _CORE * np.minimum(jitter, most)
    gain = np.maximum(0.0, 1 - (core / np.maximum(np.abs(off), 1e-9)) ** 2)
    return (smooth + off * np.where(core > 0, gain, 1.0)).astype(np.float32)


def mirrored(track: CoefficientTrack) -> CoefficientTrack:
    """The take of the face seen in a mirror: sides exchanged, yaw and roll reversed."""
    result = track.copy()
    result.coefficients = track.coefficients[:, arkit.MIRROR]
    result.head_rotation = track.head_rotation * np.array([-1, 1, -1], np.float32)
    result.eye_rotation = track.eye_rotation[:, [2, 3, 0, 1]] * np.array([-1, 1, -1, 1], np.float32)
    return result


def read_strengths(text: str) -> dict[str, float]:
    """Strengths by region from text such as `brows=1,mouth=0.3`, or `0.5` for every region; nothing from an empty text.

    Raises:
        InvalidInput: it is neither of the two, a region is unknown, or a strength is outside 0 to 1.
    """
    found: dict[str, float] = {}
    for word in text.split(",") if text.strip() else ():
        name, _, number = word.strip().rpartition("=")
        try:
            strength = float(number)
        except ValueError:
            strength = -1
        if (name and name not in PARTS) or not 0 <= strength <= 1:
            raise InvalidInput(
                f"'{word.strip()}' does not say how much to steady; write a strength from 0 to 1, or such as brows=1,mouth=0.3 with "
                f"regions out of {', '.join(PARTS)}."
            )
        found |= {name: strength} if name else dict.fromkeys(PARTS, strength)
    return found


def cleaned(
    track: CoefficientTrack, strengths: Mapping[str, float], *, mirror: bool = False, fps: Fraction | None = None
) -> CoefficientTrack:
    """The take steadied, then mirrored, then at another rate: what of it is asked for."""
    result = steadied(track, strengths) if strengths else track
    result = mirrored(result) if mirror else result
    return result if fps is None else result.resampled(fps)
