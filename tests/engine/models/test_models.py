import argparse
import contextlib
import hashlib
import http.server
import json
import os
import pickle
import shutil
import socket
import threading
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from cmet_engine.errors import CmetError, MissingWeights
from cmet_engine.models import networks, registry, store
from cmet_engine.models.checkpoints import identify, read, state_dicts
from cmet_engine.models.registry import Licence, Package
from cmet_engine.models.spectral import without_spectral_norm
from cmet_engine.render.edtalk import Audio2Lip
from cmet_engine.render.liveportrait.convolution import Conv
from cmet_engine.render.liveportrait.decoder import SpectralConv
from cmet_engine.render.liveportrait.networks import MotionExtractor, Stitching


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv("CMET_MODELS", str(tmp_path / "models"))
    for name in ("HF_ENDPOINT", "HF_HUB_OFFLINE", "HF_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path / "models"


@pytest.fixture(scope="session")
def network() -> Audio2Lip:
    torch.manual_seed(0)
    return Audio2Lip().eval()


@pytest.fixture
def checkpoint(network, tmp_path) -> Path:
    path = tmp_path / "Audio2Lip.pt"
    torch.save({"audio2lip": network.state_dict()}, path)
    return path


def here() -> list[str]:
    """The published networks whose weights are on this machine."""
    return [row["name"] for row in registry.describe() if row["here"]]


class TrainerState:
    """Stands for a class of the publisher's code, which is not on the user's machine."""

    def __init__(self):
        self.history = [1, 2, {"rate": 1e-4}]


class Harmful:
    """Runs a command when unpickled."""

    def __init__(self, command: str):
        self.command = command

    def __reduce__(self):
        return os.system, (self.command,)


def test_a_converted_file_gives_the_same_network_and_says_where_it_came_from(network, checkpoint):
    (weights,) = store.convert(checkpoint)
    assert (weights.name, weights.source) == ("audio2lip", str(checkpoint))
    assert weights.source_sha256 == hashlib.sha256(checkpoint.read_bytes()).hexdigest()
    assert weights.sha256 == hashlib.sha256(weights.path.read_bytes()).hexdigest()
    mel = torch.randn(2, 1, 80, 16)
    assert torch.equal(store.load("audio2lip", Audio2Lip)(mel), network(mel))
    assert here() == ["audio2lip"]
    row = next(row for row in registry.describe() if row["name"] == "audio2lip")
    assert row["here"] and row["size"] == weights.path.stat().st_size and row["licence"] == "Apache-2.0"


@pytest.mark.parametrize("legacy", [False, True])
def test_what_else_lies_in_a_training_checkpoint_does_no_harm(network, tmp_path, legacy):
    content = {
        "gen": network.state_dict(),
        "g_optim": {
            "state": {0: {"step": torch.tensor(3.0), "exp_avg": torch.zeros(4)}},
            "param_groups": [{"lr": 1e-4}],
        },
        "args": argparse.Namespace(size=256, parts={"lip", "pose"}),
        "trainer": TrainerState(),
        "seen": np.float64(0.5),
    }
    del content["seen"]
    path = tmp_path / "training.pt"
    torch.save(content, path, _use_new_zipfile_serialization=not legacy)
    (weights,) = store.convert(path)
    assert weights.name == "audio2lip"
    assert not isinstance(read(path)["trainer"], TrainerState)  # a placeholder, not the class


@pytest.mark.parametrize("form", ["archive", "old", "bare pickle"])
def test_a_pickle_that_wants_to_run_code_is_refused(network, tmp_path, form):
    trace = tmp_path / "trace"
    content = {"audio2lip": network.state_dict(), "args": Harmful(f"touch {trace}")}
    path = tmp_path / "harmful.pt"
    if form == "bare pickle":
        path.write_bytes(pickle.dumps({"state_dict": Harmful(f"touch {trace}")}))
    else:
        torch.save(content, path, _use_new_zipfile_serialization=form == "archive")
    with pytest.raises(CmetError, match=r"harmful\.pt") as refused:
        store.convert(path)
    if form != "bare pickle":
        assert "run code" in str(refused.value) and "system" in str(refused.value)
    assert not trace.exists()
    assert here() == []


def test_calling_a_builtin_by_a_detour_is_refused_too(tmp_path):
    class Evaluating:
        def __reduce__(self):
            return eval, ("__import__('os').getcwd()",)

    class Getting:
        def __reduce__(self):
            return getattr, (Path, "cwd")

    for harmful in (Evaluating(), Getting()):
        torch.save({"x": harmful}, tmp_path / "detour.pt")
        with pytest.raises(CmetError, match="run code"):
            read(tmp_path / "detour.pt")


@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 0.99])
def test_a_truncated_download_is_named(checkpoint, share):
    data = checkpoint.read_bytes()
    checkpoint.write_bytes(data[: int(len(data) * share)])
    with pytest.raises(CmetError, match=r"Audio2Lip\.pt is (cut off|empty|damaged)"):
        store.convert(checkpoint)
    assert here() == []


