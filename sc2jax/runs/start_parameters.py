"""The parameters that a run begins with, restored straight onto its mesh: no host holds them whole."""

from functools import partial

from jax.sharding import Mesh

from sc2jax.model.params import Params
from sc2jax.runs.models import TrainedModel, restore_params, whole_params
from sc2jax.runs.run import Run
from sc2jax.runs.starting_points import StartingPoint, adapters_of, base_of
from sc2jax.training.objective import trained_table, untrained_table
from sc2jax.training.start import SCRATCH, Start


def training_start(run: Run, point: StartingPoint | None, mesh: Mesh) -> Start:
    """What the loop is given to begin with and, where it trains adapters, to add them to at every start.

    Raises:
        UserError: the run trains adapters, and what they are added to is not found.
    """
    if point is None:
        return SCRATCH
    taken, model, adapters = point.taken, run.settings.model, run.settings.adapters
    table = trained_table(model, adapters)
    state = (taken.checkpoints, taken.step) if point.optimizer else None
    if adapters.rank:
        base, frozen = base_of(run, point), untrained_table(model, adapters)
        params = partial(restore_params, taken.checkpoints, taken.step, table, mesh) if point.adapters else None
        return Start(
            frozen,
            partial(restore_params, base.checkpoints, base.step, frozen, mesh),
            params=None if state else params,
            state=state,
        )

    def whole() -> Params:
        merged = adapters_of({"adapters": point.adapters} if point.adapters else {})
        base = base_of(run, point) if merged else None
        return whole_params(TrainedModel(model, taken.checkpoints, taken.step, merged, base), mesh)

    return Start(params=None if state else whole, state=state)
