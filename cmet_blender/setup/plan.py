"""What setting up the engine will do: what it fetches, from where, how large, and what makes the environment."""

import re
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import cmet_engine
from cmet_engine.errors import InvalidInput, NotFound

from ..engine import version_mismatch
from .pythons import Python

TORCH_CPU = "https://download.pytorch.org/whl/cpu"
"""Index of the builds of torch that bring no CUDA; PyPI's build for Linux brings it."""

TORCH = "torch>=2.6"  # as pyproject.toml asks for it

# measured on Linux x86-64 with Python 3.11 and torch 2.13 (`pip install cmet-…whl`): what pip says that it fetches, and
# the size of the environment; in bytes
FETCHED = 670_000_000
INSTALLED = 2_600_000_000
CUDA_FETCHED, CUDA_INSTALLED = 2_800_000_000, 4_600_000_000  # what the build of torch with CUDA adds
UV_FETCHED = 60_000_000  # uv and the Python that it brings

WINDOWS_PATH = 85  # characters: torch has files whose names below the environment take 171 more
_WHEEL = re.compile(r"cmet-([^-]+)(-[^-]+)?-py3-none-any\.whl")


@dataclass(frozen=True)
class Source:
    """Where the engine comes from.

    Attributes:
        kind: `wheel`, a file, whose dependencies come from pip's index; `folder`, of wheels, dependencies included; or
            `index`, the address of a package index.
        place: path or address.
        cuda: on Linux, whether torch shall bring CUDA; the other systems have one build on PyPI.
    """

    kind: str
    place: str
    cuda: bool = False


@dataclass(frozen=True)
class Plan:
    """What will be done.

    Attributes:
        folder: where the environment goes.
        source: where the engine comes from.
        version: of the engine; of an index, the versions that fit.
        python: the Python that makes the environment; of another version than 3.11 where it only installs `uv`.
        uv: the program `uv`, where it is there and no Python fits.
        pip: arguments of `pip install`, for each of its runs.
        hosts: what is reached over the network; none for local files.
        fetched, installed: bytes, about.
    """

    folder: Path
    source: Source
    version: str
    python: Python | None
    uv: Path | None
    pip: tuple[tuple[str, ...], ...]
    hosts: tuple[str, ...]
    fetched: int
    installed: int

    def sentences(self) -> list[str]:
        """What will be done, for people."""
        if self.hosts:
            first = f"It fetches about {in_words(self.fetched)} from {' and '.join(self.hosts)}."
        else:
            first = f"It fetches nothing: everything comes from {self.source.place} ({in_words(self.fetched)})."
        place = nearest(self.folder)
        free = in_words(shutil.disk_usage(place).free)
        second = f"The environment takes about {in_words(self.installed)} in {self.folder} ({free} are free)."
        if self.python is not None and self.python.fits:
            third = f"It is made with Python {'.'.join(map(str, self.python.version))}, {self.python.path}."
        else:
            third = "Python 3.11 is not on this machine: uv brings one, which stays in that folder."
        return [f"The engine {self.version} comes from {self.source.place}.", first, second, third]


_Parts = tuple[str, tuple[tuple[str, ...], ...], tuple[str, ...], int, int]  # version, pip, hosts, fetched, installed


def in_words(size: int) -> str:
    """A number of bytes for people."""
    return f"{size / 1e9:.1f} GB" if size >= 1e9 else f"{max(1, round(size / 1e6))} MB"


def nearest(folder: Path) -> Path:
    """A folder, or the nearest one above it that is there."""
    return next(place for place in (folder, *folder.parents) if place.is_dir())


def fitting_version() -> str:
    """The versions of the engine that go with this add-on, as pip takes them."""
    return ".".join(cmet_engine.__version__.split(".")[:2]) + ".*"


def wheel_version(path: Path) -> str:
    """The engine's version of a wheel, by its name; empty where it is none of the engine's."""
    found = _WHEEL.fullmatch(path.name)
    return found[1] if found else ""


def bundled_wheel(extension: Path) -> Path | None:
    """The wheel of the engine that came with the extension, in its folder `engine`."""
    wheels = [path for path in (extension / "engine").glob("cmet-*.whl") if wheel_version(path)]
    return max(wheels, default=None)


