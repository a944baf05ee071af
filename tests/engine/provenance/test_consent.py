"""Consent: what is said about it, and what a file about it must hold."""

import hashlib
import json
from datetime import date
from pathlib import Path

import pytest

from cmet_engine.errors import InvalidInput
from cmet_engine.provenance import consent
from cmet_engine.spec import EditSpec, RenderSpec

ANNA = {"person": "Anna", "scope": "this film", "given": "2026-11-01", "expires": "2027-01-31", "how": "in writing"}


def written(folder: Path, document: object) -> Path:
    path = folder / "anna.json"
    path.write_text(document if isinstance(document, str) else json.dumps(document))
    return path


def test_a_sentence_is_taken_as_it_is_and_nothing_is_said_once():
    assert consent.read("Anna, today, on paper") == consent.Consent(
        "Anna, today, on paper", {"text": "Anna, today, on paper"}
    )
    assert "No consent of the person shown is on record" in consent.read(None).problem


def test_a_file_is_bound_by_its_hash_and_its_scans(tmp_path: Path):
    (tmp_path / "paper.pdf").write_bytes(b"scan")
    path = written(tmp_path, {**ANNA, "scan": "paper.pdf"})
    found = consent.read(path, date(2027, 1, 31))
    assert found.problem == "" and found.details["file_sha256"] == hashlib.sha256(path.read_bytes()).hexdigest()
    assert found.details["scan"] == hashlib.sha256(b"scan").hexdigest()
    assert consent.described(found.details).startswith("Anna, scope this film, given 2026-11-01")
    assert "expired on 2027-01-31" in consent.read(path, date(2027, 2, 1)).problem


@pytest.mark.parametrize(
    ("document", "said"),
    [
        ("{", "not valid JSON"),
        ({"scope": "all"}, 'needs at least "person"'),
        ({**ANNA, "age": "30"}, 'the field "age"'),
        ({**ANNA, "scope": 3}, 'the field "scope"'),
        ({**ANNA, "expires": "soon"}, 'the field "expires" is no date'),
    ],
)
def test_a_file_that_says_nothing_of_use_is_refused(tmp_path: Path, document: object, said: str):
    with pytest.raises(InvalidInput, match=said):
        consent.read(written(tmp_path, document))


def test_it_is_a_field_of_edits_and_renders(tmp_path: Path):
    spec = EditSpec.read({"clip": "a.mp4", "consent": "b/anna.json"})
    assert spec.consent == Path("b/anna.json") and ("consent", Path("b/anna.json")) in list(spec.input_paths())
    again = RenderSpec.read({"clip": "a.mp4", "track": "t.npz", "consent": "Anna, today"})
    assert RenderSpec.read(again.model_dump(mode="json")) == again
    with pytest.raises(InvalidInput, match="consent"):
        EditSpec.read({"clip": "a.mp4", "consent": "a\nb"})
