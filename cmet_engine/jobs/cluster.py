"""Rows of a batch on a Ray cluster."""

import logging
import time
from typing import Any

from cmet_engine.errors import CmetError, MissingWeights
from cmet_engine.jobs.manifest import Row, uses_gpu
from cmet_engine.jobs.schedule import ATTEMPTS
from cmet_engine.jobs.worker import attempt, give_memory_back, run_row

ROW_MEMORY = 2 << 30  # bytes that a row may need: a 1080p edit stays below 1 GB, Blender with a character below 2
RAY_AHEAD = 1000  # rows handed to a cluster before the first of them is finished


class RayCluster:
    """A Ray cluster; what a lost machine was doing is done again elsewhere."""

    capacity = RAY_AHEAD

    def __init__(self, address: str) -> None:
        try:
            import ray
        except ImportError as error:
            raise MissingWeights("Ray is not installed; run: pip install 'cmet[ray]'.") from error
        self._ray = ray
        try:
            ray.init(
                address=address,  # "local" is a new one; without any, Ray looks for one that ran here before, and waits for it
                log_to_driver=False,
                include_dashboard=False,
                logging_level=logging.ERROR,
            )
        except (ConnectionError, RuntimeError, ValueError) as error:
            if address == "local":
                raise CmetError(
                    "Ray does not start on this machine; leave --ray out to use this machine's cores."
                ) from error
            raise CmetError(f"The Ray cluster '{address}' does not answer; start it, or use --ray local.") from error
        self._gpus = ray.cluster_resources().get("GPU", 0)
        largest = max(node["Resources"].get("memory", 0) for node in ray.nodes())
        self._memory = int(min(ROW_MEMORY, largest))  # what no machine has would be waited for for ever
        self._remote = ray.remote(max_retries=ATTEMPTS)(_on_ray)
        self._running: dict[Any, Row] = {}

    def submit(self, row: Row, force: bool) -> None:
        """Start a row."""
        gpus = 1 if self._gpus and uses_gpu(row.spec) else 0
        options = {"num_cpus": 1, "num_gpus": gpus, "memory": self._memory, "name": f"cmet row {row.number}"}
        self._running[self._remote.options(**options).remote(row.task(force))] = row

    def finished(self) -> list[tuple[Row, dict[str, Any]]]:
        """Wait until a row is finished; see `Machine`."""
        (ready, *_), _ = self._ray.wait(list(self._running), num_returns=1)
        row = self._running.pop(ready)
        try:
            return [(row, self._ray.get(ready))]
        except self._ray.exceptions.RayError as error:
            lost = f"The machines that ran this row were lost ({type(error).__name__})."
            return [(row, {"error": lost, "seconds": 0.0})]

    def close(self) -> None:
        """End everything that still runs."""
        self._ray.shutdown()


def _on_ray(task: dict[str, Any]) -> dict[str, Any]:
    """Do a row on a machine of the cluster."""
    started = time.monotonic()
    answer = attempt(run_row, task)
    give_memory_back()
    return {**answer, "seconds": round(time.monotonic() - started, 2)}
