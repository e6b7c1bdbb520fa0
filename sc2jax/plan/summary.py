"""A plan in lines for a terminal, and what is said of a step that does not fit."""

import dataclasses
from collections.abc import Iterator, Sequence

from sc2jax.pages import percent
from sc2jax.plan import tables
from sc2jax.plan.changes import changes_that_fit
from sc2jax.plan.compilation import PlannedStep, TooLarge
from sc2jax.plan.planning import Plan
from sc2jax.plan.search import Ranked
from sc2jax.plan.slices import Slice

_GAP = "  "


def summary(plan: Plan) -> list[str]:
    """The answer in the first lines, and all figures below it, as aligned tables."""
    told = list(tables.answer(plan))
    width = max(len(name) for name, _ in told)
    lines = [tables.headline(plan), *tables.layout(plan)]
    lines += [f"{name:<{width}}{_GAP}{figure}" for name, figure in told]
    if not plan.fits:
        needed = TooLarge(plan.figures.memory.peak, plan.usable_bytes, "hbm", plan.step.model.num_layers)
        lines += _changes(needed, plan.step, plan.slice)
    for table in tables.tables(plan):
        lines += ["", *_lines(table)]
    return lines


def refusal(too_large: TooLarge, step: PlannedStep, slice_: Slice) -> str:
    """What is said of a step that does not fit, with what would make it fit."""
    where = "the host's memory for each device" if too_large.memory == "host" else "a device's memory"
    layers = step.model.num_layers
    few = f" of {too_large.layers} layers" if too_large.layers != layers else ""
    step = dataclasses.replace(step, model=dataclasses.replace(step.model, num_layers=too_large.layers))
    first = (
        f"the step{few} does not fit {slice_.name}: it takes {tables.gib(too_large.needed)} of {where}, "
        f"{tables.gib(too_large.needed - too_large.there)} more than the {tables.gib(too_large.there)} that there are"
    )
    return "\n  ".join([first, *_changes(too_large, step, slice_)])


def _changes(too_large: TooLarge, step: PlannedStep, slice_: Slice) -> Iterator[str]:
    found = changes_that_fit(too_large, step, slice_)
    if not found:
        yield "by estimate neither fewer rows at a time nor rematerialization nor a larger slice makes it fit;"
        yield "split it with --config.mesh.tensor too, or plan it for a chip with more memory"
        return
    yield "by estimate it fits with any of these added to the same command:"
    for change in found:
        yield f"{_GAP}{' '.join(change.arguments)}  ({change.reason}: {tables.gib(change.needed)})"


def _lines(table: tables.Table) -> Iterator[str]:
    yield table.title
    rows = [table.columns, *table.rows]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for name, *figures in rows:
        cells = [f"{figure:>{width}}" for figure, width in zip(figures, widths[1:], strict=True)]
        yield f"{_GAP}{name:<{widths[0]}}{_GAP}{_GAP.join(cells)}".rstrip()
    if table.note:
        yield f"{_GAP}{table.note}"


def ranking(ranked: Sequence[Ranked], command: str) -> Iterator[str]:
    """What a search has found, the fastest first, each with the command that trains so: this one, with arguments."""
    for number, each in enumerate(ranked, start=1):
        memory = each.plan.figures.memory.peak
        found = f"{tables.duration(each.seconds)} a step, {tables.gib(memory)}"
        if each.is_whole:
            share = percent(each.plan.utilisations.compiler.exposed)
            yield f"{number}. {found}, utilisation {share}"
        else:
            yield f"{number}. {found} with {each.plan.step.model.num_layers} layers alone; by the turns of their loops"
        yield f"{_GAP}{_GAP}{' '.join([command, *each.candidate.arguments])}"
