"""Finished segments of one job: an interrupted job continues after them, and its result is the same as without the interruption.

    <folder>/<stage>/ledger.json    what the segments of this stage were made from, as a checksum
    <folder>/<stage>/…              the segments; each appears whole or not at all

Segments that were made from something else (the clip was exported again, the program changed) are removed.
"""

import json
import logging
import shutil
from pathlib import Path

import numpy as np

from cmet_engine import fingerprint, npz
from cmet_engine.errors import CmetError, InvalidInput
from cmet_engine.files import is_hidden, read_json, whole_file

log = logging.getLogger(__name__)

LEDGER = "ledger.json"


class Segments:
    """The folder of a job's finished segments; made when first needed."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def part(self, name: str) -> "Segments":
        """The folder of a part of the job, which has stages of its own."""
        return Segments(self.folder / name)

    def stage(self, name: str, code: str, *made_from: object) -> Path:
        """The folder of one stage's segments, empty unless they were made from the same things by the same code.

        Args:
            name: of the stage.
            code: from `fingerprint.code`, of the modules that make them.
            made_from: everything else they depend on, as `fingerprint.data` takes it.

        Raises:
            InvalidInput: the folder holds something else.
        """
        folder = self.folder / name
        ledger = {"made_from": fingerprint.data(code, *made_from)}
        if folder.exists():
            try:
                if read_json(folder / LEDGER) == ledger:
                    return folder
                log.warning("%s begins anew: the clip, the curves or the program changed since the interruption.", name)
            except CmetError as error:  # interrupted before its first segment
                if not (folder / LEDGER).exists() and any(not is_hidden(path) for path in folder.iterdir()):
                    raise InvalidInput(
                        f"{folder} holds files that are no finished segments; give another folder."
                    ) from error
            shutil.rmtree(folder)
        folder.mkdir(parents=True)
        with whole_file(folder / LEDGER) as temporary:
            temporary.write_text(json.dumps(ledger), "utf-8")
        return folder


def save_arrays(path: Path, **arrays: np.ndarray) -> None:
    """Write arrays into one file, replacing an earlier one in a single step."""
    with whole_file(path, force=True) as temporary, temporary.open("wb") as file:
        np.savez(file, **arrays)  # type: ignore[arg-type]


def load_arrays(path: Path) -> dict[str, np.ndarray]:
    """What `save_arrays` wrote; nothing when there is no such file."""
    return npz.load_arrays(path) if path.is_file() else {}
