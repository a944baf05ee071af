"""A real `cmet serve` for tests: started, killed, started again in the same folder."""

import contextlib
import http.client
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from cmet_engine.client import Client


class RunningEngine:
    """`cmet serve` over a folder of its own; it ends with the tests.

    Args:
        folder: made when absent; holds `root` (the engine's), `films` (what clients may use) and the address.
        slots: how many jobs run at the same time.
        environment: variables for the engine and its workers.
    """

    def __init__(self, folder: Path, slots: int = 1, environment: dict[str, str] | None = None) -> None:
        self.folder, self.slots = folder, slots
        self.root, self.films, self.token_file = folder / "root", folder / "films", folder / "engine.json"
        self.allow = [self.films]
        self.films.mkdir(parents=True, exist_ok=True)
        self.environment = {**os.environ, "CMET_HOME": str(folder / "home"), **(environment or {})}
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> Client:
        """Start it, wait until it answers."""
        self.token_file.unlink(missing_ok=True)
        command = [
            sys.executable, "-m", "cmet_engine.cli", "serve", "--root", self.root, *(w for folder in self.allow for w in ("--allow", folder)),
            "--token-file", self.token_file, "--slots", self.slots, "--parent", os.getpid(),
        ]  # fmt: skip
        self.process = subprocess.Popen([str(word) for word in command], env=self.environment)
        deadline = time.monotonic() + 60
        while not self.token_file.exists():
            assert self.process.poll() is None and time.monotonic() < deadline, "the engine did not start"
            time.sleep(0.05)
        return self.client()

    def client(self, name: str = "") -> Client:
        """A client of the engine that runs now."""
        return Client.from_file(self.token_file, name)

    def kill(self) -> None:
        """kill -9, as a crash would."""
        assert self.process
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()

    def stop(self) -> None:
        """End it in order."""
        if self.process and self.process.poll() is None:
            self.process.terminate()
            self.process.wait(timeout=20)

    def memory(self) -> tuple[int, int]:
        """Bytes in use (RSS): by the engine itself, and by the largest of its workers."""
        assert self.process
        return memory_of(self.process.pid), max(map(memory_of, children_of(self.process.pid)), default=0)

    @property
    def token(self) -> str:
        """The secret of this start."""
        return str(json.loads(self.token_file.read_text())["token"])

    @property
    def port(self) -> int:
        """Where it listens."""
        return int(json.loads(self.token_file.read_text())["url"].split(":")[2].split("/")[0])

    def raw(self, method: str, path: str, headers: dict[str, str] | None = None, body: Any = None) -> tuple[int, bytes]:
        """One request as it stands; without `headers` the right token is sent."""
        if headers is None:
            headers = {"Authorization": f"Bearer {self.token}", "Content-Type": "application/json"}
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
        try:
            connection.request(method, path, body, headers)
            response = connection.getresponse()
            return response.status, response.read()
        finally:
            connection.close()


def memory_of(pid: int) -> int:
    """Bytes in use (RSS) by a process; 0 when it is gone."""
    try:
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, IndexError):
        return 0


def children_of(pid: int) -> list[int]:
    """Processes that a process started and that are still there."""
    found: list[int] = []
    for path in Path(f"/proc/{pid}/task").glob("*/children"):
        with contextlib.suppress(OSError):
            found += map(int, path.read_text().split())
    return found


def refusal(answer: bytes) -> str:
    """The sentence of an answer that refuses, checked."""
    document = json.loads(answer)
    assert list(document) == ["error"]
    return one_sentence(document["error"])


def one_sentence(sentence: str) -> str:
    """A sentence for users, checked: one, without a traceback, a class name or a place in the code."""
    assert re.fullmatch(r"[\w'/.][^\n\r\x00]{5,4300}[.!]", sentence), sentence
    assert not re.search(r"Traceback|File \"|\.py\b|site-packages|object at 0x", sentence), sentence
    return sentence
