"""Which files a client may name: the one place that checks paths from clients."""

import re
import stat
from collections.abc import Collection
from pathlib import Path

from cmet_engine.errors import InvalidInput
from cmet_engine.spec_base import LONGEST_PATH

_CONTROL = re.compile(r"[\x00-\x1f\x7f\ud800-\udfff]")  # control characters, and halves of characters


MOST_LISTED = 5000  # entries of a folder


def _kind(path: Path) -> int:
    """Whether an entry is a file or a folder, as in its mode; 0 where that cannot be told."""
    try:
        return stat.S_IFMT(path.stat().st_mode)
    except OSError:
        return 0


class AllowedFolders:
    """The folders whose files clients may read and write.

    Args:
        folders: allowed folders; symbolic links in them are resolved once, here.

    Raises:
        InvalidInput: a folder does not exist.
    """

    def __init__(self, folders: list[Path]) -> None:
        self.folders: list[Path] = []
        for folder in folders:
            if not folder.is_dir():
                raise InvalidInput(f"The allowed folder {folder} does not exist.")
            self.folders.append(folder.resolve())

    def resolve(self, name: str) -> Path:
        """The real path of what a client named.

        Raises:
            InvalidInput: not an absolute path inside an allowed folder (links followed), or not a usable name.
        """
        if not name or len(name) > LONGEST_PATH or _CONTROL.search(name):
            raise InvalidInput("A path is empty, too long or holds control characters.")
        given = Path(name)
        if not given.is_absolute() or ".." in given.parts:
            raise InvalidInput(f"'{name}' is not an absolute path without '..'.")
        try:
            real = given.resolve()
        except (OSError, RuntimeError, ValueError) as error:
            raise InvalidInput(f"'{name}' is not a usable path.") from error
        if not any(real.is_relative_to(folder) for folder in self.folders):
            raise InvalidInput(
                f"'{name}' is outside the folders that this engine may use; start it with --allow FOLDER."
            )
        return real

    def readable(self, name: str, *, folder_too: bool = False) -> Path:
        """An existing ordinary file (or folder, when allowed) that a client named; devices and pipes are refused.

        Raises:
            InvalidInput: see `resolve`; or it is missing or of another kind.
        """
        path = self.resolve(name)
        try:
            mode = path.stat().st_mode
        except OSError as error:
            raise InvalidInput(f"'{name}' cannot be read: {error.strerror}.") from error
        if stat.S_ISREG(mode) or (folder_too and stat.S_ISDIR(mode)):
            return path
        raise InvalidInput(f"'{name}' is not an ordinary file.")

    def listing(self, name: str, suffixes: Collection[str]) -> tuple[Path | None, list[Path], list[Path]]:
        """A folder, its folders and its files with one of some suffixes, in order; hidden ones are left out.

        Args:
            name: of the folder; empty lists the allowed folders themselves.
            suffixes: in lower case, with the dot.

        Raises:
            InvalidInput: see `resolve`; or it is no folder that can be read.
        """
        if not name:
            return None, self.folders, []
        folder = self.resolve(name)
        try:
            entries = sorted(
                (p for p in folder.iterdir() if not p.name.startswith(".")), key=lambda p: p.name.casefold()
            )
        except OSError as error:
            raise InvalidInput(f"'{name}' is not a folder that can be read: {error.strerror}.") from error
        with_kind = [(path, _kind(path)) for path in entries[:MOST_LISTED]]
        folders = [path for path, kind in with_kind if kind == stat.S_IFDIR]
        return folder, folders, [p for p, kind in with_kind if kind == stat.S_IFREG and p.suffix.lower() in suffixes]

    def writable(self, name: str) -> Path:
        """A path where a client's results may go: its folder exists, and it is no device or pipe.

        Raises:
            InvalidInput: see `resolve`; or the folder is missing.
        """
        path = self.resolve(name)
        if not path.parent.is_dir():
            raise InvalidInput(f"The folder of '{name}' does not exist.")
        if path.exists() and not (path.is_file() or path.is_dir()):
            raise InvalidInput(f"'{name}' is not an ordinary file or folder.")
        return path
