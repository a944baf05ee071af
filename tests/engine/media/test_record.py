"""Recording a voice: what becomes a file, and what is said when there is no microphone."""

import importlib
import json
import subprocess
import sys
import threading

import numpy as np
import pytest

from cmet_engine.errors import CmetError
from cmet_engine.media import audio
from cmet_engine.media.record import decibels, record

RATE = 44100


class Microphone:
    """Answers as `sounddevice` does, from another thread: a tone, silence, nothing, or no device at all."""

    class PortAudioError(Exception):
        pass

    def __init__(self, kind="tone"):
        self.kind, self.open = kind, False

    def query_devices(self, device, kind):
        if self.kind == "absent":
            raise self.PortAudioError("Error querying device -1")
        if device == "other":
            raise ValueError("No input device matching 'other'")
        return {"name": "test", "default_samplerate": float(RATE)}

    def InputStream(self, *, callback, blocksize, samplerate, channels, dtype, device):  # noqa: N802 - theirs
        assert (samplerate, channels, dtype) == (RATE, 1, "float32")
        self.callback, self.size = callback, blocksize
        return self

    def __enter__(self):
        self.open = True
        if self.kind != "dead":
            threading.Thread(target=self.play, daemon=True).start()
        return self

    def play(self):
        amplitude, n = (0.0 if self.kind == "silent" else 0.5), 0
        while self.open:
            time = (n + np.arange(self.size)) / RATE
            self.callback(
                (amplitude * np.sin(2 * np.pi * 220 * time)).astype(np.float32)[:, None], self.size, None, None
            )
            n += self.size
            threading.Event().wait(0.002)

    def __exit__(self, *_):
        self.open = False


def test_a_recording_is_the_sound_that_was_there(tmp_path):
    levels = []
    microphone = Microphone()
    about = record(tmp_path / "a.wav", 0.7, backend=microphone, level=lambda t, d: levels.append((t, d)))
    assert about["seconds"] == pytest.approx(0.7, abs=1e-4) and about["rate"] == RATE and not microphone.open
    assert about["peak"] == pytest.approx(-6.0, abs=0.1)
    wave = audio.load(tmp_path / "a.wav", RATE)
    wanted = 0.5 * np.sin(2 * np.pi * 220 * np.arange(len(wave)) / RATE)
    assert len(wave) == round(0.7 * RATE) and np.abs(wave - wanted).max() < 1e-4
    assert [t for t, _ in levels] == sorted(t for t, _ in levels) and levels[-1][0] == 0.7
    assert all(d == pytest.approx(-6.0, abs=0.1) for _, d in levels)


@pytest.mark.parametrize(
    ("kind", "device", "words"),
    [
        ("absent", None, r"No microphone can be used .*connect one"),
        ("tone", "other", r"No microphone can be used .*matching 'other'"),
        ("silent", None, r"The recording.*silen"),
        ("dead", None, r"'test' gives no sound"),
    ],
)
def test_what_goes_wrong_is_said_and_nothing_is_left(tmp_path, monkeypatch, kind, device, words):
    if kind == "dead":  # only there the time runs out, on a slow machine too
        monkeypatch.setattr("cmet_engine.media.record.PATIENCE", 0.2)
    with pytest.raises(CmetError, match=words):
        record(tmp_path / "a.wav", 0.5, device=device, backend=Microphone(kind))
    assert not list(tmp_path.iterdir())


def test_stopping_leaves_nothing(tmp_path):
    def stop(seconds, peak):
        raise KeyboardInterrupt

    microphone = Microphone()
    with pytest.raises(KeyboardInterrupt):
        record(tmp_path / "a.wav", 5, backend=microphone, level=stop)
    assert not list(tmp_path.iterdir()) and not microphone.open


def test_wrong_use_is_named_before_anything_is_recorded(tmp_path):
    (tmp_path / "there.wav").write_bytes(b"mine")
    for path, seconds, words in (
        (tmp_path / "a.mp3", 5, r"written as \.wav"),
        (tmp_path / "a.wav", 0, "above 0"),
        (tmp_path / "a.wav", 6000, "at most 600"),
        (tmp_path / "there.wav", 1, "exists already"),
    ):
        with pytest.raises(CmetError, match=words):
            record(path, seconds, backend=Microphone())
    assert (tmp_path / "there.wav").read_bytes() == b"mine"


def test_levels_are_below_full_scale():
    assert decibels(np.array([1.0])) == 0 and decibels(np.zeros(3)) == -90 and decibels(np.zeros(0)) == -90


def test_the_command_without_a_microphone_fails_with_one_sentence(tmp_path):
    try:
        inputs = [d for d in importlib.import_module("sounddevice").query_devices() if d["max_input_channels"]]
    except (OSError, ImportError):
        inputs = []
    if inputs:
        pytest.skip("this machine has a microphone, and a test should not listen")
    command = [sys.executable, "-m", "cmet_engine.cli", "record", "-o", str(tmp_path / "a.wav"), "--seconds", "1"]
    done = subprocess.run([*command, "--json"], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 1 and not list(tmp_path.iterdir())
    sentence = json.loads(done.stdout)["error"]
    assert any(word in sentence for word in ("PortAudio", "No microphone", "sounddevice"))
