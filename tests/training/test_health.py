"""What the step decides by: the loss scale of float16, and spikes against a window written out in numpy."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sc2jax.model.params import Parameter
from sc2jax.parallel import rules
from sc2jax.training import health as health_module
from sc2jax.training.config import TrainingConfig
from sc2jax.training.health import WINDOW, after_step, init_health, overflowed, spiked
from sc2jax.training.optimizer import create_optimizer
from sc2jax.training.step import TrainState, train_step

TABLE = (Parameter(("scale",), (2,), (rules.EMBED,), "ones", False),)
TRAINING = TrainingConfig(steps=1000, batch_size=1, warmup_tokens=0, peak_learning_rate=0.1, max_gradient_norm=1e6)
STEP = 3
"""Of the run, when it takes the one step of a test."""

SCALED = dataclasses.replace(init_health(scaled=True), loss_scale=jnp.float32(2.0**15))
"""Within float16, whose largest number is below 2**16."""


def state_of(health):
    params = {"scale": jnp.array([2.0, 3.0])}
    return TrainState(jnp.int32(STEP), params, create_optimizer(TRAINING, TABLE).init(params), {}, health)


def loss(params, frozen, batch, key):
    """`slope` times the sum of the parameters plus `height`; its gradient is computed in float16."""
    slope = batch["slope"][0, 0]
    product = (params["scale"].astype(jnp.float16) * slope.astype(jnp.float16)).astype(jnp.float32)
    return jnp.sum(product) + batch["height"][0, 0], jnp.ones(())


def stepped(health, *, slope=1.0, height=0.0, scaled=False, **changes):
    batch = {"slope": jnp.full((1, 1), slope), "height": jnp.full((1, 1), height)}
    training = dataclasses.replace(TRAINING, **changes)
    return train_step(state_of(health), batch, TABLE, loss, training, row_length=1, seed=0, scaled=scaled)


def assert_untouched(state):
    before = state_of(init_health(scaled=False))
    jax.tree.map(
        np.testing.assert_array_equal,
        (state.params, state.optimizer_state),
        (before.params, before.optimizer_state),
    )
    assert int(state.step) == STEP + 1  # it counts as a step, whose rows are passed


def test_the_scale_does_not_change_the_update():
    scaled, metrics = stepped(SCALED, slope=0.5, scaled=True)
    plain, expected = stepped(init_health(scaled=False), slope=0.5)
    assert not metrics["overflowed"]
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6), scaled.params, plain.params)
    for name in ("loss", "gradient_norm", "tokens", "learning_rate"):
        np.testing.assert_allclose(metrics[name], expected[name], rtol=1e-6)
    assert float(metrics["loss_scale"]) == 2.0**15
    assert float(expected["loss_scale"]) == 1.0


def test_the_scale_keeps_gradients_that_float16_would_lose():
    tiny = 1e-9  # float16's smallest is 6e-8

    def shrunk(params, frozen, batch, key):
        total, tokens = loss(params, frozen, batch, key)
        return total * tiny, tokens

    batch = {"slope": jnp.ones((1, 1)), "height": jnp.zeros((1, 1))}
    norms = [
        float(
            train_step(
                state_of(SCALED if scaled else init_health(scaled=False)),
                batch,
                TABLE,
                shrunk,
                TRAINING,
                row_length=1,
                seed=0,
                scaled=scaled,
            )[1]["gradient_norm"]
        )
        for scaled in (True, False)
    ]
    np.testing.assert_allclose(norms[0], tiny * np.sqrt(2), rtol=1e-2)
    assert norms[1] == 0.0


def test_an_overflow_skips_the_step_and_halves_the_scale():
    health = dataclasses.replace(init_health(scaled=True), good_steps=jnp.int32(7))
    state, metrics = stepped(health, slope=1.0, scaled=True)  # 2**16 is infinite in float16
    assert_untouched(state)
    assert (bool(metrics["overflowed"]), bool(metrics["spiked"]), int(metrics["skipped_steps"])) == (True, False, 1)
    assert float(metrics["gradient_norm"]) == 0.0
    assert np.isfinite(metrics["loss"])
    after = state.health
    assert (float(after.loss_scale), int(after.good_steps), int(after.overflows)) == (2.0**15, 0, 1)
    assert int(after.measured) == 0  # a gradient that is not finite is no measure of others
    state, metrics = stepped(after, slope=0.5, scaled=True)
    assert not metrics["overflowed"]
    assert int(state.health.overflows) == int(metrics["skipped_steps"]) == 1


def test_what_no_scale_can_help_is_not_skipped():
    """A loss that is not finite, or a gradient at a scale of 1: the parameters are lost, and the loop ends."""
    _, metrics = stepped(init_health(scaled=True), height=np.inf, scaled=True)
    assert not metrics["overflowed"]
    assert not np.isfinite(metrics["loss"])
    for scale in (1.0, 2.0):
        health = dataclasses.replace(init_health(scaled=True), loss_scale=jnp.float32(scale))
        assert bool(overflowed(health, jnp.float32(1.0), jnp.float32(np.inf))) == (scale > 1.0)
        assert not overflowed(health, jnp.float32(1.0), jnp.float32(1.0))
    for value in (np.inf, np.nan):
        _, metrics = stepped(init_health(scaled=False), height=value, skip_spikes=3.0)
        assert not metrics["spiked"]
        assert not np.isfinite(metrics["loss"])


def test_the_scale_doubles_after_two_thousand_good_steps_and_no_sooner():
    health, good = init_health(scaled=True), (jnp.float32(1.0), jnp.float32(1.0))
    step = jax.jit(lambda health, overflow: after_step(health, *good, overflow, jnp.bool(False), scaled=True))
    no, yes = jnp.bool(False), jnp.bool(True)
    scales = []
    for number in range(1, 4001):
        health = step(health, no)
        if number in (1999, 2000, 3999, 4000):
            scales.append(float(health.loss_scale))
    assert scales == [2.0**16, 2.0**17, 2.0**17, 2.0**18]
    for _ in range(1999):
        health = step(health, no)
    health = step(health, yes)
    assert float(health.loss_scale) == 2.0**17
    for _ in range(1999):
        health = step(health, no)
    assert float(health.loss_scale) == 2.0**17
    limit = dataclasses.replace(health, loss_scale=jnp.float32(2.0**24))
    assert float(step(limit, no).loss_scale) == 2.0**24
    least = dataclasses.replace(health, loss_scale=jnp.float32(1.0))
    assert float(step(least, yes).loss_scale) == 1.0


def test_the_scale_of_other_types_stays_1():
    health = dataclasses.replace(init_health(scaled=False), good_steps=jnp.int32(health_module.GOOD_STEPS - 1))
    state, _ = stepped(health)
    assert float(state.health.loss_scale) == 1.0


@pytest.mark.parametrize("kind", ["loss", "gradient norm"])
def test_a_spike_is_what_lies_so_many_deviations_above_the_newest_steps(kind):
    """Against the mean and the unbiased deviation of a plain list, at a threshold that both sides of are tried."""
    draw = np.random.default_rng(0)
    history = draw.normal(5.0, 0.2, (300, 2)).astype(np.float32)
    step = jax.jit(lambda health, loss, norm: after_step(health, loss, norm, no, no, scaled=False))
    health, no = init_health(scaled=False), jnp.bool(False)
    which = 0 if kind == "loss" else 1
    for number in range(300):
        if number in (WINDOW // 2 - 1, WINDOW // 2, WINDOW - 1, WINDOW, WINDOW + 1, 299):
            newest = history[max(0, number - WINDOW) : number]
            edge = newest[:, which].mean() + 3.0 * newest[:, which].std(ddof=1)
            for above in (False, True):
                value = history[number].copy()
                value[:] = newest.mean(axis=0)
                value[which] = edge + (0.001 if above else -0.001)
                found = bool(spiked(health, jnp.float32(value[0]), jnp.float32(value[1]), 3.0))
                assert found == (above and number >= WINDOW // 2), (number, above)
        health = step(health, *history[number])
    assert int(health.measured) == 300


def test_a_spike_skips_the_update_is_counted_and_enters_the_window():
    health = init_health(scaled=False)
    values = jnp.tile(jnp.array([0.9, 1.1]), WINDOW // 2)
    health = dataclasses.replace(
        health, measured=jnp.int32(WINDOW), losses=5.0 + values, gradient_norms=values * np.sqrt(2)
    )
    calm, metrics = stepped(health, height=1.0, skip_spikes=4.0)
    assert not metrics["spiked"]
    free, _ = stepped(health, height=1.0)
    jax.tree.map(
        np.testing.assert_array_equal, (calm.params, calm.optimizer_state), (free.params, free.optimizer_state)
    )
    state, metrics = stepped(health, height=2.0, skip_spikes=4.0)
    assert_untouched(state)
    assert (bool(metrics["spiked"]), int(metrics["skipped_steps"]), int(state.health.spikes)) == (True, 1, 1)
    assert float(metrics["loss"]) == 7.0
    assert float(state.health.losses[0]) == 7.0
    assert np.any(np.asarray(free.params["scale"]) != [2.0, 3.0])
    assert [int(leaf) for leaf in jax.tree.leaves(free.optimizer_state) if leaf.dtype == jnp.int32] == [1]
    unguarded, metrics = stepped(health, height=2.0)
    assert not metrics["spiked"]
    assert np.any(np.asarray(unguarded.params["scale"]) != [2.0, 3.0])
    # A loss that stays there is none for long.
    spikes = 0
    for _ in range(WINDOW):
        skip = spiked(health, jnp.float32(7.0), jnp.float32(1.4), 4.0)
        spikes += int(skip)
        health = after_step(health, jnp.float32(7.0), jnp.float32(1.4), jnp.bool(False), skip, scaled=False)
    assert 0 < spikes < WINDOW // 8
