"""The expression of a picture, another clip or a take, put on an actor."""

from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np
import pytest

from cmet_engine import arkit
from cmet_engine.emotion.edit import edit_track
from cmet_engine.emotion.likeness import Likeness
from cmet_engine.errors import InvalidInput
from cmet_engine.jobs.execute import execute
from cmet_engine.media.reader import VideoReader
from cmet_engine.models.assets import ASSETS
from cmet_engine.spec import EditSpec
from cmet_engine.timeline import EmotionTimeline
from cmet_engine.track import CoefficientTrack


def take(seconds: float = 4.0, **values: float | np.ndarray) -> CoefficientTrack:
    """A take of 25 frames a second whose jaw speaks three syllables a second; other coefficients by name without a side."""
    frames = np.arange(int(25 * seconds))
    coefficients = np.zeros((len(frames), arkit.COUNT), np.float32)
    coefficients[:, arkit.INDEX["jawOpen"]] = 0.2 * np.maximum(np.sin(2 * np.pi * 3 * frames / 25), 0)
    for name, value in values.items():
        columns = [k for k, known in enumerate(arkit.NAMES) if known in (name, f"{name}Left", f"{name}Right")]
        coefficients[:, columns] = np.reshape(value, (-1, 1))
    return CoefficientTrack(Fraction(25), coefficients)


def edited(actor: CoefficientTrack, reference: Path, text: str = "like", mode: str = "add") -> CoefficientTrack:
    return edit_track(actor, EmotionTimeline.parse([text]), {}, mode=mode, likeness=Likeness.of(reference))


def test_an_expression_is_put_on_and_what_pulls_against_it_gives_way(tmp_path):
    actor = take(browOuterUp=0.4, mouthSmile=0.5)
    scowl = take(browDown=0.9, mouthFrown=0.5).save(tmp_path / "scowl.csv")
    result = edited(actor, scowl)
    assert 0.5 < result["browDownLeft"][50] < 0.75  # the part that neutral faces hold is not the expression
    assert result["browOuterUpRight"][50] < 0.15 and result["mouthSmileLeft"][50] < 0.2
    half = edited(actor, scowl, "like=0.5@1-")["browDownLeft"]
    assert half[5] == 0 and 0.2 < half[75] < 0.4
    np.testing.assert_array_equal(edited(actor, scowl, "like=0").coefficients, actor.coefficients)


def test_it_is_followed_in_time_and_what_it_says_is_not(tmp_path):
    rising = take(2.0, browInnerUp=np.linspace(0, 1, 50)).save(tmp_path / "rising.npz")
    actor = take(4.0)
    result = edited(actor, rising)
    rise = result["browInnerUp"]
    assert rise[5] < 0.1 < rise[25] < rise[45] and rise[75] < 0.05  # it lasts two seconds
    assert abs(result["jawOpen"] - actor["jawOpen"]).max() < 0.12
    assert Likeness.of(rising).said_beside("rising.npz", 4.0) == [
        "rising.npz lasts 2.0 s, the clip 4.0 s; after it the actor's own expression returns."
    ]
    assert not Likeness.of(rising).said_beside("rising.npz", 2.0)


def test_a_picture_is_held_and_said_to_be_small_or_neutral(tmp_path):
    picture = next(iter(VideoReader(ASSETS / "sample" / "talking_head.mp4"))).image
    cv2.imwrite(str(tmp_path / "face.png"), cv2.resize(picture, (120, 120))[..., ::-1])
    found = Likeness.of(tmp_path / "face.png")
    assert found.expression.shape == (1, arkit.COUNT) and not found.moving
    words = " ".join(found.messages)
    assert "pixels wide" in words and ("hardly shows" in words) == bool(found.expression.max() < 0.15)
    cv2.imwrite(str(tmp_path / "wall.png"), np.full((120, 120, 3), 90, np.uint8))
    with pytest.raises(InvalidInput, match=r"wall\.png"):
        Likeness.of(tmp_path / "wall.png")


def test_a_take_is_edited_like_another(tmp_path):
    clip = take().save(tmp_path / "take.csv")
    smile = take(2.0, mouthSmile=0.8).save(tmp_path / "smile.csv")
    result = execute(EditSpec(clip=clip, like=smile), tmp_path / "out")
    assert CoefficientTrack.load(result.files["edited.npz"])["mouthSmileLeft"][25] > 0.5
    assert any("smile.csv lasts 2.0 s" in message for message in result.messages)
    assert "smile.csv" in (tmp_path / "out" / "report.html").read_text()
    with pytest.raises(InvalidInput, match="add --like FILE"):
        execute(EditSpec(clip=clip, emotions=("like",)), tmp_path / "other")
