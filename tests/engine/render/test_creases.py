"""Creases appear where and as far as the expression pushes the skin together, and nowhere else."""

import numpy as np
import pytest

from cmet_engine import arkit
from cmet_engine.face.pose import Pose, denormalise, template
from cmet_engine.render.creases import creased

SIZE = 400
POSE = Pose(np.array([150.0]), np.eye(3)[None], np.array([[200.0, -200.0, 0.0]]))
HEAD = denormalise(template().points[None], POSE)[0]
SKIN = np.full((SIZE, SIZE, 3), 180, np.uint8)
SEEN = np.ones(478)


def drawn(**change: float) -> np.ndarray:
    """How much darker plain skin becomes [SIZE, SIZE]."""
    values = np.zeros(arkit.COUNT)
    for name, value in change.items():
        values[arkit.INDEX[name]] = value
    return 180.0 - creased(SKIN, HEAD, values, SEEN).mean(2)


def test_without_such_a_change_the_picture_is_the_same_array():
    assert creased(SKIN, HEAD, np.zeros(arkit.COUNT), SEEN) is SKIN
    lowered = np.where(np.arange(arkit.COUNT) == arkit.INDEX["browDownLeft"], -0.5, 0.0)
    assert creased(SKIN, HEAD, lowered, SEEN) is SKIN


def test_a_scowl_furrows_the_skin_between_the_brows():
    shade = drawn(browDownLeft=0.5, browDownRight=0.5)
    rows, columns = np.nonzero(shade > 10)
    between = HEAD[[55, 285], 0]
    assert between.min() < columns.min() and columns.max() < between.max()
    assert rows.max() < HEAD[6, 1] and shade.max() < 60


def test_raised_brows_wrinkle_the_forehead_across():
    shade = drawn(browInnerUp=0.8, browOuterUpLeft=0.8, browOuterUpRight=0.8)
    rows, columns = np.nonzero(shade > 8)
    assert rows.max() < HEAD[[105, 334], 1].min() and rows.min() > HEAD[10, 1]
    assert np.ptp(columns) > 3 * np.ptp(rows)


def test_it_is_as_strong_as_the_change():
    depths = [drawn(noseSneerLeft=v, noseSneerRight=v).max() for v in (0.2, 0.5, 0.9)]
    assert 0 < depths[0] < depths[1] < depths[2]


@pytest.mark.parametrize("name", ["noseSneer", "mouthSmile"])
def test_one_side_alone_creases_on_its_side(name: str):
    shade = drawn(**{name + "Left": 0.8})
    columns = np.nonzero(shade > 5)[1]
    assert np.sign(columns.mean() - HEAD[4, 0]) == np.sign(HEAD[263, 0] - HEAD[4, 0])
    mirrored = drawn(**{name + "Right": 0.8})
    assert abs(mirrored.sum() - shade.sum()) < 0.1 * shade.sum()


def test_skin_turned_away_gets_none():
    values = np.zeros(arkit.COUNT)
    values[arkit.columns(["noseSneerLeft", "noseSneerRight"])] = 0.9
    assert np.array_equal(creased(SKIN, HEAD, values, np.zeros(478)), SKIN)
