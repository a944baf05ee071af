"""Outputs that appear whole or not at all."""

import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from cmet_engine.errors import CmetError
from cmet_engine.files import check_writable, whole_file, whole_folder


def names(folder: Path) -> list[str]:
    return sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*"))


def test_a_file_appears_when_it_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    with whole_file(path) as temporary:
        assert temporary.suffix == ".txt" and temporary.parent == tmp_path
        temporary.write_text("new")
        assert not path.exists()
    assert path.read_text() == "new"
    assert names(tmp_path) == ["a.txt"]


def test_a_file_has_usual_permissions(tmp_path: Path) -> None:
    (tmp_path / "usual").write_text("")
    with whole_file(tmp_path / "a.txt") as temporary:
        temporary.write_text("")
    assert (tmp_path / "a.txt").stat().st_mode == (tmp_path / "usual").stat().st_mode


@pytest.mark.parametrize("error", [ValueError(), KeyboardInterrupt(), OSError(5, "broken")])
def test_a_failed_file_leaves_the_earlier_one(tmp_path: Path, error: BaseException) -> None:
    path = tmp_path / "a.txt"
    path.write_text("earlier")
    with pytest.raises((type(error), CmetError)), whole_file(path, force=True) as temporary:
        temporary.write_text("half")
        raise error
    assert path.read_text() == "earlier"
    assert names(tmp_path) == ["a.txt"]


def test_an_earlier_file_is_kept_without_force(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("earlier")
    with pytest.raises(CmetError, match="--force"), whole_file(path):
        pytest.fail("must not be entered")
    assert path.read_text() == "earlier"
    with whole_file(path, force=True) as temporary:
        temporary.write_text("new")
    assert path.read_text() == "new"


def test_a_long_name_and_odd_letters(tmp_path: Path) -> None:
    for name in ("n" * 250 + ".mp4", "ünïcode 笑.txt", ".hidden", "no suffix", "a'b\"c.txt"):
        with whole_file(tmp_path / name) as temporary:
            temporary.write_text("x")
        assert (tmp_path / name).read_text() == "x"


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda d: d, "is a folder"),
        (lambda d: d / "absent" / "a.txt", "does not exist"),
        (lambda d: d / "file" / "a.txt", "does not exist|not writable|Cannot write"),
    ],
)
def test_places_where_no_file_can_be(tmp_path: Path, make, says: str) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(CmetError, match=says):
        check_writable(make(tmp_path))
    with pytest.raises(CmetError, match=says), whole_file(make(tmp_path)):
        pytest.fail("must not be entered")


def test_a_folder_appears_when_it_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "out"
    with whole_folder(path) as temporary:
        (temporary / "a.txt").write_text("a")
        (temporary / "sub").mkdir()
        (temporary / "sub" / "b.txt").write_text("b")
        assert not path.exists()
    assert names(path) == ["a.txt", "sub", "sub/b.txt"]
    assert names(tmp_path / "deep") == ["out", "out/a.txt", "out/sub", "out/sub/b.txt"]


def test_a_folder_has_usual_permissions(tmp_path: Path) -> None:
    (tmp_path / "usual").mkdir()
    with whole_folder(tmp_path / "out") as temporary:
        (temporary / "a.txt").write_text("a")
    assert (tmp_path / "out").stat().st_mode == (tmp_path / "usual").stat().st_mode


@pytest.mark.parametrize("error", [ValueError(), KeyboardInterrupt(), OSError(5, "broken")])
def test_a_failed_folder_leaves_nothing(tmp_path: Path, error: BaseException) -> None:
    with pytest.raises((type(error), CmetError)), whole_folder(tmp_path / "out") as temporary:
        (temporary / "a.txt").write_text("a")
        raise error
    assert names(tmp_path) == []


def test_a_folder_with_files_needs_force_and_keeps_the_users_own(tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / "a.txt").write_text("earlier")
    (out / "mine.txt").write_text("mine")
    with pytest.raises(CmetError, match="--force"), whole_folder(out):
        pytest.fail("must not be entered")
    with pytest.raises(RuntimeError), whole_folder(out, force=True) as temporary:
        (temporary / "a.txt").write_text("half")
        raise RuntimeError
    assert (out / "a.txt").read_text() == "earlier"
    with whole_folder(out, force=True) as temporary:
        (temporary / "a.txt").write_text("new")
    assert {p.name: p.read_text() for p in out.iterdir()} == {"a.txt": "new", "mine.txt": "mine"}
    assert names(tmp_path) == ["out", "out/a.txt", "out/mine.txt"]


def test_an_empty_folder_is_filled(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    with whole_folder(tmp_path / "out") as temporary:
        (temporary / "a.txt").write_text("a")
    assert names(tmp_path) == ["out", "out/a.txt"]


def test_a_file_in_the_folders_place(tmp_path: Path) -> None:
    (tmp_path / "out").write_text("mine")
    with pytest.raises(CmetError, match="is a file"), whole_folder(tmp_path / "out"):
        pytest.fail("must not be entered")
    with pytest.raises(CmetError, match="Cannot write"), whole_folder(tmp_path / "out" / "deeper"):
        pytest.fail("must not be entered")
    assert (tmp_path / "out").read_text() == "mine"


def test_a_folder_given_as_the_current_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    with whole_folder(".") as temporary:
        (temporary / "a.txt").write_text("a")
    assert names(tmp_path) == ["here", "here/a.txt"]


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="the superuser may write everywhere")
def test_a_folder_that_may_not_be_written(tmp_path: Path) -> None:
    closed = tmp_path / "closed"
    closed.mkdir()
    closed.chmod(0o500)
    with pytest.raises(CmetError, match="not writable"), whole_file(closed / "a.txt"):
        pytest.fail("must not be entered")
    with pytest.raises(CmetError, match="Cannot write"), whole_folder(closed / "out"):
        pytest.fail("must not be entered")


@pytest.mark.skipif(sys.platform != "linux", reason="needs the full device")
def test_a_full_disk_is_named(tmp_path: Path) -> None:
    with (
        pytest.raises(CmetError, match="is full"),
        whole_file(tmp_path / "a.txt"),
        Path("/dev/full").open("w") as full,
    ):
        full.write("x" * 10_000)
        full.flush()
    with (
        pytest.raises(CmetError, match="is full"),
        whole_folder(tmp_path / "out"),
        Path("/dev/full").open("w") as full,
    ):
        full.write("x" * 10_000)
        full.flush()
    assert names(tmp_path) == []


@pytest.mark.skipif(os.name != "posix", reason="needs POSIX signals")
@pytest.mark.parametrize("kind", ["file", "folder"])
def test_ctrl_c_leaves_nothing(tmp_path: Path, kind: str) -> None:
    script = f"""
        import time
        from cmet_engine.files import whole_file, whole_folder
        with whole_{kind}({str(tmp_path / "out.txt")!r}) as temporary:
            target = temporary if {kind == "file"} else temporary / "a.txt"
            target.write_text("half")
            print("ready", flush=True)
            time.sleep(60)
    """
    process = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(script)], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )
    assert process.stdout is not None and process.stdout.readline() == "ready\n"
    process.send_signal(signal.SIGINT)
    process.wait(120)
    assert names(tmp_path) == []
