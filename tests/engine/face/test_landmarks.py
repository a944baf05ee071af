"""The indices lie where their names say, on the mean face."""

import numpy as np
import pytest

from cmet_engine.face import landmarks as at
from cmet_engine.face.pose import template

X, Y = template().points[:, 0], template().points[:, 1]  # x to the right of the picture (the person's left), y up


@pytest.mark.parametrize(
    ("upper", "lower"),
    [*at.OPENINGS, (at.UPPER_LIP_OUTER, at.LOWER_LIP_OUTER)],
    ids=["right eye", "left eye", "inner lips", "outer lips"],
)
def test_both_edges_of_an_opening_run_from_corner_to_corner(upper, lower):
    assert (upper[0], upper[-1]) == (lower[0], lower[-1])
    assert (np.diff(X[list(upper)]) > 0).all() and (np.diff(X[list(lower)]) > 0).all()
    assert (Y[list(upper[1:-1])] > Y[list(lower[1:-1])]).all()


def test_left_and_right_are_the_persons_own():
    for left, right in (
        (at.LEFT_EYE_UPPER, at.RIGHT_EYE_UPPER),
        (at.LEFT_EYE_LOWER, at.RIGHT_EYE_LOWER),
        (at.LEFT_EYE_CORNERS, at.RIGHT_EYE_CORNERS),
    ):
        assert (X[list(left)] > 0).all() and (X[list(right)] < 0).all()
        assert set(template().mirror[list(left)]) == set(right)
    for pairs, upper, lower in zip(
        at.LIDS, (at.LEFT_EYE_UPPER, at.RIGHT_EYE_UPPER), (at.LEFT_EYE_LOWER, at.RIGHT_EYE_LOWER), strict=True
    ):
        assert {a for a, _ in pairs} <= set(upper) and {b for _, b in pairs} <= set(lower)


def test_irises_lie_in_their_eyes():
    for iris, corners in ((at.LEFT_IRIS, at.LEFT_EYE_CORNERS), (at.RIGHT_IRIS, at.RIGHT_EYE_CORNERS)):
        assert X[list(corners)].min() < X[iris] < X[list(corners)].max()
    assert range(at.LANDMARKS)[at.IRIS] == range(at.SKIN, at.LANDMARKS)


def test_the_outline_goes_around_the_face():
    oval = list(at.OVAL)
    assert oval[Y[oval].argmax()] == at.FOREHEAD and oval[Y[oval].argmin()] == at.CHIN_TIP
    assert set(at.EARS) <= set(oval)
    inner = [at.NOSE, *at.OUTER_EYE_CORNERS, *at.OUTER_LIP_CORNERS, *at.RED_OF_LIPS, *at.CHIN]
    assert X[oval].min() < X[inner].min() and X[inner].max() < X[oval].max()
    assert Y[oval].min() < Y[inner].min() and Y[inner].max() < Y[oval].max()
    assert (np.diff(Y[list(at.CHIN)]) < 0).all()
    for low, high in zip(at.FOREHEAD_LINES, at.FOREHEAD_LINES[1:], strict=False):
        assert Y[list(low)].mean() < Y[list(high)].mean() and (X[list(low)] < 0.1).all()
