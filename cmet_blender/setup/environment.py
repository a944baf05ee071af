"""The engine's environment: made, repaired, updated and removed.

A folder made by Set Up Engine holds a marker, the log, and one environment. A new environment is made beside the one that is
there and takes its place once the engine in it has answered, so that a set-up that fails or is cancelled changes nothing.
"""

import contextlib
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cmet_engine.errors import Cancelled, CmetError, InvalidInput
from cmet_engine.files import exclusive, read_json, whole_file
from cmet_engine.processes import group_options, kill_group

from .plan import Plan
from .pythons import clean_environment, hidden

MARKER = "cmet-engine.json"
LOG = "setup.log"
LOCK = "setup.lock"
_ENVIRONMENT = re.compile(r"env-[a-z0-9_]{8}")  # what `tempfile` adds to the prefix
_OWN = (LOG, LOCK, MARKER)  # the marker is removed last

VENV = ("-m", "venv")  # arguments of Python that make an environment with pip in a folder
POLL_SECONDS = 0.2
MAKE_SECONDS = 600.0
PIP_SECONDS = 4 * 3600.0  # gigabytes over a slow line
DOCTOR_SECONDS = 900.0  # the first start compiles every module
STOP_SECONDS = 10.0

_FETCHING = re.compile(r"\s*(?:Downloading|Using cached) (\S+\.(?:whl|gz|zip)) \(([\d.]+) (bytes|kB|MB|GB)\)")
_LOCAL = re.compile(r"\s*Processing (.+\.whl)")
_BYTES = {"bytes": 1.0, "kB": 1e3, "MB": 1e6, "GB": 1e9}

_CAUSES = (
    (r"No matching distribution found for ([^\s;]+)", "{0} is not there for this system and Python 3.11"),
    (r"No space left on device|\[Errno 28\]|\[WinError 112\]", "the disk is full"),
    (r"CERTIFICATE_VERIFY_FAILED", "the certificate of the index is not trusted on this machine"),
    (
        r"NewConnectionError|NameResolutionError|ConnectTimeout|ReadTimeout|ProxyError|Failed to establish|Connection refused"
        r"|error sending request",
        "an index does not answer; check the network and its proxy",
    ),
    (r"DO NOT MATCH THE HASHES|HashMismatch", "a file arrived damaged"),
    (r"is not a supported wheel on this platform: *(.*)", "{0} is built for another system or Python"),
    (r"No module named '?(ensurepip|venv)'?", "its Python lacks {0} (on Debian and Ubuntu: python3.11-venv)"),
)  # what pip, uv and venv write, and what it means


@dataclass(frozen=True)
class Installed:
    """An engine that was set up.

    Attributes:
        folder: that the user chose.
        environment: the environment in it.
        version: of the engine.
    """

    folder: Path
    environment: Path
    version: str

    @property
    def python(self) -> Path:
        """The Python program that has the engine."""
        return python_of(self.environment)

    @property
    def whole(self) -> bool:
        """Whether its Python is there."""
        return self.python.is_file()


def python_of(environment: Path) -> Path:
    """The Python program of an environment."""
    return environment / ("Scripts/python.exe" if sys.platform == "win32" else "bin/python")


def installed(folder: Path) -> Installed | None:
    """The engine that was set up in a folder; None where there is none."""
    try:
        marker = read_json(folder / MARKER)
        name, version = str(marker["environment"]), str(marker["version"])
    except (CmetError, KeyError, TypeError):
        return None
    return Installed(folder, folder / name, version) if _ENVIRONMENT.fullmatch(name) else None


def installed_at(python: Path) -> Installed | None:
    """The engine whose Python program this is; None where it was not set up by Set Up Engine."""
    folders = list(python.parents)
    found = installed(folders[2]) if len(folders) > 2 else None
    return found if found is not None and found.python == python else None


def check_folder(folder: Path) -> None:
    """Refuse a folder that holds what Set Up Engine did not make.

    Raises:
        InvalidInput: it is a file, or holds other things.
    """
    if folder.exists() and not folder.is_dir():
        raise InvalidInput(f"{folder} is a file; choose a folder for the engine.")
    if folder.is_dir() and any(folder.iterdir()) and not (folder / MARKER).is_file():
        raise InvalidInput(f"{folder} holds other things; choose an empty folder, or a new one.")


