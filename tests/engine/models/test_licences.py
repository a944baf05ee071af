import json

import pytest

from cmet_engine.cli.main import main
from cmet_engine.errors import CmetError, MissingWeights
from cmet_engine.models import assets, licences


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


def test_exceptions_can_be_switched_off(monkeypatch):
    monkeypatch.setenv(licences.CLEAN_ONLY, "1")
    assert assets.asset("face_occlusion.safetensors").is_file()
    with pytest.raises(MissingWeights, match=r"refiner\.safetensors is not cleared for commercial use"):
        assets.asset("refiner.safetensors")
    monkeypatch.setenv(licences.CLEAN_ONLY, "0")
    assert assets.asset("refiner.safetensors").is_file()


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
