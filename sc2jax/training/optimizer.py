"""AdamW (StarCoder2 paper, section 6.2)."""

import jax
import optax
from jax.sharding import Mesh

from sc2jax.model.params import Table, abstract_params, decay_mask, param_shardings
from sc2jax.parallel import rules
from sc2jax.training.config import TrainingConfig


def learning_rate_schedule(config: TrainingConfig) -> optax.Schedule:
    """Linear warm-up from 0 to the peak, then a cosine down to its last fraction at the last step."""
    return optax.warmup_cosine_decay_schedule(
        init_value=0.0,
        peak_value=config.peak_learning_rate,
        warmup_steps=config.warmup_steps,
        decay_steps=config.steps,
        end_value=config.peak_learning_rate * config.final_learning_rate_fraction,
    )


def create_optimizer(config: TrainingConfig, table: Table) -> optax.GradientTransformation:
    """Clipping by global norm, then Adam with decoupled weight decay on the parameters that the table marks.

    Its updates are to be multiplied by minus the learning rate. That follows from the step of the run and not from a
    counter of the optimizer, so that moments can be taken over by a run with another schedule.
    """
    return optax.chain(
        optax.clip_by_global_norm(config.max_gradient_norm),
        optax.scale_by_adam(b1=config.beta1, b2=config.beta2, eps=config.epsilon),
        optax.add_decayed_weights(config.weight_decay, mask=decay_mask(table)),
    )


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
