"""Records a voice in a process of the engine's Python."""

import contextlib
import json
import os
import signal
import subprocess
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cmet_engine.errors import MissingWeights
from cmet_engine.processes import group_options, kill_group

from .engine import FINISHED, Engine, finished


class Recorder:
    """Records a voice; has the methods of an `Engine` that watch a job.

    Args:
        engine: whose Python is used; it need not run.
    """

    SLACK = 30.0  # seconds beyond the recording's length after which something is wrong

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._process: subprocess.Popen[str] | None = None
        self._seconds = self._end = 0.0
        self._path = Path()
        self._log: Any = None
        self._cancelled = False

    def start(self) -> None:
        """Nothing to start beforehand."""

    def ready(self) -> bool:
        """Always."""
        return True

    def health(self) -> dict[str, Any]:
        """Empty: it is no engine."""
        return {}

    def submit(self, request: Mapping[str, Any]) -> str:
        """Begin to record.

        Args:
            request: `kind` is `record`, `path` a .wav file that does not exist yet, `seconds` the length.

        Raises:
            MissingWeights: the engine's Python cannot be started.
        """
        self._path, self._seconds = Path(request["path"]), request["seconds"]
        self._end = time.monotonic() + self._seconds + self.SLACK
        command = [self._engine.python, "-m", "cmet_engine.cli", request["kind"], "-o", str(self._path)]
        command += ["--seconds", f"{self._seconds:g}", "--json"]
        self._log = tempfile.TemporaryFile("w+", encoding="utf-8")  # noqa: SIM115 - lives as long as the process
        try:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=self._log,
                env=self._engine.environment(),
                text=True,
                **group_options(),
            )
        except OSError as error:
            raise MissingWeights(
                f"The engine's Python '{self._engine.python}' cannot be started ({error.strerror}); set its path in the "
                "add-on's preferences."
            ) from error
        return str(self._process.pid)

    def watch(self, identity: str) -> dict[str, Any]:
        """Where the recording stands, as the state of a job; the stage holds the level."""
        assert self._process is not None
        status = self._process.poll()
        self._log.seek(0)
        lines = self._log.read().strip().splitlines()
        state = {
            "state": "running",
            "stage": "waiting for the microphone",
            "done": 0,
            "total": round(10 * self._seconds),
            "eta_seconds": None,
            "error": None,
            "files": {},
        }
        levels = [json.loads(line) for line in lines if line.startswith("{") and line.endswith("}")]
        if levels:
            state["stage"] = f"level {levels[-1]['level']:.0f} dB"
            state["done"] = round(10 * levels[-1]["seconds"])
            state["eta_seconds"] = self._seconds - levels[-1]["seconds"]
        if status is None and time.monotonic() > self._end:
            self.cancel(identity)
            return {**state, "state": "failed", "error": "The microphone did not answer in time; choose another."}
        if self._cancelled:
            return {**state, "state": "cancelled"}
        if status == 0:
            return {**state, "state": "done", "files": {self._path.name: str(self._path)}}
        if status is not None:
            sentence = next((line for line in reversed(lines) if line.startswith("cmet: ")), "")
            error = sentence.removeprefix("cmet: ") or (
                lines[-1] if lines else "The recording ended, and its program gave no reason."
            )
            return {**state, "state": "failed", "error": error}
        return state

    def cancel(self, identity: str) -> None:
        """Stop recording; nothing is kept."""
        self._cancelled = True
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(signal.SIGINT if os.name == "posix" else signal.SIGTERM)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(timeout=3)
            kill_group(self._process)

    def run(self, request: Mapping[str, Any]) -> dict[str, Any]:
        """Record and wait; see `submit`.

        Raises:
            CmetError: it failed; with its own sentence.
        """
        identity = self.submit(request)
        try:
            while (state := self.watch(identity))["state"] not in FINISHED:
                time.sleep(0.1)
        except BaseException:
            self.cancel(identity)
            raise
        return finished(state)
