"""Manifests, and batches that go on where they stopped."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cmet_engine import batch
from cmet_engine.errors import CmetError


def manifest(tmp_path, text, name="jobs.csv"):
    path = tmp_path / name
    path.write_text(text)
    return path


def test_a_row_gets_the_documented_defaults(tmp_path):
    (row,) = batch.read_manifest(manifest(tmp_path, "clip,emotions\na.mp4,happy@0-2.5; sarcastic=0.6@2.5-\n"))
    assert row.values["kind"] == "edit" and row.values["strength"] == 1.0
    assert row.values["emotions"] == ["happy@0-2.5", "sarcastic=0.6@2.5-"]
    assert row.output == tmp_path / "a-edited"


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("", "no rows"),
        ("clip\n", "no rows"),
        ("clip,colour\na.mp4,red\n", "colour"),
        ("clip,kind\na.mp4,dance\n", "dance"),
        ("clip,strength\na.mp4,much\n", "strength"),
        ("clip,kind\na.mp4,render\n", "track"),
        ("kind,clip\nedit,\n", "clip"),
        ("clip\na.mp4\na.mp4\n", "same output"),
        ("clip\na.mp4,b,c\n", "more cells"),
    ],
)
def test_a_wrong_manifest_names_the_row_and_the_column(tmp_path, text, word):
    with pytest.raises(CmetError, match=word):
        batch.read_manifest(manifest(tmp_path, text))


@given(st.binary(max_size=300), st.sampled_from([".csv", ".jsonl"]))
def test_any_bytes_give_rows_or_one_sentence(tmp_path_factory, data, suffix):
    path = tmp_path_factory.mktemp("m") / f"jobs{suffix}"
    path.write_bytes(data)
    try:
        assert batch.read_manifest(path)
    except CmetError as error:
        assert str(error)


def test_init_writes_a_manifest_that_reads_back(tmp_path):
    (tmp_path / "clips").mkdir()
    for name in ("b.mp4", "a.MOV", "notes.txt"):
        (tmp_path / "clips" / name).touch()
    path = tmp_path / "jobs.csv"
    assert batch.write_manifest(tmp_path / "clips", path, emotions="sad=0.5") == 2
    assert [row.values["emotions"] for row in batch.read_manifest(path)] == [["sad=0.5"]] * 2


def test_failures_do_not_stop_others_and_resume_skips_what_is_done(tmp_path):
    good = tmp_path / "take.json"
    good.write_text(json.dumps({"exportFps": 30, "facsNames": ["jawOpen"], "weightMat": [[0.1], [0.2]]}))
    path = manifest(
        tmp_path, f"kind,clip,output\nexport,{good},one.csv\nexport,missing.npz,two.csv\nexport,{good},three.npz\n"
    )
    summary = batch.run_batch(path)
    assert (summary.done, summary.failed) == (2, 1)
    lines = [json.loads(line) for line in summary.results.read_text().splitlines()]
    assert sorted(line["state"] for line in lines) == ["done", "done", "failed"]
    assert next(line for line in lines if line["state"] == "failed")["error"].startswith("Cannot read")
    with pytest.raises(CmetError, match="--resume"):
        batch.run_batch(path)
    again = batch.run_batch(path, retry=True)
    assert (again.done, again.failed, again.skipped) == (0, 1, 2)
    assert len(again.results.read_text().splitlines()) == 3