def test_any_damage_inside_gives_a_sentence_or_the_right_shapes(checkpoint):
    data = checkpoint.read_bytes()
    draw = np.random.default_rng(0)
    refused = 0
    for _ in range(20):
        broken = bytearray(data)
        for place in draw.integers(0, 4000, 8):
            broken[place] ^= 0xFF
        checkpoint.write_bytes(bytes(broken))
        try:
            identify(checkpoint, read(checkpoint))
        except CmetError as error:
            refused += 1
            assert str(checkpoint) in str(error)
    assert refused


def test_a_wrong_checkpoint_is_told_what_it_looks_like(network, tmp_path):
    path = tmp_path / "file.pt"
    state = network.state_dict()

    torch.save({"state_dict": {"module.face_encoder_blocks.0.0.conv_block.0.weight": torch.zeros(3)}}, path)
    with pytest.raises(CmetError, match="looks like Wav2Lip"):
        store.convert(path)
    torch.save({"audio2lip": state}, path)
    with pytest.raises(CmetError, match=r"looks like Audio2Lip, but the EDTalk generator is wanted"):
        store.convert(path, expected="edtalk_generator")
    torch.save({k: v for k, v in state.items() if k != "mapping.weight"}, path)
    with pytest.raises(
        CmetError, match=r"looks like Audio2Lip, but 1 of 93 tensors are missing \(first: mapping.weight\)"
    ):
        store.convert(path)
    torch.save({**state, "mapping.weight": torch.zeros(500, 512)}, path)
    with pytest.raises(CmetError, match=r"mapping.weight has the shape \[500, 512\] instead of \[20, 512\]"):
        store.convert(path)
    torch.save({**state, "more": torch.zeros(1)}, path)
    with pytest.raises(CmetError, match="1 tensors too many"):
        store.convert(path)
    torch.save({**state, "mapping.bias": torch.full((20,), torch.nan)}, path)
    with pytest.raises(CmetError, match=r"mapping\.bias holds numbers that are not finite"):
        store.convert(path)
    torch.save({"first": torch.zeros(2), "second": torch.zeros(2)}, path)
    with pytest.raises(CmetError, match=r"unknown \(its tensors begin with first, second\)"):
        store.convert(path)
    torch.save({"hello": "world"}, path)
    with pytest.raises(CmetError, match="holds no tensors"):
        store.convert(path)
    with pytest.raises(CmetError, match="no file"):
        store.convert(tmp_path / "absent.pt")


def test_names_in_a_training_wrapper_are_understood(network, tmp_path):
    path = tmp_path / "wrapped.pt"
    torch.save(
        {
            "state_dict": {
                f"module.{k}": v.half() if v.is_floating_point() else v for k, v in network.state_dict().items()
            }
        },
        path,
    )
    (weights,) = store.convert(path)
    assert weights.name == "audio2lip"
    assert next(store.load("audio2lip", Audio2Lip).parameters()).dtype is torch.float32
    assert list(state_dicts({"a": {"b": {"c": torch.zeros(1)}}})) == ["a.b"]


def test_emotion2vecs_training_parts_are_left_out(tmp_path, monkeypatch):
    from cmet_engine.emotion.emotion2vec import Emotion2vec

    def tiny() -> Emotion2vec:
        return Emotion2vec({"embed_dim": 32, "num_heads": 4, "depth": 1, "prenet_depth": 1})

    state = tiny().state_dict()
    small = {**networks._table(), "emotion2vec_plus_large": {name: tuple(t.shape) for name, t in state.items()}}
    monkeypatch.setattr(networks, "_table", lambda: small)
    more = {"modality_encoders.AUDIO.decoder.proj.weight": torch.zeros(3, 3), "_ema.x": torch.zeros(1)}
    torch.save(
        {"model": {f"d2v_model.{name}": value for name, value in {**state, **more}.items()}}, tmp_path / "model.pt"
    )
    (weights,) = store.convert(tmp_path / "model.pt")
    assert weights.name == "emotion2vec_plus_large"
    loaded = store.load("emotion2vec_plus_large", tiny)
    assert set(loaded.state_dict()) == set(state)
    wave = torch.randn(1, 4000)
    assert loaded.utterance(wave).shape == (1, 32)