def remove(folder: Path) -> str:
    """Remove what Set Up Engine made in a folder; other files in it stay. Returns what was done.

    Raises:
        InvalidInput: it was not made by Set Up Engine.
        Busy: an engine is being set up in it.
        CmetError: something in it is in use.
    """
    if not (folder / MARKER).is_file():
        raise InvalidInput(f"{folder} was not made by Set Up Engine; nothing was removed.")
    with exclusive(folder / LOCK, f"An engine is being set up in {folder}; nothing was removed."):
        _remove_environments(folder)
    if left := list(_environments(folder)):
        raise CmetError(f"{left[0]} is in use and could not be removed; close what uses it and try again.")
    for name in _OWN:
        (folder / name).unlink(missing_ok=True)
    if any(folder.iterdir()):
        return f"The engine in {folder} is removed; other files in that folder stay."
    folder.rmdir()
    return f"The engine in {folder} is removed."


def _environments(folder: Path) -> list[Path]:
    return [path for path in folder.iterdir() if _ENVIRONMENT.fullmatch(path.name) and not path.is_symlink()]


def _remove_environments(folder: Path, but: Path | None = None) -> None:
    for path in _environments(folder):
        if path != but:
            shutil.rmtree(path, ignore_errors=True)  # what is in use on Windows is removed the next time


