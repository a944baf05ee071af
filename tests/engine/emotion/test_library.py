import json
from pathlib import Path

import numpy as np
import pytest
from scipy.io import wavfile
from voices import RATE, speak, write_wav

from cmet_engine.cli import main
from cmet_engine.emotion import library, make_vector, pool_checks, sound_files, user_library
from cmet_engine.emotion.acoustics import acoustics
from cmet_engine.emotion.recordings import Recording
from cmet_engine.emotion.speech import load_encoder
from cmet_engine.emotion.vector import EmotionVector
from cmet_engine.emotion.voice_check import check_voice
from cmet_engine.emotions import BASIC, EXTENDED
from cmet_engine.errors import CmetError
from cmet_engine.media import audio


@pytest.fixture(scope="module")
def encoder():
    return load_encoder()


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("CMET_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


@pytest.fixture
def pools(tmp_path):
    """Folders of a lively high voice and a flat low one."""
    for number in range(4):
        write_wav(tmp_path / "lively" / f"{number}.wav", speak(1.5, pitch=220, lively=0.5, seed=number))
        write_wav(tmp_path / "flat" / f"{number}.wav", speak(1.5, pitch=120, lively=0.02, seed=number))
    return tmp_path


def test_the_embedded_emotions_are_there():
    known = library.load_library()
    assert set(known) >= {*BASIC, *EXTENDED, "neutral"}
    for name, vector in known.items():
        assert vector.vector.shape == (13,) and np.isfinite(vector.vector).all()
        assert vector.reliability is None or 0 <= vector.reliability <= 1
        assert (np.linalg.norm(vector.vector) > 0.5) == (name != "neutral")


def test_an_unknown_emotion_gives_the_nearest_spelling():
    known = library.load_library()
    assert list(library.find_emotions(["happy", "sad"], known)) == ["happy", "sad"]
    with pytest.raises(CmetError, match=r"'hapy' is unknown\. Did you mean 'happy'\? Known are angry"):
        library.find_emotions(["hapy"], known)


def test_a_vector_from_folders_is_stored_and_found_again(encoder, pools, home):
    seen = []
    vector = make_vector.emotion_vector(
        [pools / "lively"], [pools / "flat"], "lively", encoder, progress=lambda *a: seen.append(a)
    )
    assert vector.vector.shape == (13,) and np.linalg.norm(vector.vector) > 0.1
    assert vector.meta["consistency"] > 0.1 and vector.reliability == pytest.approx(
        vector.meta["consistency"], abs=1e-3
    )
    assert seen[0] == ("speech", 0, 8)
    path = user_library.save_user_vector(vector)
    assert path == home / "emotions" / "lively.json"
    again = library.load_library()["lively"]
    np.testing.assert_allclose(again.vector, vector.vector, atol=1e-5)
    assert again.meta == vector.meta
    text = library.describe_vector(again)
    assert "from neutral" in text and "near" in text and "4 recordings" in text
    with pytest.raises(CmetError, match="--force"):
        user_library.save_user_vector(vector)
    user_library.save_user_vector(vector, force=True)
    path.unlink()
    assert "lively" not in library.load_library()


def test_the_command_does_without_neutral_recordings_and_says_so(pools, home, capsys):
    assert main(["vector", str(pools / "lively"), "--name", "alone", "-q"]) == 0
    said = capsys.readouterr().out
    assert "the library's neutral" in said and "heard:" in said and "other people's neutral speech" in said


def test_exchanged_pools_give_a_vector_that_points_the_other_way(encoder, pools):
    one = make_vector.emotion_vector([pools / "lively"], [pools / "flat"], "a", encoder).vector
    other = make_vector.emotion_vector([pools / "flat"], [pools / "lively"], "b", encoder).vector
    assert one.sum() > 0 > other.sum() and one @ other < 0


@pytest.mark.parametrize("name", ["../evil", "a/b", "", "happy", "voice", "nul", "x" * 41, "1st", "a b", "é"])
def test_a_name_that_cannot_be_used_is_refused(name, home):
    with pytest.raises(CmetError):
        user_library.save_user_vector(EmotionVector(name, np.ones(13, np.float32)))
    assert not list(home.rglob("*.json"))


def test_a_single_recording_works_and_says_so(encoder, pools):
    vector = make_vector.emotion_vector([pools / "lively" / "0.wav"], None, "one", encoder)
    assert vector.reliability is None
    messages = " ".join(vector.meta["messages"])
    assert "single recording" in messages and "No neutral recordings" in messages


def test_bad_pools_are_named(encoder, pools, tmp_path):
    empty = tmp_path / "empty"
    empty.mkdir()
    (tmp_path / "zero.wav").touch()
    write_wav(tmp_path / "silent.wav", np.zeros(16000))
    write_wav(tmp_path / "noise.wav", 0.2 * np.random.default_rng(0).standard_normal(32000))
    for paths, neutral, words in (
        ([empty], None, "holds no recordings"),
        ([tmp_path], None, "noise.wav"),
        ([pools / "home_of_nothing"], None, "does not exist"),
        ([tmp_path / "zero.wav"], None, "zero.wav"),
        ([tmp_path / "silent.wav"], None, "silent.wav"),
        ([pools / "lively"], [pools / "lively"], "both as the emotion and as neutral"),
        ([], None, "No recording"),
    ):
        with pytest.raises(CmetError, match=words):
            make_vector.emotion_vector(paths, neutral, "x", encoder)


def test_a_folder_of_folders_says_which_to_give(tmp_path):
    write_wav(tmp_path / "speaker" / "angry" / "0.wav", speak(0.5))
    with pytest.raises(CmetError, match="speaker"):
        sound_files.sound_files([tmp_path / "speaker"])


def test_stereo_and_other_rates_are_taken(encoder, tmp_path):
    stereo = write_wav(tmp_path / "stereo.wav", np.stack([speak(rate=44100)] * 2, 1), 44100)
    assert np.isfinite(make_vector.emotion_vector([stereo], None, "x", encoder).vector).all()


def test_a_clipped_recording_is_mentioned(encoder, tmp_path):
    path = write_wav(tmp_path / "loud.wav", np.clip(8 * speak(), -1, 1))
    assert "clipped" in " ".join(make_vector.emotion_vector([path], None, "x", encoder).meta["messages"])


def test_a_damaged_file_of_the_user_hides_nothing(home):
    folder = home / "emotions"
    folder.mkdir(parents=True)
    (folder / "good.json").write_text(
        json.dumps(
            {"format": user_library.FORMAT, "name": "good", "vector": [0.5] * 13, "reliability": 0.5, "meta": {}}
        )
    )
    (folder / "broken.json").write_text("{")
    (folder / "short.json").write_text(json.dumps({"format": user_library.FORMAT, "name": "short", "vector": [1.0]}))
    (folder / "nan.json").write_text(
        json.dumps({"format": user_library.FORMAT, "name": "nan", "vector": [float("nan")] * 13})
    )
    known = library.load_library()
    assert "good" in known and not {"broken", "short", "nan"} & set(known)
    problems = user_library.user_problems()
    assert len(problems) == 3 and any("broken.json" in p for p in problems)


def test_another_persons_neutral_is_noticed(encoder, shared):
    speech = shared / "data/speech/emodb"  # speakers held out: 08 is a woman, 10 a man; W is anger, N neutral
    wanted, own, other = (sorted(speech.glob(f"{name}.flac"))[:4] for name in ("08???W?", "08???N?", "10???N?"))

    def warned(neutral):
        return "another person" in " ".join(make_vector.emotion_vector(wanted, neutral, "x", encoder).meta["messages"])

    assert warned(other) and not warned(own)


def test_several_people_in_a_pool_are_noticed(encoder, shared):
    speech = shared / "data/speech/ravdess"

    def of(actor, emotion, level):
        return [speech / f"03-01-{emotion}-{level}-0{s}-0{r}-{actor}.flac" for s in (1, 2) for r in (1, 2)]

    def said(wanted, neutral):
        return " ".join(make_vector.emotion_vector(wanted, neutral, "x", encoder).meta["messages"])

    man, woman = (of(actor, "04", "02") for actor in (19, 20))
    calm_man, calm_woman = (of(actor, "01", "01") for actor in (19, 20))
    assert "of several people" in said(man + woman, calm_man)
    assert "of several people" in said(man + woman, None)
    assert "people" not in said(man + woman, calm_man + calm_woman), "who speaks is then on both sides, and cancels"
    assert "people" not in said(man, calm_man) and "people" not in said(woman, calm_woman)


def test_exchanged_pools_are_noticed(encoder, shared):
    speech = shared / "data/speech/ravdess"  # actors held out
    warned = []
    for actor in (17, 18, 19, 20):
        calm = [speech / f"03-01-01-01-0{s}-0{r}-{actor}.flac" for s in (1, 2) for r in (1, 2)]
        angry = [speech / f"03-01-05-02-0{s}-0{r}-{actor}.flac" for s in (1, 2) for r in (1, 2)]
        for pools in ((angry, calm), (calm, angry)):
            messages = " ".join(make_vector.emotion_vector(*pools, "x", encoder).meta["messages"])
            warned.append("were the two pools exchanged" in messages)
    assert not any(warned[::2]), "pools in order raise no warning"
    assert sum(warned[1::2]) >= 2, "exchanged ones are noticed"


def test_mixed_up_labels_are_noticed(encoder, shared):
    speech = shared / "data/speech/emodb"  # speaker 08, held out; W is anger, T sadness, N neutral
    angry, sad, calm = (sorted(speech.glob(f"08???{letter}?.flac"))[:4] for letter in "WTN")

    def messages(pool):
        return " ".join(make_vector.emotion_vector(pool, calm, "x", encoder).meta["messages"])

    assert "may hold several emotions" in messages(angry + sad) or "labels mixed up" in messages(angry + sad)
    assert "several emotions" not in messages(angry) and "several emotions" not in messages(sad)


def test_a_stray_recording_is_named(encoder, shared):
    speech = shared / "data/speech/emodb"
    angry, sad, calm = (sorted(speech.glob(f"08???{letter}?.flac"))[:7] for letter in "WTN")
    messages = " ".join(make_vector.emotion_vector(angry + sad[:1], calm, "x", encoder).meta["messages"])
    assert f"{sad[0].name} sounds unlike the others" in messages


def test_two_groups_are_noticed_and_one_raises_no_warning():
    rng = np.random.default_rng(0)
    one, other = rng.normal(size=(2, 13))

    def said(*centres):
        each = np.stack([centre + 0.3 * rng.normal(size=13) for centre in centres])
        pool = [Recording(Path(f"{n}.wav"), row, 0.0, None) for n, row in enumerate(each)]
        return " ".join(pool_checks.consistency_messages(pool, each, pool_checks.pairwise_cosine(each)))

    assert said(*[one] * 8) == ""
    assert "two groups" in said(*[one] * 5, *[one * 0.35 + other] * 3) and "5.wav, 6.wav, 7.wav" in said(
        *[one] * 5, *[one * 0.35 + other] * 3
    )
    assert "7.wav sounds unlike" in said(*[one] * 7, other)
    assert "hardly agree" in said(one, -one, other, -other)


def test_silence_around_speech_changes_nothing(encoder, tmp_path, shared):
    sound = audio.load(shared / "data/speech/emodb/08a01Wa.flac", RATE)
    plain = write_wav(tmp_path / "plain.wav", sound)
    forgotten = write_wav(tmp_path / "forgotten.wav", np.concatenate([sound, np.zeros(20 * RATE)]))
    one, other = (make_vector.emotion_vector([path], None, "x", encoder).vector for path in (plain, forgotten))
    assert one @ other / np.linalg.norm(one) / np.linalg.norm(other) > 0.97


@pytest.mark.parametrize("kind", ["rumble", "wind", "chords", "held", "melody"])
def test_sound_without_speech_is_refused(encoder, kind, tmp_path):
    rng, time = np.random.default_rng(0), np.arange(4 * RATE) / RATE
    walk = np.cumsum(rng.normal(size=len(time)))
    rumble = walk - np.convolve(walk, np.ones(800) / 800, "same")
    sound = {
        "rumble": rumble,
        "wind": rumble * (1 + 0.8 * np.sin(2 * np.pi * 0.7 * time)),
        "chords": sum(np.sin(2 * np.pi * f * 2 ** (np.floor(2 * time) % 3 / 6) * time) for f in (220, 277, 330)),
        "melody": sum(
            np.sin(2 * np.pi * h * np.cumsum(220 * 2 ** (rng.integers(0, 12, 16) / 12).repeat(RATE // 4)) / RATE) / h
            for h in (1, 2, 3)
        ),
        "held": sum(np.sin(2 * np.pi * h * 300 * time + 0.5 * np.sin(35 * time)) / h for h in range(1, 12)),
    }[kind]
    path = write_wav(tmp_path / "no_speech.wav", 0.3 * sound / np.abs(sound).max())
    with pytest.raises(CmetError, match=r"no_speech\.wav.*in which somebody speaks"):
        make_vector.emotion_vector([path], None, "x", encoder)


def test_noisy_speech_is_not_refused(shared):
    clips = sorted((shared / "data/clean/speech/crema").glob("10[0-9]0_IEO_*.ogg"))[:40]
    refused = []
    for path in clips:
        try:
            check_voice(acoustics(audio.load(path, RATE)), path.name)
        except CmetError as error:
            refused.append(str(error))
    assert len(clips) == 40 and not refused


def test_a_name_is_refused_before_anything_is_encoded(pools, home, capsys, monkeypatch):
    monkeypatch.setattr(make_vector, "emotion_vector", lambda *a, **k: pytest.fail("was encoded"))
    user_library.save_user_vector(EmotionVector("mine", np.ones(13, np.float32)))
    for name, words in (("happy", "embedded library"), ("mine", "--force"), ("Mine", "'mine' already")):
        assert main(["vector", str(pools / "lively"), "--name", name]) == 1
        assert words in capsys.readouterr().err


def test_the_command_takes_many_files_and_gives_numbers(pools, home, capsys):
    calm = sorted(map(str, (pools / "flat").iterdir()))
    assert main(["vector", str(pools / "lively"), "--neutral", *calm, "--name", "many", "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["neutral_files"] == ["0.wav", "1.wav", "2.wav", "3.wav"] and said["length"] > 0
    assert said["consistency"] == pytest.approx(said["reliability"], abs=1e-3) and set(said["near"]) >= {"happy", "sad"}


def test_the_list_says_in_words_how_far_to_trust_each(home, capsys):
    user_library.save_user_vector(EmotionVector("a_rather_long_name", np.ones(13, np.float32)))
    assert main(["emotions"]) == 0
    lines = capsys.readouterr().out.splitlines()
    (own,) = (line for line in lines if line.startswith("a_rather_long_name"))
    assert own.split(None, 1)[1].startswith("not measured")
    assert any(line.startswith("happy") and "high" in line for line in lines)
    assert any(line.startswith("seen:") for line in lines) and any(line.startswith("voice:") for line in lines)


def test_a_recording_of_what_are_not_numbers_is_named(encoder, tmp_path):
    sound = speak()
    sound[1000:1100] = np.nan
    wavfile.write(tmp_path / "holes.wav", RATE, sound.astype(np.float32))
    with pytest.raises(CmetError, match=r"holes\.wav"):
        make_vector.emotion_vector([tmp_path / "holes.wav"], None, "x", encoder)
