import json

import numpy as np
import pytest

from cmet_engine import arkit
from cmet_engine.cli.main import main
from cmet_engine.emotion.embedded_connector import CONNECTOR_FILE, EmbeddedConnector, unit_vector
from cmet_engine.emotion.vector import library_vector
from cmet_engine.errors import CmetError, MissingWeights
from cmet_engine.face import blendshapes, pose
from cmet_engine.models import assets, licences
from cmet_engine.render import motion
from cmet_engine.render.refine.network import load_refiner


def test_every_embedded_weight_says_what_it_was_made_from():
    embedded = {name for name in assets.recorded_checksums() if name.endswith(".safetensors")}
    assert set(licences.weights()) == embedded


def test_the_model_card_holds_the_table():
    assert licences.markdown() in (assets.ASSETS / "MODEL_CARD.md").read_text("utf-8")


def test_a_source_without_clearance_needs_an_exception(tmp_path, monkeypatch):
    table = json.loads((assets.ASSETS / licences.FILE).read_text("utf-8"))
    table["weights"]["face_occlusion.safetensors"]["sources"].append("mead")
    monkeypatch.setattr(licences, "read_json", lambda path: table)
    with pytest.raises(CmetError, match=r"face_occlusion.safetensors was made from mead, which is not cleared"):
        licences.weights.__wrapped__()


def test_clean_variants_stand_in_for_exceptions(monkeypatch):
    name, research = "face_solver.safetensors", assets.checksums("face_solver.safetensors")
    monkeypatch.setenv(licences.CLEAN_ONLY, "1")
    assert assets.asset("face_occlusion.safetensors") == assets.ASSETS / "face_occlusion.safetensors"
    assert assets.asset(name) == assets.ASSETS / "clean" / name
    assert assets.checksums(name) != research and assets.models()[name] == assets.checksums(name)[0]
    with pytest.raises(MissingWeights, match=r"published_library\.safetensors is not cleared .* has no clean variant"):
        assets.asset("published_library.safetensors")
    assert "published_library.safetensors" not in assets.models()
    monkeypatch.setenv(licences.CLEAN_ONLY, "0")
    assert assets.asset("published_library.safetensors").is_file()


def test_every_model_reads_its_clean_variant(monkeypatch):
    caches = (pose.template, blendshapes.load_basis, blendshapes.load_solver, motion.load_motion)
    loaded = [cache() for cache in caches]
    monkeypatch.setenv(licences.CLEAN_ONLY, "1")
    for cache in caches:
        cache.cache_clear()
    template, basis, solver, moves = (cache() for cache in caches)
    for cache in caches:
        cache.cache_clear()
    assert (template.points.shape, basis.components.shape) == ((478, 3), (52, 478, 3))
    assert not np.allclose(solver.scale, loaded[2].scale) and not np.allclose(moves.linear, loaded[3].linear)
    smile = EmbeddedConnector(assets.asset(CONNECTOR_FILE)).deltas(
        unit_vector(library_vector("happy"))[None], np.zeros((10, 52), np.float32)
    )
    assert smile.mean((0, 1)).argmax() in arkit.columns(("mouthSmileLeft", "mouthSmileRight"))
    assert sum(p.numel() for p in load_refiner().parameters()) > 100_000


def test_every_clean_variant_is_cleared():
    variants = [weight for name, weight in licences.weights().items() if name.startswith(licences.CLEAN)]
    assert variants and not any(weight.uncleared for weight in variants)
    assert all(licences.weights()[weight.name.removeprefix(licences.CLEAN)].exception for weight in variants)


def test_weights_of_your_own_stand_in_for_embedded_ones(tmp_path, monkeypatch):
    name = "published_library.safetensors"
    (tmp_path / name).write_bytes(b"mine")
    monkeypatch.setenv(assets.OWN, str(tmp_path))
    monkeypatch.setenv(licences.CLEAN_ONLY, "1")
    assert assets.asset(name) == tmp_path / name
    before = assets.models()[name]
    (tmp_path / name).write_bytes(b"mine, changed")
    assert assets.checksums(name)[0] not in (before, assets.recorded_checksums()[name])
    assert assets.asset("face_occlusion.safetensors").is_relative_to(assets.ASSETS)


def test_a_recipe_names_its_data():
    licences.check_recipe("speech_encoder.safetensors", ["emodb"])
    with pytest.raises(CmetError, match=r"it was trained on 'my_corpus', which licences.json does not name"):
        licences.check_recipe("speech_encoder.safetensors", ["emodb", "my_corpus"])


def test_the_command_line_prints_the_table(capsys):
    assert main(["models", "list", "--licences"]) == 0
    printed = capsys.readouterr().out
    assert "refiner.safetensors" in printed and "not cleared for commercial use" in printed
    assert main(["models", "list", "--licences", "--json"]) == 0
    assert {row["weight"] for row in json.loads(capsys.readouterr().out)} <= set(licences.weights())
