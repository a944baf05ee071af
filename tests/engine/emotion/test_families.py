"""Families of expressions: a silent face and a speaking one show an emotion by different actions, and no smile stays below."""

import numpy as np
import pytest

from cmet_engine import arkit
from cmet_engine.emotion import facs
from cmet_engine.emotion.edit import edit_track, expression_deltas
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
    spoken = edited(talking, "surprised")[closed]
    assert (spoken[:, arkit.INDEX["jawOpen"]] - spoken[:, arkit.INDEX["mouthClose"]]).max() < 0.05


@pytest.mark.parametrize("emotion", sorted(facs.FAMILIES))
def test_no_smile_stays_below(emotion: str):
    smiling = edited(face(talks=False, mouthSmile=0.6, cheekSquint=0.4), emotion)
    assert mean(smiling, "mouthSmile") < 0.05


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
