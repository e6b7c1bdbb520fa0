"""AdamW (StarCoder2 paper, section 6.2), and Muon for the matrices of the layers."""

import math
from collections.abc import Callable, Hashable
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax.sharding import Mesh
from optax.contrib import MuonDimensionNumbers, scale_by_muon

from sc2jax.model.params import Parameter, Params, Table, abstract_params, decay_mask, map_table, param_shardings
from sc2jax.parallel import rules
from sc2jax.training.config import ADAMW, MUON, TrainingConfig

MOMENTUM = 0.95
"""Of Muon, with Nesterov's look ahead: its authors' and Moonlight's."""
UPDATE_SIZE = 0.2
"""Root mean square of Muon's updates, that of AdamW's as Moonlight measured it (arXiv 2502.16982, section 2.2)."""


def create_optimizer(config: TrainingConfig, table: Table) -> optax.GradientTransformation:
    """Clipping by global norm, then the optimizer with decoupled weight decay on the parameters that the table marks.

    Its updates are to be multiplied by minus the learning rate. That follows from the step of the run and not from a
    counter of the optimizer, so that moments can be taken over by a run with another schedule.
    """
    return optax.chain(
        optax.clip_by_global_norm(config.max_gradient_norm),
        _muon(config, table) if config.optimizer == MUON else _adam(config),
        optax.add_decayed_weights(config.weight_decay, mask=decay_mask(table)),
    )


def _adam(config: TrainingConfig) -> optax.GradientTransformation:
    adam = optax.scale_by_adam(b1=config.beta1, b2=config.beta2, eps=config.epsilon)
    return _held_in(config.moments_dtype, adam)


def _muon(config: TrainingConfig, table: Table) -> optax.GradientTransformation:
    """Muon for what is a matrix in each layer, Adam for embeddings, output head, biases and norms.

    As its authors use it (https://kellerjordan.github.io/posts/muon). Each layer's matrix is made orthogonal by itself,
    its heads and their sizes being one dimension. Updates are scaled as in Moonlight (arXiv 2502.16982, section 2.2),
    by 0.2 times the root of the larger dimension, so that learning rate and weight decay are those of AdamW.
    """

    def of_matrices(function: Callable[[Parameter], Any]) -> Params:
        """As the part of a partition that has the matrices sees the parameters: the others are masked."""
        return map_table(table, lambda each: function(each) if _is_matrix(each) else optax.MaskedNode())

    scales = of_matrices(lambda each: UPDATE_SIZE * math.sqrt(max(map(math.prod, each.sides))))
    muon = optax.chain(
        scale_by_muon(beta=MOMENTUM, weight_dimension_numbers=of_matrices(_dimension_numbers)),
        optax.stateless(lambda updates, _: jax.tree.map(jnp.multiply, updates, scales)),
    )
    groups: dict[Hashable, optax.GradientTransformation] = {
        MUON: _held_in(config.moments_dtype, muon),
        ADAMW: _adam(config),
    }
    return optax.partition(groups, map_table(table, lambda each: MUON if _is_matrix(each) else ADAMW))


def _is_matrix(parameter: Parameter) -> bool:
    return parameter.stacked and parameter.decayed


def _dimension_numbers(kernel: Parameter) -> MuonDimensionNumbers:
    inputs = len(kernel.sides[0])
    return MuonDimensionNumbers(tuple(range(1, 1 + inputs)), tuple(range(1 + inputs, len(kernel.shape))))


def _held_in(dtype: str, transformation: optax.GradientTransformation) -> optax.GradientTransformation:
    """What computes its moments in float32 and holds them in another type between steps."""

    def cast(state: Any, dtype: str) -> optax.OptState:
        return optax.tree_utils.tree_map_params(transformation, lambda moment: moment.astype(dtype), state)

    def init(params: Params) -> optax.OptState:
        return cast(transformation.init(params), dtype)

    def update(updates: Params, state: optax.OptState, params: Params | None = None) -> tuple[Any, optax.OptState]:
        updates, state = transformation.update(updates, cast(state, "float32"), params)
        return updates, cast(state, dtype)

    return optax.GradientTransformation(init, update)


def optimizer_shardings(optimizer: optax.GradientTransformation, table: Table, mesh: Mesh) -> optax.OptState:
    """Moments live where their parameters do, counters everywhere."""
    state = jax.eval_shape(optimizer.init, abstract_params(table))
    return optax.tree_utils.tree_map_params(
        optimizer,
        lambda moment, placement: moment if _is_masked(moment) else placement,
        state,
        param_shardings(table, mesh),
        transform_non_params=lambda _: rules.replicated(mesh),
        is_leaf=_is_masked,
    )


def _is_masked(moment: Any) -> bool:
    """Whether it stands for a parameter of which this part of the optimizer holds nothing."""
    return isinstance(moment, optax.MaskedNode)
