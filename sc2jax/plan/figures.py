"""What is found of a compiled step, by name, and how what 4 and 8 layers take becomes what all of them take."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from sc2jax.parallel.chips import Chip, Tpu
from sc2jax.plan.collectives import Collective, collectives_of
from sc2jax.plan.compilation import CompiledStep, Memory
from sc2jax.plan.estimate import StepTime, by_kind, step_time
from sc2jax.plan.hlo import Program
from sc2jax.plan.hlo_flops import flops_of
from sc2jax.plan.hlo_text import Instruction
from sc2jax.plan.interconnect import Network
from sc2jax.plan.kernels import KernelCost
from sc2jax.plan.tasks import Speed, Timing, measured_speed, parts_of, peak_speed
from sc2jax.plan.timeline import Lane, Timeline

Found = TypeVar("Found")


@dataclasses.dataclass(frozen=True)
class Exchanged:
    """The collectives of one kind in one part of a step: how many, their bytes and seconds.

    Attributes:
        count: executed in a step.
        bytes: of the larger of what a device gives and gets, of all.
        seconds: on the links.
        waited: seconds for which compute stands still for them.
        asynchronous: of them, how many go on beside compute.
    """

    count: float
    bytes: float
    seconds: float
    waited: float
    asynchronous: float


@dataclasses.dataclass(frozen=True)
class Figures:
    """What a step takes of a device.

    Attributes:
        memory: bytes.
        time: as the compiler counts cycles.
        measured: as products and memory were measured on chips.
        computed_flops: of the products and kernels that the program has.
        parts: seconds by part and kind; those that compute waits for are `waiting for KIND`.
        exchanged: by part and kind of collective.
    """

    memory: Memory
    time: StepTime
    measured: StepTime
    computed_flops: float
    parts: Mapping[str, Mapping[str, float]]
    exchanged: Mapping[str, Mapping[str, Exchanged]]


def figures_of(
    compiled: CompiledStep,
    program: Program,
    chip: Chip,
    tpu: Tpu,
    network: Network,
    cost_of: Callable[[Instruction], KernelCost],
) -> tuple[Figures, Timeline]:
    """Everything that is found of a step, and when what is done in it."""

    part_of = parts_of(program)

    def timed(speed: Speed) -> Timeline:
        return Timing(program, speed, network, cost_of, part_of).step()

    step = timed(peak_speed(chip, tpu))
    flops = sum(
        times * (cost_of(each).flops if program.is_kernel(each) else flops_of(program, each))
        for each, times in program.executions()
    )
    figures = Figures(
        memory=compiled.memory,
        time=step_time(step),
        measured=step_time(timed(measured_speed(chip, tpu))),
        computed_flops=flops,
        parts=by_kind(step),
        exchanged=_exchanged(program, step, part_of),
    )
    return figures, step


def _exchanged(
    program: Program, step: Timeline, part_of: Callable[[Instruction], str]
) -> dict[str, dict[str, Exchanged]]:
    counted: dict[tuple[str, str], tuple[int, int, int]] = {}
    for computation, times in program.executed_computations():
        for each in collectives_of(program, computation):
            key = part_of(each.start), each.kind
            count, total, beside = counted.get(key, (0, 0, 0))
            counted[key] = count + times, total + times * _size(each), beside + times * each.asynchronous
    found: dict[str, dict[str, Exchanged]] = {}
    for (part, kind), (count, total, beside) in counted.items():
        seconds, waited = step.busy.get((Lane.LINKS, part, kind), 0.0), step.waited.get((part, kind), 0.0)
        found.setdefault(part, {})[kind] = Exchanged(count, total, seconds, waited, beside)
    return found


def _size(collective: Collective) -> int:
    return max(collective.operand_bytes, collective.result_bytes)


def extrapolated(few: Found, many: Found, few_layers: int, many_layers: int, layers: int) -> Found:
    """What all layers take, each as much as each of those that `many` has more than `few`."""
    share = (layers - few_layers) / (many_layers - few_layers)
    return _on_the_line(few, many, share)


def _on_the_line(few: Any, many: Any, share: float) -> Any:
    if dataclasses.is_dataclass(few):
        names = [field.name for field in dataclasses.fields(few)]
        parts = {name: _on_the_line(getattr(few, name), getattr(many, name), share) for name in names}
        return dataclasses.replace(few, **parts)  # pyright: ignore[reportArgumentType]
    if isinstance(few, Mapping):
        kinds = {type(value) for value in (*few.values(), *many.values())}
        nothing: Any = 0.0 if kinds <= {int, float} else None
        names = [*few, *(name for name in many if name not in few)]
        return {name: _with_absent(few.get(name, nothing), many.get(name, nothing), share) for name in names}
    value = few + share * (many - few)
    return round(value) if isinstance(few, int) else value


def _with_absent(few: Any, many: Any, share: float) -> Any:
    """What one of both programs does not have at all takes nothing in it."""
    if few is None or many is None:
        there = many if few is None else few
        few, many = (_zero_like(there) if side is None else side for side in (few, many))
    return _on_the_line(few, many, share)


def _zero_like(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {}
    fields = {field.name: 0.0 for field in dataclasses.fields(value)}
    return dataclasses.replace(value, **fields)
