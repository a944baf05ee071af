import dataclasses
import itertools
import json
import shutil

import numpy as np
import pytest
import torch
from voices import RATE, speak, write_wav

from cmet_engine.emotion.acoustics import acoustics
from cmet_engine.emotion.backbone import STATISTICS
from cmet_engine.emotion.speech import Encoder, load_encoder, load_student
from cmet_engine.emotion.student import StudentConfig
from cmet_engine.errors import CmetError
from cmet_engine.evaluation import speech as evaluation
from cmet_engine.evaluation.library import write_library
from cmet_engine.training import voice_augmentation
from cmet_engine.training.corpora.speech import TEACHER, read_corpus
from cmet_engine.training.speech import recipe
from cmet_engine.training.speech.batches import Batches, augment
from cmet_engine.training.speech.clips import prepare
from cmet_engine.training.speech.config import TrainingConfig
from cmet_engine.training.speech.kernels import fit_kernels, neutral_statistics
from cmet_engine.training.speech.recipe import train_encoder, train_folder
from cmet_engine.training.speech.targets import clip_weights, held_out, make_targets, new_student

VOICES = {"neutral": (110, 0.02), "happy": (210, 0.5), "sad": (95, 0.3)}
SMALL = StudentConfig(stem=(4, 8), channels=32, blocks=1, heads=2, embedding=16, basis=8, directions=16)
CONFIG = TrainingConfig(
    voices=4, varied=1, steps=6, batch=6, crop=(60, 80), warmup=2, checkpoint=2,
    held_out=("mead_3",), held_out_every=0, student=SMALL,
)  # fmt: skip


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    """Three speakers, three emotions, three clips of each, and a made-up teacher that places each emotion."""
    folder = tmp_path_factory.mktemp("corpus")
    lines, features = ["path,dataset,speaker,emotion,level"], {}
    places = np.random.default_rng(0).standard_normal((len(VOICES), 1024))
    for speaker in (1, 2, 3):
        for number, (emotion, (pitch, lively)) in enumerate(VOICES.items()):
            for take in range(3):
                name = f"{speaker}_{emotion}_{take}.wav"
                sound = speak(0.9, pitch=pitch * (1 + 0.1 * speaker), lively=lively, seed=take + 10 * speaker)
                write_wav(folder / name, sound)
                lines.append(f"{name},mead,mead_{speaker},{emotion},3")
                features[name] = places[number] + 0.1 * np.random.default_rng(take).standard_normal(1024)
    (folder / "index.csv").write_text("\n".join(lines) + "\n")
    np.savez(folder / TEACHER, paths=np.array(list(features)), features=np.stack(list(features.values())))
    return folder


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    """Where the corpus is kept prepared for `CONFIG`, once `clips` was made."""
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module")
def clips(corpus, cache):
    return prepare(read_corpus(corpus), cache, CONFIG)


@pytest.fixture(scope="module")
def trained(clips, tmp_path_factory):
    """A run with `CONFIG`: the student network, the folder, and the progress that was reported."""
    folder, seen = tmp_path_factory.mktemp("run"), []
    return train_encoder(clips, CONFIG, folder, progress=lambda *a: seen.append(a)), folder, seen


def test_a_corpus_is_read_with_its_teacher(corpus):
    read = read_corpus(corpus)
    assert len(read.recordings) == 27 and len(read.teacher) == 27
    assert read.recordings[0].speaker == "mead_1" and read.recordings[0].emotion == "neutral"


def test_prepared_clips_come_back_from_the_cache(corpus, clips, cache, tmp_path):
    first, second = clips, prepare(read_corpus(corpus), cache, CONFIG)
    assert first.statistics.shape == (1 + CONFIG.voices + CONFIG.varied, 27, STATISTICS)
    fewer = prepare(read_corpus(corpus), tmp_path, dataclasses.replace(CONFIG, voices=0, varied=0))
    assert fewer.statistics.shape == (1, 27, STATISTICS)
    np.testing.assert_array_equal(first.statistics, second.statistics)
    np.testing.assert_array_equal(first.acoustics[2][5], second.acoustics[2][5])


