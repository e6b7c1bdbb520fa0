"""A training step compiled for a slice that is not there, in a process of its own.

It is the function that `train` runs, with the same settings and compiler options. A process of its own, for libtpu
looks for its environment when JAX is imported, and takes gigabytes that nobody gives back.
"""

import contextlib
import dataclasses
import multiprocessing
import os
import re
import time
import traceback
from collections.abc import Iterator, Mapping
from multiprocessing.connection import Connection
from typing import Any

from sc2jax.errors import UserError
from sc2jax.model.config import AdapterConfig, ModelConfig
from sc2jax.parallel.config import MeshConfig
from sc2jax.plan.environment import ENVIRONMENT, end_with_parent
from sc2jax.plan.interconnect import Place
from sc2jax.plan.slices import Slice, require_compiler
from sc2jax.training.config import TrainingConfig

_SIZE = r"([\d.]+)([KMG])"
_OUT_OF_MEMORY = (
    re.compile(rf"Used {_SIZE} of {_SIZE} (hbm|host)", re.IGNORECASE),
    re.compile(rf"required for [^(]*\({_SIZE}\) exceeds available (hbm|host)[^(]*\({_SIZE}\)", re.IGNORECASE),
)
"""What the compiler says of a program that is too large: of all that it holds, or of its temporaries alone."""
_NO_ROOM = re.compile(
    rf"Ran out of memory in memory space ([sv]mem)\b.*?(?:Used {_SIZE} of {_SIZE}|size {_SIZE} and limit {_SIZE})",
    re.IGNORECASE | re.DOTALL,
)
"""What it says of an operation or kernel that wants more of a core's own memory than there is or than it may take."""
_UNITS = {"K": 1 << 10, "M": 1 << 20, "G": 1 << 30}


@dataclasses.dataclass(frozen=True)
class PlannedStep:
    """What a step follows from."""

    model: ModelConfig
    adapters: AdapterConfig
    training: TrainingConfig
    mesh: MeshConfig
    seed: int


@dataclasses.dataclass(frozen=True)
class Memory:
    """Bytes of a device that a program takes: of its arguments, beside them at its peak, and of its host's memory."""

    arguments: int
    beside: int
    host: int

    @property
    def peak(self) -> int:
        """Of the device's own memory."""
        return self.arguments + self.beside


@dataclasses.dataclass(frozen=True)
class CompiledStep:
    """A step as the compiler has made it.

    Attributes:
        memory: that it takes.
        seconds: that its compilation took.
        places: of the devices, by their number in the program.
        mesh: sizes of the mesh's axes.
        text: of the optimized program.
    """

    memory: Memory
    seconds: float
    places: tuple[Place, ...]
    mesh: dict[str, int]
    text: str


@dataclasses.dataclass(frozen=True)
class TooLarge:
    """A step that does not fit: the bytes that it takes and those that there are, of "hbm" or of the "host".

    `layers` are those that were compiled.
    """

    needed: int
    there: int
    memory: str
    layers: int


def compile_step(step: PlannedStep, slice_: Slice) -> CompiledStep | TooLarge:
    """Compiles the step for the slice, or for as many of them as the mesh has.

    Raises:
        UserError: the TPU's compiler is not here or was ended, or settings do not fit each other or the slice.
    """
    require_compiler()
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe(duplex=False)
    process = context.Process(target=_send, args=(theirs, step, slice_), daemon=True)
    with _environment(ENVIRONMENT):
        process.start()
    theirs.close()
    try:
        found = ours.recv()
    except EOFError as error:
        raise UserError(
            "the compiler was ended from outside, as happens where memory runs out: close other programs, or plan with "
            "--config.plan.whole=false"
        ) from error
    finally:  # also where this is interrupted, while the other one compiles for minutes
        process.kill()
        process.join()
    if isinstance(found, Exception):
        raise found
    return found


@contextlib.contextmanager
def _environment(variables: Mapping[str, str]) -> Iterator[None]:
    """Sets variables of the environment for what is begun meanwhile."""
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name)
            if value is not None:
                os.environ[name] = value


def _send(to: Connection, step: PlannedStep, slice_: Slice) -> None:
    end_with_parent()
    try:
        found = _compiled(step, slice_)
    except Exception as error:
        found = error if isinstance(error, UserError) else RuntimeError("".join(traceback.format_exception(error)))
    to.send(found)


