"""The add-on with the real engine, on the project's own sample clip; in a Blender with the demo head."""

import importlib.util
import os
import signal
import time

import numpy as np
import pytest
from short_clips import small

from cmet_blender import engine as engine_module
from cmet_blender import engine_check
from cmet_blender.engine import Engine
from cmet_engine import arkit
from cmet_engine.errors import CmetError
from cmet_engine.processes import is_running
from cmet_engine.track import CoefficientTrack

pytest.importorskip("bpy", reason="needs Blender as a module (the package bpy), which is not installed")
for package in ("fastapi", "mediapipe", "torch"):
    if importlib.util.find_spec(package) is None:
        pytest.skip(f"needs the engine's package {package}, which is not installed", allow_module_level=True)


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    """The first 24 frames of the sample, without their sound."""
    return small(tmp_path_factory.mktemp("clip") / "talk.mp4", size=256, silent=True)


@pytest.fixture
def service(tmp_path, clip, monkeypatch, project):
    monkeypatch.setenv("PYTHONPATH", str(project))
    running = Engine(folder=tmp_path / "engine", allow=[clip.parent, tmp_path])
    yield running
    running.stop()


@pytest.fixture
def at_work(bpy, shared_engine, monkeypatch, tmp_path):
    """`at_work()`: the scene in a file of its own, with the add-on registered and the tests' engine."""
    import cmet_blender
    from cmet_blender import session

    def save():
        bpy.ops.wm.save_as_mainfile(filepath=str(tmp_path / "work.blend"))
        cmet_blender.register()
        monkeypatch.setattr(session, "engine", lambda *extra: shared_engine)
        return bpy.context.scene

    yield save
    cmet_blender.unregister()
    session.STATE = session.State()


@pytest.fixture
def scene(bpy, project, at_work):
    """The demo head at work."""
    bpy.ops.wm.open_mainfile(filepath=str(project / "rigs" / "demo_head.blend"))
    return at_work()


