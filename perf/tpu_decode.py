"""Attention over the KV cache on TPUs: our kernel beside XLA's own program, by the compiler's schedule, without a TPU.

    python perf/tpu_decode.py [--chips v5e,v5p]

The 15B shape with a full cache of 4096 keys: 48 query heads, 4 key-value heads of 128, bfloat16. Figures are thousands
of cycles: the fewest in which the memory can deliver keys and values; XLA's estimate for its own program; and the
kernel's bundles on the busier core, with what XLA does around it. A kernel with fewer bundles than the memory needs
cycles is as fast as the memory.
"""

import argparse
import tempfile
from pathlib import Path
from typing import Any

from sc2jax.parallel.chips import GENERATIONS
from sc2jax.plan.kernel_compilation import dump, kernels_of
from sc2jax.plan.kernel_schedule import Branch

HEADS, KV_HEADS, HEAD_DIM, SLOTS = 48, 4, 128, 4096
BATCHES = (1, 8, 32, 128)


def subject(batch: int, kernel: bool) -> tuple[Any, tuple[Any, ...]]:
    """For `dump`."""
    import jax
    import jax.numpy as jnp

    from sc2jax.kernels.decode_attention import decode_attention
    from sc2jax.model.attention import plain_cached_attention

    def array(*shape: int, dtype: Any = jnp.bfloat16) -> jax.ShapeDtypeStruct:
        return jax.ShapeDtypeStruct(shape, dtype)

    own, cached = array(batch, KV_HEADS, HEAD_DIM), array(batch, KV_HEADS, SLOTS, HEAD_DIM)
    visible = array(batch, SLOTS, dtype=jnp.bool_)
    function = decode_attention if kernel else plain_cached_attention
    return function, (array(batch, HEADS, HEAD_DIM), own, own, cached, cached, visible)


def row(chip: str, batch: int, folder: Path) -> str:
    """One line of the table."""
    device, tpu = GENERATIONS[chip], GENERATIONS[chip].tpu
    assert tpu is not None
    least = 2 * batch * KV_HEADS * SLOTS * HEAD_DIM * 2 / device.memory_bandwidth * tpu.clock
    here = f"{__file__}:subject"
    xla = dump(chip, here, [batch, False], folder / "xla")["cycles_around_kernels"]
    around = dump(chip, here, [batch, True], folder / "kernel")["cycles_around_kernels"]
    kernel = kernels_of(chip, folder / "kernel")["decode_attention"]
    from sc2jax.kernels.decode_attention import CACHE_BLOCKS

    blocks = SLOTS // next(size for size in CACHE_BLOCKS if SLOTS % size == 0)
    cores = min(tpu.cores, batch * KV_HEADS)
    heads = batch * KV_HEADS // cores
    branches = [Branch("own", heads), Branch("block", heads * blocks), Branch("out", heads)]
    flops = 2 * 2 * heads * SLOTS * (HEADS // KV_HEADS) * HEAD_DIM
    cycles = kernel.schedule(heads * blocks, branches, flops)["cycles"]
    whole = max(cycles, least) + around
    figures = [f"{value / 1e3:.1f}" for value in (least, xla, cycles, around)]
    return f"| {chip} | {batch} | {' | '.join(figures)} | {xla / whole:.2f} |"


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--chips", default="v5e,v5p,v6e")
    options = parser.parse_args()
    print("| chip | sequences | memory | XLA | kernel | around it | XLA / ours |\n|---|---|---|---|---|---|---|")
    for chip in options.chips.split(","):
        for batch in BATCHES:
            with tempfile.TemporaryDirectory() as scratch:
                print(row(chip, batch, Path(scratch)), flush=True)


if __name__ == "__main__":
    main()
