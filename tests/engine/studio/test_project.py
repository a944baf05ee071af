"""The work on a clip: saved at once, found again, taken back; and the link to an engine that dies."""

import os
import signal
from pathlib import Path

import pytest

from cmet_engine.client import Client
from cmet_engine.errors import InvalidInput
from cmet_engine.studio.link import EngineLink
from cmet_engine.studio.project import Project, recent

HAPPY = {"emotion": "happy", "start": 1.0, "end": 2.0, "strength_keys": [[0.0, 1.0], [0.5, 0.2]]}


def test_every_change_is_on_the_disk_and_can_be_taken_back(tmp_path):
    project = Project.of(tmp_path, "/films/take.mp4")
    project.change([HAPPY], ["jawOpen=0.5@1.2"])
    found = Project.of(tmp_path, "/films/take.mp4")
    assert (found.keys, found.corrections) == (project.keys, project.corrections) and found.keys[0].end == 2.0
    assert found.edit()["keys"][0]["strength_keys"] == ((0.0, 1.0), (0.5, 0.2))
    project.change([], [])
    assert project.undo() and project.keys == found.keys and project.redo() and not project.keys
    assert not project.redo() and project.undo() and project.undo() and not project.undo()
    assert Project.of(tmp_path, "/films/take.mp4").keys == () == Project.of(tmp_path, "/other/take.mp4").keys


def test_what_is_wrong_is_refused_and_nothing_changes(tmp_path):
    project = Project.of(tmp_path, "/films/take.mp4")
    project.change([HAPPY], [])
    for keys, corrections in ([{**HAPPY, "end": 0.5}], []), ([HAPPY], ["jawOpen=9@1"]):
        with pytest.raises(InvalidInput):
            project.change(keys, corrections)
    assert len(project.keys) == 1 and project.done and len(Project.of(tmp_path, "/films/take.mp4").keys) == 1


def test_a_damaged_project_begins_anew_and_clips_that_are_gone_are_not_recent(tmp_path):
    clip = tmp_path / "take.mp4"
    clip.touch()
    project = Project.of(tmp_path / "projects", str(clip))
    project.save()
    gone = Project.of(tmp_path / "projects", "/gone/take.mp4")
    gone.save()
    assert recent(tmp_path / "projects") == [str(clip)]
    project.path.write_text("{")
    assert Project.of(tmp_path / "projects", str(clip)).keys == () and recent(tmp_path / "projects") == []


@pytest.mark.soak  # the walk through the page kills and finds an engine, too
def test_an_engine_is_started_found_and_started_again(tmp_path: Path, monkeypatch):
    monkeypatch.setenv("CMET_HOME", str(tmp_path / "home"))
    link = EngineLink(tmp_path / "engine", [tmp_path])
    try:
        first = link.ask(Client.health)["pid"]
        assert EngineLink(tmp_path / "engine", [tmp_path]).ask(Client.health)["pid"] == first
        os.kill(first, signal.SIGKILL)
        assert link.ask(Client.health)["pid"] != first
        with pytest.raises(InvalidInput, match="outside the folders"):
            link.ask(lambda engine: engine.clip("/etc/hostname"))
    finally:
        link.stop()
