"""Jitter, sides and rate of a take."""

from fractions import Fraction

import numpy as np
import pytest

from cmet_engine import arkit, cli
from cmet_engine.cleanup import PARTS, mirrored, read_strengths, steadied
from cmet_engine.errors import InvalidInput
from cmet_engine.track import CoefficientTrack

FPS = 30


@pytest.fixture
def take() -> CoefficientTrack:
    """Ten seconds: slow brows, syllables on the jaw, blinks of a tenth of a second, a nodding head."""
    times = np.arange(10 * FPS) / FPS
    values = np.zeros((len(times), arkit.COUNT), np.float32)
    values[:, arkit.INDEX["browInnerUp"]] = 0.3 + 0.2 * np.sin(times)
    values[:, arkit.INDEX["jawOpen"]] = np.maximum(0, np.sin(2 * np.pi * 4 * times)) * 0.5
    for blink in (2.0, 5.1, 7.7):
        values[:, arkit.INDEX["eyeBlinkLeft"]] += np.exp(-0.5 * ((times - blink) / 0.04) ** 2)
    head = np.stack([8 * np.sin(times), 3 * np.cos(2 * times), times * 0], 1)
    return CoefficientTrack(FPS, values, head)


def test_jitter_goes_and_what_is_acted_stays(take):
    noisy, random = take.copy(), np.random.default_rng(3)
    noisy.coefficients += random.normal(0, 0.015, noisy.coefficients.shape).astype(np.float32)
    noisy.head_rotation += random.normal(0, 0.3, noisy.head_rotation.shape).astype(np.float32)
    steady = steadied(noisy, dict.fromkeys(PARTS, 1.0))
    for name in ("coefficients", "head_rotation"):
        truth, before, after = (getattr(track, name) for track in (take, noisy, steady))
        assert np.sqrt(np.mean((after - truth) ** 2)) < 0.6 * np.sqrt(np.mean((before - truth) ** 2)), name
    assert steady["eyeBlinkLeft"].max() > 0.95
    assert np.corrcoef(steady["jawOpen"], take["jawOpen"])[0, 1] > 0.99
    brows = steadied(noisy, {"brows": 1.0})
    assert (brows["jawOpen"] == noisy["jawOpen"]).all() and (brows["browInnerUp"] != noisy["browInnerUp"]).any()
    assert (steadied(noisy, {"brows": 0.0}).coefficients == noisy.coefficients).all()


def test_a_take_without_jitter_stays_as_it_is(take):
    still = CoefficientTrack(FPS, np.full((20, arkit.COUNT), 0.25, np.float32))
    assert (steadied(still, dict.fromkeys(PARTS, 1.0)).coefficients == still.coefficients).all()
    change = steadied(take, dict.fromkeys(PARTS, 1.0)).coefficients - take.coefficients
    assert np.abs(change[:, arkit.INDEX["browInnerUp"]]).max() < 0.01
    assert len(steadied(CoefficientTrack(FPS, take.coefficients[:2]), {"mouth": 1.0})) == 2


def test_a_mirror_image_exchanges_the_sides_and_twice_is_none(take):
    take.eye_rotation[:] = [10, 1, -4, 2]
    image = mirrored(take)
    assert (image["eyeBlinkRight"] == take["eyeBlinkLeft"]).all() and (image["jawOpen"] == take["jawOpen"]).all()
    assert (image.head_rotation[:, 0] == -take.head_rotation[:, 0]).all()
    assert image.eye_rotation[0].tolist() == [4, 2, -10, 1]
    again = mirrored(image)
    assert (again.coefficients == take.coefficients).all() and (again.eye_rotation == take.eye_rotation).all()


def test_strengths_are_read_and_wrong_ones_said():
    assert read_strengths("") == {}
    assert read_strengths("0.5") == dict.fromkeys(PARTS, 0.5)
    assert read_strengths("0.2, mouth=0") == {**dict.fromkeys(PARTS, 0.2), "mouth": 0.0}
    for wrong in ("nose=1", "brows", "brows=2", "brows=nan", "1,,", "-0.1"):
        with pytest.raises(InvalidInput, match="how much to steady"):
            read_strengths(wrong)


def test_the_command_writes_a_clean_take(take, tmp_path, capsys):
    take.save(tmp_path / "take.npz")
    arguments = ["export", str(tmp_path / "take.npz"), "-o", str(tmp_path / "clean.csv")]
    assert cli.main([*arguments, "--steady", "brows=1,head=0.5", "--mirror", "--fps", "24"]) == 0
    clean = CoefficientTrack.load(tmp_path / "clean.csv")
    assert clean.fps == Fraction(24) and len(clean) == 240
    assert clean["eyeBlinkRight"].max() > 0.8 and clean["eyeBlinkLeft"].max() < 0.01
    assert cli.main([*arguments, "--force", "--steady", "chin=1"]) == 1
    assert "brows=1,mouth=0.3" in capsys.readouterr().err
