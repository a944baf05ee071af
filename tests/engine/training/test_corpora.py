"""MEAD and CREMA-D as they are distributed, in miniature: what trains on them and measures with them reads them whole."""

import json

import av
import numpy as np
import pytest
import torch
from short_clips import SAMPLE
from voices import RATE, speak, write_wav

from cmet_engine.cli import main
from cmet_engine.errors import CmetError
from cmet_engine.training.connector.batches import PairedBatches
from cmet_engine.training.connector.config import ConnectorConfig
from cmet_engine.training.connector.faces import track_videos
from cmet_engine.training.connector.folders import read_trained
from cmet_engine.training.connector.recipe import train_connector
from cmet_engine.training.connector.speech import Speech, read_speech
from cmet_engine.training.corpora.videos import find_videos

TINY = {
    "width": 64,
    "layers": 1,
    "feedforward": 64,
    "steps": 4,
    "batch": 4,
    "checkpoint_every": 2,
    "warmup": 1,
    "draws": 8,
}
EMOTIONS = {"neutral": ("NEU", 110, 0.02), "happy": ("HAP", 200, 0.5)}


def video(path, start, frames=14):
    """Pictures of the sample from `start` on, small; `.mp4` as MEAD has them, `.flv` as CREMA-D does."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(SAMPLE)) as source, av.open(str(path), "w") as target:
        out = target.add_stream("flv1" if path.suffix == ".flv" else "libx264", rate=25)
        out.width, out.height, out.pix_fmt, out.bit_rate = 256, 256, "yuv420p", 2_000_000
        for index, frame in enumerate(source.decode(video=0)):
            if index == start + frames:
                break
            if index >= start:
                side = min(frame.width, frame.height)
                left = (frame.width - side) // 2
                square = np.ascontiguousarray(frame.to_ndarray(format="rgb24")[:side, left : left + side])
                picture = av.VideoFrame.from_ndarray(square, format="rgb24").reformat(256, 256, "yuv420p")
                picture.pts = index - start
                target.mux(out.encode(picture))
        target.mux(out.encode(None))


@pytest.fixture(autouse=True)
def short_comparison(monkeypatch):
    """The small network that a connector is compared with is trained for a moment only."""
    monkeypatch.setattr("cmet_engine.evaluation.connector.MLP_STEPS", 20)


@pytest.fixture(scope="module")
def corpora(tmp_path_factory):
    """Two speakers, two emotions, voices and faces, in both layouts."""
    root = tmp_path_factory.mktemp("corpora")
    for number, speaker in enumerate(("M003", "W011")):
        for place, (emotion, (code, pitch, lively)) in enumerate(EMOTIONS.items()):
            level = 1 if emotion == "neutral" else 3
            for take in range(2):
                sound = speak(0.8, pitch=pitch * (1 + 0.5 * number), lively=lively, seed=take)
                write_wav(root / f"mead/{speaker}/audio/{emotion}/level_{level}/{take + 1:03}.wav", sound)
                sentence = ("DFA", "IEO")[take]
                write_wav(root / f"crema/AudioWAV/100{number + 1}_{sentence}_{code}_XX.wav", sound)
            video(root / f"mead/{speaker}/video/front/{emotion}/level_{level}/001.mp4", 20 * place + 5 * number)
            video(root / f"crema/VideoFlash/100{number + 1}_DFA_{code}_XX.flv", 20 * place + 5 * number)
    (root / "tiny.json").write_text(json.dumps(TINY))
    return root


@pytest.mark.slow
@pytest.mark.parametrize(
    ("corpus", "kept"), [pytest.param("mead", "mead_M003", marks=pytest.mark.soak), ("crema", "crema_1001")]
)
def test_a_connector_is_trained_and_measured_on_the_folder_as_it_is(corpora, corpus, kept, tmp_path, capsys):
    folder, output = str(corpora / corpus), tmp_path / "own.safetensors"
    data = ["--speech", folder, "--videos", folder]
    assert main(["train", "connector", *data, "--config", str(corpora / "tiny.json"), "-o", str(output), "--json"]) == 0
    figures = json.loads(capsys.readouterr().out)
    assert figures["pairs"] == 4 and figures["held_speakers"] == [kept]
    network, config, _ = read_trained(output)
    assert network.expression_dim == 52 and config.steps == TINY["steps"]
    measure = ["eval", "connector", *data, "--tracks", str(tmp_path / "own-tracks"), "--weights", str(output), "--json"]
    assert main(measure) == 0
    measured = json.loads(capsys.readouterr().out)
    assert measured["held_speakers"] == [kept] and set(measured["held_out"]) == {"connector", "ridge", "mlp"}


@pytest.mark.slow
@pytest.mark.parametrize("corpus", ["mead", pytest.param("crema", marks=pytest.mark.soak)])
def test_edits_and_classifier_are_measured_on_the_folder_as_it_is(corpora, corpus, tmp_path, capsys):
    figures = tmp_path / "figures.json"
    folder = corpora / corpus
    command = ["eval", "emotion", str(folder), "--no-render", "--most", "1", "--emotions", "happy", "-o", str(figures)]
    assert main(command) == 0
    assert "acted videos in" in capsys.readouterr().out
    measured = json.loads(figures.read_text())
    assert len(measured["clips"]) == 1 and measured["acted"][str(folder)]["videos"] == 2
    assert main(command) == 1 and "--force" in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.parametrize("corpus", [pytest.param("mead", marks=pytest.mark.soak), "crema"])
def test_pictures_are_taken_of_labelled_videos(corpora, corpus, tmp_path, capsys):
    from cmet_engine.training.labelled_pictures import load_pictures

    command = ["train", "pictures", str(corpora / corpus), "-o", str(tmp_path), "--frames", "2", "--json"]
    assert main(command) == 0
    assert json.loads(capsys.readouterr().out)["pictures"] == 8
    pictures = load_pictures(tmp_path)
    assert sorted(set(pictures.emotion)) == ["happy", "neutral"] and len(set(pictures.person)) == 2
    assert pictures.coefficients.max() > 0.1
    assert main(command) == 1 and "--force" in capsys.readouterr().err


def test_scores_beside_the_pictures_leave_their_index_alone(tmp_path, caplog):
    import cv2

    from cmet_engine.media.reader import VideoReader
    from cmet_engine.training.labelled_pictures import load_pictures, score_pictures

    face = next(iter(VideoReader(SAMPLE))).image
    cv2.imwrite(str(tmp_path / "face.png"), cv2.cvtColor(face, cv2.COLOR_RGB2BGR))
    cv2.imwrite(str(tmp_path / "wall.png"), np.full((200, 200, 3), 120, np.uint8))
    index = "path,person,emotion,note\nwall.png,a,sad,x\nface.png,b,happy,y\n"
    (tmp_path / "index.csv").write_text(index)
    assert score_pictures(tmp_path, tmp_path) == {"pictures": 1, "left_out": 1}
    assert (tmp_path / "index.csv").read_text() == index
    assert load_pictures(tmp_path).path.tolist() == ["face.png"]


def test_pictures_that_are_mislabelled_or_show_nobody_are_named(tmp_path, capsys, caplog):
    import cv2

    cv2.imwrite(str(tmp_path / "wall.png"), np.full((200, 200, 3), 120, np.uint8))
    (tmp_path / "index.csv").write_text("path,person,emotion\nwall.png,a,gloomy\n")
    command = ["train", "pictures", str(tmp_path), "-o", str(tmp_path / "out")]
    assert main(command) == 1 and "line 2: the emotion 'gloomy'" in capsys.readouterr().err
    (tmp_path / "index.csv").write_text("path,person,emotion\nwall.png,a,sad\nabsent.png,b,sad\n")
    assert main(command) == 1 and "No face was found in any of the 2" in capsys.readouterr().err
    assert all(any(name in message for message in caplog.messages) for name in ("wall.png", "absent.png"))
    (tmp_path / "index.csv").unlink()
    assert main(command) == 1 and "VideoFlash/1001_DFA_ANG_XX.flv" in capsys.readouterr().err


def test_a_folder_of_clips_loses_only_those_that_cannot_be_opened(tmp_path, caplog):
    from cmet_engine.evaluation.clips import clips_of

    for number in range(3):
        video(tmp_path / f"{number}.mp4", number, frames=2)
    (tmp_path / "3.mp4").touch()
    assert [path.name for path in clips_of([tmp_path], 10)] == ["0.mp4", "1.mp4", "2.mp4"]
    assert any("3.mp4" in message for message in caplog.messages)
    assert [path.name for path in clips_of([tmp_path, tmp_path / "0.mp4"], 2)] == ["0.mp4", "0.mp4"]


@pytest.mark.soak
def test_codes_and_voices_without_a_teacher_train_the_published_kind(corpora, tmp_path, capsys):
    rng = np.random.default_rng(0)
    for speaker in ("mead_M003", "mead_W011"):
        for emotion in EMOTIONS:
            (tmp_path / "codes" / speaker / emotion).mkdir(parents=True)
            np.save(tmp_path / "codes" / speaker / emotion / "1.npy", rng.normal(size=(20, 10)))
    output = tmp_path / "own.pth"
    data = ["--speech", str(corpora / "mead"), "--codes", str(tmp_path / "codes")]
    assert main(["train", "connector", *data, "--config", str(corpora / "tiny.json"), "-o", str(output), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["held_speakers"] == ["mead_M003"]
    content = torch.load(output, weights_only=True)
    settings = json.loads(content["config"])
    assert (
        settings["learning_rate"] == 1e-4 and settings["scaled_vectors"] is False
    )  # what the file left open is the paper's
    assert main(["eval", "connector", *data, "--weights", str(output), "--json"]) == 0
    assert "connector" in json.loads(capsys.readouterr().out)["held_out"]
    assert main(["eval", "connector", *data]) == 1
    assert "--weights" in capsys.readouterr().err


def test_a_wrong_folder_says_which_is_right(corpora, tmp_path):
    from cmet_engine.training.corpora.speech import read_corpus

    for read, place in (
        (read_corpus, corpora / "mead" / "M003"),
        (read_corpus, corpora / "crema" / "AudioWAV"),
        (find_videos, corpora / "mead" / "W011"),
        (find_videos, corpora / "crema" / "VideoFlash"),
    ):
        with pytest.raises(CmetError, match=f"give the folder above it, .*{place.parent.name}"):
            read(place)
    (tmp_path / "M003").mkdir()
    (tmp_path / "M003" / "audio.tar").touch()
    with pytest.raises(CmetError, match=r"unpack the \.tar files"):
        read_corpus(tmp_path)


def test_what_cannot_be_used_is_named_and_left_out(tmp_path, caplog):
    folder = tmp_path / "M003" / "audio"
    write_wav(folder / "neutral" / "level_1" / "001.wav", speak(0.8))
    write_wav(folder / "happy" / "level_3" / "001.wav", speak(0.8, pitch=220, lively=0.5))
    write_wav(folder / "hapy" / "level_3" / "001.wav", speak(0.8))
    write_wav(folder / "happy" / "level_3" / "002.wav", np.zeros(RATE))
    write_wav(folder / "happy" / "level_3" / "003.wav", np.random.default_rng(0).normal(0, 0.1, RATE))
    (folder / "happy" / "level_3" / "004.m4a").touch()
    (folder / "happy" / "level_3" / "notes.txt").write_text("not a sound")
    (folder / "happy" / "level_3" / "005.m4a").write_bytes(b"cut off")
    speech = read_speech([tmp_path], _Ear())
    assert speech.emotion.tolist() == ["happy", "neutral"]
    for words in ("labelled 'hapy'", "002.wav is silent", "003.wav", "004.m4a is empty", "005.m4a"):
        assert sum(words in message for message in caplog.messages) == 1, words
    assert not any("notes.txt" in message for message in caplog.messages)


class _Ear:
    def utterance(self, wave, rate):
        from cmet_engine.emotion.speech import load_encoder

        return load_encoder().utterance(wave, rate)


@pytest.mark.slow
def test_videos_that_show_nothing_are_left_out(corpora, tmp_path, caplog):
    place = tmp_path / "W011" / "video" / "front" / "happy" / "level_3"
    video(place / "001.mp4", 0)
    (place / "002.mp4").touch()
    (place / "003.mp4").write_bytes((place / "001.mp4").read_bytes()[:3000])
    tracks = track_videos(tmp_path, tmp_path / "tracks")
    assert len(tracks["mead_W011", "happy"]) == 1
    assert [name for name in ("002.mp4", "003.mp4") if any(name in m for m in caplog.messages)] == [
        "002.mp4",
        "003.mp4",
    ]
    (place / "001.mp4").unlink()
    with pytest.raises(CmetError, match="Not one of the 2 videos"):
        track_videos(tmp_path, tmp_path / "other")


def test_a_checkpoint_of_other_data_or_a_damaged_one_is_refused(tmp_path):
    rng = np.random.default_rng(0)

    def batches(emotional):
        voices = np.repeat(["neutral", "happy"], 4)
        speech = Speech(rng.normal(size=(8, 13)).astype(np.float32), voices, np.full(8, "a"))
        codes = {("a", "neutral"): [np.zeros((20, 10))], ("a", "happy"): [np.full((20, 10), emotional)]}
        return PairedBatches(speech, codes, config)

    config = ConnectorConfig(**TINY, expression_dim=10)
    checkpoint = tmp_path / "run.checkpoint"
    first = batches(1.0)
    train_connector(first, config, checkpoint=checkpoint)
    train_connector(first, config, checkpoint=checkpoint)
    with pytest.raises(CmetError, match="other data"):
        train_connector(batches(2.0), config, checkpoint=checkpoint)
    checkpoint.write_bytes(checkpoint.read_bytes()[:2000])
    with pytest.raises(CmetError, match="damaged"):
        train_connector(first, config, checkpoint=checkpoint)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"steps": 0}, "'steps' is 0; it must be 1 or more"),
        ({"learning_rate": float("nan")}, "'learning_rate' is nan"),
        ({"dropout": 2}, "between 0 and 1"),
        ({"heads": 3}, "multiple of 'heads'"),
        ({"width": 100}, "sizes do not fit"),
        ({"held_speakers": "x"}, "'held_speakers' is 'x'"),
        ({"scaled_vectors": 1}, "'scaled_vectors' is 1"),
    ],
)
def test_numbers_that_no_run_can_work_with_are_named(settings, words, tmp_path, capsys):
    (tmp_path / "own.json").write_text(json.dumps(settings))
    command = [
        "train",
        "connector",
        "--speech",
        str(tmp_path),
        "--videos",
        str(tmp_path),
        "-o",
        str(tmp_path / "o.safetensors"),
    ]
    assert main([*command, "--config", str(tmp_path / "own.json")]) == 1
    assert words in capsys.readouterr().err


@pytest.mark.parametrize("what", ["encoder", "connector", "edtalk"])
def test_a_configuration_with_every_number_can_be_written_and_is_read_back(what, tmp_path, capsys):
    from cmet_engine.training.speech.config import TrainingConfig

    path = tmp_path / "all.json"
    assert main(["train", "config", what, "-o", str(path)]) == 0
    if what == "encoder":
        assert TrainingConfig.from_json(path.read_text()) == TrainingConfig()
    else:
        default = ConnectorConfig.published() if what == "edtalk" else ConnectorConfig()
        assert ConnectorConfig.load(path) == default
    assert main(["train", "config", what, "-o", str(path)]) == 1 and "--force" in capsys.readouterr().err
