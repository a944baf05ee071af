"""The embedded connector shows each emotion as published, on any face; its training can be interrupted and measured."""

import json
from dataclasses import asdict
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from voices import speak, write_wav

from cmet_engine import arkit
from cmet_engine.cli import main
from cmet_engine.emotion import edit, facs
from cmet_engine.emotion.connector_weights import read_connector, save_connector
from cmet_engine.emotion.embedded_connector import CONNECTOR_FILE, WINDOW, unit_vector
from cmet_engine.emotion.library import load_library
from cmet_engine.emotions import BASIC, LIBRARY
from cmet_engine.errors import CmetError
from cmet_engine.evaluation.connector import compare_models
from cmet_engine.models.assets import asset
from cmet_engine.track import CoefficientTrack
from cmet_engine.training.connector import losses
from cmet_engine.training.connector.batches import PairedBatches, UnpairedBatches
from cmet_engine.training.connector.config import ConnectorConfig
from cmet_engine.training.connector.faces import Faces, read_codes, read_tracks
from cmet_engine.training.connector.folders import train_from_folders
from cmet_engine.training.connector.recipe import train_connector
from cmet_engine.training.connector.speech import Speech
from cmet_engine.training.corpora.videos import find_videos

MEGABYTE = 1 << 20


@pytest.fixture(scope="module")
def resting() -> np.ndarray:
    """A calm face over two seconds: a little squint and the small movements of speech."""
    values = np.zeros((50, arkit.COUNT))
    values[:, arkit.columns(["eyeSquintLeft", "eyeSquintRight"])] = 0.3
    values[:, arkit.INDEX["jawOpen"]] = 0.15 + 0.1 * np.sin(np.arange(50))
    return values


@pytest.fixture(scope="module")
def directions(resting) -> dict[str, np.ndarray]:
    deltas = edit.expression_deltas(load_library(), resting, np.arange(50) / 25)
    return {name: delta.mean(0) for name, delta in deltas.items()}


def cosine(a: np.ndarray, b: np.ndarray) -> float:
    return float(a @ b / (np.linalg.norm(a) * np.linalg.norm(b)))


def test_it_is_small():
    network, _, _ = read_connector(asset(CONNECTOR_FILE))
    assert sum(p.numel() for p in network.parameters()) <= 6_000_000
    assert asset(CONNECTOR_FILE).stat().st_size <= 6 * MEGABYTE


@pytest.mark.parametrize("emotion", LIBRARY)
def test_each_emotion_looks_like_its_published_actions(directions, emotion):
    others = {e: cosine(directions[emotion], facs.mean_expression(e)) for e in LIBRARY}
    assert others[emotion] > 0.7
    assert others[emotion] >= max(others.values()) - 0.05


def test_emotions_differ_where_people_look(directions):
    at = {n: arkit.INDEX[n] for n in arkit.NAMES}
    fear, surprised = directions["fear"], directions["surprised"]
    assert fear[at["mouthStretchLeft"]] > surprised[at["mouthStretchLeft"]] + 0.15
    assert surprised[at["browOuterUpLeft"]] > fear[at["browOuterUpLeft"]] + 0.15
    contempt = directions["contempt"]
    assert contempt[at["mouthDimpleLeft"]] > contempt[at["mouthDimpleRight"]] + 0.2
    assert directions["disgusted"][at["noseSneerLeft"]] > 0.4
    assert cosine(directions["sarcastic"], directions["happy"]) < 0.5
    assert min(directions["angry"][at["browDownLeft"]], directions["angry"][at["browDownRight"]]) > 0.3


def test_neutral_changes_nothing(directions):
    assert not directions["neutral"].any()


def test_it_answers_to_what_the_actor_does(resting):
    smiling = resting.copy()
    smiling[:, arkit.columns(["mouthSmileLeft", "mouthSmileRight"])] = 0.6
    library, times = {"angry": load_library()["angry"]}, np.arange(50) / 25
    calm = edit.expression_deltas(library, resting, times)["angry"]
    on_smile = edit.expression_deltas(library, smiling, times)["angry"]
    smile = arkit.INDEX["mouthSmileLeft"]
    assert on_smile[:, smile].mean() < calm[:, smile].mean() - 0.2  # the smile gives way


