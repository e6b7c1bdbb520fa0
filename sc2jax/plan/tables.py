"""What a plan has found as tables, which the terminal and the page show alike: the answer first, then what it is of."""

import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence

from sc2jax.model.params import count_params
from sc2jax.pages import count, percent
from sc2jax.parallel.chips import GIB
from sc2jax.plan.estimate import WAITING
from sc2jax.plan.figures import Exchanged
from sc2jax.plan.planning import COMFORTABLE, Plan
from sc2jax.plan.tasks import PARTS
from sc2jax.training.objective import trained_table, untrained_table
from sc2jax.training.schedule import tokens_per_step

NOTHING = "\N{EN DASH}"
"""Stands where there is no figure."""
_SMALL_SECONDS = 10
"""Shorter times are told in milliseconds."""
_SMALL_MILLISECONDS = 10
"""Shorter ones with a digit after the point."""
_LEAST_MILLISECONDS = 0.1
_BILLION, _MILLION = 1e9, 1e6


@dataclasses.dataclass(frozen=True)
class Table:
    """Rows of cells under a title; the first cell of a row names it, the others are figures.

    Attributes:
        title: what the table is of.
        columns: their names, the first one that of the names of rows.
        rows: the cells.
        note: what has to be known to read it.
        sums: names of the rows that sum up those before.
    """

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    note: str = ""
    sums: tuple[str, ...] = ()


def headline(plan: Plan) -> str:
    """What was planned for what."""
    slices = plan.step.mesh.slices
    return f"{_parameters(plan)} on {f'{slices} slices of ' if slices > 1 else ''}{plan.slice.name}"


def layout(plan: Plan) -> tuple[str, str]:
    """The chips and how they are arranged, and what each device has to do."""
    training, model = plan.step.training, plan.step.model
    chips = f"{count(plan.devices // plan.slice.chip.devices)} chips of {plan.slice.chip.name}"
    extents = " x ".join(map(str, plan.slice.extents))
    axes = " x ".join(f"{name} {size}" for name, size in plan.mesh.items() if size > 1) or "one device"
    rows = training.batch_size / plan.devices
    told = f"{rows:g} row{'' if rows == 1 else 's'} of {count(model.context_length)} tokens a device"
    parts = f" in {training.accumulation} parts" if training.accumulation > 1 else ""
    return f"{chips} ({extents}), mesh {axes}", f"{told}{parts}, rematerialization {model.rematerialization}"


def answer(plan: Plan) -> Iterator[tuple[str, str]]:
    """What a reader wants to know first: what, and how much of it."""
    memory, run, time = plan.figures.memory, plan.run, plan.figures.time
    apart = abs(plan.usable_bytes - memory.peak)
    fit = f"{gib(memory.peak)} of {gib(plan.usable_bytes)} a device ({percent(memory.peak / plan.usable_bytes)})"
    if plan.fits:
        close = memory.peak > COMFORTABLE * plan.usable_bytes
        tight = f", above the {percent(COMFORTABLE, 0)} that are comfortable" if close else ""
        yield "fits", f"{fit}, {gib(apart)} left{tight}"
    else:
        yield "does not fit", f"{fit}, {gib(apart)} too much"
    found, measured = plan.utilisations.compiler, plan.utilisations.measured
    yield "step", f"{duration(time.exposed)} as scheduled, {duration(time.overlapped)} if all overlaps that can"
    shares = f"{percent(found.exposed)} as scheduled, {percent(found.overlapped)} if all overlaps that can"
    yield "utilisation", f"{shares}; at measured speed {percent(measured.exposed)}"
    cost = f", cost {_cost(plan)}" if run.cost else ""
    yield "training", f"{long_duration(run.days)}, {count(run.chip_hours)} chip-hours{cost}"


def tables(plan: Plan) -> Iterator[Table]:
    """All that was found, in the order in which it is read."""
    yield memory(plan)
    yield times(plan)
    if plan.figures.exchanged:
        yield collectives(plan)
    yield utilisations(plan)
    yield arithmetic(plan)
    yield training(plan)
    yield compilation(plan)


def memory(plan: Plan) -> Table:
    """Of a device."""
    taken = plan.figures.memory
    rows = [
        ("parameters, optimizer state and batch", taken.arguments),
        ("activations, gradients and all else", taken.beside),
        ("peak", taken.peak),
        ("what the runtime gives", plan.usable_bytes),
    ]
    cells = [(name, gib(size), percent(size / plan.usable_bytes)) for name, size in rows]
    if taken.host:
        cells.append(("memory of the host, beside", gib(taken.host), NOTHING))
    return Table("Memory of a device", ("of a device", "size", "share"), tuple(cells), sums=("peak",))


def times(plan: Plan) -> Table:
    """Milliseconds of a step by kind, for each of its parts."""
    parts = _ordered(plan.figures.parts, PARTS)
    kinds: dict[str, float] = {}
    for of_kind in plan.figures.parts.values():
        for kind, seconds in of_kind.items():
            kinds[kind] = kinds.get(kind, 0.0) + seconds

    def row(name: str, of_part: Callable[[str], float], whole: float) -> tuple[str, ...]:
        figures = (_milliseconds(seconds) if seconds else NOTHING for seconds in map(of_part, parts))
        return (name, *figures, _milliseconds(whole), percent(whole / step))

    step = plan.figures.time.exposed
    # What is computed, then what is waited for, each from the longest on.
    ordered = sorted(kinds, key=lambda kind: (kind.startswith(WAITING), -kinds[kind]))
    rows = [row(kind, lambda part, kind=kind: plan.figures.parts[part].get(kind, 0.0), kinds[kind]) for kind in ordered]
    rows.append(row("all", lambda part: sum(plan.figures.parts[part].values()), sum(kinds.values())))
    overlapped = plan.figures.time.overlapped
    rows.append(
        ("if all overlaps that can", *("",) * len(parts), _milliseconds(overlapped), percent(overlapped / step))
    )
    return Table(
        "Time of a step, ms",
        ("by the compiler's cycles", *parts, "step", "share"),
        tuple(rows),
        "What is waited for is exposed; all else that is sent or copied goes on beside compute.",
        ("all",),
    )


