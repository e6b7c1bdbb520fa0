"""IsoFLOP profiles of losses whose best sizes are known."""

import math

import numpy as np
import pytest

from sc2jax.ablation.fits import Point, isoflop

FACTORS = (0.25, 0.5, 1.0, 2.0, 4.0)


def law(flops: float) -> float:
    """The best size that the synthetic losses have."""
    return 0.3 * flops**0.47


def losses(budgets, noise=0.0, seed=0, factors=FACTORS, curvature=0.05):
    generator = np.random.default_rng(seed)
    return [
        Point(
            flops * (1 + 0.02 * index),  # steps are whole numbers
            law(flops) * factor,
            3 - 0.1 * math.log(flops) + curvature * math.log(factor) ** 2 + noise * generator.standard_normal(),
        )
        for flops in budgets
        for index, factor in enumerate(factors)
    ]


def test_known_optima_are_found():
    fitted = isoflop(losses([1e12, 4e12, 2e13]))
    for profile, flops in zip(fitted.profiles, [1e12, 4e12, 2e13], strict=True):
        assert profile.best is not None
        assert profile.loss is not None
        assert profile.best.mean == pytest.approx(law(flops), rel=1e-6)
        assert profile.loss == pytest.approx(3 - 0.1 * math.log(flops), rel=1e-6)
        assert profile.at(4 * law(flops)) == pytest.approx(profile.loss + 0.05 * math.log(4) ** 2)
        assert profile.flops == pytest.approx(flops * math.prod(1 + 0.02 * index for index in range(5)) ** 0.2)
        assert (profile.best.low, profile.best.high) == pytest.approx((profile.best.mean, profile.best.mean), rel=1e-4)
    assert fitted.law is not None
    assert fitted.law.exponent.mean == pytest.approx(0.47, rel=1e-6)
    flops = fitted.profiles[1].flops
    assert fitted.law.at(flops) == pytest.approx(law(4e12), rel=1e-6)


def test_the_order_of_runs_does_not_matter():
    points = losses([1e12, 4e12], noise=0.005)
    assert isoflop(points[::-1]) == isoflop(points)


def test_the_interval_holds_the_truth_as_often_as_it_says():
    """Of 200 data sets with noise; five points and three coefficients leave little to tell the noise by."""
    held = [0, 0]
    for seed in range(200):
        fitted = isoflop(losses([1e12, 4e12, 2e13], noise=0.003, seed=seed), draws=400)
        (_, middle, _), power_law = fitted.profiles, fitted.law
        assert power_law is not None
        for place, (interval, truth) in enumerate(((middle.best, law(4e12)), (power_law.exponent, 0.47))):
            assert interval is not None
            assert interval.low is not None
            assert interval.high is not None
            held[place] += interval.low <= truth <= interval.high
    assert held[0] == pytest.approx(190, abs=9)
    assert held[1] >= 181  # three budgets of two degrees of freedom each tell more of the noise than one


def test_the_interval_is_as_wide_as_the_error_that_propagates():
    """Of a lowest point -b / 2a, by the variance of least squares with 5 - 3 degrees of freedom, for little noise."""
    points = losses([1e12], noise=1e-4)
    best = isoflop(points, draws=20_000).profiles[0].best
    sizes = np.log([point.parameters for point in points])
    centred = sizes - sizes.mean()
    design = np.stack([centred**2, centred, np.ones(5)], axis=1)
    (a, b, _), residual, *_ = np.linalg.lstsq(design, [point.loss for point in points], rcond=None)
    gradient = np.array([b / (2 * a**2), -1 / (2 * a), 0])
    deviation = math.sqrt(residual[0] / (5 - 3) * gradient @ np.linalg.inv(design.T @ design) @ gradient)
    assert best is not None
    assert best.half is not None
    assert best.half / best.mean == pytest.approx(4.303 * deviation, rel=0.1)  # Student's t with 2 degrees


def test_more_noise_gives_a_wider_interval():
    quiet, loud = (isoflop(losses([1e12, 1e13], noise=noise)).profiles[0].best for noise in (0.001, 0.004))
    assert quiet is not None
    assert loud is not None
    assert quiet.half is not None
    assert loud.half is not None
    assert loud.half > 2 * quiet.half


def test_budgets_are_told_apart_by_a_gap():
    """The FLOPs of one budget go up by 2 % a size here, 8 % in all; a quarter more is another budget."""
    assert [len(profile.points) for profile in isoflop(losses([1e12, 1.36e12])).profiles] == [5, 5]
    assert [len(profile.points) for profile in isoflop(losses([1e12, 1.34e12])).profiles] == [10]


def test_a_lowest_point_beyond_the_sizes_is_none():
    for factors in ((2, 3, 4, 5, 6), (0.1, 0.2, 0.3, 0.4, 0.5)):
        (profile,) = isoflop(losses([1e12], factors=factors)).profiles
        assert (profile.best, profile.loss, profile.why_not) == (None, None, "the lowest point lies beyond the sizes")


def test_a_parabola_that_opens_downwards_has_no_best_size():
    (profile,) = isoflop(losses([1e12], curvature=-0.05)).profiles
    assert (profile.best, profile.why_not) == (None, "the parabola opens downwards")


def test_three_sizes_are_too_few():
    fitted = isoflop(losses([1e12, 1e13], factors=(0.5, 1, 2)))
    assert [(profile.best, profile.why_not) for profile in fitted.profiles] == 2 * [(None, "fewer than 4 sizes")]
    assert fitted.law is None


def test_one_budget_gives_no_law():
    fitted = isoflop(losses([1e12]))
    assert fitted.profiles[0].best is not None
    assert fitted.law is None


def test_seeds_of_one_size_are_points_like_others_but_no_more_sizes():
    repeated = [point for point in losses([1e12], factors=(0.5, 1, 2)) for _ in range(3)]
    assert isoflop(repeated).profiles[0].why_not == "fewer than 4 sizes"


def test_where_many_draws_have_no_best_size_there_is_no_interval():
    """A parabola that is shallow beside its residuals: which way it opens is a matter of chance."""
    zigzag = [0.01, -0.04, 0.06, -0.04, 0.01]  # which no parabola can follow
    points = losses([1e12, 1e13], curvature=0.01)
    points = [Point(p.flops, p.parameters, p.loss + zigzag[index % 5]) for index, p in enumerate(points)]
    fitted = isoflop(points)
    for profile in fitted.profiles:
        assert profile.best is not None
        assert (profile.best.low, profile.best.high) == (None, None)
    assert fitted.law is not None
    assert (fitted.law.exponent.low, fitted.law.lows) == (None, ())


def test_without_runs_there_is_nothing():
    assert isoflop([]).profiles == ()
    assert isoflop([]).law is None


def test_equal_losses_have_no_best_size():
    """Of a flat line the lowest point would be one of rounding."""
    for loss in (2.0, 1.7 + 1e-13):
        (profile,) = isoflop([Point(1e12, size * 1e5, loss) for size in (1, 2, 3, 5, 8)]).profiles
        assert (profile.best, profile.why_not) == (None, "all sizes are equally good")
    points = [Point(1e12, size * 1e5, 2.0 + 1e-6 * abs(size - 3) ** 2) for size in (1, 2, 3, 4, 5)]
    assert isoflop(points).profiles[0].best is not None
