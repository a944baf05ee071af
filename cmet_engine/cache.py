"""Results that were computed once and can be used again: tracks and features of a clip or a recording, by its content.

Entries are folders below `<user folder>/cache`, named by a hash of everything they depend on; the least recently used
go when the limit is passed. Losing the cache loses nothing but time.
"""

import contextlib
import logging
import os
import re
import shutil
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from cmet_engine import fingerprint
from cmet_engine.files import sha256, user_folder
from cmet_engine.npz import load_arrays

log = logging.getLogger(__name__)

DEFAULT_LIMIT = 4 << 30  # bytes; 10 minutes of geometry at 25 fps take 90 MB
LIMIT_VARIABLE = "CMET_CACHE_BYTES"
_ARRAYS = "arrays.npz"
_NEW = ".new-"  # entries that are being written
_ENTRY = re.compile(r"[a-z_]+-[0-9a-f]+(-unfinished)?")  # the name of an entry, see `key`
_ABANDONED = 3600.0  # seconds after which nobody writes to one any more

_REMEASURED = 16  # the cache is measured again after a sixteenth of its limit was put
_room: dict[Path, int] = {}  # bytes that may be put before that, by the cache's folder
_known: dict[tuple[object, ...], str] = {}  # checksums of files, by everything that changes with the file


def folder() -> Path:
    """Where the cache lies."""
    return user_folder() / "cache"


def limit() -> int:
    """Bytes that the cache may take, give or take a sixteenth: `$CMET_CACHE_BYTES`, else 4 GiB; 0 turns it off."""
    try:
        return int(os.environ.get(LIMIT_VARIABLE, DEFAULT_LIMIT))
    except ValueError:
        return DEFAULT_LIMIT


def key(kind: str, clip: Path, code: str, *settings: object) -> str:
    """Name of an entry: its kind and a checksum of everything it depends on.

    Args:
        kind: what the entry holds.
        clip: the clip or recording it was computed from.
        code: from `fingerprint.code`, of the modules that compute it.
        settings: everything else, weights included, as values whose `repr` tells them apart.
    """
    return f"{kind}-{fingerprint.data(kind, content(clip), code, settings)[:32]}"


def content(path: Path) -> str:
    """SHA-256 of a file; read once a process, and again when the file was changed."""
    about = path.stat()
    mark = (path.absolute(), about.st_dev, about.st_ino, about.st_size, about.st_mtime_ns)
    if mark not in _known:
        _known[mark] = sha256(path)
    return _known[mark]


def get(name: str) -> Path | None:
    """The folder of an entry, or None; marks it as used."""
    path = folder() / name
    if not path.is_dir():
        return None
    with contextlib.suppress(OSError):
        os.utime(path)
    return path


def put(name: str, fill: Callable[[Path], object]) -> None:
    """Add an entry; `fill(folder)` writes its files. A cache that cannot be written costs a warning and nothing else."""
    if limit() <= 0:
        return
    try:
        folder().mkdir(parents=True, exist_ok=True, mode=0o700)
        temporary = Path(tempfile.mkdtemp(dir=folder(), prefix=_NEW))
        try:
            fill(temporary)
            shutil.rmtree(folder() / name, ignore_errors=True)  # one that could not be read
            added = _size(temporary)
            temporary.rename(folder() / name)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
        room = _room.get(folder(), 0) - added
        if room < 0:
            shrink(limit())
            room = limit() // _REMEASURED
        _room[folder()] = room
    except OSError as error:
        log.warning("%s cannot be kept for the next time: %s", name, error)


def arrays(name: str | None, work: Callable[[], dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
    """Arrays by name, from the entry `name`, or computed by `work` and put there; None is never cached."""
    if name and (entry := get(name)):
        with contextlib.suppress(OSError, ValueError):
            return load_arrays(entry / _ARRAYS)
    found = work()
    if name:
        put(name, lambda folder: np.savez(folder / _ARRAYS, **found))  # type: ignore[arg-type]
    return found


def forget(name: str) -> None:
    """Remove an entry, if it is there."""
    shutil.rmtree(folder() / name, ignore_errors=True)


def size() -> int:
    """Bytes that the cache takes."""
    return sum(_size(entry) for entry in _entries())


def shrink(most: int) -> int:
    """Remove the least recently used entries until at most `most` bytes stay; returns the bytes freed."""
    entries = sorted(_entries(), key=_used)
    sizes = {entry: _size(entry) for entry in entries}
    total = sum(sizes.values())
    before = total
    for entry in entries:
        if total <= most:
            break
        shutil.rmtree(entry, ignore_errors=True)
        total -= sizes[entry]
    return before - total


def _entries() -> list[Path]:
    found = []
    for path in folder().iterdir() if folder().is_dir() else ():
        if not path.name.startswith(_NEW):  # a folder of another name is none of ours
            found += [path] if _ENTRY.fullmatch(path.name) and path.is_dir() and not path.is_symlink() else []
        elif _used(path) < time.time() - _ABANDONED:  # its writer was killed
            shutil.rmtree(path, ignore_errors=True)
    return found


def _used(entry: Path) -> float:
    """When an entry was last used; 0 when another process has just removed it."""
    try:
        return entry.stat().st_mtime
    except OSError:
        return 0.0


def _size(entry: Path) -> int:
    return sum(path.stat().st_size for path in entry.iterdir() if path.is_file())
