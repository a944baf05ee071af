"""The engine while it works: cancelled, idle, asked beside its work, asked the same again, without its parent."""

import contextlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from running import FINISHED, Engine, digest, gone, long_take
from short_clips import SAMPLE

from cmet_engine.client import Client
from cmet_engine.errors import Busy, CmetError
from cmet_engine.jobs import store as states
from cmet_engine.jobs.reader import Reader
from cmet_engine.jobs.runner import Runner
from cmet_engine.jobs.store import Job, JobStore
from cmet_engine.media.reader import VideoReader
from cmet_engine.spec import LiveSpec
from cmet_engine.track import CoefficientTrack

FRAMES = 36
pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="finds worker processes in /proc")


@pytest.fixture(scope="module")
def sample(tmp_path_factory):
    return long_take(tmp_path_factory.mktemp("clips"), FRAMES)


@pytest.fixture(scope="module")
def engine(tmp_path_factory, sample):
    engine = Engine(tmp_path_factory.mktemp("engine"), sample)
    yield engine
    engine.stop()


@pytest.fixture(scope="module")
def tracked(engine, sample):
    """A track of the sample; from now on it is cached."""
    state = engine.finished(engine.asker.track(sample)["id"])
    assert state["state"] == "done", state["error"]
    return CoefficientTrack.load(state["files"]["track.npz"])


PATIENCE = 600.0  # seconds; loading torch takes long on a machine that is busy with other things


def leftovers(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir() if path.name not in ("job.json", "state.json", "log.txt")]


@pytest.mark.parametrize(("stage", "done"), [pytest.param("tracking", 20, marks=pytest.mark.soak), ("render", 2)])
def test_cancel_answers_within_a_second_and_leaves_nothing(engine, stage, done, sample):
    clip = engine.folder / "clip.mp4"
    clip.write_bytes(sample.read_bytes() + b"\0\0\0\x0cfree" + os.urandom(4))  # so that nothing is cached
    job = engine.asker.edit(clip, emotions=["happy"])["id"]
    engine.reaches(job, stage, done)
    workers = engine.workers()
    start = time.monotonic()
    state = engine.asker.cancel(job)
    taken = time.monotonic() - start
    assert state["state"] == "cancelled" and not state["files"]
    assert taken < 1.0
    assert any(gone(pid) for pid in workers)
    assert leftovers(engine.job_folder(job)) == []
    with (engine.job_folder(job) / "log.txt").open() as log:
        assert "internal fault" not in log.read()


