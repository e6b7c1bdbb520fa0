"""How training fares, as far as the step decides by it: a part of the state, so that a resumed run decides the same."""

import flax.struct
import jax
import jax.numpy as jnp

WINDOW = 128
"""Steps whose losses and gradient norms a spike is measured against, as in OLMo-core's `SkipStepOptimizer`."""

FIRST_SCALE, GREATEST_SCALE, GOOD_STEPS = 2.0**16, 2.0**24, 2000
"""Where a loss scale begins, where it ends, and the steps without an overflow after which it doubles.

First and last are those of PyTorch's `GradScaler`.
"""


@flax.struct.dataclass
class Health:
    """Replicated scalars, and two rings in which the n-th measured step has place n modulo their length."""

    loss_scale: jax.Array  # what the loss is multiplied by before gradients are taken; 1 without scaling
    good_steps: jax.Array  # since the scale was changed, int32
    overflows: jax.Array  # steps skipped for a gradient that is not finite under scaling, int32
    spikes: jax.Array  # steps skipped for a loss or a gradient norm far above the newest ones, int32
    measured: jax.Array  # steps whose loss and norm went into the rings, int32
    losses: jax.Array  # (WINDOW,) float32
    gradient_norms: jax.Array  # (WINDOW,) float32


def init_health(scaled: bool) -> Health:
    """Before the first step; `scaled` if the computation's type needs a loss scale, as float16 does."""
    none, values = jnp.zeros((), jnp.int32), jnp.zeros(WINDOW, jnp.float32)
    return Health(jnp.float32(FIRST_SCALE if scaled else 1.0), none, none, none, none, values, values)


def overflowed(health: Health, loss: jax.Array, gradient_norm: jax.Array) -> jax.Array:
    """Whether gradients are infinite or not a number because the loss scale is too large for them.

    With a loss that is not finite itself, or at a scale of 1, it is no matter of the scale, and nothing is skipped.
    """
    return jnp.isfinite(loss) & ~jnp.isfinite(gradient_norm) & (health.loss_scale > 1.0)


def spiked(health: Health, loss: jax.Array, gradient_norm: jax.Array, deviations: float) -> jax.Array:
    """Whether loss or gradient norm lies more than `deviations` standard deviations above the mean of the newest ones.

    Nothing does before half of the window was measured. What is not finite is no spike: training has failed then.
    """
    known = jnp.arange(WINDOW) < health.measured

    def is_above(value: jax.Array, ring: jax.Array) -> jax.Array:
        count = jnp.maximum(jnp.sum(known), 2)
        mean = jnp.sum(ring, where=known) / count
        deviation = jnp.sqrt(jnp.sum(jnp.square(ring - mean), where=known) / (count - 1))
        return value - mean > deviations * deviation

    above = is_above(loss, health.losses) | is_above(gradient_norm, health.gradient_norms)
    return above & (health.measured >= WINDOW // 2) & jnp.isfinite(loss + gradient_norm)


def after_step(
    health: Health, loss: jax.Array, gradient_norm: jax.Array, overflow: jax.Array, spike: jax.Array, *, scaled: bool
) -> Health:
    """The health after a step with these figures, of which `overflow` and `spike` say whether it was skipped for that.

    A spike enters the window as well: a loss that stays where it jumped to is soon none any more.
    """
    finite = jnp.isfinite(loss + gradient_norm)
    place = health.measured % WINDOW

    def put(ring: jax.Array, value: jax.Array) -> jax.Array:
        return ring.at[place].set(jnp.where(finite, value, ring[place]))

    good = jnp.where(overflow, 0, health.good_steps + 1)
    grown = good >= GOOD_STEPS
    scale = jnp.where(overflow, health.loss_scale / 2, jnp.where(grown, health.loss_scale * 2, health.loss_scale))
    return Health(
        loss_scale=jnp.clip(scale, 1.0, GREATEST_SCALE) if scaled else health.loss_scale,
        good_steps=jnp.where(grown, 0, good),
        overflows=health.overflows + overflow,
        spikes=health.spikes + spike,
        measured=health.measured + finite,
        losses=put(health.losses, loss),
        gradient_norms=put(health.gradient_norms, gradient_norm),
    )
