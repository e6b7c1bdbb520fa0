"""Intervals of means, against scipy's own and a table of Student's t."""

import math

import numpy as np
import pytest
import scipy.stats

from sc2jax.ablation.intervals import Interval, mean_interval, paired_difference


@pytest.mark.parametrize("values", [[1.0, 2.0], [2.25, 2.31, 2.27], list(range(9)), [-3.0, 5.0, 5.0, 1.0]])
def test_the_interval_of_a_mean_is_that_of_scipy(values):
    found = mean_interval(values)
    expected = scipy.stats.ttest_1samp(values, 0).confidence_interval(0.95)
    assert found.mean == pytest.approx(np.mean(values))
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high))


def test_three_seeds_take_four_standard_errors():
    """The 97.5 % point of Student's t with two degrees of freedom is 4.303, as every table says."""
    found = mean_interval([1.0, 2.0, 3.0])
    assert found.half == pytest.approx(4.303 / math.sqrt(3), rel=1e-3)


def test_one_value_has_no_interval():
    found = mean_interval([7.0])
    assert found == Interval(7.0)
    assert found.half is None
    assert not found.excludes_zero


@pytest.mark.parametrize(
    ("low", "high", "excludes"), [(0.1, 0.2, True), (-0.2, -0.1, True), (-0.1, 0.1, False), (0.0, 1.0, False)]
)
def test_an_interval_on_one_side_of_zero_excludes_it(low, high, excludes):
    assert Interval((low + high) / 2, low, high).excludes_zero is excludes


def test_a_difference_is_paired_by_seed():
    reference, values = {0: 1.0, 1: 5.0, 2: 9.0}, {2: 9.3, 1: 5.1, 7: 100.0, 0: 1.2}
    found = paired_difference(values, reference)
    expected = scipy.stats.ttest_rel([1.2, 5.1, 9.3], [1.0, 5.0, 9.0]).confidence_interval(0.95)
    assert found is not None
    assert (found.mean, found.low, found.high) == pytest.approx((0.2, expected.low, expected.high))


def test_without_a_common_seed_there_is_no_difference():
    assert paired_difference({0: 1.0}, {1: 2.0}) is None
