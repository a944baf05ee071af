"""The engine as Blender sees it: found or started, asked, watched, restarted after a crash, stopped with Blender.

Threading contract: everything here may be called from any thread and nothing here touches `bpy`. No call waits longer
than the client's time-out (5 s); `start` returns at once, and `ready` tells whether the engine answers yet.
"""

import contextlib
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import cmet_engine
from cmet_engine.client import Client
from cmet_engine.errors import Busy, Cancelled, CmetError, InvalidInput, MissingWeights
from cmet_engine.processes import group_options, kill_group
from cmet_engine.progress import Progress

ADDRESS_FILE = "engine.json"
LOG_FILE = "engine.log"
START_SECONDS = 60.0  # a cold start imports FastAPI from a slow disk; longer means that something is wrong
FINISHED = ("done", "failed", "cancelled")
KINDS = ("faces", "track", "edit", "render", "hear", "vector")
RESTARTS = 3  # a job during which the engine ends more often is given up
EXIT_SECONDS = 1.0  # between closing its port and the end of its process; set by hand on Linux
ATTEMPTS = 6  # an engine that has just started may answer later than the client's time-out of 5 s


class Engine:
    """One engine process.

    Args:
        python: the Python program with the engine's packages; empty looks for `cmet` on the path, then this one.
        folder: where the engine keeps its jobs, its address and its log; made when absent. Default: a folder of this
            process among the temporary files.
        allow: folders whose files it may read.
        ports: first and last port on loopback that it may use; (0, 0) takes any free one.
        models: folder of models (`CMET_HOME`); None leaves the engine's own choice.
        online: the engine may reach the network (to fetch models on request).
        client: name under which jobs are queued.
    """

    def __init__(
        self,
        python: str | Path = "",
        *,
        folder: str | Path | None = None,
        allow: list[Path] | None = None,
        ports: tuple[int, int] = (0, 0),
        models: str | Path | None = None,
        online: bool = True,
        client: str = "blender",
    ) -> None:
        self.python = str(python) or find_python()
        self.folder = Path(folder) if folder else Path(tempfile.gettempdir()) / f"cmet-engine-{os.getpid()}"
        self.allow = allow or [Path.home()]
        self.ports = ports
        self.models = models
        self.online = online
        self._name = client
        self._process: subprocess.Popen[bytes] | None = None
        self._started = 0.0
        self._client: Client | None = None
        self._restarts: dict[str, int] = {}

    # Start and stop

    def start(self) -> None:
        """Use the engine that runs on this folder, or start one; returns at once, see `ready`.

        Raises:
            MissingWeights: the Python program is missing or cannot be run.
            Busy: every port of the range is in use.
        """
        if self.ready() or (self._process is not None and self._process.poll() is None):
            return
        self._client = None
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise CmetError(f"The engine's folder {self.folder} cannot be made: {error.strerror}.") from error
        (self.folder / ADDRESS_FILE).unlink(missing_ok=True)
        command = [self.python, "-m", "cmet_engine.cli", "serve", "--root", str(self.folder), "--token-file"]
        command += [str(self.folder / ADDRESS_FILE), "--parent", str(os.getpid()), "--port", str(free_port(self.ports))]
        for folder in dict.fromkeys([*map(str, self.allow), str(self.folder)]):
            command += ["--allow", folder]
        try:
            with (self.folder / LOG_FILE).open("wb") as log:
                self._process = subprocess.Popen(
                    command,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    env=self.environment(),
                    **group_options(),
                )
        except OSError as error:
            raise MissingWeights(
                f"The engine's Python '{self.python}' cannot be started ({error.strerror}); set its path in the add-on's preferences."
            ) from error
        self._started = time.monotonic()

    def environment(self) -> dict[str, str]:
        """Environment variables for a process of the engine's Python."""
        # Blender's own variables would send another Python to Blender's packages
        environment = {k: v for k, v in os.environ.items() if k not in ("PYTHONHOME", "PYTHONPATH", "PYTHONNOUSERSITE")}
        if "PYTHONPATH" in os.environ and Path(self.python).resolve() == Path(sys.executable).resolve():
            environment["PYTHONPATH"] = os.environ["PYTHONPATH"]
        if not self.online:
            environment["HF_HUB_OFFLINE"] = "1"
        if self.models:
            environment["CMET_HOME"] = str(self.models)
        return environment

    def ready(self) -> bool:
        """Whether the engine answers.

        Raises:
            CmetError: it ended while starting, or did not answer in time; the message holds the last line of its log.
        """
        if self._client is None and (self.folder / ADDRESS_FILE).is_file():
            try:
                client = Client.from_file(self.folder / ADDRESS_FILE, self._name)
                client.health()
                self._client = client
            except CmetError:
                self._client = None
        if self._client is not None:
            return True
        if self._process is not None:
            if self._process.poll() is not None:
                self._process = None
                raise CmetError(f"The engine ended while starting: {self.last_log_line()}")
            if time.monotonic() - self._started > START_SECONDS:
                self.stop()
                raise CmetError(f"The engine did not answer within {START_SECONDS:.0f} s: {self.last_log_line()}")
        return False

    def wait(self, seconds: float = START_SECONDS) -> None:
        """Wait until the engine answers: for work without a window.

        Raises:
            CmetError: see `ready`.
        """
        end = time.monotonic() + seconds
        while not self.ready():
            if time.monotonic() > end:
                raise CmetError(f"The engine did not answer within {seconds:.0f} s: {self.last_log_line()}")
            time.sleep(0.1)

    @property
    def alive(self) -> bool:
        """Whether the process that this object started still runs."""
        return self._process is not None and self._process.poll() is None

    def _is_running(self) -> bool:
        """Like `alive`, for an engine that has just stopped answering: a killed process takes a moment to end."""
        if self._process is None:
            return False
        try:
            self._process.wait(timeout=EXIT_SECONDS)
        except subprocess.TimeoutExpired:
            return True
        return False

    def stop(self) -> None:
        """End the engine that this object started; one started by another is left alone."""
        process, self._process, self._client = self._process, None, None
        if process is None:
            return
        if sys.platform != "win32":  # there it would leave the engine's workers behind
            process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(timeout=5)
        kill_group(process)

    def last_log_line(self) -> str:
        """The last line of the engine's log."""
        try:
            lines = (self.folder / LOG_FILE).read_text("utf-8", "replace").strip().splitlines()
        except OSError:
            lines = []
        line = lines[-1].strip() if lines else "the log is empty."
        if "No module named" in line:
            line += f". The Python '{self.python}' has no C-MET; set up the engine or choose another Python in the preferences."
        return line

    # Work

    def _connected(self) -> Client:
        if not self.ready() or self._client is None:
            raise CmetError("The engine is starting." if self.alive else "The engine is not running; start it first.")
        return self._client

    def _ask(self, what: str, *arguments: Any, **options: Any) -> Any:
        client = self._connected()
        try:
            return getattr(client, what)(*arguments, **options)
        except CmetError:
            # ended, or only this request refused?
            if self._process is not None and self._process.poll() is not None:
                self._process, self._client = None, None
                raise CmetError(
                    "The engine ended unexpectedly; nothing in the scene was changed. Start it again and the job goes on."
                ) from None
            raise

    def health(self) -> dict[str, Any]:
        """Version, device, memory, jobs; with `mismatch`, a sentence, when its version is not the add-on's."""
        answer = dict(self._ask("health"))
        answer["mismatch"] = version_mismatch(str(answer.get("version", "")))
        return answer

    def provenance(self, path: Path) -> dict[str, Any]:
        """Verify a file; see `Client.provenance`."""
        return self._ask("provenance", path)

    def seal(self, path: Path, **parameters: Any) -> list[str]:
        """Sign an exported file; see `Client.seal`."""
        return self._ask("seal", path, **parameters)

    def emotions(self) -> list[dict[str, Any]]:
        """Names and reliability of the library's emotions; an engine that has just started may answer late."""
        for attempt in range(ATTEMPTS):
            try:
                return self._ask("emotions")
            except CmetError:
                if attempt == ATTEMPTS - 1 or not (self.alive or self._answers()):
                    raise
        raise AssertionError  # not reached: the last attempt raises

    def _answers(self) -> bool:
        try:
            return bool(self._ask("health"))
        except CmetError:
            return False

    def submit(self, request: Mapping[str, Any]) -> str:
        """Queue a job; returns its id.

        Args:
            request: `kind` (one of `KINDS`) and fields of that specification in `cmet_engine.spec`.

        Raises:
            InvalidInput: the kind is unknown.
            CmetError: the engine refuses the request, or does not answer.
        """
        fields = dict(request)
        kind = fields.pop("kind", None)
        if kind not in KINDS:
            raise InvalidInput(f"'{kind}' is not a kind of job; use one of {', '.join(KINDS)}.")
        return self._ask(kind, **fields)["id"]

    def poll(self, identity: str) -> dict[str, Any]:
        """Where a job stands: `state`, `stage`, `done`, `total`, `eta_seconds`, `error`, `files`."""
        return self._ask("job", identity)

    def watch(self, identity: str) -> dict[str, Any] | None:
        """Like `poll`; an engine that ended is started again and goes on with the job: None until it answers.

        Raises:
            CmetError: the engine refuses, or ended `RESTARTS` times during this job.
        """
        try:
            state = self.poll(identity)
        except CmetError:
            self._client = None
            if self._is_running() or self._restarts.get(identity, 0) >= RESTARTS:
                raise
            self._process = None  # so that `start` does not report its end
            self._restarts[identity] = self._restarts.get(identity, 0) + 1
            self.start()
            self.wait()
            return None
        return state

    def cancel(self, identity: str) -> None:
        """Stop a job; when this returns nothing works on it."""
        self._ask("cancel", identity)

    def run(self, request: Mapping[str, Any], progress: Progress | None = None) -> dict[str, Any]:
        """Start if need be, submit, wait and return the finished state: for work without a window.

        Args:
            request: see `submit`.
            progress: called as `progress(stage, done, total)`; an exception raised in it cancels the job.

        Raises:
            CmetError: the job failed; with its own sentence.
        """
        self.start()
        self.wait()
        identity = self.submit(request)
        try:
            while (state := self.watch(identity)) is None or state["state"] not in FINISHED:
                if progress and state is not None:
                    progress(state["stage"] or "waiting", state["done"], state["total"])
                time.sleep(0.3)
        except BaseException:
            if self.alive:
                self.cancel(identity)
            raise
        return finished(state)


