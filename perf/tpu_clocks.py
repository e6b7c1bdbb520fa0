"""The clocks of TPUs: that which the published peak follows from, and that which gives a measured product's time.

    python perf/tpu_clocks.py

Google measured products on v6e and tpu7x. Each is compiled here for one device with the options of a training step; the
fitted clock is that at which the compiler's cycles take the measured time, but none beyond the peak's. (With the 64 MiB
of scoped VMEM that Google set, libtpu 0.0.42.1 gives v6e's product smaller tiles, and a clock that the peak excludes.)
The last column is the compiler's own share of the matrix units for the largest of the products.
"""

import os
import re
from typing import Any

from sc2jax.parallel.chips import GENERATIONS, Chip
from sc2jax.plan.environment import ENVIRONMENT
from sc2jax.plan.slices import find_slice

MEASURED = {"v6e": (8192, 827.474382048629e12), "tpu7x": (16384, 950.1286983e12)}
"""Rows and columns of the factors, and operations per second of a device.

github.com/AI-Hypercomputer/tpu-recipes, microbenchmarks/README.md and microbenchmarks/ironwood/README.md."""

SMALLEST = {"v4": "v4-8", "v5e": "v5e-1", "v5p": "v5p-8", "v6e": "v6e-1", "tpu7x": "tpu7x-8"}
LARGEST_PRODUCT = 16384


def product_cycles(generation: str, size: int) -> int:
    """The compiler's estimate for a product of two square matrices of bfloat16 on one device."""
    import jax
    import jax.numpy as jnp

    chip: Any = GENERATIONS[generation]
    place = jax.sharding.SingleDeviceSharding(find_slice(SMALLEST[generation]).devices_of()[0])
    factor = jax.ShapeDtypeStruct((size, size), jnp.bfloat16, sharding=place)
    product = jax.jit(jnp.matmul, compiler_options=dict(chip.tpu.compiler_options))
    text = str(product.lower(factor, factor).compile().as_text())
    return sum(map(int, re.findall(r'"estimated_cycles":"?(\d+)', text)))


def peak_clock(chip: Chip) -> float:
    """The clock at which every matrix unit in use makes the published peak."""
    assert chip.tpu is not None
    return chip.peak_flops / (chip.tpu.cores * chip.tpu.flops_per_cycle)


def main() -> None:
    """Prints the table."""
    print("| generation | clock of the peak, GHz | of the measured product | used | share of the units |")
    print("|---|---|---|---|---|")
    for generation, chip in GENERATIONS.items():
        assert chip.tpu is not None
        fitted = ""
        if generation in MEASURED:
            size, rate = MEASURED[generation]
            fitted = f"{product_cycles(generation, size) * rate / (2 * size**3) / 1e9:.3f}"
        cycles = product_cycles(generation, LARGEST_PRODUCT)
        share = 2 * LARGEST_PRODUCT**3 / (cycles * chip.tpu.cores * chip.tpu.flops_per_cycle)
        clocks = f"{peak_clock(chip) / 1e9:.3f} | {fitted} | {chip.tpu.clock / 1e9:.3f}"
        print(f"| {generation} | {clocks} | {100 * share:.1f} % |", flush=True)


if __name__ == "__main__":
    os.environ.update(ENVIRONMENT)
    main()
