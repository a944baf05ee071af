"""The ledger: it grows, breaks are found, and nothing about it stops an edit."""

import json
import os
from pathlib import Path

import pytest

from cmet_engine.errors import InvalidInput
from cmet_engine.provenance import home as folder
from cmet_engine.provenance import ledger


@pytest.fixture
def lines(home: Path) -> Path:
    """A ledger of four entries."""
    for number in range(4):
        assert ledger.append({"id": f"{number:016x}", "output": f"take {number}.mp4"}) == []
    return home / "ledger.jsonl"


def test_entries_are_found_by_id_and_exported(lines: Path):
    assert ledger.problems() == [] and [entry["output"] for entry in ledger.entries()][:2] == [
        "take 0.mp4",
        "take 1.mp4",
    ]
    assert (ledger.lookup("000000000000000" + "2") or {})["output"] == "take 2.mp4" and ledger.lookup("ff") is None
    assert ledger.export(".csv").splitlines()[0].startswith("time,id,kind,source,")
    assert len(json.loads(ledger.export(".json"))["entries"]) == 4
    with pytest.raises(InvalidInput, match=r"\.csv or \.json"):
        ledger.export(".xml")
    assert lines.stat().st_mode & 0o077 == 0 or os.name == "nt"


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda rows: [*rows[:1], *rows[2:]], "Before line 2"),
        (lambda rows: rows[:3], "ends after 3 lines, but 4 were written"),
        (lambda rows: [rows[0].replace(b"take 0", b"take 9"), *rows[1:]], "Before line 2"),
        (lambda rows: [*rows[:3], rows[3].replace(b"take 3", b"take 9")], "its end was changed"),
        (lambda rows: [*rows[:2], b"{torn\n", *rows[3:]], "Line 3 of the ledger cannot be read"),
    ],
    ids=["removed", "cut", "changed", "last changed", "damaged"],
)
def test_what_was_removed_or_changed_is_found_and_stays_found(lines: Path, change, said: str):
    lines.write_bytes(b"".join(change(lines.read_bytes().splitlines(keepends=True))))
    assert said in ledger.problems()[0]
    ledger.append({"id": "5"})
    assert ledger.problems(), "a new entry hides what was done before it"


def test_an_id_is_the_same_for_the_same_work():
    assert ledger.new_id("clip", {"a": 1}) == ledger.new_id("clip", {"a": 1}) != ledger.new_id("clip", {"a": 2})
    assert len(ledger.new_id()) == 16 and ledger.new_id() != ledger.new_id()


def test_a_ledger_that_cannot_be_written_is_said(lines: Path, monkeypatch: pytest.MonkeyPatch):
    real = os.open

    def refused(path, flags, *rest):
        if str(path).endswith("ledger.jsonl"):
            raise PermissionError(13, "Permission denied")  # the tests may run as root, whom no mode stops
        return real(path, flags, *rest)

    monkeypatch.setattr(os, "open", refused)
    assert "not on record, for the ledger cannot be written (Permission denied)" in ledger.append({"id": "6"})[0]


def test_another_process_that_holds_the_ledger_is_not_waited_for_without_end(
    lines: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(folder, "LOCK_SECONDS", 0.1)
    with folder.locked(lines):
        assert "Another process holds" in ledger.append({"id": "7"})[0]


def test_a_clock_that_went_back_is_said(lines: Path):
    head = lines.with_suffix(".head")
    head.write_text(json.dumps({**json.loads(head.read_text()), "time": "2099-01-01T00:00:00+00:00"}))
    assert "clock says" in ledger.append({"id": "8"})[0]
