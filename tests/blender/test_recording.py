"""The Record button: a process of the engine's Python, its level in the panel, its result in the field."""

import os
import stat
import sys
import time

import pytest

from cmet_blender.engine import FINISHED, Engine
from cmet_blender.recorder import Recorder
from cmet_engine.errors import CmetError

STAND_IN = """#!{python}
# answers as `python -m cmet_engine.cli record` does where there is a microphone
import json, sys, time
path, seconds = sys.argv[sys.argv.index("-o") + 1], float(sys.argv[sys.argv.index("--seconds") + 1])
try:
    for step in range(1, 6):
        print(json.dumps({{"seconds": seconds * step / 5, "level": -12.0}}), file=sys.stderr, flush=True)
        time.sleep(seconds / 5)
except KeyboardInterrupt:
    sys.exit(1)
open(path, "wb").write(b"RIFF")
"""


@pytest.fixture
def microphone(tmp_path):
    """A recorder whose process acts as if there were a microphone."""
    if os.name != "posix":
        pytest.skip("the stand-in is a script with a #! line")
    program = tmp_path / "python-with-microphone"
    program.write_text(STAND_IN.format(python=sys.executable))
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    return Recorder(Engine(program, folder=tmp_path / "engine"))


def test_level_and_time_are_shown_while_it_records(microphone, tmp_path):
    identity = microphone.submit({"kind": "record", "path": tmp_path / "a.wav", "seconds": 1.0})
    states = []
    end = time.monotonic() + 20
    while (not states or states[-1]["state"] not in FINISHED) and time.monotonic() < end:
        states.append(microphone.watch(identity))
        time.sleep(0.05)
    assert states[-1]["state"] == "done" and states[-1]["files"] == {"a.wav": str(tmp_path / "a.wav")}
    assert any(s["stage"] == "level -12 dB" and 0 < s["done"] < 10 == s["total"] for s in states)


def test_cancelling_ends_the_process_and_keeps_nothing(microphone, tmp_path):
    identity = microphone.submit({"kind": "record", "path": tmp_path / "a.wav", "seconds": 30.0})
    while microphone.watch(identity)["done"] == 0:
        time.sleep(0.05)
    microphone.cancel(identity)
    assert microphone.watch(identity)["state"] == "cancelled"
    assert not (tmp_path / "a.wav").exists() and microphone._process.poll() is not None


def test_a_recorder_that_hangs_is_ended(microphone, tmp_path):
    microphone.SLACK = -29.5
    identity = microphone.submit({"kind": "record", "path": tmp_path / "a.wav", "seconds": 30.0})
    end = time.monotonic() + 20
    while (state := microphone.watch(identity))["state"] == "running" and time.monotonic() < end:
        time.sleep(0.1)
    assert state["state"] == "failed" and "in time" in state["error"] and microphone._process.poll() is not None


def test_a_python_without_the_engine_says_so(tmp_path):
    with pytest.raises(CmetError, match=r"nowhere.*cannot be started.*preferences"):
        Recorder(Engine(tmp_path / "nowhere", folder=tmp_path)).run(
            {"kind": "record", "path": tmp_path / "a.wav", "seconds": 1}
        )


@pytest.fixture
def scene(bpy, monkeypatch, tmp_path):
    import cmet_blender
    from cmet_blender import session

    cmet_blender.register()
    monkeypatch.setattr(session, "user_folder", lambda: tmp_path / "user")
    yield bpy.context.scene
    cmet_blender.unregister()


def test_the_button_fills_the_field_and_never_replaces_a_recording(bpy, scene, microphone, monkeypatch, tmp_path):
    from cmet_blender import session

    monkeypatch.setattr(session, "engine", lambda *extra: microphone._engine)
    scene.cmet.record_seconds = 0.5
    assert bpy.ops.cmet.record(into="neutral_voice") == {"FINISHED"}
    assert bpy.ops.cmet.record(into="voice") == {"FINISHED"}
    first = scene.cmet.voice
    assert bpy.ops.cmet.record(into="voice") == {"FINISHED"}
    results = tmp_path / "user" / "results"
    assert sorted(p.name for p in results.iterdir()) == ["neutral_voice_1.wav", "voice_1.wav", "voice_2.wav"]
    assert first == str(results / "voice_1.wav") and scene.cmet.voice == str(results / "voice_2.wav")
    assert scene.cmet.neutral_voice == str(results / "neutral_voice_1.wav")


def test_without_a_microphone_the_reason_is_said(bpy, scene, monkeypatch, tmp_path, project):
    pytest.importorskip("mediapipe", reason="needs the engine's packages, which are not in this environment")
    try:
        import sounddevice

        inputs = [d for d in sounddevice.query_devices() if d["max_input_channels"]]
    except (OSError, ImportError):
        inputs = []
    if inputs:
        pytest.skip("this machine has a microphone, and a test should not listen")
    from cmet_blender import session

    monkeypatch.setenv("PYTHONPATH", str(project))
    monkeypatch.setattr(session, "engine", lambda *extra: Engine(folder=tmp_path / "engine"))
    with pytest.raises(RuntimeError, match=r"Recording needs|No microphone"):
        bpy.ops.cmet.record(into="voice")
    assert scene.cmet.message and not scene.cmet.voice