class Setup:
    """One run of Set Up Engine; `start` works in a thread of its own, which touches no `bpy`.

    Attributes:
        stage: what is being done, for people.
        done, total: megabytes that are fetched; total is None where it is unknown.
        warnings: what the engine says about this machine, once it is set up.
        result: the engine, once it is set up.
        error: why it is not.
    """

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.stage, self.done, self.total = "looking at the folder", 0, None  # type: str, int, int | None
        self.warnings: list[str] = []
        self.result: Installed | None = None
        self.error: CmetError | None = None
        self._cancelled = threading.Event()
        self._thread: threading.Thread | None = None
        self._said = ""  # what the command that runs has written to the log
        self._fetched: dict[str, float] = {}  # bytes by file

    @property
    def log(self) -> Path:
        """The file with everything that pip and the others say."""
        return self.plan.folder / LOG

    def start(self) -> None:
        """Set up in the background; see `finished`, `result` and `error`."""
        self._thread = threading.Thread(target=self.work, name="cmet-setup", daemon=True)
        self._thread.start()

    @property
    def finished(self) -> bool:
        """Whether a set-up that was started is done, failed or cancelled."""
        return self.result is not None or self.error is not None

    def cancel(self) -> None:
        """Stop; returns at once, and what was made is removed before `finished`."""
        self._cancelled.set()

    def stop(self) -> None:
        """Cancel and wait, 10 s at the most: when Blender ends."""
        self.cancel()
        if self._thread is not None:
            self._thread.join(STOP_SECONDS)

    def work(self) -> None:
        """Like `run`, but the outcome is in `result` and `error`."""
        try:
            self.run()
        except CmetError as error:
            self.error = error
        except Exception as error:  # a thread has nobody else to tell
            self.error = CmetError(f"Setting up the engine failed ({type(error).__name__}: {error}).")

    def run(self) -> Installed:
        """Set up, and wait for it.

        Raises:
            InvalidInput: the folder cannot be used.
            Busy: another Blender sets up an engine there.
            Cancelled: `cancel` was called; nothing was changed.
            CmetError: it failed; the sentence says why, and names the log. An engine that was there is still there.
        """
        folder = self.plan.folder
        check_folder(folder)
        missing = [place for place in (folder, *folder.parents) if not place.exists()]
        new = installed(folder) is None
        try:
            folder.mkdir(parents=True, exist_ok=True)
            with exclusive(folder / LOCK, f"Another Blender is setting up an engine in {folder}; wait for it."):
                self.result = self._replace(folder)
        except Cancelled:
            if new:
                self._leave_nothing(missing)
            raise
        except OSError as error:
            raise InvalidInput(f"{folder} cannot be written ({error.strerror}); choose another folder.") from error
        return self.result

    def _leave_nothing(self, missing: list[Path]) -> None:
        """Remove the folder, and those above it that were made for it; what is not ours stays."""
        with contextlib.suppress(OSError, CmetError):
            remove(self.plan.folder)
            if not missing:
                self.plan.folder.mkdir(exist_ok=True)
            for place in missing[1:]:
                place.rmdir()

    def _replace(self, folder: Path) -> Installed:
        before = installed(folder)
        if before is None:
            _write_marker(folder, "", "")
        _remove_environments(folder, before.environment if before else None)
        self.log.write_text("", "utf-8")
        environment = Path(tempfile.mkdtemp(prefix="env-", dir=folder))
        try:
            self._make(environment)
            self._install(environment)
            version = self._examine(environment)
        except BaseException:
            self.stage = "removing what was made"
            shutil.rmtree(environment, ignore_errors=True)
            raise
        _write_marker(folder, environment.name, version, self.plan)
        self.stage = "removing the earlier engine"
        _remove_environments(folder, environment)
        return Installed(folder, environment, version)

    def _make(self, environment: Path) -> None:
        """An environment with pip, made by a Python that fits, or by uv."""
        python = self.plan.python
        if python is not None and python.fits:
            self.stage = "making the environment"
            return self._run([str(python.path), *VENV, str(environment)], MAKE_SECONDS)
        uv = self.plan.uv
        if uv is None and python is not None:
            self.stage = "fetching uv"
            self._run([str(python.path), *VENV, str(environment / "uv")], MAKE_SECONDS)
            program = python_of(environment / "uv")
            self._run([str(program), "-m", "pip", "install", "uv"], MAKE_SECONDS)
            uv = program.with_name("uv.exe" if sys.platform == "win32" else "uv")
        self.stage = "fetching Python 3.11"
        command = [
            str(uv),
            "venv",
            "--python",
            "3.11",
            "--python-preference",
            "only-managed",
            "--seed",
            "--allow-existing",
        ]
        python_folder = {"UV_PYTHON_INSTALL_DIR": str(environment / "python")}
        return self._run([*command, str(environment)], MAKE_SECONDS, variables=python_folder)

    def _install(self, environment: Path) -> None:
        self.stage, self.total = "fetching the engine (MB)", max(1, round(self.plan.fetched / 1e6))
        # what is meant for other installations is not asked where everything is local
        variables = (
            {}
            if self.plan.hosts
            else dict.fromkeys(("PIP_FIND_LINKS", "PIP_EXTRA_INDEX_URL"), "") | {"PIP_CONFIG_FILE": os.devnull}
        )
        command = [str(python_of(environment)), "-m", "pip", "install", "--progress-bar", "off"]
        for install in self.plan.pip:
            self._run([*command, *install], PIP_SECONDS, variables=variables, each=self._follow)

    def _follow(self, line: str) -> None:
        """Take a line of pip's: what is fetched, how large, and when it unpacks."""
        if found := _FETCHING.match(line):
            name, size = found[1].rpartition("/")[2], float(found[2]) * _BYTES[found[3]]
        elif found := _LOCAL.match(line):
            path = Path(found[1])
            name, size = path.name, float(path.stat().st_size) if path.is_file() else 0.0
        else:
            if line.startswith("Installing collected packages:"):
                self.stage, self.done, self.total = f"unpacking {line.count(',') + 1} packages", 0, None
            return
        self._fetched[name] = size
        self.done = round(sum(self._fetched.values()) / 1e6)
        self.total = max(self.done, self.total or 0)
        self.stage = f"fetching {name.partition('-')[0]} (MB)"

    def _examine(self, environment: Path) -> str:
        """Have the engine say what works here; returns its version.

        Raises:
            CmetError: it does not start.
        """
        self.stage, self.done, self.total = "trying the engine", 0, None
        answer = environment / "doctor.json"
        command = [str(python_of(environment)), "-m", "cmet_engine.cli", "doctor", "--json"]
        self._run(command, DOCTOR_SECONDS, output=answer, statuses=(0, 1))
        try:
            findings = json.loads(answer.read_text("utf-8").strip().splitlines()[-1])
            wrong = [finding for finding in findings if finding["ok"] is False]
        except (ValueError, IndexError, KeyError, TypeError) as error:
            raise self._failure("the engine does not start") from error
        self.warnings = [f"{one['name']}: {one['detail']}. {one['advice']}".strip() for one in wrong]
        information = next(environment.glob("[lL]ib*/**/cmet-*.dist-info"), None)
        return information.name.removesuffix(".dist-info").removeprefix("cmet-") if information else self.plan.version

    def _run(
        self, command: list[str], limit: float, *, variables: dict[str, str] | None = None, output: Path | None = None,
        statuses: tuple[int, ...] = (0,), each: Callable[[str], None] | None = None,
    ) -> None:  # fmt: skip
        """Run a command, with what it says in the log; `each` gets its lines.

        Raises:
            Cancelled: `cancel` was called; the command and its children are ended.
            CmetError: it failed, or took longer than `limit` seconds.
        """
        with contextlib.ExitStack() as files:
            log = files.enter_context(self.log.open("ab"))
            log.write(f"\n$ {subprocess.list2cmdline(command)}\n".encode())
            log.flush()
            begin = self.log.stat().st_size
            try:
                process = subprocess.Popen(
                    command,
                    stdin=subprocess.DEVNULL,
                    stdout=files.enter_context(output.open("wb")) if output else log,
                    stderr=log,
                    cwd=self.plan.folder,
                    env=clean_environment() | (variables or {}),
                    **_quiet_group(),
                )
            except OSError as error:
                raise self._failure(f"{command[0]} cannot be started ({error.strerror})") from error
            status = self._watch(process, begin, limit, each)
        if self._cancelled.is_set():
            raise Cancelled("Setting up the engine was cancelled; nothing was changed.")
        if status not in statuses:
            raise self._failure("" if status > 0 else f"{Path(command[0]).name} was ended by another program")

    def _watch(
        self, process: "subprocess.Popen[bytes]", begin: int, limit: float, each: Callable[[str], None] | None
    ) -> int:
        """Follow a command, whose part of the log begins at the byte `begin`, to its end; returns its exit status."""
        end, seen, status = time.monotonic() + limit, 0, None
        while status is None:
            self._cancelled.wait(POLL_SECONDS)
            status = process.poll()
            if status is None and (self._cancelled.is_set() or time.monotonic() > end):
                kill_group(process)
                if not self._cancelled.is_set():
                    raise self._failure(f"{self.stage} took more than {limit / 60:.0f} minutes")
                status = -1
            self._said = self.log.read_bytes()[begin:].decode("utf-8", "replace")
            lines = self._said.splitlines()[: None if status is not None else self._said.count("\n")]
            for line in lines[seen:] if each else ():
                each(line)
            seen = len(lines)
        return status

    def _failure(self, why: str = "") -> CmetError:
        """What went wrong, in plain words, and where everything is said."""
        for pattern, words in _CAUSES:
            if not why and (found := re.search(pattern, self._said)):
                why = words.format(*found.groups())
        if not why:
            lines = [line.strip() for line in self._said.splitlines() if line.strip()]
            errors = [line for line in lines if line.startswith("ERROR:")]
            why = (errors or lines or ["it said nothing"])[-1].removeprefix("ERROR:").strip().rstrip(".")
        return CmetError(f"The engine was not set up: {why}. The whole log is in {self.log}.")


def _quiet_group() -> dict[str, Any]:
    """A process group of its own, without a console window."""
    options = group_options()
    return options | {name: options.get(name, 0) | value for name, value in hidden().items()}


def _write_marker(folder: Path, environment: str, version: str, plan: Plan | None = None) -> None:
    content: dict[str, Any] = {"made_by": "C-MET, Set Up Engine", "environment": environment, "version": version}
    if plan is not None:
        content["source"] = {"kind": plan.source.kind, "place": plan.source.place, "cuda": plan.source.cuda}
    with whole_file(folder / MARKER, force=True) as path:
        path.write_text(json.dumps(content, indent=1), "utf-8")
