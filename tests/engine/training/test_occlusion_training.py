"""Training of the occlusion network: scenes with exact masks, and a run that goes on where it stopped."""

import csv

import cv2
import numpy as np
import pytest

from cmet_engine.errors import InvalidInput
from cmet_engine.face.occlusion_network import SIDE, OcclusionNetwork, load_network, save_network
from cmet_engine.media.reader import VideoReader
from cmet_engine.training.occlusion import glasses, objects, recipe
from cmet_engine.training.occlusion.layers import CANVAS
from cmet_engine.training.occlusion.recipe import OcclusionConfig, train_occlusion
from cmet_engine.training.occlusion.samples import Faces, _scene, draw_scene, photograph, read_faces
from tests.short_clips import SAMPLE


@pytest.fixture(scope="module")
def faces(tmp_path_factory) -> Faces:
    folder = tmp_path_factory.mktemp("faces")
    picture = next(iter(VideoReader(SAMPLE))).image
    with (folder / "index.csv").open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(("path", "person"))
        for k in range(5):  # p00000000 is held out
            cv2.imwrite(str(folder / f"{k}.png"), np.clip(picture[..., ::-1] * (0.8 + 0.1 * k), 0, 255))
            rows.writerow((f"{k}.png", f"p0000000{k}"))
    return read_faces(folder / "index.csv", folder / "faces.npz")


@pytest.mark.parametrize(
    "draw",
    [glasses.draw_glasses, objects.draw_hand, objects.draw_thing, objects.draw_microphone, objects.draw_hair,
     objects.draw_writing],
)  # fmt: skip
def test_every_occluder_covers_what_it_changes_and_nothing_far_from_it(faces, draw):
    random = np.random.default_rng(3)
    scene = _scene(faces, 0, random)
    before = scene.picture.copy()
    draw(scene, random)
    assert scene.covered.max() > 0.5
    changed = np.abs(scene.picture - before).max(2)
    covered = scene.covered > 0.5
    assert (changed[covered] > 3).mean() > 0.6
    far = cv2.dilate((scene.covered > 0.02).astype(np.uint8), np.ones((61, 61), np.uint8)) == 0
    assert changed[far].mean() < 3


def test_shadows_are_no_occluders(faces):
    random = np.random.default_rng(1)
    scene = _scene(faces, 0, random)
    objects.cast_shadow(scene, random)
    assert not scene.covered.any()


def test_scenes_follow_from_their_seed(faces):
    one, again = (draw_scene(faces, np.random.default_rng(5)) for _ in range(2))
    assert all(np.array_equal(a, b) for a, b in zip(one, again, strict=True))
    assert one[0].shape == (CANVAS, CANVAS, 3)
    crop, covered = photograph(one, np.random.default_rng(0))
    assert crop.shape == (SIDE, SIDE, 3)
    assert 0 <= covered.min() <= covered.max() <= 1


def test_a_stopped_run_ends_like_one_that_was_not(faces, tmp_path, monkeypatch):
    monkeypatch.setattr(recipe, "TEST_SAMPLES", 2)
    config = OcclusionConfig(steps=4, batch=2, pool=4, drawn=1, checkpoint=2, warmup=1)
    results = []
    for name, stop in (("whole", False), ("stopped", True)):
        work = tmp_path / name
        work.mkdir()
        np.savez(work / recipe.FACES, **vars(faces))
        if stop:

            def progress(stage: str, done: int, total: int | None) -> None:
                if done == 3:
                    raise KeyboardInterrupt

            with pytest.raises(KeyboardInterrupt):
                train_occlusion(tmp_path / "none.csv", work, config=config, progress=progress)
        figures = train_occlusion(tmp_path / "none.csv", work, config=config)
        assert set(figures) >= {"iou", "precision", "recall", "bare"}
        results.append(load_network(work / recipe.WEIGHTS).state_dict())
    assert all((results[0][name] == results[1][name]).all() for name in results[0])


def test_settings_that_are_unknown_are_named():
    with pytest.raises(InvalidInput, match="'epochs' is unknown"):
        OcclusionConfig.from_json('{"epochs": 3}')


def test_the_embedded_network_is_small_and_quick(tmp_path):
    save_network(OcclusionNetwork(), tmp_path / "network.safetensors")
    assert (tmp_path / "network.safetensors").stat().st_size < 1_000_000
    found = load_network(tmp_path / "network.safetensors").probability([np.zeros((SIDE, SIDE, 3), np.uint8)] * 2)
    assert found.shape == (2, SIDE, SIDE)
