"""The command line as a user calls it: once as another process; its exit codes, sentences and files."""

import json
import subprocess
import sys

import numpy as np
import pytest

from cmet_engine.track import CoefficientTrack

pytest.importorskip("bpy", reason="needs Blender as a module (the package bpy), which is not installed")


@pytest.fixture
def cmet(bpy, capfd):
    """`cmet(*arguments)` is `python -m cmet_blender` in this process; returns it as a finished one."""
    from cmet_blender.commands import main

    def call(*arguments):
        capfd.readouterr()  # what was said before
        try:
            status = main([str(argument) for argument in arguments])
        except SystemExit as end:
            status = end.code
        return subprocess.CompletedProcess(arguments, status, *capfd.readouterr())

    return call


@pytest.fixture
def process(project):
    """`process(*arguments)` runs `python -m cmet_blender` and returns the finished process."""

    def call(*arguments):
        command = [sys.executable, "-m", "cmet_blender", *map(str, arguments)]
        return subprocess.run(command, cwd=project, capture_output=True, text=True, timeout=120, check=False)

    return call


@pytest.fixture
def track_file(track, tmp_path):
    return track.save(tmp_path / "take.npz")


def test_export_writes_fbx_and_prints_json_alone(process, rig_file, track_file, tmp_path, bpy, track):
    out = tmp_path / "out.fbx"
    done = process("export", track_file, "--rig", rig_file, "-o", out, "--json")
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout)
    assert answer["matched"] == 52 and answer["frames"] == 50 and answer["missing"] == []
    bpy.ops.wm.read_factory_settings(use_empty=True)
    bpy.context.scene.render.fps = 24
    bpy.ops.import_scene.fbx(filepath=str(out))
    from cmet_blender import keyframes

    back = keyframes.read_track(bpy.data.objects["Head"], (1, 50))
    assert np.abs(back.coefficients - track.coefficients).max() < 1e-4


def test_a_glb_character_takes_the_tracks_rate_and_reads_back(cmet, shared, random_tracks, tmp_path):
    track = random_tracks(frames=12, fps="30000/1001")
    track.save(tmp_path / "take.npz")
    rig = shared / "data" / "rigs" / "readyplayerme_head.glb"
    done = cmet("export", tmp_path / "take.npz", "--rig", rig, "-o", tmp_path / "back.npz")
    assert done.returncode == 0, done.stderr
    back = CoefficientTrack.load(tmp_path / "back.npz")
    assert back.fps == track.fps and len(back) == 12
    assert np.abs(back.coefficients - track.coefficients).max() < 1e-5


def test_failures_are_one_sentence_and_status_1(cmet, rig_file, track_file, tmp_path):
    done = cmet("export", tmp_path / "none.npz", "--rig", rig_file, "-o", tmp_path / "a.fbx")
    assert done.returncode == 1 and "none.npz" in done.stderr.splitlines()[-1] and not done.stdout
    done = cmet("export", track_file, "--rig", rig_file, "-o", tmp_path / "a.obj")
    assert done.returncode == 1 and "'.obj'" in done.stderr
    assert not list(tmp_path.glob("a.*"))


def test_wrong_use_is_status_2(cmet):
    assert cmet("export").returncode == 2
    assert cmet("dance").returncode == 2


def test_bake_and_match(cmet, bpy, head, track, random_tracks, tmp_path):
    from cmet_blender import emotion_strips, keyframes

    keyframes.apply_track(head, track)
    happy = random_tracks(seed=1, low=-0.2, high=0.2, turn=0)
    emotion_strips.add(head, "happy", happy)
    scene = tmp_path / "scene.blend"
    bpy.ops.wm.save_as_mainfile(filepath=str(scene), copy=True)
    done = cmet("bake", "--rig", scene, "-o", tmp_path / "baked.csv", "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["emotions"] == ["happy"]
    baked = CoefficientTrack.load(tmp_path / "baked.csv")
    assert np.abs(baked.coefficients - track.coefficients - happy.coefficients).max() < 1e-5
    done = cmet("match", "--rig", scene, "-o", tmp_path / "map.json")
    assert done.returncode == 0 and "52 of 52" in done.stdout
    assert json.loads((tmp_path / "map.json").read_text())["format"] == "cmet-rig/1"


def test_a_failure_is_told_to_programs_as_json_too(cmet, rig_file, tmp_path):
    done = cmet("export", tmp_path / "none.npz", "--rig", rig_file, "-o", tmp_path / "a.fbx", "--json")
    assert done.returncode == 1
    sentence = json.loads(done.stdout)["error"]
    assert "none.npz" in sentence and done.stderr.splitlines()[-1] == f"cmet: {sentence}"


def test_a_video_of_an_unknown_format_is_refused_at_once(cmet, rig_file, tmp_path):
    (tmp_path / "take.mp4").write_bytes(b"")
    done = cmet("render", tmp_path / "take.mp4", "--rig", rig_file, "-o", tmp_path / "a.avi")
    assert done.returncode == 1 and "a.avi" in done.stderr and ".mp4 .m4v .mov .mkv" in done.stderr
