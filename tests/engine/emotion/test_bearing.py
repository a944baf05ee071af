"""Head, gaze and blinks of a character go with its emotions."""

from fractions import Fraction

import numpy as np
import pytest

from cmet_engine import arkit
from cmet_engine.emotion.bearing import blinks, with_bearing
from cmet_engine.emotion.edit import edit_track
from cmet_engine.emotion.library import load_library
from cmet_engine.errors import InvalidInput
from cmet_engine.jobs.execute import execute
from cmet_engine.spec import EditSpec
from cmet_engine.timeline import EmotionTimeline
from cmet_engine.track import CoefficientTrack

LIDS = arkit.columns(["eyeBlinkLeft", "eyeBlinkRight"])


def blinking(seconds: float = 10, every: float = 1.0) -> CoefficientTrack:
    """A take of 30 frames a second that blinks once a second, for five frames."""
    frames = np.arange(int(30 * seconds))
    coefficients = np.zeros((len(frames), arkit.COUNT), np.float32)
    phase = (frames - 15) % int(30 * every)
    for frame, value in ((0, 0.5), (1, 0.9), (2, 1.0), (3, 0.7), (4, 0.3)):
        coefficients[np.ix_(phase == frame, LIDS)] = value
    return CoefficientTrack(Fraction(30), coefficients)


def count(track: CoefficientTrack) -> int:
    return len(list(blinks(track.coefficients[:, LIDS].min(1), 30)))


def closed(track: CoefficientTrack) -> float:
    """Seconds a blink takes."""
    return float((track.coefficients[:, LIDS].min(1) > 0.2).sum() / 30 / count(track))


def test_sadness_looks_down_and_blinks_slowly_and_fear_blinks_less():
    source, one = blinking(), np.ones(300)
    sad, fear = (with_bearing(source, {name: one}) for name in ("sad", "fear"))
    assert sad.head_rotation[150, 1] > 4 and sad.eye_rotation[150, [1, 3]].min() > 4
    assert sad["eyeLookDownLeft"][150] > 0.15 and sad["eyeLookUpLeft"][150] == 0
    assert count(source) == count(sad) == 10 and closed(sad) > 1.3 * closed(source)
    assert 3 <= count(fear) <= 5 and fear.head_rotation[150, 1] < -2
    neutral = with_bearing(source, {"charismatic": one})
    np.testing.assert_array_equal(neutral.coefficients, source.coefficients)
    np.testing.assert_array_equal(neutral.head_rotation, source.head_rotation)


def test_it_comes_and_goes_with_the_emotion_and_never_jumps():
    source = blinking()
    weight = np.where((np.arange(300) >= 100) & (np.arange(300) < 200), 1.0, 0.0)
    sad = with_bearing(source, {"sad": weight})
    pitch = sad.head_rotation[:, 1]
    assert pitch[150] > 4 and abs(pitch[50]) < 0.1 and abs(pitch[250]) < 0.1
    assert np.abs(np.diff(pitch)).max() < 0.6  # degrees a frame
    np.testing.assert_array_equal(sad.coefficients[:70], source.coefficients[:70])


def test_a_gaze_is_turned_from_where_it_was():
    source = blinking()
    source.coefficients[:, arkit.columns(["eyeLookUpLeft", "eyeLookUpRight"])] = 0.1
    sad = with_bearing(source, {"sad": np.ones(300)})
    assert sad["eyeLookUpLeft"][150] == 0 and 0.05 < sad["eyeLookDownRight"][150] < 0.15
    away = with_bearing(source, {"disgusted": np.ones(300)})  # the head to the right, the eyes stay
    assert away["eyeLookOutLeft"][150] > 0.05 and away["eyeLookInRight"][150] > 0.05


def test_off_unless_asked_for_and_never_of_footage(tmp_path):
    source = blinking(3)
    timeline, library = EmotionTimeline.parse(["sad"]), load_library()
    off, on = (edit_track(source, timeline, library, bearing=bearing) for bearing in (False, True))
    np.testing.assert_array_equal(off.head_rotation, source.head_rotation)
    np.testing.assert_array_equal(off["eyeLookDownLeft"], source["eyeLookDownLeft"])
    assert on.head_rotation[45, 1] > 3
    np.testing.assert_array_equal(on["browInnerUp"], off["browInnerUp"])
    take = source.save(tmp_path / "take.csv")
    result = execute(EditSpec(clip=take, emotions=("sad",), bearing=True), tmp_path / "out")
    assert CoefficientTrack.load(result.files["edited.npz"]).head_rotation[45, 1] > 3
    with pytest.raises(InvalidInput, match="footage keeps its own"):
        EditSpec.read({"clip": "take.mp4", "emotions": ["sad"], "bearing": True})
