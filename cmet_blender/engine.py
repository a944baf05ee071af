"""The engine as Blender sees it: found or started, asked, watched, restarted after a crash, ended with Blender.

Threading contract: everything here may be called from any thread and nothing here touches `bpy`. No call waits longer
than the client's time-out (5 s); `start` returns at once, and `ready` says when the engine answers.
"""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cmet_engine
from cmet_engine.errors import CmetError

ADDRESS_FILE = "engine.json"
LOG_FILE = "engine.log"
START_SECONDS = 60.0  # a cold start imports FastAPI from a slow disk; longer means that something is wrong
FINISHED = ("done", "failed", "cancelled")
RESTARTS = 3  # a job that takes the engine down more often is given up
DYING_SECONDS = 1.0  # from closing its port to being gone
PATIENCE = 6  # tries of a question that an engine just started may be too slow for, 5 s each


@dataclass(frozen=True)
class Finding:
    """One thing that was checked: whether it is well, and what to do if not."""

    ok: bool
    text: str


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
        self._client: Any = None
        self._deaths: dict[str, int] = {}

    # Life

    def start(self) -> None:
        """Use the engine that runs on this folder, or start one; returns at once, see `ready`.

        Raises:
            CmetError: the Python program is missing or cannot be run.
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
                    command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=self._environment()
                )
        except OSError as error:
            raise CmetError(
                f"The engine's Python '{self.python}' cannot be started ({error.strerror}); set its path in the add-on's preferences."
            ) from error
        self._started = time.monotonic()

    def _environment(self) -> dict[str, str]:
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
            CmetError: it ended while starting, or did not answer in time; the message holds its own last words.
        """
        if self._client is None and (self.folder / ADDRESS_FILE).is_file():
            from cmet_engine.client import Client

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
                raise CmetError(f"The engine ended while starting: {self.last_words()}")
            if time.monotonic() - self._started > START_SECONDS:
                self.stop()
                raise CmetError(f"The engine did not answer within {START_SECONDS:.0f} s: {self.last_words()}")
        return False

    def wait(self, seconds: float = START_SECONDS) -> None:
        """Wait until the engine answers: for work without a window.

        Raises:
            CmetError: see `ready`.
        """
        end = time.monotonic() + seconds
        while not self.ready():
            if time.monotonic() > end:
                raise CmetError(f"The engine did not answer within {seconds:.0f} s: {self.last_words()}")
            time.sleep(0.1)

    @property
    def alive(self) -> bool:
        """Whether the process that this object started still runs."""
        return self._process is not None and self._process.poll() is None

    def _lives(self) -> bool:
        """Like `alive`, for an engine that just fell silent: one that is being killed takes a moment to be gone."""
        if self._process is None:
            return False
        try:
            self._process.wait(timeout=DYING_SECONDS)
        except subprocess.TimeoutExpired:
            return True
        return False

    def stop(self) -> None:
        """End the engine that this object started; one started by another is left alone."""
        process, self._process, self._client = self._process, None, None
        if process is None:
            return
        process.terminate()
        try:
            process.wait(timeout=5)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    def last_words(self) -> str:
        """The last line of the engine's log."""
        try:
            lines = (self.folder / LOG_FILE).read_text("utf-8", "replace").strip().splitlines()
        except OSError:
            lines = []
        words = lines[-1].strip() if lines else "it said nothing."
        if "No module named" in words:
            words += (
                f". The Python '{self.python}' has no C-MET; install it there or choose another in the preferences."
            )
        return words

    # Work

    def _connected(self) -> Any:
        if not self.ready():
            raise CmetError("The engine is starting." if self.alive else "The engine is not running; start it first.")
        return self._client

    def _ask(self, what: str, *arguments: Any, **options: Any) -> Any:
        client = self._connected()
        try:
            return getattr(client, what)(*arguments, **options)
        except CmetError:
            # gone for good, or only this request refused?
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

    def emotions(self) -> list[dict[str, Any]]:
        """Names and reliability of the library's emotions; the first question loads it and may take a while."""
        for attempt in range(PATIENCE):
            try:
                return self._ask("emotions")
            except CmetError:
                if attempt == PATIENCE - 1 or not (self.alive or self._answers()):
                    raise
        raise AssertionError  # not reached: the last attempt raises

    def _answers(self) -> bool:
        try:
            return bool(self._ask("health"))
        except CmetError:
            return False

    def submit(self, kind: str, *arguments: Any, **parameters: Any) -> str:
        """Queue a job: `track`, `edit`, `render` or `vector` with the arguments of the client; returns its id."""
        if kind not in ("track", "edit", "render", "vector"):
            raise CmetError(f"'{kind}' is not a kind of job.")
        return self._ask(kind, *arguments, **parameters)["id"]

    def poll(self, identity: str) -> dict[str, Any]:
        """Where a job stands: `state`, `stage`, `done`, `total`, `eta_seconds`, `error`, `files`."""
        return self._ask("job", identity)

    def look(self, identity: str) -> dict[str, Any] | None:
        """Like `poll`; an engine that died is started again and goes on with the job: None until it answers.

        Raises:
            CmetError: the engine refuses, or died `RESTARTS` times during this job.
        """
        try:
            state = self.poll(identity)
        except CmetError:
            self._client = None  # is there really nobody?
            if self._lives() or self._deaths.get(identity, 0) >= RESTARTS:
                raise
            self._process = None  # its end is known: `start` need not report it
            self._deaths[identity] = self._deaths.get(identity, 0) + 1
            self.start()
            self.wait()
            return None
        return state

    def cancel(self, identity: str) -> None:
        """Stop a job; when this returns nothing works on it."""
        self._ask("cancel", identity)

    def run(self, kind: str, *arguments: Any, progress: Any = None, **parameters: Any) -> dict[str, Any]:
        """Start if need be, submit, wait and return the finished state: for work without a window.

        Raises:
            CmetError: the job failed; with its own sentence.
        """
        self.start()
        self.wait()
        identity = self.submit(kind, *arguments, **parameters)
        try:
            while (state := self.look(identity)) is None or state["state"] not in FINISHED:
                if progress and state is not None:
                    progress(state["stage"] or "waiting", state["done"], state["total"])
                time.sleep(0.3)
        except BaseException:
            if self.alive:
                self.cancel(identity)
            raise
        return finished(state)


