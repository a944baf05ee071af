"""Consent of the person who is shown: a sentence, or a file that says who agreed to what until when."""

from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

from cmet_engine.errors import InvalidInput
from cmet_engine.files import read_json, sha256

FIELDS = ("person", "scope", "given", "expires", "how", "signature", "scan")
"""Of a consent file, all text; `person` is needed. `expires` and `given` are dates (2027-01-31); `scan` is the SHA-256 of a scan of
the signed paper, or the path of it beside the file."""

MISSING = "No consent of the person shown is on record for this edit; say who agreed, when and how as its consent (--consent), or give a consent file."


@dataclass(frozen=True)
class Consent:
    """What is on record about consent.

    Attributes:
        text: in one line.
        details: as it goes into the manifest: `text`, or the fields of the file and its SHA-256.
        problem: a sentence where it is missing or expired; empty where all is well.
    """

    text: str
    details: dict[str, Any]
    problem: str = ""


def read(given: str | Path | None, today: date | None = None) -> Consent:
    """What is said about consent.

    Args:
        given: a sentence, the path of a consent file, or None.
        today: the day that an expiry is compared with; None is today (UTC).

    Raises:
        InvalidInput: the file cannot be read or is no consent file; the sentence names the field.
    """
    if given is None:
        return Consent("none on record", {"text": "none on record"}, MISSING)
    if isinstance(given, str):
        return Consent(given, {"text": given})
    document = read_json(given)
    if not isinstance(document, dict) or not isinstance(document.get("person"), str) or not document["person"].strip():
        raise InvalidInput(f'{given.name}: not a consent file; it needs at least "person": "who agreed".')
    if wrong := [name for name in document if name not in FIELDS or not isinstance(document[name], str)]:
        raise InvalidInput(f'{given.name}: the field "{wrong[0][:40]}" is not text, or not one of {", ".join(FIELDS)}.')
    dates = {name: _date(given, document, name) for name in ("given", "expires")}
    details = {**document, "file_sha256": sha256(given)}
    if "scan" in document and (scan := given.parent / document["scan"]).is_file():
        details["scan"] = sha256(scan)
    said = [f"{name} {document[name]}" for name in ("given", "how", "scope", "expires") if name in document]
    text, until = ", ".join([document["person"], *said]), dates["expires"]
    if until is not None and until < (today or datetime.now(UTC).date()):
        return Consent(
            text, details, f"The consent of {document['person']} expired on {until} ({given.name}); ask anew."
        )
    return Consent(text, details)


def _date(file: Path, document: dict[str, Any], name: str) -> date | None:
    try:
        return date.fromisoformat(document[name]) if name in document else None
    except ValueError as error:
        raise InvalidInput(f'{file.name}: the field "{name}" is no date such as 2027-01-31.') from error


def described(details: Any) -> str:
    """One line for what a manifest says about consent."""
    if not isinstance(details, dict):
        return "none on record"
    if "text" in details:
        return str(details["text"])
    return ", ".join(
        f"{name} {details[name]}" if name != "person" else str(details[name]) for name in FIELDS if name in details
    )
