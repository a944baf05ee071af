import dataclasses
import itertools
import json
import shutil

import numpy as np
import pytest
from voices import RATE, speak, write_wav

from cmet_engine.emotion.acoustics import acoustics
from cmet_engine.emotion.backbone import STATISTICS
from cmet_engine.emotion.heads import HeadsConfig
from cmet_engine.emotion.heads_weights import arrays, load_heads
from cmet_engine.emotion.speech import Encoder, load_encoder
from cmet_engine.errors import CmetError
from cmet_engine.evaluation import speech as evaluation
from cmet_engine.evaluation.library import write_library
from cmet_engine.training import voice_augmentation
from cmet_engine.training.corpora.speech import TEACHER, read_corpora, read_corpus
from cmet_engine.training.speech import clips as preparing
from cmet_engine.training.speech import recipe
from cmet_engine.training.speech.clips import prepare
from cmet_engine.training.speech.config import TrainingConfig
from cmet_engine.training.speech.kernels import fit_heads, neutral_statistics
from cmet_engine.training.speech.recipe import train_encoder, train_folders
from cmet_engine.training.speech.targets import held_out, to_train_on

VOICES = {"neutral": (110, 0.02), "happy": (210, 0.5), "sad": (95, 0.3)}
CONFIG = TrainingConfig(
    varied=1, datasets={"emodb": 1.0, "gemini": 0.1}, held_out=("emodb_3",), held_out_every=0,
    heads=HeadsConfig(directions=16),
)  # fmt: skip


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    """Three speakers, three emotions, three clips of each; and two clips of a synthetic voice."""
    folder = tmp_path_factory.mktemp("corpus")
    lines = ["path,dataset,speaker,emotion,heard,agreement"]
    for speaker in (1, 2, 3):
        for emotion, (pitch, lively) in VOICES.items():
            for take in range(3):
                name = f"{speaker}_{emotion}_{take}.wav"
                sound = speak(0.9, pitch=pitch * (1 + 0.1 * speaker), lively=lively, seed=take + 10 * speaker)
                write_wav(folder / name, sound)
                lines.append(
                    f"{name},emodb,emodb_{speaker},{emotion},{'sad' if name == '1_happy_0.wav' else emotion},0.5"
                )
    for take in range(2):
        write_wav(folder / f"romantic_{take}.wav", speak(0.9, pitch=170, lively=0.1, seed=take))
        lines.append(f"romantic_{take}.wav,gemini,gemini,romantic,,")
    (folder / "index.csv").write_text("\n".join(lines) + "\n")
    return folder


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    """Where the corpus is kept prepared for `CONFIG`, once `clips` was made."""
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module")
def clips(corpus, cache):
    return prepare(read_corpora([corpus]), cache, CONFIG)


@pytest.fixture(scope="module")
def trained(clips, tmp_path_factory):
    """A run with `CONFIG`: the heads, the folder, and the progress that was reported."""
    folder, seen = tmp_path_factory.mktemp("run"), []
    return train_encoder(clips, CONFIG, folder, progress=lambda *a: seen.append(a)), folder, seen


def test_an_interrupted_preparation_goes_on_with_the_copy_it_was_at(corpus, clips, cache, tmp_path, monkeypatch):
    recordings = read_corpora([corpus])
    assert clips.statistics.shape == (1 + CONFIG.varied, 29, STATISTICS)
    name = preparing.cache_name(recordings, 0)
    shutil.copy(cache / name, tmp_path / name)
    monkeypatch.setattr(preparing, "check_voice", lambda *a: pytest.fail("looked at the clips as they are again"))
    again = prepare(recordings, tmp_path, CONFIG)
    np.testing.assert_array_equal(again.statistics, clips.statistics)


def test_raters_share_in_the_label(clips):
    shares = clips.shares(0.3)
    row = shares[clips.names.index("1_happy_0.wav")]
    place = {name: CONFIG.heads.emotions.index(name) for name in ("happy", "sad")}
    assert row[place["happy"]] == pytest.approx(0.85) and row[place["sad"]] == pytest.approx(0.15)
    assert shares[clips.names.index("romantic_0.wav")].max() == 1.0


def test_a_lone_voice_becomes_others(corpus):
    recordings = read_corpora([corpus])
    one, other = (preparing._lone_voices(recordings, copy) for copy in (1, 2))
    assert set(one) == {"gemini"} and one["gemini"].pitch != other["gemini"].pitch