def test_a_speaker_gets_deep_and_high_voices_that_keep_the_emotions_apart(clips):
    def height(copy, emotion):
        own = (clips.speaker == "mead_1") & (clips.emotion == emotion)
        heard = np.concatenate([clips.acoustics[copy][n] for n in np.flatnonzero(own)])
        return 150 * 2 ** np.median(heard[heard[:, 82] > 0.5, 80].astype(float))

    copies = range(1, len(clips.acoustics))
    neutral = np.array([height(copy, "neutral") for copy in copies])
    assert neutral.min() < 145 and neutral.max() > 155 and np.ptp(neutral) > 60
    assert all(height(copy, "happy") > 1.3 * height(copy, "neutral") for copy in copies)


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
        varied = voice_augmentation.simulate_channel(wave, np.random.default_rng(seed))
        assert varied.shape == wave.shape and np.isfinite(varied).all() and np.abs(varied - wave).max() > 0.01
        after = acoustics(varied)
        assert np.corrcoef(before[:, 83], after[:, 83])[0, 1] > 0.7, seed
    np.testing.assert_array_equal(varied, voice_augmentation.simulate_channel(wave, np.random.default_rng(seed)))


def test_training_writes_an_encoder_that_loads(clips, trained):
    _, folder, seen = trained
    encoder = load_encoder(str(folder / "encoder.safetensors"))
    assert encoder.utterance(speak(), RATE).shape == (1024,)
    assert ("train", 6, 6) in seen and ("kernel", 3, len(clips.statistics)) in seen
    assert TrainingConfig.from_json((folder / "config.json").read_text()) == CONFIG
    rows = (folder / "losses.csv").read_text().splitlines()
    assert rows[0].startswith("step,label") and len(rows) == 7
    assert "<polyline" in (folder / "losses.svg").read_text()


@pytest.mark.parametrize("stage", [("train", 5), ("kernel", 2)])
def test_the_same_seed_gives_the_same_encoder_also_after_a_kill(clips, trained, tmp_path, stage):
    whole = trained[0].state_dict()

    class KilledError(Exception):
        pass

    def kill(at, done, total):
        if (at, done) == stage:
            raise KilledError

    with pytest.raises(KilledError):
        train_encoder(clips, CONFIG, tmp_path / "resumed", progress=kill)
    assert not (tmp_path / "resumed" / "encoder.safetensors").exists()
    resumed = train_encoder(clips, CONFIG, tmp_path / "resumed").state_dict()
    for key, value in whole.items():
        torch.testing.assert_close(resumed[key], value, rtol=0, atol=0, msg=key)


def test_another_seed_gives_another_encoder(clips, trained, tmp_path):
    whole = trained[0].state_dict()
    other = train_encoder(clips, dataclasses.replace(CONFIG, seed=2), tmp_path).state_dict()
    assert any(not torch.equal(other[key], whole[key]) for key in whole)


@pytest.mark.gpu
def test_a_gpu_trains_in_half_precision_and_goes_on_after_a_kill(clips, tmp_path):
    config = dataclasses.replace(CONFIG, steps=60, warmup=5)

    class KilledError(Exception):
        pass

    def kill(at, done, total):
        if (at, done) == ("train", 21):
            raise KilledError

    with pytest.raises(KilledError):
        train_encoder(clips, config, tmp_path, device="cuda", workers=4, progress=kill)
    student = train_encoder(clips, config, tmp_path, device="cuda", workers=4)
    losses = np.loadtxt(tmp_path / "losses.csv", delimiter=",", skiprows=1)[:, 1]
    assert losses[-10:].mean() < 0.9 * losses[:10].mean()
    assert all(value.dtype != torch.bfloat16 and value.isfinite().all() for value in student.state_dict().values())
    assert evaluation.evaluate(Encoder(student, device="cuda"), clips, config)["mead"]["alone"]["right"] >= 0.55


def test_everybody_is_left_out_once(clips, corpus, cache, tmp_path, capsys):
    from cmet_engine.cli import main

    figures = evaluation.cross_validate(clips, CONFIG, 3)
    assert figures["mead"]["alone"]["clips"] == 27 and figures["mead"]["beside_neutral"]["right"] > 0.8
    assert set(figures["vectors"]) == {"mead_1", "mead_2", "mead_3"}
    assert all(cosines["mean"] > 0.6 for cosines in figures["vectors"].values())
    assert figures["mead"]["pools"] == {"right": pytest.approx(0.9, abs=0.101), "pools": 18}, (
        "two emotions of three voices, thrice"
    )
    with pytest.raises(CmetError, match="4 folds cannot be made of at most 3 speakers"):
        evaluation.cross_validate(clips, CONFIG, 4)
    (tmp_path / "config.json").write_text(CONFIG.to_json())
    command = ["eval", "speech", "--data", str(corpus), "--cache", str(cache), "--folds", "3"]
    command += ["--config", str(tmp_path / "config.json")]
    assert main(command) == 0 and "everybody once, in 3 folds" in capsys.readouterr().out
    assert (
        main([*command, "--speakers", "all"]) == 1 and "leave --weights and --speakers out" in capsys.readouterr().err
    )


