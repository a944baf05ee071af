"""Creases appear where and as far as the expression pushes the skin together, and nowhere else."""

import cv2
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
    opened = np.where(np.arange(arkit.COUNT) == arkit.INDEX["jawOpen"], 0.5, 0.0)
    assert creased(SKIN, HEAD, opened, SEEN) is SKIN


def test_a_scowl_furrows_the_skin_between_the_brows():
    shade = drawn(browDownLeft=0.5, browDownRight=0.5)
    rows, columns = np.nonzero(shade > 10)
    between = HEAD[[55, 285], 0]
    assert between.min() < columns.min() and columns.max() < between.max()
    assert rows.max() < HEAD[6, 1] and shade.max() < 60


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


def test_a_smile_that_goes_takes_its_fold_along_and_leaves_grain_and_hair():
    ends = np.array([HEAD[98, :2] + np.array([-5, 3]), HEAD[61, :2] + np.array([-12, 6])])
    y, x = ends.mean(0)[::-1].astype(int)
    folded = SKIN.copy()
    cv2.line(folded, *(tuple(end) for end in ends.astype(int).tolist()), (120, 110, 110), 4)
    grain = np.random.default_rng(1).normal(0, 3, SKIN.shape)
    folded = np.clip(cv2.GaussianBlur(folded, (0, 0), 1.5) + grain, 0, 255).astype(np.uint8)
    smileless = np.zeros(arkit.COUNT)
    smileless[arkit.columns(["mouthSmileLeft", "mouthSmileRight"])] = -0.6
    result = creased(folded, HEAD, smileless, SEEN)
    before, after = (180 - cv2.GaussianBlur(v, (0, 0), 2).mean(2)[y, x] for v in (folded, result))
    assert after < 0.4 * before
    assert np.array_equal(result[150:200, 190:210], folded[150:200, 190:210])
    near = np.s_[y - 10 : y + 10, x - 10 : x + 10]
    fine, own = ((v - cv2.GaussianBlur(v, (0, 0), 1))[near].std() for v in (result.astype(float), grain))
    assert fine > 0.9 * own
    folded[y - 20 : y + 20, x - 2 : x + 3] = 10  # a lock of hair
    assert creased(folded, HEAD, smileless, SEEN)[y, x].max() < 60  # it was 10, the skin is 180
