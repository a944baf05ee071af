"""Landmarks to coefficients and back, on faces made from the mean face and the basis."""

from fractions import Fraction

import numpy as np
import pytest

from cmet_engine import arkit
from cmet_engine.errors import CmetError
from cmet_engine.face import pose
from cmet_engine.face.blendshapes import BLIND, load_basis, load_solver, read_back
from cmet_engine.face.geometry import FaceGeometry
from cmet_engine.face.lips import eye_opening, lip_opening

WIDTH = 640


def _rotation(yaw: float = 0.0, pitch: float = 0.0, roll: float = 0.0) -> np.ndarray:
    y, p, r = np.radians([yaw, pitch, roll])
    about_y = np.array([[np.cos(y), 0, np.sin(y)], [0, 1, 0], [-np.sin(y), 0, np.cos(y)]])
    about_x = np.array([[1, 0, 0], [0, np.cos(p), -np.sin(p)], [0, np.sin(p), np.cos(p)]])
    about_z = np.array([[np.cos(r), -np.sin(r), 0], [np.sin(r), np.cos(r), 0], [0, 0, 1]])
    return about_y @ about_x @ about_z


def _faces(coefficients: np.ndarray, scale: float = 120.0, shift=(320.0, 240.0), **angles: float) -> np.ndarray:
    """Landmarks in pixels of the mean face with these coefficients [N, 52]."""
    n = len(coefficients)
    points = pose.template().points + load_basis().pose_free_motion(coefficients)
    rotation = np.repeat(_rotation(**angles)[None], n, 0)
    offset = np.repeat([[shift[0], -shift[1], 0.0]], n, 0)
    return pose.denormalise(points, pose.Pose(np.full(n, scale), rotation, offset))


def _of(**values: float) -> np.ndarray:
    row = np.zeros((1, arkit.COUNT), np.float32)
    for name, value in values.items():
        row[0, arkit.INDEX[name]] = value
    return row


def _geometry(landmarks: np.ndarray) -> FaceGeometry:
    n = len(landmarks)
    return FaceGeometry(
        landmarks.astype(np.float32),
        np.ones(n, bool),
        (WIDTH, 480),
        Fraction(25),
        np.arange(n) / 25,
        np.zeros((n, 3), np.float32),
        np.zeros((n, 4), np.float32),
    )


EXPRESSIONS = np.concatenate(
    [
        _of(),
        _of(mouthSmileLeft=0.8, mouthSmileRight=0.8),
        _of(jawOpen=0.6),
        _of(eyeBlinkLeft=1, eyeBlinkRight=1),
        _of(browInnerUp=0.8, browOuterUpLeft=0.7, browOuterUpRight=0.7),
        _of(mouthSmileLeft=0.7),
    ]
)


def test_coefficients_name_what_the_face_does():
    found = load_solver().coefficients(_faces(EXPRESSIONS))
    assert found.shape == (len(EXPRESSIONS), 52) and found.dtype == np.float32
    assert found.min() >= 0 and found.max() <= 1
    rise = found - found[0]
    assert rise[1, arkit.INDEX["mouthSmileLeft"]] > 0.3 and rise[1, arkit.INDEX["mouthSmileRight"]] > 0.3
    assert rise[2, arkit.INDEX["jawOpen"]] > 0.3
    assert rise[3, arkit.INDEX["eyeBlinkLeft"]] > 0.3 and rise[3, arkit.INDEX["eyeBlinkRight"]] > 0.3
    assert rise[4, arkit.INDEX["browInnerUp"]] > 0.3
    assert rise[5, arkit.INDEX["mouthSmileLeft"]] > rise[5, arkit.INDEX["mouthSmileRight"]] + 0.15


@pytest.mark.parametrize("change", [{"scale": 37.0}, {"shift": (90.0, 1700.0)}, {"roll": 40.0}])
def test_place_size_and_roll_do_not_change_coefficients(change):
    solver = load_solver()
    np.testing.assert_allclose(
        solver.coefficients(_faces(EXPRESSIONS, **change)), solver.coefficients(_faces(EXPRESSIONS)), atol=0.02
    )


def test_turning_the_head_hardly_changes_coefficients():
    solver = load_solver()
    plain = solver.coefficients(_faces(EXPRESSIONS))
    for angles in ({"yaw": 20.0}, {"yaw": -20.0}, {"pitch": 12.0}):
        assert np.abs(solver.coefficients(_faces(EXPRESSIONS, **angles)) - plain).mean() < 0.05


def test_a_mirrored_face_has_mirrored_coefficients():
    solver, faces = load_solver(), _faces(EXPRESSIONS, yaw=10.0)
    mirrored = solver.coefficients(pose.mirrored(faces, WIDTH))
    np.testing.assert_allclose(mirrored, solver.coefficients(faces)[:, arkit.MIRROR], atol=2e-3)


def test_bad_landmarks_are_refused_with_the_frame():
    faces = _faces(EXPRESSIONS)
    faces[3, 7] = np.nan
    with pytest.raises(CmetError, match="frame 3"):
        load_solver().coefficients(faces)
    with pytest.raises(CmetError, match="shape"):
        load_solver().coefficients(faces[:, :468])


