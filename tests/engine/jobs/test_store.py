"""Jobs that an engine left when it died."""

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
