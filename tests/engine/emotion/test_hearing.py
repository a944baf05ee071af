"""What is felt in a voice when: phrases, keys, and an edit that follows a recording."""

import json

import numpy as np
import pytest
from voices import RATE, speak, write_wav

from cmet_engine.cli import main
from cmet_engine.emotion import following
from cmet_engine.emotion.clip_emotions import asked_emotions, heard_timeline
from cmet_engine.emotion.hearing import Hearing, hear, phrases, second_choice
from cmet_engine.emotion.speech import load_encoder
from cmet_engine.emotions import LIBRARY
from cmet_engine.errors import InvalidInput
from cmet_engine.jobs.manifest import read_manifest
from cmet_engine.jobs.worker import run_row
from cmet_engine.spec import EditSpec
from cmet_engine.timeline import EmotionKey, EmotionTimeline
from cmet_engine.track import CoefficientTrack

NAMES = ("neutral", *LIBRARY)


def heard(*parts: tuple[float, float, dict[str, float]], seconds: float = 10.0) -> Hearing:
    """A hearing of phrases (begin, end, probabilities)."""
    shares = np.zeros((len(parts), 14), np.float32)
    for row, (_, _, said) in zip(shares, parts, strict=True):
        for name, share in said.items():
            row[NAMES.index(name)] = share
    frames = int(seconds / 0.25)
    features = np.repeat(10 * shares[:1, 1:], frames, 0)
    return Hearing(seconds, np.array([part[:2] for part in parts]), shares, features, np.ones(frames), np.zeros(frames))


def test_phrases_end_at_pauses_and_long_ones_are_split_where_they_are_softest():
    energy = np.full(2400, -9.0)
    energy[100:400] = energy[460:700] = 0.0
    energy[900:2100] = 0.0
    energy[1480:1490] = -2.0  # soft, no pause
    found = phrases(energy)
    np.testing.assert_allclose(found[:2], [(100, 400), (460, 700)], atol=5)
    assert len(found) == 2 + 4 and all(b - a <= 500 for a, b in found)
    assert any(abs(a - 1485) < 15 for a, _ in found[2:])


def test_an_emotion_lasts_over_a_short_pause_and_crosses_into_the_next():
    angry, sad = {"angry": 0.9, "neutral": 0.1}, {"sad": 0.85, "neutral": 0.15}
    timeline = heard((0.0, 2.0, angry), (3.0, 4.0, angry), (5.0, 7.0, sad)).timeline()
    assert [key.emotion for key in timeline.keys] == ["angry", "sad"]
    times = np.arange(0, 7, 0.05)
    weights = timeline.weights(times, 10.0)
    both = sum(weights.values())
    assert (both > 0.75).all()  # pauses keep what was felt, and nothing dips where one follows the other
    assert weights["angry"][times < 4].min() > 0.75 and weights["sad"][times > 5].min() > 0.75
    assert 4 < times[np.abs(weights["angry"] - weights["sad"]).argmin()] < 5


def test_a_long_silence_and_neutral_speech_let_the_face_rest():
    calm = {"neutral": 0.9, "sad": 0.1}
    timeline = heard((1.0, 3.0, {"happy": 0.95}), (3.5, 5.0, calm), (8.0, 9.0, {"happy": 0.95})).timeline()
    assert [key.emotion for key in timeline.keys] == ["happy", "happy"]
    rest = timeline.weights(np.array([4.5, 5.5, 7.0]), 10.0)["happy"]
    assert rest.max() < 0.01
    assert not heard((0.0, 9.0, calm)).timeline().keys
    assert heard((0.0, 9.0, calm)).messages(None) == ["The voice sounds neutral throughout."]


def test_a_close_second_is_offered_and_what_is_unclear_is_weaker(tmp_path):
    clear = heard((0.0, 3.0, {"angry": 0.9}))
    close = heard((0.0, 3.0, {"angry": 0.6, "disgusted": 0.3, "neutral": 0.1}))
    unclear = heard((0.0, 3.0, {"angry": 0.2, "disgusted": 0.19, "fear": 0.18, "sad": 0.15, "neutral": 0.28}))
    (key,) = close.timeline().keys
    assert key.heard == {"angry": 0.6, "disgusted": 0.3, "neutral": 0.1} and second_choice(key) == "disgusted"
    assert close.messages(tmp_path) == ["From 0.0 to 3.4 s it sounds angry (0.60) or disgusted (0.30)."]
    assert second_choice(clear.timeline().keys[0]) is None
    levels = [hearing.timeline().keys[0].strength for hearing in (clear, close, unclear)]
    assert levels[0] >= levels[1] > 1.5 * levels[2] > 0


def test_a_key_that_stands_for_what_is_heard_gives_its_own_settings(monkeypatch, tmp_path):
    path = write_wav(tmp_path / "a.wav", speak(1.0))
    hearing = heard((0.0, 4.0, {"angry": 1.0}), (6.0, 9.0, {"sad": 1.0}))
    monkeypatch.setattr(Hearing, "of", lambda *_: hearing)
    auto = EmotionKey("auto", 0.5, 1.0, 7.0, person="anna", regions={"brows": 2.0})
    keys = heard_timeline(EmotionTimeline([auto, EmotionKey("fear")]), path)[0].keys
    assert [(key.emotion, key.strength, key.person) for key in keys] == [
        ("angry", 0.5, "anna"), ("sad", 0.5, "anna"), ("fear", 1.0, None),
    ]  # fmt: skip
    assert keys[0].start == 1.0 and keys[1].end == 7.0 and keys[1].regions == {"brows": 2.0}


