"""Manifests, and batches that go on where they stopped."""

import json
import os
from functools import partial

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cmet_engine.errors import CmetError
from cmet_engine.files import exclusive
from cmet_engine.jobs import batch
from cmet_engine.jobs import manifest as manifests
from cmet_engine.jobs.worker import attempt, run_row


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


def test_init_takes_all_kinds_of_clips_and_gives_each_its_own_output(tmp_path):
    folder = tmp_path / "clips"
    (folder / ".cache").mkdir(parents=True)
    (folder / "old-edited").mkdir()
    kinds = "MTS m2ts ts mxf mpg wmv flv 3gp avi webm dv gxf mkv".split()
    clips = {f"take{n}.{kind}" for n, kind in enumerate(kinds)} | {"a.mp4", "a.mov", "A.MP4", "a-mov.mkv"}
    for name in (*clips, "._a.mp4", ".DS_Store", ".cache/b.mp4", "notes.txt", "slate.jpg", "README"):
        (folder / name).touch()
    for name in ("edited.mp4", "edited.npz", "report.json"):
        (folder / "old-edited" / name).touch()
    path, notes = folder / "jobs.csv", []
    for _ in range(2):
        notes.clear()
        assert manifests.write_manifest(folder, path, force=True, notes=notes) == len(clips)
    rows = manifests.read_manifest(path)
    assert {os.path.relpath(row.clip, folder) for row in rows} == clips
    assert len({str(row.output).casefold() for row in rows}) == len(clips)
    assert notes == ["Files that are no clips by their names were left out: 3 (.jpg, .txt, no suffix)."]


def tracks(tmp_path, *names):
    for name in names:
        text = json.dumps({"exportFps": 30, "facsNames": ["jawOpen"], "weightMat": [[0.1], [0.2]]})
        (tmp_path / name).write_text(text + " " * len(name))


class Here:
    """A machine that does rows in this process, as a worker process would in its own."""

    capacity = 2

    def __init__(self):
        self._done = []

    def submit(self, row, force):
        self._done.append((row, {**attempt(run_row, row.task(force)), "seconds": 0.0, "attempts": 1}))

    def finished(self):
        done, self._done = self._done, []
        return done

    def close(self):
        pass


run = partial(batch.run_batch, machine=Here)


def test_of_rows_with_one_output_the_first_is_done_in_every_run(tmp_path):
    tracks(tmp_path, "take.json")
    (tmp_path / "here").symlink_to(tmp_path)
    rows = "export,take.json,dup.csv\n" * 2 + "export,take.json,here/../here/dup.csv\n"
    path = manifest(tmp_path, f"kind,clip,output\n{rows}")
    for again in ({}, {"resume": True}, {"retry": True}, {"retry": True}, {"force": True}):
        summary = run(path, **again)
        lines = [json.loads(line) for line in summary.results.read_text().splitlines()]
        assert [(line["row"], line["state"]) for line in lines] == [(2, "done"), (3, "failed"), (4, "failed")]
        assert all(line["error"].startswith("It writes to the same output as row 2") for line in lines[1:])
        assert summary.failed == 2 and summary.done + summary.skipped == 1


def test_a_row_that_writes_into_another_rows_results_fails(tmp_path):
    rows = manifests.read_manifest(manifest(tmp_path, "kind,clip,output\nedit,a.mp4,out\ntrack,a.mp4,out/edited.npz\n"))
    assert [row.problem is None for row in rows] == [True, False]


