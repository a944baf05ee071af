"""The classifier learns from labelled faces and is measured on held-out people; edits are measured with it."""

import json

import numpy as np
import pytest

from cmet_engine import arkit
from cmet_engine.emotion import facs
from cmet_engine.emotion.edit import edit_track
from cmet_engine.emotion.expression_classifier import EMOTIONS, ExpressionClassifier
from cmet_engine.emotion.library import load_library
from cmet_engine.emotions import BASIC, LIBRARY
from cmet_engine.errors import CmetError
from cmet_engine.evaluation.emotion import EditedClip, evaluate_emotion, format_report, reliability, write_reliability
from cmet_engine.models import assets
from cmet_engine.timeline import EmotionTimeline
from cmet_engine.track import CoefficientTrack
from cmet_engine.training.expression_classifier import (
    accuracy,
    confusion,
    cross_validated,
    fit_classifier,
    train_classifier,
)
from cmet_engine.training.labelled_pictures import Pictures, load_pictures


def labelled(count: int = 40, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Pictures as the published actions say they look, and resting ones."""
    rng = np.random.default_rng(seed)
    rest = rng.uniform(0, 0.15, (count * len(EMOTIONS), arkit.COUNT))
    emotion = np.repeat(EMOTIONS, count)
    for name in BASIC:
        rest[emotion == name] += facs.sample_expressions(name, count, rng)
    return np.clip(rest, 0, 1), emotion


def pictures(faces: np.ndarray, emotion: np.ndarray) -> Pictures:
    """The same, each of another person."""
    names = np.array([f"person {i}" for i in range(len(faces))])
    return Pictures(faces, emotion, names, names)


def test_it_learns_what_the_labels_show():
    faces, emotion = labelled()
    classifier = fit_classifier(faces, emotion)
    table = confusion(classifier, *labelled(seed=1))
    assert accuracy(table)["balanced"] > 0.8
    shuffled = np.random.default_rng(2).permutation(emotion)
    chance = cross_validated(pictures(faces, shuffled))
    assert accuracy(chance)["balanced"] < 0.3  # it cannot tell what the labels do not say


def test_one_person_in_many_pictures_does_not_outweigh_the_others():
    faces, emotion = labelled(10)
    sad, people = emotion == "sad", np.arange(len(faces))
    odd = faces.copy()
    odd[np.flatnonzero(sad)[5:]] = facs.mean_expression(
        "happy"
    )  # half of the sad pictures are of one person who smiles
    one = np.where(sad & (people >= np.flatnonzero(sad)[5]), -1, people)
    asked = faces[np.flatnonzero(sad)[:5]]
    column = EMOTIONS.index("sad")
    fair, led = fit_classifier(odd, emotion, one), fit_classifier(odd, emotion)
    assert fair.probabilities(asked)[:, column].mean() > led.probabilities(asked)[:, column].mean()


def test_a_mirror_image_gets_the_same_answer():
    faces, emotion = labelled()
    classifier = fit_classifier(faces, emotion)
    np.testing.assert_allclose(
        classifier.probabilities(faces), classifier.probabilities(faces[:, arkit.MIRROR]), atol=1e-9
    )
    np.testing.assert_allclose(classifier.probabilities(faces).sum(1), 1)


def test_saved_and_loaded_it_says_the_same(tmp_path):
    faces, emotion = labelled()
    classifier = fit_classifier(faces, emotion)
    classifier.save(tmp_path / "classifier.safetensors")
    loaded = ExpressionClassifier.load(tmp_path / "classifier.safetensors")
    np.testing.assert_allclose(classifier.probabilities(faces), loaded.probabilities(faces), atol=1e-4)
    (tmp_path / "bad.safetensors").write_bytes(b"?")
    with pytest.raises(CmetError, match=r"bad\.safetensors"):
        ExpressionClassifier.load(tmp_path / "bad.safetensors")


def test_wrong_labels_are_named():
    faces, emotion = labelled(4)
    with pytest.raises(CmetError, match="'joyful'"):
        fit_classifier(faces, np.where(emotion == "happy", "joyful", emotion))
    with pytest.raises(CmetError, match="no picture labelled 'fear'"):
        fit_classifier(faces[emotion != "fear"], emotion[emotion != "fear"])


def test_accuracy_counts_each_emotion():
    table = np.array([[3, 1], [0, 4]])
    assert accuracy(table) == {"all": 7 / 8, "balanced": 7 / 8, "angry": 0.75, "contempt": 1.0}


def clip(emotion: str, realised: float) -> EditedClip:
    """An edit of which the share `realised` is measured in the picture."""
    source = CoefficientTrack(25, np.full((30, arkit.COUNT), 0.1))
    edited = edit_track(source, EmotionTimeline.parse([emotion]), load_library())
    frames = np.array([5, 6, 7])
    before = source.coefficients[frames]
    after = before + realised * (edited.coefficients - source.coefficients)[frames]
    opening = np.tile(np.r_[np.zeros(10), np.linspace(0, 0.1, 20)], (2, 1))
    return EditedClip("clip", emotion, source, edited, frames, before, after, opening, 0.001)


def test_it_measures_what_an_edit_did():
    faces, emotion = labelled()
    classifier = fit_classifier(faces, emotion)
    figures = evaluate_emotion([clip(e, 0.7) for e in (*BASIC, "sarcastic")], classifier)
    assert figures["realised"]["median"] == pytest.approx(0.7, abs=1e-3)
    assert figures["realised"]["same_sign"] == 1
    assert np.array(figures["rendered"]["confusion"]).sum() == 7
    assert sum(figures["taken_for"]["sarcastic"].values()) == 1
    assert figures["per_emotion"]["happy"]["lips"] == pytest.approx(1)
    assert figures["per_emotion"]["happy"]["closed"] == 1
    shown = reliability(figures)
    assert set(shown) == set(LIBRARY)
    assert json.loads(json.dumps(shown)) == shown
    text = format_report(figures, {"confusion": np.eye(8, dtype=int), "accuracy": accuracy(np.eye(8, dtype=int))})  # fmt: skip
    assert "rendered frames" in text and "sarcastic is not one" in text and "less than half" not in text


def test_the_report_names_what_the_classifier_does_not_recognise_on_real_faces():
    faces, emotion = labelled()
    figures = evaluate_emotion([clip("happy", 0.5)], fit_classifier(faces, emotion))
    table = np.eye(8, dtype=int) * 10
    table[3] = [0, 0, 0, 4, 0, 0, 6, 0]
    figures["real_cross_validated"] = {"confusion": table, "accuracy": accuracy(table)}
    text = format_report(figures, {"confusion": np.eye(8, dtype=int), "accuracy": accuracy(np.eye(8, dtype=int))})  # fmt: skip
    assert "less than half of the real faces of: fear (40%)." in text


def test_without_pictures_only_tracks_are_classified():
    faces, emotion = labelled()
    plain = clip("happy", 0.5)
    bare = EditedClip("clip", "happy", plain.source, plain.edited, plain.frames, None, None, None, None)
    figures = evaluate_emotion([bare], fit_classifier(faces, emotion))
    assert "rendered" not in figures
    assert np.array(figures["tracks"]["confusion"]).sum() == 1


def test_pictures_of_a_folder_are_checked(tmp_path):
    with pytest.raises(CmetError, match=r"index\.csv"):
        load_pictures(tmp_path)
    (tmp_path / "index.csv").write_text("path,person\na.jpg,p1\n")
    np.savez(tmp_path / "mediapipe_blendshapes.npz", names=np.array(["jawOpen"]), scores=np.ones((1, 1), np.float16))
    with pytest.raises(CmetError, match="columns path, person and emotion"):
        load_pictures(tmp_path)
    (tmp_path / "index.csv").write_text("path,person,emotion\na.jpg,p1,happy\nb.jpg,p2,sad\n")
    with pytest.raises(CmetError, match="2 rows"):
        load_pictures(tmp_path)


def test_pictures_of_one_person_are_too_few(tmp_path):
    faces, emotion = labelled()
    rows = ["path,person,emotion", *(f"{n}.jpg,me,{e}" for n, e in enumerate(emotion))]
    (tmp_path / "index.csv").write_text("\n".join(rows) + "\n")
    np.savez(tmp_path / "mediapipe_blendshapes.npz", names=np.array(arkit.NAMES), scores=faces + 0.01)
    with pytest.raises(CmetError, match=r"show 1 people.*ten people or more"):
        train_classifier(tmp_path)


def test_the_review_of_our_pictures_leaves_other_peoples_labels_alone():
    faces, emotion = labelled()
    names = np.array([f"own/{n}.jpg" for n in range(len(emotion))])
    pictures = Pictures(faces, emotion, names, names)
    assert set(pictures.reviewed().emotion) == set(emotion) >= {"fear", "disgusted", "contempt"}


def test_the_embedded_classifier_beats_chance_on_held_out_people(shared):
    pictures = load_pictures(shared / "data" / "faces" / "stills")
    kept = pictures.chosen(pictures.fold == 0)
    table = confusion(ExpressionClassifier.load(), kept.coefficients, kept.emotion)
    rates = accuracy(table)
    assert rates["all"] > 0.55  # eight answers: chance is 0.125; the labels are noisy
    assert rates["happy"] > 0.65 and rates["surprised"] > 0.4 and rates["angry"] > 0.4


def test_reliability_holds_figures_and_no_clip_names(tmp_path, monkeypatch):
    faces, emotion = labelled()
    figures = evaluate_emotion([clip("happy", 0.7)], fit_classifier(faces, emotion))
    figures |= {"clips": ["someone.mp4"], "settings": {"strength": 1.0}, "reliability": reliability(figures)}
    monkeypatch.setattr(assets, "ASSETS", tmp_path)
    monkeypatch.setattr(assets, "CHECKSUMS", tmp_path / "checksums.json")
    text = write_reliability(figures).read_text()
    assert json.loads(text)["clips"] == 1 and "someone" not in text
    assert json.loads(text)["emotions"]["happy"]["realised"] == pytest.approx(0.7, abs=1e-3)
