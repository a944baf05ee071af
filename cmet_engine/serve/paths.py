"""Which files a client may name: the one place that turns a client's words into paths."""

import stat
from pathlib import Path

from cmet_engine.errors import CmetError

MAX_PATH = 4096  # characters; longer than any path that Linux, macOS or Windows opens by default


class AllowedFolders:
    """The folders whose files clients may read and write.

    Args:
        folders: allowed folders; symbolic links in them are resolved once, here.

    Raises:
        CmetError: a folder does not exist.
    """

    def __init__(self, folders: list[Path]) -> None:
        self.folders: list[Path] = []
        for folder in folders:
            if not folder.is_dir():
                raise CmetError(f"The allowed folder {folder} does not exist.")
            self.folders.append(folder.resolve())

    def resolve(self, name: str) -> Path:
        """The real path of what a client named.

        Raises:
            CmetError: not an absolute path inside an allowed folder (links followed), or not a usable name.
        """
        if not name or len(name) > MAX_PATH or any(ord(c) < 32 for c in name):
            raise CmetError("A path is empty, too long or holds control characters.")
        given = Path(name)
        if not given.is_absolute() or ".." in given.parts:
            raise CmetError(f"'{name}' is not an absolute path without '..'.")
        try:
            real = given.resolve()
        except (OSError, RuntimeError, ValueError) as error:
            raise CmetError(f"'{name}' is not a usable path.") from error
        if not any(real.is_relative_to(folder) for folder in self.folders):
            raise CmetError(f"'{name}' is outside the folders that this engine may use; start it with --allow FOLDER.")
        return real

    def readable(self, name: str, *, folder_too: bool = False) -> Path:
        """An existing ordinary file (or folder, when allowed) that a client named; devices and pipes are refused.

        Raises:
            CmetError: see `resolve`; or it is missing or of another kind.
        """
        path = self.resolve(name)
        try:
            mode = path.stat().st_mode
        except OSError as error:
            raise CmetError(f"'{name}' cannot be read: {error.strerror}.") from error
        if stat.S_ISREG(mode) or (folder_too and stat.S_ISDIR(mode)):
            return path
        raise CmetError(f"'{name}' is not an ordinary file.")

    def writable(self, name: str) -> Path:
        """A path where a client's results may go: its folder exists, and it is no device or pipe.

        Raises:
            CmetError: see `resolve`; or the folder is missing.
        """
        path = self.resolve(name)
        if not path.parent.is_dir():
            raise CmetError(f"The folder of '{name}' does not exist.")
        if path.exists() and not (path.is_file() or path.is_dir()):
            raise CmetError(f"'{name}' is not an ordinary file or folder.")
        return path
