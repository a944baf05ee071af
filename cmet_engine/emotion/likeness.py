"""The expression of a reference (a picture, another clip or a take), as a change that is put on an actor.

What people hold on a neutral face is taken off first. Of a clip or a take, brows, lids, cheeks and nose are followed moment by
moment, and the mouth as slowly as an expression changes, because what is faster there is what the reference says.
"""

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import scipy

from cmet_engine import arkit
from cmet_engine.emotion.coefficients import ANTAGONISTS, NEUTRAL_BAND, bridged, columns_of, starting_with
from cmet_engine.errors import InvalidInput
from cmet_engine.face.clip import track_clip
from cmet_engine.progress import Progress
from cmet_engine.spec import CURVES
from cmet_engine.track import CoefficientTrack

GIVES_WAY = 0.8
"""Most of the actor's own action that its antagonist in the reference takes away…"""

FULL_AT = 0.3
"""… which it does from this value on."""

MOUTH_SECONDS, ELSE_SECONDS = 0.4, 0.06
"""Gaussian widths in time by which the reference is smoothed: a syllable takes 0.2 s."""

END_SECONDS = 0.4
"""Over so long the actor's own expression returns where the reference ends."""

FAINT = 0.15
"""A reference none of whose coefficients rises further above a neutral face hardly shows an expression."""

TURNED = 25.0
"""Degrees of yaw or pitch beyond which a tracker reads an expression with errors."""

LEVEL_PITCH = -12.0
"""Degrees of pitch that are read on level faces."""

SMALL = 80
"""A face of fewer pixels across is read with errors."""

_LEFT_OUT = starting_with(("eyeLook", "eyeBlink", "tongue"))
_MOUTH = arkit.columns([*arkit.REGIONS["jaw"], *arkit.REGIONS["mouth"]])


@dataclass(frozen=True)
class Likeness:
    """An expression to put on an actor.

    Attributes:
        expression: float64 [M, 52], what the reference shows beyond a neutral face; M is 1 for a picture.
        times: float64 [M] seconds.
        moving: whether it is followed in time; else it is held.
        messages: what to say of the reference, as sentences.
    """

    expression: np.ndarray
    times: np.ndarray
    moving: bool
    messages: list[str] = field(default_factory=list)

    @classmethod
    def of(cls, path: Path, progress: Progress | None = None) -> "Likeness":
        """The expression of a picture, of a clip or of a take (curves in a file).

        Raises:
            CmetError: the file cannot be read, or it shows no face.
        """
        if path.suffix.lower() in CURVES:
            track, messages = CoefficientTrack.load(path), []
        else:
            geometry, track = track_clip(path, progress=progress)
            messages = _reading(path.name, track, float(np.median(_widths(geometry.landmarks[:], geometry.valid))))
        if not track.valid.any():
            raise InvalidInput(f"{path.name} shows no face; give a picture, a clip or a take that does.")
        expression = expression_of(track)
        if expression.max() < FAINT:
            messages.append(f"{path.name} hardly shows an expression; the edit is as slight.")
        return cls(expression, track.times, len(track) > 1, messages)

    def said_beside(self, name: str, seconds: float) -> list[str]:
        """What to say where the reference ends before a clip of so many seconds does."""
        length = float(self.times[-1]) if self.moving else seconds
        if length >= seconds - END_SECONDS:
            return []
        return [f"{name} lasts {length:.1f} s, the clip {seconds:.1f} s; after it the actor's own expression returns."]

    def change(self, base: np.ndarray, times: np.ndarray) -> np.ndarray:
        """The change of an actor's expression at full strength.

        Args:
            base: [N, 52], the actor's expression.
            times: [N] seconds from the start of the clip.

        Returns:
            float64 [N, 52]. What pulls against the reference gives way to it.
        """
        if self.moving:
            shown = np.stack([np.interp(times, self.times, column) for column in self.expression.T], 1)
            shown *= np.clip(1 - (times - self.times[-1]) / END_SECONDS, 0, 1)[:, None]
        else:
            shown = np.repeat(self.expression[:1], len(times), 0)
        change = shown.copy()
        for name, other in ANTAGONISTS.items():
            pulls = shown[:, columns_of(name)].mean(1) / FULL_AT
            for column in columns_of(other):
                change[:, column] -= (
                    GIVES_WAY * np.clip(pulls, 0, 1) * np.maximum(base[:, column] - shown[:, column], 0)
                )
        return np.maximum(change, -np.maximum(base, 0))


def expression_of(track: CoefficientTrack) -> np.ndarray:
    """What the face of a track shows beyond a neutral one, float64 [N, 52]; 0 for gaze, blinks and tongue.

    The person's own rest is the median of the track, as far as neutral faces go; where no face was found the values run on.
    """
    values = bridged(track.coefficients.astype(np.float64), track.valid)
    shown = np.maximum(values - np.minimum(np.median(values[track.valid], 0), NEUTRAL_BAND), 0)
    shown[:, _LEFT_OUT] = 0
    if len(values) > 1:
        for columns, seconds in ((_MOUTH, MOUTH_SECONDS), (np.setdiff1d(np.arange(arkit.COUNT), _MOUTH), ELSE_SECONDS)):
            width = seconds * float(track.fps)
            shown[:, columns] = scipy.ndimage.gaussian_filter1d(shown[:, columns], width, axis=0, mode="nearest")
    return shown


def _widths(landmarks: np.ndarray, valid: np.ndarray) -> np.ndarray:
    """Width of the faces [M] of landmarks [N, 478, 3] where one was found, pixels."""
    return np.ptp(landmarks[valid][..., 0], axis=1) if valid.any() else np.zeros(1)


def _reading(name: str, track: CoefficientTrack, width: float) -> list[str]:
    """What makes a reference hard to read, as sentences."""
    yaw, pitch = np.median(np.abs(track.head_rotation[track.valid, :2] - [0, LEVEL_PITCH]), 0)
    found = []
    if max(yaw, pitch) > TURNED:
        found.append(
            f"The face in {name} is turned by {max(yaw, pitch):.0f} degrees; one that looks ahead is read better."
        )
    if width < SMALL:
        found.append(f"The face in {name} is {width:.0f} pixels wide; one of {SMALL} and more is read better.")
    return found
