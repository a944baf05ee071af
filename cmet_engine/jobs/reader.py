"""Reading an edit at one moment of a clip, in the engine: requests go to a worker of their own.

Nothing is queued and nothing is written; a long job does not keep anybody waiting.
"""

import queue
import threading
import time
from concurrent.futures import Future
from typing import Any

from cmet_engine.errors import Busy, CmetError
from cmet_engine.jobs.process import IDLE_SECONDS, NO_GPU, Worker
from cmet_engine.spec import CurvesSpec, LiveSpec

WAITING = 8  # requests; who drags a slider asks again anyway


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

    def ask(self, spec: LiveSpec | CurvesSpec, want: str, *, seconds: float) -> dict[str, Any]:
        """An answer of `cmet_engine.jobs.scrubber.Scrubber`.

        Args:
            spec: what is asked about which edit.
            want: the method that answers: `values`, `picture` or `curves`.
            seconds: how long an answer is waited for.

        Raises:
            CmetError: the request cannot be answered; the worker's sentence.
            Busy: it was not answered in time, or too many wait already.
        """
        task = {"live": spec.model_dump(mode="json"), "want": want}
        future: Future[dict[str, Any]] = Future()
        try:
            self._tasks.put_nowait((task, future))
            answer = future.result(seconds)
        except (queue.Full, TimeoutError) as error:
            raise Busy("The engine is busy with earlier requests or getting ready; ask again.") from error
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
                waiting = self._tasks.get(timeout=1.0)
            except queue.Empty:
                if self._worker and time.monotonic() - last > self.idle_seconds:
                    self._worker.kill()
                    self._worker = None
                continue
            if waiting is None:
                break
            asked, future = waiting
            if self._worker is None or self._worker.process.poll() is not None:
                self._worker = Worker(self._environment)
            answer = self._worker.ask(asked)
            if answer is None:
                self._worker.kill()
                self._worker = None
                answer = {"error": "The process that reads moments of clips ended unexpectedly; ask again."}
            future.set_result(answer)
            last = time.monotonic()
        if self._worker:
            self._worker.kill()