class Recorder:
    """Records a voice in a process of the engine's Python; answers as an `Engine` does, so that a job can watch it.

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
        """Nothing to tell: it is no engine."""
        return {}

    def submit(self, kind: str, path: str | Path, *, seconds: float) -> str:
        """Begin to record into a .wav file.

        Raises:
            CmetError: the engine's Python cannot be started.
        """
        self._path, self._seconds, self._end = Path(path), seconds, time.monotonic() + seconds + self.SLACK
        command = [self._engine.python, "-m", "cmet_engine.cli", kind, "-o", str(path)]
        command += ["--seconds", f"{seconds:g}", "--json"]
        self._log = tempfile.TemporaryFile("w+", encoding="utf-8")  # noqa: SIM115 - lives as long as the process
        try:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=self._log,
                env=self._engine._environment(),
                text=True,
            )
        except OSError as error:
            raise CmetError(
                f"The engine's Python '{self._engine.python}' cannot be started ({error.strerror}); set its path in the "
                "add-on's preferences."
            ) from error
        return str(self._process.pid)

    def look(self, identity: str) -> dict[str, Any]:
        """Where the recording stands, in the words of a job; the stage tells the level."""
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
        heard = [json.loads(line) for line in lines if line.startswith("{") and line.endswith("}")]
        if heard:
            state["stage"] = f"level {heard[-1]['level']:.0f} dB"
            state["done"] = round(10 * heard[-1]["seconds"])
            state["eta_seconds"] = self._seconds - heard[-1]["seconds"]
        if status is None and time.monotonic() > self._end:
            self.cancel(identity)
            return {**state, "state": "failed", "error": "The microphone did not answer in time; choose another."}
        if self._cancelled:
            return {**state, "state": "cancelled"}
        if status == 0:
            return {**state, "state": "done", "files": {self._path.name: str(self._path)}}
        if status is not None:
            words = next((line for line in reversed(lines) if line.startswith("cmet: ")), "")
            error = words.removeprefix("cmet: ") or (lines[-1] if lines else "The recording ended without a word.")
            return {**state, "state": "failed", "error": error}
        return state

    def cancel(self, identity: str) -> None:
        """Stop recording; nothing is kept."""
        self._cancelled = True
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(signal.SIGINT if os.name == "posix" else signal.SIGTERM)
            try:
                self._process.wait(timeout=3)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()

    def run(self, kind: str, path: str | Path, *, seconds: float) -> dict[str, Any]:
        """Record and wait.

        Raises:
            CmetError: it failed; with its own sentence.
        """
        identity = self.submit(kind, path, seconds=seconds)
        try:
            while (state := self.look(identity))["state"] not in FINISHED:
                time.sleep(0.1)
        except BaseException:
            self.cancel(identity)
            raise
        return finished(state)


def free_port(ports: tuple[int, int]) -> int:
    """The first free port of a range on loopback; 0, which lets the system choose, for (0, 0).

    Raises:
        CmetError: all of them are in use.
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
    raise CmetError(
        f"The ports {first} to {max(first, last)} are all in use; choose others in the add-on's preferences."
    )


