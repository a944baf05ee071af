"""Observation, training and evaluation, end to end on little data, with the assets of a copy."""

import shutil
from fractions import Fraction

import numpy as np
import pytest

from cmet_engine import arkit, files
from cmet_engine.evaluation import face as evaluation
from cmet_engine.face import blendshapes, pose
from cmet_engine.models import assets
from cmet_engine.track import CoefficientTrack
from cmet_engine.training.face import animate, basis, observe, samples, solver

CACHES = (pose.template, blendshapes.load_basis, blendshapes.load_solver)


@pytest.fixture
def own_assets(tmp_path, monkeypatch):
    """A copy of the embedded models that training may overwrite."""
    folder = tmp_path / "assets"
    folder.mkdir()
    for path in assets.ASSETS.glob("face_*.safetensors"):
        shutil.copy(path, folder)
    shutil.copy(assets.CHECKSUMS, folder)
    monkeypatch.setattr(assets, "ASSETS", folder)
    monkeypatch.setattr(assets, "CHECKSUMS", folder / assets.CHECKSUMS.name)
    for cache in CACHES:
        cache.cache_clear()
    yield folder
    for cache in CACHES:
        cache.cache_clear()


def test_bent_pictures_stay_pictures_and_differ():
    image = np.random.default_rng(0).integers(0, 255, (96, 120, 3), np.uint8)
    one, two = (observe.varied(image, np.random.default_rng(seed)) for seed in (1, 2))
    assert one.shape == image.shape and one.dtype == np.uint8
    assert np.abs(one.astype(int) - two).mean() > 5
    np.testing.assert_array_equal(one, observe.varied(image, np.random.default_rng(1)))


def test_observations_are_split_by_person(tmp_path):
    people = ["p0000000a", "p0000000b", "p0000000b"]  # 10 is a multiple of five, 11 is not
    arrays = {
        "landmarks": np.zeros((3, 478, 3), np.float32),
        "teacher_landmarks": np.zeros((3, 478, 3), np.float32),
        "teacher_scores": np.zeros((3, 2), np.float32),
        "names": np.array(["_neutral", "jawOpen"]),
        "variant": np.array([0, 0, 1]),
    }
    np.savez(tmp_path / "stills.npz", person=np.array(people), **arrays)
    (test,) = samples.load_observations(tmp_path, set(), test=True)
    (train,) = samples.load_observations(tmp_path, set(), test=False)
    assert len(test.landmarks) == 1 and len(train.landmarks) == 2
    assert train.varied.tolist() == [False, True]


def faces(points: np.ndarray) -> np.ndarray:
    """Pose-free landmarks [N, 478, 3] as pixels of faces seen from the front, 100 pixels between the eyes."""
    n = len(points)
    turn = pose.Pose(np.full(n, 100.0), np.repeat(np.eye(3)[None], n, 0), np.tile([200.0, -200.0, 0.0], (n, 1)))
    return pose.denormalise(points, turn).astype(np.float32)


def test_pictures_of_many_people_tell_what_a_coefficient_does(tmp_path, own_assets, shared):
    """People who smile lower their brows in these pictures: the basis learns it, although the rig's smile does not."""
    random, mean = np.random.default_rng(0), pose.template().points
    smile = random.uniform(0, 1, 80)
    brows = np.zeros((478, 3))
    brows[[70, 63, 105, 66, 107, 336, 296, 334, 293, 300], 1] = -0.2
    people = mean + random.normal(0, 0.01, (80, 1, 3)) + smile[:, None, None] * brows
    columns = arkit.columns(("mouthSmileLeft", "mouthSmileRight"))
    scores = np.repeat(smile[:, None], 2, 1).astype(np.float32)
    still = np.repeat(mean[None], 12, 0) + random.normal(0, 0.003, (12, 478, 3))
    names = np.array(["_neutral", *(arkit.NAMES[c] for c in columns)])
    (tmp_path / "clips").mkdir()
    for name, points, told in (("stills", people, scores), ("clips/one", still, np.zeros((12, 2), np.float32))):
        landmarks, n = faces(points), len(points)
        np.savez(
            tmp_path / f"{name}.npz", person=["p0000000b"] * n, variant=np.zeros(n, int), names=names, paths=[""] * n,
            landmarks=landmarks, teacher_landmarks=landmarks, teacher_scores=np.concatenate([np.zeros((n, 1)), told], 1),
        )  # fmt: skip
    basis.train_basis(tmp_path, shared / "data" / "rigs" / "ict_facekit_light.npz")
    blendshapes.load_basis.cache_clear()
    motion = blendshapes.load_basis().components[columns].sum(0)
    assert motion[[105, 334], 1].max() < -0.12
    assert np.abs(motion[[152, 234, 454]]).max() < 0.05


