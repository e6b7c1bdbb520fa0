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

from sc2jax.errors import UserError
from sc2jax.model.params import Params, Table, init_params, param_shardings
from sc2jax.parallel import rules
from sc2jax.parallel.chips import compiler_options_of
from sc2jax.training.config import MOST_ROWS, TrainingConfig
from sc2jax.training.health import Health, after_step, init_health, overflowed, spiked
from sc2jax.training.optimizer import create_optimizer, optimizer_shardings
from sc2jax.training.schedule import fitted_training, learning_rate_schedule, tokens_per_step

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
    state: TrainState,
    batch: Batch,
    table: Table,
    loss: Loss,
    training: TrainingConfig,
    *,
    row_length: int,
    seed: int,
    mesh: Mesh | None = None,
    scaled: bool = False,
) -> tuple[TrainState, Metrics]:
    """One optimizer step on the weighted mean of the losses of the whole batch.

    Metrics: `loss` (the mean), `gradient_norm` (before clipping; 0 for an overflow), `learning_rate`, `tokens` (the sum
    of the weights), `overflowed` and `spiked` (1 where the update was skipped for that, see `health.py`),
    `skipped_steps` (of both kinds since the start), and `loss_scale` (of the next step).
    """
    key = jax.random.fold_in(jax.random.key(seed), state.step)
    # A fixed number near the sum of the weights, which is known at the end only: in float16 it is for the scale to say
    # how large gradients are, and not for the batch.
    positions = tokens_per_step(training, row_length)
    factor = (state.health.loss_scale if scaled else 1.0) / positions

    def part_loss(params: Params, part: Batch, key: jax.Array) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
        total, tokens = loss(params, state.frozen, part, key)
        return total * factor, (total, tokens)

    gradients, total, tokens = _accumulated(part_loss, state.params, batch, key, training.accumulation, table, mesh)
    unscaled = 1.0 / (factor * jnp.maximum(tokens, 1.0))
    gradients = jax.tree.map(lambda gradient: gradient * unscaled, gradients)
    mean, norm = total / jnp.maximum(tokens, 1.0), optax.tree_utils.tree_norm(gradients)

    health, never = state.health, jnp.bool(False)
    overflow = overflowed(health, mean, norm) if scaled else never
    spike = spiked(health, mean, norm, training.skip_spikes) if training.skip_spikes else never
    learning_rate = jnp.asarray(learning_rate_schedule(training, row_length)(state.step))
    updates, moments = create_optimizer(training, table).update(gradients, state.optimizer_state, state.params)
    params = jax.tree.map(lambda array, update: array - learning_rate * update, state.params, updates)
    if scaled or training.skip_spikes:
        params, moments = jax.tree.map(
            lambda new, old: jnp.where(overflow | spike, old, new),
            (params, moments),
            (state.params, state.optimizer_state),
        )
    health = after_step(health, mean, norm, overflow, spike, scaled=scaled)
    metrics = {
        "loss": mean,
        "gradient_norm": jnp.where(overflow, 0.0, norm),
        "learning_rate": learning_rate,
        "tokens": tokens,
        "overflowed": overflow,
        "spiked": spike,
        "skipped_steps": health.overflows + health.spikes,
        "loss_scale": health.loss_scale,
    }
    return TrainState(state.step + 1, params, moments, state.frozen, health), metrics


def _accumulated(
    part_loss: Callable[[Params, Batch, jax.Array], tuple[jax.Array, tuple[jax.Array, jax.Array]]],
    params: Params,
    batch: Batch,
    key: jax.Array,
    parts: int,
    table: Table,
    mesh: Mesh | None,
) -> tuple[Params, jax.Array, jax.Array]:
    """The sums, over the parts of a batch, of the gradients of `part_loss` and of the two values beside it."""
    gradient_of = jax.grad(part_loss, has_aux=True)

    def placed(gradients: Params) -> Params:
        if mesh is None:
            return gradients
        return jax.lax.with_sharding_constraint(gradients, param_shardings(table, mesh))

    if parts == 1:
        gradients, (total, tokens) = gradient_of(params, batch, key)
        return placed(gradients), total, tokens

    def add(sums: Any, scanned: tuple[Batch, jax.Array]) -> tuple[Any, None]:
        part, index = scanned
        gradients, values = gradient_of(params, part, jax.random.fold_in(key, index))
        gradients, values = jax.tree.map(jnp.add, sums, (gradients, values))
        return (placed(gradients), values), None

    nothing = placed(jax.tree.map(jnp.zeros_like, params)), (jnp.zeros(()), jnp.zeros(()))
    split = {name: rules.in_parts(array, parts, mesh) for name, array in batch.items()}
    (gradients, (total, tokens)), _ = jax.lax.scan(add, nothing, (split, jnp.arange(parts)))
    return gradients, total, tokens


def state_shardings(table: Table, training: TrainingConfig, mesh: Mesh, frozen: Table = ()) -> Any:
    """Where each array of the state lives: a `TrainState` of shardings."""
    everywhere: Any = rules.replicated(mesh)
    moments = optimizer_shardings(create_optimizer(training, table), table, mesh)
    health = jax.tree.map(lambda _: everywhere, jax.eval_shape(lambda: init_health(scaled=False)))
    return TrainState(everywhere, param_shardings(table, mesh), moments, param_shardings(frozen, mesh), health)


