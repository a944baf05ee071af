"""Corrections by hand: the curve passes through the point, goes along around it, and is untouched elsewhere."""

from fractions import Fraction

import numpy as np
import pytest

from cmet_engine import arkit
from cmet_engine.corrections import Correction, corrected
from cmet_engine.errors import InvalidInput
from cmet_engine.track import CoefficientTrack

JAW = arkit.NAMES.index("jawOpen")


def track(frames: int = 50) -> CoefficientTrack:
    coefficients = np.full((frames, 52), 0.3, np.float32)
    return CoefficientTrack(
        Fraction(25), coefficients, np.zeros((frames, 3), np.float32), np.zeros((frames, 4), np.float32)
    )


def parsed(*texts: str) -> list[Correction]:
    return [Correction.parse(text) for text in texts]


def test_the_text_form_is_read_and_written():
    assert parsed("jawOpen=.2@1.4") == [Correction("jawOpen", 0.2, 1.4)]
    full = Correction("mouthSmileLeft", 0.5, 3.0, 0.4, "anna")
    assert parsed("mouthSmileLeft=0.5@3~0.4#anna") == [full] == parsed(str(full))


@pytest.mark.parametrize("text", ["", "jaw=0.2@1", "jawOpen=2@1", "jawOpen=0.2", "jawOpen=-1@1", "jawOpen=1@1~90"])
def test_what_is_no_correction_is_refused(text):
    with pytest.raises(InvalidInput):
        Correction.parse(text)


def test_the_curve_passes_through_the_points_and_is_untouched_elsewhere():
    before = track()
    after = corrected(before, parsed("jawOpen=0.8@0.4", "jawOpen=0.1@0.6", "jawOpen=0.5@1.6~0.12"))
    curve = after.coefficients[:, JAW]
    assert curve[[10, 15, 40]] == pytest.approx([0.8, 0.1, 0.5], abs=1e-5)
    assert (np.diff(curve[10:16]) < 0).all()  # no fall back to the old curve between two that reach each other
    assert (curve[:5] == 0.3).all() and (curve[21:37] == 0.3).all() and (curve[44:] == 0.3).all()
    assert np.delete(after.coefficients, JAW, 1).max() == np.float32(0.3) and (before.coefficients == 0.3).all()


def test_a_part_of_a_clip_and_other_people():
    points = parsed("jawOpen=0.8@5.4", "jawOpen=0@1", "jawOpen=0@5.4#anna")
    assert corrected(track(), points, begins=5.0).coefficients[10, JAW] == pytest.approx(0.8)
    assert corrected(track(), points, begins=5.0, person="anna").coefficients[10, JAW] == pytest.approx(0)
    beyond = corrected(track(), points, begins=9.0)
    assert (beyond.coefficients == np.float32(0.3)).all()
