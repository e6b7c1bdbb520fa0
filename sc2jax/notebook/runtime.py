"""What a notebook runs on, found without JAX: CPUs, NVIDIA GPUs or TPUs, and whether their memory is enough.

Too little memory otherwise shows after minutes, as a kernel that is gone.
"""

import dataclasses
import json
import math
import os
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Literal, get_args

from sc2jax.errors import UserError
from sc2jax.parallel.chips import GIB, chip_of

Use = Literal["complete", "adapt", "train"]
"""What is done with a model: completing, training adapters added to it, training all of it."""

_BESIDE = int(1.65 * GIB)
"""Activations and programs: what the 3B model with adapters takes beside its state on a v5e (docs/results.md)."""

_CUDA_13_DRIVER = 580  # docs.jax.dev, "Installing JAX": the oldest driver of its CUDA 13 wheels
_SHARE_OF_A_GPU = 0.75  # that JAX takes of its memory (docs.jax.dev, "GPU memory allocation")
_LONGEST_HEADER = 100_000_000  # bytes, as the library safetensors has it

_TPUS = {"v4": "TPU v4", "v5e": "TPU v5e", "v5litepod": "TPU v5e", "v5p": "TPU v5p", "v6e": "TPU v6e"}
"""The kinds of device behind the names that a TPU machine has in TPU_ACCELERATOR_TYPE, such as v5e-8."""


@dataclasses.dataclass(frozen=True)
class Runtime:
    """The machine of a notebook.

    Attributes:
        kind: of its devices.
        name: of one device.
        devices: how many there are.
        host_bytes: memory that is free on the host.
        device_bytes: memory of all devices together, as much as JAX takes of it; the host's where they are CPUs, 0
            where it is not known.
        extra: the extra of sc2jax that brings their libraries; "" for CPUs.
        compute_dtype: the type that their matrix units take, for `model.compute_dtype`.
    """

    kind: Literal["cpu", "gpu", "tpu"]
    name: str
    devices: int
    host_bytes: int
    device_bytes: int
    extra: str
    compute_dtype: str

    def __str__(self) -> str:
        memory = f"{self.device_bytes / GIB:.1f} GiB" if self.device_bytes else "memory not known"
        return f"{self.devices} x {self.name} ({memory}), {self.host_bytes / GIB:.1f} GiB free on the host"

    def refuse_model(self, parameters: int, use: Use) -> None:
        """Makes sure that a model of so many parameters fits, before anything is done with it.

        Raises:
            UserError: the devices, together, have less memory than that takes at the least; or there is no such use.
        """
        if use not in get_args(Use):
            raise UserError(f"there is no use {use!r} of a model; give one of {', '.join(get_args(Use))}")
        needed = parameters * _bytes_a_parameter(use, self.compute_dtype) + _BESIDE
        if self.device_bytes and self.device_bytes < needed:
            raise UserError(
                f"to {use} a model of {parameters:,} parameters takes at least {needed / GIB:.1f} GiB, and this "
                f"runtime has {self.device_bytes / GIB:.1f} GiB ({self.devices} x {self.name}); choose one with more "
                "memory, or a smaller model"
            )


def find_runtime(environment: Mapping[str, str] = os.environ, root: Path = Path("/")) -> Runtime:
    """What this machine has, by its drivers: TPUs, else NVIDIA's GPUs, else CPUs.

    `environment` is that of the process, `root` where `dev` and `proc` lie.
    """
    free = _free_bytes(root)
    return _tpus(environment, root, free) or _gpus(free) or Runtime("cpu", "CPU", 1, free, free, "", "float32")


def parameters_of(folder: str | Path) -> int:
    """The parameters of a model in Hugging Face's format, counted in the headers of its safetensors files.

    Raises:
        UserError: there are no such files, or one is damaged.
    """
    files = sorted(Path(folder).glob("*.safetensors"))
    if not files:
        raise UserError(f"{folder} holds no .safetensors file; name a folder with a model in Hugging Face's format")
    return sum(_elements(file) for file in files)


