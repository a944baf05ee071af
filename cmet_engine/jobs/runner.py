"""Takes jobs from the queue and has workers do them: edits and renders on the GPU, light work on the CPU beside them."""

import logging
import threading
import time
from dataclasses import replace
from typing import Any

from cmet_engine.files import sha256
from cmet_engine.jobs import store as states
from cmet_engine.jobs.events import Events
from cmet_engine.jobs.process import IDLE_SECONDS, NO_GPU, Worker
from cmet_engine.jobs.store import Job, JobStore

log = logging.getLogger(__name__)

HEAVY = ("edit", "render")  # kinds of jobs that render, on the GPU where there is one
LIGHT = ("track", "faces", "hear", "vector", "export")
SAVE_INTERVAL = 1.0  # seconds between two writes of a running job's progress


class Runner:
    """Runs the jobs of a store, each thread with a worker of its own: edits and renders in `slots` of them, tracking, lists of
    faces and new emotions in one more, so that these do not wait for a rendering.

    Args:
        store: the jobs.
        slots: how many edits and renders run at the same time.
        environment: environment variables for the workers.
    """

    def __init__(self, store: JobStore, slots: int = 1, environment: dict[str, str] | None = None) -> None:
        self.store = store
        self.idle_seconds = IDLE_SECONDS
        self.live: dict[str, states.JobState] = {}
        self.counts = {states.DONE: 0, states.FAILED: 0, states.CANCELLED: 0}
        self.events = Events(store.folder.parent / "log.jsonl")
        self._workers: dict[str, Worker] = {}
        self._cancelled: set[str] = set()
        self._wake = threading.Condition()
        self._stopping = False
        lanes = [(HEAVY, environment or {})] * slots + [(LIGHT, {**(environment or {}), **NO_GPU})]
        self._threads = [threading.Thread(target=self._loop, args=lane, daemon=True) for lane in lanes]
        for thread in self._threads:
            thread.start()

    def wake(self) -> None:
        """Say that a job was queued."""
        with self._wake:
            self._wake.notify_all()

    def state(self, job: Job) -> states.JobState:
        """Where a job stands, newest progress included."""
        return self.live.get(job.id) or job.state

    def cancel(self, job: Job) -> None:
        """Stop a job; when this returns no process works on it. A finished job stays as it is."""
        with self._wake:
            state = self.state(job)
            if state.state in states.FINISHED:
                return
            self._cancelled.add(job.id)
            worker = self._workers.get(job.id)
            if worker is None:
                self._finish(job, state, states.CANCELLED)
        if worker is not None:
            worker.kill()
            for _ in range(100):
                if self.state(job).state in states.FINISHED:
                    break
                time.sleep(0.01)

    def stop(self) -> None:
        """End all workers; running jobs stay as they are and go on at the next start."""
        with self._wake:
            self._stopping = True
            self._wake.notify_all()
            workers = list(self._workers.values())
        for worker in workers:
            worker.kill()
        for thread in self._threads:
            thread.join(timeout=5)

    def _loop(self, kinds: tuple[str, ...], environment: dict[str, str]) -> None:
        worker: Worker | None = None
        idle_since = time.monotonic()
        while True:
            with self._wake:
                if self._stopping:
                    break
                job = self.store.next(kinds)
                if job is None:
                    if worker and time.monotonic() - idle_since > self.idle_seconds:
                        worker.kill()
                        worker = None
                    self._wake.wait(timeout=1.0)
                    continue
                if job.id in self._cancelled:
                    continue
                if worker is None or worker.process.poll() is not None:
                    worker = Worker(environment)
                state = self._begin(job, worker)
            try:
                alive = self._work(job, state, worker)
            except OSError as error:
                log.warning("job %s: %s", job.id, error)
                alive = False
            if not alive:
                worker.kill()
                worker = None
            idle_since = time.monotonic()
        if worker:
            worker.kill()

    def _begin(self, job: Job, worker: Worker) -> states.JobState:
        """Note that `worker` begins `job`."""
        self._workers[job.id] = worker
        state = job.state
        state.state, state.attempts, state.started_at = states.RUNNING, state.attempts + 1, time.time()
        job.state = state
        self.live[job.id] = state
        return state

    def _work(self, job: Job, state: states.JobState, worker: Worker) -> bool:
        """Have `worker` do `job`; returns whether the worker is still usable."""
        saved = 0.0
        self.events("started", job, attempt=state.attempts)

        def progress(event: dict[str, Any]) -> None:
            nonlocal saved
            if event["stage"] != state.stage:
                self._end_stage(job, state)
                state.stage_at, state.stage_from = time.time(), event["done"] - 1
            state.stage, state.done, state.total = event["stage"], event["done"], event["total"]
            if time.monotonic() - saved > SAVE_INTERVAL:
                saved = time.monotonic()
                job.state = state

        answer = worker.ask({"folder": str(job.folder)}, progress) or {}
        self._end_stage(job, state)
        with self._wake:
            if self._stopping and not answer:
                return False  # stays `running` on the disk: the next engine goes on with it
            self._settle(job, state, answer)
        return bool(answer)

    def _settle(self, job: Job, state: states.JobState, answer: dict[str, Any]) -> None:
        """Finish a job as its worker answered, or queue it again when the worker died."""
        if job.id in self._cancelled:
            self._finish(job, state, states.CANCELLED)
        elif "result" in answer:
            results = [path for path in sorted(job.results.rglob("*")) if path.is_file()]
            state.result = answer["result"]
            state.checksums = {str(path.relative_to(job.results)): sha256(path) for path in results}
            self._finish(job, state, states.DONE)
        elif "error" in answer:
            state.error = answer["error"]
            self._finish(job, state, states.FAILED)
        elif error := state.requeue(job.kept, engine=False):
            state.error = error
            self._finish(job, state, states.FAILED)
        else:
            job.log("the worker ended unexpectedly; the job is tried again")
            self.events("retried", job)
            job.state = state
            self.live.pop(job.id, None)
            self._workers.pop(job.id, None)
            self.store.requeue(job)

    def _end_stage(self, job: Job, state: states.JobState) -> None:
        if state.stage and state.stage_at:
            seconds = round(time.time() - state.stage_at, 3)
            self.events("stage", job, stage=state.stage, done=state.done, total=state.total, seconds=seconds)

    def _finish(self, job: Job, state: states.JobState, outcome: str) -> None:
        if outcome != states.DONE:
            job.clear()  # nothing of it may be seen once it counts as finished
        now = time.time()
        job.state = replace(state, state=outcome, finished_at=now)
        error = {"error": state.error} if outcome == states.FAILED else {}
        self.events(outcome, job, seconds=round(now - state.queued_at, 3), **error)
        if outcome == states.DONE:
            job.clear("results", job.preview.name)
        self.counts[outcome] += 1
        self.live.pop(job.id, None)
        self._workers.pop(job.id, None)
        self._cancelled.discard(job.id)
