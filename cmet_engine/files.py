"""Files: outputs that appear whole or not at all, checksums, JSON, and where the user's own things are kept."""

import contextlib
import errno
import hashlib
import json
import os
import re
import shutil
import sys
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from cmet_engine.errors import Busy, CmetError, InvalidInput, NotFound


def user_folder() -> Path:
    """Where the user's own things are kept: `$CMET_HOME`, else the platform's folder for application data."""
    if home := os.environ.get("CMET_HOME"):
        return Path(home)
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA", Path.home() / "AppData" / "Local")) / "cmet"
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Application Support" / "cmet"
    return Path(os.environ.get("XDG_DATA_HOME", Path.home() / ".local" / "share")) / "cmet"


def sha256(path: Path) -> str:
    """SHA-256 of a file, hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def read_json(path: str | Path, broken: str | None = None) -> Any:
    """The content of a JSON file.

    Args:
        path: of the file.
        broken: what to say when it cannot be read or is not JSON; None names the file and the fault.

    Raises:
        NotFound: there is no such file.
        InvalidInput: it cannot be read, or is not JSON.
    """
    try:
        return json.loads(Path(path).read_text("utf-8"))
    except FileNotFoundError as error:
        raise NotFound(broken or f"Cannot read {path}: {error.strerror}.") from error
    except OSError as error:
        raise InvalidInput(broken or f"Cannot read {path}: {error.strerror}.") from error
    except (ValueError, RecursionError) as error:
        raise InvalidInput(
            broken or f"{Path(path).name}: not valid JSON; correct the file or write it again."
        ) from error


def check_writable(path: str | Path, *, force: bool = False) -> Path:
    """Check that `path` may become an output file.

    Args:
        path: the file to write later; its folder must exist.
        force: replace a file that is there already.

    Returns:
        The path.

    Raises:
        InvalidInput: the folder is missing or not writable, the path is a folder, or it exists and `force` is off.
    """
    path = Path(path)
    if path.is_dir():
        raise InvalidInput(f"{path} is a folder; give the name of a file to write.")
    if path.exists() and not force:
        raise InvalidInput(f"{path} exists already; choose another name or add --force to replace it.")
    if not path.parent.is_dir():
        raise InvalidInput(f"The folder {path.parent} does not exist; create it first.")
    if not os.access(path.parent, os.W_OK):
        raise InvalidInput(f"The folder {path.parent} is not writable; choose another or change its permissions.")
    return path


@contextlib.contextmanager
def exclusive(path: Path, busy: str | None = None) -> Iterator[None]:
    """Hold the lock file `path` while the block runs; the lock ends with the process, however it ends.

    Args:
        path: made when absent, and left there.
        busy: what to say when another process holds it; None waits for it.

    Raises:
        Busy: another process holds it; with the sentence `busy`.
    """
    with path.open("a+") as file:
        try:
            if sys.platform == "win32":
                import msvcrt

                msvcrt.locking(file.fileno(), msvcrt.LK_LOCK if busy is None else msvcrt.LK_NBLCK, 1)
            else:
                import fcntl

                fcntl.flock(file, fcntl.LOCK_EX | (0 if busy is None else fcntl.LOCK_NB))
        except OSError as error:
            raise Busy(busy or f"{path} cannot be locked: {error.strerror}.") from error
        yield


def remove_leftovers(outputs: Iterable[Path]) -> None:
    """Remove what a killed process left beside its outputs: the temporary names of `whole_file` and `whole_folder`.

    Only while nothing writes to these outputs.
    """
    stems: dict[Path, set[str]] = {}
    for path in outputs:
        stems.setdefault(path.parent, set()).update((path.name[:40], path.stem[:40]))
    for folder, names in stems.items():
        if not folder.is_dir():
            continue
        for entry in folder.iterdir():
            temporary = re.fullmatch(r"\.(.{1,40})-[a-z0-9_]{8}(\.\w+)?", entry.name)
            if temporary and temporary[1] in names:
                shutil.rmtree(entry, ignore_errors=True) if entry.is_dir() else entry.unlink(missing_ok=True)


@contextlib.contextmanager
def whole_file(path: str | Path, *, force: bool = False) -> Iterator[Path]:
    """Write a file beside its final place and move it there when the block ends without an error.

    Yields:
        A temporary path in the same folder with the same suffix. On an exception (Ctrl-C included) it is
        removed and an earlier file of the final name stays as it was.

    Raises:
        CmetError: see `check_writable`; also when the disk is full or the folder cannot be written.
    """
    path = check_writable(path, force=force)
    try:
        handle, name = tempfile.mkstemp(prefix=f".{path.stem[:40]}-", suffix=path.suffix, dir=path.parent)
    except OSError as error:
        raise InvalidInput(f"Cannot write into {path.parent}: {error.strerror}.") from error
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        umask = os.umask(0)
        os.umask(umask)
        temporary.chmod(0o666 & ~umask)  # mkstemp makes private files; a result has the user's usual permissions
        temporary.replace(path)
    except OSError as error:
        if error.errno == errno.ENOSPC:
            raise CmetError(f"The disk that holds {path.parent} is full; nothing was written.") from error
        raise
    finally:
        temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def whole_folder(path: str | Path, *, force: bool = False) -> Iterator[Path]:
    """Fill a folder beside its final place and move it there when the block ends without an error.

    An existing empty folder is filled; one that holds files needs `force`, and then only files of the same
    names are replaced (other files of the user stay).

    Yields:
        A temporary folder on the same file system.

    Raises:
        CmetError: the folder holds files and `force` is off, or it cannot be created.
    """
    path = Path(path)
    if path.exists() and not path.is_dir():
        raise InvalidInput(f"{path} is a file; give the name of a folder for the results.")
    if path.is_dir() and any(path.iterdir()) and not force:
        raise InvalidInput(
            f"{path} holds files already; choose another folder or add --force to replace earlier results."
        )
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.exists() and not os.access(path, os.W_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
        temporary = Path(tempfile.mkdtemp(prefix=f".{path.name[:40]}-", dir=path.parent))
    except OSError as error:
        raise InvalidInput(f"Cannot write the results to {path}: {error.strerror}.") from error
    try:
        yield temporary
        path.mkdir(exist_ok=True)
        for item in sorted(temporary.iterdir()):
            target = path / item.name
            if target.is_dir():
                shutil.rmtree(target)
            item.replace(target)
    except OSError as error:
        if error.errno == errno.ENOSPC:
            raise CmetError(f"The disk that holds {path.parent} is full; nothing was written.") from error
        raise
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