def test_the_rate_of_the_footage_does_not_matter(resting):
    library = {"sad": load_library()["sad"]}
    slow = edit.expression_deltas(library, resting, np.arange(50) / 25)["sad"]
    times = np.arange(118) / 60
    fast = np.stack([np.interp(times, np.arange(50) / 25, resting[:, c]) for c in range(arkit.COUNT)], 1)
    twice = edit.expression_deltas(library, fast, times)["sad"]
    np.testing.assert_allclose(twice.mean(0), slow.mean(0), atol=0.03)


def test_a_vector_between_two_emotions_looks_like_both(directions, resting):
    library = load_library()
    blend = unit_vector(library["happy"].vector) + unit_vector(library["surprised"].vector)
    vector = SimpleNamespace(vector=blend)
    mixed = edit.expression_deltas({"both": vector}, resting, np.arange(50) / 25)["both"].mean(0)
    assert cosine(mixed, directions["happy"] + directions["surprised"]) > 0.4


# -- training ---------------------------------------------------------------------------------------------------------

TINY = {
    "width": 64,
    "layers": 1,
    "feedforward": 64,
    "steps": 6,
    "batch": 8,
    "checkpoint_every": 3,
    "warmup": 2,
    "draws": 40,
}


@pytest.fixture(autouse=True)
def short_comparison(monkeypatch):
    """The small network that a connector is compared with is trained for a moment only."""
    monkeypatch.setattr("cmet_engine.evaluation.connector.MLP_STEPS", 20)


def speech(dim: int = 13, speakers=("a", "b")) -> Speech:
    rng = np.random.default_rng(0)
    emotions = [*LIBRARY, "neutral"]
    centre = {e: rng.normal(size=dim) for e in emotions}
    rows = [(s, e, centre[e] + 0.3 * rng.normal(size=dim)) for s in speakers for e in emotions for _ in range(4)]
    return Speech(
        np.array([r[2] for r in rows], np.float32), np.array([r[1] for r in rows]), np.array([r[0] for r in rows])
    )


def faces() -> Faces:
    rng = np.random.default_rng(1)
    tracks = [rng.uniform(0, 0.4, (40, arkit.COUNT)).astype(np.float32) for _ in range(3)]
    labels = np.array(["neutral"] * 5 + list(BASIC))
    pictures = np.concatenate([rng.uniform(0, 0.1, (5, 52)), np.stack([facs.mean_expression(e) for e in BASIC])])
    return Faces(tracks, pictures.astype(np.float32), labels)


@pytest.fixture(scope="module")
def tiny():
    config = ConnectorConfig(**TINY)
    return config, UnpairedBatches(speech(), faces(), config, LIBRARY)


def test_training_lowers_the_loss():
    config = ConnectorConfig(**{**TINY, "steps": 60, "checkpoint_every": 20, "learning_rate": 3e-3})
    batches = UnpairedBatches(speech(), faces(), config, LIBRARY)
    _, curve = train_connector(batches, config)
    assert curve[-1][2] < 0.5 * curve[0][2]


def test_a_resumed_run_equals_an_uninterrupted_one(tiny, tmp_path):
    config, batches = tiny
    whole, _ = train_connector(batches, config)

    class KilledError(Exception):
        pass

    def kill(stage, done, total):
        if done == 4:
            raise KilledError

    checkpoint = tmp_path / "run.pt"
    with pytest.raises(KilledError):
        train_connector(batches, config, checkpoint=checkpoint, progress=kill)
    assert (tmp_path / "run.csv").is_file() and (tmp_path / "run.svg").is_file()  # of a run that was killed, too
    resumed, _ = train_connector(batches, config, checkpoint=checkpoint)
    for a, b in zip(whole.parameters(), resumed.parameters(), strict=True):
        torch.testing.assert_close(a, b)
    other = ConnectorConfig(**{**TINY, "batch": 4})
    with pytest.raises(CmetError, match="another configuration"):
        train_connector(batches, other, checkpoint=checkpoint)