def free_port(ports: tuple[int, int]) -> int:
    """The first free port of a range on loopback; 0, which lets the system choose, for (0, 0).

    Raises:
        Busy: all of them are in use.
    """
    first, last = ports
    if first <= 0:
        return 0
    for port in range(first, max(first, last) + 1):
        with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
            try:
                probe.bind(("127.0.0.1", port))
                return port
            except OSError:
                continue
    raise Busy(f"The ports {first} to {max(first, last)} are all in use; choose others in the add-on's preferences.")


def finished(state: dict[str, Any]) -> dict[str, Any]:
    """The state of a job that is done.

    Raises:
        Cancelled: it was cancelled.
        CmetError: it failed.
    """
    if state["state"] == "done":
        return state
    if state["state"] == "cancelled":
        raise Cancelled(state.get("error") or "The job was cancelled.")
    raise CmetError(state.get("error") or "The job failed, and the engine gave no reason.")


def find_python() -> str:
    """The Python that runs `cmet`: the one beside a `cmet` program on the path, else this one."""
    program = shutil.which("cmet")
    if program:
        for name in ("python3", "python", "python.exe"):
            beside = Path(program).resolve().parent / name
            if beside.exists():
                return str(beside)
    return sys.executable


def version_mismatch(version: str) -> str:
    """A sentence when the engine's version does not go with the add-on's; empty when it does."""
    ours = cmet_engine.__version__
    if version.split(".")[:2] == ours.split(".")[:2]:
        return ""
    newer = "add-on" if version.split(".") > ours.split(".") else "engine"
    return f"The engine is version {version or 'unknown'}, the add-on {ours}; update the {newer} so that they agree."
