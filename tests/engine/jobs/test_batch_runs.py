"""Batches as they are run: all kinds of rows on short clips, workers and machines that die, and going on afterwards."""

import contextlib
import io
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from running_engine import children_of
from short_clips import small

from cmet_engine import cli
from cmet_engine.cli.progress import BatchTable
from cmet_engine.jobs import batch
from cmet_engine.jobs.cluster import RayCluster
from cmet_engine.jobs.manifest import Row, read_manifest
from cmet_engine.track import CoefficientTrack

pytestmark = pytest.mark.slow
FRAMES = 12
HEAD = Path(__file__).resolve().parents[3] / "rigs" / "demo_head.blend"


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("clips")
    for number in range(3):
        small(folder / f"c{number}.mp4", start=24 * number, frames=FRAMES, size=192, silent=True)
    return folder


@pytest.fixture
def write(clips: Path, tmp_path: Path) -> Callable[..., Path]:
    """`write(row, …)` writes a manifest of rows whose clips are named c0, c1, c2; returns its path."""

    def write(*rows: dict[str, Any] | str) -> Path:
        for clip in clips.iterdir():
            if not (tmp_path / clip.name).exists():
                (tmp_path / clip.name).hardlink_to(clip)
        path = tmp_path / "night.jsonl"
        path.write_text("".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows))
        return path

    return write


def lines(manifest: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in manifest.with_suffix(".results.jsonl").read_text().splitlines()]


def start(*arguments: object) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-m", "cmet_engine.cli", "batch", *map(str, arguments)], stderr=subprocess.PIPE
    )


def wait_for(what: Callable[[], Any], seconds: float = 240) -> Any:
    end = time.monotonic() + seconds
    while not (found := what()):
        assert time.monotonic() < end
        time.sleep(0.02)
    return found


def states(manifest: Path) -> list[str]:
    path = manifest.with_suffix(".results.jsonl")
    return re.findall(r'"state": "(\w+)"', path.read_text()) if path.exists() else []


MIXED = [
    {"clip": "c0.mp4", "emotions": "happy@0-0.2; sad=0.5@0.2-"},
    {"kind": "render", "clip": "c0.mp4", "track": "c0-edited/edited.npz"},
    {"kind": "track", "clip": "c1.mp4", "output": "c1.csv"},
    {"clip": "missing.mp4"},
    {"clip": "c1.mp4", "emotions": "grumpyish"},
    {"clip": "c1.mp4", "colour": "red"},
    "no row",
]


def test_all_kinds_of_rows_beside_wrong_ones(write):
    manifest = write(*MIXED)
    summary = batch.run_batch(manifest)
    assert (summary.done, summary.failed) == (3, 4)
    found = lines(manifest)
    assert [line["row"] for line in found] == list(range(1, 8))
    assert [line["state"] for line in found] == ["done"] * 3 + ["failed"] * 4
    for line, words in zip(found[3:7], ("does not exist", "grumpyish", "colour", "no JSON object"), strict=True):
        assert words in line["error"] and "Traceback" not in line["error"]
    for line in found:
        assert all(Path(path).stat().st_size for path in line.get("outputs", []))
    assert found[0]["figures"] and found[0]["seconds"] > 0
    assert len(CoefficientTrack.load(manifest.with_name("c1.csv"))) == FRAMES


def test_rows_that_work_on_a_character(write, tmp_path):
    """What a batch read from a rig renders again, moved with the rig's own curves."""
    pytest.importorskip("bpy", reason="needs Blender as a module (the package bpy), which is not installed")
    manifest = write(
        {"kind": "track", "clip": "c0.mp4"},
        {"kind": "apply", "track": "c0.npz", "rig": str(HEAD), "fps": 25, "output": "head.blend"},
        {"kind": "read", "rig": "head.blend", "frames": [1, FRAMES], "output": "read.npz"},
        {"kind": "render_rig", "clip": "c0.mp4", "rig": "head.blend", "source": "c0.npz", "output": "rig.mp4"},
        {"kind": "bake", "output": "nothing.fbx"},
    )
    summary = batch.run_batch(manifest, workers=1)
    found = lines(manifest)
    assert (summary.done, summary.failed) == (4, 1), [line.get("error") for line in found]
    assert found[4]["error"] == "The column 'rig' is missing; name the file of a character."
    tracked, read = (CoefficientTrack.load(tmp_path / name) for name in ("c0.npz", "read.npz"))
    assert len(read) == len(tracked) and abs(read["jawOpen"] - tracked["jawOpen"]).max() < 0.02
    for name in ("head.blend.c2pa", "rig.mp4"):
        assert (tmp_path / name).stat().st_size > 100


def test_rows_on_ray(write):
    """One that takes another's result, and one that fails."""
    pytest.importorskip("ray", reason="needs Ray (the extra 'ray'), which is not installed")
    manifest = write(
        MIXED[0], {"clip": "missing.mp4"}, {"kind": "export", "clip": "c0-edited/edited.npz", "output": "c0.csv"}
    )
    summary = batch.run_batch(manifest, machine=partial(RayCluster, "local"))
    edited, missing, exported = lines(manifest)
    assert (summary.done, summary.failed) == (2, 1) and "does not exist" in missing["error"]
    assert edited["figures"] and exported["figures"]["frames"] == FRAMES
    assert all(Path(path).stat().st_size for line in (edited, exported) for path in line["outputs"])


