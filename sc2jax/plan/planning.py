"""A plan: a training step compiled for a slice, and all that follows from it."""

import dataclasses
from collections.abc import Callable
from typing import Any

from sc2jax.model.params import count_params
from sc2jax.parallel.chips import GIB
from sc2jax.plan.compilation import CompiledStep, PlannedStep, TooLarge, compile_step
from sc2jax.plan.estimate import Run, Utilisation, uncausal_flops_per_token, utilisation, whole_run
from sc2jax.plan.figures import Figures, extrapolated, figures_of
from sc2jax.plan.hlo import read_program
from sc2jax.plan.hlo_text import Instruction
from sc2jax.plan.interconnect import Network
from sc2jax.plan.kernels import KernelCost, kernel_call, kernel_cost
from sc2jax.plan.slices import Slice
from sc2jax.plan.timeline import Timeline
from sc2jax.training.objective import trained_table
from sc2jax.training.schedule import fitted_training, tokens_per_step
from sc2jax.training.utilisation import flops_per_token

FEW_LAYERS, MANY_LAYERS = 4, 8
"""Of the versions that are compiled where the whole is not."""
COMFORTABLE = 0.92
"""Of the memory that the runtime gives, at most: what else is on a device, and what a compiler's next version takes."""


@dataclasses.dataclass(frozen=True)
class Utilisations:
    """Of the peak, by the compiler's cycles, and by what chips were measured at; and as some peers count FLOPs."""

    compiler: Utilisation
    measured: Utilisation
    uncausal: Utilisation


@dataclasses.dataclass(frozen=True)
class Plan:
    """What a step takes on a slice.

    Attributes:
        step: what was planned.
        slice: where.
        devices: JAX devices, of all slices.
        compiled_layers: the numbers of layers of the programs that were compiled.
        compile_seconds: that these took.
        mesh: sizes of its axes.
        figures: of a device.
        model_flops: of the model, of a device in a step.
        utilisations: shares of the peak.
        run: of the whole training.
        timeline: of the program with the most layers.
    """

    step: PlannedStep
    slice: Slice
    devices: int
    compiled_layers: tuple[int, ...]
    compile_seconds: float
    mesh: dict[str, int]
    figures: Figures
    model_flops: float
    utilisations: Utilisations
    run: Run
    timeline: Timeline

    @property
    def usable_bytes(self) -> int:
        """What the runtime gives of a device's memory."""
        return self.slice.tpu.usable_memory_bytes

    @property
    def fits(self) -> bool:
        """Whether the step does, with nothing else on the device."""
        return self.figures.memory.peak <= self.usable_bytes


def make_plan(
    step: PlannedStep,
    slice_: Slice,
    *,
    price: float,
    whole: bool,
    cache: str,
    tell: Callable[[str], None],
    compiled_by: Callable[[PlannedStep, Slice], CompiledStep | TooLarge] = compile_step,
) -> Plan | TooLarge:
    """Compiles a step for a slice and reads what the compiler has made of it.

    Args:
        step: what is planned.
        slice_: where.
        price: of a chip for an hour; 0: not known.
        whole: whether all layers are compiled, as they are where a turn of their loop is several of them.
        cache: a folder for what is found of kernels.
        tell: says what is being done.
        compiled_by: what compiles a step, or finds it where it was kept.

    Raises:
        UserError: settings do not fit each other or the slice.
    """
    layers = step.model.num_layers
    few = not whole and layers > MANY_LAYERS and step.model.scan_unroll == 1
    numbers = (FEW_LAYERS, MANY_LAYERS) if few else (layers,)
    read: list[tuple[CompiledStep, Figures, Timeline]] = []
    for number in numbers:
        tell(f"compiling a step of {number} layers for {slice_.name}")
        model = dataclasses.replace(step.model, num_layers=number)
        compiled = compiled_by(dataclasses.replace(step, model=model), slice_)
        if isinstance(compiled, TooLarge):
            return compiled
        tell(f"compiled in {compiled.seconds:.0f} s; reading it")
        read.append((compiled, *read_step(compiled, step, slice_, cache)))
    compiled, figures, timeline = read[-1]
    if len(read) > 1:
        figures = extrapolated(read[0][1], figures, FEW_LAYERS, MANY_LAYERS, layers)
    return _plan(step, slice_, price, numbers, sum(each[0].seconds for each in read), compiled, figures, timeline)


