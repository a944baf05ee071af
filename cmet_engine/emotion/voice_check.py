"""Whether somebody speaks in a recording. How far speech and other sounds are from the limits is in the model card."""

import numpy as np

from cmet_engine.emotion.acoustics import AUDIBLE, BANDS, VOICED
from cmet_engine.errors import InvalidInput

_SYLLABLE = 5  # frames: longest voiced run; at least 5 in speech, also noisy speech, 1 to 5 in noise
_RUMBLE = 0.1  # octaves: median change of pitch from frame to frame; 0.004 to 0.05 in speech, mostly more in noise
_STEPS = 0.0008  # octaves: the same; less where the pitch stands still and jumps, as in music
_HELD = 120  # frames: median length of voiced runs; at most 108 in speech
_TIMBRE = 0.6  # natural log: change of the voiced bands; at least 0.84 in speech
_LEVEL = 0.3  # natural log: change of the audible energy; at least 0.57 in speech


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
    runs = np.flatnonzero(edges == -1) - np.flatnonzero(edges == 1)
    moved = float(np.median(np.abs(np.diff(bands[:, BANDS]))[voiced[1:] & voiced[:-1]])) if runs.max() > 1 else np.inf
    if runs.max() < _SYLLABLE or moved > _RUMBLE:
        raise InvalidInput(f"{name}: no voice was found in it, only noise; give a recording in which somebody speaks.")
    still = float(bands[voiced, :BANDS].std(0).mean()) < _TIMBRE or float(bands[audible, BANDS + 3].std()) < _LEVEL
    if still or moved < _STEPS or float(np.median(runs)) > _HELD:
        raise InvalidInput(
            f"{name} holds a steady tone or music, not speech; give a recording in which somebody speaks."
        )
