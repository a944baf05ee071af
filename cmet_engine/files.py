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
import unicodedata
from collections.abc import Iterable, Iterator
from contextvars import ContextVar
from functools import cached_property
from pathlib import Path
from typing import Any

from cmet_engine.errors import Busy, CmetError, InvalidInput, NotFound

_CASELESS = sys.platform in ("win32", "darwin")  # systems on which a file is found by its name in any case


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


def is_hidden(path: Path, below: Path = Path()) -> bool:
    """Whether a name in a path is hidden, `._a.mp4` of macOS among them; names of the folder `below` do not count."""
    return any(part.startswith(".") for part in (path.relative_to(below).parts if below != Path() else [path.name]))


def identities(path: str | Path) -> set[object]:
    """What tells a file from others however its path is spelled: its real path, and where it is there its place on the disk.

    Links, hard links, `..`, relative paths and, where the system knows no case, other cases of letters meet in one of them.
    """
    real = os.path.realpath(path)
    found: set[object] = {unicodedata.normalize("NFC", real).casefold() if _CASELESS else real}
    with contextlib.suppress(OSError):
        about = Path(path).stat()
        found.add((about.st_dev, about.st_ino))
    return found


class _Inputs:
    """Files that work reads.

    Args:
        named: what each is, in a word, and its path.
    """

    def __init__(self, named: Iterable[tuple[str, Path]]) -> None:
        self._named = tuple(named)

    @cached_property
    def by_identity(self) -> dict[object, tuple[str, Path]]:
        return {mark: (name, path) for name, path in self._named for mark in identities(path)}


_INPUTS: ContextVar[tuple[_Inputs, ...]] = ContextVar("inputs", default=())


@contextlib.contextmanager
def inputs_kept(named: Iterable[tuple[str, Path]]) -> Iterator[None]:
    """While the block runs, no output of `whole_file` and `whole_folder` takes the place of one of these files, `force` or not.

    Args:
        named: what each file is, in a word of the message, and its path.
    """
    token = _INPUTS.set((*_INPUTS.get(), _Inputs(named)))
    try:
        yield
    finally:
        _INPUTS.reset(token)


def check_apart(*outputs: Path) -> None:
    """Check that no output is one of the files that `inputs_kept` keeps.

    Raises:
        InvalidInput: one is, through links and other spellings of its path too.
    """
    for kept in _INPUTS.get():
        for output in outputs:
            for mark in identities(output):
                if mark in kept.by_identity:
                    name, path = kept.by_identity[mark]
                    where = "" if str(path) == str(output) else f" ({path})"
                    raise InvalidInput(
                        f"{output} is the {name} itself{where}, which is never written over; choose another place for the result."
                    )


def check_writable(path: str | Path, *, force: bool = False) -> Path:
    """Check that `path` may become an output file.

    Args:
        path: the file to write later; its folder must exist.
        force: replace a file that is there already.

    Returns:
        The path.

    Raises:
        InvalidInput: the folder is missing or not writable, the path is a folder or an input (see `check_apart`), or it exists
            and `force` is off.
    """
    path = Path(path)
    if path.is_dir():
        raise InvalidInput(f"{path} is a folder; give the name of a file to write.")
    check_apart(path)
    if os.path.lexists(path) and not force:
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


_TEMPORARY = "-cmet-"
"""Stands in the temporary names of outputs, between the beginning of the final name and what chance adds."""


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
            temporary = re.fullmatch(rf"\.(.{{1,40}}){_TEMPORARY}[a-z0-9_]{{8}}(\.\w+)?", entry.name)
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
        handle, name = tempfile.mkstemp(prefix=f".{path.stem[:40]}{_TEMPORARY}", suffix=path.suffix, dir=path.parent)
    except OSError as error:
        raise InvalidInput(f"Cannot write into {path.parent}: {error.strerror}.") from error
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        umask = os.umask(0)
        os.umask(umask)
        temporary.chmod(0o666 & ~umask)  # mkstemp makes private files; a result has the user's usual permissions
        check_writable(path, force=force)  # it may have come meanwhile
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
    names are replaced, in folders inside it too (other files of the user stay).

    Yields:
        A temporary folder on the same file system.

    Raises:
        CmetError: the folder holds files and `force` is off, it cannot be created, or a file in it would take the place of an
            input or of a folder.
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
        temporary = Path(tempfile.mkdtemp(prefix=f".{path.name[:40]}{_TEMPORARY}", dir=path.parent))
    except OSError as error:
        raise InvalidInput(f"Cannot write the results to {path}: {error.strerror}.") from error
    try:
        yield temporary
        moves = {item: path / item.relative_to(temporary) for item in sorted(temporary.rglob("*"))}
        check_places(path, {target: item.is_dir() for item, target in moves.items()}, force=force)
        path.mkdir(exist_ok=True)
        for item, target in moves.items():
            target.mkdir(exist_ok=True) if item.is_dir() else _move(item, target)
    except OSError as error:
        if error.errno == errno.ENOSPC:
            raise CmetError(f"The disk that holds {path.parent} is full; nothing was written.") from error
        raise
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def check_places(folder: Path, targets: dict[Path, bool], *, force: bool) -> None:
    """Check that files and folders (True) may stand at their places in a folder of results.

    Raises:
        InvalidInput: one is an input, a folder where a file is to be, a file where a folder is to be, or there and `force` is off.
    """
    check_apart(*(target for target, is_folder in targets.items() if not is_folder))
    for target, is_folder in targets.items():
        if not force and not is_folder and os.path.lexists(target):
            raise InvalidInput(f"{target} exists already; choose another folder or add --force to replace it.")
        if os.path.lexists(target) and target.is_dir() != is_folder:
            here, wanted = ("file", "folder") if is_folder else ("folder", "file")
            raise InvalidInput(
                f"{folder} holds a {here} {target.name} where the results have a {wanted}; choose another folder."
            )


def _move(file: Path, target: Path) -> None:
    """Move a file to its place, on another disk too (a folder of results may hold links to folders there)."""
    try:
        file.replace(target)
    except OSError as error:
        if error.errno != errno.EXDEV:
            raise
        with whole_file(target, force=True) as temporary:
            shutil.copyfile(file, temporary)
