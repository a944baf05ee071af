"""Jobs that survive: each is a folder, and every change of its state is one atomic replacement of a file.

    <root>/jobs/<id>/
        job.json        what was asked: kind, parameters, client, time; never changed
        state.json      where it stands: queued, running, done, failed, cancelled; progress; error; result
        log.txt         what the worker said
        preview.jpg     the newest edited picture
        pieces/         finished segments, kept over a crash until the job is finished
        lock            held by the process that works on the job
        results/        the results, complete once the state is `done`, with their checksums in the state

A job that was running when the engine died is queued again at the next start, and goes on from its finished segments.
"""

import json
import os
import re
import secrets
import shutil
import tempfile
import threading
import time
from collections import OrderedDict
from collections.abc import Container
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from cmet_engine.errors import CmetError, NotFound
from cmet_engine.files import read_json, sha256

QUEUED, RUNNING, DONE, FAILED, CANCELLED = "queued", "running", "done", "failed", "cancelled"
FINISHED = (DONE, FAILED, CANCELLED)
IDENTITY = re.compile(r"[0-9a-f-]{20,40}")
KINDS = ("edit", "render", "track", "hear", "vector", "export")
RECORD = ("job.json", "state.json", "log.txt")
MAX_ENGINE_DEATHS = 5  # a job during which the engine dies this often, and that gets no further, is at fault itself
MAX_WORKER_DEATHS = 2  # the same for its worker; too little memory is the usual reason


@dataclass
class JobState:
    """Where a job stands. Times are seconds since the epoch; `eta` seconds, None while unknown.

    `stage_at` is when the current stage began, with `stage_from` of its `total` done already before an interruption.
    `engine_deaths` and `worker_deaths` count since the last time that the job had more finished segments, `kept`.
    """

    state: str = QUEUED
    stage: str = ""
    done: int = 0
    total: int | None = None
    stage_at: float | None = None
    stage_from: int = 0
    attempts: int = 0
    engine_deaths: int = 0
    worker_deaths: int = 0
    kept: int = 0
    queued_at: float = 0.0
    started_at: float | None = None
    finished_at: float | None = None
    error: str | None = None
    result: dict[str, Any] = field(default_factory=dict)
    checksums: dict[str, str] = field(default_factory=dict)

    def requeue(self, kept: int, *, engine: bool) -> str | None:
        """Begin again after a death; how far the work had come shows once a worker has taken up its segments.

        Args:
            kept: how many finished segments there are.
            engine: the engine died, not a worker alone.

        Returns:
            Why the job is not worth another attempt, in a sentence; None when it is.
        """
        self.state, self.stage, self.done, self.total = QUEUED, "", 0, None
        if kept > self.kept:
            self.kept, self.engine_deaths, self.worker_deaths = kept, 0, 0
        self.engine_deaths += engine
        self.worker_deaths += not engine
        if self.engine_deaths >= MAX_ENGINE_DEATHS:
            return f"The engine ended {MAX_ENGINE_DEATHS} times at the same place of this job."
        if self.worker_deaths >= MAX_WORKER_DEATHS:
            return (
                f"The worker ended unexpectedly {MAX_WORKER_DEATHS} times at the same place; "
                "the job's log may say why (too little memory is the usual reason)."
            )
        return None

    @property
    def eta(self) -> float | None:
        """Seconds that the current stage still needs, from its pace so far."""
        worked = self.done - self.stage_from
        if self.state != RUNNING or not self.total or worked <= 0 or not self.stage_at:
            return None
        return max(0.0, (time.time() - self.stage_at) * (self.total - self.done) / worked)


NEW_FILE, NEW_JOB = ".cmet-", ".job-"
"""Beginnings of the names of files and jobs that are being written."""


def write_atomically(path: Path, data: bytes) -> None:
    """Replace a file in one step, on the disk before the name changes."""
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=NEW_FILE)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


class Job:
    """One job's folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.id = folder.name

    @property
    def request(self) -> dict[str, Any]:
        """What was asked: `kind`, `client`, `parameters`."""
        return read_json(self.folder / "job.json")

    @property
    def state(self) -> JobState:
        """Where the job stands, from its file."""
        return JobState(**read_json(self.folder / "state.json"))

    @state.setter
    def state(self, state: JobState) -> None:
        write_atomically(self.folder / "state.json", json.dumps(asdict(state)).encode())

    @property
    def pieces(self) -> Path:
        """Folder of finished segments."""
        return self.folder / "pieces"

    @property
    def kept(self) -> int:
        """How many finished segments there are."""
        return sum(path.is_file() for path in self.pieces.rglob("*.*")) if self.pieces.is_dir() else 0

    @property
    def results(self) -> Path:
        """Folder of results."""
        return self.folder / "results"

    def log(self, text: str) -> None:
        """Add a line to the job's log."""
        with (self.folder / "log.txt").open("a", encoding="utf-8") as file:
            file.write(f"{time.strftime('%Y-%m-%dT%H:%M:%S')} {text}\n")

    @property
    def preview(self) -> Path:
        """The newest edited picture."""
        return self.folder / "preview.jpg"

    def clear(self, *keep: str) -> None:
        """Remove everything but the record of the job and the files and folders named."""
        for path in self.folder.iterdir():
            if path.name in (*RECORD, *keep):
                continue
            if path.is_dir():
                shutil.rmtree(path, ignore_errors=True)
            else:
                path.unlink(missing_ok=True)

    def verify(self) -> None:
        """Compare the results with their recorded checksums.

        Raises:
            CmetError: a result is missing or damaged.
        """
        for name, checksum in self.state.checksums.items():
            path = self.results / name
            if not path.is_file() or sha256(path) != checksum:
                raise CmetError(f"The result {name} of job {self.id} is missing or damaged; run the job again.")