@pytest.mark.slow
def test_a_clip_becomes_keys_emotions_and_a_video_of_the_corrected_curves(bpy, scene, clip, tmp_path):
    settings = scene.cmet
    assert bpy.ops.cmet.load_footage(filepath=str(clip)) == {"FINISHED"}
    assert (scene.render.fps, scene.frame_end) == (25, 24)
    assert bpy.ops.cmet.track() == {"FINISHED"}
    tracked = CoefficientTrack.load(settings.track)
    assert len(tracked) == 24 and tracked.valid.all()
    settings.rig = bpy.data.objects["head"]
    assert bpy.ops.cmet.apply_track() == {"FINISHED"}
    assert bpy.ops.cmet.add_emotion(emotion="happy") == {"FINISHED"}
    from cmet_blender import emotion_strips, keyframes

    assert list(emotion_strips.strips(settings.rig)) == ["happy"]
    happy = keyframes.read_track(settings.rig, (1, 24))
    assert (happy["mouthSmileLeft"] - tracked["mouthSmileLeft"]).mean() > 0.1
    # the animator lifts the inner brows by half, by hand
    keys = settings.rig.data.shape_keys
    for layer in keys.animation_data.action.layers:
        bag = layer.strips[0].channelbag(keys.animation_data.action_slot)
        for point in bag.fcurves.find('key_blocks["browInnerUp"].value').keyframe_points:
            point.co[1] += 0.5
    assert bpy.ops.cmet.render_video() == {"FINISHED"}, settings.message
    sent = CoefficientTrack.load(tmp_path / "cmet" / "talk_edited.npz")
    change = sent.coefficients - happy.coefficients
    assert np.abs(change[:, arkit.INDEX["browInnerUp"]] - 0.5).max() < 0.02
    assert np.abs(np.delete(change, arkit.INDEX["browInnerUp"], 1)).max() < 1e-4
    names = {strip.name for strip in scene.sequence_editor.strips}
    assert {"C-MET source", "C-MET edited"} <= names
    from cmet_engine.media.reader import VideoReader

    video = next((tmp_path / "cmet").glob("talk_edited*.mp4"))
    before, after = (np.stack([f.image for f in VideoReader(p)]).astype(np.float32) for p in (clip, video))
    assert before.shape == after.shape
    face = np.abs(after - before).mean((0, 3))
    height, width = face.shape
    assert face[height // 4 : 3 * height // 4, width // 4 : 3 * width // 4].mean() > 3 * face[:, : width // 16].mean()
    assert bpy.ops.cmet.verify() == {"FINISHED"}, settings.message
    assert settings.badge == "valid" and "Nothing was changed since it was signed." in settings.done
    assert bpy.ops.cmet.compare() == {"FINISHED"} and "before" in settings.done
    before = keyframes.read_track(settings.rig, (1, 24))
    assert bpy.ops.cmet.recompute() == {"FINISHED"}
    tracks = {track.name: track.mute for track in keys.animation_data.nla_tracks}
    assert tracks == {"C-MET: rest": False, "C-MET: happy": True, "C-MET: exact": False}
    # one emotion at full strength is exact already; the inner brows lifted by hand are kept
    assert np.abs(keyframes.read_track(settings.rig, (1, 24)).coefficients - before.coefficients).max() < 1e-3
    settings.mode = "replace"  # which the engine is asked for, for the strip and for the exact layer in its place
    assert bpy.ops.cmet.follow_mode() == {"FINISHED"}, settings.message
    followed = keyframes.read_track(settings.rig, (1, 24))
    assert np.abs(followed.coefficients - before.coefficients).max() > 0.02
    assert bpy.ops.cmet.recompute() == {"FINISHED"}
    assert np.abs(keyframes.read_track(settings.rig, (1, 24)).coefficients - followed.coefficients).max() < 1e-3
    settings.mode = "add"  # of the new layer; the strip has both modes at hand
    assert bpy.ops.cmet.follow_mode() == {"FINISHED"}
    assert np.abs(keyframes.read_track(settings.rig, (1, 24)).coefficients - before.coefficients).max() < 1e-3


def test_an_export_is_signed_by_the_running_engine_and_stands_without_one(
    bpy, head, at_work, random_tracks, shared_engine, monkeypatch, tmp_path
):
    from cmet_blender import session
    from cmet_blender.commands import main
    from cmet_engine.provenance import show

    settings = at_work().cmet
    settings.rig, settings.track = bpy.data.objects[head.name], str(random_tracks(frames=8).save(tmp_path / "take.npz"))
    bpy.ops.cmet.apply_track()
    shared_engine.wait()
    settings.consent = "Anna, 2026-11-01, in writing"
    for suffix in ("fbx", "glb"):
        settings.export_path = str(tmp_path / f"head.{suffix}")
        assert bpy.ops.cmet.export() == {"FINISHED"} and "Credentials" not in settings.done, settings.done
        verdict = show.examine(tmp_path / f"head.{suffix}")
        assert verdict.credentials == show.VALID and verdict.edit["consent"] == {"text": settings.consent}
        assert [one["title"] for one in verdict.sources] == ["take.npz", "work.blend"]
    settings.consent = ""
    assert bpy.ops.cmet.export(replace=True) == {"FINISHED"} and "No consent of the person shown" in settings.done
    assert show.examine(tmp_path / "head.glb").credentials == show.VALID
    settings.export_path = str(tmp_path / "curves.csv")
    assert bpy.ops.cmet.export() == {"FINISHED"} and not (tmp_path / "curves.csv.c2pa").exists()

    monkeypatch.setattr(session, "engine", lambda *extra: Engine(folder=tmp_path / "none"))
    settings.export_path = str(tmp_path / "head.glb")
    assert bpy.ops.cmet.export(replace=True) == {"FINISHED"}
    unsigned = "carries no Content Credentials: no engine is running to sign it. Start the engine and export again"
    assert f"head.glb {unsigned}" in settings.done and not (tmp_path / "head.glb.c2pa").exists()
    bpy.ops.wm.save_mainfile()
    arguments = ["export", settings.track, "--rig", str(tmp_path / "work.blend"), "--json", "-o"]
    assert main([*arguments, str(tmp_path / "head.usdc")]) == 0 and (tmp_path / "head.usdc").is_file()
    assert main([*arguments, str(tmp_path / "other.usdc"), "--unsigned"]) == 0


@pytest.mark.slow
def test_an_object_deleted_while_a_job_runs_leaves_the_scene_unharmed(bpy, scene, clip, shared_engine, monkeypatch):
    settings = scene.cmet
    bpy.ops.cmet.load_footage(filepath=str(clip))
    settings.rig = bpy.data.objects["head"]
    ask = shared_engine.run

    def meanwhile(*arguments, **parameters):
        state = ask(*arguments, **parameters)
        bpy.data.objects.remove(bpy.data.objects["head"])
        return state

    monkeypatch.setattr(shared_engine, "run", meanwhile)
    before = sorted(o.name for o in bpy.data.objects)
    with pytest.raises(RuntimeError, match="was deleted"):
        bpy.ops.cmet.add_emotion(emotion="happy")
    assert sorted([*(o.name for o in bpy.data.objects), "head"]) == before
    assert not any(a.name.startswith("C-MET: ") for a in bpy.data.actions)


@pytest.mark.slow
def test_a_job_survives_the_death_of_its_engine_which_another_blender_finds_and_cannot_end(service, clip):
    service.start()
    service.wait()
    other = Engine(folder=service.folder)
    assert other.ready() and other.health()["version"] == service.health()["version"]
    other.stop()  # not its own: still there
    identity = service.submit({"kind": "track", "clip": str(clip)})
    first = service.health()["pid"]
    end = time.monotonic() + 60
    while service.poll(identity)["state"] == "queued" and time.monotonic() < end:
        time.sleep(0.05)
    os.kill(first, signal.SIGKILL)
    state = None
    while (state is None or state["state"] not in engine_module.FINISHED) and time.monotonic() < end:
        state = service.watch(identity)
        time.sleep(0.2)
    assert state["state"] == "done" and len(CoefficientTrack.load(state["files"]["track.npz"])) == 24
    second = service.health()["pid"]
    assert second != first
    service.stop()
    assert not is_running(second)


@pytest.mark.slow
def test_a_cancelled_job_leaves_nothing(shared_engine, clip):
    new = small(
        clip.with_name("new.mp4"), frames=100, size=256, silent=True
    )  # what was tracked before is there at once
    shared_engine.wait()
    identity = shared_engine.submit({"kind": "track", "clip": str(new)})
    shared_engine.cancel(identity)
    with pytest.raises(CmetError, match="cancelled"):
        engine_module.finished(shared_engine.poll(identity))


def test_a_python_that_is_none_is_explained(tmp_path):
    missing = Engine(tmp_path / "python3", folder=tmp_path / "engine")
    with pytest.raises(CmetError, match=r"python3.*cannot be started.*preferences"):
        missing.start()
    (finding,) = engine_check.check(missing)
    assert not finding.ok and "does not exist" in finding.text


def test_an_engine_that_dies_at_once_says_why(service, tmp_path):
    (tmp_path / "file").write_text("")
    broken = Engine(folder=tmp_path / "engine2", allow=[tmp_path / "nowhere"])
    broken.start()
    with pytest.raises(CmetError, match=r"ended while starting.*nowhere"):
        broken.wait()


@pytest.mark.parametrize(
    ("version", "words"), [("0.1.0", ""), ("0.1.7", ""), ("0.3.0", "update the add-on"), ("0.0.9", "update the engine")]
)
def test_versions_that_do_not_agree_are_said(version, words):
    sentence = engine_module.version_mismatch(version)
    assert (words in sentence) and (bool(sentence) == bool(words))


def test_ports_come_from_the_range_and_a_full_range_is_said():
    import socket

    assert engine_module.free_port((0, 0)) == 0
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
        assert engine_module.free_port((port, min(65535, port + 50))) > port
        with pytest.raises(CmetError, match="all in use"):
            engine_module.free_port((port, port))
