"""The user's folder for all that is about provenance, and files in it that nobody else may read."""

import contextlib
import os
import time
from collections.abc import Iterator
from pathlib import Path

from cmet_engine import files
from cmet_engine.errors import Busy, InvalidInput

LOCK_SECONDS = 10.0  # for another process that writes to the same file, which takes milliseconds


def place() -> Path:
    """The folder, whether it is there or not."""
    return files.user_folder() / "provenance"


def folder() -> Path:
    """The folder; its owner's alone, made when absent.

    Raises:
        InvalidInput: it cannot be made.
    """
    path = place()
    try:
        path.mkdir(parents=True, exist_ok=True, mode=0o700)
    except OSError as error:
        raise InvalidInput(f"The folder {path} cannot be made: {error.strerror}.") from error
    return path


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold the lock of a file of that folder while the block runs.

    Raises:
        Busy: another process held it for `LOCK_SECONDS`.
        OSError: the folder cannot be written.
    """
    end = time.monotonic() + LOCK_SECONDS
    with contextlib.ExitStack() as stack:
        while True:
            try:
                stack.enter_context(files.exclusive(path.with_suffix(".lock"), f"Another process holds {path}."))
                break
            except Busy:
                if time.monotonic() > end:
                    raise
                time.sleep(0.02)
        yield


def write_private(path: Path, data: bytes) -> None:
    """Write a file that its owner alone may read, whole or not at all.

    Raises:
        InvalidInput: it cannot be written.
    """
    temporary = path.with_name(f".{path.name}-{os.getpid()}")
    try:
        with contextlib.suppress(FileNotFoundError):
            temporary.unlink()
        with os.fdopen(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            file.write(data)
        temporary.replace(path)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise InvalidInput(f"{path} cannot be written: {error.strerror}.") from error
