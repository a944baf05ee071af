"""Manifests, and batches that go on where they stopped."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cmet_engine.errors import CmetError
from cmet_engine.files import exclusive
from cmet_engine.jobs import batch
from cmet_engine.jobs import manifest as manifests


def manifest(tmp_path, text, name="jobs.csv"):
    path = tmp_path / name
    path.write_text(text)
    return path


def test_a_row_gets_the_documented_defaults(tmp_path):
    (row,) = manifests.read_manifest(manifest(tmp_path, "clip,emotions\na.mp4,happy@0-2.5; sarcastic=0.6@2.5-\n"))
    assert row.kind == "edit" and row.spec.strength == 1.0
    assert row.spec.emotions == ("happy@0-2.5", "sarcastic=0.6@2.5-")
    assert row.output == tmp_path / "a-edited"


@pytest.mark.parametrize(
    ("text", "word"),
    [("", "no rows"), ("clip\n", "no rows"), ("clip,colour\na.mp4,red\n", "colour"), ('clip\n"a\n', "row")],
)
def test_a_manifest_that_is_none_is_refused(tmp_path, text, word):
    with pytest.raises(CmetError, match=word):
        manifests.read_manifest(manifest(tmp_path, text))


@pytest.mark.parametrize(
    ("row", "word"),
    [
        ({"clip": "a.mp4", "colour": "red"}, "colour"),
        ({"clip": "a.mp4", "kind": "dance"}, "dance"),
        ({"clip": "a.mp4", "strength": "much"}, "strength"),
        ({"clip": "a.mp4", "strength": "nan"}, "strength"),
        ({"clip": "a.mp4", "face": -1}, "face"),
        ({"clip": "a.mp4", "face": 10**400}, "face"),
        ({"clip": "a.mp4", "kind": "render"}, "track"),
        ({"clip": "a.npz", "kind": "apply"}, "rig"),
        ({"kind": "edit"}, "clip"),
        ({"clip": ["a.mp4"]}, "clip"),
        ({"clip": "a\0.mp4"}, "clip"),
        ({"clip": "a.mp4", "emotions": 5}, "emotions"),
        ({"clip": "a.mp4", "emotions": [5]}, "emotions"),
        ({"clip": "good.mp4", "strength": 2}, "same output as row 1"),
        ([], "no JSON object"),
        ("{", "no JSON object"),
    ],
)
def test_a_wrong_row_says_so_and_leaves_the_others_alone(tmp_path, row, word):
    text = row if isinstance(row, str) else json.dumps(row)
    good, wrong, more = manifests.read_manifest(
        manifest(tmp_path, '{"clip": "good.mp4"}\n' + text + '\n{"clip": "more.mp4"}\n', "jobs.jsonl")
    )
    assert good.problem is None and more.problem is None
    assert word in wrong.problem and wrong.problem.endswith(".") and wrong.number == 2


def test_a_row_with_too_many_cells_is_wrong_alone(tmp_path):
    wrong, good = manifests.read_manifest(manifest(tmp_path, "clip\na.mp4,b,c\nd.mp4\n"))
    assert "more cells" in wrong.problem and good.problem is None


def test_a_gpu_is_asked_for_where_it_is_of_use(tmp_path):
    text = "clip,kind,renderer,quality\na.mp4,edit,edtalk,\nb.mp4,edit,warp,draft\nc.mp4,edit,,\nd.mp4,edit,none,\ne.mp4,track,,\n"
    found = [manifests.uses_gpu(row.spec) for row in manifests.read_manifest(manifest(tmp_path, text))]
    assert found == [True, False, True, False, False]


@given(st.binary(max_size=300), st.sampled_from([".csv", ".jsonl"]))
def test_any_bytes_give_rows_or_one_sentence(tmp_path_factory, data, suffix):
    path = tmp_path_factory.mktemp("m") / f"jobs{suffix}"
    path.write_bytes(data)
    try:
        assert manifests.read_manifest(path)
    except CmetError as error:
        assert str(error)


def test_init_writes_a_manifest_that_reads_back(tmp_path):
    (tmp_path / "clips").mkdir()
    for name in ("b.mp4", "a.MOV", "notes.txt"):
        (tmp_path / "clips" / name).touch()
    path = tmp_path / "jobs.csv"
    assert manifests.write_manifest(tmp_path / "clips", path, emotions="sad=0.5") == 2
    assert [row.spec.emotions for row in manifests.read_manifest(path)] == [("sad=0.5",)] * 2


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


def test_a_row_that_takes_anothers_result_waits_for_it(tmp_path):
    """Whatever their order; it fails with it, and a ring of rows is found out."""
    take = tmp_path / "take.json"
    take.write_text(json.dumps({"exportFps": 30, "facsNames": ["jawOpen"], "weightMat": [[0.1], [0.2]]}))
    rows = [
        ("three.csv", "two.npz"), ("two.npz", "one.json"), ("one.json", take), ("lost.csv", "never.npz"), ("never.npz", "nothing.csv"),
        ("a.npz", "b.npz"), ("b.npz", "a.npz"),
    ]  # fmt: skip
    text = "kind,clip,output\n" + "".join(f"export,{clip},{output}\n" for output, clip in rows)
    summary = batch.run_batch(manifest(tmp_path, text), workers=3)
    assert (summary.done, summary.failed) == (3, 4)
    lines = [json.loads(line) for line in summary.results.read_text().splitlines()]
    assert [line["row"] for line in lines] == [2, 3, 4, 5, 6, 7, 8]
    assert lines[3]["error"] == "It takes the result of row 6, which failed."
    assert all("its own result" in line["error"] for line in lines[5:])
    (tmp_path / "one.json").unlink()  # what is gone is made again, what is there stays
    made = (tmp_path / "two.npz").stat().st_mtime_ns
    again = batch.run_batch(summary.results.with_name("jobs.csv"), resume=True)
    assert (again.done, again.skipped, again.failed) == (1, 2, 4)
    assert (tmp_path / "two.npz").stat().st_mtime_ns == made


def test_two_batches_do_not_run_one_manifest(tmp_path):
    path = manifest(tmp_path, "clip\nmissing.mp4\n")
    with exclusive(tmp_path / "jobs.results.lock"), pytest.raises(CmetError, match="another process"):
        batch.run_batch(path)