@pytest.mark.parametrize("again", [{}, {"force": True}])
def test_no_row_writes_over_what_another_reads_or_the_manifest(tmp_path, again):
    tracks(tmp_path, "a.json", "b.json")
    (tmp_path / "link.json").symlink_to("b.json")
    before = {name: (tmp_path / name).read_bytes() for name in ("a.json", "b.json")}
    text = (
        "kind,clip,output\nexport,a.json,b.json\nexport,b.json,c.csv\nexport,a.json,link.json\nexport,a.json,a.json\n"
        "export,a.json,jobs.csv\n"
    )
    path = manifest(tmp_path, text)
    summary = run(path, **again)
    assert summary.done == 1
    errors = {line["row"]: line.get("error") for line in map(json.loads, summary.results.read_text().splitlines())}
    assert "row 3 reads it" in errors[2] and "same output" in errors[4]
    assert errors[3] is None and "reads it" in errors[5] and "manifest itself" in errors[6]
    assert path.read_text() == text and {name: (tmp_path / name).read_bytes() for name in before} == before


def test_no_row_writes_into_pictures_that_another_reads(tmp_path):
    (tmp_path / "plate").mkdir()
    (tmp_path / "plate" / "f_000001.png").write_bytes(b"picture")
    rows = "render,other.mp4,t.npz,plate/f.png\nrender,other.mp4,t.npz,plate/f_%06d.png\ntrack,plate,,plate.npz\n"
    summary = run(manifest(tmp_path, f"kind,clip,track,output\n{rows}"), force=True)
    errors = [json.loads(line)["error"] for line in summary.results.read_text().splitlines()]
    assert "row 4 reads it" in errors[0] and "same output as row 2" in errors[1]
    assert (tmp_path / "plate" / "f_000001.png").read_bytes() == b"picture"


def test_a_chain_of_rows_runs_again_with_force(tmp_path):
    tracks(tmp_path, "take.json")
    path = manifest(tmp_path, "kind,clip,output\nexport,take.json,one.npz\nexport,one.npz,two.csv\n")
    for again in ({}, {"force": True}, {"force": True}):
        assert run(path, **again).done == 2


def test_what_was_there_before_is_not_overwritten(tmp_path):
    tracks(tmp_path, "take.json")
    (tmp_path / "mine.csv").write_text("precious")
    path = manifest(tmp_path, "kind,clip,output\nexport,take.json,mine.csv\n")
    for again in ({}, {"retry": True}):
        assert run(path, **again).failed == 1
        assert (tmp_path / "mine.csv").read_text() == "precious"
    assert run(path, force=True).done == 1


def test_a_file_of_the_results_name_that_holds_none_stays(tmp_path):
    (tmp_path / "jobs.results.jsonl").write_text("my own notes")
    with pytest.raises(CmetError, match="no results of a batch"):
        run(manifest(tmp_path, "clip\na.mp4\n"))
    assert (tmp_path / "jobs.results.jsonl").read_text() == "my own notes"


def test_failures_do_not_stop_others_and_resume_skips_what_is_done(tmp_path):
    good = tmp_path / "take.json"
    good.write_text(json.dumps({"exportFps": 30, "facsNames": ["jawOpen"], "weightMat": [[0.1], [0.2]]}))
    path = manifest(
        tmp_path, f"kind,clip,output\nexport,{good},one.csv\nexport,missing.npz,two.csv\nexport,{good},three.npz\n"
    )
    summary = run(path)
    assert (summary.done, summary.failed) == (2, 1)
    lines = [json.loads(line) for line in summary.results.read_text().splitlines()]
    assert sorted(line["state"] for line in lines) == ["done", "done", "failed"]
    assert next(line for line in lines if line["state"] == "failed")["error"].startswith("Cannot read")
    with pytest.raises(CmetError, match="--resume"):
        run(path)
    again = run(path, retry=True)
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
    again = run(summary.results.with_name("jobs.csv"), resume=True)
    assert (again.done, again.skipped, again.failed) == (1, 2, 4)
    assert (tmp_path / "two.npz").stat().st_mtime_ns == made


def test_two_batches_do_not_run_one_manifest(tmp_path):
    path = manifest(tmp_path, "clip\nmissing.mp4\n")
    with exclusive(tmp_path / "jobs.results.lock"), pytest.raises(CmetError, match="another process"):
        run(path)