def test_no_frames_give_no_coefficients():
    assert load_solver().coefficients(np.empty((0, 478, 3))).shape == (0, 52)


def test_the_basis_is_symmetric_and_linear():
    basis = load_basis()
    mirrored = (basis.components[:, pose.template().mirror] * [-1, 1, 1])[list(arkit.MIRROR)]
    np.testing.assert_allclose(mirrored, basis.components, atol=1e-5)
    faces, delta = _faces(EXPRESSIONS, yaw=25.0), np.random.default_rng(0).normal(0, 0.3, (len(EXPRESSIONS), 52))
    np.testing.assert_allclose(basis.motion(faces, 2 * delta), 2 * basis.motion(faces, delta), atol=1e-3)
    np.testing.assert_array_equal(basis.motion(faces, np.zeros_like(delta)), 0)


def test_every_coefficient_moves_the_face_where_it_should():
    basis = load_basis()
    size = np.linalg.norm(basis.components, axis=2)  # [52, 478]
    assert (size.max(1) > 0.015).all() and (size.max(1) < 0.8).all()
    mouth, brow, eye = 13, 105, 159  # the right half's brow and upper lid

    def at(name: str, landmark: int) -> np.ndarray:
        return basis.components[arkit.INDEX[name], landmark]

    assert at("jawOpen", 152)[1] < -0.1 and abs(at("jawOpen", 10)[1]) < 0.05
    assert at("mouthSmileRight", 61)[0] < -0.03 and at("mouthSmileRight", 61)[1] > 0.03
    assert at("mouthFrownRight", 61)[1] < -0.01
    assert at("browOuterUpRight", brow)[1] > 0.02 and at("browDownRight", brow)[1] < -0.02
    assert at("eyeBlinkRight", eye)[1] < -0.02 and at("eyeWideRight", eye)[1] > 0.005
    assert at("mouthPucker", 61)[0] > 0.03
    assert at("jawForward", 152)[2] > 0.03
    assert at("noseSneerRight", 64)[1] > 0.02
    assert at("cheekPuff", 205)[2] > 0.01 or at("cheekPuff", 205)[0] < -0.02
    assert at("mouthRight", mouth)[0] < -0.05 < 0.05 < at("mouthLeft", mouth)[0]


def test_motion_turns_with_the_head():
    basis, delta = load_basis(), _of(mouthSmileLeft=0.8, mouthSmileRight=0.8)
    for angles in ({"yaw": 35.0}, {"roll": 90.0}, {"pitch": 20.0}):
        face = _faces(_of(), **angles)
        np.testing.assert_allclose(face + basis.motion(face, delta), _faces(delta, **angles), atol=1.5)


def test_motion_needs_one_change_per_frame_and_skips_lost_ones():
    faces = _faces(EXPRESSIONS)
    with pytest.raises(CmetError, match="shape"):
        load_basis().motion(faces, np.zeros((1, 52)))
    faces[2] = np.nan
    motion = load_basis().motion(faces, np.full((len(faces), 52), 0.1))
    assert np.isfinite(motion).all() and (motion[2] == 0).all() and np.abs(motion[1]).max() > 0.1


def test_coefficients_are_read_back_from_motion():
    components = load_basis().components.reshape(52, -1).astype(np.float64)
    truth = np.clip(np.random.default_rng(1).normal(0.2, 0.25, (40, 52)), 0, 1)
    truth[:, arkit.INDEX["tongueOut"]] = 0
    asked = truth.copy()
    for name in BLIND:
        asked[:, arkit.INDEX[name]] = 0  # the network knows nothing of them
    found = read_back((truth @ components) @ components.T, asked, components)
    blind = arkit.columns(BLIND)
    assert np.abs(found - truth)[:, blind].mean() < 0.5 * np.abs(asked - truth)[:, blind].mean()
    assert found.min() >= 0 and found.max() <= 1


@pytest.mark.parametrize("name", ["jawForward", "cheekPuff", "cheekSquintLeft", "noseSneerRight"])
def test_what_the_teacher_is_blind_to_comes_from_the_clip(name):
    track = np.zeros((40, 52), np.float32)
    track[20:30, arkit.INDEX[name]] = 0.9
    found = load_solver().track(_geometry(_faces(track))).coefficients[:, arkit.INDEX[name]]
    assert found[20:30].min() > 0.3
    assert found[:20].max() < 0.1


def test_a_clip_of_one_frame_has_a_track():
    track = load_solver().track(_geometry(_faces(_of(jawOpen=0.5))))
    assert len(track) == 1 and track["jawOpen"][0] > 0.2


def test_lips_and_lids():
    track = np.concatenate([_of(), _of(jawOpen=0.5), _of(eyeBlinkLeft=1.0)])
    plain = lip_opening(_faces(track))
    assert plain[1] > plain[0] + 0.05
    np.testing.assert_allclose(lip_opening(_faces(track, scale=40.0, roll=30.0)), plain, atol=3e-3)
    np.testing.assert_allclose(lip_opening(_faces(track, yaw=30.0)), plain, atol=0.02)
    eyes = eye_opening(_faces(track))
    assert eyes.shape == (3, 2)
    assert eyes[2, 0] < 0.6 * eyes[0, 0] and eyes[2, 1] > 0.9 * eyes[0, 1]
