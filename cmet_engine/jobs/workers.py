"""Rows of a batch on this machine, in warm worker processes."""

import os
import threading
import time
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from typing import Any

from cmet_engine.jobs.manifest import Row
from cmet_engine.jobs.process import Worker
from cmet_engine.jobs.schedule import ATTEMPTS, Watch
from cmet_engine.processes import JOBS, cores


class Workers:
    """Warm worker processes on this machine."""

    def __init__(self, workers: int, watch: Watch | None) -> None:
        self.capacity = max(1, workers)
        self._watch = watch
        self._pool = ThreadPoolExecutor(max_workers=self.capacity)
        self._running: dict[Future[dict[str, Any]], Row] = {}
        self._local = threading.local()
        self._alive: list[Worker] = []
        self._closed = False
        threads = str(max(1, cores() // self.capacity))
        self._environment = {name: os.environ.get(name, threads) for name in ("OMP_NUM_THREADS", JOBS)}

    def submit(self, row: Row, force: bool) -> None:
        """Start a row."""
        self._running[self._pool.submit(self._work, row, force)] = row

    def finished(self) -> list[tuple[Row, dict[str, Any]]]:
        """Wait until a row is finished; see `Machine`."""
        done, _ = wait(self._running, return_when=FIRST_COMPLETED)
        return [(self._running.pop(future), future.result()) for future in done]

    def close(self) -> None:
        """End everything that still runs."""
        self._closed = True
        self._pool.shutdown(wait=False, cancel_futures=True)
        for worker in self._alive:
            worker.kill()

    def _work(self, row: Row, force: bool) -> dict[str, Any]:
        def progress(event: dict[str, Any]) -> None:
            if self._watch:
                self._watch(row, event["stage"], event["done"], event["total"])

        started = time.monotonic()
        answer, attempts = None, 0
        while answer is None and attempts < ATTEMPTS and not self._closed:
            attempts += 1
            worker = getattr(self._local, "worker", None)
            if worker is None:
                worker = self._local.worker = Worker(self._environment)
                self._alive.append(worker)
            answer = worker.ask({"row": row.task(force)}, progress)
            if answer is None and not self._closed:
                worker.kill()
                self._alive.remove(worker)
                self._local.worker = None
        if answer is None:
            answer = {"error": "The worker ended unexpectedly, twice (too little memory is the usual reason)."}
        return {**answer, "seconds": round(time.monotonic() - started, 2), "attempts": attempts}
