"""The train step: state and batch in, state and metrics out. It knows no feed and no files."""

from collections.abc import Callable, Mapping
from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
import optax
from jax.sharding import Mesh, NamedSharding

from sc2jax.model.config import ModelConfig
from sc2jax.model.loss import total_loss
from sc2jax.model.params import Params, abstract_params, init_params, param_shardings
from sc2jax.model.transformer import forward, output_logits, output_projection
from sc2jax.parallel import rules
from sc2jax.training.config import TrainingConfig
from sc2jax.training.optimizer import create_optimizer, learning_rate_schedule, optimizer_shardings

Batch = Mapping[str, jax.Array]
"""Arrays (B, T): int32 `tokens`, `targets`, `segment_ids` and `positions`, float32 `weights` of the targets."""

Metrics = dict[str, jax.Array]


@flax.struct.dataclass
class TrainState:
    """All that changes from step to step; `step` counts the finished ones."""

    step: jax.Array
    params: Params
    optimizer_state: optax.OptState


def token_losses(params: Params, batch: Batch, model: ModelConfig, mesh: Mesh | None, key: jax.Array) -> jax.Array:
    """The cross-entropy of each target (B, T), in nats, float32, from all logits at once."""
    logits_BTV = output_logits(params, _hidden(params, batch, model, mesh, key), model)
    return optax.softmax_cross_entropy_with_integer_labels(logits_BTV, batch["targets"])


def _hidden(params: Params, batch: Batch, model: ModelConfig, mesh: Mesh | None, key: jax.Array) -> jax.Array:
    return forward(
        params,
        batch["tokens"],
        model,
        segment_ids_BT=batch["segment_ids"],
        positions_BT=batch["positions"],
        mesh=mesh,
        dropout_key=key if _drops(model) else None,
    )


def _drops(model: ModelConfig) -> bool:
    return max(model.embedding_dropout, model.attention_dropout, model.residual_dropout) > 0.0


def train_step(
    state: TrainState, batch: Batch, model: ModelConfig, training: TrainingConfig, mesh: Mesh | None, seed: int
) -> tuple[TrainState, Metrics]:
    """One optimizer step on the mean loss of the weighted targets of the whole batch.

    Metrics: `loss` (nats a target), `gradient_norm` (before clipping), `learning_rate`, `tokens` (weighted targets).
    """
    key = jax.random.fold_in(jax.random.key(seed), state.step)

    def mean_loss(params: Params) -> tuple[jax.Array, jax.Array]:
        if training.loss_chunk:
            hidden_BTD, output_VD = _hidden(params, batch, model, mesh, key), output_projection(params, model)
            total: Any = total_loss(
                hidden_BTD, output_VD, batch["targets"], batch["weights"], training.loss_chunk, mesh
            )
        else:
            total = jnp.sum(token_losses(params, batch, model, mesh, key) * batch["weights"])
        tokens = jnp.sum(batch["weights"])
        return total / jnp.maximum(tokens, 1.0), tokens

    (loss, tokens), gradients = jax.value_and_grad(mean_loss, has_aux=True)(state.params)
    updates, optimizer_state = create_optimizer(training, model).update(gradients, state.optimizer_state, state.params)
    metrics = {
        "loss": loss,
        "gradient_norm": optax.tree_utils.tree_norm(gradients),
        "learning_rate": jnp.asarray(learning_rate_schedule(training)(state.step)),
        "tokens": tokens,
    }
    return TrainState(state.step + 1, optax.apply_updates(state.params, updates), optimizer_state), metrics


def state_shardings(model: ModelConfig, training: TrainingConfig, mesh: Mesh) -> Any:
    """Where each array of the state lives: a `TrainState` of shardings."""
    optimizer = create_optimizer(training, model)
    placements = optimizer_shardings(optimizer, abstract_params(model), model, mesh)
    step: Any = rules.replicated(mesh)
    return TrainState(step, param_shardings(model, mesh), placements)


def init_state(model: ModelConfig, training: TrainingConfig, mesh: Mesh, seed: int) -> TrainState:
    """The state before the first step, made in place on the mesh: no device ever holds more than its part."""

    def init() -> TrainState:
        params = init_params(model, jax.random.key(seed))
        return TrainState(jnp.zeros((), jnp.int32), params, create_optimizer(training, model).init(params))

    return jax.jit(init, out_shardings=state_shardings(model, training, mesh))()


def batch_sharding(mesh: Mesh, batch_size: int, length: int) -> NamedSharding:
    """Where the rows of a batch live.

    Raises:
        UserError: the mesh does not divide the batch.
    """
    return rules.sharding(mesh, (rules.BATCH, rules.LENGTH), (batch_size, length))


def compile_train_step(
    model: ModelConfig, training: TrainingConfig, mesh: Mesh, seed: int
) -> Callable[[TrainState, Batch], tuple[TrainState, Metrics]]:
    """The jitted step; it reuses the memory of the state that it is given."""

    def step(state: TrainState, batch: Batch) -> tuple[TrainState, Metrics]:
        return train_step(state, batch, model, training, mesh, seed)

    placements = state_shardings(model, training, mesh)
    rows = batch_sharding(mesh, training.batch_size, model.context_length)
    return jax.jit(
        step,
        in_shardings=(placements, rows),
        out_shardings=(placements, rules.replicated(mesh)),
        donate_argnums=0,
    )
