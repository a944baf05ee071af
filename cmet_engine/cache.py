"""What was worked out once and can be used again: tracked geometry, by the content of the clip.

Entries are folders below `<user folder>/cache`, named by a hash of everything they depend on; the least recently used
go when the limit is passed. Losing the cache loses nothing but time.
"""

import contextlib
import hashlib
import importlib.metadata
import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

from cmet_engine import __version__
from cmet_engine.models import sha256, user_folder

DEFAULT_LIMIT = 4 << 30  # bytes; 10 minutes of geometry at 25 fps take 90 MB
LIMIT_VARIABLE = "CMET_CACHE_BYTES"


def folder() -> Path:
    """Where the cache lies."""
    return user_folder() / "cache"


def limit() -> int:
    """Bytes that the cache may take: `$CMET_CACHE_BYTES`, else 4 GiB; 0 turns it off."""
    try:
        return int(os.environ.get(LIMIT_VARIABLE, DEFAULT_LIMIT))
    except ValueError:
        return DEFAULT_LIMIT


def key(kind: str, clip: Path, *settings: object) -> str:
    """Name of an entry: a hash of the clip's content, the settings, and the versions that work on it."""
    versions = (__version__, importlib.metadata.version("mediapipe"))
    text = repr((kind, sha256(clip), settings, versions))
    return f"{kind}-{hashlib.sha256(text.encode()).hexdigest()[:32]}"


def get(name: str) -> Path | None:
    """The folder of an entry, or None; marks it as used."""
    path = folder() / name
    if not path.is_dir():
        return None
    with contextlib.suppress(OSError):
        os.utime(path)
    return path


def put(name: str, fill: Callable[[Path], None]) -> None:
    """Add an entry; `fill(folder)` writes its files. A cache that cannot be written is passed over silently."""
    if limit() <= 0:
        return
    with contextlib.suppress(OSError):
        folder().mkdir(parents=True, exist_ok=True, mode=0o700)
        temporary = Path(tempfile.mkdtemp(dir=folder(), prefix=".new-"))
        try:
            fill(temporary)
            temporary.rename(folder() / name)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
        shrink(limit())


def size() -> int:
    """Bytes that the cache takes."""
    return sum(_size(entry) for entry in _entries())


def shrink(most: int) -> int:
    """Remove the least recently used entries until at most `most` bytes stay; returns the bytes freed."""
    entries = sorted(_entries(), key=lambda entry: entry.stat().st_mtime)
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
    return [path for path in folder().iterdir() if path.is_dir()] if folder().is_dir() else []


def _size(entry: Path) -> int:
    return sum(path.stat().st_size for path in entry.iterdir() if path.is_file())
