"""What is trained: parameters and the loss that is minimised, from the settings that say so."""

import dataclasses

from jax.sharding import Mesh

from sc2jax.model.adapters import adapted, adapter_table
from sc2jax.model.config import AdapterConfig, ModelConfig
from sc2jax.model.loss import next_token_loss
from sc2jax.model.params import Table, frozen_table, parameter_table
from sc2jax.training.config import TrainingConfig
from sc2jax.training.step import Loss


@dataclasses.dataclass(frozen=True)
class Objective:
    """What is trained.

    Attributes:
        table: the parameters.
        loss: what is minimised.
        seed: of the parameters and of whatever the loss draws.
        scaled: whether the loss is computed in float16, see `compile_train_step`.
    """

    table: Table
    loss: Loss
    seed: int
    scaled: bool = False


def language_model(
    model: ModelConfig, adapters: AdapterConfig, training: TrainingConfig, seed: int, mesh: Mesh
) -> Objective:
    """The next-token loss of a model, or of the adapters that are added to it, whose parameters are frozen then."""
    loss = next_token_loss(model, training.loss_chunk, mesh, training.z_loss)
    if adapters.rank:
        loss = adapted(loss, adapters)
    return Objective(trained_table(model, adapters), loss, seed, scaled=model.compute_dtype == "float16")


def trained_table(model: ModelConfig, adapters: AdapterConfig) -> Table:
    """The parameters that are trained: all of a model, or adapters alone."""
    table = parameter_table(model)
    return adapter_table(table, adapters) if adapters.rank else table


def untrained_table(model: ModelConfig, adapters: AdapterConfig) -> Table:
    """The parameters that are computed with and not trained, in the types that they are held in."""
    return frozen_table(parameter_table(model), model.compute_dtype) if adapters.rank else ()
