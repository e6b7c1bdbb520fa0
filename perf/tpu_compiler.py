"""Compiles for a TPU with the TPU's own compiler, on a machine without one.

Needs libtpu (`pip install "sc2jax[tpu]"`). To see what the compiler makes of each Pallas kernel in any function, where
`subject(1024, 512)` returns the function and a tuple of `jax.ShapeDtypeStruct` arguments:

    python perf/tpu_compiler.py v5e my_kernels.py:subject '[1024, 512]'
"""

import argparse
import importlib
import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from tpu_schedule import CHIPS, Kernel, read_kernel

# Without these libtpu asks for the machine's metadata and takes a lock, and jax looks for a TPU.
ENVIRONMENT = {
    "JAX_PLATFORMS": "cpu",
    "TPU_SKIP_MDS_QUERY": "1",
    "ALLOW_MULTIPLE_LIBTPU_LOAD": "1",
    "TPU_ACCELERATOR_TYPE": "v5litepod-4",
    "TPU_WORKER_HOSTNAMES": "localhost",
}


def compile_for(chip: str, function: Callable, *abstract_args: Any) -> Any:
    """The function compiled by the real TPU compiler for one device of `chip`."""
    unset = [name for name, value in ENVIRONMENT.items() if os.environ.get(name) != value]
    if unset:
        raise RuntimeError(f"set {', '.join(unset)} as in tpu_compiler.ENVIRONMENT before jax is imported")
    import jax
    from jax.experimental import topologies

    generation = CHIPS[chip]
    topology = topologies.get_topology_desc(generation.topology, "tpu", **generation.options)
    on_device = jax.sharding.SingleDeviceSharding(topology.devices[0])

    def placed(argument: Any) -> Any:
        return jax.ShapeDtypeStruct(argument.shape, argument.dtype, sharding=on_device)

    return jax.jit(function).lower(*jax.tree.map(placed, abstract_args)).compile()


def dump(chip: str, subject: str, arguments: Sequence[Any], folder: Path) -> dict[str, Any]:
    """Compiles `subject` in its own process, with only its own environment and flags, and dumps into `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    flags = f"--xla_mosaic_dump_to={folder} --xla_jf_dump_to={folder} --xla_jf_dump_llo_text=true"
    command = [
        sys.executable,
        __file__,
        chip,
        subject,
        json.dumps(list(arguments)),
        "--only-compile",
        str(folder / "compiled.json"),
    ]
    # A program from jax's cache would leave no dump, and the caller's other jax settings must not apply.
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("JAX_", "XLA_"))}
    environment = inherited | ENVIRONMENT | {"LIBTPU_INIT_ARGS": flags}
    done = subprocess.run(command, check=False, env=environment, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"{subject}{tuple(arguments)} does not compile for {chip}:\n{done.stderr[-4000:]}")
    return json.loads((folder / "compiled.json").read_text())


def kernels_of(chip: str, folder: Path) -> dict[str, Kernel]:
    """The Pallas kernels of a dump by name, without the number that the compiler adds to it."""
    listings = [path for path in sorted(folder.glob("*-final_bundles.txt")) if "schedule-analysis" not in path.name]
    pallas = [
        path for path in listings if re.search(r"entry bundle: \S+ = custom-call\(", path.read_text(errors="replace"))
    ]
    kernels = [read_kernel(chip, path) for path in pallas]
    return {re.sub(r"\.\d+$", "", kernel.name): kernel for kernel in kernels}


def _load(subject: str) -> Callable:
    module, name = subject.rsplit(":", 1)
    if module.endswith(".py"):
        sys.path.insert(0, str(Path(module).resolve().parent))
        module = Path(module).stem
    return getattr(importlib.import_module(module), name)


def _compile_only(chip: str, subject: str, arguments: Sequence[Any], report: Path) -> None:
    function, abstract_args = _load(subject)(*arguments)
    compiled = compile_for(chip, function, *abstract_args)
    memory = compiled.memory_analysis()
    sizes = ("argument_size_in_bytes", "output_size_in_bytes", "temp_size_in_bytes")
    # Every instruction but Pallas calls carries the compiler's estimate; a loop's body would be counted once.
    cycles = sum(map(int, re.findall(r'"estimated_cycles":"?(\d+)', compiled.as_text())))
    report.write_text(json.dumps({name: getattr(memory, name) for name in sizes} | {"cycles_around_kernels": cycles}))


def main() -> None:
    """Prints the regions of every Pallas kernel in a function."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("chip", choices=CHIPS)
    parser.add_argument("subject", help="FILE.py:FUNCTION or MODULE:FUNCTION returning (function, abstract arguments)")
    parser.add_argument("arguments", nargs="?", default="[]", help="a JSON list for the subject")
    parser.add_argument("--dump", type=Path, help="keep the compiler's dump in this folder")
    parser.add_argument("--only-compile", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    arguments = json.loads(options.arguments)
    if options.only_compile:
        _compile_only(options.chip, options.subject, arguments, options.only_compile)
        return
    with tempfile.TemporaryDirectory() as scratch:
        folder = (options.dump or Path(scratch)).resolve()
        sizes = dump(options.chip, options.subject, arguments, folder)
        print(", ".join(f"{name} {size}" for name, size in sizes.items()))
        for kernel in kernels_of(options.chip, folder).values():
            print(kernel.tree())


if __name__ == "__main__":
    main()
