"""The process that does the work, one task at a time, and stays warm between them.

It reads tasks from standard input, a JSON object a line: a job's folder, a row of a batch, or a moment of a clip to read. It
answers with events on standard output, a JSON object a line: `{"stage", "done", "total"}` while working, then `{"result"}` or
`{"error"}`. When its standard input closes (the engine is gone) it ends at once, whatever it is doing.
"""

import contextlib
import ctypes
import gc
import json
import logging
import os
import queue
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from cmet_engine.errors import CmetError
from cmet_engine.files import exclusive, whole_file
from cmet_engine.jobs import reuse
from cmet_engine.jobs.execute import Result, execute
from cmet_engine.jobs.scrubber import Scrubber
from cmet_engine.jobs.store import Job
from cmet_engine.media.picture import small_jpeg
from cmet_engine.preparation import like_source
from cmet_engine.progress import Progress
from cmet_engine.resume import Segments
from cmet_engine.spec import (
    CurvesSpec,
    EditSpec,
    ExportSpec,
    HearSpec,
    LiveSpec,
    RenderSpec,
    TrackSpec,
    Work,
    read_work,
)

EVENT_INTERVAL = 0.1  # seconds between two progress events
PREVIEW_INTERVAL = 1.0  # seconds between two preview pictures
PREVIEW_SIZE = 640  # pixels on their long side


class Preview:
    """Keeps the newest edited picture in a JPEG file, renewed about once a second."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._next = 0.0

    def __call__(self, picture: np.ndarray) -> None:
        """Take an edited frame, uint8 [H, W, 3]."""
        if time.monotonic() < self._next:
            return
        self._next = time.monotonic() + PREVIEW_INTERVAL
        with whole_file(self._path, force=True) as temporary:
            temporary.write_bytes(small_jpeg(picture, PREVIEW_SIZE))


def run_job(job: Job, progress: Progress) -> dict[str, Any]:
    """Do one job into its folder's `results`, going on from the finished segments of an earlier attempt.

    Returns:
        The figures for the job's result.

    Raises:
        CmetError: the job cannot be done; one sentence.
    """
    request = job.request
    spec = read_work({"kind": request["kind"], **request["parameters"]})
    job.clear("pieces", "lock")
    if (earlier := reuse.earlier(job)) is not None:
        return earlier
    job.results.mkdir()
    if isinstance(spec, RenderSpec):
        spec = like_source(spec)
    output = job.results
    if isinstance(spec, TrackSpec | RenderSpec | HearSpec | ExportSpec):
        output /= spec.output_name
    result = execute(
        spec, output, force=True, progress=progress, pieces=Segments(job.pieces), preview=Preview(job.preview)
    )
    if isinstance(spec, EditSpec):
        return {"figures": result.figures, "messages": result.messages}
    if isinstance(spec, RenderSpec):
        begins = {name: value for name, value in result.figures.items() if name == "begins"}
        return {"messages": result.messages, **begins}
    return {**result.figures, **({"messages": result.messages} if result.messages else {})}


def run_row(row: dict[str, Any], progress: Progress | None = None) -> dict[str, Any]:
    """Do one row of a batch.

    Args:
        row: the specification as `spec`, its `output`, and whether to `force`.
        progress: called as `progress(stage, done, total)`.

    Returns:
        `outputs`, `figures` and `messages` for the row's line.

    Raises:
        CmetError: the row cannot be done; one sentence.
    """
    spec, output = read_work(row["spec"]), Path(row["output"])
    output.parent.mkdir(parents=True, exist_ok=True)
    result = execute(spec, output, force=row["force"], progress=progress)
    return {"outputs": [str(path) for path in result.files.values()], **_line(spec, result)}


def _line(spec: Work, result: Result) -> dict[str, Any]:
    """What the line of a row says of its result; of a rig's work the numbers alone."""
    figures = result.figures
    if not isinstance(spec, EditSpec | TrackSpec):
        figures = {name: value for name, value in figures.items() if isinstance(value, int | float)}
    return {"figures": figures, "messages": result.messages}


class _Events:
    """Writes events, and progress at most every `EVENT_INTERVAL`.

    Args:
        file: where they go, line by line.
    """

    def __init__(self, file: Any) -> None:
        self._file = file
        self._last = 0.0

    def progress(self, stage: str, done: int, total: int | None) -> None:
        """Write where the work stands, if the last time was long enough ago."""
        now = time.monotonic()
        if now - self._last >= EVENT_INTERVAL or done == total:
            self._last = now
            self.write({"stage": stage, "done": done, "total": total})

    def write(self, event: dict[str, Any]) -> None:
        """Write one event."""
        print(json.dumps(event, default=str), file=self._file)


def main() -> None:
    """Do tasks until standard input closes."""
    events = _Events(os.fdopen(os.dup(sys.stdout.fileno()), "w", buffering=1))
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # what libraries print must not mix with the events
    tasks: queue.Queue[str] = queue.Queue()

    def read_tasks() -> None:
        for line in sys.stdin:
            tasks.put(line)
        os._exit(0)

    threading.Thread(target=read_tasks, daemon=True).start()
    scrubber = Scrubber()
    while True:
        task = json.loads(tasks.get())
        if "folder" in task:
            answer = _attempt_job(Job(Path(task["folder"])), events.progress)
        elif "row" in task:
            answer = attempt(run_row, task["row"], events.progress)
        else:
            asked = CurvesSpec if task["want"] == "curves" else LiveSpec
            answer = attempt(getattr(scrubber, task["want"]), asked.read(task["live"]))
        events.write(answer)
        if "live" not in task:  # the next of those follows at once, and would wait for it
            give_memory_back()


def _attempt_job(job: Job, progress: Progress) -> dict[str, Any]:
    """`attempt` a job while holding its lock, with what is logged going to its log."""
    with contextlib.ExitStack() as stack:
        # the worker of an engine that was killed may take a moment to be gone
        stack.enter_context(exclusive(job.folder / "lock"))
        handler = logging.StreamHandler(stack.enter_context((job.folder / "log.txt").open("a", encoding="utf-8")))
        handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
        logging.getLogger().addHandler(handler)
        stack.callback(logging.getLogger().removeHandler, handler)
        return attempt(run_job, job, progress)


def give_memory_back() -> None:
    """Free what a job left: cycles of small objects that hold frames and buffers of C libraries, and the freed pages."""
    gc.collect()
    if sys.platform.startswith("linux"):
        with contextlib.suppress(OSError, AttributeError):  # a C library other than glibc has no malloc_trim
            ctypes.CDLL(None).malloc_trim(0)


def attempt(work: Callable[..., dict[str, Any]], *arguments: Any) -> dict[str, Any]:
    """`{"result": …}` of the work, or `{"error": one sentence}`; the fault itself goes to the log."""
    try:
        return {"result": work(*arguments)}
    except CmetError as error:
        return {"error": str(error)}
    except MemoryError:
        return {"error": "The machine ran out of memory during this work."}
    except Exception as error:
        logging.exception("internal fault")
        return {"error": f"An internal fault stopped the work ({type(error).__name__}: {error})."}


if __name__ == "__main__":
    main()