@pytest.mark.parametrize(("factor", "tempo"), [(1.5, 1.0), (0.7, 1.0), (1.0, 1.2)])
def test_pitch_moves_and_formants_stay(factor, tempo):
    wave = speak(3.0, pitch=140, lively=0.02)
    changed = voice_augmentation.shift_pitch(wave, factor, tempo)
    assert len(changed) == pytest.approx(len(wave) / tempo, abs=2)
    before, after = acoustics(wave), acoustics(changed)

    def middle(heard):
        return np.median(heard[heard[:, 82] > 0.5, 80])

    assert middle(after) - middle(before) == pytest.approx(np.log2(factor), abs=0.05)
    smooth = [h[h[:, 83] > -5, :80].mean(0).reshape(10, 8).mean(1) for h in (before, after)]
    assert np.corrcoef(*smooth)[0, 1] > 0.95


def test_resampling_before_it_moves_formants_alone():
    wave = speak(3.0, pitch=140, lively=0.02)
    plain, changed = (
        acoustics(wave),
        acoustics(voice_augmentation.convert_voice(wave, voice_augmentation.Voice(1.2, 1.0))),
    )
    assert len(changed) == pytest.approx(len(plain), abs=2)
    high = [(h[h[:, 83] > -5][:, 35:60]).mean() for h in (plain, changed)]
    assert high[1] > high[0] + 0.2
    assert abs(np.median(changed[changed[:, 82] > 0.5, 80]) - np.median(plain[plain[:, 82] > 0.5, 80])) < 0.05


def test_another_room_and_line_leave_the_words():
    wave = speak(2.0)
    before = acoustics(wave)
    for seed in range(8):
        varied = voice_augmentation.simulate_channel(wave, np.random.default_rng(seed), [speak(1.0, seed=5)])
        assert varied.shape == wave.shape and np.isfinite(varied).all() and np.abs(varied - wave).max() > 0.01
        after = acoustics(varied)
        assert np.corrcoef(before[:, 83], after[:, 83])[0, 1] > 0.6, seed
    np.testing.assert_array_equal(
        varied, voice_augmentation.simulate_channel(wave, np.random.default_rng(seed), [speak(1.0, seed=5)])
    )


def test_training_writes_an_encoder_that_loads(clips, trained):
    heads, folder, seen = trained
    encoder = load_encoder(str(folder / "encoder.safetensors"))
    assert encoder.utterance(speak(), RATE).shape == (13,)
    assert ("kernel", 1, len(clips.statistics)) in seen
    assert TrainingConfig.from_json((folder / "config.json").read_text()) == CONFIG
    again = arrays(fit_heads(clips, to_train_on(clips, CONFIG), CONFIG))
    for key, value in arrays(heads).items():
        np.testing.assert_array_equal(again[key], value, err_msg=key)


def test_everybody_is_left_out_once(clips, corpus, cache, tmp_path, capsys):
    from cmet_engine.cli import main

    config = dataclasses.replace(CONFIG, held_out=())
    figures = evaluation.cross_validate(clips, config, 3)
    assert figures["emodb"]["alone"]["clips"] == 27 and figures["emodb"]["beside_neutral"]["right"] > 0.8
    assert figures["emodb"]["pools"]["pools"] == 18, "two emotions of three voices, thrice"
    assert figures["emodb"]["pools"]["right"] >= 0.8 and set(figures["emodb"]["pools"]["emotions"]) == {"happy", "sad"}
    assert figures["emodb"]["alone"]["heard"] <= figures["emodb"]["alone"]["right"] + 0.05
    with pytest.raises(CmetError, match="4 folds cannot be made of at most 3 speakers"):
        evaluation.cross_validate(clips, config, 4)
    (tmp_path / "config.json").write_text(config.to_json())
    command = ["eval", "speech", "--data", str(corpus), "--cache", str(cache), "--folds", "3"]
    command += ["--config", str(tmp_path / "config.json")]
    assert main(command) == 0 and "every training speaker once, in 3 folds" in capsys.readouterr().out
    assert (
        main([*command, "--speakers", "all"]) == 1 and "leave --weights and --speakers out" in capsys.readouterr().err
    )


def test_a_corpus_without_neutral_speech_is_refused(clips, tmp_path):
    lively = dataclasses.replace(clips, emotion=np.where(clips.emotion == "neutral", "sad", clips.emotion))
    with pytest.raises(CmetError, match="two neutral clips"):
        train_encoder(lively, CONFIG, tmp_path)
    with pytest.raises(CmetError, match="No clip is left to train on"):
        train_encoder(clips, dataclasses.replace(CONFIG, datasets={"mine": 1.0}), tmp_path)


