"""The embedded files of `cmet_engine/assets`, checked against their recorded checksums before they are used.

python -m cmet_engine.models.assets FILE...        record the checksums of files that were made anew
"""

import json
import sys
from pathlib import Path

from cmet_engine.errors import MissingWeights
from cmet_engine.files import read_json, sha256
from cmet_engine.models import licences

ASSETS = Path(__file__).parents[1] / "assets"

CHECKSUMS = ASSETS / "checksums.json"

_verified: set[tuple[Path, int]] = set()  # files that have been read, with the time of their last change


def asset(name: str) -> Path:
    """Path of an embedded file, after its SHA-256 was compared with the recorded one (once a process).

    Raises:
        MissingWeights: the file is missing or differs from what was recorded, or is refused (`licences.check_allowed`).
    """
    licences.check_allowed(name)
    path = ASSETS / name
    recorded = recorded_checksums().get(name)
    if not path.is_file() or recorded is None:
        raise MissingWeights(f"The embedded file {name} is missing; install the package again.")
    if not is_verified(path, recorded):
        raise MissingWeights(f"The embedded file {name} is damaged (its checksum differs); install the package again.")
    return path


def recorded_checksums() -> dict[str, str]:
    """SHA-256 of every embedded file by its name; empty where the table is missing."""
    return read_json(CHECKSUMS) if CHECKSUMS.exists() else {}


def checksums(*names: str) -> tuple[str, ...]:
    """SHA-256 of embedded files, each checked, for results that depend on them."""
    for name in names:
        asset(name)
    recorded = recorded_checksums()
    return tuple(recorded[name] for name in names)


def record(name: str) -> str:
    """Record the checksum of the embedded file `name`, which was made anew; returns the checksum."""
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
        print(record(Path(given).name), Path(given).name)
