"""Families of expressions: a silent face and a speaking one show an emotion by different actions, and no smile stays below."""

import numpy as np
import pytest

from cmet_engine import arkit
from cmet_engine.emotion import facs
from cmet_engine.emotion.edit import edit_track, expression_deltas
from cmet_engine.emotion.families import on_other_side
from cmet_engine.emotion.library import load_library
from cmet_engine.emotion.protection import speaking
from cmet_engine.timeline import EmotionTimeline
from cmet_engine.track import CoefficientTrack

RATE, SECONDS = 25, 4
TIMES = np.arange(RATE * SECONDS) / RATE


def face(*, talks: bool, **held: float) -> np.ndarray:
    """Coefficients [N, 52] of a face that talks, with lips closed twice a second, or is silent."""
    values = np.zeros((len(TIMES), arkit.COUNT))
    for name, value in held.items():
        values[:, facs.columns_of(name)] = value
    if talks:
        values[:, arkit.INDEX["jawOpen"]] = np.maximum(0.2 + 0.3 * np.sin(2 * np.pi * 2 * TIMES), 0)
    return values


def edited(values: np.ndarray, emotion: str) -> np.ndarray:
    track = CoefficientTrack(RATE, values)
    return edit_track(track, EmotionTimeline.parse([f"{emotion}=1"]), load_library()).coefficients


def mean(values: np.ndarray, name: str) -> float:
    return float(values[RATE:-RATE, facs.columns_of(name)].mean())


def test_lips_that_open_and_close_speak_and_others_do_not():
    assert speaking(face(talks=True), RATE).min() > 0.95
    assert speaking(face(talks=False, jawOpen=0.2), RATE).max() < 0.05


def test_anger_presses_silent_lips_and_bares_the_lower_teeth_in_speech():
    silent, talking = (edited(face(talks=t), "angry") for t in (False, True))
    assert mean(silent, "mouthPress") > 0.3 > 0.15 > mean(talking, "mouthPress")
    assert mean(talking, "mouthLowerDown") > mean(silent, "mouthLowerDown") + 0.1
    assert min(mean(silent, "browDown"), mean(talking, "browDown")) > 0.5


def test_jaws_drop_in_surprise_where_nothing_is_said():
    silent, talking = face(talks=False), face(talks=True)
    closed = talking[:, arkit.INDEX["jawOpen"]] < 1e-6
    dropped = edited(silent, "surprised")
    assert mean(dropped, "jawOpen") - mean(dropped, "mouthClose") > 0.2
    talks = edited(talking, "surprised")
    spoken, pucker = talks[closed], arkit.INDEX["mouthPucker"]
    assert (spoken[:, arkit.INDEX["jawOpen"]] - spoken[:, arkit.INDEX["mouthClose"]]).max() < 0.05
    assert talks[:, pucker].max() > 0.25 and spoken[:, pucker].min() < 0.05  # round for p, b and m no more than before


@pytest.mark.parametrize("emotion", sorted(facs.FAMILIES))
def test_no_smile_stays_below(emotion: str):
    smiling = edited(face(talks=False, mouthSmile=0.6, cheekSquint=0.4), emotion)
    right = smiling[RATE:-RATE, arkit.INDEX["mouthSmileRight"]]  # contempt raises the left corner itself
    assert right.mean() < 0.05 and (emotion == "contempt" or mean(smiling, "mouthSmile") < 0.05)


@pytest.mark.parametrize(("emotion", "usual"), [("contempt", "Left"), ("sarcastic", "Right")])
def test_one_sided_expressions_lie_where_the_mouth_moves_more(emotion: str, usual: str):
    def sides(**held: float) -> dict[str, float]:
        values = face(talks=False, mouthSmile=0.2, browDown=0.1)
        for name, value in held.items():
            values[:, arkit.INDEX[name]] = value
        change = edited(values, emotion) - values
        return {side: float(change[RATE:-RATE, arkit.INDEX["mouthDimple" + side]].mean()) for side in ("Left", "Right")}

    other = "Right" if usual == "Left" else "Left"
    even, same = sides(), sides(**{"mouthSmile" + usual: 0.3})
    turned = sides(**{"mouthSmile" + other: 0.3})
    assert even[usual] > even[other] + 0.05 and same[usual] > same[other] + 0.05
    assert turned[other] > turned[usual] + 0.05


def test_only_one_sided_emotions_change_sides():
    lopsided = face(talks=False, mouthSmileRight=0.4, browOuterUpLeft=0.3)
    mirrored = lopsided[:, arkit.MIRROR]
    library = load_library()
    happy, contempt = library["happy"], library["contempt"]
    vectors = {"happy": happy, "contempt": contempt}
    assert not on_other_side(happy.vector, lopsided) and on_other_side(contempt.vector, lopsided)
    assert not on_other_side(contempt.vector, mirrored)
    here, there = (expression_deltas(vectors, values, TIMES) for values in (lopsided, mirrored))
    np.testing.assert_allclose(here["contempt"], there["contempt"][:, arkit.MIRROR], atol=1e-6)


def test_disgust_and_fear_are_not_mistaken_for_their_neighbours():
    silent = face(talks=False)
    angry, disgusted, fear, surprised, sad = (
        edited(silent, e) for e in ("angry", "disgusted", "fear", "surprised", "sad")
    )
    assert mean(disgusted, "browDown") < 0.65 * mean(angry, "browDown")
    assert mean(disgusted, "noseSneer") > mean(angry, "noseSneer") + 0.4
    assert mean(fear, "mouthStretch") > mean(surprised, "mouthStretch") + 0.3
    assert mean(fear, "eyeWide") > mean(sad, "eyeWide") + 0.3
    assert mean(surprised, "browOuterUp") > mean(fear, "browOuterUp") + 0.3


def test_half_of_an_emotions_vector_takes_half_of_its_family():
    library = load_library()
    whole = library["angry"].vector
    mixed = type(library["angry"])("mixed", (whole + library["happy"].vector) / 2)
    deltas = expression_deltas({"angry": library["angry"], "mixed": mixed}, face(talks=False), TIMES)
    assert 0.2 < mean(deltas["mixed"], "mouthPress") / mean(deltas["angry"], "mouthPress") < 0.95
