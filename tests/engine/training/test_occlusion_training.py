"""Training of the occlusion network: scenes with exact masks, and a run that goes on where it stopped."""

import csv
from dataclasses import asdict, replace

import cv2
import numpy as np
import pytest
import torch

from cmet_engine.errors import InvalidInput
from cmet_engine.face.occlusion_network import SIDE, load_network
from cmet_engine.media.reader import VideoReader
from cmet_engine.training.occlusion import glasses, objects, recipe
from cmet_engine.training.occlusion.layers import CANVAS
from cmet_engine.training.occlusion.network import OcclusionNetwork, save_network
from cmet_engine.training.occlusion.recipe import OcclusionConfig, train_occlusion
from cmet_engine.training.occlusion.samples import UNKNOWN, Faces, _scene, draw_scene, photograph, read_faces
from tests.short_clips import SAMPLE


@pytest.fixture(scope="module")
def faces(tmp_path_factory) -> Faces:
    folder = tmp_path_factory.mktemp("faces")
    picture = next(iter(VideoReader(SAMPLE))).image
    with (folder / "index.csv").open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(("path", "person", "mask"))
        mask = np.zeros(picture.shape[:2], np.uint8)
        mask[: len(mask) // 2] = 255  # over the upper half of the last face lies something
        cv2.imwrite(str(folder / "mask.png"), mask)
        for k in range(5):  # p00000000 is held out
            cv2.imwrite(str(folder / f"{k}.png"), np.clip(picture[..., ::-1] * (0.8 + 0.1 * k), 0, 255))
            rows.writerow((f"{k}.png", f"p0000000{k}", "mask.png" if k == 4 else ""))
    return read_faces(folder / "index.csv", folder / "faces.npz")


@pytest.mark.parametrize(
    "draw",
    [glasses.draw_glasses, objects.draw_hand, objects.draw_thing, objects.draw_microphone, objects.draw_hair,
     objects.draw_writing],
)  # fmt: skip
def test_every_occluder_covers_what_it_changes_and_nothing_far_from_it(faces, draw):
    random = np.random.default_rng(3)
    scene, _ = _scene(faces, 0, random)
    before = scene.picture.copy()
    draw(scene, random)
    assert scene.covered.max() > 0.5
    changed = np.abs(scene.picture - before).max(2)
    covered = scene.covered > 0.5
    assert (changed[covered] > 3).mean() > 0.6
    far = cv2.dilate((scene.covered > 0.02).astype(np.uint8), np.ones((61, 61), np.uint8)) == 0
    assert changed[far].mean() < 3


def test_a_mask_of_a_picture_follows_it_and_what_is_unknown_does_not_count(faces):
    assert faces.marked.tolist() == [4]
    halves = faces.covered[4].copy()
    halves[:, : halves.shape[1] // 2] = UNKNOWN
    scene, known = _scene(replace(faces, covered=halves[None].repeat(5, 0)), 4, np.random.default_rng(0))
    brow, chin = scene.landmarks[[9, 175], :2].round().astype(int)
    assert scene.covered[chin[1], chin[0] + 20] == scene.covered[chin[1], chin[0] - 20] == 0
    sides = [(scene.covered[brow[1] - 8, x], known[brow[1] - 8, x]) for x in (brow[0] - 20, brow[0] + 20)]
    assert sorted(sides) == [(0, 0), (1, 1)]
    logits = torch.full((1, 4, 4), 9.0)
    assert recipe.losses(logits, torch.zeros(1, 4, 4, 2), 1.0)["entropy"] == 0


def test_shadows_are_no_occluders(faces):
    random = np.random.default_rng(1)
    scene, _ = _scene(faces, 0, random)
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
        np.savez(work / recipe.FACES, **asdict(faces))
        if stop:

            def progress(stage: str, done: int, total: int | None) -> None:
                if done == 3:
                    raise KeyboardInterrupt

            with pytest.raises(KeyboardInterrupt):
                train_occlusion(tmp_path / "none.csv", work, config=config, progress=progress)
        figures = train_occlusion(tmp_path / "none.csv", work, config=config)
        assert set(figures) >= {"iou", "precision", "recall", "bare"}
        results.append((work / recipe.WEIGHTS).read_bytes())
    assert results[0] == results[1]


def test_settings_that_are_unknown_are_named():
    with pytest.raises(InvalidInput, match="'epochs' is unknown"):
        OcclusionConfig.from_json('{"epochs": 3}')


def test_the_stored_network_is_small_and_computes_what_was_trained(tmp_path):
    torch.manual_seed(0)
    network = OcclusionNetwork()
    crops = np.random.default_rng(0).integers(0, 255, (2, SIDE, SIDE, 3), np.uint8)
    pictures = torch.from_numpy(crops).permute(0, 3, 1, 2).float() / 255
    network(pictures)  # the normalisation learns its statistics
    save_network(network.eval(), tmp_path / "network.safetensors")
    assert (tmp_path / "network.safetensors").stat().st_size < 1_000_000
    found = load_network(tmp_path / "network.safetensors").probability(list(crops))
    with torch.inference_mode():
        wanted = torch.sigmoid(network(pictures)).numpy()
    assert wanted.std() > 0.01
    assert np.abs(found - wanted).max() < 2e-3
