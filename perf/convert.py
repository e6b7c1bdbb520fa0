"""Time and memory that converting a model of real size takes: random weights, imported and exported again.

    python perf/convert.py --size=3b --folder=/tmp/convert

Writes a model with random bfloat16 weights in Hugging Face's format, runs `sc2jax convert` both ways in processes of
their own, and compares every byte of the result. Needs about 3 times 2 bytes of disk per parameter: 19 GB for 3B.
"""

import argparse
import filecmp
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from sc2jax.config import load_config, to_settings
from sc2jax.interop.architecture import CONFIG, write_architecture
from sc2jax.interop.tensors import DTYPES, INDEX, Tensor, index_json, split_into_files, write_file
from sc2jax.interop.weights import tensor_parameters
from sc2jax.model.config import ModelConfig
from sc2jax.model.params import parameter_table

FILE_BYTES = 5_000_000_000
BLOCK_ROWS = 1024


def main() -> None:
    """Prints one line per direction."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", default="3b", help="3b, 7b or 15b")
    parser.add_argument("--folder", type=Path, required=True, help="where to work; deleted at the end")
    arguments = parser.parse_args()
    folder: Path = arguments.folder
    source, run, back = folder / "source", folder / "run", folder / "back"
    source.mkdir(parents=True)
    try:
        model = to_settings(load_config(f"starcoder2:{arguments.size}")).model
        largest, total = write_random_model(model, source)
        print(f"{arguments.size}: {total / 1e9:.2f} GB in bfloat16, largest tensor {largest / 1e6:.0f} MB")
        print(f"{'':<28}{'seconds':>8}{'MB/s':>8}{'peak RSS, MB':>14}{'of which start-up':>19}")
        baseline = measure("import sc2jax.verbs, sc2jax.interop.convert")[1]
        for title, option, place in (
            ("Hugging Face -> checkpoint", "from_huggingface", source),
            ("checkpoint -> Hugging Face", "to_huggingface", back),
        ):
            arguments_list = ["convert", f"--config.convert.{option}={place}", f"--workdir={run}"]
            seconds, peak = measure(f"from sc2jax.cli import main; main({arguments_list!r})")
            speed = total / seconds / 1e6
            print(f"{title:<28}{seconds:>8.1f}{speed:>8.0f}{peak / 1e6:>14.0f}{baseline / 1e6:>19.0f}", flush=True)
        names = sorted(path.name for path in source.iterdir())
        same = filecmp.cmpfiles(source, back, names, shallow=False)[0]
        print("every byte came back" if sorted(same) == names else f"DIFFERENT: {set(names) - set(same)}")
    finally:
        shutil.rmtree(folder)


def write_random_model(model: ModelConfig, folder: Path) -> tuple[int, int]:
    """Writes the model block by block; returns the bytes of its largest tensor and of all tensors."""
    tensors = [
        Tensor(name, "BF16", parameter.hf_shape)
        for name, (parameter, _) in tensor_parameters(parameter_table(model)).items()
    ]
    files = split_into_files(tensors, FILE_BYTES)
    rng = np.random.default_rng(0)

    def rows(tensor: Tensor) -> Iterator[np.ndarray]:
        for first in range(0, tensor.shape[0], BLOCK_ROWS):
            shape = (min(BLOCK_ROWS, tensor.shape[0] - first), *tensor.shape[1:])
            numbers = rng.standard_normal(shape, np.float32) * np.float32(model.init_stddev)
            yield numbers.astype(DTYPES["BF16"])

    for file in files:
        write_file(folder, file, rows)
    (folder / CONFIG).write_bytes(write_architecture(model, "bfloat16", 0))
    (folder / INDEX).write_bytes(index_json(files))
    return max(tensor.bytes for tensor in tensors), sum(tensor.bytes for tensor in tensors)


def measure(program: str) -> tuple[float, int]:
    """Seconds and peak resident bytes of a Python program, run in its own process."""
    started = time.monotonic()
    environment = os.environ | {"JAX_PLATFORMS": "cpu"}
    process = subprocess.Popen([sys.executable, "-c", program], env=environment, stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"{program} failed with status {process.returncode}")
    return time.monotonic() - started, usage.ru_maxrss * 1024


if __name__ == "__main__":
    main()
