"""What a running engine consists of: its jobs, their runner, the live reader, uploads, and the folders it may use."""

import shutil
import time
from pathlib import Path
from typing import Any, TypeVar, cast

from cmet_engine.errors import Busy
from cmet_engine.jobs import reuse
from cmet_engine.jobs.reader import Reader
from cmet_engine.jobs.runner import Runner
from cmet_engine.jobs.store import NEW_FILE, NEW_JOB, Job, JobStore
from cmet_engine.serve.paths import AllowedFolders
from cmet_engine.serve.schemas import JobAnswer, StateName
from cmet_engine.serve.uploads import Uploads
from cmet_engine.spec import CurvesSpec, LiveSpec, Spec, TimelineSpec, Work

MAX_WAITING = 10_000  # queued jobs
LIVE_SECONDS = 4.0  # for an answer about a moment; below the time-out of clients

AnySpec = TypeVar("AnySpec", bound=Spec)


class Engine:
    """One engine.

    Args:
        root: folder of its own: jobs, uploads; made when absent.
        allowed: folders whose files clients may name.
        slots: how many edits and renders run at the same time; other work goes on beside them.
    """

    def __init__(self, root: Path, allowed: AllowedFolders, slots: int = 1) -> None:
        root.mkdir(parents=True, exist_ok=True, mode=0o700)
        for path in root.glob(f"{NEW_JOB}*"):  # what a killed engine was writing
            shutil.rmtree(path, ignore_errors=True)
        for folder in ("uploads", "done"):
            for path in (root / folder).glob(f"{NEW_FILE}*"):
                path.unlink()
        self.store = JobStore(root)
        self.uploads = Uploads(root / "uploads", asked=self.store.asked())
        self.allowed = AllowedFolders([*allowed.folders, self.uploads.folder, self.store.folder])
        reuse.prune(root)
        self.runner, self.reader = Runner(self.store, slots), Reader()
        self.started = time.time()

    def stop(self) -> None:
        """End everything that runs."""
        self.reader.stop()
        self.runner.stop()

    def submit(self, spec: Work, client: str) -> JobAnswer:
        """Queue some work of a client.

        Raises:
            CmetError: it names files that it may not, or a timeline file that cannot be used.
            Busy: too many jobs are waiting.
        """
        spec = self.allow(spec)
        if self.store.waiting() >= MAX_WAITING:
            raise Busy(f"{MAX_WAITING} jobs are waiting already; try again later.")
        job = self.store.submit(spec.kind, spec.model_dump(mode="json", exclude_unset=True), client)
        self.runner.events("queued", job)
        self.runner.wake()
        return self.answer(job)

    def live(self, spec: LiveSpec | CurvesSpec, want: str) -> dict[str, Any]:
        """Read an edit: `values` or the `picture` of one moment, or its `curves`.

        Raises:
            CmetError: the request cannot be answered.
            Busy: the reader is busy.
        """
        return self.reader.ask(self.allow(spec), want, seconds=LIVE_SECONDS)

    def allow(self, spec: AnySpec) -> AnySpec:
        """A client's specification with the real paths of its files, and with the keys of its timeline file.

        Raises:
            CmetError: a file is missing, is no ordinary file, or lies outside the allowed folders.
        """
        spec = spec.with_inputs(lambda name, path: self.allowed.readable(str(path), folder_too=name in spec.folders))
        return spec.with_keys_read() if isinstance(spec, TimelineSpec) else spec

    def answer(self, job: Job) -> JobAnswer:
        """Where a job stands."""
        state, request = self.runner.state(job), job.request
        return JobAnswer(
            id=job.id, kind=request["kind"], client=request["client"], state=cast(StateName, state.state), stage=state.stage, done=state.done,
            total=state.total, eta_seconds=state.eta, attempts=state.attempts, queued_at=state.queued_at, started_at=state.started_at,
            finished_at=state.finished_at, error=state.error, result=state.result,
            files={name: str(job.results / name) for name in state.checksums},
        )  # fmt: skip
