"""What a stored result depends on, as a checksum: the code that computes it, outside packages, files, arrays and settings.

A result that was stored under a fingerprint is used again only where the fingerprint is the same. `code` stands for a stage of
the work: the source of its module and of every module of this package that it imports, the templates beside them, and the
versions of the outside packages that they compute with. It reads source text and imports nothing; comments, docstrings and
blank lines do not count. Embedded weights are not part of it: give their checksums beside it.
"""

import functools
import hashlib
import importlib.metadata
import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from cmet_engine.files import sha256

ROOT = Path(__file__).parents[1]
PACKAGE = "cmet_engine"
OUTSIDE = {  # distributions whose version may change a result, by the name they are imported under
    "av": "av",
    "PyOpenColorIO": "opencolorio",
    "cv2": "opencv-contrib-python",
    "librosa": "librosa",
    "mediapipe": "mediapipe",
    "numpy": "numpy",
    "onnxruntime": "onnxruntime",
    "scipy": "scipy",
    "torch": "torch",
    "transformers": "transformers",
}

TEMPLATES = (".css", ".j2", ".js")  # suffixes of files that modules of the same folder read

_STRING = (
    r'"""[^"\\]*(?:(?:\\.|"(?!""))[^"\\]*)*"""'
    r"|'''[^'\\]*(?:(?:\\.|'(?!''))[^'\\]*)*'''"
    r'|"[^"\\\n]*(?:\\.[^"\\\n]*)*"'
    r"|'[^'\\\n]*(?:\\.[^'\\\n]*)*'"
)
_STRETCH = re.compile(rf"([^\"'#]*)({_STRING}|#[^\n]*|\Z)(?=[ \t]*(\n?))", re.S)
"""Code without strings and comments; the string or comment that ends it; whether that ends the line."""
_IMPORT = re.compile(r"^[ ]*(?:from ([\w.]+) import (\([^)]*\)|.+)|import (.+))$", re.M)


def code(*modules: str) -> str:
    """Checksum of everything that decides how modules of this package behave; see above. Computed once a process.

    Args:
        modules: full names, such as `cmet_engine.face.tracker`.

    Raises:
        LookupError: there is no such module.
    """
    return _code(tuple(sorted(set(modules))))


def data(*parts: object) -> str:
    """Checksum of things: of files their content, of arrays their values, of iterators what they yield, else the `repr`."""
    digest = hashlib.sha256()
    for part in parts:
        _add(digest, part)
    return digest.hexdigest()


def _add(digest: "hashlib._Hash", part: object) -> None:
    if isinstance(part, Path) and part.is_file():
        part = sha256(part)
    if isinstance(part, np.ndarray):
        digest.update(repr((part.dtype.str, part.shape)).encode())
        digest.update(np.ascontiguousarray(part).data)
    elif isinstance(part, Iterator):
        for item in part:
            _add(digest, item)
    else:
        digest.update(repr(part).encode())


@functools.cache
def _code(modules: tuple[str, ...]) -> str:
    sources: dict[str, str] = {}
    outside: set[str] = set()
    waiting = list(modules)
    while waiting:
        name = waiting.pop()
        if name in sources:
            continue
        sources[name], imported = _module(name)
        outside.update(imported & OUTSIDE.keys())
        if name != PACKAGE:  # what the package offers at its top is not what a stage uses
            waiting += imported - OUTSIDE.keys()
    return data(sorted(sources.items()), sorted((name, _version(OUTSIDE[name])) for name in outside))


@functools.cache
def _module(name: str) -> tuple[str, set[str]]:
    """Checksum of a module's source, and what it imports: modules of this package and names of outside packages."""
    path = _path(name)
    if path is None:
        raise LookupError(f"There is no module {name}; name one of this package.")
    source = significant(path.read_text("utf-8"))
    templates = sorted(file for file in path.parent.iterdir() if file.suffix in TEMPLATES)
    return data(source, *templates), imports(source)


def significant(source: str) -> str:
    """Python source without its comments, docstrings and blank lines.

    A docstring is a string in triple quotes that begins the text, or a line after one that ends with a colon.
    """
    kept = []
    for before, end, line_ends in _STRETCH.findall(source):
        if end[:1] == "#":
            kept.append(before)
        elif end[:3] == '"""' and line_ends and (before.rstrip(" ").endswith(":\n") or not (kept or before.strip())):
            kept.append(before + '""')
        else:
            kept.append(before + end.replace("\n", "\0"))  # these line ends are not the program's
    return "\n".join(filter(None, map(str.rstrip, "".join(kept).split("\n"))))


def imports(source: str) -> set[str]:
    """What `significant` source imports anywhere, also in functions: modules of this package, and outside packages."""
    found: set[str] = set()
    for origin, names, plain in _IMPORT.findall(source):
        if plain:
            found.update(part.split()[0] for part in plain.split(","))
            continue
        for part in names.strip("() \n").split(","):
            if part.strip():
                name = f"{origin}.{part.split()[0]}"
                found.add(name if _is_ours(origin) and _path(name) else origin)
    outside = {name.partition(".")[0] for name in found if not _is_ours(name)}
    return {name for name in found if _is_ours(name)} | (outside & OUTSIDE.keys())


def _is_ours(name: str) -> bool:
    return name == PACKAGE or name.startswith(f"{PACKAGE}.")


@functools.cache
def _path(name: str) -> Path | None:
    place = ROOT.joinpath(*name.split("."))
    return next((path for path in (place.with_suffix(".py"), place / "__init__.py") if path.is_file()), None)


@functools.cache
def _version(distribution: str) -> str:
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return "absent"