def test_who_is_held_out(clips):
    assert {str(s) for s in clips.speaker[to_train_on(clips, CONFIG)]} == {"emodb_1", "emodb_2", "gemini"}
    assert set(clips.dataset[held_out(clips, dataclasses.replace(CONFIG, datasets={"emodb": 1.0}))]) == {
        "emodb",
        "gemini",
    }
    crema = dataclasses.replace(
        clips, dataset=np.full(len(clips), "crema"), speaker=np.array([f"crema_{n:02d}" for n in range(len(clips))])
    )
    apart = held_out(crema, TrainingConfig(datasets={"crema": 1.0}))
    assert list(crema.speaker[apart]) == ["crema_06", "crema_13", "crema_20", "crema_27"]
    every = held_out(clips, dataclasses.replace(CONFIG, held_out=(), held_out_every=2))
    assert [clips.names[n] for n in np.flatnonzero(every)] == ["romantic_0.wav"]


def test_kernels_know_clips_that_are_alike(clips, trained):
    figures = evaluation.evaluate(Encoder(trained[0]), clips, CONFIG)
    assert figures["emodb"]["alone"]["right"] >= 0.7, "three voices that a child tells apart"
    assert figures["emodb"]["beside_neutral"]["right"] >= 0.8, "all the more when its calm speech is known"
    assert len(trained[0].kernel.known) == len(trained[0].neutral_kernel.known) == 20
    few = fit_heads(clips, to_train_on(clips, CONFIG), dataclasses.replace(CONFIG, known=12))
    assert few.kernel.known.shape == few.neutral_kernel.known.shape == (12, 16)


def test_heads_from_their_file_answer_the_same(clips, trained):
    heads, folder, _ = trained
    stored, _ = load_heads(folder / "encoder.safetensors")
    rows = clips.statistics[0]
    for rest in (None, rows[0]):
        np.testing.assert_allclose(stored(rows, rest), heads(rows, rest), rtol=1e-3, atol=1e-3)


def test_neutral_speech_to_compare_with_is_the_same_voice_but_another_clip(clips):
    chosen = np.flatnonzero(clips.speaker != "emodb_3")
    rest, known = neutral_statistics(clips, chosen, 1)
    assert known[chosen].all() and not known[clips.speaker == "emodb_3"].any()
    for clip in chosen:
        calm = (clips.emotion == "neutral") | (clips.speaker == "gemini")  # which has no neutral clips
        own = np.flatnonzero((clips.speaker == clips.speaker[clip]) & calm)
        pools = [clips.statistics[0, n] for n in own if n != clip]
        pools += [np.mean(pair, 0) for pair in itertools.combinations(pools, 2)] + [np.mean(pools, 0)]
        assert min(np.abs(rest[0, clip] - pool).max() for pool in pools) < 1e-4


def test_evaluation_makes_a_library(clips, trained, tmp_path):
    encoder = Encoder(trained[0])
    figures = evaluation.evaluate(encoder, clips, CONFIG)
    write_library(encoder, clips, CONFIG, figures, tmp_path / "library.safetensors")
    from safetensors import safe_open

    with safe_open(tmp_path / "library.safetensors", "np") as file:
        about = json.loads(file.metadata()["emotions"])
        assert about["happy"]["reliability"] is not None and about["contempt"]["reliability"] is None
        assert file.get_tensor("neutral_place").shape == (13,)


def test_one_command_trains_and_embeds(corpus, clips, cache, tmp_path, monkeypatch, capsys):
    from cmet_engine.cli import main
    from cmet_engine.models import assets

    needed = [assets.asset(name) for name in ("speech_backbone.safetensors", "mel_filters.safetensors")]
    monkeypatch.setattr(assets, "ASSETS", tmp_path / "assets")
    monkeypatch.setattr(assets, "CHECKSUMS", tmp_path / "assets" / "checksums.json")
    (tmp_path / "assets").mkdir()
    for path in needed:
        shutil.copy(path, tmp_path / "assets")
        assets.record(path.name)
    (tmp_path / "config.json").write_text(CONFIG.to_json())
    command = ["train", "encoder", "--data", str(corpus), "-o", str(tmp_path / "run"), "--cache", str(cache)]
    command += ["--embed", "--json"]
    assert main([*command, "--config", str(tmp_path / "config.json")]) == 0
    figures = json.loads(capsys.readouterr().out)
    text = evaluation.figures_text(figures)
    assert "emodb_3" in text and "clips from the clip alone" in text and "pools of up to 10 clips" in text
    assert set(json.loads((tmp_path / "assets" / "checksums.json").read_text())) == {
        "speech_encoder.safetensors", "emotion_library.safetensors", *(path.name for path in needed),
    }  # fmt: skip
    embedded = load_encoder(str(tmp_path / "assets" / "speech_encoder.safetensors"))
    measured = evaluation.evaluate_folders([corpus], embedded, CONFIG, cache=cache)
    assert measured["emodb"] == figures["emodb"] and measured["speed"] > 0