def test_a_pickle_cannot_change_what_it_is_given(tmp_path):
    """BUILD sets attributes of any object on the stack, functions of torch too; they must be copies."""
    before = torch._utils._rebuild_tensor_v2.__defaults__
    harmful = b"\x80\x02ctorch._utils\n_rebuild_tensor_v2\n(N}X\x0c\x00\x00\x00__defaults__)tsb."
    program = b"\x80\x02ctorch._utils\n_rebuild_tensor_v2\nN}X\x0c\x00\x00\x00__defaults__(K\x01ts\x86b."
    for number, pickled in enumerate((harmful, program)):
        torch.save({"a": torch.zeros(1)}, tmp_path / "plain.pt")
        path = tmp_path / f"build{number}.pt"
        with zipfile.ZipFile(tmp_path / "plain.pt") as old, zipfile.ZipFile(path, "w") as new:
            for item in old.namelist():
                new.writestr(item, pickled if item.endswith("data.pkl") else old.read(item))
        with contextlib.suppress(CmetError):
            read(path)
        assert torch._utils._rebuild_tensor_v2.__defaults__ == before


def test_weights_that_are_there_are_replaced_only_when_asked(checkpoint):
    store.convert(checkpoint)
    with pytest.raises(CmetError, match="--force"):
        store.convert(checkpoint)
    store.convert(checkpoint, force=True)


def test_changed_weights_are_not_loaded(checkpoint):
    (weights,) = store.convert(checkpoint)
    store.load("audio2lip", Audio2Lip)
    data = bytearray(weights.path.read_bytes())
    data[-5] ^= 1
    weights.path.write_bytes(bytes(data))
    os.utime(weights.path, (1, 1))
    with pytest.raises(CmetError, match=r"checksum differs.*cmet models pull cmet --force"):
        store.load("audio2lip", Audio2Lip)


def test_missing_weights_say_what_to_do_in_one_sentence():
    for name, command in (
        ("edtalk_generator", "cmet models pull cmet"),
        ("emotion2vec_plus_large", "cmet models pull emotion2vec"),
    ):
        with pytest.raises(MissingWeights) as error:
            registry.path_of(name)
        sentence = str(error.value)
        assert command in sentence and "GB" in sentence and "embedded models" in sentence
        assert sentence.count(". ") == 0


def test_expression_presets_come_from_the_users_files(tmp_path):
    assert registry.load_presets() == {}
    presets = tmp_path / "presets"
    presets.mkdir()
    np.save(presets / "happy.npy", np.arange(10, dtype=np.float32)[None])
    np.save(presets / "sad.npy", -np.ones(10))
    store.convert(presets)
    np.save(tmp_path / "angry.npy", np.zeros((1, 10), np.float32))
    store.convert(tmp_path / "angry.npy")
    loaded = registry.load_presets()
    assert sorted(loaded) == ["angry", "happy", "sad"]
    np.testing.assert_array_equal(loaded["happy"], np.arange(10, dtype=np.float32))
    np.save(tmp_path / "wrong.npy", np.array([{"a": 1}], dtype=object), allow_pickle=True)
    with pytest.raises(CmetError, match=r"wrong\.npy"):
        store.convert(tmp_path / "wrong.npy")


class Hub:
    """A small hub on this machine: the part of the protocol that a download uses."""

    def __init__(self, files: dict[str, bytes]):
        self.files, self.cut, self.etag, self.requests = files, False, {}, []
        hub = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *args):
                pass

            def _answer(self, body: bool) -> None:
                hub.requests.append((self.command, self.path, self.headers.get("Range")))
                name = self.path.split("/resolve/")[-1].partition("/")[2]
                data = hub.files.get(name)
                if data is None:
                    self.send_response(404)
                    self.send_header("X-Error-Code", "EntryNotFound")
                    self.send_header("Content-Length", "0")
                    self.end_headers()
                    return
                begin = int((self.headers.get("Range") or "bytes=0-").split("=")[1].split("-")[0])
                self.send_response(206 if begin else 200)
                self.send_header("ETag", f'"{hub.etag.get(name, hashlib.sha256(data).hexdigest())}"')
                self.send_header("X-Repo-Commit", "0" * 40)
                self.send_header("Accept-Ranges", "bytes")
                self.send_header("Content-Length", str(len(data) - begin))
                if begin:
                    self.send_header("Content-Range", f"bytes {begin}-{len(data) - 1}/{len(data)}")
                self.end_headers()
                if body and hub.cut and not begin:
                    self.wfile.write(data[:-1000])  # the hub's client keeps whole pieces of 10 MB only
                    self.wfile.flush()
                    self.close_connection = True
                    self.connection.close()
                elif body:
                    self.wfile.write(data[begin:])

            def do_HEAD(self):
                self._answer(False)

            def do_GET(self):
                self._answer(True)

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()