def test_saved_and_loaded_it_predicts_the_same(tiny, tmp_path):
    config, batches = tiny
    network, _ = train_connector(batches, config)
    save_connector(network, asdict(config), tmp_path / "c.safetensors", {"note": 1})
    loaded, _, figures = read_connector(tmp_path / "c.safetensors")
    batch = batches(0)
    with torch.no_grad():
        a, b = (n(batch.reference, batch.speech, batch.neutral) for n in (network, loaded))
    assert figures == {"note": 1}
    torch.testing.assert_close(a, b, atol=0.05, rtol=0.02)
    (tmp_path / "broken.safetensors").write_bytes(b"no weights")
    with pytest.raises(CmetError, match=r"broken\.safetensors"):
        read_connector(tmp_path / "broken.safetensors")


def test_the_same_trainer_takes_the_papers_settings_for_ten_codes():
    rng = np.random.default_rng(2)
    codes = {(s, e): [rng.normal(size=(20, 10)).astype(np.float32)] for s in "ab" for e in ("neutral", "happy", "sad")}
    paper = ConnectorConfig.published()
    assert (paper.steps, paper.batch, paper.learning_rate, paper.pool) == (200_000, 128, 1e-4, 10)
    config = ConnectorConfig(**{**TINY, "expression_dim": 10, "steps": 2})
    batches = PairedBatches(speech(), codes, config)
    assert batches(0).neutral.shape == (8, WINDOW, 10)
    network, _ = train_connector(batches, config)
    assert network.expression_dim == 10
    with pytest.raises(CmetError, match="have shape"):
        PairedBatches(speech(), codes, ConnectorConfig(**TINY))
    with pytest.raises(CmetError, match="No speaker"):
        PairedBatches(speech(speakers=("c",)), codes, config)


def test_mead_and_crema_are_found_as_they_are_distributed(tmp_path):
    for name in ("M003/video/front/angry/level_3/001.mp4", "M003/video/front/neutral/level_1/001.mp4", "M003/video/left_30/angry/level_3/001.mp4"):  # fmt: skip
        (tmp_path / "mead" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "mead" / name).touch()
    found = find_videos(tmp_path / "mead")
    assert [(s, e) for _, s, e in found] == [("mead_M003", "angry"), ("mead_M003", "neutral")]
    for name in ("1001_DFA_ANG_XX.flv", "1001_DFA_NEU_XX.flv"):
        (tmp_path / "crema" / "VideoFlash" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "crema" / "VideoFlash" / name).touch()
    found = find_videos(tmp_path / "crema")
    assert [(s, e) for _, s, e in found] == [("crema_1001", "angry"), ("crema_1001", "neutral")]
    with pytest.raises(CmetError, match="known layout"):
        find_videos(tmp_path)


def test_bad_training_data_is_named(tmp_path):
    good = speech()
    with pytest.raises(CmetError, match="feature number 3 holds"):
        broken = good.features.copy()
        broken[3, 5] = np.nan
        Speech(broken, good.emotion, good.speaker)
    with pytest.raises(CmetError, match="neutral"):
        good.chosen(good.emotion != "neutral")
    with pytest.raises(CmetError, match="frames long"):
        Faces([np.zeros((3, 52), np.float32)], np.zeros((0, 52)), np.array([]))
    with pytest.raises(CmetError, match="no speech labelled 'angry'"):
        other = speech(20)  # of another space than the library's
        UnpairedBatches(other.chosen(other.emotion != "angry"), faces(), ConnectorConfig(**TINY), LIBRARY)
    (tmp_path / "codes.json").write_text(json.dumps({"steps": "many"}))
    with pytest.raises(CmetError, match="'steps' is 'many'"):
        ConnectorConfig.load(tmp_path / "codes.json")
    (tmp_path / "codes.json").write_text(json.dumps({"stepps": 3}))
    with pytest.raises(CmetError, match="'stepps' is unknown"):
        ConnectorConfig.load(tmp_path / "codes.json")
    with pytest.raises(CmetError, match=r"SPEAKER/EMOTION/NAME\.npy"):
        read_codes(tmp_path)
    with pytest.raises(CmetError, match="holds no \\.npz track"):
        read_tracks([tmp_path])


