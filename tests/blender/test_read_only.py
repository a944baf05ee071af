"""A scene whose place cannot be written: results go elsewhere or the user is told, and the scene stays as it was."""

import os
import shutil
import tempfile
from pathlib import Path

import pytest

from cmet_engine.errors import CmetError


@pytest.fixture
def session(bpy, monkeypatch, tmp_path):
    from cmet_blender import session

    monkeypatch.setattr(session, "user_folder", lambda: tmp_path / "user")
    return session


@pytest.fixture
def saved(bpy, head, tmp_path):
    """The scene as a file in a folder of its own."""
    path = tmp_path / "scene" / "shot.blend"
    path.parent.mkdir()
    bpy.ops.wm.save_as_mainfile(filepath=str(path))
    return path


@pytest.fixture
def operators(bpy):
    import cmet_blender
    from cmet_blender import operators

    cmet_blender.register()
    yield operators
    cmet_blender.unregister()


def test_results_lie_beside_the_scene(session, saved):
    folder = session.results_folder()
    assert folder == saved.parent / "cmet" and not list(folder.iterdir())
    assert session.kept_elsewhere(folder / "x.npz") == ""


def test_a_read_only_file_in_a_folder_that_can_be_written_changes_nothing(session, saved):
    saved.chmod(0o444)
    assert session.results_folder() == saved.parent / "cmet"


@pytest.mark.parametrize("obstacle", ["a file has the folder's name", "the scene's folder is gone"])
def test_results_go_to_the_user_folder_where_the_scenes_cannot_be_written(session, saved, obstacle, tmp_path):
    if "gone" in obstacle:
        shutil.rmtree(saved.parent)
    else:
        (saved.parent / "cmet").write_text("mine")
    folder = session.results_folder()
    assert folder == tmp_path / "user" / "results" and folder.is_dir()
    assert "cannot be written" in session.kept_elsewhere(folder / "x.npz")
    if "gone" in obstacle:
        assert not saved.parent.exists()
    else:
        assert (saved.parent / "cmet").read_text() == "mine"


@pytest.mark.skipif(not hasattr(os, "geteuid"), reason="permissions of this kind are of POSIX systems")
@pytest.mark.parametrize("earlier", [False, True], ids=["first result", "folder of results is there"])
def test_a_folder_that_may_not_be_written(session, saved, bpy, monkeypatch, earlier):
    place = Path(tempfile.mkdtemp(prefix="cmet-read-only-"))
    user = Path(tempfile.mkdtemp(prefix="cmet-user-"))
    user.chmod(0o777)
    monkeypatch.setattr(session, "user_folder", lambda: user)
    root = os.geteuid() == 0  # whom permissions do not stop
    try:
        bpy.ops.wm.save_as_mainfile(filepath=str(place / "shot.blend"))
        if earlier:
            (place / "cmet").mkdir(mode=0o555)
        place.chmod(0o555)
        if root:
            os.seteuid(65534)
        assert session.results_folder() == user / "results"
    finally:
        if root:
            os.seteuid(0)
        place.chmod(0o755)
        shutil.rmtree(place)
        shutil.rmtree(user)


def test_where_nothing_can_be_written_the_user_is_told_both_places(session, saved, tmp_path):
    (saved.parent / "cmet").write_text("")
    (tmp_path / "user").write_text("")
    with pytest.raises(CmetError, match=r"scene.cmet and .*user.results cannot be written\. Save the scene"):
        session.results_folder()


def test_a_kept_result_never_replaces_an_earlier_one_and_leaves_no_half_file(session, saved, operators, tmp_path):
    made = tmp_path / "track.npz"
    made.write_bytes(b"new")
    first = operators.base.keep_result({"files": {"track.npz": str(made)}}, "track.npz", "take_track")
    second = operators.base.keep_result({"files": {"track.npz": str(made)}}, "track.npz", "take_track")
    assert (first.name, second.name) == ("take_track.npz", "take_track_2.npz")
    made.unlink()
    with pytest.raises(FileNotFoundError) as caught:
        operators.base.keep_result({"files": {"track.npz": str(made)}}, "track.npz", "take_track")
    assert sorted(p.name for p in first.parent.iterdir()) == ["take_track.npz", "take_track_2.npz"]
    assert "track.npz cannot be used: No such file" in operators.base.in_plain_words(caught.value)


def test_an_export_that_cannot_be_written_leaves_the_scene_unharmed(session, saved, bpy, operators, track):
    from cmet_blender import keyframes

    settings = bpy.context.scene.cmet
    settings.rig = bpy.data.objects["Head"]
    action = keyframes.apply_track(settings.rig, track)
    for place, words in ((saved / "x.fbx", "does not exist"), (saved.parent, "cannot export|is a folder")):
        settings.export_path = str(place)
        with pytest.raises(RuntimeError, match=words):
            bpy.ops.cmet.export()
        assert settings.message
    keys = settings.rig.data.shape_keys
    assert keys.animation_data.action == action and len(bpy.data.actions) == 1
    assert bpy.context.scene.frame_current == 1 and list(saved.parent.iterdir()) == [saved]
