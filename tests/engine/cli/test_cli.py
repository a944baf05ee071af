"""The `cmet` command on the beginning of the sample that ships with the project: what a user sees, good and bad."""

import json
import os
import signal
import subprocess
import sys
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from short_clips import small

from cmet_engine.cli import main
from cmet_engine.media.probe import probe
from cmet_engine.media.reader import VideoReader
from cmet_engine.track import CoefficientTrack

SAMPLE = Path(__file__).parents[3] / "cmet_engine" / "assets" / "sample" / "talking_head.mp4"


@pytest.fixture(autouse=True)
def own_home(tmp_path_factory, monkeypatch):
    """A user folder of the tests' own; the tracked sample is shared between them."""
    home = tmp_path_factory.getbasetemp() / "cmet-home"
    monkeypatch.setenv("CMET_HOME", str(home))


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    """Two seconds of the sample, every second picture, small."""
    return small(tmp_path_factory.mktemp("clip") / "talking_head.mp4", frames=50, size=192, step=2)


@pytest.fixture(scope="module")
def edited(tmp_path_factory, clip):
    """The README's edit, done once: its folder."""
    os.environ["CMET_HOME"] = str(tmp_path_factory.getbasetemp() / "cmet-home")
    output = tmp_path_factory.mktemp("edit") / "out"
    keys = ["--emotion", "happy@0-1.5", "--emotion", "sarcastic=0.6@1.5-"]
    assert main(["edit", str(clip), *keys, "-o", str(output), "-q"]) == 0
    return output


def run(capsys, *arguments: object) -> tuple[int, str, str]:
    status = main([str(a) for a in arguments])
    captured = capsys.readouterr()
    return status, captured.out, captured.err


def test_the_edit_writes_everything_it_promises(edited, clip):
    assert {p.name for p in edited.iterdir()} == {
        "edited.mp4",
        "source.npz",
        "edited.npz",
        "report.html",
        "report.json",
    }
    before, after = probe(clip), probe(edited / "edited.mp4")
    assert (after.width, after.height, after.fps, after.has_audio) == (
        before.width,
        before.height,
        before.fps,
        before.has_audio,
    )
    source, track = CoefficientTrack.load(edited / "source.npz"), CoefficientTrack.load(edited / "edited.npz")
    assert len(source) == len(track) == sum(1 for _ in VideoReader(edited / "edited.mp4"))
    assert source.valid.all()
    early = track.times < 1.2
    smile = (
        track["mouthSmileLeft"] + track["mouthSmileRight"] - source["mouthSmileLeft"] - source["mouthSmileRight"]
    ) / 2
    assert smile[early].mean() > 0.2


def test_the_picture_changes_in_the_face_and_nowhere_else(edited, clip):
    worst, most = 99.0, 0.0
    for index, (before, after) in enumerate(zip(VideoReader(clip), VideoReader(edited / "edited.mp4"), strict=True)):
        if index % 8:
            continue
        difference = before.image.astype(float) - after.image
        edge = difference[:14]  # above the head
        worst = min(worst, 10 * np.log10(255**2 / max((edge**2).mean(), 1e-9)))
        most = max(most, np.abs(difference).max())
    assert worst >= 40 and most > 30


def test_the_metadata_says_that_the_video_was_edited(edited):
    import av

    with av.open(str(edited / "edited.mp4")) as container:
        tags = " ".join(container.metadata.values())
    assert "edited" in tags and "happy" in tags and "sarcastic" in tags


def test_the_report_is_one_file_and_its_figures_are_for_machines_too(edited):
    page = (edited / "report.html").read_text("utf-8")
    assert "http://" not in page.replace("http://www.w3.org", "") and "<script src" not in page
    report = json.loads((edited / "report.json").read_text("utf-8"))
    assert "happy" in json.dumps(report)


