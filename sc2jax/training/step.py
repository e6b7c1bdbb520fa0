"""The train step: state and batch in, state and metrics out. It knows no model, no feed and no files.

What is trained comes as a parameter table and a loss, so that another model or a few adapters need no other trainer.
"""

import dataclasses
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
from sc2jax.training.health import Health, init_health
from sc2jax.training.optimizer import create_optimizer, learning_rate_schedule, optimizer_shardings

Batch: TypeAlias = Mapping[str, jax.Array]
"""The arrays that the loss reads, rows along their first dimension and positions along the second."""

Loss: TypeAlias = Callable[[Params, Params, Batch, jax.Array], tuple[jax.Array, jax.Array]]
"""`loss(params, frozen, batch, key)`: the weighted sum of a batch's losses and the sum of their weights, float32.

Gradients are taken by `params` alone; the key is for what is random, such as dropout."""

Metrics: TypeAlias = dict[str, jax.Array]


@flax.struct.dataclass
class TrainState:
    """All that a step needs and returns; `step` counts the finished ones."""

    step: jax.Array
    params: Params  # those that are trained, float32
    optimizer_state: optax.OptState
    frozen: Params  # parameters without gradient or moments, in the types that their table says; {} if there are none
    health: Health


def train_step(
    state: TrainState, batch: Batch, table: Table, loss: Loss, training: TrainingConfig, seed: int
) -> tuple[TrainState, Metrics]:
    """One optimizer step on the weighted mean of the losses of the whole batch.

    Metrics: `loss` (the mean), `gradient_norm` (before clipping), `learning_rate`, `tokens` (the sum of the weights).
    """
    key = jax.random.fold_in(jax.random.key(seed), state.step)

    def mean_loss(params: Params) -> tuple[jax.Array, jax.Array]:
        total, tokens = loss(params, state.frozen, batch, key)
        return total / jnp.maximum(tokens, 1.0), tokens

    (mean, tokens), gradients = jax.value_and_grad(mean_loss, has_aux=True)(state.params)
    learning_rate = jnp.asarray(learning_rate_schedule(training)(state.step))
    updates, optimizer_state = create_optimizer(training, table).update(gradients, state.optimizer_state, state.params)
    params = jax.tree.map(lambda array, update: array - learning_rate * update, state.params, updates)
    metrics = {
        "loss": mean,
        "gradient_norm": optax.tree_utils.tree_norm(gradients),
        "learning_rate": learning_rate,
        "tokens": tokens,
    }
    return TrainState(state.step + 1, params, optimizer_state, state.frozen, state.health), metrics


def state_shardings(table: Table, training: TrainingConfig, mesh: Mesh, frozen: Table = ()) -> Any:
    """Where each array of the state lives: a `TrainState` of shardings."""
    everywhere: Any = rules.replicated(mesh)
    moments = optimizer_shardings(create_optimizer(training, table), table, mesh)
    health = jax.tree.map(lambda _: everywhere, jax.eval_shape(init_health))
    return TrainState(everywhere, param_shardings(table, mesh), moments, param_shardings(frozen, mesh), health)


def abstract_state(table: Table, training: TrainingConfig, mesh: Mesh, frozen: Table = ()) -> TrainState:
    """Shapes, types and shardings of the state; nothing is allocated."""

    def init() -> TrainState:
        return _init(table, training, *(init_params(each, jax.random.key(0)) for each in (table, frozen)))

    return jax.tree.map(
        lambda shape, placement: jax.ShapeDtypeStruct(shape.shape, shape.dtype, sharding=placement),
        jax.eval_shape(init),
        state_shardings(table, training, mesh, frozen),
    )


def init_state(
    table: Table,
    training: TrainingConfig,
    mesh: Mesh,
    seed: int,
    frozen: Params | None = None,
    params: Params | None = None,
) -> TrainState:
    """The state before the first step, made in place on the mesh: no device ever holds more than its part.

    Args:
        table: the parameters that are trained.
        training: the optimizer.
        mesh: where everything lives.
        seed: of the parameters.
        frozen: parameters without gradient, already placed, which become a part of the state as they are.
        params: those that are trained, already placed; by default random ones that follow from the seed.
    """

    def init(params: Params | None) -> TrainState:
        random = init_params(table, jax.random.key(seed)) if params is None else params
        return _init(table, training, random, {})

    place = jax.jit(init, out_shardings=state_shardings(table, training, mesh), donate_argnums=0)
    return dataclasses.replace(place(params), frozen=frozen or {})


def _init(table: Table, training: TrainingConfig, params: Params, frozen: Params) -> TrainState:
    moments = create_optimizer(training, table).init(params)
    return TrainState(jnp.zeros((), jnp.int32), params, moments, frozen, init_health())


def batch_sharding(mesh: Mesh, batch_size: int, row_length: int) -> NamedSharding:
    """Where the rows of a batch live.

    Raises:
        UserError: the mesh does not divide the batch.
    """
    return rules.sharding(mesh, (rules.BATCH, rules.LENGTH), (batch_size, row_length))


def compile_train_step(
    table: Table,
    loss: Loss,
    training: TrainingConfig,
    mesh: Mesh,
    *,
    row_length: int,
    seed: int,
    frozen: Table = (),
) -> Callable[[TrainState, Batch], tuple[TrainState, Metrics]]:
    """The jitted step; it reuses the memory of the state that it is given."""

    def step(state: TrainState, batch: Batch) -> tuple[TrainState, Metrics]:
        return train_step(state, batch, table, loss, training, seed)

    placements = state_shardings(table, training, mesh, frozen)
    rows = batch_sharding(mesh, training.batch_size, row_length)
    return jax.jit(
        step,
        in_shardings=(placements, rows),
        out_shardings=(placements, rules.replicated(mesh)),
        donate_argnums=0,
    )
