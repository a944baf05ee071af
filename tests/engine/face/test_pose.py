import numpy as np

from cmet_engine.face import pose


def _head(rotation, scale=150.0, shift=(320.0, 240.0, 0.0)):
    """Landmarks in pixels of the mean face, turned."""
    known = pose.Pose(np.array([scale]), np.asarray(rotation)[None], np.array([[shift[0], -shift[1], shift[2]]]))
    return pose.denormalise(pose.template().points[None], known)


def _turn(axis, degrees):
    c, s = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    return {
        "x": np.array([[1, 0, 0], [0, c, -s], [0, s, c]]),
        "y": np.array([[c, 0, s], [0, 1, 0], [-s, 0, c]]),
        "z": np.array([[c, -s, 0], [s, c, 0], [0, 0, 1]]),
    }[axis]


def test_pose_is_taken_away_and_put_back():
    rotation = _turn("y", 25) @ _turn("x", -10) @ _turn("z", 8)
    landmarks = _head(rotation)
    points, found = pose.normalise(landmarks)
    np.testing.assert_allclose(pose.denormalise(points, found), landmarks, atol=1e-4)
    assert np.abs(points[0] - pose.template().points).max() < 0.03
    np.testing.assert_allclose(found.degrees()[0], pose.rotation_degrees(rotation[None])[0], atol=1.5)


def test_place_size_and_roll_leave_no_trace():
    upright, rotation = pose.normalise(_head(_turn("x", 5)))[0], _turn("z", 33) @ _turn("x", 5)
    moved = pose.normalise(_head(rotation, scale=61.0, shift=(-40.0, 800.0, 3.0)))[0]
    np.testing.assert_allclose(moved, upright, atol=2e-3)


def test_turning_the_head_keeps_the_face():
    frontal = pose.normalise(_head(np.eye(3)))[0][0]
    for yaw in (-30, -15, 15, 30):
        turned = pose.normalise(_head(_turn("y", yaw)))[0][0]
        assert np.sqrt(((turned - frontal) ** 2).sum(1).mean()) < 0.02


def test_signs_of_the_head_rotation():
    eye, nose = 33, 1
    left = _head(_turn("y", 20))
    assert left[0, nose, 0] > 320  # the nose points to the right of the picture: the person's left
    assert pose.normalise(left)[1].degrees()[0, 0] < -19
    down = _head(_turn("x", 20))
    assert down[0, nose, 1] > _head(np.eye(3))[0, nose, 1]
    assert pose.normalise(down)[1].degrees()[0, 1] > 19
    lean = _head(_turn("z", 20))
    assert lean[0, eye, 1] > lean[0, 263, 1]  # the person's right eye lies lower
    assert pose.normalise(lean)[1].degrees()[0, 2] > 19


def test_template_is_symmetric():
    t = pose.template()
    np.testing.assert_array_equal(t.mirror[t.mirror], np.arange(pose.LANDMARKS))
    np.testing.assert_allclose(t.points[t.mirror] * [-1, 1, 1], t.points, atol=1e-5)


def test_frames_that_are_not_numbers_stay_apart():
    landmarks = np.concatenate([_head(np.eye(3)), np.full((1, 478, 3), np.nan), _head(np.eye(3))])
    points, _ = pose.normalise(landmarks)
    assert np.isfinite(points[[0, 2]]).all()
    assert np.isnan(points[1]).all()
