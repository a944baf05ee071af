"""Reading an edit at one moment of a clip, in the engine: requests go to a worker of their own.

Nothing is queued and nothing is written; a long job does not keep anybody waiting.
"""

import queue
import threading
import time
from concurrent.futures import Future
from typing import Any

from cmet_engine.errors import CmetError
from cmet_engine.jobs.runner import IDLE_SECONDS, NO_GPU, Worker

WAITING = 8  # requests; who drags a slider asks again anyway


class BusyError(Exception):
    """More requests wait than are worth answering, or the answer takes too long."""


class Reader:
    """Hands requests to a worker of its own, in order; the worker starts with the first one and goes when idle.

    Args:
        environment: environment variables for the worker.
    """

    def __init__(self, environment: dict[str, str] | None = None) -> None:
        self.idle_seconds = IDLE_SECONDS
        self._environment = {**(environment or {}), **NO_GPU}
        self._tasks: queue.Queue[tuple[dict[str, Any], Future[dict[str, Any]]] | None] = queue.Queue(WAITING)
        self._worker: Worker | None = None
        self._thread = threading.Thread(target=self._loop, daemon=True)
        self._thread.start()

    def ask(self, asked: dict[str, Any], seconds: float) -> dict[str, Any]:
        """The answer of `Scrubber`.

        Raises:
            CmetError: the request cannot be answered; the worker's sentence.
            BusyError: it was not answered within `seconds`.
        """
        future: Future[dict[str, Any]] = Future()
        try:
            self._tasks.put_nowait((asked, future))
            answer = future.result(seconds)
        except (queue.Full, TimeoutError) as error:
            raise BusyError from error
        if "error" in answer:
            raise CmetError(answer["error"])
        return answer["result"]

    def stop(self) -> None:
        """End the worker."""
        worker = self._worker
        if worker:
            worker.kill()
        while True:
            try:
                self._tasks.put_nowait(None)
                break
            except queue.Full:
                self._tasks.get_nowait()
        self._thread.join(timeout=5)

    def _loop(self) -> None:
        last = time.monotonic()
        while True:
            try:
                task = self._tasks.get(timeout=1.0)
            except queue.Empty:
                if self._worker and time.monotonic() - last > self.idle_seconds:
                    self._worker.kill()
                    self._worker = None
                continue
            if task is None:
                break
            asked, future = task
            if self._worker is None or self._worker.process.poll() is not None:
                self._worker = Worker(self._environment)
            answer = self._worker.ask({"live": asked})
            if answer is None:
                self._worker.kill()
                self._worker = None
                answer = {"error": "The reader ended unexpectedly; ask again."}
            future.set_result(answer)
            last = time.monotonic()
        if self._worker:
            self._worker.kill()