@pytest.fixture
def hub(checkpoint, monkeypatch):
    hub = Hub({"weights/Audio2Lip.pt": checkpoint.read_bytes()})
    package = Package(
        "cmet",
        "lips",
        "someone/lips",
        (("weights/Audio2Lip.pt", "audio2lip"),),
        40,
        Licence("Apache-2.0", "https://licence"),
    )
    monkeypatch.setitem(registry.PACKAGES, "cmet", package)
    monkeypatch.setenv("HF_ENDPOINT", hub.url)
    yield hub
    hub.server.shutdown()
    hub.server.server_close()


def test_pulling_asks_for_the_licence_once_then_downloads_checks_and_converts(hub, network, folder):
    with pytest.raises(CmetError, match=r"Apache-2\.0 \(https://licence\).*--accept-licence"):
        store.pull("cmet")
    assert hub.requests == []
    steps = []
    (weights,) = store.pull("cmet", accept_licence=True, progress=lambda *step: steps.append(step))
    assert weights.source == "someone/lips/weights/Audio2Lip.pt"
    assert weights.source_sha256 == hashlib.sha256(hub.files["weights/Audio2Lip.pt"]).hexdigest()
    mel = torch.randn(1, 1, 80, 16)
    assert torch.equal(store.load("audio2lip", Audio2Lip)(mel), network(mel))
    assert steps[-1] == ("convert", 1, 1)
    assert (
        "download Audio2Lip.pt",
        len(hub.files["weights/Audio2Lip.pt"]),
        len(hub.files["weights/Audio2Lip.pt"]),
    ) in steps
    assert json.loads((folder / "licences.json").read_text())["cmet"]["licence"] == "Apache-2.0"
    assert sorted(p.name for p in folder.iterdir()) == ["audio2lip.json", "audio2lip.safetensors", "licences.json"]
    hub.requests.clear()
    assert store.pull("cmet") == [weights]  # there, and the licence known: nothing is asked of anybody
    assert hub.requests == []


def test_a_download_that_was_cut_goes_on_where_it_stopped(hub):
    hub.cut = True
    got = None
    try:
        got = store.pull("cmet", accept_licence=True)
    except CmetError as error:
        assert "goes on where it stopped" in str(error)
        got = store.pull("cmet")
    assert got and got[0].name == "audio2lip"
    begun = [r for _, _, r in hub.requests if r and not r.startswith("bytes=0-")]
    assert begun, "nothing was asked from the middle on"


def test_a_file_that_is_not_the_one_the_hub_promised_is_thrown_away(hub, folder):
    hub.etag["weights/Audio2Lip.pt"] = "0" * 64
    with pytest.raises(CmetError, match="arrived damaged"):
        store.pull("cmet", accept_licence=True)
    assert here() == []
    assert not [p for p in folder.rglob("*") if p.is_file() and p.stat().st_size > 100_000]


def test_a_wrong_file_on_the_hub_is_named(hub, tmp_path):
    torch.save({"face_encoder_blocks.0.0.conv_block.0.weight": torch.zeros(2)}, tmp_path / "w.pt")
    hub.files["weights/Audio2Lip.pt"] = (tmp_path / "w.pt").read_bytes()
    with pytest.raises(CmetError, match=r"looks like Wav2Lip; wanted is a checkpoint of Audio2Lip"):
        store.pull("cmet", accept_licence=True)


def test_what_can_go_wrong_on_the_way_is_one_sentence(hub, monkeypatch):
    with pytest.raises(CmetError, match="choose one of cmet, emotion2vec, liveportrait, performrecast"):
        store.pull("other")
    usage = shutil.disk_usage("/")
    with monkeypatch.context() as patch:
        patch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=1000))
        with pytest.raises(CmetError, match=r"needs .* MB of space .* has 1 kB"):
            store.pull("cmet", accept_licence=True)
    with monkeypatch.context() as patch:
        patch.setenv("HF_HUB_OFFLINE", "1")
        with pytest.raises(CmetError, match="HF_HUB_OFFLINE forbids"):
            store.pull("cmet")
    hub.files.clear()
    with pytest.raises(CmetError, match=r"is not on http://127.0.0.1:\d+; fetch the file by hand"):
        store.pull("cmet")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{free.getsockname()[1]}")  # nobody listens there
        with pytest.raises(CmetError, match="could not be downloaded; check the connection"):
            store.pull("cmet")


