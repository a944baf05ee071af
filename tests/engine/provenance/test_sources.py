"""What a result is made from: every source by its own content, of everyone, in manifest, ledger and id."""

import hashlib
import shutil
from pathlib import Path
from typing import Any

from short_clips import small

from cmet_engine.cli.main import main
from cmet_engine.jobs.execute import blender_arguments
from cmet_engine.provenance import credentials, ledger, show
from cmet_engine.provenance.seal import Signatory, seal_export
from cmet_engine.spec import EditSpec, RenderSpec, read_work
from cmet_engine.spec_rig import SealSpec


def written(path: Path, content: str) -> Path:
    path.parent.mkdir(exist_ok=True)
    path.write_text(content)
    return path


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_sources_of_one_name_are_told_apart(clip: Path, tmp_path: Path):
    one, other = (written(tmp_path / folder / "edited.npz", folder) for folder in ("one", "other"))
    values: dict[str, Any] = {"clip": clip, "track": one, "source": other, "consent": "Anna, today"}
    seal = Signatory(RenderSpec.read(values)).seal("curves")
    assert list(seal.work.sources.items()) == [(clip, digest(clip)), (one, digest(one)), (other, digest(other))]
    swapped = Signatory(RenderSpec.read(values | {"track": other, "source": one})).seal("curves")
    assert swapped.work.id != seal.work.id
    path = Path(shutil.copy(clip, tmp_path / "shot.mp4"))
    assert seal(path, path) + seal.record(path) == []
    verdict = show.examine(path)
    assert verdict.credentials == show.VALID
    assert [source["title"] for source in verdict.sources] == ["take.mp4", "edited.npz", "edited.npz"]
    assert verdict.edit["sources"][1:] == [{"name": "edited.npz", "sha256": digest(file)} for file in (one, other)]
    assert ledger.entries()[-1]["sources"][2] == {"path": str(other), "sha256": digest(other)}


def test_curves_of_everyone_recordings_and_pictures_are_sources(clip: Path, tmp_path: Path):
    curves = [written(tmp_path / f"{name}.npz", name) for name in ("anna", "own", "two")]
    people = [{"person": "2", "track": curves[2], "source": curves[1]}]
    seal = Signatory(RenderSpec.read({"clip": clip, "track": curves[0], "people": people})).seal("curves")
    assert set(seal.work.sources) == {clip, *curves} and next(iter(seal.work.sources)) == clip
    voices = [written(tmp_path / "voices" / name, name) for name in ("a.wav", "b.flac")]
    written(tmp_path / "voices" / "notes.txt", "no recording")
    neutral, face = written(tmp_path / "calm.wav", "calm"), written(tmp_path / "anna.png", "a picture")
    spec = EditSpec.read({"clip": clip, "emotions": ["happy"], "speech": tmp_path / "voices", "neutral": neutral, "face": str(face)})  # fmt: skip
    assert list(Signatory(spec).seal("happy").work.sources) == [clip, *voices, neutral, face]


def test_two_sources_whose_credentials_lie_beside_them_keep_both(clip: Path, tmp_path: Path, signed):
    sources = []
    for folder in ("one", "other"):
        path = tmp_path / folder / "edited.mkv"
        path.parent.mkdir()
        small(path, frames=2, size=64)
        signed(clip, path)
        sources.append(path)
    result = Path(shutil.copy(clip, tmp_path / "both.mp4"))
    seal = Signatory(RenderSpec.read({"clip": sources[0], "track": sources[1]})).seal("curves")
    assert seal(result, result) == []
    verdict = show.examine(result)
    assert [source["credentials"] for source in verdict.sources] == ["valid", "valid"], verdict.sentences


def test_a_file_is_verified_once_also_where_its_mark_is_found(clip: Path, tmp_path: Path, monkeypatch, capsys):
    read, asked = credentials.read, []
    monkeypatch.setattr(credentials, "read", lambda path: asked.append(path) or read(path))
    monkeypatch.setattr(show, "mark_in", lambda path, progress=None: "00000000000000ff")
    assert main(["provenance", "show", str(clip), "--json"]) == 1
    assert asked == [clip] and '"mark": "00000000000000ff"' in capsys.readouterr().out


def test_exports_are_signed_with_consent_also_without_a_known_source(clip: Path, tmp_path: Path):
    path, track = written(tmp_path / "head.fbx", "an animation"), written(tmp_path / "take.npz", "curves")
    assert seal_export(SealSpec(file=path, track=track, emotions=("happy",), consent="Anna, today")) == []
    verdict = show.examine(path)
    assert verdict.credentials == show.VALID and verdict.edit["consent"] == {"text": "Anna, today"}
    assert verdict.edit["edit"].endswith("put on a character, with happy")
    (said,) = seal_export(SealSpec(file=path, force=True))
    assert "No consent of the person shown is on record" in said
    assert show.examine(path).credentials == show.VALID and ledger.entries()[-1]["source"] is None
    path.write_text("another animation")
    assert show.examine(path).credentials == show.CHANGED


def test_consent_is_a_field_of_all_work_that_is_signed(tmp_path: Path):
    rig = tmp_path / "rig.blend"
    for kind, more in (("export", {"track": "a.npz"}), ("apply", {"track": "a.npz"}), ("bake", {}), ("render_rig", {"clip": "a.mp4"})):  # fmt: skip
        spec = read_work({"kind": kind, "rig": str(rig), "consent": "Anna, today", **more})
        arguments = blender_arguments(spec, tmp_path / "out")  # type: ignore[arg-type]
        assert ("--consent=Anna, today" in arguments) == (kind == "render_rig"), "who signs is told, nobody else"
        assert ("--unsigned" in arguments) == (kind != "render_rig")
