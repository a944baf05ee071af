"""Where the rows of a batch are done: worker processes on this machine, or a Ray cluster."""

import logging
import os
import threading
import time
from collections.abc import Callable
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from typing import Any, Protocol

from cmet_engine.errors import CmetError
from cmet_engine.jobs.manifest import Row

ROW_MEMORY = 2 << 30  # bytes that a row may need: a 1080p edit stays below 1 GB, Blender with a character below 2
RAY_AHEAD = 1000  # rows handed to a cluster before the first of them is finished
ATTEMPTS = 2  # a row whose process dies is done again once


Watch = Callable[[Row, str, int, int | None], None]
"""Called as `watch(row, stage, done, total)` while a row is worked on."""


class _Machine(Protocol):
    """Where rows are done: a few worker processes or a cluster."""

    capacity: int

    def submit(self, row: Row, force: bool) -> None:
        """Start a row."""

    def finished(self) -> list[tuple[Row, dict[str, Any]]]:
        """Wait until a row is finished; rows with their answers: `result` or `error`, `seconds`."""

    def close(self) -> None:
        """End everything that still runs."""


class _Workers:
    """Warm worker processes on this machine."""

    def __init__(self, workers: int, watch: Watch | None) -> None:
        self.capacity = max(1, workers)
        self._watch = watch
        self._pool = ThreadPoolExecutor(max_workers=self.capacity)
        self._running: dict[Future[dict[str, Any]], Row] = {}
        self._local = threading.local()
        self._alive: list[Any] = []
        self._closed = False
        threads = max(1, (os.cpu_count() or 1) // self.capacity)
        self._environment = {"OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", str(threads))}

    def submit(self, row: Row, force: bool) -> None:
        self._running[self._pool.submit(self._work, row, force)] = row

    def finished(self) -> list[tuple[Row, dict[str, Any]]]:
        done, _ = wait(self._running, return_when=FIRST_COMPLETED)
        return [(self._running.pop(future), future.result()) for future in done]

    def close(self) -> None:
        self._closed = True
        self._pool.shutdown(wait=False, cancel_futures=True)
        for worker in self._alive:
            worker.kill()

    def _work(self, row: Row, force: bool) -> dict[str, Any]:
        from cmet_engine.jobs.runner import Worker

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
            answer = worker.ask({"row": row.values, "force": force}, progress)
            if answer is None and not self._closed:
                worker.kill()
                self._alive.remove(worker)
                self._local.worker = None
        if answer is None:
            answer = {"error": "The worker ended unexpectedly, twice (too little memory is the usual reason)."}
        return {**answer, "seconds": round(time.monotonic() - started, 2), "attempts": attempts}


class _Cluster:
    """A Ray cluster; what a lost machine was doing is done again elsewhere."""

    capacity = RAY_AHEAD

    def __init__(self, address: str) -> None:
        try:
            import ray
        except ImportError as error:
            raise CmetError("Ray is not installed; run: pip install 'cmet[ray]'.") from error
        self._ray = ray
        try:
            ray.init(
                address=None if address == "local" else address,
                log_to_driver=False,
                include_dashboard=False,
                logging_level=logging.ERROR,
            )
        except (ConnectionError, RuntimeError, ValueError) as error:
            raise CmetError(f"The Ray cluster '{address}' does not answer; start it, or use --ray local.") from error
        self._gpus = ray.cluster_resources().get("GPU", 0)
        largest = max(node["Resources"].get("memory", 0) for node in ray.nodes())
        self._memory = int(min(ROW_MEMORY, largest))  # what no machine has would be waited for for ever
        self._remote = ray.remote(max_retries=ATTEMPTS)(_on_ray)
        self._running: dict[Any, Row] = {}

    def submit(self, row: Row, force: bool) -> None:
        gpus = 1 if self._gpus and uses_gpu(row.values) else 0
        options = {"num_cpus": 1, "num_gpus": gpus, "memory": self._memory, "name": f"cmet row {row.number}"}
        self._running[self._remote.options(**options).remote(row.values, force)] = row

    def finished(self) -> list[tuple[Row, dict[str, Any]]]:
        (ready, *_), _ = self._ray.wait(list(self._running), num_returns=1)
        row = self._running.pop(ready)
        try:
            return [(row, self._ray.get(ready))]
        except self._ray.exceptions.RayError as error:
            lost = f"The machines that ran this row were lost ({type(error).__name__})."
            return [(row, {"error": lost, "seconds": 0.0})]

    def close(self) -> None:
        self._ray.shutdown()


def uses_gpu(values: dict[str, Any]) -> bool:
    """Whether a row has use for a GPU: to draw with EDTalk or to refine (`auto` does where there is one); see `warp_renderer`."""
    draws = values["kind"] in ("edit", "render") and values["renderer"] != "none"
    return draws and not (values["renderer"] == "warp" and values["quality"] == "draft")


def _on_ray(values: dict[str, Any], force: bool) -> dict[str, Any]:
    from cmet_engine.jobs.worker import attempt, give_memory_back

    started = time.monotonic()
    answer = attempt(run_row, values, force=force)
    give_memory_back()
    return {**answer, "seconds": round(time.monotonic() - started, 2)}
