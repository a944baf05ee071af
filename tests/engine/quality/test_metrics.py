"""Every figure on cases worked out by hand."""

from fractions import Fraction

import numpy as np
import pytest

from cmet_engine import arkit
from cmet_engine.face.lips import PARTS
from cmet_engine.quality import metrics
from cmet_engine.track import CoefficientTrack

SMILE, SQUINT, UNREADABLE = (arkit.INDEX[name] for name in ("mouthSmileLeft", "eyeSquintLeft", "cheekSquintLeft"))


def changes(frames: int = 4, **values) -> np.ndarray:
    result = np.zeros((frames, arkit.COUNT))
    for name, value in values.items():
        result[:, arkit.INDEX[name]] = value
    return result


def everywhere(*images):
    return (*images, np.ones(images[0].shape[:2], bool))


def grey(value: int, size: int = 16) -> np.ndarray:
    return np.full((size, size, 3), value, np.uint8)


def test_realised_is_the_factor_between_asked_and_measured():
    asked = changes(mouthSmileLeft=0.8, eyeSquintLeft=-0.4)
    assert metrics.realised(asked, asked).share == pytest.approx(1)
    assert metrics.realised(asked, 0.5 * asked).share == pytest.approx(0.5)
    assert metrics.realised(asked, -asked).share == pytest.approx(-1)
    assert metrics.realised(asked, -asked).right_way == 0


def test_an_edit_that_does_nothing_is_not_realised():
    noise = np.random.default_rng(0).normal(0, 0.02, (32, arkit.COUNT))
    asked = changes(32, mouthSmileLeft=0.6, mouthSmileRight=0.6, eyeSquintLeft=0.3)
    assert metrics.realised(asked, 0 * asked).share == 0
    assert metrics.realised(asked, 0 * asked).right_way == 0
    assert metrics.realised(asked, noise).share == pytest.approx(0, abs=0.05)


def test_large_changes_weigh_more():
    # (0.8 * 0.8 + 0.2 * 0) / (0.8² + 0.2²) = 0.64 / 0.68
    asked = changes(mouthSmileLeft=0.8, eyeSquintLeft=0.2)
    found = metrics.realised(asked, changes(mouthSmileLeft=0.8))
    assert found.share == pytest.approx(0.64 / 0.68)
    assert found.coefficients == pytest.approx({"mouthSmileLeft": 1, "eyeSquintLeft": 0})
    assert found.right_way == 0.5


def test_emotions_that_follow_one_another_are_not_mixed():
    asked = changes(4)
    asked[:2, SMILE], asked[2:, SMILE] = 0.6, -0.6  # their mean is 0
    assert metrics.realised(asked, asked).share == pytest.approx(1)
    assert metrics.realised(asked, np.abs(asked)).share == pytest.approx(0)


def test_what_no_reading_can_show_and_what_is_hardly_asked_for_is_left_out():
    asked = changes(mouthSmileLeft=0.5, cheekSquintLeft=0.9, eyeSquintLeft=0.19)
    measured = changes(mouthSmileLeft=0.5)
    assert metrics.realised(asked, measured).share == pytest.approx(1)
    assert list(metrics.realised(asked, measured).coefficients) == ["mouthSmileLeft"]
    assert metrics.realised(changes(cheekSquintLeft=0.9), measured) is None
    seeing = np.ones(arkit.COUNT, bool)
    assert metrics.realised(asked, measured, seeing).share == pytest.approx(0.25 / (0.25 + 0.81))


def test_frames_that_could_not_be_read_are_left_out():
    asked = changes(mouthSmileLeft=0.5)
    measured = asked.copy()
    measured[1] = np.nan
    assert metrics.realised(asked, measured).share == pytest.approx(1)
    assert metrics.realised(asked, asked * np.nan) is None


def test_lips_that_move_alike_correlate_whatever_their_level():
    before = np.array([0.0, 0.1, 0.2, 0.1])
    assert metrics.lip_correlation(before, 0.5 * before + 0.1) == pytest.approx(1)
    assert metrics.lip_correlation(before, -before) == pytest.approx(-1)
    assert metrics.lip_correlation(np.array([0.0, 0.1, 0.2]), np.array([0.0, 0.2, 0.1])) == pytest.approx(0.5)
    assert metrics.lip_correlation(before, before * 0) is None
    assert metrics.lip_correlation(before[:2], before[:2]) is None


def test_closed_lips_are_lost_once_they_part():
    before = np.array([0.0, 0.01, 0.019, 0.0, 0.2])
    after = np.array([0.0, 0.029, 0.031, 0.1, 0.0])  # the last was open before
    assert metrics.lips_closed_kept(before, after) == pytest.approx(2 / 4)
    assert metrics.lips_closed_kept(before[4:], after[4:]) is None
    assert metrics.lips_closed_kept(np.empty(0), np.empty(0)) is None


