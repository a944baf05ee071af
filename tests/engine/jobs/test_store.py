"""Jobs that an engine left when it died, and results that are used again."""

from cmet_engine.jobs import reuse
from cmet_engine.jobs.store import FAILED, MAX_ENGINE_DEATHS, QUEUED, RUNNING, Job, JobStore


def test_a_job_that_takes_the_engine_down_again_and_again_is_given_up(tmp_path):
    identity = JobStore(tmp_path).submit("track", {}, "one").id
    folder = tmp_path / "jobs" / identity
    for death in range(1, MAX_ENGINE_DEATHS + 1):
        job = Job(folder)
        state = job.state
        state.state = RUNNING
        job.state = state
        (folder / "results").mkdir(exist_ok=True)
        store = JobStore(tmp_path)
        if death < MAX_ENGINE_DEATHS:
            assert store.recovered == [identity] and job.state.state == QUEUED and store.waiting() == 1
    assert job.state.state == FAILED and "same place" in job.state.error and job.state.finished_at
    assert store.recovered == [] and store.waiting() == 0 and store.next() is None
    log = (folder / "log.txt").read_text().splitlines()
    assert "given up" in log[-1] and "queued again" not in log[-1]
    assert not (folder / "results").exists()


def test_the_curves_of_every_person_decide_whether_a_result_is_used_again(tmp_path):
    for name in ("clip.mp4", "anna.npz", "same.npz", "other.npz"):
        (tmp_path / name).write_bytes(b"other" if name == "other.npz" else b"same")

    def identity(curves: str, **own: str) -> str | None:
        people = [{"person": "2", "track": str(tmp_path / curves), "source": None, **own}]
        about = {"clip": str(tmp_path / "clip.mp4"), "track": str(tmp_path / "anna.npz"), "people": people}
        return reuse.identity({"kind": "render", "parameters": about})

    assert identity("same.npz") == identity("anna.npz") is not None
    assert len({identity("same.npz"), identity("other.npz"), identity("same.npz", quality="best")}) == 3
    assert reuse.identity({"kind": "faces", "parameters": {"names": ["2=anna"]}}) is None