@pytest.mark.soak
def test_a_killed_batch_goes_on_where_it_was(write, tmp_path):
    manifest = write(
        *({"clip": f"c{n}.mp4", "emotions": e, "output": f"{n}{e}"} for e in ("happy", "sad") for n in range(2))
    )
    process = start(manifest)
    wait_for(lambda: states(manifest).count("done") == 1)
    wait_for(lambda: list(tmp_path.glob(".1happy-*")) or (tmp_path / "1happy").exists())
    process.kill()
    process.wait()
    first = (tmp_path / "0happy" / "edited.mp4").stat()
    (tmp_path / "1sad").mkdir()  # the killed one was about to write this, too
    assert batch.run_batch(manifest, resume=True).failed == 0
    assert states(manifest) == ["done"] * 4
    assert (tmp_path / "0happy" / "edited.mp4").stat() == first
    assert not [path.name for path in tmp_path.iterdir() if path.name.startswith(".")]


def test_a_row_whose_worker_dies_is_done_again(write):
    manifest = write({"clip": "c0.mp4", "emotions": "happy"}, {"kind": "track", "clip": "c1.mp4"})
    process = start(manifest)
    wait_for(lambda: "running" in states(manifest) and children_of(process.pid))
    time.sleep(0.5)
    os.kill(children_of(process.pid)[0], signal.SIGKILL)
    assert process.wait(timeout=120) == 0
    assert [(line["state"], line["attempts"]) for line in lines(manifest)] == [("done", 2), ("done", 1)]


def ray_workers() -> list[int]:
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if (
                b"ray::cmet row" in (folder / "cmdline").read_bytes()
                and (folder / "status").stat().st_uid == os.getuid()
            ):
                found.append(int(folder.name))
    return found


@pytest.mark.soak
def test_ray_survives_the_loss_of_a_worker_and_of_a_machine(write):
    cluster_utils = pytest.importorskip(
        "ray.cluster_utils", reason="needs Ray (the extra 'ray'), which is not installed"
    )
    manifest = write(
        *({"clip": f"c{n}.mp4", "emotions": e, "output": f"{n}{e}"} for e in ("happy", "sad") for n in range(2))
    )
    cluster = cluster_utils.Cluster(initialize_head=True, head_node_args={"num_cpus": 1})
    lost = cluster.add_node(num_cpus=1)
    try:
        summaries: list[batch.Summary] = []
        run = threading.Thread(
            target=lambda: summaries.append(batch.run_batch(manifest, machine=partial(RayCluster, cluster.address)))
        )
        run.start()
        os.kill(wait_for(ray_workers)[0], signal.SIGKILL)
        wait_for(lambda: states(manifest).count("done") >= 1)
        cluster.remove_node(lost, allow_graceful=False)
        run.join(timeout=240)
        assert summaries and (summaries[0].done, summaries[0].failed) == (4, 0)
    finally:
        cluster.shutdown()
    assert states(manifest) == ["done"] * 4


def test_the_command_says_by_its_status_whether_all_went_well(write, tmp_path, capsys):
    write()
    (tmp_path / "night.jsonl").unlink()
    assert cli.main(["batch", str(tmp_path / "night.csv"), "--init", str(tmp_path), "--emotions", "sad=0.5", "-q"]) == 0
    assert len(read_manifest(tmp_path / "night.csv")) == 3
    manifest = write({"kind": "track", "clip": "c0.mp4"}, {"kind": "track", "clip": "late.mp4"})
    assert cli.main(["batch", str(manifest)]) == 1
    shown = capsys.readouterr()
    assert "failed: 1" in shown.out and "[2/2] late.mp4" in shown.err and "FAILED" in shown.err
    assert cli.main(["batch", str(manifest), "-q"]) == 1 and "--resume" in capsys.readouterr().err
    assert cli.main(["batch", str(manifest), "--resume", "-q"]) == 1  # one has failed, and still has
    (tmp_path / "c1.mp4").rename(tmp_path / "late.mp4")
    assert cli.main(["batch", str(manifest), "--retry", "-q", "--json"]) == 0
    assert json.loads(capsys.readouterr().out.splitlines()[-1])["failed"] == 0
    assert cli.main(["batch", str(manifest), "--resume", "-q"]) == 0


def test_the_table_shows_what_is_being_done(monkeypatch):
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    screen = Terminal()
    monkeypatch.setattr(sys, "stderr", screen)
    table = BatchTable(shown=True)
    row = Row(1, "x", "edit", "/films/take.mp4")
    table.watch(row, "render", 30, 120)
    assert "take.mp4" in screen.getvalue() and "rendering" in screen.getvalue() and "30/120  25%" in screen.getvalue()
    line = {"state": "done", "clip": "/films/take.mp4", "seconds": 30.0}
    table.report(row, line, batch.Summary(done=1, seconds=30.0), 5)
    assert "[1/5] take.mp4 30.0 s done" in screen.getvalue() and "1 of 5, 0 failed, 2.0 min left" in screen.getvalue()
    assert "\x1b[" in screen.getvalue()
