"""Real engine processes for tests: started, killed, asked."""

import contextlib
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from media_data import checksum
from running_engine import RunningEngine
from short_clips import small

from cmet_engine.client import Client

FRAMES = 100
FINISHED = ("done", "failed", "cancelled")


class Engine(RunningEngine):
    """A running engine with a user folder (cache, library) of its own, and what jobs do in it.

    It may read what lies in `folder` and beside `clip`.
    """

    def __init__(self, folder: Path, clip: Path) -> None:
        super().__init__(folder, environment={"CMET_HOME": str(folder / "home")})
        self.clip, self.allow = clip, [folder, clip.parent]
        self.start()

    def start(self) -> Client:
        super().start()
        self.asker = self.client("test")
        self.asker.health()
        return self.asker

    def wait(self, condition: Callable[[], Any], seconds: float = 120) -> None:
        end = time.monotonic() + seconds
        while not condition():
            assert self.process and self.process.poll() is None, "the engine ended"
            assert time.monotonic() < end, "waited in vain"
            time.sleep(0.05)

    def reaches(self, job: str, stage: str, done: int) -> None:
        """Wait until a running job has come so far; it must not be finished before."""

        def there() -> bool:
            state = self.asker.job(job)
            assert state["state"] not in FINISHED, state
            return state["stage"] == stage and state["done"] >= done

        self.wait(there)

    def finished(self, job: str) -> dict[str, Any]:
        state: dict[str, Any] = {}

        def there() -> bool:
            state.update(self.asker.job(job))
            return state["state"] in FINISHED

        self.wait(there)
        return state

    def workers(self) -> list[int]:
        """Processes that this engine started."""
        assert self.process
        found = []
        for stat in Path("/proc").glob("[0-9]*/stat"):
            with contextlib.suppress(OSError):
                fields = stat.read_text().rsplit(")", 1)[1].split()
                if int(fields[1]) == self.process.pid and fields[0] != "Z":
                    found.append(int(stat.parent.name))
        return found

    def kill_workers(self) -> None:
        for pid in self.workers():
            os.kill(pid, signal.SIGKILL)

    def job_folder(self, job: str) -> Path:
        return self.root / "jobs" / job


def long_take(folder: Path, frames: int = FRAMES) -> Path:
    """Four seconds of the sample, 192 pixels high and silent: more than one segment, little work."""
    return small(folder / "take.mp4", frames=frames, size=192, silent=True)


def digest(files: dict[str, str]) -> dict[str, str]:
    """Checksums of results by name, signatures left out."""
    return {name: checksum(path) for name, path in files.items()}


def gone(pid: int) -> bool:
    """Whether a process has ended."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] == "Z"
    except OSError:
        return True
