"""What would make a step fit that does not: changes of its settings, the cheapest first, judged by estimate.

What a changed step takes is what the compiler said of the step itself, times what is estimated of one over the other.
"""

import dataclasses
import math
from collections.abc import Callable, Iterator
from typing import Any

from sc2jax.errors import UserError
from sc2jax.parallel import rules
from sc2jax.parallel.mesh import mesh_sizes
from sc2jax.plan.compilation import PlannedStep, TooLarge
from sc2jax.plan.memory import estimated_bytes, offloaded_bytes
from sc2jax.plan.slices import Slice, named_slices

_HARDER = ("none", "dots", "full")
"""Rematerializations, from the one that keeps most."""


@dataclasses.dataclass(frozen=True)
class Change:
    """Settings that make a step fit.

    Attributes:
        arguments: of the command line, that bring them about.
        reason: what they do.
        needed: bytes that the changed step takes, by estimate.
    """

    arguments: tuple[str, ...]
    reason: str
    needed: int


@dataclasses.dataclass(frozen=True)
class _Variant:
    """A step for a slice, and how it differs from the one that does not fit."""

    step: PlannedStep
    slice: Slice
    arguments: tuple[str, ...] = ()
    reasons: tuple[str, ...] = ()

    @property
    def sizes(self) -> dict[str, int]:
        """Of the axes of its mesh."""
        return mesh_sizes(self.step.mesh, self.slice.devices * self.step.mesh.slices)

    def changed(self, reason: str, section: str, **values: Any) -> "_Variant":
        """With other values in a section of its settings."""
        settings = dataclasses.replace(getattr(self.step, section), **values)
        arguments = tuple(f"--config.{section}.{name}={'' if value == () else value}" for name, value in values.items())
        step = dataclasses.replace(self.step, **{section: settings})
        return _Variant(step, self.slice, (*self.arguments, *arguments), (*self.reasons, reason))


_Lever = Callable[[_Variant], Iterator[_Variant]]


def changes_that_fit(too_large: TooLarge, step: PlannedStep, slice_: Slice) -> list[Change]:
    """Of each kind of change the least that makes a step fit by itself, or else the least that does of all together.

    The kinds are fewer rows at a time, more rematerialization and fewer copies of the parameters; for the host's memory
    the first alone. The next larger slice on which the step fits stands last, if there is one.
    """
    on_host = too_large.memory == "host"
    estimate = offloaded_bytes if on_host else estimated_bytes
    levers: tuple[_Lever, ...] = (_more_accumulation, _more_rematerialization, _fewer_copies)[: 1 if on_host else None]
    start = _Variant(step, slice_)
    scale = too_large.needed / estimate(step, start.sizes)

    def first_that_fits(variants: Iterator[_Variant]) -> list[Change]:
        for variant in variants:
            try:
                needed = round(scale * estimate(variant.step, variant.sizes))
            except UserError:  # the changed mesh does not divide the model or the batch: nothing to propose
                continue
            if needed <= too_large.there:
                return [Change(variant.arguments, ", ".join(variant.reasons), needed)]
        return []

    alone = [change for lever in levers for change in first_that_fits(lever(start))]
    return (alone or first_that_fits(_together(start, levers))) + first_that_fits(_larger_slices(start))


def _together(start: _Variant, levers: tuple[_Lever, ...]) -> Iterator[_Variant]:
    """The variants of each lever, those of the next one from the last of the one before on."""
    for lever in levers:
        for variant in lever(start):
            yield variant
            start = variant


def _more_accumulation(of: _Variant) -> Iterator[_Variant]:
    rows = of.step.training.batch_size // math.prod(of.sizes[name] for name in rules.RULES[rules.BATCH])
    for parts in range(of.step.training.accumulation + 1, rows + 1):
        if rows % parts == 0:
            told = f"{rows // parts} row{'s' if rows > parts else ''} of a device at a time"
            yield of.changed(told, "training", accumulation=parts)


def _more_rematerialization(of: _Variant) -> Iterator[_Variant]:
    now, model = of.step.model.rematerialization, of.step.model
    harder = _HARDER[_HARDER.index(now) + 1 :] if now in _HARDER else _HARDER[-1:]
    names = [name for name in ("kept_activations", "offloaded_activations") if getattr(model, name)]
    for policy in harder:
        yield of.changed("more computed again", "model", rematerialization=policy, **dict.fromkeys(names, ()))


def _fewer_copies(of: _Variant) -> Iterator[_Variant]:
    sizes = of.sizes
    if sizes["data"] > 1:
        yield of.changed("one copy of the parameters", "mesh", data=1, fsdp=sizes["data"] * sizes["fsdp"])


def _larger_slices(of: _Variant) -> Iterator[_Variant]:
    mesh = of.step.mesh
    spread = of if 0 in dataclasses.astuple(mesh) else of.changed("", "mesh", fsdp=0)
    for larger in named_slices(of.slice.chip):
        if larger.devices > of.slice.devices:
            arguments = (f"--config.plan.slice={larger.name}", *spread.arguments)
            yield _Variant(spread.step, larger, arguments, ("a larger slice",))