def test_the_research_variant_is_trained_by_one_command_and_used(corpus, cache, clips, tmp_path, monkeypatch, capsys):
    from cmet_engine.cli import main
    from cmet_engine.models import assets

    command = ["models", "train", "research", "--data", str(corpus), "--cache", str(cache), "-o", str(tmp_path)]
    assert main([*command, "--json"]) == 0
    made = tmp_path / "speech_encoder.safetensors"
    assert json.loads(capsys.readouterr().out)["encoder"] == str(made)
    assert {"ravdess", "mead", "crema"} <= set(json.loads((tmp_path / "config.json").read_text())["datasets"])
    embedded = assets.asset("speech_encoder.safetensors")
    monkeypatch.setenv(assets.OWN, str(tmp_path))
    assert assets.asset("speech_encoder.safetensors") == made != embedded


def test_the_research_variant_of_the_connector_hears_with_that_of_the_encoder(
    corpus, cache, clips, tmp_path, monkeypatch, capsys
):
    from cmet_engine.cli import main
    from cmet_engine.training.connector import folders

    given = {}
    monkeypatch.setattr(folders, "train_from_folders", lambda output, **what: given.update(what, output=output))
    command = ["models", "train", "research", "--data", str(corpus), "--cache", str(cache), "-o", str(tmp_path)]
    assert main([*command, "--pictures", str(tmp_path)]) == 1
    assert "give both or neither" in capsys.readouterr().err
    assert main([*command, "--pictures", str(tmp_path), "--faces", str(tmp_path), "--json"]) == 0
    assert (
        json.loads(capsys.readouterr().out)["connector"]
        == str(given["output"])
        == str(tmp_path / "connector_arkit.safetensors")
    )
    assert given["encoder"].identity == load_encoder(str(tmp_path / "speech_encoder.safetensors")).identity
    assert given["tracks"] == [tmp_path] and given["speech"] == [corpus]


def test_what_would_stop_a_run_is_said_before_listening(corpus, tmp_path, monkeypatch):
    monkeypatch.setattr(recipe, "prepare", lambda *a, **k: pytest.fail("prepared first"))
    (tmp_path / "file").touch()
    with pytest.raises(CmetError, match="Cannot make the folder"):
        train_folders([corpus], tmp_path / "file", config=CONFIG)
    with pytest.raises(CmetError, match="None of the recordings is of a dataset to train on"):
        train_folders([corpus], tmp_path / "run", config=TrainingConfig(datasets={"mine": 1.0}))


def test_the_teacher_encodes_a_recording_once(tmp_path, caplog):
    from cmet_engine.training.teacher_features import extract_teacher

    class Teacher:
        encoded = 0

        def utterance(self, wave, rate):
            self.encoded += 1
            return np.full(1024, self.encoded, np.float32)

    teacher = Teacher()
    place = tmp_path / "M003" / "audio"
    for emotion in ("angry", "neutral"):
        write_wav(place / emotion / "level_1" / "001.wav", speak(0.6))
    (place / "neutral" / "level_1" / "002.m4a").touch()
    extract_teacher(tmp_path, teacher)
    assert any("002.m4a is empty" in message for message in caplog.messages)
    known = read_corpus(tmp_path).teacher
    assert set(known) == {"M003/audio/angry/level_1/001.wav", "M003/audio/neutral/level_1/001.wav"}
    write_wav(place / "happy" / "level_1" / "001.wav", speak(0.6))
    extract_teacher(tmp_path, teacher)
    assert teacher.encoded == 3 and len(read_corpus(tmp_path).teacher) == 3


