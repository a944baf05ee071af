"""Whether somebody speaks in a recording."""

import numpy as np

from cmet_engine.emotion.acoustics import AUDIBLE, BANDS, VOICED
from cmet_engine.errors import CmetError

_RUMBLE = 0.1  # octaves that the pitch of noise moves from frame to frame; of speech 0.006 to 0.045
_HELD = 120  # frames that voiced stretches of music last; those of speech at most 52


def check_voice(heard: np.ndarray, name: str) -> None:
    """Check that somebody speaks in `heard` [F, 84], what `acoustics` gives.

    Raises:
        CmetError: hardly any frame is voiced, its pitch is that of noise, or tones stand still as in music: no speech.
    """
    audible = heard[:, BANDS + 3] > AUDIBLE
    voiced = audible & (heard[:, BANDS + 2] > VOICED)
    if voiced.sum() < max(8, 0.05 * audible.sum()):
        raise CmetError(f"{name}: no voice was found in it; give a recording in which somebody speaks.")
    edges = np.diff(np.concatenate([[0], voiced.astype(np.int8), [0]]))
    lasting = float(np.median(np.flatnonzero(edges == -1) - np.flatnonzero(edges == 1)))
    moved = np.abs(np.diff(heard[:, BANDS]))[voiced[1:] & voiced[:-1]]
    if lasting < 1.5 or (len(moved) and float(np.median(moved)) > _RUMBLE):
        raise CmetError(f"{name}: no voice was found in it, only noise; give a recording in which somebody speaks.")
    spread = float(heard[voiced, :BANDS].std(0).mean())
    if spread < 0.25 or lasting > _HELD or (spread < 1.0 and float(heard[audible, BANDS + 3].std()) < 1.0):
        raise CmetError(f"{name} holds a steady tone or music, not speech; give a recording in which somebody speaks.")