def test_a_checkpoint_of_another_run_is_refused(clips, tmp_path):
    train_encoder(clips, CONFIG, tmp_path, until=2)
    with pytest.raises(CmetError, match="another configuration"):
        train_encoder(clips, dataclasses.replace(CONFIG, batch=5), tmp_path)


def test_a_corpus_without_neutral_speech_is_refused_before_training(clips, tmp_path):
    lively = dataclasses.replace(clips, emotion=np.where(clips.emotion == "neutral", "sad", clips.emotion))
    with pytest.raises(CmetError, match="two neutral clips"):
        train_encoder(lively, CONFIG, tmp_path)
    assert not list(tmp_path.glob("*.pt"))


def test_held_out_speakers_are_never_drawn(clips):
    chosen = np.flatnonzero(~held_out(clips, CONFIG))
    batches = Batches(clips, chosen, clip_weights(clips, chosen, CONFIG), CONFIG)
    drawn = {clips.speaker[n] for step in range(20) for n in batches(step)[2]}
    assert drawn == {"mead_1", "mead_2"}


def test_kernels_know_clips_that_are_alike(clips, tmp_path):
    alone = dataclasses.replace(SMALL, share=0.0, score_share=0.0)
    config = dataclasses.replace(CONFIG, steps=2, student=alone)
    student = train_encoder(clips, config, tmp_path)
    figures = evaluation.evaluate(Encoder(student), clips, config)
    assert figures["mead"]["alone"]["right"] >= 0.7, "three voices that a child tells apart"
    assert figures["mead"]["beside_neutral"]["right"] >= 0.8, "all the more when its calm speech is known"
    assert figures["vectors"]["mead_3"]["happy"] > 0.7
    assert len(student.kernel.known) == len(student.neutral_kernel.known) == 18


def test_a_student_from_its_file_answers_the_same(clips, trained):
    student, folder, _ = trained
    stored, _ = load_student(folder / "encoder.safetensors")
    for name in ("known", "directions"):  # what they know is stored exactly
        torch.testing.assert_close(getattr(stored.kernel, name), getattr(student.kernel, name), rtol=0, atol=0)
    rows = torch.from_numpy(clips.statistics[0])
    for one, other in (
        (student.predict(rows), stored.predict(rows)),
        (student.predict_beside_neutral(rows, rows[0]), stored.predict_beside_neutral(rows, rows[0])),
    ):
        torch.testing.assert_close(one[1], other[1], rtol=0.02, atol=0.02)


def test_kernels_know_no_more_clips_than_they_may(clips):
    config = dataclasses.replace(CONFIG, kernel_known=12)
    chosen = np.flatnonzero(clips.speaker != "mead_3")
    student = new_student(clips, chosen, config)
    fit_kernels(student, clips, chosen, make_targets(clips, chosen, config), config)
    assert student.kernel.known.shape == student.neutral_kernel.known.shape == (12, SMALL.directions)
    _, scores = student.predict(torch.from_numpy(clips.statistics[0, chosen]))
    labels = clips.labels(config.student.emotions)[chosen]
    assert (scores.argmax(1).numpy() == labels).mean() > 0.7


