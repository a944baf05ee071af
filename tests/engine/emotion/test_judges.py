"""Independent judges: what they say of an edit, and what is said where one is not installed."""

import importlib.util

import numpy as np
import pytest

from cmet_engine.errors import MissingWeights
from cmet_engine.evaluation import judges
from cmet_engine.evaluation.judges import ANSWERS, CROP, JUDGES, Judge, Verdict, summary


def probabilities(**shares: float) -> np.ndarray:
    """The named shares, the rest divided among the other answers."""
    rest = (1 - sum(shares.values())) / (len(ANSWERS) - len(shares))
    return np.array([shares.get(name, rest) for name in ANSWERS])


def test_an_edit_is_judged_by_what_rose_against_the_source():
    calm, smiling = probabilities(neutral=0.6), probabilities(happy=0.5, angry=0.2, neutral=0.2)
    scowl = probabilities(angry=0.4, neutral=0.5)
    verdicts = [Verdict("angry", calm, scowl), Verdict("angry", smiling, probabilities(happy=0.2, angry=0.3, sad=0.4))]
    angry = summary(verdicts)["angry"]
    assert angry["named"] == 0 and angry["rose"] == 1  # never named, yet more than before in both
    assert angry["rose_most"] == 0.5  # in the second, sadness rose more
    np.testing.assert_allclose(verdicts[0].change[ANSWERS.index("angry")], np.log(0.4 / 0.6 / (0.08 / 0.92)), atol=0.2)


def test_what_is_next_to_impossible_did_not_rise():
    before, after = probabilities(neutral=1 - 1e-8), probabilities(neutral=1 - 1e-4)
    assert summary([Verdict("fear", before, after)])["fear"]["rose"] == 0


def test_an_emotion_without_a_name_says_what_rose():
    calm, smile = probabilities(neutral=0.6), probabilities(happy=0.7)
    figures = summary([Verdict("contempt", calm, smile)])
    assert figures["contempt"] == {"clips": 1, "risen": {"happy": 1}}
    assert judges.means(figures) == {}


def test_a_missing_package_is_one_sentence(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    found, missing = judges.judges()
    assert not found and len(missing) == len(JUDGES)
    assert all("pip install --no-deps" in sentence and sentence.count(". ") == 0 for sentence in missing)


@pytest.mark.parametrize("name", JUDGES)
def test_a_judge_tells_a_smile_from_surprise(name, shared):
    try:
        judge = Judge(name)
    except MissingWeights as error:
        pytest.skip(str(error))
    folder = shared / "data" / "faces" / "stills"
    if not folder.is_dir():
        pytest.skip("needs the labelled pictures beside the project (../shared/data)")
    real = judges.accuracy_on_pictures([judge], folder, most=6)[name]
    assert real["happy"] > 0.5 and real["balanced"] > 0.25  # seven answers: chance is 0.14
    answers = judge([np.zeros((CROP, CROP, 3), np.uint8)])
    np.testing.assert_allclose(answers.sum(1), 1, atol=0.02)