def refuse_little(what: str, needed: float, there: float) -> None:
    """Makes sure that there are as many bytes of something as the work takes.

    Raises:
        UserError: there are less.
    """
    if there < needed:
        raise UserError(
            f"sc2jax takes {needed / GIB:.1f} GiB of {what}, and this runtime has {there / GIB:.1f} GiB free; end what "
            "else runs in it, or choose a larger one"
        )


def _bytes_a_parameter(use: Use, compute_dtype: str) -> int:
    """Bytes on the devices: of float32, of what it is computed in beside it, of gradients and Adam's two moments."""
    computed = 4 if compute_dtype == "float32" else 2
    return {
        "complete": 4 + computed,  # as it was saved, and as each token's step reads it
        "adapt": 4,  # as it was saved; what is frozen becomes narrower after that
        "train": 16,
    }[use]


def _tpus(environment: Mapping[str, str], root: Path, free: int) -> Runtime | None:
    named = environment.get("TPU_ACCELERATOR_TYPE", "")
    version, _, size = named.partition("-")
    found = len(list((root / "dev").glob("accel[0-9]*")))
    devices = found or (int(size) if size.isdecimal() else 0)
    if not devices and "COLAB_TPU_1VM" not in environment:
        return None
    chip = chip_of(_TPUS.get(version, ""))
    devices = devices or 1
    memory = devices * chip.memory_bytes if chip else 0
    return Runtime("tpu", chip.name if chip else "TPU", devices, free, memory, "tpu", "bfloat16")


def _gpus(free: int) -> Runtime | None:
    program = shutil.which("nvidia-smi")
    if program is None:
        return None
    query = [program, "--query-gpu=name,memory.total,driver_version", "--format=csv,noheader,nounits"]
    asked = subprocess.run(query, capture_output=True, text=True, check=False)
    rows = [[cell.strip() for cell in line.split(",")] for line in asked.stdout.splitlines() if line.count(",") == 2]
    if asked.returncode or not rows:
        return None  # the program is there, and no GPU: Colab's images have it everywhere
    name, _, driver = rows[0]
    total = sum(int(mebibytes) << 20 for _, mebibytes, _ in rows if mebibytes.isdecimal())
    extra = "gpu" if int(driver.partition(".")[0]) >= _CUDA_13_DRIVER else "cuda12"
    chip = chip_of(name)
    dtype = "bfloat16" if chip is None or chip.has_bfloat16 else "float16"
    return Runtime("gpu", name, len(rows), free, int(_SHARE_OF_A_GPU * total), extra, dtype)


def _free_bytes(root: Path) -> int:
    """Memory of the host that may be taken: what is available, within the limit of a container."""
    available = math.inf
    if (root / "proc/meminfo").is_file():
        lines = (root / "proc/meminfo").read_text().splitlines()
        sizes = {name: int(rest.split()[0]) << 10 for name, _, rest in (line.partition(":") for line in lines)}
        available = sizes.get("MemAvailable", math.inf)
    limit = root / "sys/fs/cgroup/memory.max"
    text = limit.read_text().strip() if limit.is_file() else ""
    within = int(text) if text.isdecimal() else math.inf
    least = min(available, within)
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") if math.isinf(least) else int(least)


def _elements(file: Path) -> int:
    """Elements of the tensors in a safetensors file: eight bytes say how long the JSON is that describes them."""
    try:
        with file.open("rb") as content:
            length = int.from_bytes(content.read(8), "little")
            header = json.loads(content.read(min(length, _LONGEST_HEADER)))
        shapes = [tensor["shape"] for name, tensor in header.items() if name != "__metadata__"]
        if not all(isinstance(size, int) and size >= 0 for shape in shapes for size in shape):
            raise ValueError("a size is none")
        return sum(map(math.prod, shapes))
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise UserError(f"{file} is damaged: its header describes no tensors; fetch it again") from error
