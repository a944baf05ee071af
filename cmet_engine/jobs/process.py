"""A worker process as its engine or batch sees it."""

import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Callable
from typing import Any

from cmet_engine.processes import group_options, kill_group

IDLE_SECONDS = 120.0  # a warm worker is let go after this long without work; with it goes all GPU memory
NO_GPU = {"CUDA_VISIBLE_DEVICES": ""}  # for workers that must not take memory from the one that renders


class Worker:
    """One warm worker process; it and all its children form a process group of their own."""

    def __init__(self, environment: dict[str, str] | None = None) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "cmet_engine.jobs.worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            env={**os.environ, **(environment or {})},
            **group_options(),
        )

    def ask(
        self, task: dict[str, Any], on_progress: Callable[[dict[str, Any]], None] | None = None
    ) -> dict[str, Any] | None:
        """Have a task done and wait for it.

        Args:
            task: `{"folder": …}` for a job, `{"row": …}` for a row of a batch, `{"live": …}` for a moment of a clip.
            on_progress: called with every progress event.

        Returns:
            `{"result": …}` or `{"error": sentence}`; None when the process ended before it answered.
        """
        assert self.process.stdin and self.process.stdout
        with contextlib.suppress(OSError, ValueError):  # a killed worker's pipes may be closed under our hands
            self.process.stdin.write(json.dumps(task) + "\n")
            self.process.stdin.flush()
            for line in self.process.stdout:
                event = json.loads(line)
                if "stage" not in event:
                    return event
                if on_progress:
                    on_progress(event)
        return None

    def kill(self) -> None:
        """End the process group at once and wait for it."""
        kill_group(self.process)
        for pipe in (self.process.stdin, self.process.stdout):
            if pipe:
                with contextlib.suppress(OSError):
                    pipe.close()
