"""Observation, training and evaluation, end to end on little data, with the assets of a copy."""

import shutil

import numpy as np
import pytest

from cmet_engine import files
from cmet_engine.evaluation import face as evaluation
from cmet_engine.face import blendshapes, pose
from cmet_engine.models import assets
from cmet_engine.training.face import basis, observe, samples, solver

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
