"""No work ever writes over what it reads, and `force` replaces files of the names it writes alone."""

import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from short_clips import small

from cmet_engine import cache
from cmet_engine.cli import main
from cmet_engine.errors import CmetError, InvalidInput
from cmet_engine.files import inputs_kept, remove_leftovers, whole_file, whole_folder
from cmet_engine.jobs.execute import execute
from cmet_engine.jobs.store import JobState, JobStore
from cmet_engine.media.writer import VideoWriter
from cmet_engine.resume import Segments
from cmet_engine.serve.engine import Engine
from cmet_engine.serve.paths import AllowedFolders
from cmet_engine.spec import EditSpec, ExportSpec, RenderSpec, TrackSpec
from cmet_engine.track import CoefficientTrack

NAMES = ("a.csv", "b.csv", "in/a.csv", "in/b.csv", "out/a.csv", "out/sub/b.csv")


def contents(folder: Path) -> dict[str, bytes]:
    """Every file and link below a folder, by its name, with the bytes that are read through it."""
    files = (Path(where) / name for where, _, names in os.walk(folder) for name in names)
    return {file.relative_to(folder).as_posix(): file.read_bytes() for file in files if file.exists()}


def spellings(folder: Path, name: str) -> list[Path]:
    """Ways to write the path of a file; `linked` is a link to the folder itself."""
    return [folder / name, folder / "in" / ".." / name, folder / "linked" / name, Path(os.path.relpath(folder / name))]


@st.composite
def layouts(draw):
    """Files, links to them, which are read, and where a result goes."""
    files = draw(st.lists(st.sampled_from(NAMES), min_size=1, unique=True))
    links = draw(st.dictionaries(st.sampled_from(NAMES), st.tuples(st.booleans(), st.sampled_from(files)), max_size=3))
    read = draw(st.lists(st.sampled_from(files), min_size=1, max_size=3))
    return files, links, read, draw(st.sampled_from(NAMES)), draw(st.integers(0, 3)), draw(st.booleans())


def laid_out(folder: Path, layout, data) -> tuple[list[Path], Path, bool]:
    """The layout on the disk: the paths read, the path written, and `force`."""
    files, links, read, written, spelling, force = layout
    for name in NAMES:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
    (folder / "linked").symlink_to(folder)
    for name in files:
        (folder / name).write_bytes(data(name))
    for name, (hard, target) in links.items():
        if name not in files:
            (folder / name).hardlink_to(folder / target) if hard else (folder / name).symlink_to(folder / target)
    reads = [folder / name for name in [*read, *(name for name in links if links[name][1] in read)]]
    return reads, spellings(folder, written)[spelling], force


@given(layout=layouts(), in_folder=st.booleans())
def test_whatever_is_read_and_written_every_file_of_the_user_stays(tmp_path_factory, layout, in_folder):
    folder = tmp_path_factory.mktemp("layout")
    reads, output, force = laid_out(folder, layout, lambda name: name.encode())
    before, names = contents(folder), {output.name}
    real = {name: (folder / name).resolve() for name in before}
    try:
        with inputs_kept(("track", path) for path in reads):
            if in_folder:
                names |= {"sub/b.csv"}
                with whole_folder(output.parent, force=force) as temporary:
                    (temporary / "sub").mkdir()
                    for name in names:
                        (temporary / name).write_text("result")
            else:
                with whole_file(output, force=force) as temporary:
                    temporary.write_text("result")
    except InvalidInput:
        assert contents(folder) == before
    written = {output.parent.resolve() / name for name in names}
    after = contents(folder)
    for name, data in before.items():
        kept = folder / name in reads or not force or not written & {folder / name, real[name]}
        assert after[name] == data or (not kept and after[name] == b"result")


@given(layout=layouts())
def test_a_conversion_keeps_its_track_through_links_and_spellings(tmp_path_factory, layout):
    folder = tmp_path_factory.mktemp("layout")
    take = CoefficientTrack(
        25, np.random.default_rng(1).random((3, 52), np.float32), np.zeros((3, 3)), np.zeros((3, 4))
    )
    take.save(folder / "take.csv")
    reads, output, _ = laid_out(folder, layout, lambda name: (folder / "take.csv").read_bytes())
    before, place = contents(folder), output.parent.resolve() / output.name
    others = {name for name in before if not {folder / name, (folder / name).resolve()} & {place, output.resolve()}}
    try:
        execute(ExportSpec(track=reads[0]), output, force=True)
    except InvalidInput:
        others = set(before)
    assert {name: data for name, data in contents(folder).items() if name in others} == {n: before[n] for n in others}
    assert reads[0].read_bytes() == before[reads[0].relative_to(folder).as_posix()]


