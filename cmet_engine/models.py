"""Where weights come from, and that they are the ones that were meant: checksums of everything that is loaded."""

import hashlib
import json
import os
import sys
from pathlib import Path

from cmet_engine.errors import CmetError

ASSETS = Path(__file__).parent / "assets"
CHECKSUMS = ASSETS / "checksums.json"

_verified: set[Path] = set()


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


def asset(name: str) -> Path:
    """Path of an embedded file, after its SHA-256 was compared with the recorded one (once a process).

    Raises:
        CmetError: the file is missing or differs from what was recorded.
    """
    path = ASSETS / name
    if path in _verified:
        return path
    recorded = json.loads(CHECKSUMS.read_text("utf-8")).get(name) if CHECKSUMS.exists() else None
    if not path.is_file() or recorded is None:
        raise CmetError(f"The embedded file {name} is missing; install the package again.")
    if sha256(path) != recorded:
        raise CmetError(f"The embedded file {name} is damaged (its checksum differs); install the package again.")
    _verified.add(path)
    return path


def record(name: str) -> str:
    """Record the checksum of the embedded file `name` after it was trained anew; returns the checksum."""
    known = json.loads(CHECKSUMS.read_text("utf-8")) if CHECKSUMS.exists() else {}
    known[name] = sha256(ASSETS / name)
    CHECKSUMS.write_text(json.dumps(dict(sorted(known.items())), indent=2) + "\n", "utf-8")
    return known[name]


if __name__ == "__main__":
    for given in sys.argv[2:]:
        print(record(Path(given).name), Path(given).name)
