"""The train step: state and batch in, state and metrics out. It knows no model, no feed and no files.

What is trained comes as a parameter table and a loss, so that another model or a few adapters need no other trainer.
"""

from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

import flax.struct
import jax
import jax.numpy as jnp
import optax
from jax.sharding import Mesh, NamedSharding

from sc2jax.model.params import Params, Table, init_params, param_shardings
from sc2jax.parallel import rules
from sc2jax.training.config import TrainingConfig
from sc2jax.training.optimizer import create_optimizer, learning_rate_schedule, optimizer_shardings

Batch: TypeAlias = Mapping[str, jax.Array]
"""The arrays that the loss reads, rows along their first dimension and positions along the second."""

Loss: TypeAlias = Callable[[Params, Batch, jax.Array], tuple[jax.Array, jax.Array]]
"""The weighted sum of a batch's losses and the sum of their weights; the key is for what is random, such as dropout."""

Metrics: TypeAlias = dict[str, jax.Array]


@flax.struct.dataclass
class TrainState:
    """All that changes from step to step; `step` counts the finished ones."""

    step: jax.Array
    params: Params
    optimizer_state: optax.OptState


def train_step(
    state: TrainState, batch: Batch, table: Table, loss: Loss, training: TrainingConfig, seed: int
) -> tuple[TrainState, Metrics]:
    """One optimizer step on the weighted mean of the losses of the whole batch.

    Metrics: `loss` (the mean), `gradient_norm` (before clipping), `learning_rate`, `tokens` (the sum of the weights).
    """
    key = jax.random.fold_in(jax.random.key(seed), state.step)

    def mean_loss(params: Params) -> tuple[jax.Array, jax.Array]:
        total, tokens = loss(params, batch, key)
        return total / jnp.maximum(tokens, 1.0), tokens

    (mean, tokens), gradients = jax.value_and_grad(mean_loss, has_aux=True)(state.params)
    updates, optimizer_state = create_optimizer(training, table).update(gradients, state.optimizer_state, state.params)
    metrics = {
        "loss": mean,
        "gradient_norm": optax.tree_utils.tree_norm(gradients),
        "learning_rate": jnp.asarray(learning_rate_schedule(training)(state.step)),
        "tokens": tokens,
    }
    return TrainState(state.step + 1, optax.apply_updates(state.params, updates), optimizer_state), metrics


def state_shardings(table: Table, training: TrainingConfig, mesh: Mesh) -> Any:
    """Where each array of the state lives: a `TrainState` of shardings."""
    step: Any = rules.replicated(mesh)
    moments = optimizer_shardings(create_optimizer(training, table), table, mesh)
    return TrainState(step, param_shardings(table, mesh), moments)


def init_state(table: Table, training: TrainingConfig, mesh: Mesh, seed: int) -> TrainState:
    """The state before the first step, made in place on the mesh: no device ever holds more than its part."""

    def init() -> TrainState:
        params = init_params(table, jax.random.key(seed))
        return TrainState(jnp.zeros((), jnp.int32), params, create_optimizer(training, table).init(params))

    return jax.jit(init, out_shardings=state_shardings(table, training, mesh))()


def batch_sharding(mesh: Mesh, batch_size: int, row_length: int) -> NamedSharding:
    """Where the rows of a batch live.

    Raises:
        UserError: the mesh does not divide the batch.
    """
    return rules.sharding(mesh, (rules.BATCH, rules.LENGTH), (batch_size, row_length))


def compile_train_step(
    table: Table, loss: Loss, training: TrainingConfig, mesh: Mesh, *, row_length: int, seed: int
) -> Callable[[TrainState, Batch], tuple[TrainState, Metrics]]:
    """The jitted step; it reuses the memory of the state that it is given."""

    def step(state: TrainState, batch: Batch) -> tuple[TrainState, Metrics]:
        return train_step(state, batch, table, loss, training, seed)

    placements = state_shardings(table, training, mesh)
    rows = batch_sharding(mesh, training.batch_size, row_length)
    return jax.jit(
        step,
        in_shardings=(placements, rows),
        out_shardings=(placements, rules.replicated(mesh)),
        donate_argnums=0,
    )
