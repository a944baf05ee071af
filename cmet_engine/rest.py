"""The rest of a face: what a tracker reads on a relaxed face is taken off a track, so that rest is 0 and full is 1.

Trackers have a bias of their own and of the person: a relaxed face reads eyeSquint 0.36, and a level head -12 degrees. On a rig
that is a squint and a nod which nobody acted.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np

from cmet_engine import arkit
from cmet_engine.errors import InvalidInput
from cmet_engine.track import CoefficientTrack

CALIBRATION = "calibration"  # meta key: what was taken off, see `Rest.described`

_MOST = 0.6  # of a coefficient that may be bias; more than that is acted
_SHARE = 0.5  # quantile of a coefficient that is its rest where no frame is given: the median ...
_SPEECH_SHARE = 0.4  # ... and of those that speech moves, a little below, for lips are oftener open than at rest
_SPEECH = arkit.columns([*arkit.REGIONS["jaw"], *arkit.REGIONS["mouth"]])
_BLINKS = arkit.columns(["eyeBlinkLeft", "eyeBlinkRight"])
_CLOSING, _OPENED = 0.4, 0.5  # a blink rises above the first, and falls below this share of its height, within ...
_LONGEST_BLINK = 0.6  # ... seconds
_MOST_GAIN = 2.0  # by which a blink that the tracker saw in part is closed
_AROUND = 0.1  # seconds to each side of a given rest frame that are averaged


@dataclass(frozen=True)
class Rest:
    """What a relaxed face reads.

    Attributes:
        coefficients: float64 [52], 0 to 1.
        head: float64 [3] degrees: yaw, pitch, roll of a head that looks straight ahead.
        eyes: float64 [4] degrees, as in `CoefficientTrack.eye_rotation`.
        blink_gain: factor that closes a blink, 1 where the tracker sees it closed.
    """

    coefficients: np.ndarray
    head: np.ndarray
    eyes: np.ndarray
    blink_gain: float = 1.0

    def described(self) -> dict[str, Any]:
        """What is taken off, as JSON: coefficients of 0.01 and more, angles in degrees, and the gain of blinks."""
        taken = {n: round(float(v), 3) for n, v in zip(arkit.NAMES, self.coefficients, strict=True) if v >= 0.01}
        angles = {"head": self.head, "eyes": self.eyes}
        return {
            "coefficients": taken,
            **{k: [round(float(v), 2) for v in a] for k, a in angles.items()},
            "blink_gain": round(self.blink_gain, 3),
        }


def rest_of(track: CoefficientTrack, seconds: float | tuple[float, float] | None = None) -> Rest:
    """The rest of the face of a track.

    Args:
        track: a take or a tracked clip, at least partly calm.
        seconds: a moment at which the face rests, or the first and the last of a while; None finds what the face returns to most.

    Raises:
        InvalidInput: the track has no frame with a face, or none near that moment.
    """
    used = track.valid.copy()
    if seconds is not None:
        first, last = seconds if isinstance(seconds, tuple) else (seconds - _AROUND, seconds + _AROUND)
        half = 0.5 / float(track.fps)
        used &= (track.times >= first - half) & (track.times <= last + half)
        if not used.any():
            raise InvalidInput(f"No face was tracked at {(first + last) / 2:g} s; choose another moment of rest.")
    if not used.any():
        raise InvalidInput("The track has no frame with a face, so its rest is not known.")
    values = track.coefficients[used].astype(np.float64)
    share = np.full(arkit.COUNT, _SHARE)
    if seconds is None:
        share[_SPEECH] = _SPEECH_SHARE
    rest = np.array([np.quantile(values[:, c], q) for c, q in enumerate(share)]).clip(0, _MOST)
    head, eyes = (np.median(a[used].astype(np.float64), 0) for a in (track.head_rotation, track.eye_rotation))
    return Rest(rest, head, eyes, _blink_gain(track, rest))


def at_rest(
    track: CoefficientTrack, frames: tuple[int, int] | None = None, *, calibrate: bool = True
) -> CoefficientTrack:
    """A track whose rest is 0, where that is asked for: by `calibrate`, or by the first and last of `frames` at which the face rests.

    Raises:
        InvalidInput: the track has no such frames, or no face in them.
    """
    if frames is None:
        return calibrated(track, rest_of(track)) if calibrate else track
    if frames[1] >= len(track):
        raise InvalidInput(f"The rest frame {frames[1]} is behind the last one, {len(track) - 1}.")
    first, last = (float(track.times[frame]) for frame in frames)
    return calibrated(track, rest_of(track, first if first == last else (first, last)))


def _blink_gain(track: CoefficientTrack, rest: np.ndarray) -> float:
    """What closes the usual blink of a track whose rest is taken off; 1 where it shows fewer than two."""
    lids = _without(track.coefficients[:, _BLINKS].astype(np.float64), rest[_BLINKS]).min(1)
    longest = max(2, round(_LONGEST_BLINK * float(track.fps)))
    peaks: list[tuple[int, float]] = []
    for i in np.flatnonzero((lids > _CLOSING) & track.valid):
        around = lids[max(i - longest, 0) : i + longest + 1]
        low = around < _OPENED * lids[i]
        at = min(i, longest)
        if lids[i] == around.max() and low[:at].any() and low[at + 1 :].any() and (not peaks or i - peaks[-1][0] > 2):
            peaks.append((i, lids[i]))
    if len(peaks) < 2:
        return 1.0
    return float(np.clip(1 / np.median([height for _, height in peaks]), 1.0, _MOST_GAIN))


def _without(values: np.ndarray, rest: np.ndarray) -> np.ndarray:
    """Rest goes to 0 and 1 stays 1; what lies beyond either end keeps its distance above and is cut below."""
    return np.where(values > 1, values, np.maximum(values - rest, 0) / (1 - rest))


def calibrated(track: CoefficientTrack, rest: Rest) -> CoefficientTrack:
    """A track whose rest is 0; `meta["calibration"]` says what was taken off."""
    result = track.copy()
    values = _without(track.coefficients.astype(np.float64), rest.coefficients)
    values[:, _BLINKS] = np.minimum(values[:, _BLINKS] * rest.blink_gain, np.maximum(1.0, values[:, _BLINKS]))
    result.coefficients = values.astype(np.float32)
    result.head_rotation = (track.head_rotation - rest.head).astype(np.float32)
    result.eye_rotation = (track.eye_rotation - rest.eyes).astype(np.float32)
    result.meta[CALIBRATION] = rest.described()
    return result
