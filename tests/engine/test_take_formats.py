"""Takes written as other applications record them come back through our own reader, within what the format holds."""

from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from cmet_engine import arkit
from cmet_engine.errors import InvalidInput
from cmet_engine.jobs.execute import execute
from cmet_engine.spec import ExportSpec
from cmet_engine.take_formats import FORMATS, save
from cmet_engine.track import CoefficientTrack

FRAMES = 45
STEP = {"ifacialmocap": 0.0051}  # a percent, rounded
NO_ANGLES = ("audio2face", "audio2face-csv", "mediapipe")


@pytest.fixture(scope="module")
def take() -> CoefficientTrack:
    """45 frames at 30 a second, smooth, so that a format's own rate costs little; one frame without a face."""
    t = np.arange(FRAMES)[:, None] / 30
    waves = 0.5 + 0.5 * np.sin(2 * t + np.arange(arkit.COUNT) / 5)
    head, eyes = 20 * np.sin(t + np.arange(3)), 10 * np.sin(t + np.arange(4))
    valid = np.arange(FRAMES) != 7
    return CoefficientTrack(Fraction(30), waves, head, eyes, valid, {"source": "waves"})


@pytest.mark.parametrize("form", FORMATS)
def test_what_is_written_is_read_back(tmp_path: Path, take: CoefficientTrack, form) -> None:
    back = CoefficientTrack.load(save(take, tmp_path / f"take{FORMATS[form].suffix}", form))
    wanted = take.resampled(back.fps)
    assert back.fps == (60 if form == "ifacialmocap" else 30) and len(back) == len(wanted)
    np.testing.assert_allclose(back.times, wanted.times, atol=1e-4)
    columns = [k for k, name in enumerate(arkit.NAMES) if (form, name) != ("mediapipe", "tongueOut")]
    seen = wanted.valid & back.valid
    step = STEP.get(form, 1e-6)
    np.testing.assert_allclose(back.coefficients[seen][:, columns], wanted.coefficients[seen][:, columns], atol=step)
    if form not in NO_ANGLES:
        np.testing.assert_allclose(back.head_rotation[seen], wanted.head_rotation[seen], atol=1e-3)
        np.testing.assert_allclose(back.eye_rotation[seen], wanted.eye_rotation[seen], atol=1e-3)
    assert list(np.flatnonzero(~back.valid)) == ([7] if form in ("livelink", "mediapipe") else [])


def test_a_take_that_leaves_zero_survives_ifacialmocap(tmp_path: Path, take: CoefficientTrack) -> None:
    take = take.copy()
    take.coefficients[3, 5] = -0.2
    back = CoefficientTrack.load(save(take, tmp_path / "take.txt", "ifacialmocap"))
    assert back.coefficients[6, 5] == pytest.approx(-0.2)


def test_the_command_writes_it_and_says_what_is_left_out(tmp_path: Path, take: CoefficientTrack) -> None:
    source = take.save(tmp_path / "take.npz")
    result = execute(ExportSpec(track=source, take_format="facecap"), tmp_path / "out.txt")
    assert ExportSpec(track=source, take_format="facecap").output_name == "edited.txt"
    assert "hold the face before" in " ".join(result.messages)
    assert CoefficientTrack.load(tmp_path / "out.txt").meta["source"] == "face-cap"
    with pytest.raises(InvalidInput, match="say which with a format"):
        execute(ExportSpec(track=source), tmp_path / "other.txt")
    with pytest.raises(InvalidInput, match=r"files of MediaPipe end in \.json"):
        execute(ExportSpec(track=source, take_format="mediapipe"), tmp_path / "other.csv")