def finished(state: dict[str, Any]) -> dict[str, Any]:
    """The state of a job that is done.

    Raises:
        CmetError: it failed or was cancelled.
    """
    if state["state"] == "done":
        return state
    raise CmetError(
        state.get("error")
        or ("The job was cancelled." if state["state"] == "cancelled" else "The job failed without a word.")
    )


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


def check(engine: Engine) -> list[Finding]:
    """What works and what does not, for the preferences' Check button; starts nothing that stays."""
    findings = []
    python = Path(engine.python)
    found = python if python.is_file() else Path(shutil.which(engine.python) or "")
    if not found.is_file():
        return [
            Finding(
                False, f"The Python program '{engine.python}' does not exist; choose the one where C-MET is installed."
            )
        ]
    script = (
        "import json,sys\n"
        "try:\n import cmet_engine; v=cmet_engine.__version__\nexcept ImportError: v=None\n"
        "import importlib.util as u\n"
        "print(json.dumps([list(sys.version_info[:2]), v, [m for m in ('torch','mediapipe','av','fastapi','uvicorn') if u.find_spec(m) is None]]))"
    )
    try:
        result = subprocess.run(
            [str(found), "-c", script],
            capture_output=True,
            text=True,
            timeout=60,
            env=engine._environment(),
            check=False,
        )
        version, installed, missing = json.loads(result.stdout.strip().splitlines()[-1])
    except (OSError, ValueError, IndexError, subprocess.TimeoutExpired) as error:
        return [Finding(False, f"'{found}' does not run as Python ({error}).")]
    findings.append(
        Finding(
            version >= [3, 11],
            f"Python {version[0]}.{version[1]}" + ("" if version >= [3, 11] else "; the engine needs 3.11 or newer"),
        )
    )
    if installed is None:
        findings.append(Finding(False, f"C-MET is not installed in {found}; run there: python -m pip install cmet"))
    else:
        mismatch = version_mismatch(installed)
        findings.append(Finding(not mismatch, mismatch or f"C-MET {installed}"))
    if missing:
        findings.append(
            Finding(
                False,
                f"Packages are missing: {', '.join(missing)}; run there: python -m pip install {' '.join(missing)}",
            )
        )
    try:
        engine.folder.mkdir(parents=True, exist_ok=True)
        writable = os.access(engine.folder, os.W_OK)
    except OSError:
        writable = False
    findings.append(
        Finding(writable, f"Folder {engine.folder}" + ("" if writable else " cannot be written; choose another"))
    )
    try:
        running = engine.ready()
    except CmetError as error:
        findings.append(Finding(False, str(error)))
    else:
        findings.append(
            Finding(
                True, "The engine is running" if running else "The engine is not running; it starts with the first job"
            )
        )
    return findings