def abstract_state(table: Table, training: TrainingConfig, mesh: Mesh, frozen: Table = ()) -> TrainState:
    """Shapes, types and shardings of the state; nothing is allocated."""

    def init() -> TrainState:
        return _init(table, training, *(init_params(each, jax.random.key(0)) for each in (table, frozen)), scaled=False)

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
    *,
    scaled: bool = False,
) -> TrainState:
    """The state before the first step, made in place on the mesh: no device ever holds more than its part.

    Args:
        table: the parameters that are trained.
        training: the optimizer.
        mesh: where everything lives.
        seed: of the parameters.
        frozen: parameters without gradient, already placed, which become a part of the state as they are.
        params: those that are trained, already placed; by default random ones that follow from the seed.
        scaled: whether the loss is computed in float16, whose gradients need a scale.
    """

    def init(params: Params | None) -> TrainState:
        random = init_params(table, jax.random.key(seed)) if params is None else params
        return _init(table, training, random, {}, scaled=scaled)

    place = jax.jit(init, out_shardings=state_shardings(table, training, mesh), donate_argnums=0)
    return dataclasses.replace(place(params), frozen=frozen or {})


def _init(table: Table, training: TrainingConfig, params: Params, frozen: Params, *, scaled: bool) -> TrainState:
    moments = create_optimizer(training, table).init(params)
    return TrainState(jnp.zeros((), jnp.int32), params, moments, frozen, init_health(scaled))


def batch_sharding(mesh: Mesh, batch_size: int, row_length: int) -> NamedSharding:
    """Where the rows of a batch live.

    Raises:
        UserError: the mesh does not divide the batch.
    """
    return rules.sharding(mesh, (rules.BATCH, rules.LENGTH), (batch_size, row_length))


def refuse_indivisible(training: TrainingConfig, mesh: Mesh, row_length: int) -> None:
    """Makes sure that every device has as many rows of each part of a batch, and as many positions of a row.

    Raises:
        UserError: it has not; the message names the nearest batches that can be shared out, each with the steps that
            keep the run's tokens.
    """
    training = fitted_training(training, row_length)
    size, parts, shards = training.batch_size, training.accumulation, rules.shard_count(mesh, rules.BATCH)
    if size % (shards * parts):
        axes = " x ".join(f"mesh.{name} {mesh.shape[name]}" for name in rules.mesh_axes(mesh, rules.BATCH))
        sharing = [axes] * (shards > 1) + [f"training.accumulation {parts}"] * (parts > 1)
        nearest = rules.nearest_multiples(size, shards * parts)
        choices = [
            f"{rows:,} (training.steps {-(-training.steps * size // rows):,} for as many tokens)"
            for rows in nearest
            if rows <= MOST_ROWS
        ]
        use = " or ".join(choices) or "a lower training.accumulation"
        raise UserError(
            f"training.batch_size {size:,} cannot be shared out equally over {' and '.join(sharing)}; use {use}, or "
            "another mesh"
        )
    length = rules.shard_count(mesh, rules.LENGTH)
    if row_length % length:
        raise UserError(
            f"model.context_length {row_length:,} cannot be shared out equally over mesh.sequence {length}; use "
            f"{rules.listed(rules.nearest_multiples(row_length, length))}, or mesh.sequence "
            f"{rules.listed(rules.nearest_divisors(row_length, length))}"
        )


def compile_train_step(
    table: Table,
    loss: Loss,
    training: TrainingConfig,
    mesh: Mesh,
    *,
    row_length: int,
    seed: int,
    frozen: Table = (),
    scaled: bool = False,
) -> Callable[[TrainState, Batch], tuple[TrainState, Metrics]]:
    """The jitted step; it reuses the memory of the state that it is given.

    Args:
        table: the parameters that are trained.
        loss: what is minimised.
        training: optimizer and schedule.
        mesh: where everything lives.
        row_length: positions of a row.
        seed: of whatever the loss draws.
        frozen: the parameters of the state that have no gradient.
        scaled: whether the loss is computed in float16: gradients are then taken of the loss times the state's scale,
            and a step whose gradients overflow is skipped.

    Raises:
        UserError: the mesh does not divide the batch or a parameter, the schedule does not fit the steps, or the
            compiler of the mesh's TPUs does not know an option.
    """

    def step(state: TrainState, batch: Batch) -> tuple[TrainState, Metrics]:
        return train_step(
            state, batch, table, loss, training, row_length=row_length, seed=seed, mesh=mesh, scaled=scaled
        )

    refuse_indivisible(training, mesh, row_length)
    placements = state_shardings(table, training, mesh, frozen)
    rows = batch_sharding(mesh, training.batch_size, row_length)
    options = compiler_options_of(mesh.devices.flat[0].device_kind, training.compiler_options)
    _refuse_unknown_options(options, mesh)
    return jax.jit(
        step,
        in_shardings=(placements, rows),
        out_shardings=(placements, rules.replicated(mesh)),
        donate_argnums=0,
        compiler_options=options or None,
    )


def _refuse_unknown_options(options: Mapping[str, bool | int | str], mesh: Mesh) -> None:
    """Tries them on a program of no size, since the step itself is compiled when it is first called."""
    if not options:
        return
    try:
        nothing = jax.jit(lambda: jnp.zeros(()), out_shardings=rules.replicated(mesh), compiler_options=dict(options))
        nothing.lower().compile()
    except jax.errors.JaxRuntimeError as error:
        if not str(error).startswith("INVALID_ARGUMENT"):
            raise
        raise UserError(
            f"the compiler of {mesh.devices.flat[0].device_kind} refuses an option: {str(error).splitlines()[0]}; "
            "change it in training.compiler_options (NAME=VALUE, or NAME= to leave it out)"
        ) from error