class JobStore:
    """All jobs below one folder, and the queue over them, fair between clients.

    Args:
        root: folder of the engine's own; made when absent. One engine at a time may use it.
        keep: how many finished jobs stay; older ones are removed.
    """

    def __init__(self, root: Path, keep: int = 1000) -> None:
        self.folder = root / "jobs"
        self.folder.mkdir(parents=True, exist_ok=True)
        self.keep = keep
        self._lock = threading.Lock()
        self._queues: OrderedDict[str, list[tuple[str, str]]] = OrderedDict()  # by client: kinds and ids of jobs
        self.recovered: list[str] = []  # jobs that an earlier engine was doing and that are queued again
        for path in sorted(self.folder.iterdir()):
            if IDENTITY.fullmatch(path.name) and path.is_dir():
                self._recover(Job(path))

    def _recover(self, job: Job) -> None:
        """Take up a job that an earlier engine left."""
        try:
            request, state = job.request, job.state
        except (OSError, ValueError, TypeError):
            # the engine died while it was being recorded: never confirmed
            shutil.rmtree(job.folder, ignore_errors=True)
            return
        if state.state == RUNNING:
            if error := state.requeue(job.kept, engine=True):
                state.state, state.error, state.finished_at = FAILED, error, time.time()
                job.clear()
                job.log(f"the engine ended during this job, which is given up: {error}")
            else:
                job.log("the engine ended during this job; it is queued again")
                self.recovered.append(job.id)
            job.state = state
        if state.state == QUEUED:
            self._queues.setdefault(request["client"], []).append((request["kind"], job.id))

    def submit(self, kind: str, parameters: dict[str, Any], client: str) -> Job:
        """Record a job and queue it; it exists whole once this returns."""
        identity = f"{time.strftime('%Y%m%d-%H%M%S')}-{time.time_ns() % 10**9:09d}-{secrets.token_hex(4)}"
        temporary = Path(tempfile.mkdtemp(dir=self.folder.parent, prefix=NEW_JOB))
        request = {"kind": kind, "client": client, "parameters": parameters, "created": time.time()}
        (temporary / "job.json").write_text(json.dumps(request), "utf-8")
        (temporary / "state.json").write_text(json.dumps(asdict(JobState(queued_at=time.time()))), "utf-8")
        job = Job(self.folder / identity)
        temporary.rename(job.folder)
        with self._lock:
            self._queues.setdefault(client, []).append((kind, identity))
        self._forget_old()
        return job

    def get(self, identity: str) -> Job:
        """The job of an id.

        Raises:
            NotFound: there is none.
        """
        if not IDENTITY.fullmatch(identity) or not (self.folder / identity / "job.json").is_file():
            raise NotFound("There is no such job.")
        return Job(self.folder / identity)

    def all(self) -> list[Job]:
        """Every job, oldest first."""
        found = (path for path in sorted(self.folder.iterdir()) if IDENTITY.fullmatch(path.name))
        return [Job(path) for path in found if (path / "job.json").is_file()]

    def next(self, kinds: Container[str] = KINDS) -> Job | None:
        """Take the next job of some kinds: the clients in turn, each one's jobs in order. None when nothing waits."""
        with self._lock:
            for client, waiting in list(self._queues.items()):
                for entry in [entry for entry in waiting if entry[0] in kinds]:
                    waiting.remove(entry)
                    job = Job(self.folder / entry[1])
                    if job.state.state == QUEUED:
                        self._queues.move_to_end(client)
                        if not waiting:
                            del self._queues[client]
                        return job
                if not waiting:
                    del self._queues[client]
        return None

    def requeue(self, job: Job) -> None:
        """Put a job back at the end of its client's queue."""
        with self._lock:
            request = job.request
            self._queues.setdefault(request["client"], []).append((request["kind"], job.id))

    def waiting(self) -> int:
        """How many jobs are queued."""
        with self._lock:
            return sum(len(jobs) for jobs in self._queues.values())

    def asked(self) -> str:
        """The requests of all jobs that are not finished, as one text: what it does not name is read by none."""
        return "\n".join(json.dumps(job.request) for job in self.all() if job.state.state not in FINISHED)

    def _forget_old(self) -> None:
        known = self.all()
        old = [job for job in known[: max(0, len(known) - self.keep)] if job.state.state in FINISHED]
        asked = self.asked() if old else ""
        for job in old:
            if job.id not in asked:
                shutil.rmtree(job.folder, ignore_errors=True)
