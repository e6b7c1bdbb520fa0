"""AdamW (StarCoder2 paper, section 6.2)."""

from typing import Any

import jax
import optax
from jax.sharding import Mesh

from sc2jax.model.params import Params, Table, abstract_params, decay_mask, param_shardings
from sc2jax.parallel import rules
from sc2jax.training.config import TrainingConfig


def create_optimizer(config: TrainingConfig, table: Table) -> optax.GradientTransformation:
    """Clipping by global norm, then Adam with decoupled weight decay on the parameters that the table marks.

    Its updates are to be multiplied by minus the learning rate. That follows from the step of the run and not from a
    counter of the optimizer, so that moments can be taken over by a run with another schedule.
    """
    return optax.chain(
        optax.clip_by_global_norm(config.max_gradient_norm),
        _held_in(config.moments_dtype, optax.scale_by_adam(b1=config.beta1, b2=config.beta2, eps=config.epsilon)),
        optax.add_decayed_weights(config.weight_decay, mask=decay_mask(table)),
    )


def _held_in(dtype: str, adam: optax.GradientTransformation) -> optax.GradientTransformation:
    """Adam that computes its moments in float32 and holds them in another type between steps."""

    def cast(state: Any, dtype: str) -> optax.ScaleByAdamState:
        mu, nu = (jax.tree.map(lambda moment: moment.astype(dtype), moments) for moments in (state.mu, state.nu))
        return optax.ScaleByAdamState(state.count, mu, nu)

    def init(params: Params) -> optax.OptState:
        return cast(adam.init(params), dtype)

    def update(updates: Params, state: optax.OptState, params: Params | None = None) -> tuple[Any, optax.OptState]:
        updates, state = adam.update(updates, cast(state, "float32"), params)
        return updates, cast(state, dtype)

    return optax.GradientTransformation(init, update)


def optimizer_shardings(optimizer: optax.GradientTransformation, table: Table, mesh: Mesh) -> optax.OptState:
    """Moments live where their parameters do, counters everywhere."""
    state = jax.eval_shape(optimizer.init, abstract_params(table))
    return optax.tree_utils.tree_map_params(
        optimizer,
        lambda _, placement: placement,
        state,
        param_shardings(table, mesh),
        transform_non_params=lambda _: rules.replicated(mesh),
    )
