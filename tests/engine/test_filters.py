"""Filters with NumPy alone give what SciPy's give."""

import numpy as np
import pytest
from scipy import ndimage

from cmet_engine import filters


@pytest.mark.parametrize("mode", ["reflect", "nearest"])
def test_filters_equal_scipys_bit_for_bit(mode: filters.Mode) -> None:
    random = np.random.default_rng(3)
    for count in (1, 2, 7, 60):
        table = random.normal(size=(count, 4)).astype(np.float32)
        line = random.normal(size=count)
        for sigma in (0.5, 1.0, 2.7, 12.0):
            for axis in (0, 1):
                expected = ndimage.gaussian_filter1d(table, sigma, axis=axis, mode=mode)
                np.testing.assert_array_equal(filters.gaussian_filter1d(table, sigma, axis, mode), expected)
            expected = ndimage.gaussian_filter1d(line, sigma, mode=mode)
            np.testing.assert_array_equal(filters.gaussian_filter1d(line, sigma, mode=mode), expected)
        weights = np.array([-0.1, 0.3, 0.6, 0.3, -0.1])
        expected = ndimage.convolve1d(table, weights, axis=0, mode=mode)
        np.testing.assert_array_equal(filters.convolve1d(table, weights, 0, mode), expected)
        for size in (2, 3, 8, 25):
            np.testing.assert_array_equal(
                filters.grey_opening(line, size, mode), ndimage.grey_opening(line, size, mode=mode)
            )
            np.testing.assert_array_equal(
                filters.maximum_filter1d(line, size, mode), ndimage.maximum_filter1d(line, size, mode=mode)
            )


def test_binary_filters_equal_scipys() -> None:
    which = np.random.default_rng(4).random(300) > 0.8
    for reach in (1, 5, 20):
        closed = ndimage.binary_closing(which, iterations=reach)
        np.testing.assert_array_equal(filters.binary_closing(which, reach), closed)
        grown = ndimage.binary_dilation(which, iterations=reach)
        np.testing.assert_array_equal(filters.binary_dilation(which, reach), grown)