def test_an_encoder_is_measured_on_a_corpus_that_no_training_knows(tmp_path, capsys):
    from cmet_engine.cli import main

    for code, (pitch, lively) in (("NEU", (110, 0.02)), ("HAP", (210, 0.5))):
        for take in ("DFA", "IEO"):
            sound = speak(0.8, pitch=pitch, lively=lively, seed=len(take))
            write_wav(tmp_path / "AudioWAV" / f"1001_{take}_{code}_XX.wav", sound)
    command = ["eval", "speech", "--data", str(tmp_path), "--json"]
    assert main(command) == 1 and "holds no speaker out" in capsys.readouterr().err
    assert main([*command, "--speakers", "all"]) == 0
    figures = json.loads(capsys.readouterr().out)
    assert figures["held_out"] == ["crema_1001"] and figures["crema"]["alone"]["clips"] == 4
    assert main([*command, "--speakers", "crema_9"]) == 1 and "crema_1001" in capsys.readouterr().err


def test_mead_and_crema_are_read_as_distributed(tmp_path):
    for emotion in ("angry", "neutral"):
        write_wav(tmp_path / "mead" / "M003" / "audio" / emotion / "level_1" / "001.wav", speak(0.6))
    for code in ("ANG", "NEU", "SAD"):
        write_wav(tmp_path / "crema" / "AudioWAV" / f"1001_DFA_{code}_XX.wav", speak(0.6))
    mead = read_corpus(tmp_path / "mead").recordings
    assert [(r.speaker, r.emotion) for r in mead] == [("mead_M003", "angry"), ("mead_M003", "neutral")]
    crema = read_corpus(tmp_path / "crema").recordings
    assert [(r.speaker, r.emotion) for r in crema] == [
        ("crema_1001", "angry"), ("crema_1001", "neutral"), ("crema_1001", "sad"),
    ]  # fmt: skip


def test_a_wrong_layout_or_label_is_named(corpus, tmp_path):
    with pytest.raises(CmetError, match="not a speech corpus"):
        read_corpus(tmp_path)
    with pytest.raises(CmetError, match="not a folder"):
        read_corpus(tmp_path / "absent")
    (tmp_path / "index.csv").write_text("path,dataset,emotion\n")
    with pytest.raises(CmetError, match="no column 'speaker'"):
        read_corpus(tmp_path)
    (tmp_path / "index.csv").write_text("path,dataset,speaker,emotion\na.wav,x,y,gloomy\n")
    with pytest.raises(CmetError, match="line 2: the emotion 'gloomy' is unknown"):
        read_corpus(tmp_path)
    (tmp_path / "index.csv").write_text("path,dataset,speaker,emotion\na.wav,x,y,sad\n")
    with pytest.raises(CmetError, match=r"a\.wav is missing"):
        read_corpus(tmp_path)
    write_wav(tmp_path / "a.wav", speak(0.6))
    (tmp_path / "index.csv").write_text("path,dataset,speaker,emotion,agreement\na.wav,x,y,sad,most\n")
    with pytest.raises(CmetError, match="line 2: the agreement 'most' is no share"):
        read_corpus(tmp_path)
    (tmp_path / "index.csv").write_text("path,dataset,speaker,emotion\na.wav,x,y,sad\n")
    np.savez(tmp_path / TEACHER, paths=np.array(["a.wav"]), features=np.full((1, 1024), np.nan))
    with pytest.raises(CmetError, match=r"a\.wav holds values that are not numbers"):
        read_corpus(tmp_path)
    np.savez(tmp_path / TEACHER, paths=np.array(["a.wav"]), features=np.zeros((1, 10)))
    with pytest.raises(CmetError, match="shape"):
        read_corpus(tmp_path)


def test_a_recording_that_cannot_be_used_costs_only_itself(tmp_path, caplog):
    write_wav(tmp_path / "AudioWAV" / "1001_DFA_ANG_XX.wav", speak(0.6))
    write_wav(tmp_path / "AudioWAV" / "1001_DFA_NEU_XX.wav", np.zeros(RATE))
    clips = prepare(read_corpora([tmp_path]), to_train=False)
    assert len(clips) == 1
    assert any("1001_DFA_NEU_XX.wav" in message for message in caplog.messages)


def test_a_configuration_names_its_wrong_field():
    assert TrainingConfig.from_json('{"varied": 5, "heads": {"directions": 3}}').heads.directions == 3
    for text, words in (
        ("[", "not valid JSON"),
        ('{"stepz": 1}', "stepz"),
        ('{"varied": "many"}', "varied"),
        ('{"heads": {"x": 1}}', "'x'"),
    ):
        with pytest.raises(CmetError, match=words):
            TrainingConfig.from_json(text)
