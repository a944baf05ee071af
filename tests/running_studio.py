"""A real `cmet studio` for tests: started, killed, started again in the same folder; and a real browser."""

import contextlib
import http.client
import json
import os
import select
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

CHROMIUM = ("chromium", "chromium-browser", "google-chrome")
START_SECONDS = 180


class RunningStudio:
    """`cmet studio` over a folder of its own: `films` (what it may use) and `home`."""

    def __init__(self, folder: Path) -> None:
        self.films, self.home = folder / "films", folder / "home"
        self.films.mkdir(parents=True, exist_ok=True)
        self.process: subprocess.Popen[str] | None = None
        self.blender = self._blender(folder / "blender")
        self.address = ""

    def start(self, clip: Path | None = None) -> str:
        """Start it; the address that works once."""
        command = [sys.executable, "-m", "cmet_engine.cli", "studio", *([str(clip)] if clip else [])]
        command += ["--allow", str(self.films), "--no-browser", "--blender", str(self.blender)]
        environment = {**os.environ, "CMET_HOME": str(self.home)}
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)
        assert self.process.stdout
        ready, _, _ = select.select([self.process.stdout], [], [], START_SECONDS)
        self.address = self.process.stdout.readline().strip() if ready else ""
        assert self.address.startswith("http://127.0.0.1:"), "the studio did not start"
        return self.address

    @staticmethod
    def _blender(program: Path) -> Path:
        """A program that runs scripts as `blender --python SCRIPT` does, by the package bpy: without a window, and it ends."""
        run = "import bpy, runpy, sys; runpy.run_path(sys.argv[2], run_name='__main__')"
        program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -c "{run}" "$@"\n')
        program.chmod(0o755)
        return program

    @property
    def port(self) -> int:
        """Where it listens."""
        return int(self.address.split(":")[2].split("/")[0])

    @property
    def engine_pid(self) -> int:
        """The process of its engine."""
        return int(json.loads((self.home / "studio" / "engine" / "engine.json").read_text())["pid"])

    def project(self) -> dict[str, Any]:
        """The only project, as it is saved."""
        (path,) = (self.home / "studio" / "projects").glob("[!.]*.json")
        return json.loads(path.read_text())

    def kill(self) -> None:
        """kill -9, as a crash would."""
        assert self.process
        self.process.send_signal(signal.SIGKILL)
        self.process.wait(20)

    def stop(self) -> None:
        """End it in order."""
        if self.process and self.process.poll() is None:
            self.process.terminate()
            self.process.wait(timeout=20)

    def raw(
        self, method: str, path: str, headers: dict[str, str] | None = None, body: Any = None
    ) -> tuple[int, dict[str, str], bytes]:
        """One request as it stands: status, headers, body."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)
        try:
            connection.request(method, path, body, headers or {})
            response = connection.getresponse()
            return response.status, {k.lower(): v for k, v in response.getheaders()}, response.read()
        finally:
            connection.close()


@contextlib.contextmanager
def chromium() -> Iterator[Any]:
    """The system's Chromium without a window; skips where there is none."""
    playwright = pytest.importorskip("playwright.sync_api", reason="needs the package playwright (the extra 'dev')")
    program = next(filter(None, map(shutil.which, CHROMIUM)), None)
    if program is None:
        pytest.skip("needs Chromium, which is not on this machine")
    with playwright.sync_playwright() as started:
        browser = started.chromium.launch(executable_path=program, args=["--no-sandbox", "--disable-gpu"])
        try:
            yield browser
        finally:
            browser.close()


def until(true: Any, seconds: float = 300.0) -> None:
    """Wait until `true()`."""
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.05)
