"""Jobs that are killed go on from their finished pieces, and their results equal uninterrupted ones bit for bit."""

import random
import sys
import time
from functools import cache

import pytest
from running import FINISHED, Engine, digest, long_take

pytestmark = [
    pytest.mark.soak,
    pytest.mark.skipif(not sys.platform.startswith("linux"), reason="finds worker processes in /proc"),
]

EDIT = {"emotions": ["happy@0-2.5", "sarcastic=0.6@2.5-"]}


@pytest.fixture(scope="module")
def sample(tmp_path_factory):
    return long_take(tmp_path_factory.mktemp("clips"))


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory, sample):
    """`uninterrupted(format, watermark)`: checksums of an edit that nobody disturbed."""
    engine = Engine(tmp_path_factory.mktemp("calm"), sample)

    @cache
    def uninterrupted(suffix="mp4", watermark=True):
        state = engine.finished(engine.asker.edit(sample, format=suffix, watermark=watermark, **EDIT)["id"])
        assert state["state"] == "done", state["error"]
        assert not (engine.job_folder(state["id"]) / "pieces").exists()
        return digest(state["files"])

    yield uninterrupted
    engine.stop()


@pytest.fixture
def engine(tmp_path, sample):
    engine = Engine(tmp_path, sample)
    yield engine
    engine.stop()


@pytest.mark.parametrize("suffix", ["mp4", "png"])
def test_kill_9_of_engine_and_worker_costs_only_unfinished_pieces(engine, sample, uninterrupted, suffix):
    job = engine.asker.edit(sample, format=suffix, **EDIT)["id"]
    engine.reaches(job, "render", 70)
    engine.kill()
    engine.start()
    engine.reaches(job, "render", 1)
    assert engine.asker.job(job)["done"] > 64, "finished pieces were done again"
    if suffix == "mp4":
        engine.kill_workers()
    state = engine.finished(job)
    assert state["state"] == "done", state["error"]
    assert digest(state["files"]) == uninterrupted(suffix)
    assert "begins anew" not in engine.asker.log(job)
    names = {path.name for path in engine.job_folder(job).iterdir()}
    assert names == {"job.json", "state.json", "log.txt", "preview.jpg", "results"}


def test_pieces_of_another_clip_are_not_used(engine, sample, uninterrupted, tmp_path):
    """The clip is exported again while the engine is dead."""
    clip = tmp_path / "take.mp4"
    clip.write_bytes(sample.read_bytes())
    job = engine.asker.edit(clip, watermark=False, **EDIT)["id"]  # another file has another id
    engine.reaches(job, "render", 70)
    engine.kill()
    data = sample.read_bytes()
    clip.write_bytes(data + b"\0\0\0\x08free")  # the same pictures, another file
    engine.start()
    state = engine.finished(job)
    assert state["state"] == "done", state["error"]
    assert digest({"v": state["files"]["edited.mp4"]})["v"] == uninterrupted(watermark=False)["edited.mp4"]
    assert "render begins anew" in engine.asker.log(job)


def test_kills_at_random_moments(engine, sample, uninterrupted):
    """Engine or worker, at any moment of a job."""
    draw = random.Random(7)
    for number in range(10):
        clip = engine.folder / f"take{number}.mp4"  # of a content of its own, so that everything is done anew
        clip.write_bytes(sample.read_bytes() + b"\0\0\0\x0cfree" + number.to_bytes(4))
        job, kills = engine.asker.edit(clip, watermark=False, **EDIT)["id"], []
        for _ in range(3):
            engine.wait(lambda job=job: engine.asker.job(job)["stage"] or engine.asker.job(job)["state"] in FINISHED)
            time.sleep(draw.uniform(0, 2))
            state = engine.asker.job(job)
            if state["state"] in FINISHED:
                break
            kills.append((state["stage"], state["done"]))
            if draw.random() < 0.7 or any(stage == "worker" for stage, _ in kills):
                engine.kill()
                engine.start()
            else:
                kills.append(("worker", 0))
                engine.kill_workers()
        state = engine.finished(job)
        print(job, kills, state["state"])
        assert state["state"] == "done", (kills, state["error"])
        assert digest(state["files"])["edited.mp4"] == uninterrupted(watermark=False)["edited.mp4"], kills
        assert digest(state["files"])["edited.npz"] == uninterrupted(watermark=False)["edited.npz"], kills
