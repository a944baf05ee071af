"""Small files that clients send; larger ones are named by their path instead."""

import errno
import hashlib
import re
import shutil
import time
from pathlib import Path

from fastapi import HTTPException

from cmet_engine.errors import InvalidInput
from cmet_engine.jobs.store import write_atomically
from cmet_engine.media import formats

MAX_UPLOADS = 4 << 30  # bytes of all uploads together
UPLOAD_DAYS = 7  # an upload that was not sent again for so long is removed at the next start
_UPLOAD = re.compile(r"[0-9a-f]{64}\.\w+")
RESERVE = 64 << 20  # bytes of the disk that stay free


class Uploads:
    """The folder of uploads; each file is named by the checksum of its content.

    Args:
        folder: made when absent; old uploads in it are removed.
        asked: text that holds the paths of those that jobs still need.
    """

    def __init__(self, folder: Path, asked: str = "") -> None:
        self.folder = folder
        folder.mkdir(exist_ok=True)
        for path in folder.iterdir():
            old = path.stat().st_mtime < time.time() - UPLOAD_DAYS * 86400
            if old and _UPLOAD.fullmatch(path.name) and path.name not in asked:
                path.unlink()

    def add(self, data: bytes, suffix: str) -> Path:
        """Store a file, or renew one with the same content; returns its path.

        Raises:
            InvalidInput: files with this suffix are not taken.
            HTTPException: too much was uploaded.
            OSError: the disk is full.
        """
        suffix = suffix.lower()
        if suffix not in formats.UPLOAD:
            raise InvalidInput(f"Files of kind '{suffix}' are not taken; use one of {' '.join(formats.UPLOAD)}.")
        if shutil.disk_usage(self.folder).free < 2 * len(data) + RESERVE:
            raise OSError(errno.ENOSPC, "no space left for uploads")
        path = self.folder / (hashlib.sha256(data).hexdigest() + suffix)
        if path.exists():
            path.touch()
        elif sum(file.stat().st_size for file in self.folder.iterdir()) + len(data) > MAX_UPLOADS:
            raise HTTPException(
                507, "Too much was uploaded; name files by their path, or start the engine again in a week."
            )
        else:
            write_atomically(path, data)
        return path
