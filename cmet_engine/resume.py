"""Finished pieces of one job, so that it goes on where it was interrupted, and ends as if it never had been.

    <folder>/<stage>/ledger.json    what the pieces of this stage were made from, as a checksum
    <folder>/<stage>/…              the pieces; each appears whole or not at all

Pieces made from something else (the clip was exported again, the program is another version) are of no use and go.
"""

import hashlib
import json
import logging
import shutil
from collections.abc import Iterator
from pathlib import Path

import av
import numpy as np

from cmet_engine import __version__
from cmet_engine.files import sha256, whole_file

log = logging.getLogger(__name__)

LEDGER = "ledger.json"


class Pieces:
    """The folder of a job's finished pieces; made when first needed."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def stage(self, name: str, *made_from: object) -> Path:
        """The folder of one stage's pieces, empty unless they were made from the same things.

        Args:
            name: of the stage.
            made_from: everything its pieces depend on; see `fingerprint`.
        """
        folder = self.folder / name
        ledger = {"made_from": fingerprint(*made_from)}
        if folder.exists():
            try:
                if json.loads((folder / LEDGER).read_text("utf-8")) == ledger:
                    return folder
                log.warning("%s begins anew: the clip, the curves or the program changed since the interruption.", name)
            except (OSError, ValueError):
                pass  # interrupted before its first piece
            shutil.rmtree(folder)
        folder.mkdir(parents=True)
        with whole_file(folder / LEDGER) as temporary:
            temporary.write_text(json.dumps(ledger), "utf-8")
        return folder


def fingerprint(*made_from: object) -> str:
    """Checksum of things: of files their content, of arrays their values, of iterators what they give, else the `repr`.

    The versions of the program and of its encoders are always part of it.
    """
    digest = hashlib.sha256(repr((__version__, av.__version__)).encode())
    for part in made_from:
        _digest(digest, part)
    return digest.hexdigest()


def _digest(digest: "hashlib._Hash", part: object) -> None:
    if isinstance(part, Path) and part.is_file():
        part = sha256(part)
    if isinstance(part, np.ndarray):
        digest.update(repr((part.dtype.str, part.shape)).encode())
        digest.update(np.ascontiguousarray(part).data)
    elif isinstance(part, Iterator):
        for item in part:
            _digest(digest, item)
    else:
        digest.update(repr(part).encode())


def save_arrays(path: Path, **arrays: np.ndarray) -> None:
    """Write arrays into one file, replacing an earlier one in a single step."""
    with whole_file(path, force=True) as temporary, temporary.open("wb") as file:
        np.savez(file, **arrays)  # type: ignore[arg-type]


def load_arrays(path: Path) -> dict[str, np.ndarray]:
    """What `save_arrays` wrote; nothing when there is no such file."""
    if not path.is_file():
        return {}
    with np.load(path, allow_pickle=False) as stored:
        return dict(stored)
