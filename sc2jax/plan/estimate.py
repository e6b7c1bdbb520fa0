"""What a compiled step comes to: its memory, its time and parts, its utilisation, and what a training takes of both.

Each time is given twice: overlapped, as if whatever can be hidden behind compute were hidden, and exposed, as the
schedule has it (`timeline.py`). What the estimate leaves out stands in docs/planning.md.
"""

import dataclasses
from collections.abc import Mapping

from sc2jax.model.config import ModelConfig
from sc2jax.model.params import Table
from sc2jax.plan.timeline import Lane, Timeline
from sc2jax.training.utilisation import flops_per_token, mean_visible_keys

SECONDS_A_DAY = 86_400.0
WAITING = "waiting for "
"""Stands before the kind of what compute waits for."""


class ImpossibleEstimateError(Exception):
    """A step that would be faster than the chip's peak: an instruction was counted too rarely, or FLOPs too often."""


@dataclasses.dataclass(frozen=True)
class StepTime:
    """Seconds of a step.

    Attributes:
        compute: all that is computed.
        overlapped: compute, or the busiest of the other lanes if that takes longer.
        exposed: as the schedule has it.
    """

    compute: float
    overlapped: float
    exposed: float

    def plus(self, other: "StepTime", times: float) -> "StepTime":
        """This, and the other one so many times."""
        return StepTime(
            *(getattr(self, name) + times * getattr(other, name) for name in ("compute", "overlapped", "exposed"))
        )


def step_time(step: Timeline) -> StepTime:
    """The seconds of a step's timeline."""
    compute = step.lane_seconds(Lane.COMPUTE)
    return StepTime(compute, max(compute, step.lane_seconds(Lane.LINKS), step.lane_seconds(Lane.COPIES)), step.seconds)


@dataclasses.dataclass(frozen=True)
class Utilisation:
    """Shares of the peak: the model's FLOPs over what the devices could have computed in the time of the step."""

    overlapped: float
    exposed: float


def utilisation(flops: float, devices: int, peak_flops: float, time: StepTime) -> Utilisation:
    """Of a step of so many FLOPs in all.

    Raises:
        ImpossibleEstimateError: it would be more than 100 %.
    """
    ideal = flops / devices / peak_flops
    found = Utilisation(ideal / time.overlapped, ideal / time.exposed)
    if max(found.overlapped, found.exposed) > 1:
        raise ImpossibleEstimateError(
            f"the step would take {time.exposed:.4g} s, less than the {ideal:.4g} s that its FLOPs take at the chip's "
            "peak: the estimate has missed a part of the program"
        )
    return found


def uncausal_flops_per_token(model: ModelConfig, row_length: int, adapters: Table = ()) -> float:
    """FLOPs of training a token as some trainers count them: as if each query saw every key of its row."""
    channels = model.num_heads * model.head_dim
    hidden = row_length - mean_visible_keys(row_length, model.window)
    return flops_per_token(model, row_length, adapters) + 12 * model.num_layers * channels * hidden


@dataclasses.dataclass(frozen=True)
class Run:
    """What a training takes on a slice; cost is 0 where no price is known."""

    steps: int
    tokens: int
    tokens_per_day: float
    days: float
    chip_hours: float
    cost: float


def whole_run(steps: int, tokens_per_step: int, seconds: float, chips: int, price: float) -> Run:
    """So many steps of so many seconds, on so many chips at a price for each hour of a chip."""
    days = steps * seconds / SECONDS_A_DAY
    hours = 24 * days * chips
    per_day = tokens_per_step * SECONDS_A_DAY / seconds
    return Run(steps, steps * tokens_per_step, per_day, days, hours, hours * price)


def by_kind(step: Timeline) -> Mapping[str, Mapping[str, float]]:
    """Seconds of compute by part and kind, and of what compute waits for, as "waiting for KIND"."""
    found: dict[str, dict[str, float]] = {}
    for (lane, part, kind), seconds in step.busy.items():
        if lane is Lane.COMPUTE:
            found.setdefault(part, {})[kind] = seconds
    for (part, kind), seconds in step.waited.items():
        if seconds:
            found.setdefault(part, {})[f"{WAITING}{kind}"] = seconds
    return found
