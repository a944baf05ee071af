"""The rest of a face is found and taken off: rest is 0, full is 1, blinks close."""

from fractions import Fraction

import numpy as np
import pytest

from cmet_engine import arkit
from cmet_engine.errors import InvalidInput
from cmet_engine.rest import CALIBRATION, calibrated, rest_of
from cmet_engine.track import CoefficientTrack

BIAS = {
    "eyeSquintLeft": 0.36,
    "eyeBlinkLeft": 0.15,
    "eyeBlinkRight": 0.15,
    "eyeLookDownLeft": 0.2,
    "browDownRight": 0.1,
}


def acted(seconds: float = 6, fps: int = 30) -> tuple[CoefficientTrack, CoefficientTrack]:
    """What a face does, and how a tracker with a bias reads it: blinks seen to 0.7, smiles, talk, a head held low."""
    n = round(seconds * fps)
    t = np.arange(n) / fps
    values = np.zeros((n, arkit.COUNT))
    values[:, arkit.columns(["mouthSmileLeft", "mouthSmileRight"])] = np.clip(np.sin(t * 2 * np.pi / 6 - 2), 0, 1)[
        :, None
    ]
    values[:, arkit.INDEX["jawOpen"]] = 0.3 * np.clip(np.sin(t * 20), 0, 1)
    blink = np.zeros(n)
    for at in (0.7, 2.5, 4.6):
        blink = np.maximum(blink, np.clip(1 - np.abs(t - at) / 0.12, 0, 1))
    values[:, arkit.columns(["eyeBlinkLeft", "eyeBlinkRight"])] = blink[:, None]
    head = np.stack([8 * np.sin(t), 3 * np.cos(2 * t), 0 * t], 1)
    seen = values.copy()
    seen[:, arkit.columns(["eyeBlinkLeft", "eyeBlinkRight"])] *= 0.7
    for name, bias in BIAS.items():
        column = arkit.INDEX[name]
        seen[:, column] = bias + (1 - bias) * seen[:, column]
    rate = Fraction(fps)
    return CoefficientTrack(rate, values, head), CoefficientTrack(rate, seen, head + np.array([0, -12, 1]))


def test_the_bias_is_found_and_taken_off() -> None:
    truth, seen = acted()
    result = calibrated(seen, rest_of(seen))
    assert np.abs(np.median(result.coefficients, 0)).max() < 0.05
    assert np.abs(np.median(result.head_rotation, 0)).max() < 0.1
    assert np.abs(result.coefficients - truth.coefficients).max() < 0.08
    blinks = result.coefficients[:, arkit.columns(["eyeBlinkLeft", "eyeBlinkRight"])].min(1)
    assert np.sort(blinks)[-3:].min() > 0.9
    taken = result.meta[CALIBRATION]
    assert taken["coefficients"]["eyeSquintLeft"] == pytest.approx(0.36, abs=0.01) and taken["blink_gain"] > 1.2
    assert seen["eyeSquintLeft"].min() > 0.3  # the track itself is kept


def test_a_frame_of_rest_is_exactly_zero() -> None:
    _, seen = acted()
    result = calibrated(seen, rest_of(seen, 1.4))
    row = round(1.4 * 30)
    slow = [i for i, name in enumerate(arkit.NAMES) if name != "jawOpen"]
    assert np.abs(result.coefficients[row, slow]).max() < 0.02


def test_rest_may_be_a_while() -> None:
    values = np.zeros((50, arkit.COUNT), np.float32)
    values[20:30, arkit.INDEX["jawOpen"]] = 0.2
    values[10:20, arkit.INDEX["jawOpen"]] = 0.4
    track = CoefficientTrack(Fraction(25), values)
    assert abs(rest_of(track, (20 / 25, 29 / 25)).coefficients[arkit.INDEX["jawOpen"]] - 0.2) < 1e-6


def test_full_stays_full_and_nothing_is_below_zero() -> None:
    _, seen = acted()
    seen.coefficients[40, arkit.INDEX["eyeSquintLeft"]] = 1.0
    seen.coefficients[41, arkit.INDEX["eyeSquintLeft"]] = 1.2
    result = calibrated(seen, rest_of(seen))
    assert result["eyeSquintLeft"][40] == pytest.approx(1.0) and result["eyeSquintLeft"][41] == pytest.approx(1.2)
    assert result.coefficients.min() >= 0


def test_a_track_without_a_face_there_is_refused() -> None:
    _, seen = acted()
    seen.valid[:90] = False
    with pytest.raises(InvalidInput, match="No face was tracked at 1 s"):
        rest_of(seen, 1.0)
    seen.valid[:] = False
    with pytest.raises(InvalidInput, match="no frame with a face"):
        rest_of(seen)
