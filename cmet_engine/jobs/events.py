"""What the engine did, as JSON lines for machines: `<root>/log.jsonl`, the one before as `log.1.jsonl`.

Each line holds `time` (UTC), `event` (queued, started, stage, retried, done, failed, cancelled), `job`, `kind`, `client`, and
what the event brings: `stage` and the `seconds` it took, the `error`.
"""

import contextlib
import datetime
import json
import threading
from pathlib import Path

from cmet_engine.jobs.store import Job

MOST = 16 << 20  # bytes of one file


class Events:
    """Writes events of jobs; a disk that takes no more costs lines, never a job.

    Args:
        path: the file.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()

    def __call__(self, event: str, job: Job, **about: object) -> None:
        """Write a line."""
        request = job.request
        now = datetime.datetime.now(datetime.UTC).isoformat(timespec="milliseconds")
        line = {
            "time": now,
            "event": event,
            "job": job.id,
            "kind": request["kind"],
            "client": request["client"],
            **about,
        }
        with self._lock, contextlib.suppress(OSError):
            if self._path.exists() and self._path.stat().st_size > MOST:
                self._path.replace(self._path.with_suffix(".1.jsonl"))
            with self._path.open("a", encoding="utf-8") as file:
                file.write(json.dumps(line) + "\n")
