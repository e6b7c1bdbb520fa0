"""How training fares, as far as the step decides by it: a part of the state, so that a resumed run decides the same."""

import flax.struct
import jax
import jax.numpy as jnp

WINDOW = 128
"""Finished steps whose losses and gradient norms a spike is measured against, as in OLMo-core's `SkipStepOptimizer`."""


@flax.struct.dataclass
class Health:
    """Replicated scalars and two rings of the newest values, whose place for step n is n modulo their length."""

    loss_scale: jax.Array  # what the loss is multiplied by before gradients are taken; 1 without scaling
    good_steps: jax.Array  # since the scale was changed, int32
    overflows: jax.Array  # steps skipped for a gradient that is not finite under scaling, int32
    spikes: jax.Array  # steps skipped for a loss or gradient norm far above the newest ones, int32
    measured: jax.Array  # steps whose loss and norm went into the rings, int32
    losses: jax.Array  # (WINDOW,) float32
    gradient_norms: jax.Array  # (WINDOW,) float32


def init_health(loss_scale: float = 1.0) -> Health:
    """Before the first step."""
    none, values = jnp.zeros((), jnp.int32), jnp.zeros(WINDOW, jnp.float32)
    return Health(jnp.float32(loss_scale), none, none, none, none, values, values)