def test_closing_a_smile_is_no_fault_and_losing_a_closure_of_speech_is_one():
    """Three seconds of syllables, lips closed between them; then a smile is held over the teeth, then the lips rest."""
    track = CoefficientTrack(Fraction(25), np.zeros((225, arkit.COUNT), np.float32))
    syllables = 0.15 * np.maximum(np.sin(2 * np.pi * 3 * np.arange(75) / 25), 0)
    smile = np.where((np.arange(225) >= 75) & (np.arange(225) < 150), 0.12, 0)
    before = np.concatenate([syllables, 0.5 * syllables, np.zeros(75)]) + smile
    track.coefficients[:, arkit.INDEX["jawOpen"]] = before / PARTS[arkit.INDEX["jawOpen"]]
    speech = metrics.Speech.of(track)
    assert speech.held[100:130].mean() == pytest.approx(0.12, abs=0.01) and speech.held[:50].max() < 0.01
    assert speech.near[:140].mean() > 0.95 and not speech.near[180:].any()
    closed_smile = before - smile
    assert (
        metrics.lip_correlation(before, closed_smile, speech)
        > 0.97
        > 0.9
        > metrics.lip_correlation(before, closed_smile)
    )
    assert metrics.lip_correlation(before, before[::-1], speech) < 0.5
    agape = before + np.where(np.arange(225) >= 170, 0.1, 0)  # in the pause
    assert metrics.lips_closed_kept(before, agape, speech) == 1 > metrics.lips_closed_kept(before, agape)
    lost = np.maximum(before, 0.05)
    assert metrics.lips_closed_kept(before, lost, speech) == 0


def test_shut_eyes_that_open_are_lost():
    before = np.full((5, 2), 0.1)
    before[1], before[3] = 0.02, 0.05
    after = before.copy()
    assert metrics.blinks_kept(before, after) == 1
    after[1] = 0.09
    assert metrics.blinks_kept(before, after) == pytest.approx(2 / 4)
    assert metrics.blinks_kept(before[:1], before[:1]) is None
    assert metrics.blinks_kept(np.empty((0, 2)), np.empty((0, 2))) is None


def test_flicker_compares_the_unrest_of_both():
    source = [everywhere(grey(100), grey(102)), everywhere(grey(102), grey(100))]
    assert metrics.flicker(source, source) == pytest.approx(1)
    assert metrics.flicker(source, [everywhere(grey(100), grey(103)), everywhere(grey(103), grey(100))]) == 1.5
    assert metrics.flicker(source, [everywhere(grey(50), grey(50))]) == 0
    assert metrics.flicker([everywhere(grey(9), grey(9))], source) is None
    assert metrics.flicker([], []) is None


def test_psnr_pools_the_error_of_all_pictures():
    assert metrics.psnr([everywhere(grey(10), grey(15))]) == pytest.approx(20 * np.log10(255 / 5))
    # one equal picture halves the mean squared error: 25 / 2
    pooled = metrics.psnr([everywhere(grey(10), grey(15)), everywhere(grey(7), grey(7))])
    assert pooled == pytest.approx(10 * np.log10(255**2 / 12.5))
    assert metrics.psnr([everywhere(grey(7), grey(7))]) == np.inf
    assert metrics.psnr([]) is None


def test_only_what_the_mask_shows_counts():
    changed, where = grey(10), np.zeros((16, 16), bool)
    changed[:8], where[8:] = 200, True
    assert metrics.psnr([(grey(10), changed, where)]) == np.inf
    assert metrics.psnr([(grey(10), changed, ~where)]) == pytest.approx(20 * np.log10(255 / 190))
    assert metrics.psnr([(grey(10), changed, where & False)]) is None
    assert metrics.ssim(grey(10), changed, where & False) is None


def test_ssim_of_flat_pictures_is_that_of_their_brightness():
    # no variance: (2 · 100 · 110 + c1) / (100² + 110² + c1), c1 = (0.01 · 255)²
    where = np.ones((16, 16), bool)
    c1 = 2.55**2
    expected = (2 * 100 * 110 + c1) / (100**2 + 110**2 + c1)
    assert metrics.ssim(grey(100), grey(110), where) == pytest.approx(expected)
    assert metrics.ssim(grey(100), grey(100), where) == pytest.approx(1)


def test_fewer_errors_are_a_better_picture():
    random = np.random.default_rng(0)
    picture = random.integers(60, 190, (64, 64, 3), np.uint8)
    good, bad = (np.clip(picture + random.normal(0, size, picture.shape), 0, 255).astype(np.uint8) for size in (12, 30))
    assert metrics.psnr([everywhere(picture, good)]) == pytest.approx(20 * np.log10(255 / 12), abs=0.3)
    assert metrics.psnr([everywhere(picture, good)]) > metrics.psnr([everywhere(picture, bad)])
    assert 1 > metrics.ssim(*everywhere(picture, good)) > metrics.ssim(*everywhere(picture, bad))


def test_fine_detail_is_the_size_of_the_laplacian():
    where = np.ones((16, 16), bool)
    assert metrics.fine_detail(grey(100), where) == 0
    dot = grey(100)
    dot[8, 8] = 140  # -4 · 40 in its place, 40 in each of the four beside
    assert metrics.fine_detail(dot, where) == pytest.approx((160 + 4 * 40) / 256)
    weaker = grey(100)
    weaker[8, 8] = 120
    assert metrics.detail_kept([(dot, weaker, where)]) == pytest.approx(0.5)
    assert metrics.detail_kept([(grey(100), dot, where)]) is None