def test_tracks_are_read_at_the_networks_rate(tmp_path):
    values = np.zeros((60, arkit.COUNT), np.float32)
    values[:, 3] = np.linspace(0, 1, 60)
    CoefficientTrack(30, values).save(tmp_path / "a.npz")
    (track,) = read_tracks([tmp_path])
    assert len(track) == 50
    np.testing.assert_allclose(track[:, 3], np.arange(50) / 25 * 30 / 59, atol=1e-5)


# -- losses -----------------------------------------------------------------------------------------------------------


def test_focal_loss_weighs_large_errors_more():
    zero, small, large = torch.zeros(4), torch.full((4,), 0.5), torch.full((4,), 1.0)
    assert losses.focal_reconstruction(zero, zero) == 0
    assert losses.focal_reconstruction(large, zero) > 4 * losses.focal_reconstruction(small, zero)  # more than squared
    expected = 1 * (2 / (1 + np.exp(-0.2)) - 1)
    assert losses.focal_reconstruction(large, zero).item() == pytest.approx(expected, rel=1e-5)


def test_contrastive_loss_falls_as_face_and_voice_of_one_emotion_agree():
    label = torch.tensor([0, 0, 1, 1])
    axes = torch.eye(8)
    agreeing = losses.contrastive(axes[label], axes[label], label).item()
    apart = losses.contrastive(axes[label], axes[label + 4], label).item()
    crossed = losses.contrastive(axes[label], axes[1 - label], label).item()
    assert agreeing == pytest.approx(np.log(3), abs=0.05)  # three of its own kind are equally near
    assert agreeing < apart < crossed


def test_directional_loss_is_zero_for_opposites():
    way = torch.randn(3, 5, 52)
    assert losses.directional(way, -way).item() == pytest.approx(0, abs=1e-5)
    assert losses.directional(way, way).item() == pytest.approx(4, abs=1e-4)


# -- from folders -----------------------------------------------------------------------------------------------------


@pytest.fixture
def folders(tmp_path):
    """A miniature of what `cmet train connector` reads: speech with teacher's features, pictures, tracks, codes."""
    given, corpus = speech(1024), tmp_path / "speech"
    corpus.mkdir()
    names = [f"{n:03}.wav" for n in range(len(given.emotion))]
    rows = zip(names, given.speaker, given.emotion, strict=True)
    lines = ["path,dataset,speaker,emotion", *(f"{n},mini,{s},{e}" for n, s, e in rows)]
    (corpus / "index.csv").write_text("\n".join(lines) + "\n")
    sound = speak(0.4)
    for name in names:
        write_wav(corpus / name, sound)
    np.savez(corpus / "emotion2vec_plus_large.npz", paths=np.array(names), features=given.features)
    stills = tmp_path / "stills"
    stills.mkdir()
    side = faces()
    people = [f"p{n:08x}" for n in range(len(side.emotion))]
    lines = [
        "path,person,emotion",
        *(f"x/{n}.jpg,{p},{e}" for n, (p, e) in enumerate(zip(people, side.emotion, strict=True))),
    ]
    (stills / "index.csv").write_text("\n".join(lines) + "\n")
    np.savez(
        stills / "mediapipe_blendshapes.npz",
        names=np.array(arkit.NAMES),
        scores=side.pictures.astype(np.float16) + 0.01,
    )
    (tmp_path / "tracks").mkdir()
    for number, track in enumerate(side.tracks):
        CoefficientTrack(25, track).save(tmp_path / "tracks" / f"{number}.npz")
    rng = np.random.default_rng(0)
    for speaker in "ab":
        for emotion in ("neutral", "happy"):
            (tmp_path / "codes" / speaker / emotion).mkdir(parents=True)
            np.save(tmp_path / "codes" / speaker / emotion / "1.npy", rng.normal(size=(20, 10)))
    return tmp_path


class Listener:
    """Stands for the embedded encoder: hears of each recording in turn what `speech` gives."""

    def __init__(self) -> None:
        self.features = iter(speech().features)

    def utterance(self, wave, rate):
        return next(self.features)