def test_cancelling_a_download_leaves_nothing_half_done(hub):
    class CancelledError(Exception):
        pass

    def stop(*step):
        raise CancelledError

    with pytest.raises(CancelledError):
        store.pull("cmet", accept_licence=True, progress=stop)
    assert here() == []
    assert store.pull("cmet")


def test_a_full_disk_while_converting_is_one_sentence(checkpoint, monkeypatch, folder):
    def full(state, path, metadata=None):
        Path(path).write_bytes(b"x" * 1000)
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("safetensors.torch.save_file", full)
    with pytest.raises(CmetError, match="full"):
        store.convert(checkpoint)
    assert list(folder.iterdir()) == []


@pytest.fixture
def stitching(tmp_path) -> Path:
    """LivePortrait's smallest file, with networks beside ours, as published."""
    torch.manual_seed(0)
    parts = {"shoulder": "stitching", "mouth": "lip", "eye": "eye"}
    content = {
        f"retarget_{part}": {f"module.{name}": value for name, value in Stitching(kind).state_dict().items()}
        for part, kind in parts.items()
    }
    torch.save(content, tmp_path / "stitching_retargeting_module.pth")
    return tmp_path / "stitching_retargeting_module.pth"


def test_liveportraits_stitching_is_found_among_other_networks_and_in_the_mirrors_form(stitching, tmp_path):
    (weights,) = store.convert(stitching)
    wanted = torch.load(stitching, weights_only=True)["retarget_shoulder"]
    assert weights.name == "liveportrait_stitching" and weights.licence.startswith("MIT")
    assert torch.equal(store.load(weights.name, Stitching).mlp[0].weight, wanted["module.mlp.0.weight"])
    flat = {
        f"retarget_{part}_module.{name.removeprefix('module.')}": value
        for part in ("shoulder", "mouth", "eye")
        for name, value in torch.load(stitching, weights_only=True)[f"retarget_{part}"].items()
    }
    save_file(flat, tmp_path / "mirror.safetensors")
    (again,) = store.convert(tmp_path / "mirror.safetensors", force=True)
    assert again.sha256 == weights.sha256


def test_a_file_on_the_hub_that_is_not_the_published_one_is_thrown_away(hub, stitching, monkeypatch):
    file = "liveportrait/retargeting_models/stitching_retargeting_module.pth"
    package = registry.PACKAGES["liveportrait"]
    monkeypatch.setitem(registry.PACKAGES, "liveportrait", replace(package, files=((file, "liveportrait_stitching"),)))
    hub.files[file] = stitching.read_bytes()
    with pytest.raises(CmetError, match="MIT licence"):
        store.pull("liveportrait")
    with pytest.raises(CmetError, match=r"arrived damaged: .* instead of 3652d5a3f950…"):
        store.pull("liveportrait", accept_licence=True)
    assert any(package.revision in path for _, path, _ in hub.requests)
    assert here() == []


def test_spectral_norm_is_divided_out_on_conversion():
    torch.manual_seed(0)
    published = SpectralConv(8, 6, 3)
    for value in published.state_dict().values():
        value.normal_()
    plain = Conv(8, 6, 3)
    plain.load_state_dict(without_spectral_norm(published.state_dict()), strict=True)
    x = torch.randn(1, 8, 16, 16)
    assert torch.allclose(plain(x), published(x), rtol=1e-4, atol=1e-4)


def test_weights_without_a_clear_licence_ask_once_and_are_told_apart_by_name(tmp_path):
    torch.manual_seed(0)
    state = MotionExtractor(49, 3).state_dict()
    torch.save(state, tmp_path / "motion_extractor.pth")
    with pytest.raises(CmetError, match=r"no licence names the weights.*--accept-licence"):
        store.convert(tmp_path / "motion_extractor.pth")
    (weights,) = store.convert(tmp_path / "motion_extractor.pth", accept_licence=True)
    assert weights.name == "performrecast_motion"
    store.convert(tmp_path / "motion_extractor.pth", force=True)  # it does not ask again
    with pytest.raises(CmetError, match="Google Drive"):
        store.pull("performrecast", accept_licence=True)
    with pytest.raises(CmetError, match=r"looks like PerformRecast's motion network, but LivePortrait's warping"):
        store.convert(tmp_path / "motion_extractor.pth", expected="liveportrait_warping", force=True)