def read_step(compiled: CompiledStep, step: PlannedStep, slice_: Slice, cache: str) -> tuple[Figures, Timeline]:
    """What is found of a compiled step; `cache` is a folder for what is found of kernels."""
    network = Network(slice_.chip, slice_.extents, slice_.wraps, compiled.places)
    program = read_program(compiled.text)

    def cost_of(kernel: Instruction) -> KernelCost:
        operands = [array for each in program.home(kernel).operands(kernel) for array in each.results]
        metadata = kernel.attributes.get("frontend_attributes", "")
        call = kernel_call(kernel.name, operands, kernel.results, step.model, metadata)
        return kernel_cost(call, slice_.tpu.generation, cache)

    return figures_of(compiled, program, slice_.chip, slice_.tpu, network, cost_of)


def _plan(
    step: PlannedStep,
    slice_: Slice,
    price: float,
    layers: tuple[int, ...],
    seconds: float,
    compiled: CompiledStep,
    figures: Figures,
    timeline: Timeline,
) -> Plan:
    row_length, devices = step.model.context_length, len(compiled.places)
    training = fitted_training(step.training, row_length)
    tokens = tokens_per_step(training, row_length)
    adapters = trained_table(step.model, step.adapters) if step.adapters.rank else ()
    flops = tokens * flops_per_token(step.model, row_length, adapters)
    uncausal = tokens * uncausal_flops_per_token(step.model, row_length, adapters)
    peak = slice_.chip.peak_flops
    return Plan(
        step=step,
        slice=slice_,
        devices=devices,
        compiled_layers=layers,
        compile_seconds=seconds,
        mesh=compiled.mesh,
        figures=figures,
        model_flops=flops / devices,
        utilisations=Utilisations(
            utilisation(flops, devices, peak, figures.time),
            utilisation(flops, devices, peak, figures.measured),
            Utilisation(
                *(uncausal / devices / peak / seconds for seconds in (figures.time.overlapped, figures.time.exposed))
            ),
        ),
        run=whole_run(training.steps, tokens, figures.time.exposed, devices // slice_.chip.devices, price),
        timeline=timeline,
    )


def plan_json(plan: Plan) -> dict[str, Any]:
    """The plan as it is written down, by name."""
    memory, figures = plan.figures.memory, plan.figures
    model = plan.step.model
    return {
        "fits": plan.fits,
        "hbm_gib": memory.peak / GIB,
        "step_seconds": figures.time.exposed,
        "utilisation": dataclasses.asdict(plan.utilisations.compiler),
        "slice": {
            "name": plan.slice.name,
            "chip": plan.slice.chip.name,
            "chips": plan.devices // plan.slice.chip.devices,
            "slices": plan.step.mesh.slices,
        },
        "devices": plan.devices,
        "mesh": plan.mesh,
        "rows_a_device": plan.step.training.batch_size / plan.devices,
        "accumulation": plan.step.training.accumulation,
        "rematerialization": model.rematerialization,
        "parameters": count_params(trained_table(model, plan.step.adapters)),
        "compiled_layers": list(plan.compiled_layers),
        "compile_seconds": plan.compile_seconds,
        "memory": {
            "arguments_gib": memory.arguments / GIB,
            "beside_gib": memory.beside / GIB,
            "host_gib": memory.host / GIB,
            "usable_gib": plan.usable_bytes / GIB,
            "share": memory.peak / plan.usable_bytes,
        },
        "seconds": dataclasses.asdict(figures.time),
        "seconds_as_measured": dataclasses.asdict(figures.measured),
        "utilisation_as_measured": dataclasses.asdict(plan.utilisations.measured),
        "utilisation_uncausal": dataclasses.asdict(plan.utilisations.uncausal),
        "flops": {
            "model": plan.model_flops,
            "computed": figures.computed_flops,
            "computed_over_model": figures.computed_flops / plan.model_flops,
        },
        "parts": {part: dict(kinds) for part, kinds in figures.parts.items()},
        "collectives": {
            part: {kind: dataclasses.asdict(each) for kind, each in kinds.items()}
            for part, kinds in figures.exchanged.items()
        },
        "training": dataclasses.asdict(plan.run),
    }
