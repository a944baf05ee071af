"""Real engine processes for tests: started, killed, asked."""

import contextlib
import hashlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from cmet_engine.client import Client
from cmet_engine.errors import CmetError

SAMPLE = Path(__file__).parents[3] / "cmet_engine" / "assets" / "sample" / "talking_head.mp4"
FINISHED = ("done", "failed", "cancelled")


class Engine:
    """An engine on a folder of its own, with a user folder (cache, library) of its own beside it."""

    def __init__(self, folder: Path, *options: str) -> None:
        self.folder, self.options = folder, options
        self.root = folder / "root"
        self.process: subprocess.Popen[bytes] | None = None
        self.start()

    def start(self) -> None:
        address = self.folder / "engine.json"
        address.unlink(missing_ok=True)
        command = [sys.executable, "-m", "cmet_engine.cli", "serve", "--root", self.root, "--allow", SAMPLE.parent]
        command += ["--allow", self.folder, "--token-file", address, "--parent", os.getpid(), *self.options]
        environment = {**os.environ, "CMET_HOME": str(self.folder / "home")}
        self.process = subprocess.Popen([str(part) for part in command], env=environment)
        self.wait(address.exists, 60)
        self.client = Client.from_file(address, "test")
        self.client.health()

    def wait(self, condition: Callable[[], Any], seconds: float = 120) -> None:
        end = time.monotonic() + seconds
        while not condition():
            assert self.process is None or self.process.poll() is None, "the engine ended"
            assert time.monotonic() < end, "waited in vain"
            time.sleep(0.02)

    def reaches(self, job: str, stage: str, done: int) -> None:
        """Wait until a running job has come so far; it must not be finished before."""

        def there() -> bool:
            state = self.client.job(job)
            assert state["state"] not in FINISHED, state
            return state["stage"] == stage and state["done"] >= done

        self.wait(there)

    def finished(self, job: str) -> dict[str, Any]:
        state: dict[str, Any] = {}

        def there() -> bool:
            state.update(self.client.job(job))
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

    def kill(self) -> None:
        """kill -9."""
        assert self.process
        self.process.kill()
        self.process.wait()
        self.process = None

    def kill_workers(self) -> None:
        for pid in self.workers():
            os.kill(pid, signal.SIGKILL)

    def stop(self) -> None:
        if self.process:
            self.process.terminate()
            self.process.wait(timeout=20)
            self.process = None

    def job_folder(self, job: str) -> Path:
        return self.root / "jobs" / job


def digest(files: dict[str, str]) -> dict[str, str]:
    """Checksums of results by name."""
    return {name: hashlib.sha256(Path(path).read_bytes()).hexdigest() for name, path in files.items()}


def gone(pid: int) -> bool:
    """Whether a process has ended."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] == "Z"
    except OSError:
        return True


__all__ = ["FINISHED", "SAMPLE", "CmetError", "Engine", "digest", "gone"]