def _compiled(step: PlannedStep, slice_: Slice) -> CompiledStep | TooLarge:
    import jax

    from sc2jax.parallel.mesh import create_mesh
    from sc2jax.training.global_batch import abstract_batch
    from sc2jax.training.objective import language_model, untrained_table
    from sc2jax.training.schedule import fitted_training
    from sc2jax.training.step import abstract_state, compile_train_step

    # What is compiled for a device that is not there is written to JAX's cache and cannot be read back.
    jax.config.update("jax_enable_compilation_cache", False)
    model, row_length = step.model, step.model.context_length
    mesh = create_mesh(step.mesh, slice_.devices_of(step.mesh.slices))
    training = fitted_training(step.training, row_length)
    objective = language_model(model, step.adapters, training, step.seed, mesh)
    frozen = untrained_table(model, step.adapters)
    jitted: Any = compile_train_step(
        objective.table,
        objective.loss,
        training,
        mesh,
        row_length=row_length,
        seed=step.seed,
        frozen=frozen,
        scaled=objective.scaled,
    )
    state = abstract_state(objective.table, training, mesh, frozen)
    began = time.monotonic()
    try:
        compiled = jitted.lower(state, abstract_batch(mesh, training.batch_size, row_length)).compile()
    except jax.errors.JaxRuntimeError as error:
        _refuse_no_room(str(error), slice_)
        _refuse_no_route(str(error), slice_, step.mesh)
        too_large = _too_large(str(error), model.num_layers)
        if too_large is None:
            raise
        return too_large
    sizes = compiled.memory_analysis()
    return CompiledStep(
        # Temporaries may lie where arguments that are given away were: their sizes do not add up to the peak.
        Memory(
            sizes.argument_size_in_bytes,
            sizes.peak_memory_in_bytes - sizes.argument_size_in_bytes,
            sizes.host_temp_size_in_bytes + sizes.host_argument_size_in_bytes,
        ),
        time.monotonic() - began,
        tuple(Place(getattr(device, "slice_index", 0) or 0, tuple(device.coords)) for device in mesh.devices.flat),
        dict(mesh.shape),
        compiled.as_text(),
    )


def _too_large(message: str, layers: int) -> TooLarge | None:
    found = next(filter(None, (pattern.search(message) for pattern in _OUT_OF_MEMORY)), None)
    if found is None:
        return None
    memory = next(part for part in found.groups() if part.lower() in ("hbm", "host"))
    needed, there = (float(size) * _UNITS[unit.upper()] for size, unit in re.findall(_SIZE, found[0]))
    return TooLarge(int(needed), int(there), memory.lower(), layers)


def _refuse_no_room(message: str, slice_: Slice) -> None:
    """Raises UserError if it says that a core's own memory is too small for an operation."""
    found = _NO_ROOM.search(message)
    if found is None:
        return
    memory, *sizes = (part for part in found.groups() if part)
    kernel = re.search(r"\b(\w+)/pallas_call", message)
    remedy = {
        "smem": "give it fewer rows of a device at a time, with a larger training.accumulation or a smaller "
        "training.batch_size",
        "vmem": "let operations take more, with xla_tpu_scoped_vmem_limit_kib=KIB in training.compiler_options, or "
        "leave out the option that asks for it",
    }
    raise UserError(
        f"{kernel[1] if kernel else 'an operation'} needs {sizes[0]} {sizes[1]}iB of a core's {memory} on "
        f"{slice_.chip.name}, which has {sizes[2]} {sizes[3]}iB for it: {remedy[memory.lower()]}"
    )


def _refuse_no_route(message: str, slice_: Slice, mesh: MeshConfig) -> None:
    """Raises UserError if it says that the slice's links cannot carry a collective of the mesh."""
    if "limited ICI routing" in message:
        axes = {name: size for name, size in dataclasses.asdict(mesh).items() if isinstance(size, int) and size > 1}
        raise UserError(
            f"the TPU's compiler finds no route for a collective over {slice_.name} with the mesh {axes}: share the "
            "same devices out otherwise, such as twice mesh.sequence and half of mesh.data"
        )