def test_the_command_writes_a_timeline_of_the_sound_and_an_edit_takes_it(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("CMET_HOME", str(tmp_path / "home"))
    voice = np.concatenate([speak(2.0, pitch=260, lively=0.5, seed=3), np.zeros(3 * RATE), speak(1.5, seed=4)])
    clip, file = write_wav(tmp_path / "line.wav", voice.astype(np.float32)), tmp_path / "timeline.json"
    assert main(["hear", str(clip), "-o", str(file)]) == 0
    table = capsys.readouterr().out
    timeline = EmotionTimeline.load(file)
    assert timeline.keys and all(key.emotion in LIBRARY and 0 < key.strength <= 1 for key in timeline.keys)
    assert all(f"{key.emotion:<12} {key.strength:8.2f}" in table for key in timeline.keys)
    assert all(max(key.heard, key=lambda n: key.heard[n] * (n in LIBRARY)) == key.emotion for key in timeline.keys)
    silent = sum(timeline.weights(np.array([3.5, 4.0]), 6.5).values())  # long after the first phrase, before the second
    assert silent.max() < 0.01
    assert main(["hear", str(clip), "-o", str(file)]) == 1 and "exists already" in capsys.readouterr().err
    assert main(["hear", str(clip), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["keys"] == json.loads(file.read_text())["keys"]
    asked = asked_emotions(EditSpec(clip=clip, emotions=("auto=0.5",), device="cpu"))
    assert [key.emotion for key in asked.timeline.keys] == [key.emotion for key in timeline.keys]
    assert asked.timeline.keys[0].strength == pytest.approx(0.5 * timeline.keys[0].strength)


def test_a_row_of_a_batch_hears(tmp_path, monkeypatch):
    monkeypatch.setattr(Hearing, "of", lambda *_: heard((0.0, 4.0, {"angry": 1.0})))
    write_wav(tmp_path / "line.wav", speak(1.0))
    (tmp_path / "jobs.csv").write_text("kind,clip\nhear,line.wav\n")
    (row,) = read_manifest(tmp_path / "jobs.csv")
    assert row.problem is None
    answer = run_row(row.task(force=False))
    assert answer["outputs"] == [str(tmp_path / "line.timeline.json")]
    assert EmotionTimeline.load(answer["outputs"][0]).names() == ["angry"]


def test_noise_is_no_voice():
    noise = 0.1 * np.random.default_rng(0).standard_normal(2 * RATE)
    with pytest.raises(InvalidInput, match="no voice"):
        hear(noise.astype(np.float32), load_encoder())


def test_a_take_has_no_sound_to_hear(tmp_path):
    with pytest.raises(InvalidInput, match=r"take\.npz has no sound to hear"):
        heard_timeline(EmotionTimeline.parse(["auto"]), tmp_path / "take.npz")


@pytest.fixture(scope="module")
def line():
    return speak(4.0, seed=8)


def test_two_takes_of_a_line_are_aligned_by_what_is_said(line):
    pause = np.zeros(int(0.9 * RATE), np.float32)
    other = np.concatenate([line[: 2 * RATE], pause, line[2 * RATE :]])
    at, there, apart = following.align(line, other)
    assert apart < following.OTHER_WORDS
    wanted = at + 0.9 * (at >= 2.0)
    away = np.abs(at - 2.0) > 0.3
    assert np.abs(there - wanted)[away].max() < 0.12
    assert (np.diff(there) >= 0).all()
    back_at, back, _ = following.align(other, line)
    assert (
        np.abs(back - np.where(back_at < 2, back_at, np.maximum(back_at - 0.9, 2)))[
            (back_at < 1.7) | (back_at > 3.2)
        ].max()
        < 0.12
    )


def test_memory_of_the_alignment_does_not_grow_with_the_recording(monkeypatch, line):
    monkeypatch.setattr(following, "MOST", 50)
    at, there, _ = following.align(line, line)
    assert len(at) <= 50 and np.abs(at - there).max() < 0.2


def test_an_edit_follows_strength_and_time_of_a_recording(tmp_path, line):
    take = tmp_path / "take.npz"
    CoefficientTrack(25, np.zeros((200, 52), np.float32)).save(take)  # 8 s
    hearing = heard((0.5, 2.0, {"angry": 1.0}), (2.4, 3.8, {"sad": 0.9}), seconds=4.0)
    hearing.energy[:8] = np.linspace(-6, 0, 8)  # the anger swells
    followed = following.follow(write_wav(tmp_path / "line.wav", line), take, hearing)
    course = hearing.course(hearing.timeline())
    weights = followed.timeline.weights(2 * hearing.times, 8.0)  # twice as slow
    for name, values in course.items():
        assert np.abs(weights[name] - values)[:-1].max() < 0.15
    assert weights["angry"][6] > weights["angry"][3] + 0.1
    assert "stretched" in followed.messages[0]
    same = tmp_path / "same.npz"
    CoefficientTrack(25, np.zeros((101, 52), np.float32)).save(same)
    assert "by time:" in following.follow(tmp_path / "line.wav", same, hearing).messages[0]


def test_following_needs_a_recording():
    with pytest.raises(InvalidInput, match=r"needs .*speech.*that is to be followed"):
        EditSpec.read({"clip": "a.mp4", "follow": True})
