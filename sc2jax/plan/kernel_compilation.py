"""Compiles functions for one device of a TPU with the TPU's own compiler, on a machine without one.

`dump` does it in a process of its own (`python -m sc2jax.plan.kernel_compilation`), since libtpu reads its flags once,
and keeps the compiler's listing of every Pallas kernel, which `kernels_of` reads.
"""

import errno
import importlib
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from sc2jax.parallel.chips import GENERATIONS
from sc2jax.plan.environment import ENVIRONMENT, end_with_parent
from sc2jax.plan.kernel_schedule import Kernel, read_kernel
from sc2jax.plan.slices import Slice


def one_device(generation: str) -> Any:
    """A device of a TPU generation, in the slice that is one host.

    Raises:
        UserError: the TPU's compiler is not here.
        RuntimeError: the environment is not what it needs.
    """
    chip = GENERATIONS[generation]
    assert chip.tpu is not None
    return Slice(chip, (2, 2, 1)[: chip.tpu.torus_dimensions]).devices_of()[0]


def compile_for(generation: str, function: Callable, *abstract_args: Any) -> Any:
    """The function compiled by the real TPU compiler for one device of a generation.

    Raises:
        UserError, RuntimeError: as `one_device`.
    """
    import jax

    on_device = jax.sharding.SingleDeviceSharding(one_device(generation))

    def placed(argument: Any) -> Any:
        return jax.ShapeDtypeStruct(argument.shape, argument.dtype, sharding=on_device)

    return jax.jit(function).lower(*jax.tree.map(placed, abstract_args)).compile()


def dump(generation: str, subject: str, arguments: Sequence[Any], folder: Path) -> dict[str, Any]:
    """Compiles a subject in its own process, with only its own environment and flags, and dumps into `folder`.

    Args:
        generation: of the TPU.
        subject: FILE.py:FUNCTION or MODULE:FUNCTION, which returns the function to compile and a tuple of its abstract
            arguments.
        arguments: the subject's, anything that JSON holds.
        folder: for the dump, made if there is none.

    Returns:
        The bytes of arguments, results and temporaries, and `cycles_around_kernels`, XLA's estimate for all that is no
        Pallas kernel.

    Raises:
        RuntimeError: it does not compile.
        OSError: the dump, up to some hundred megabytes, has no room on the folder's disk.
    """
    folder.mkdir(parents=True, exist_ok=True)
    flags = f"--xla_mosaic_dump_to={folder} --xla_jf_dump_to={folder} --xla_jf_dump_llo_text=true"
    report = folder / "compiled.json"
    command = [sys.executable, "-m", __name__, generation, subject, json.dumps(list(arguments)), str(report)]
    # A program from jax's cache would leave no dump, and the caller's other jax settings must not apply.
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("JAX_", "XLA_"))}
    environment = inherited | ENVIRONMENT | {"LIBTPU_INIT_ARGS": flags, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(command, check=False, env=environment, capture_output=True, text=True)
    if done.returncode and (full := os.strerror(errno.ENOSPC)) in done.stderr:
        raise OSError(errno.ENOSPC, full, str(folder))
    if done.returncode:
        raise RuntimeError(f"{subject}{tuple(arguments)} does not compile for {generation}:\n{done.stderr[-4000:]}")
    return json.loads(report.read_text())


def kernels_of(generation: str, folder: Path) -> dict[str, Kernel]:
    """The Pallas kernels of a dump by name, without the number that the compiler adds to it."""
    listings = [path for path in sorted(folder.glob("*-final_bundles.txt")) if "schedule-analysis" not in path.name]
    pallas = [
        path for path in listings if re.search(r"entry bundle: \S+ = custom-call\(", path.read_text(errors="replace"))
    ]
    kernels = [read_kernel(generation, path) for path in pallas]
    return {without_number(kernel.name): kernel for kernel in kernels}


def without_number(name: str) -> str:
    """An instruction's name without the number by which the compiler tells it from its namesakes."""
    return name.partition(".")[0]


def _load(subject: str) -> Callable:
    module, name = subject.rsplit(":", 1)
    if module.endswith(".py"):
        sys.path.insert(0, str(Path(module).resolve().parent))
        module = Path(module).stem
    return getattr(importlib.import_module(module), name)


def main() -> None:
    """Compiles a subject, and writes its sizes and cycles as JSON."""
    end_with_parent()
    generation, subject, arguments, report = sys.argv[1:]
    function, abstract_args = _load(subject)(*json.loads(arguments))
    compiled = compile_for(generation, function, *abstract_args)
    memory = compiled.memory_analysis()
    sizes = ("argument_size_in_bytes", "output_size_in_bytes", "temp_size_in_bytes")
    # Every instruction but Pallas calls carries the compiler's estimate; a loop's body would be counted once.
    cycles = sum(map(int, re.findall(r'"estimated_cycles":"?(\d+)', compiled.as_text())))
    found = {name: getattr(memory, name) for name in sizes} | {"cycles_around_kernels": cycles}
    Path(report).write_text(json.dumps(found))


if __name__ == "__main__":
    main()