def test_neutral_speech_to_compare_with_is_the_same_voice_but_another_clip(clips):
    chosen = np.flatnonzero(clips.speaker != "mead_3")
    rest, known = neutral_statistics(clips, chosen, 1)
    assert known[chosen].all() and not known[clips.speaker == "mead_3"].any()
    for clip in chosen:
        own = np.flatnonzero((clips.speaker == clips.speaker[clip]) & (clips.emotion == "neutral"))
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
        assert set(about) == {"happy", "sad", "neutral"}
        assert file.get_tensor("happy").shape == file.get_tensor("neutral_place").shape == (1024,)


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
    command = [
        "train",
        "encoder",
        "--data",
        str(corpus),
        "-o",
        str(tmp_path / "run"),
        "--cache",
        str(cache),
        "--embed",
        "--json",
    ]
    assert main([*command, "--config", str(tmp_path / "config.json")]) == 0
    figures = json.loads(capsys.readouterr().out)
    text = evaluation.figures_text(figures)
    assert "mead_3" in text and "right from the clip alone" in text
    assert set(json.loads((tmp_path / "assets" / "checksums.json").read_text())) == {
        "speech_encoder.safetensors", "emotion_library.safetensors", *(path.name for path in needed),
    }  # fmt: skip
    embedded = load_encoder(str(tmp_path / "assets" / "speech_encoder.safetensors"))
    measured = evaluation.evaluate_folder(corpus, embedded, CONFIG, cache=cache)
    assert measured["mead"] == figures["mead"] and measured["speed"] > 0


def test_what_would_stop_a_run_is_said_before_listening(corpus, clips, cache, tmp_path, monkeypatch):
    begun = tmp_path / "run"
    train_folder(corpus, begun, config=CONFIG, cache=cache)
    monkeypatch.setattr(recipe, "prepare", lambda *a, **k: pytest.fail("prepared first"))
    other = dataclasses.replace(CONFIG, steps=7)
    with pytest.raises(CmetError, match="another configuration"):
        train_folder(corpus, begun, config=other)
    (begun / "checkpoint.pt").rename(begun / "kept")
    (begun / "checkpoint.pt").write_bytes(b"cut")
    with pytest.raises(CmetError, match=r"checkpoint\.pt is damaged"):
        train_folder(corpus, begun, config=CONFIG)
    (begun / "kept").rename(begun / "checkpoint.pt")
    without = tmp_path / "without"
    write_wav(without / "AudioWAV" / "1001_DFA_ANG_XX.wav", speak(0.6))
    with pytest.raises(CmetError, match="cmet train teacher"):
        train_folder(without, tmp_path / "new", config=CONFIG)
    with pytest.raises(CmetError, match="other recordings"):
        np.savez(without / TEACHER, paths=np.array(["AudioWAV/1001_DFA_ANG_XX.wav"]), features=np.ones((1, 1024)))
        train_folder(without, begun, config=CONFIG)
    (tmp_path / "file").touch()
    with pytest.raises(CmetError, match="Cannot make the folder"):
        train_folder(corpus, tmp_path / "file", config=CONFIG)


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
    assert main(command) == 1 and "--speakers" in capsys.readouterr().err
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
    np.savez(tmp_path / TEACHER, paths=np.array(["a.wav"]), features=np.full((1, 1024), np.nan))
    with pytest.raises(CmetError, match=r"a\.wav holds values that are not numbers"):
        read_corpus(tmp_path)
    np.savez(tmp_path / TEACHER, paths=np.array(["a.wav"]), features=np.zeros((1, 10)))
    with pytest.raises(CmetError, match="shape"):
        read_corpus(tmp_path)


def test_a_recording_that_cannot_be_used_costs_only_itself(tmp_path, caplog):
    write_wav(tmp_path / "AudioWAV" / "1001_DFA_ANG_XX.wav", speak(0.6))
    write_wav(tmp_path / "AudioWAV" / "1001_DFA_NEU_XX.wav", np.zeros(RATE))
    clips = prepare(read_corpus(tmp_path))
    assert len(clips) == 1
    assert any("1001_DFA_NEU_XX.wav" in message for message in caplog.messages)


def test_a_configuration_names_its_wrong_field():
    assert TrainingConfig.from_json('{"steps": 5, "student": {"stem": [2, 3]}}').student.stem == (2, 3)
    for text, words in (
        ("[", "not valid JSON"),
        ('{"stepz": 1}', "stepz"),
        ('{"steps": "many"}', "steps"),
        ('{"student": {"x": 1}}', "'x'"),
    ):
        with pytest.raises(CmetError, match=words):
            TrainingConfig.from_json(text)


def test_augmentation_keeps_range_and_shape():
    heard = torch.from_numpy(np.stack([acoustics(speak(1.0, seed=k))[:90] for k in range(8)]))
    varied = augment(heard, torch.full((8,), 90), torch.Generator().manual_seed(0))
    assert varied.shape == heard.shape and torch.isfinite(varied).all()
    assert varied[:, :, :80].min() >= -9.01
    assert (varied[:, :, :80] - heard[:, :, :80]).abs().mean() > 0.1