def test_health_preview_and_tracking_beside_a_rendering(engine, tracked, sample):
    job = engine.asker.edit(sample, emotions=["sad"])["id"]
    engine.reaches(job, "render", 1)
    beside = engine.asker.track(sample, format="csv")["id"]
    waits, picture = [], None
    while (state := engine.asker.job(job))["state"] not in FINISHED:
        start = time.monotonic()
        assert engine.asker.health()["jobs_running"] >= 1 or engine.asker.job(job)["state"] in FINISHED
        waits.append(time.monotonic() - start)
        with contextlib.suppress(CmetError):
            picture = engine.asker.preview(job)
            assert engine.asker.job(beside)["state"] in ("queued", "running", "done")
        time.sleep(0.05)
    assert state["state"] == "done"
    assert sorted(waits)[len(waits) // 2] < 0.5
    assert picture is not None
    image = cv2.imdecode(np.frombuffer(picture, np.uint8), cv2.IMREAD_COLOR)
    assert image.shape == (192, 192, 3)
    assert engine.finished(beside)["state"] == "done"


def test_tracking_does_not_wait_for_pictures(tmp_path):
    store = JobStore(tmp_path)
    edits = [store.submit("edit", {}, "one") for _ in range(2)]
    track = store.submit("track", {}, "one")
    other = store.submit("edit", {}, "two")
    assert store.next(("track", "vector")).id == track.id
    assert [store.next(("edit",)).id for _ in range(3)] == [other.id, edits[0].id, edits[1].id]  # clients take turns
    assert store.next() is None and store.waiting() == 0


def test_the_same_again_is_there_at_once_and_another_strength_renders_only(engine, tracked, sample):
    first = engine.finished(engine.asker.edit(sample, emotions=["fear"])["id"])
    start = time.monotonic()
    again = engine.finished(engine.asker.edit(sample, emotions=["fear"])["id"])
    assert time.monotonic() - start < 5
    assert again["id"] != first["id"] and digest(again["files"]) == digest(first["files"])
    assert again["result"] == first["result"]
    assert "the same was done" in engine.asker.log(again["id"])
    weaker = engine.finished(engine.asker.edit(sample, emotions=["fear"], strength=0.5)["id"])
    assert digest(weaker["files"])["edited.mp4"] != digest(first["files"])["edited.mp4"]
    stages = [line["stage"] for line in events(engine, weaker["id"]) if line["event"] == "stage"]
    assert stages == ["render"]


def test_damaged_results_are_not_used_again(engine, tracked, sample):
    first = engine.finished(engine.asker.track(sample, format="json")["id"])
    Path(first["files"]["track.json"]).write_text("{}")
    again = engine.finished(engine.asker.track(sample, format="json")["id"])
    assert "the same was done" not in engine.asker.log(again["id"])
    assert len(CoefficientTrack.load(again["files"]["track.json"])) == len(tracked)


def events(engine: Engine, job: str) -> list[dict]:
    lines = (engine.root / "log.jsonl").read_text().splitlines()
    return [line for line in map(json.loads, lines) if line["job"] == job]


def test_the_log_for_machines_tells_what_happened(engine, tracked, sample):
    job = engine.asker.edit(sample, emotions=["nonsense"])["id"]
    state = engine.finished(job)
    lines = events(engine, job)
    assert [line["event"] for line in lines] == ["queued", "started", "failed"]
    assert lines[-1]["error"] == state["error"] and lines[-1]["client"] == "test" and lines[-1]["seconds"] > 0


def test_a_moment_of_an_edit_is_what_the_edit_holds(engine, tracked, sample):
    timeline = {"emotions": ["happy=0.8@0-0.9", "sad@0.6-1.3"], "strength": 0.7}
    state = engine.finished(engine.asker.edit(sample, renderer="none", **timeline)["id"])
    edited = CoefficientTrack.load(state["files"]["edited.npz"])
    ask(engine, 0.0, **timeline)  # warm
    taken = []
    for frame in (0, 18, 28, FRAMES - 1):
        start = time.perf_counter()
        answer = engine.asker.live(sample, frame / 25 + 0.01, **timeline)
        taken.append(time.perf_counter() - start)
        assert answer["frame"] == frame and answer["time"] == pytest.approx(frame / 25)
        for name, track in (("source", tracked), ("edited", edited)):
            assert np.allclose(list(answer[name].values()), track.coefficients[frame], atol=1e-4), name
    assert min(taken) < 0.5  # the figure itself is measured by tests/benchmarks/live.py; here others use the machine


def test_a_moment_of_an_edit_can_be_drawn(engine, tracked, sample):
    ask(engine, 0.0)
    picture = patiently(lambda: engine.asker.live_picture(sample, 1.0))
    image = cv2.imdecode(np.frombuffer(picture, np.uint8), cv2.IMREAD_COLOR)[..., ::-1].astype(float)
    shown = next(frame.image for frame in VideoReader(sample) if frame.index == 25)
    assert np.abs(image - shown).mean() < 3  # nothing is edited, so it is the clip's own frame


def ask(engine: Engine, moment: float, **timeline: object) -> dict:
    """Ask until the reader is ready."""
    return patiently(lambda: engine.asker.live(engine.clip, moment, **timeline))


def patiently(question: Callable[[], Any]) -> Any:
    """The answer to a question, asked again for as long as the engine is busy."""
    end = time.monotonic() + PATIENCE
    while True:
        try:
            return question()
        except Busy:
            assert time.monotonic() < end, "the reader does not get ready"


def test_a_clip_that_was_not_tracked_is_said(engine, tracked, sample):
    ask(engine, 0.0)
    clip = engine.folder / "untracked.mp4"
    clip.write_bytes(sample.read_bytes() + b"\0\0\0\x08free")
    with pytest.raises(CmetError, match="track or edit it first"):
        patiently(lambda: engine.asker.live(clip, 0.0))
    with pytest.raises(CmetError, match="unknown"):
        patiently(lambda: engine.asker.live(sample, 0.0, emotions=["nonsense"]))


def test_idle_workers_let_go_of_all_memory(tmp_path):
    store = JobStore(tmp_path)
    runner, reader = Runner(store), Reader()
    runner.idle_seconds = reader.idle_seconds = 0.5
    try:
        job = store.submit("track", {"clip": str(tmp_path / "none.mp4"), "face": 0, "format": "npz"}, "")
        runner.wake()
        with pytest.raises(CmetError):
            reader.ask(LiveSpec(clip=tmp_path / "none.mp4", time=0), "values", seconds=PATIENCE)
        end = time.monotonic() + 60
        while job.state.state != states.FAILED or children():
            assert time.monotonic() < end, children()
            time.sleep(0.1)
    finally:
        reader.stop()
        runner.stop()


def children() -> list[str]:
    """Worker processes below this one."""
    found = []
    for task in Path("/proc/self/task").iterdir():
        for pid in (task / "children").read_text().split():
            with contextlib.suppress(OSError):
                words = Path(f"/proc/{pid}/cmdline").read_text()
                found += [words] if "cmet_engine.jobs.worker" in words else []
    return found


def test_the_engine_ends_with_its_parent_and_takes_its_workers_along(tmp_path):
    address = tmp_path / "engine.json"
    command = [sys.executable, "-m", "cmet_engine.cli", "serve", "--root", str(tmp_path / "root")]
    command += ["--allow", str(SAMPLE.parent), "--token-file", str(address), "--parent"]
    script = "import os, subprocess, sys, time; subprocess.Popen([*sys.argv[1:], str(os.getpid())]); time.sleep(600)"
    parent = subprocess.Popen(
        [sys.executable, "-c", script, *command], env={**os.environ, "CMET_HOME": str(tmp_path / "home")}
    )
    end = time.monotonic() + 60
    while not address.exists():
        assert time.monotonic() < end
        time.sleep(0.05)
    client = Client.from_file(address)
    pid = client.health()["pid"]
    job = client.track(SAMPLE)["id"]
    while client.job(job)["stage"] != "tracking":
        time.sleep(0.05)
    workers = [int(p.parent.name) for p in Path("/proc").glob("[0-9]*/stat") if parent_of(p) == pid]
    assert workers
    parent.kill()
    parent.wait()
    end = time.monotonic() + 20
    while not all(gone(process) for process in (pid, *workers)):
        assert time.monotonic() < end
        time.sleep(0.1)
    assert Job(tmp_path / "root" / "jobs" / job).state.state == states.RUNNING  # the next engine goes on with it


def parent_of(stat: Path) -> int:
    with contextlib.suppress(OSError):
        return int(stat.read_text().rsplit(")", 1)[1].split()[1])
    return 0