def collectives(plan: Plan) -> Table:
    """What devices exchange, by part and kind."""
    rows = [
        (
            f"{part}, {kind}",
            count(each.count),
            f"{each.bytes / 1e9:,.2f}",
            _milliseconds(each.seconds),
            _milliseconds(each.waited),
            _beside(each),
        )
        for part in _ordered(plan.figures.exchanged, PARTS)
        for kind, each in sorted(plan.figures.exchanged[part].items(), key=lambda item: -item[1].seconds)
    ]
    return Table(
        "Collectives of a step",
        ("part and kind", "number", "GB", "ms on links", "ms waited", "beside compute"),
        tuple(rows),
        "Bytes are the larger of what a device gives and what it gets.",
    )


def utilisations(plan: Plan) -> Table:
    """Shares of the peak, in three ways to count."""
    found = plan.utilisations
    rows = {
        "by the compiler's cycles": found.compiler,
        "as chips were measured": found.measured,
        "by the compiler, attention counted as if uncausal": found.uncausal,
    }
    return Table(
        "Utilisation",
        ("model FLOPs over the peak", "overlapped", "exposed"),
        tuple((name, percent(share.overlapped), percent(share.exposed)) for name, share in rows.items()),
        "Overlapped: as if all were hidden that can be; exposed: as the program is scheduled.",
    )


def training(plan: Plan) -> Table:
    """The whole run."""
    run = plan.run
    per_step = tokens_per_step(plan.step.training, plan.step.model.context_length)
    rows = [
        ("tokens a step", count(per_step)),
        ("steps", count(run.steps)),
        ("tokens", f"{run.tokens / _BILLION:,.1f} billion"),
        ("tokens a day", f"{run.tokens_per_day / _BILLION:,.2f} billion"),
        ("time", long_duration(run.days)),
        ("chip-hours", count(run.chip_hours)),
    ]
    if run.cost:
        rows.append(("cost", _cost(plan)))
    return Table("Training", ("of the whole run", "amount"), tuple(rows))


def arithmetic(plan: Plan) -> Table:
    """What is computed, beside what the model asks for: what is computed again is more."""
    computed = plan.figures.computed_flops
    rows = [("of the model", plan.model_flops), ("of what is computed", computed)]
    cells = tuple((name, f"{flops / 1e12:,.1f}", f"{flops / plan.model_flops:.3f}") for name, flops in rows)
    return Table("FLOPs of a device in a step", ("10^12 FLOPs", "number", "times the model's"), cells)


def compilation(plan: Plan) -> Table:
    """What the figures were read from."""
    layers = plan.step.model.num_layers
    numbers = " and ".join(map(str, plan.compiled_layers))
    whole = plan.compiled_layers == (layers,)
    told = f"all {layers}" if whole else f"{numbers} of {layers}, the others as those by which these differ"
    rows = (("layers compiled", told), ("time to compile", duration(plan.compile_seconds)))
    return Table("Compilation", ("of the program", "amount"), rows)


def gib(size: float) -> str:
    """A number of bytes in GiB, as the memory of chips is told."""
    return f"{size / GIB:,.2f} GiB"


def duration(seconds: float) -> str:
    """A time, in milliseconds where it is short, and in microseconds where it is shorter than one."""
    if seconds >= _SMALL_SECONDS:
        return f"{seconds:,.0f} s"
    return f"{_milliseconds(seconds)} ms" if seconds >= 1e-3 else f"{1e6 * seconds:.3g} µs"


def long_duration(days: float) -> str:
    """A time in days, or in hours where it is less than two days."""
    return f"{24 * days:,.1f} hours" if days < 2 else f"{days:,.1f} days"


def _cost(plan: Plan) -> str:
    run = plan.run
    return f"{count(run.cost)} at {run.cost / run.chip_hours:,.2f} a chip-hour"


def _milliseconds(seconds: float) -> str:
    milliseconds = 1000 * seconds
    if 0 < milliseconds < _LEAST_MILLISECONDS:
        return f"<{_LEAST_MILLISECONDS}"
    return f"{milliseconds:,.{1 if 0 < milliseconds < _SMALL_MILLISECONDS else 0}f}"


def _beside(each: Exchanged) -> str:
    if each.asynchronous == each.count:
        return "all"
    return f"{count(each.asynchronous)} of them" if each.asynchronous else "none"


def _parameters(plan: Plan) -> str:
    model, adapters = plan.step.model, plan.step.adapters
    trained = count_params(trained_table(model, adapters))
    frozen = count_params(untrained_table(model, adapters))
    return f"{_of_many(trained)} parameters" + (f" trained beside {_of_many(frozen)} frozen ones" if frozen else "")


def _of_many(number: int) -> str:
    billions = number / _BILLION
    return f"{billions:.2f} billion" if billions >= 1 else f"{number / _MILLION:.1f} million"


def _ordered(found: Mapping[str, object], order: Sequence[str]) -> list[str]:
    """The names that are there, those of `order` first."""
    return [name for name in order if name in found] + [name for name in found if name not in order]
