"""The embedded files of `cmet_engine/assets`, checked against their recorded checksums before they are used.

python -m cmet_engine.models.assets FILE...        record the checksums of files that were made anew
"""

import functools
import json
import os
import sys
from pathlib import Path

from cmet_engine.errors import MissingWeights
from cmet_engine.files import read_json, sha256
from cmet_engine.models import licences

ASSETS = Path(__file__).parents[1] / "assets"

CHECKSUMS = ASSETS / "checksums.json"

OWN = "CMET_WEIGHTS"
"""Environment variable: a folder with weights of your own, which stand in place of embedded ones of the same names."""

_verified: set[tuple[Path, int]] = set()  # files that have been read, with the time of their last change


def asset(name: str) -> Path:
    """Path of an embedded file, after its SHA-256 was compared with the recorded one (once a process).

    Raises:
        MissingWeights: the file is missing or differs from what was recorded, or is refused (`licences.chosen`).
    """
    if (own := own_file(name)) is not None:
        return own
    name = licences.chosen(name)
    path = ASSETS / name
    recorded = recorded_checksums().get(name)
    if not path.is_file() or recorded is None:
        raise MissingWeights(f"The embedded file {name} is missing; install the package again.")
    if not is_verified(path, recorded):
        raise MissingWeights(f"The embedded file {name} is damaged (its checksum differs); install the package again.")
    return path


def own_file(name: str) -> Path | None:
    """The file of the folder `CMET_WEIGHTS` that stands in place of the embedded file `name`; None where there is none."""
    folder = os.environ.get(OWN)
    path = Path(folder or "", name)
    return path if folder and path.is_file() else None


def recorded_checksums() -> dict[str, str]:
    """SHA-256 of every embedded file by its name; empty where the table is missing."""
    return read_json(CHECKSUMS) if CHECKSUMS.exists() else {}


def checksums(*names: str) -> tuple[str, ...]:
    """SHA-256 of embedded files, each checked, for results that depend on them."""
    for name in names:
        asset(name)
    used = models()
    return tuple(used[name] for name in names)


def models() -> dict[str, str]:
    """SHA-256 of the embedded weights that are used, by the names that they are asked for with."""
    recorded = recorded_checksums()
    used = {}
    for name in recorded:
        if name.startswith(licences.CLEAN) or not name.endswith(".safetensors"):
            continue
        if (own := own_file(name)) is not None:
            used[name] = _sha256(own, own.stat().st_mtime_ns)
        elif (place := licences.place(name)) in recorded:
            used[name] = recorded[place]
    return used


@functools.cache
def _sha256(path: Path, _changed: int) -> str:
    return sha256(path)


def record(name: str) -> str:
    """Record the checksum of the embedded file `name` (at `licences.place`), which was made anew; returns the checksum."""
    name = licences.place(name)
    known = recorded_checksums()
    known[name] = sha256(ASSETS / name)
    CHECKSUMS.write_text(json.dumps(dict(sorted(known.items())), indent=2) + "\n", "utf-8")
    return known[name]


def is_verified(path: Path, checksum: str) -> bool:
    """Whether a file has the checksum; it is read once a process, and again when it was replaced."""
    key = (path, path.stat().st_mtime_ns)
    if key not in _verified:
        if sha256(path) != checksum:
            return False
        _verified.add(key)
    return True


if __name__ == "__main__":
    for given in sys.argv[1:]:
        name = Path(given).resolve().relative_to(ASSETS).as_posix()
        print(record(name), name)
