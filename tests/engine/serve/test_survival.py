"""Jobs that are killed go on from their finished pieces, and their results equal uninterrupted ones bit for bit."""

import sys

import pytest
from running import SAMPLE, Engine, digest

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="finds worker processes in /proc")

EDIT = {"emotions": ["happy@0-2.5", "sarcastic=0.6@2.5-"]}


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory):
    """Checksums of an edit in each format that nobody disturbed."""
    engine = Engine(tmp_path_factory.mktemp("calm"))
    found = {}
    for suffix in ("mp4", "png"):
        state = engine.finished(engine.client.edit(SAMPLE, format=suffix, **EDIT)["id"])
        assert state["state"] == "done", state["error"]
        found[suffix] = digest(state["files"])
        assert not (engine.job_folder(state["id"]) / "pieces").exists()
    engine.stop()
    return found


@pytest.fixture
def engine(tmp_path):
    engine = Engine(tmp_path)
    yield engine
    engine.stop()


@pytest.mark.parametrize("suffix", ["mp4", "png"])
def test_kill_9_of_engine_and_worker_costs_only_unfinished_pieces(engine, uninterrupted, suffix):
    job = engine.client.edit(SAMPLE, format=suffix, **EDIT)["id"]
    engine.reaches(job, "tracking", 30)
    engine.kill()
    engine.start()
    engine.reaches(job, "render", 70)
    engine.kill()
    engine.start()
    engine.reaches(job, "render", 1)
    assert engine.client.job(job)["done"] > 64, "finished pieces were done again"
    engine.kill_workers()
    state = engine.finished(job)
    assert state["state"] == "done", state["error"]
    assert digest(state["files"]) == uninterrupted[suffix]
    assert "begins anew" not in engine.client.log(job)
    names = {path.name for path in engine.job_folder(job).iterdir()}
    assert names == {"job.json", "state.json", "log.txt", "preview.jpg", "results"}


def test_pieces_of_another_clip_are_not_used(engine, uninterrupted, tmp_path):
    """The clip is exported again while the engine is dead."""
    clip = tmp_path / "take.mp4"
    clip.write_bytes(SAMPLE.read_bytes())
    job = engine.client.edit(clip, **EDIT)["id"]
    engine.reaches(job, "render", 70)
    engine.kill()
    data = SAMPLE.read_bytes()
    clip.write_bytes(data + b"\0\0\0\x08free")  # the same pictures, another file
    engine.start()
    state = engine.finished(job)
    assert state["state"] == "done", state["error"]
    assert digest({"v": state["files"]["edited.mp4"]})["v"] == uninterrupted["mp4"]["edited.mp4"]
    assert "render begins anew" in engine.client.log(job)