def test_earlier_results_stay_untouched_without_force(edited, capsys, clip):
    before = {p.name: p.stat().st_mtime_ns for p in edited.iterdir()}
    status, _, err = run(capsys, "edit", clip, "--emotion", "sad", "-o", edited, "-q")
    assert status == 1 and "--force" in err
    assert before == {p.name: p.stat().st_mtime_ns for p in edited.iterdir()}


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (["--emotion", "hapy"], "happy"),
        (["--emotion", "happy@99-120"], "99"),
        (["--emotion", "happy=loud"], "happy=loud"),
        ([], "--emotion"),
        (["--keys", "nowhere.json"], "nowhere.json"),
        (["--speech", "nowhere.wav"], "nowhere.wav"),
        (["--emotion", "sad", "--face", "3"], "face"),
        (["--emotion", "sad", "--renderer", "edtalk"], "cmet models"),
    ],
)
def test_a_wrong_request_is_one_sentence_and_leaves_nothing(tmp_path, capsys, arguments, word, clip):
    status, _, err = run(capsys, "edit", clip, *arguments, "-o", tmp_path / "out", "-q")
    assert status == 1 and word in err
    assert err.startswith("cmet: ") and len(err.strip().splitlines()) == 1 and "Traceback" not in err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "content", [b"", b"not a video at all" * 50, SAMPLE.read_bytes()[:3000] if SAMPLE.exists() else b""]
)
def test_a_file_that_is_no_video_is_refused(tmp_path, capsys, content):
    clip = tmp_path / "clip.mp4"
    clip.write_bytes(content)
    status, _, err = run(capsys, "edit", clip, "--emotion", "sad", "-o", tmp_path / "out", "-q")
    assert status == 1 and "clip.mp4" in err and len(err.strip().splitlines()) == 1
    assert not (tmp_path / "out").exists()


def test_the_report_says_that_the_rest_of_the_picture_is_as_it_was(edited):
    measured = json.loads((edited / "report.json").read_text("utf-8"))["measured"]
    assert measured["outside_psnr_db"] > 40


def test_wrong_use_is_status_two(capsys):
    with pytest.raises(SystemExit) as stop:
        main(["edit"])
    assert stop.value.code == 2
    capsys.readouterr()


def test_a_track_renders_again_and_a_hand_made_change_shows(tmp_path, capsys, edited, clip):
    source = CoefficientTrack.load(edited / "source.npz")
    changed = source.copy()
    changed["browInnerUp"][:] = np.minimum(source["browInnerUp"] + 0.5, 1)
    changed.save(tmp_path / "brow.npz")
    (tmp_path / "brow").mkdir()  # a folder gets the video under its usual name
    status, _, err = run(capsys, "render", clip, "--track", tmp_path / "brow.npz", "-o", tmp_path / "brow", "-q")
    assert status == 0, err
    status, _, err = run(capsys, "track", tmp_path / "brow" / "edited.mp4", "-o", tmp_path / "again.csv", "-q")
    assert status == 0, err
    again = CoefficientTrack.load(tmp_path / "again.csv")
    assert again.fps == source.fps
    assert (again["browInnerUp"] - source["browInnerUp"]).mean() > 0.15


def test_json_output_is_one_object(capsys):
    status, out, _ = run(capsys, "emotions", "--json")
    assert status == 0 and {"angry", "happy", "sarcastic"} <= {e["name"] for e in json.loads(out)}


def test_doctor_finds_nothing_broken(capsys):
    status, out, _ = run(capsys, "doctor")
    assert status == 0 and "BROKEN" not in out


def test_ctrl_c_leaves_nothing_half_written(tmp_path, tmp_path_factory):
    clip = small(tmp_path_factory.mktemp("long") / "long.mp4", frames=150, silent=True)
    command = [
        sys.executable,
        "-m",
        "cmet_engine.cli",
        "edit",
        str(clip),
        "--emotion",
        "sad",
        "-o",
        str(tmp_path / "out"),
    ]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True)
    assert process.stderr
    seen = ""
    while "rendering" not in seen and process.poll() is None:
        seen += process.stderr.read(80)
    process.send_signal(signal.SIGINT)
    rest = process.communicate(timeout=60)[1]
    assert process.returncode == 1
    assert rest.strip().splitlines()[-1].startswith("cmet: Stopped")
    assert list(tmp_path.iterdir()) == []


def test_export_keeps_the_rate(tmp_path, capsys, edited, clip):
    for suffix in (".csv", ".json"):
        assert run(capsys, "export", edited / "edited.npz", "-o", tmp_path / f"t{suffix}")[0] == 0
        assert CoefficientTrack.load(tmp_path / f"t{suffix}").fps == Fraction(probe(clip).fps)
