"""What was made from what on this machine, by this user: a ledger that only grows.

    <user folder>/provenance/ledger.jsonl    one JSON object a line, each with the hash of the line before it (`previous`)
    <user folder>/provenance/ledger.head     how many lines there are, and the hash of the last one

A line that was changed, removed or put in breaks the chain, which `problems` finds. Whoever may write both files can write a new
chain; the ledger is a record for its owner, not a proof against them.
"""

import csv
import hashlib
import io
import json
import os
import secrets
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from cmet_engine import fingerprint
from cmet_engine.errors import Busy, InvalidInput
from cmet_engine.provenance import home

COLUMNS = (
    "time", "id", "kind", "source", "source_sha256", "output", "output_sha256", "edit", "renderer", "quality", "consent", "watermark",
    "signed_by", "tool",
)  # fmt: skip
"""What an export as CSV says of each entry."""

_NEW = {"lines": 0, "hash": ""}


def new_id(*made_from: object) -> str:
    """A 64-bit id for an edited file, 16 hexadecimal digits.

    Args:
        made_from: everything that decides the file's pictures, as `fingerprint.data` takes it: the same work has the same id then,
            also when it goes on after an interruption. Without it the id is drawn at random.
    """
    return fingerprint.data("id", *made_from)[:16] if made_from else secrets.token_hex(8)


def path() -> Path:
    """Where the ledger lies."""
    return home.place() / "ledger.jsonl"


def append(entry: dict[str, Any]) -> list[str]:
    """Add an entry, stamped with the time.

    Args:
        entry: what to keep, as JSON knows it; `id` names it, see `lookup`.

    Returns:
        Sentences about what is wrong: the ledger cannot be written, or this machine's clock went back.
    """
    try:
        file = home.folder() / path().name
        with home.locked(file):
            return _append(file, entry)
    except (InvalidInput, Busy, OSError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error).removesuffix(".")
        return [f"This edit is not on record, for the ledger cannot be written ({reason}); see `cmet provenance log`."]


def _append(file: Path, entry: dict[str, Any]) -> list[str]:
    head, now, notes = _head(file), datetime.now(UTC), []
    if head.get("time") and now < datetime.fromisoformat(head["time"]):
        notes.append(
            f"This machine's clock says {now:%Y-%m-%d %H:%M}, which is before the last entry of the ledger ({head['time'][:16]}); set the clock."
        )
    stamp = now.isoformat(timespec="seconds")
    line = json.dumps({"time": stamp, **entry, "previous": head["hash"]}, ensure_ascii=False, default=str).encode()
    with os.fdopen(os.open(file, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600), "r+b") as target:
        if target.seek(0, os.SEEK_END) and (target.seek(-1, os.SEEK_END), target.read(1))[1] != b"\n":
            line = b"\n" + line  # what a killed process began stays as it is
        target.write(line + b"\n")
        target.flush()
        os.fsync(target.fileno())
    new = {"lines": head["lines"] + 1, "hash": hashlib.sha256(line.lstrip(b"\n")).hexdigest(), "time": stamp}
    home.write_private(file.with_suffix(".head"), json.dumps(new).encode())
    return notes


def _head(file: Path) -> dict[str, Any]:
    try:
        head = json.loads(file.with_suffix(".head").read_text("utf-8"))
        return {"lines": int(head["lines"]), "hash": str(head["hash"]), "time": head.get("time")}
    except (OSError, ValueError, KeyError, TypeError):
        return dict(_NEW)


def entries() -> list[dict[str, Any]]:
    """Every entry, oldest first; lines that cannot be read are left out (`problems` names them)."""
    return [entry for _, _, entry in _lines() if entry is not None]


def lookup(identity: str) -> dict[str, Any] | None:
    """The newest entry of an id, or None."""
    return next((entry for entry in reversed(entries()) if entry.get("id") == identity.lower()), None)


def of_file(checksum: str) -> dict[str, Any] | None:
    """The newest entry about a file with this SHA-256, or None."""
    return next((entry for entry in reversed(entries()) if entry.get("output_sha256") == checksum), None)


def problems() -> list[str]:
    """Sentences about lines that were changed, removed or damaged; empty where the chain is whole."""
    found, expected, count = [], "", 0
    for count, raw, entry in _lines():
        if entry is None:
            found.append(f"Line {count} of the ledger cannot be read.")
        elif entry.get("previous") != expected:
            found.append(f"Before line {count} of the ledger something was changed or removed.")
        expected = hashlib.sha256(raw).hexdigest() if entry is not None else expected
    head = _head(path())
    if (count, expected) != (head["lines"], head["hash"]) and not found:
        found.append(f"The ledger ends after {count} lines, but {head['lines']} were written; its end was changed.")
    return found


def _lines() -> list[tuple[int, bytes, dict[str, Any] | None]]:
    try:
        raw = path().read_bytes().splitlines()
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as error:
        raise InvalidInput(f"The ledger {path()} cannot be read: {error.strerror}.") from error
    found = []
    for number, line in enumerate(raw, 1):
        try:
            entry = json.loads(line)
        except ValueError:
            entry = None
        found.append((number, line, entry if isinstance(entry, dict) else None))
    return found


def export(suffix: str) -> str:
    """The ledger as text: `.csv` with the `COLUMNS`, or `.json` with everything.

    Raises:
        InvalidInput: another suffix.
    """
    if suffix == ".json":
        return json.dumps({"entries": entries(), "problems": problems()}, indent=1, ensure_ascii=False) + "\n"
    if suffix != ".csv":
        raise InvalidInput(f"The ledger is exported as .csv or .json, not as '{suffix}'.")
    text = io.StringIO()
    table = csv.DictWriter(text, COLUMNS, extrasaction="ignore")
    table.writeheader()
    table.writerows(entries())
    return text.getvalue()
