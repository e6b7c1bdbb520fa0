"""What a run begins with: its own newest checkpoint, parameters from elsewhere, or random ones."""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh

from sc2jax.checkpoint.checkpoints import Checkpoints
from sc2jax.checkpoint.progress import Progress
from sc2jax.errors import UserError
from sc2jax.model.params import Params, Table
from sc2jax.training.config import TrainingConfig
from sc2jax.training.health import init_health
from sc2jax.training.step import TrainState, abstract_state, init_state


@dataclasses.dataclass(frozen=True)
class Start:
    """Where parameters come from that are not the run's own; by default there are none.

    Attributes:
        frozen_table: parameters that the run does not train.
        frozen: gives them, placed as their table says; called at every start of the run.
        params: gives those that a new run begins with, placed as its table says; None: random ones.
        state: the folder of another run's checkpoints and the step of that whose parameters and optimizer a new run
            begins with; then `params` gives none.
    """

    frozen_table: Table = ()
    frozen: Callable[[], Params] = dict
    params: Callable[[], Params] | None = None
    state: tuple[str, int] | None = None


SCRATCH = Start()
"""A run whose parameters are all trained, and random at first."""


def gone_beyond(folder: str, reached: int, steps: int) -> str:
    """What is said of a run that has come farther than it is to go."""
    return (
        f"{folder} holds a run of {reached:,} steps, which training.steps {steps:,} lies before; set it to {reached:,} "
        "or more, or give another --workdir"
    )


def resumed_state(
    checkpoints: Checkpoints, step: int, table: Table, training: TrainingConfig, mesh: Mesh, key: str, start: Start
) -> tuple[TrainState, Progress]:
    """The state of the checkpoint of a step, and where the run was then.

    Raises:
        UserError: a checkpoint is of a run with another `key`, or is damaged.
    """
    # All of them, for the oldest ones are deleted as new ones come.
    other = [step for step in checkpoints.steps() if checkpoints.read_key(step) != key]
    if other:
        raise UserError(
            f"{checkpoints.folder} holds checkpoints of a run with another config or other inputs (step {other[-1]}); "
            f"give another --workdir, or delete {checkpoints.folder} to train anew"
        )
    abstract = abstract_state(table, training, mesh)
    reached, params, beside = checkpoints.restore(step, abstract.params, beside_params(abstract))
    placed_step = jax.device_put(np.int32(reached.step), abstract.step.sharding)
    return TrainState(placed_step, params, frozen=start.frozen(), **beside), reached


def new_state(
    table: Table, training: TrainingConfig, mesh: Mesh, seed: int, start: Start, *, scaled: bool
) -> TrainState:
    """The state of a new run, by its starting point, or by the seed where that has none.

    Raises:
        UserError: what it begins with is missing, damaged or of another shape.
    """
    if start.state is None:
        params = start.params() if start.params else None
        return init_state(table, training, mesh, seed, start.frozen(), params, scaled=scaled)
    abstract = abstract_state(table, training, mesh)
    folder, step = start.state
    others = Checkpoints(folder)
    try:
        _, params, beside = others.restore(step, abstract.params, beside_params(abstract))
    finally:
        others.close()
    # Not by `init_state`, which would hold moments of zeros beside these.
    begun = jax.tree.map(np.asarray, (np.int32(0), init_health(scaled)))
    first, health = jax.device_put(begun, abstract.step.sharding)
    return TrainState(first, params, beside["optimizer_state"], start.frozen(), health)


def beside_params(state: TrainState) -> dict[str, Any]:
    """What a checkpoint holds in its optimizer's part."""
    return {"optimizer_state": state.optimizer_state, "health": state.health}
