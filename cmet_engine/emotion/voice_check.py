"""Whether somebody speaks in a recording."""

import numpy as np

from cmet_engine.emotion.acoustics import AUDIBLE, BANDS, VOICED
from cmet_engine.errors import InvalidInput

_RUMBLE = 0.1  # octaves: median change of pitch from frame to frame; 0.006 to 0.045 in speech, more in noise
_HELD = 120  # frames: median length of voiced runs; at most 52 in speech, more in music


def check_voice(bands: np.ndarray, name: str) -> None:
    """Check that somebody speaks, by what `acoustics` gives of a recording: `bands` [F, 84].

    Raises:
        InvalidInput: hardly any frame is voiced, its pitch is that of noise, or tones stand still as in music: no speech.
    """
    audible = bands[:, BANDS + 3] > AUDIBLE
    voiced = audible & (bands[:, BANDS + 2] > VOICED)
    if voiced.sum() < max(8, 0.05 * audible.sum()):
        raise InvalidInput(f"{name}: no voice was found in it; give a recording in which somebody speaks.")
    edges = np.diff(np.concatenate([[0], voiced.astype(np.int8), [0]]))
    lasting = float(np.median(np.flatnonzero(edges == -1) - np.flatnonzero(edges == 1)))
    moved = np.abs(np.diff(bands[:, BANDS]))[voiced[1:] & voiced[:-1]]
    if lasting < 1.5 or (len(moved) and float(np.median(moved)) > _RUMBLE):
        raise InvalidInput(f"{name}: no voice was found in it, only noise; give a recording in which somebody speaks.")
    spread = float(bands[voiced, :BANDS].std(0).mean())
    if spread < 0.25 or lasting > _HELD or (spread < 1.0 and float(bands[audible, BANDS + 3].std()) < 1.0):
        raise InvalidInput(
            f"{name} holds a steady tone or music, not speech; give a recording in which somebody speaks."
        )
