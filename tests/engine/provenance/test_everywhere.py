"""Edits as they are made: signed as the last thing, explained in the report, on record, and shown by command and engine."""

import json
from pathlib import Path

import pytest
from authority import Authority
from media_data import checksum
from short_clips import small

from cmet_engine import cli
from cmet_engine.errors import InvalidInput
from cmet_engine.pipeline import EditResult, edit_clip, render_clip
from cmet_engine.provenance import identity, ledger, show
from cmet_engine.spec import EditSpec, RenderSpec

WANTED = {"emotions": ["happy"], "quality": "draft", "consent": "Anna, 2026-11-01, in writing"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("edits")
    small(path / "take.mp4", frames=12, size=192)
    return path


@pytest.fixture
def here(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("CMET_HOME", str(folder / "home"))  # one ledger and one cache for these tests
    return folder


@pytest.fixture
def edited(here: Path) -> EditResult:
    """The edit, made once."""
    again = (here / "out").exists()
    spec = EditSpec.read({"clip": here / "take.mp4", **WANTED})
    return edit_clip(spec, here / "out") if not again else EditResult(here / "out", {}, {}, [])


def test_an_edit_is_signed_and_its_report_says_how(edited: EditResult, capsys: pytest.CaptureFixture[str]):
    assert not [message for message in edited.messages if "consent" in message or "credentials" in message.lower()]
    verdict = show.examine(edited.folder / "edited.mp4")
    assert verdict.credentials == show.VALID and verdict.recorded and verdict.edit["edit"] == "happy 1 (add)"
    said = json.loads((edited.folder / "report.json").read_text())["provenance"]
    assert said["signed by"] == "a local identity, which nobody vouches for" and said["consent"] == WANTED["consent"]
    assert "Content Credentials" in (page := (edited.folder / "report.html").read_text()) and WANTED["consent"] in page
    assert cli.main(["provenance", "show", str(edited.folder / "edited.mp4"), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["sources"][0]["title"] == "take.mp4"
    assert cli.main(["provenance", "show", str(edited.folder.parent / "take.mp4")]) == 1
    assert "No watermark was found in its pictures. That proves nothing" in capsys.readouterr().out


def test_the_same_edit_has_the_same_pictures_and_another_signature(edited: EditResult, here: Path):
    again = edit_clip(EditSpec.read({"clip": here / "take.mp4", **WANTED}), here / "again", force=True).files[
        "edited.mp4"
    ]
    first = here / "out" / "edited.mp4"
    assert checksum(first) == checksum(again) and first.read_bytes() != again.read_bytes()
    assert show.examine(first).edit["id"] == show.examine(again).edit["id"]


def test_a_rendering_goes_on_from_the_edit_and_its_credentials_lie_beside(edited: EditResult, here: Path, capsys):
    spec = RenderSpec.read(
        {"clip": here / "out" / "edited.mp4", "track": here / "out" / "edited.npz", "quality": "draft"}
    )
    made = render_clip(spec, here / "shot.mkv", force=True)
    assert made.files["shot.c2pa"].is_file() and "No consent of the person shown is on record" in made.messages[0]
    verdict = show.examine(here / "shot.mkv")
    assert verdict.credentials == show.VALID and verdict.sources[0] == {
        "title": "edited.mp4",
        "credentials": "valid",
        "relationship": "parentOf",
    }
    (here / "shot.mkv").unlink()
    with pytest.raises(InvalidInput, match=r"shot\.c2pa exists already"):
        render_clip(spec, here / "shot.mkv")
    assert cli.main(["provenance", "log", "-o", str(here / "ledger.csv"), "--force"]) == 0
    assert "shot.mkv" in (here / "ledger.csv").read_text()
    assert cli.main(["provenance", "log", "--id", verdict.edit["id"]]) == 0
    assert "shot.mkv" in capsys.readouterr().out


def test_a_key_that_cannot_sign_stops_the_work_before_it_begins(
    edited: EditResult, here: Path, authority: Authority, capsys
):
    certificate, key = authority.issue("Jo")
    assert cli.main(["provenance", "use", str(certificate), str(key)]) == 0
    assert "no copy is made" in capsys.readouterr().out
    key.unlink()
    count = len(ledger.entries())
    try:
        with pytest.raises(InvalidInput, match="cannot be read: No such file"):
            edit_clip(EditSpec.read({"clip": here / "take.mp4", **WANTED}), here / "never")
    finally:
        identity.use(None)
    assert not (here / "never").exists() and len(ledger.entries()) == count