def test_a_picture_is_given_another_expression():
    image = np.random.default_rng(0).integers(0, 255, (400, 400, 3), np.uint8)
    landmarks = faces(pose.template().points[None])[0]
    recorded = np.zeros((1, arkit.COUNT), np.float32)
    recorded[:, arkit.INDEX["jawOpen"]] = 0.8
    scores = np.zeros(arkit.COUNT, np.float32)
    made = [observe.moved(image, landmarks, scores, recorded, np.random.default_rng(seed)) for seed in range(6)]
    changed = [np.abs(picture.astype(int) - image).sum(-1) > 0 for picture in made]
    assert all(picture.shape == image.shape and picture.dtype == np.uint8 for picture in made)
    assert sum(part.any() for part in changed) >= 5
    outside = np.hypot(*(np.mgrid[0:400, 0:400] - 200)) > 190
    assert not any(part[outside].any() for part in changed)


def test_faces_of_pictures_are_moved_as_a_take_says(tmp_path, shared):
    """A take that opens the jaw gives clips whose teacher's scores open it, and a track for the connector."""
    turn = pose.Pose(np.array([100.0]), np.eye(3)[None], np.array([[200.0, -200.0, 0.0]]))
    face = pose.denormalise(pose.template().points[None], turn).astype(np.float32)
    names = np.array(["_neutral", "jawOpen"])
    still = {"landmarks": face, "teacher_landmarks": face, "teacher_scores": np.zeros((1, 2), np.float32)}
    np.savez(tmp_path / "stills.npz", person=["p0000000b"], variant=[0], names=names, **still)
    opening = np.zeros((20, arkit.COUNT), np.float32)
    opening[:, arkit.INDEX["jawOpen"]] = np.linspace(0, 0.8, 20)
    opening[:, arkit.INDEX["cheekPuff"]] = 0.5
    nothing = np.zeros((20, 3), np.float32), np.zeros((20, 4), np.float32), np.ones(20, bool)
    CoefficientTrack(Fraction(25), opening, *nothing, {}).save(tmp_path / "take.npz")
    task = shared / "data" / "models" / "face_landmarker.task"
    file, other = animate.animate(tmp_path, [tmp_path / "take.npz"], task, tracks=tmp_path / "tracks", each=1)
    _, drawn, clip = samples.load_observations(tmp_path, set(), test=False)
    assert clip.clip and clip.name == file.stem and len(clip.landmarks) == 10
    assert drawn.name == other.stem and not (tmp_path / "tracks" / f"{other.stem}.npz").exists()
    assert (drawn.scores.max(0)[arkit.columns(("mouthFrownLeft", "browInnerUp"))] > 0.1).all()
    jaw = clip.scores[:, arkit.INDEX["jawOpen"]]
    assert jaw[-1] > jaw[0] + 0.1
    track = CoefficientTrack.load(tmp_path / "tracks" / f"{file.stem}.npz")
    np.testing.assert_allclose(track.coefficients[:, arkit.INDEX["jawOpen"]], jaw, atol=1e-6)
    assert (track.coefficients[:, arkit.INDEX["cheekPuff"]] == 0.5).all()


@pytest.mark.slow
def test_training_runs_and_is_measured(tmp_path, own_assets, shared, capsys):
    data, seen = shared / "data", tmp_path / "seen"
    task = data / "models" / "face_landmarker.task"
    for name in ("lp_d0", "style_sadgirl_clip1"):
        observe.observe_clip(data / "clips" / f"{name}.mp4", task, seen / "clips" / f"{name}.npz")
    aside = tmp_path / "aside.txt"
    aside.write_text("style_sadgirl_clip1\n")
    before = files.sha256(own_assets / blendshapes.BASIS_FILE)
    basis.train_basis(seen, data / "rigs" / "ict_facekit_light.npz", test_clips=aside)
    assert files.sha256(own_assets / blendshapes.BASIS_FILE) != before
    solver.train_solver(seen, task, test_clips=aside, pairs=2048, epochs=2)
    blendshapes.load_solver.cache_clear()
    blendshapes.load_basis.cache_clear()
    figures = evaluation.evaluate_solver(seen, test_clips=aside)
    assert figures["clips"]["frames"] == 90
    assert 0 < figures["clips"]["error"] < 0.5
    assert 0.2 < figures["explained"]["style_sadgirl_clip1"] <= 1
    printed = capsys.readouterr().out
    assert "mouthSmileLeft" in printed and "mean correlation" in printed


@pytest.mark.slow
def test_the_embedded_models_reach_their_figures_on_held_out_people(tmp_path, shared):
    data, seen = shared / "data", tmp_path / "seen"
    task = data / "models" / "face_landmarker.task"
    names = ("vr_2", "lp_s32")  # none of them was trained on
    for name in names:
        observe.observe_clip(data / "clips" / f"{name}.mp4", task, seen / "clips" / f"{name}.npz")
    aside = tmp_path / "aside.txt"
    aside.write_text("\n".join(names))
    figures = evaluation.evaluate_solver(seen, test_clips=aside)
    assert figures["clips"]["correlation"] > 0.7
    assert figures["clips"]["error"] < 0.045
    assert np.median(list(figures["explained"].values())) > 0.72