def test_emotions_without_speech_take_the_vectors_of_the_library():
    some = speech()
    batches = UnpairedBatches(some.chosen(some.emotion != "contempt"), faces(), ConnectorConfig(**TINY), LIBRARY)
    drawn = batches._vectors[LIBRARY.index("contempt")]
    assert (drawn.argmax(1) == LIBRARY.index("contempt")).all()


def test_the_embedded_kind_is_trained_from_folders(folders):
    figures = train_from_folders(
        folders / "c.safetensors",
        speech=[folders / "speech"],
        pictures=folders / "stills",
        tracks=[folders / "tracks"],
        config=ConnectorConfig(**TINY),
        encoder=Listener(),
        measure=compare_models,
    )
    assert set(figures["held_out"]) == {"connector", "ridge", "mlp"}
    network, _, kept = read_connector(folders / "c.safetensors")
    assert network.expression_dim == arkit.COUNT and kept == figures
    curve = (folders / "c.csv").read_text().splitlines()
    assert curve[0].startswith("step,total") and len(curve) >= 3
    with pytest.raises(CmetError, match="exists already"):
        train_from_folders(folders / "c.safetensors", speech=[], pictures=folders / "stills")


def test_the_published_kind_is_trained_from_folders(folders):
    config = ConnectorConfig(**{**TINY, "expression_dim": 10, "speech_dim": 1024})
    train_from_folders(folders / "c.pth", speech=[folders / "speech"], codes=folders / "codes", config=config)
    state = torch.load(folders / "c.pth", weights_only=True)["state_dict"]
    config.build().load_state_dict(state, strict=True)
    with pytest.raises(CmetError, match="one kind of faces"):
        train_from_folders(folders / "d.pth", speech=[folders / "speech"])


def test_threads_change_nothing_and_mixed_precision_keeps_the_weights_whole(tiny):
    config, batches = tiny
    plain, _ = train_connector(batches, config, workers=0)
    threads, _ = train_connector(batches, config, workers=3)
    mixed, curve = train_connector(batches, config, mixed_precision=True)
    for name, value in plain.state_dict().items():
        assert torch.equal(value, threads.state_dict()[name])
    assert np.isfinite(curve).all() and all(v.dtype != torch.bfloat16 for v in mixed.state_dict().values())
    assert any(not torch.equal(v, mixed.state_dict()[n]) for n, v in plain.state_dict().items())


@pytest.mark.gpu
@pytest.mark.parametrize("mixed", [False, True])
def test_a_gpu_trains_it_and_goes_on_after_a_kill(mixed, tmp_path):
    config = ConnectorConfig(**{**TINY, "steps": 60, "learning_rate": 3e-3})
    batches = UnpairedBatches(speech(), faces(), config, LIBRARY)

    class KilledError(Exception):
        pass

    def kill(stage, done, total):
        if done == 31:
            raise KilledError

    options = {"device": "cuda", "workers": 3, "mixed_precision": mixed, "checkpoint": tmp_path / "run.pt"}
    with pytest.raises(KilledError):
        train_connector(batches, config, **options, progress=kill)
    network, curve = train_connector(batches, config, **options)
    assert curve[-1][0] == 60 and curve[-1][2] < 0.5 * curve[0][2]
    assert all(value.isfinite().all() and value.dtype != torch.bfloat16 for value in network.state_dict().values())


def test_the_command_trains_in_the_published_space(folders, capsys):
    config = folders / "numbers.json"
    config.write_text(json.dumps({**TINY, "expression_dim": 10, "speech_dim": 1024}))
    output = folders / "mine.pth"
    arguments = [
        "train",
        "connector",
        "--space",
        "edtalk",
        "--speech",
        folders / "speech",
        "--config",
        config,
        "-o",
        output,
    ]
    assert main([str(a) for a in arguments]) == 1
    assert "--codes" in capsys.readouterr().err
    assert main([str(a) for a in (*arguments, "--codes", folders / "codes", "--workers", 2)]) == 0
    state = torch.load(output, weights_only=True)["state_dict"]
    ConnectorConfig(**json.loads(config.read_text())).build().load_state_dict(state, strict=True)
    assert output.with_suffix(".csv").exists() and output.with_suffix(".svg").read_text().startswith("<svg")
