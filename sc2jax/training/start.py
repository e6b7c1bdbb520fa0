"""What a run begins with that does not follow from its seed: parameters from elsewhere, and frozen ones."""

import dataclasses
from collections.abc import Callable

from sc2jax.model.params import Params, Table


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
