"""Pass@k against all choices of samples, and the bootstrap against the binomial distribution that it draws from."""

import itertools

import numpy as np
import pytest
import scipy.stats

from sc2jax.evaluation import pass_at_k as measured
from sc2jax.evaluation.pass_at_k import excludes_zero, mean_over_tasks, paired_difference, pass_at_k

EVERY = [(n, c, k) for n in range(1, 8) for c in range(n + 1) for k in range(1, n + 1)]


@pytest.mark.parametrize(("n", "c", "k"), EVERY)
def test_pass_at_k_is_the_share_of_choices_that_hold_a_correct_one(n, c, k):
    choices = list(itertools.combinations(range(n), k))
    assert pass_at_k(n, c, k) == sum(min(chosen) < c for chosen in choices) / len(choices)


@pytest.mark.parametrize(("n", "c", "k"), [(200, 1, 1), (200, 37, 10), (200, 101, 100), (200, 3, 100), (1000, 5, 10)])
def test_it_is_the_product_of_the_paper(n, c, k):
    """The numerically stable form that Chen et al. print beside the formula."""
    product = 1.0 if n - c < k else 1.0 - float(np.prod(1.0 - k / np.arange(n - c + 1, n + 1)))
    assert pass_at_k(n, c, k) == pytest.approx(product, rel=1e-12)


@pytest.mark.parametrize(("n", "c", "k"), [(5, 6, 1), (5, -1, 1), (5, 2, 6), (5, 2, 0)])
def test_what_has_no_estimate_is_refused(n, c, k):
    with pytest.raises(ValueError, match="pass@"):
        pass_at_k(n, c, k)


@pytest.mark.parametrize(("solved", "tasks"), [(1, 2), (3, 10), (52, 164), (217, 399), (1, 164)])
def test_the_interval_of_solved_tasks_is_that_of_the_binomial_distribution(solved, tasks):
    """Draws of 0 and 1 with replacement sum to a binomial number, whose quantiles are known."""
    found = mean_over_tasks([1.0] * solved + [0.0] * (tasks - solved), seed=0)
    assert found["value"] == pytest.approx(solved / tasks, rel=1e-9)
    assert found["tasks"] == tasks
    low, high = scipy.stats.binom.ppf([0.025, 0.975], tasks, solved / tasks)
    assert (found["low"] * tasks, found["high"] * tasks) == pytest.approx((low, high), abs=1.01)
    if solved == 52:  # where chance is far from moving a whole task
        assert scipy.stats.binom.cdf([39.5, 64.5], tasks, 52 / 164) == pytest.approx([0.02, 0.98], abs=0.02)


def test_the_ends_are_where_a_fortieth_of_the_draws_lies_beyond():
    values = np.random.default_rng(5).random(60)
    found = mean_over_tasks(list(values), seed=1)
    bootstrap = scipy.stats.bootstrap(
        (values,), np.mean, n_resamples=20000, method="percentile", rng=np.random.default_rng(2)
    )
    expected = bootstrap.confidence_interval
    assert (found["low"], found["high"]) == pytest.approx((expected.low, expected.high), abs=0.003)
    assert found["value"] == pytest.approx(values.mean(), abs=1e-9)


def test_the_ends_are_the_250th_draws_from_below_and_above(monkeypatch):
    order = np.random.default_rng(0).permutation(9999)
    monkeypatch.setattr(measured, "_resampled_sums", lambda *_: order.astype(np.int64) * 2**40)
    found = mean_over_tasks([0.5], seed=0)
    assert (found["low"], found["high"]) == (249, 9749)  # counted from 0, with 249 on either side


def test_tasks_alike_have_no_width():
    assert mean_over_tasks([1.0] * 9, seed=0) == {"value": 1.0, "low": 1.0, "high": 1.0, "tasks": 9}
    with pytest.raises(ValueError, match="no task"):
        mean_over_tasks([], seed=0)


def test_draws_follow_from_the_seed_alone_however_many_are_held_at_once(monkeypatch):
    values = [0.1, 0.7, 0.30000001, 1.0, 0.0]
    found = mean_over_tasks(values, seed=7)
    assert mean_over_tasks(values, seed=7) == found
    monkeypatch.setattr(measured, "_AT_ONCE", 13)
    assert mean_over_tasks(values, seed=7) == found
    many = list(np.random.default_rng(0).random(50))
    assert mean_over_tasks(many, seed=7) != mean_over_tasks(many, seed=8)


def test_a_difference_is_paired_by_task():
    """A run that solves one task of four more has the interval of that one task, however the others vary."""
    reference = {"a": 0.0, "b": 1.0, "c": 0.0, "d": 1.0, "only": 1.0}
    found = paired_difference({"d": 1.0, "c": 1.0, "a": 0.0, "b": 1.0, "other": 0.0}, reference, seed=0)
    assert found == mean_over_tasks([0.0, 0.0, 1.0, 0.0], seed=0)
    back = paired_difference(reference, {"d": 1.0, "c": 1.0, "a": 0.0, "b": 1.0}, seed=0)
    assert found is not None
    assert back is not None
    assert (back["value"], back["low"], back["high"]) == (-0.25, -found["high"], -found["low"])
    assert paired_difference({"a": 1.0}, {"b": 1.0}, seed=0) is None


@pytest.mark.parametrize(
    ("low", "high", "excludes"),
    [(0.1, 0.2, True), (-0.2, -0.1, True), (-0.1, 0.1, False), (0.0, 0.3, False), (-1, 0, False)],
)
def test_an_interval_on_one_side_of_zero_excludes_it(low, high, excludes):
    assert excludes_zero({"value": (low + high) / 2, "low": low, "high": high, "tasks": 3}) is excludes
