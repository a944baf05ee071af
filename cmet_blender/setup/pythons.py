"""The Pythons of this machine that can make an environment for the engine."""

import os
import shutil
import struct
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

WANTED = (3, 11)
"""The version that the engine is tested with; its packages have wheels for it."""
OLDEST = (3, 9)  # that the program uv is installed with, where no Python of the wanted version is there
LOOK_SECONDS = 10.0

_SCRIPT = "import ensurepip, struct, sys, venv; print(*sys.version_info[:3], struct.calcsize('P'), sys.executable)"


@dataclass(frozen=True)
class Python:
    """A Python that brings `venv` and `ensurepip`.

    Attributes:
        path: the program.
        version: such as (3, 11, 7).
    """

    path: Path
    version: tuple[int, ...]

    @property
    def fits(self) -> bool:
        """Whether the engine runs with it."""
        return self.version[:2] == WANTED


def clean_environment() -> dict[str, str]:
    """Environment variables for another Python: without those that send it to Blender's packages or to the user's folder."""
    stray = {"PYTHONHOME", "PYTHONPATH", "PYTHONNOUSERSITE", "PIP_TARGET", "PIP_PREFIX", "PIP_USER", "VIRTUAL_ENV"}
    kept = {name: value for name, value in os.environ.items() if name not in stray}
    return kept | {"PYTHONUTF8": "1", "PIP_NO_INPUT": "1", "PIP_DISABLE_PIP_VERSION_CHECK": "1", "NO_COLOR": "1"}


def hidden() -> dict[str, int]:
    """Arguments for `subprocess` that keep Windows from opening a console window."""
    return {"creationflags": subprocess.CREATE_NO_WINDOW} if sys.platform == "win32" else {}


def examine(command: list[str]) -> Python | None:
    """The Python that a command starts; None where it does not, is older than 3.9, of 32 bits, or lacks `venv`."""
    try:
        done = subprocess.run(
            [*command, "-c", _SCRIPT],
            stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=LOOK_SECONDS, env=clean_environment(), check=False,
            **hidden(),
        )  # fmt: skip
        *numbers, bits, path = done.stdout.strip().split(" ", 4)
        version = tuple(map(int, numbers))
    except (OSError, ValueError, subprocess.TimeoutExpired):
        return None
    right = done.returncode == 0 and version >= OLDEST and int(bits) == struct.calcsize("P")
    return Python(Path(path), version) if right else None


def _places() -> Iterator[list[str]]:
    """Commands that may start a Python, the likeliest first; Blender's own comes last, since it goes with Blender."""
    for name in ("python3.11", "python3", "python", "python3.12", "python3.13"):
        found = shutil.which(name)
        # without Apple's developer tools, macOS answers this one with an installer
        if found and not (sys.platform == "darwin" and found == "/usr/bin/python3"):
            yield [found]
    if launcher := shutil.which("py"):
        yield [launcher, "-3.11"]
    home = Path.home()
    pyenv = Path(os.environ.get("PYENV_ROOT", home / ".pyenv"))
    uv = Path(os.environ.get("XDG_DATA_HOME", home / ".local" / "share")) / "uv" / "python"
    for folder, pattern in (
        (pyenv / "versions", "3.11*/bin/python"),
        (pyenv / "pyenv-win" / "versions", "3.11*/python.exe"),
        (uv, "cpython-3.11*/bin/python3.11"),
        (Path(os.environ.get("APPDATA", home)) / "uv" / "python", "cpython-3.11*/python.exe"),
    ):
        yield from ([str(path)] for path in sorted(folder.glob(pattern), reverse=True))
    # a program that is started from the desktop on macOS does not see the shell's PATH
    for place in ("/opt/homebrew/bin", "/usr/local/bin", "/Library/Frameworks/Python.framework/Versions/3.11/bin"):
        if (path := Path(place, "python3.11")).is_file():
            yield [str(path)]
    yield [sys.executable]


def find() -> list[Python]:
    """The Pythons that can make an environment; the search ends with the first that fits, which is the last one then."""
    found: dict[Path, Python] = {}
    for command in _places():
        python = examine(command)
        if python is not None:
            found.setdefault(python.path.resolve(), python)
            if python.fits:
                break
    return list(found.values())


def find_uv() -> Path | None:
    """The program `uv`, where it is installed."""
    home = Path.home()
    suffix = ".exe" if sys.platform == "win32" else ""
    places = [shutil.which("uv"), home / ".local" / "bin" / f"uv{suffix}", home / ".cargo" / "bin" / f"uv{suffix}"]
    return next((Path(place) for place in places if place and Path(place).is_file()), None)
