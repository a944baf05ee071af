import numpy as np

from cmet_engine.face import pose
from cmet_engine.face.landmarks import LIDS
from cmet_engine.face.smooth import local_quadratic, smooth, smooth_shot

HALF = 4


def _still(frames: int, noise: float, seed: int = 0) -> np.ndarray:
    points = pose.template().points * [200, -200, -200] + [320, 240, 0]
    return points + np.random.default_rng(seed).normal(0, noise, (frames, 478, 3))


def test_jitter_of_a_resting_face_is_removed():
    values = _still(80, 0.5)
    before = np.abs(np.diff(values[10:70], 2, axis=0)).mean()
    after = np.abs(np.diff(smooth(values, HALF)[10:70], 2, axis=0)).mean()
    assert after < 0.35 * before


def test_a_blink_keeps_its_depth_and_its_frame():
    values = _still(80, 0.4)
    upper = [pair[0] for pair in LIDS[0]]
    shape = np.array([0.4, 1.0, 0.5])
    values[40:43, upper, 1] += 12 * shape[:, None]
    lids = smooth(values, HALF)[:, upper, 1].mean(1)
    lids -= np.median(lids)
    assert lids.argmax() == 41
    assert lids.max() > 0.85 * 12
    assert np.abs(lids[30:38]).max() < 1.5  # nothing comes early, nothing lingers
    assert np.abs(lids[45:53]).max() < 1.5


def test_steady_motion_has_no_lag():
    values = _still(60, 0.0) + np.arange(60)[:, None, None] * [3.0, -1.0, 0.0]
    np.testing.assert_allclose(smooth(values, HALF), values, atol=1e-6)


def test_a_quadratic_passes_unchanged_up_to_the_ends():
    t = np.arange(30.0)
    values = np.stack([t**2, 3 - t, 0 * t + 1], 1)[:, None]
    np.testing.assert_allclose(local_quadratic(values, 4)[0], values[0])
    np.testing.assert_allclose(local_quadratic(values, 4), values, atol=1e-6)


def test_gaps_are_filled_between_their_neighbours_and_shots_stay_apart():
    values = np.zeros((40, 478, 3), np.float32)
    values[20:] = 100
    values[8:12] = np.nan
    valid = np.isfinite(values[:, 0, 0])
    first = np.concatenate(list(smooth_shot(values, valid, 0, 20, 25.0)))
    second = np.concatenate(list(smooth_shot(values, valid, 20, 40, 25.0)))
    np.testing.assert_allclose(first, 0, atol=1e-6)
    np.testing.assert_allclose(second, 100, atol=1e-4)


def test_chunks_meet_without_a_seam():
    values = np.cumsum(np.random.default_rng(2).normal(0, 1, (1200, 478, 3)), 0)
    parts = np.concatenate(list(smooth_shot(values, np.ones(1200, bool), 0, 1200, 25.0)))
    whole = smooth(values, HALF)
    assert np.abs(parts[500:524] - whole[500:524]).max() < 2.5


def test_one_or_two_frames_stay_as_they_are():
    for frames in (1, 2):
        values = _still(frames, 1.0)
        np.testing.assert_array_equal(smooth(values, HALF), values)
