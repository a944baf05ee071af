"""What works and what is missing on this machine: the Check button of the preferences."""

import json
import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from cmet_engine.errors import CmetError

from .engine import Engine, version_mismatch

_HOW = (
    "press Set Up Engine in the add-on's preferences, or choose the Python where it is."
    if (Path(__file__).parent / "setup").is_dir()
    else "install it there, or choose the Python where it is."
)  # the build for the public listing sets up nothing


@dataclass(frozen=True)
class Finding:
    """One thing that was checked: whether it works, and what to do if not."""

    ok: bool
    text: str


_SCRIPT = """
import importlib.util, json, sys
try:
    import cmet_engine
    version = cmet_engine.__version__
except ImportError:
    version = None
needed = ("torch", "mediapipe", "av", "fastapi", "uvicorn")
print(json.dumps([sys.version_info[:2], version, [name for name in needed if importlib.util.find_spec(name) is None]]))
"""  # runs in the engine's Python: its version, that of C-MET, and the packages that it lacks


def check(engine: Engine) -> list[Finding]:
    """What works and what does not, and what to do about it. Starts no engine."""
    python = Path(engine.python)
    found = python if python.is_file() else Path(shutil.which(engine.python) or "")
    if not found.is_file():
        text = f"The Python program '{engine.python}' does not exist; choose the one where C-MET is installed."
        return [Finding(False, text)]
    try:
        result = subprocess.run(
            [str(found), "-c", _SCRIPT],
            capture_output=True,
            text=True,
            timeout=60,
            env=engine.environment(),
            check=False,
        )
        version, installed, missing = json.loads(result.stdout.strip().splitlines()[-1])
    except (OSError, ValueError, IndexError, subprocess.TimeoutExpired) as error:
        return [Finding(False, f"'{found}' does not run as Python ({error}).")]
    return [*_packages(found, version, installed, missing), _folder(engine), _running(engine)]


def _packages(python: Path, version: list[int], installed: str | None, missing: list[str]) -> list[Finding]:
    new_enough = version >= [3, 11]
    text = f"Python {version[0]}.{version[1]}" + ("" if new_enough else "; the engine needs 3.11 or newer")
    findings = [Finding(new_enough, text)]
    if installed is None:
        findings.append(Finding(False, f"C-MET is not installed in {python}; {_HOW}"))
    else:
        mismatch = version_mismatch(installed)
        findings.append(Finding(not mismatch, mismatch or f"C-MET {installed}"))
    if missing:
        text = f"Packages are missing: {', '.join(missing)}; run: '{python}' -m pip install {' '.join(missing)}"
        findings.append(Finding(False, text))
    return findings


def _folder(engine: Engine) -> Finding:
    try:
        engine.folder.mkdir(parents=True, exist_ok=True)
        writable = os.access(engine.folder, os.W_OK)
    except OSError:
        writable = False
    return Finding(writable, f"Folder {engine.folder}" + ("" if writable else " cannot be written; choose another"))


def _running(engine: Engine) -> Finding:
    try:
        running = engine.ready()
    except CmetError as error:
        return Finding(False, str(error))
    return Finding(
        True, "The engine is running" if running else "The engine is not running; it starts with the first job"
    )
