"""The engine as the studio sees it: found or started, asked, and started again after a crash."""

import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from cmet_engine.client import Client
from cmet_engine.errors import Busy, CmetError
from cmet_engine.processes import group_options, kill_group

ADDRESS_FILE, LOG_FILE = "engine.json", "engine.log"
START_SECONDS = 60.0  # a cold start imports FastAPI from a slow disk; longer means that something is wrong
READY_SECONDS = 30.0  # for an engine that answers that it is getting ready
CLIENT = "studio"


class EngineLink:
    """One engine, started when it is first asked; safe to use from several threads.

    Args:
        root: the engine's folder; made when absent. An engine that runs there already is used.
        allow: folders whose files it may read.
    """

    def __init__(self, root: Path, allow: list[Path]) -> None:
        self.root, self.allow = root, allow
        self._process: subprocess.Popen[bytes] | None = None
        self._client: Client | None = None
        self._lock = threading.Lock()

    def ask(self, question: Callable[[Client], Any]) -> Any:
        """What the engine answers to `question(client)`; one that is gone is started again, and asked once more.

        Raises:
            CmetError: it refuses, or cannot be started.
        """
        client = self._running()
        try:
            return question(client)
        except CmetError as error:
            if type(error) is not CmetError or self._answers(client):
                raise  # it lives, and said no
        return question(self._running(instead_of=client))

    def patiently(self, question: Callable[[Client], Any]) -> Any:
        """`ask`, again while the engine says that it is getting ready."""
        until = time.monotonic() + READY_SECONDS
        while True:
            try:
                return self.ask(question)
            except Busy:
                if time.monotonic() > until:
                    raise
                time.sleep(0.1)

    def stop(self) -> None:
        """End the engine that was started here."""
        with self._lock:
            if self._process:
                kill_group(self._process)
            self._process = self._client = None

    @staticmethod
    def _answers(client: Client) -> bool:
        try:
            client.health()
        except CmetError:
            return False
        return True

    def _running(self, instead_of: Client | None = None) -> Client:
        """A client of an engine that runs; of another one than `instead_of`, which does not answer."""
        with self._lock:
            if self._client is None or self._client is instead_of:
                self._client = self._found() or self._started()
            return self._client

    def _found(self) -> Client | None:
        try:
            client = Client.from_file(self.root / ADDRESS_FILE, CLIENT)
        except CmetError:
            return None
        return client if self._answers(client) else None

    def _started(self) -> Client:
        if self._process:
            kill_group(self._process)
        self.root.mkdir(parents=True, exist_ok=True, mode=0o700)
        address = self.root / ADDRESS_FILE
        address.unlink(missing_ok=True)
        command = [
            sys.executable,
            "-m",
            "cmet_engine.cli",
            "serve",
            "--root",
            str(self.root),
            "--token-file",
            str(address),
        ]
        command += ["--parent", str(os.getpid()), *(word for folder in self.allow for word in ("--allow", str(folder)))]
        with (self.root / LOG_FILE).open("wb") as log:
            self._process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, **group_options()
            )
        until = time.monotonic() + START_SECONDS
        while time.monotonic() < until:
            if (client := self._found()) is not None:
                return client
            if self._process.poll() is not None:
                break
            time.sleep(0.05)
        lines = (self.root / LOG_FILE).read_text("utf-8", "replace").strip().splitlines() or ["it does not answer"]
        raise CmetError(f"The engine cannot be started: {lines[-1].removeprefix('cmet: ').rstrip('.')}.")
