"""How far a run goes, and the learning rate of each of its steps: functions of the step alone, laid out over tokens.

Tokens are positions of rows, padding included, so that the schedule does not follow from what the rows hold. A run that
was stopped, or told to stop early, has in each step the learning rate that it would have had.
"""

import dataclasses
import math

import jax
import jax.numpy as jnp
import optax

from sc2jax.errors import UserError
from sc2jax.training.config import MOST_STEPS, PLATEAU, TrainingConfig


def tokens_per_step(training: TrainingConfig, row_length: int) -> int:
    """Positions of the rows of a step."""
    return training.batch_size * row_length


def fitted_training(training: TrainingConfig, row_length: int) -> TrainingConfig:
    """The settings with `steps` and `horizon_tokens` filled in where they are 0, each from the other.

    A horizon that is no multiple of a step's tokens is reached within the last step: the steps are rounded up. A
    plateau that never decays has no horizon, and its `horizon_tokens` stays 0.

    Args:
        training: the settings.
        row_length: positions of a row.

    Raises:
        UserError: neither says how far to run, the steps go beyond the horizon or beyond what can be counted, or the
            horizon leaves no room for warm-up and decay.
    """
    per_step = tokens_per_step(training, row_length)
    endless = training.schedule == PLATEAU and not training.decay_tokens
    horizon, steps = training.horizon_tokens, training.steps
    if not horizon and not steps:
        also = "" if endless else " or training.horizon_tokens"
        raise UserError(f"training.steps is 0 and nothing else says how far to run; set training.steps{also}")
    if not horizon and not endless:
        horizon = steps * per_step
    reached = -(-horizon // per_step)
    if not steps:
        steps = reached
    if steps > MOST_STEPS:
        raise UserError(
            f"training.horizon_tokens {horizon:,} are {steps:,} steps of {per_step:,} tokens, more than the "
            f"{MOST_STEPS:,} that can be counted; use a larger training.batch_size"
        )
    if not endless and steps > reached:
        raise UserError(
            f"training.steps {steps:,} lies beyond the horizon: the learning rate is laid out over "
            f"training.horizon_tokens {horizon:,}, which are {reached:,} steps of {per_step:,} tokens; run to "
            f"{reached:,} steps at most, or train anew with a longer horizon"
        )
    return dataclasses.replace(training, steps=steps, horizon_tokens=horizon)


def learning_rate_schedule(training: TrainingConfig, row_length: int) -> optax.Schedule:
    """The learning rate of a step, from the number of the steps before it.

    Linear warm-up from 0 to the peak; then a cosine down to the last fraction of the peak at the horizon (StarCoder2
    paper, section 6.2), or a plateau at the peak and a linear decay to that fraction over the last `decay_tokens`
    before the horizon: constant then decaying as in StarCoder2's long-context stage, and with a warm-up the
    warmup-stable-decay schedule of MiniCPM (arXiv 2404.06395).

    Raises:
        UserError: as `fitted_training`.
    """
    training = fitted_training(training, row_length)
    per_step, peak = tokens_per_step(training, row_length), training.peak_learning_rate
    last = peak * training.final_learning_rate_fraction
    # In steps, which need not be whole. What has no length is passed at its end, whatever it is divided by.
    warmup, decay = training.warmup_tokens / per_step, training.decay_tokens / per_step
    horizon = training.horizon_tokens / per_step if training.horizon_tokens else math.inf

    def learning_rate(step: jax.typing.ArrayLike) -> jax.Array:
        done = jnp.asarray(step, jnp.float32)
        if training.schedule == PLATEAU:
            fallen = jnp.clip((done - (horizon - decay)) / decay, 0.0, 1.0) if decay else jnp.float32(0)
        else:
            passed = jnp.clip((done - warmup) / (horizon - warmup), 0.0, 1.0)
            fallen = (1 - jnp.cos(jnp.pi * passed)) / 2
        falling = peak * (1 - fallen) + last * fallen
        return jnp.where(done < warmup, peak * done / (warmup or 1.0), falling)

    return learning_rate