@pytest.fixture
def shot(tmp_path: Path) -> Path:
    """A folder with a clip under an output's name, and a sequence with a note beside it."""
    folder = tmp_path / "shot"
    folder.mkdir()
    small(folder / "edited.mp4", frames=8, size=96)
    with VideoWriter(folder / "frames" / "%06d.png", 8, 8, 25) as writer:
        for value in range(3):
            writer.write(np.full((8, 8, 3), value, np.uint8))
    (folder / "frames" / "notes.txt").write_text("mine")
    return folder


def test_an_edit_whose_video_would_be_its_clip_is_refused(shot: Path, tmp_path: Path):
    (tmp_path / "link").symlink_to(shot)
    os.link(shot / "edited.mp4", tmp_path / "hard.mp4")
    before = contents(shot)
    for clip in (shot / "edited.mp4", shot / "frames" / ".." / "edited.mp4", tmp_path / "hard.mp4"):
        for output in (shot, tmp_path / "link", tmp_path / "link" / "frames" / ".."):
            with pytest.raises(InvalidInput, match="is the clip itself"):
                execute(EditSpec(clip=clip, emotions=("happy",)), output, force=True)
    with pytest.raises(InvalidInput, match="is the speech itself"):
        execute(EditSpec(clip=tmp_path / "none.mp4", speech=shot / "edited.mp4"), shot, force=True)
    with pytest.raises(InvalidInput, match="is the clip itself"):
        execute(TrackSpec(clip=shot / "edited.mp4"), shot / "edited.mp4", force=True)
    assert contents(shot) == before


def test_pictures_are_never_written_among_those_they_are_made_from(shot: Path, tmp_path: Path):
    before = contents(shot)
    for clip in ("frames", "frames/%06d.png"):
        with pytest.raises(InvalidInput, match="is the clip itself"):
            execute(EditSpec(clip=shot / clip, emotions=("happy",), format="png"), shot, force=True)
        for output in {clip, "frames/%06d.png", "frames/../frames/%06d.png"}:
            with pytest.raises(InvalidInput, match="is the clip itself"):
                execute(RenderSpec(clip=shot / clip, track=tmp_path / "t.npz"), shot / output, force=True)
    assert contents(shot) == before


def test_a_folder_of_results_replaces_file_by_file(tmp_path: Path):
    out = tmp_path / "out"
    (out / "frames" / "deep").mkdir(parents=True)
    for name in ("frames/1.png", "frames/2.png", "frames/deep/notes.txt", "mine.txt"):
        (out / name).write_text("mine")
    with whole_folder(out, force=True) as temporary:
        (temporary / "frames").mkdir()
        (temporary / "frames" / "1.png").write_text("new")
    assert contents(out) == {
        "frames/1.png": b"new", "frames/2.png": b"mine", "frames/deep/notes.txt": b"mine", "mine.txt": b"mine",
    }  # fmt: skip
    for name, wrong in (("frames", "file"), ("mine.txt", "folder")):
        with pytest.raises(InvalidInput, match="choose another folder"), whole_folder(out, force=True) as temporary:
            (temporary / name).mkdir() if wrong == "folder" else (temporary / name).write_text("new")
    assert contents(out)["mine.txt"] == b"mine"


def test_what_comes_while_the_work_is_done_stays(tmp_path: Path):
    for output in (tmp_path / "a.txt", tmp_path / "link.txt"):
        with pytest.raises(InvalidInput, match="--force"), whole_file(output) as temporary:
            temporary.write_text("result")
            output.write_text("mine") if output.name == "a.txt" else output.symlink_to(tmp_path / "nowhere")
        assert os.path.lexists(output)
    (tmp_path / "clip.mp4").write_text("clip")
    with (
        pytest.raises(InvalidInput, match="is the clip itself"),
        inputs_kept([("clip", tmp_path / "clip.mp4")]),
        whole_file(tmp_path / "b.mp4", force=True) as temporary,
    ):
        (tmp_path / "b.mp4").symlink_to(tmp_path / "clip.mp4")
    assert (tmp_path / "clip.mp4").read_text() == (tmp_path / "b.mp4").read_text() == "clip"