def _from_wheel(source: Source) -> _Parts:
    path = Path(source.place)
    if not source.place or not path.is_file():
        what = f"The wheel {path} does not exist" if source.place else "No wheel of the engine came with this extension"
        raise NotFound(f"{what}; choose one (cmet-{fitting_version()}), a folder of wheels, or an index.")
    version = wheel_version(path)
    if not version:
        raise InvalidInput(f"{path.name} is no wheel of the engine; its name begins with cmet-.")
    if version_mismatch(version):
        raise InvalidInput(
            f"{path.name} does not go with the add-on {cmet_engine.__version__}; choose a wheel of {fitting_version()}."
        )
    install: tuple[tuple[str, ...], ...] = ((str(path),),)
    hosts: tuple[str, ...] = ("pip's index (pypi.org, unless pip is set otherwise)",)
    if sys.platform != "linux":
        return version, install, hosts, FETCHED, INSTALLED
    if source.cuda:
        return version, install, hosts, FETCHED + CUDA_FETCHED, INSTALLED + CUDA_INSTALLED
    torch = (TORCH, "--index-url", TORCH_CPU)  # first and alone: no other package is looked for there
    return version, (torch, *install), (*hosts, str(urlsplit(TORCH_CPU).hostname)), FETCHED, INSTALLED


def _from_folder(source: Source) -> _Parts:
    folder = Path(source.place)
    if not source.place or not folder.is_dir():
        raise NotFound(
            f"The folder of wheels {folder} does not exist; choose another."
            if source.place
            else "Choose the folder that holds the wheels of the engine and of the packages it needs."
        )
    wheels = list(folder.glob("*.whl"))
    versions = [version for path in wheels if not version_mismatch(version := wheel_version(path))]
    if not versions:
        raise NotFound(f"{folder} holds no wheel of the engine (cmet-{fitting_version()}); choose another folder.")
    size = sum(path.stat().st_size for path in wheels)
    newest = max(versions, key=lambda version: [int(part) for part in re.findall(r"\d+", version)])
    install = (f"cmet=={newest}", "--no-index", "--find-links", str(folder))
    return newest, (install,), (), size, round(size * INSTALLED / FETCHED)


def _from_index(source: Source) -> _Parts:
    parts = urlsplit(source.place)
    if parts.scheme not in ("https", "http", "file") or not (parts.hostname or parts.scheme == "file"):
        raise InvalidInput(
            f"'{source.place}' is no address of an index; it begins with https:// and holds cmet and what that needs."
            if source.place
            else "Give the address of the index that holds the engine: it is not on pypi.org."
        )
    install = (f"cmet=={fitting_version()}", "--index-url", source.place)
    hosts = () if parts.scheme == "file" else (str(parts.hostname),)
    return fitting_version(), (install,), hosts, FETCHED, INSTALLED


def make(folder: Path, source: Source, found: list[Python], uv: Path | None = None) -> Plan:
    """Plan to set up the engine.

    Args:
        folder: where the environment goes; see `environment.check_folder`.
        source: where the engine comes from.
        found: Pythons of this machine (`pythons.find`).
        uv: the program uv (`pythons.find_uv`).

    Raises:
        NotFound: a wheel or a folder is not there, or no Python can be had.
        InvalidInput: the wheel is of another version, the address none, the path too long, or the disk too small.
    """
    parts = {"wheel": _from_wheel, "folder": _from_folder, "index": _from_index}[source.kind](source)
    version, install, hosts, fetched, installed = parts
    python = next((one for one in found if one.fits), found[0] if found else None)
    if python is None or not python.fits:
        if not hosts or (python is None and uv is None):
            raise NotFound(
                "Python 3.11 is not on this machine; install it from python.org (on Debian and Ubuntu: python3.11-venv), "
                "and try again."
            )
        hosts = (*hosts, "github.com")
        fetched += UV_FETCHED
    if sys.platform == "win32" and len(str(folder)) > WINDOWS_PATH and not _long_paths():
        raise InvalidInput(f"{folder} is too long a path for Windows; choose a shorter one, such as C:\\cmet.")
    if (free := shutil.disk_usage(nearest(folder)).free) < installed:
        raise InvalidInput(
            f"The engine needs {in_words(installed)}, and {folder} has {in_words(free)} free; choose another disk."
        )
    uv = None if python is not None and python.fits else uv
    return Plan(folder, source, version, python, uv, install, hosts, fetched, installed)


def _long_paths() -> bool:
    """Whether Windows takes paths of more than 260 characters."""
    if sys.platform != "win32":
        return True
    import winreg

    try:
        with winreg.OpenKey(winreg.HKEY_LOCAL_MACHINE, r"SYSTEM\CurrentControlSet\Control\FileSystem") as key:
            return bool(winreg.QueryValueEx(key, "LongPathsEnabled")[0])
    except OSError:
        return False
