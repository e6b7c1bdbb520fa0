"""The learning rate as a function of the step: beside optax's own schedules and the published shapes."""

import dataclasses

import numpy as np
import optax
import pytest

from sc2jax.errors import UserError
from sc2jax.training.config import TrainingConfig
from sc2jax.training.schedule import fitted_training, learning_rate_schedule

ROW = 100
"""Positions of a row; a step of two rows has 200."""

COSINE = TrainingConfig(
    steps=0, batch_size=2, peak_learning_rate=3e-4, warmup_tokens=10 * 200, horizon_tokens=110 * 200
)
PLATEAU = dataclasses.replace(COSINE, schedule="plateau", decay_tokens=20 * 200)
ENDLESS = dataclasses.replace(COSINE, schedule="plateau", horizon_tokens=0, steps=50)


def rates(training, steps):
    schedule = learning_rate_schedule(training, ROW)
    return [float(np.asarray(schedule(step))) for step in steps]


def test_the_cosine_is_optax_s_and_stays_at_its_end():
    theirs = optax.warmup_cosine_decay_schedule(0.0, 3e-4, 10, 110, 3e-5)
    steps = range(130)
    np.testing.assert_allclose(rates(COSINE, steps), [float(np.asarray(theirs(step))) for step in steps], rtol=1e-5)
    np.testing.assert_allclose(rates(COSINE, (0, 5, 10, 60, 110)), [0, 1.5e-4, 3e-4, (3e-4 + 3e-5) / 2, 3e-5], 1e-5)


def test_the_plateau_rises_stays_and_falls_linearly():
    theirs = optax.join_schedules(
        [
            optax.linear_schedule(0.0, 3e-4, 10),
            optax.constant_schedule(3e-4),
            optax.linear_schedule(3e-4, 3e-5, 20),
        ],
        [10, 90],
    )
    steps = range(130)
    np.testing.assert_allclose(rates(PLATEAU, steps), [float(np.asarray(theirs(step))) for step in steps], rtol=1e-5)
    np.testing.assert_allclose(
        rates(PLATEAU, (5, 10, 89, 90, 100, 110)), np.array([1.5, 3, 3, 3, 1.65, 0.3]) * 1e-4, 1e-6
    )


def test_a_plateau_without_decay_has_no_end():
    np.testing.assert_allclose(rates(ENDLESS, (5, 10, 50, 10**9)), [1.5e-4, 3e-4, 3e-4, 3e-4])
    assert fitted_training(ENDLESS, ROW) == ENDLESS  # how far it goes is no part of it
    assert fitted_training(dataclasses.replace(ENDLESS, steps=10**9), ROW).horizon_tokens == 0


def test_nothing_has_to_be_long():
    flat = dataclasses.replace(COSINE, warmup_tokens=0, horizon_tokens=1)
    np.testing.assert_allclose(rates(flat, (0, 1)), [3e-4, 3e-5], rtol=1e-6)
    constant = dataclasses.replace(ENDLESS, warmup_tokens=0)
    np.testing.assert_allclose(rates(constant, (0, 1)), [3e-4, 3e-4], rtol=1e-6)
    falling = dataclasses.replace(PLATEAU, warmup_tokens=0, decay_tokens=PLATEAU.horizon_tokens)
    np.testing.assert_allclose(rates(falling, (0, 55, 110)), [3e-4, 1.65e-4, 3e-5], rtol=1e-6)


@pytest.mark.parametrize("training", [COSINE, PLATEAU], ids=["cosine", "plateau"])
def test_the_rate_of_a_step_does_not_follow_from_how_far_the_run_goes(training):
    stopped = dataclasses.replace(training, steps=60)
    assert rates(stopped, range(60)) == rates(training, range(60))
    # Nor from the batch, but for the tokens that it comes to.
    twice = dataclasses.replace(training, batch_size=4)
    np.testing.assert_allclose(rates(twice, range(55)), rates(training, range(0, 110, 2)), rtol=1e-5)


def test_steps_and_horizon_follow_from_each_other():
    whole = fitted_training(COSINE, ROW)
    assert (whole.steps, whole.horizon_tokens) == (110, 22_000)
    assert fitted_training(whole, ROW) == whole
    odd = fitted_training(dataclasses.replace(COSINE, horizon_tokens=22_001), ROW)
    assert (odd.steps, odd.horizon_tokens) == (111, 22_001)
    early = fitted_training(dataclasses.replace(COSINE, steps=7), ROW)
    assert (early.steps, early.horizon_tokens) == (7, 22_000)
    counted = fitted_training(dataclasses.replace(COSINE, steps=70, horizon_tokens=0), ROW)
    assert (counted.steps, counted.horizon_tokens) == (70, 14_000)
    counted = fitted_training(dataclasses.replace(PLATEAU, steps=70, horizon_tokens=0), ROW)
    assert (counted.steps, counted.horizon_tokens) == (70, 14_000)


@pytest.mark.parametrize(
    ("training", "change", "hint"),
    [
        (COSINE, {"steps": 111}, "111 lies beyond the horizon: .* 22,000, which are 110 steps of 200 tokens"),
        (PLATEAU, {"steps": 111}, "111 lies beyond the horizon"),
        (COSINE, {"horizon_tokens": 0}, "set training.steps or training.horizon_tokens"),
        (ENDLESS, {"steps": 0}, "set training.steps$"),
        (COSINE, {"steps": 10, "horizon_tokens": 0}, "warmup_tokens is 2,000; it must lie below the horizon, 2,000"),
        (PLATEAU, {"steps": 29, "horizon_tokens": 0}, r"\+ training.decay_tokens is 6,000; it must not exceed"),
        (COSINE, {"horizon_tokens": 10**15}, "more than the 1,000,000,000 that can be counted"),
    ],
)
def test_a_run_that_its_schedule_does_not_cover_is_refused(training, change, hint):
    with pytest.raises(UserError, match=hint):
        fitted_training(dataclasses.replace(training, **change), ROW)


@pytest.mark.parametrize(
    ("change", "hint"),
    [
        ({"decay_tokens": 100}, "a cosine decays all the way"),
        ({"warmup_tokens": 22_000}, "must lie below the horizon, 22,000 tokens"),
        ({"schedule": "plateau"}, "a plateau without a decay has no horizon"),
        ({"schedule": "plateau", "decay_tokens": 20_001}, "is 22,001; it must not exceed the horizon"),
    ],
)
def test_parts_that_do_not_fit_together_are_refused(change, hint):
    with pytest.raises(UserError, match=hint):
        dataclasses.replace(COSINE, **change)


def test_parts_may_fill_the_whole_horizon():
    full = dataclasses.replace(COSINE, schedule="plateau", decay_tokens=20_000)
    np.testing.assert_allclose(rates(full, (0, 10, 60, 110)), [0, 3e-4, 1.65e-4, 3e-5], rtol=1e-6)