def test_only_pictures_of_our_own_go_with_a_shorter_sequence(tmp_path: Path):
    def write(count: int) -> list[str]:
        with VideoWriter(tmp_path / "f_%02d.png", 8, 8, 25, force=True) as writer:
            for _ in range(count):
                writer.write(np.zeros((8, 8, 3), np.uint8))
        return writer.notes

    write(6)
    (tmp_path / "f_05.png").write_text("painted by hand")
    shutil.copy(tmp_path / "f_01.png", tmp_path / "f_09.png")
    notes = write(3)
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "f_01.png",
        "f_02.png",
        "f_03.png",
        "f_05.png",
        "f_09.png",
    ]
    assert any("2 more pictures" in note and "f_05.png" in note for note in notes)


def test_leftovers_are_told_from_hidden_files_of_the_user(tmp_path: Path):
    (tmp_path / ".take-original").mkdir()
    (tmp_path / ".take-original" / "take.mp4").write_text("mine")
    (tmp_path / ".take-backup12.mp4").write_text("mine")
    with pytest.raises(CmetError), whole_folder(tmp_path / "take") as temporary:
        left = shutil.copytree(temporary, tmp_path / "left")
        raise CmetError("killed")
    left.rename(temporary)
    remove_leftovers([tmp_path / "take", tmp_path / "take.mp4"])
    assert sorted(path.name for path in tmp_path.iterdir()) == [".take-backup12.mp4", ".take-original"]


def test_an_engine_and_the_cache_leave_what_is_not_theirs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """A user may name any folder with --root and CMET_HOME, the home folder too."""
    mine = (".profile", ".ssh/key", "jobs/film/.git/config", "uploads/old.mp4", "done/list.txt", "cache/My Films/a.mp4")
    for name in mine:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("mine")
        os.utime(tmp_path / name, (0, 0))
    left = tmp_path / "uploads" / ("0" * 64 + ".wav")
    asked = tmp_path / "uploads" / ("1" * 64 + ".wav")
    for upload in (left, asked):
        upload.write_text("speech")
        os.utime(upload, (0, 0))
    job = JobStore(tmp_path).submit("track", {"clip": str(asked)}, "test")
    engine = Engine(tmp_path, AllowedFolders([]), slots=0)
    engine.stop()
    monkeypatch.setenv("CMET_HOME", str(tmp_path))
    cache.put("test-0", lambda folder: (folder / "data").write_bytes(bytes(1000)))
    assert cache.shrink(0) == 1000 and not (tmp_path / "cache" / "test-0").exists()
    assert [(tmp_path / name).read_text() for name in mine] == ["mine"] * len(mine)
    assert asked.exists() and job.folder.is_dir() and not left.exists()


def test_a_folder_for_segments_that_holds_something_else_stays(tmp_path: Path):
    (tmp_path / "render").mkdir()
    (tmp_path / "render" / "shot.exr").write_text("mine")
    with pytest.raises(InvalidInput, match="no finished segments"):
        Segments(tmp_path).stage("render", "code", 1)
    assert (tmp_path / "render" / "shot.exr").read_text() == "mine"
    folder = Segments(tmp_path).stage("tracking", "code", 1)
    (folder / "00000000.segment").write_text("segment")
    assert list(Segments(tmp_path).stage("tracking", "code", 1).glob("*.segment"))
    assert not list(Segments(tmp_path).stage("tracking", "code", 2).glob("*.segment"))


def test_results_that_a_waiting_job_reads_are_not_forgotten(tmp_path: Path):
    store = JobStore(tmp_path, keep=2)
    first = store.submit("track", {"clip": "/a.mp4"}, "test")
    first.state = JobState(state="done")
    store.submit("render", {"clip": "/a.mp4", "track": str(first.results / "track.npz")}, "test")
    others = [store.submit("track", {"clip": "/a.mp4"}, "test") for _ in range(3)]
    assert first.folder.is_dir() and all(job.folder.is_dir() for job in others)


def test_commands_of_training_keep_the_files_they_are_given(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    names = tmp_path / "held_out.txt"
    names.write_text("take1\n")
    for command, said in (
        (["train", "refiner", "--clips", tmp_path, "--test-clips", names, "--work", tmp_path / "w"], "test clip"),
        (["eval", "emotion", names, "--force"], "clip"),
    ):
        assert main([*map(str, command), "-o", str(names)]) == 1
        assert f"is the {said} itself" in capsys.readouterr().err
    assert names.read_text() == "take1\n"
