"""What a Pallas call in a compiled program costs, by the TPU compiler's own schedule of its kernel.

XLA gives no estimate for such a call. The kernel alone is compiled at its shape, its listing is read, and each branch
is multiplied by how often it runs. Only attention kernels are known: sc2jax's own and JAX's splash attention.
"""

import contextlib
import dataclasses
import functools
import hashlib
import importlib.metadata
import json
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from sc2jax import storage
from sc2jax.errors import UserError
from sc2jax.json_files import as_kind, read_json
from sc2jax.model.config import ModelConfig
from sc2jax.parallel.chips import GENERATIONS
from sc2jax.plan import kernel_splash, kernel_window
from sc2jax.plan.kernel_call import Array, KernelCall, UnknownKernelError
from sc2jax.plan.kernel_compilation import dump, kernels_of, without_number
from sc2jax.plan.kernel_launch import Subject


@dataclasses.dataclass(frozen=True)
class KernelCost:
    """Of one call.

    Attributes:
        cycles: on the busier core of the device, without waiting for copies.
        flops: of the matrix products over the visible pairs.
        hbm_bytes: between HBM and VMEM, of all cores.
        vmem_bytes: that the kernel has for itself on each core.
    """

    cycles: int
    flops: int
    hbm_bytes: int
    vmem_bytes: int


def kernel_call(
    name: str, operands: Sequence[Array], results: Sequence[Array], model: ModelConfig, metadata: str = ""
) -> KernelCall:
    """The call that an instruction with the custom call target `tpu_custom_call` is.

    Args:
        name: the instruction's.
        operands: its arrays, scalars to be fetched ahead first, as the program has them.
        results: its arrays.
        model: of which the window and the size of a head are taken, which no shape tells.
        metadata: the instruction's `frontend_attributes`, where splash attention notes the sizes of its blocks.

    Raises:
        UnknownKernelError: it is no kernel that is described here, or is called in another way than described.
    """
    kernel = without_number(name)
    try:
        if kernel in kernel_window.PRODUCTS:
            return kernel_window.read_call(kernel, operands, results, model.window, model.head_dim)
        if kernel.startswith("splash"):
            return kernel_splash.read_call(kernel, operands, results, model.window, metadata)
        raise UnknownKernelError(f"known are {', '.join(kernel_window.PRODUCTS)} and those of splash attention")
    except UnknownKernelError as error:
        shapes = ", ".join(f"{array.element_type}{list(array.shape)}" for array in operands)
        raise UnknownKernelError(f"nothing says what the Pallas call {name}({shapes}) costs: {error}") from error


def kernel_cost(call: KernelCall, generation: str, folder: str) -> KernelCost:
    """The cost of a call on a device of a TPU generation.

    A compile takes up to half a minute, so costs are kept in `folder`, one JSON file each, and found again under
    everything that they follow from. What cannot be read there, or be kept, is compiled again: the step of which the
    call is part took minutes.

    Raises:
        RuntimeError: the kernel does not compile for the chip.
        MissedLoopError: the compiler made something else of it than is described.
    """
    key = _follows_from(call, generation)
    path = storage.join(folder, f"{call.kernel}-{hashlib.sha256(key.encode()).hexdigest()[:24]}.json")
    with contextlib.suppress(OSError, UserError):
        kept = read_json(path, _KeptCost, remedy="delete it, and the kernel is compiled again")
        if kept.follows_from == key:
            return kept.cost
    cost = _measured_cost(call, generation)
    with contextlib.suppress(OSError, UserError):
        kept = json.dumps(dataclasses.asdict(_KeptCost(key, cost)), indent=1)
        storage.write_whole(path, kept.encode())
    return cost


def subject(call: Mapping[str, Any]) -> tuple[Callable, tuple[Any, ...]]:
    """For `dump`, which compiles in its own process: a function that makes the call, and its abstract arguments."""
    described = _described(as_kind(call, KernelCall, where="a kernel's call", remedy="pass a KernelCall's fields"))
    return described.function, described.arguments


@dataclasses.dataclass(frozen=True)
class _KeptCost:
    follows_from: str
    cost: KernelCost


def _follows_from(call: KernelCall, generation: str) -> str:
    versions = {package: importlib.metadata.version(package) for package in ("jax", "jaxlib", "libtpu")}
    key = {"call": dataclasses.asdict(call), "chip": dataclasses.asdict(GENERATIONS[generation])}
    return json.dumps(key | versions | {"sources": _sources_digest()}, sort_keys=True)


@functools.cache
def _sources_digest() -> str:
    """Of the kernels' code, and of the code that describes and reads them."""
    room = Path(__file__).parent
    sources = sorted([*room.glob("kernel*.py"), *(room.parent / "kernels").glob("*.py")])
    return hashlib.sha256(b"\0".join(source.read_bytes() for source in sources)).hexdigest()


def _measured_cost(call: KernelCall, generation: str) -> KernelCost:
    launch = _described(call).launch(call.kernel)
    with tempfile.TemporaryDirectory() as scratch:
        dump(generation, f"{__name__}:subject", [dataclasses.asdict(call)], Path(scratch))
        kernel = kernels_of(generation, Path(scratch))[call.kernel]
    return KernelCost(
        launch.schedule(kernel)["cycles"], launch.visible_flops, launch.moved_bytes(kernel), kernel.vmem_bytes
    )


def _described(call: KernelCall) -> Subject:
    return kernel_window.describe(call) if call.splash is None else kernel_splash.describe(call)
