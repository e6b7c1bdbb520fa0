"""The memory that the training loss takes on a TPU, without one: all logits at once, and chunks of tokens.

    python perf/tpu_loss.py [--chip=v5e] [--tokens=8192]

Value and gradients of the output projection (49152 words) and its cross-entropy, bfloat16 products and float32
parameters, on one device, compiled by the TPU's own compiler. Prints, for the embed dimensions of the 3B and the 15B
model and each chunk, the memory that the program needs beside its arguments and results.
"""

import argparse
import os

from sc2jax.plan.environment import ENVIRONMENT
from sc2jax.plan.kernel_compilation import compile_for

WORDS = 49152


def temporary_bytes(chip: str, tokens: int, embed: int, chunk: int) -> int:
    """The memory needed beside arguments and results; chunk 0 is all logits at once."""
    import jax
    import jax.numpy as jnp

    from sc2jax.kernels.cross_entropy import reference_cross_entropy
    from sc2jax.model.loss import total_loss

    def loss(hidden: jax.Array, output: jax.Array, targets: jax.Array, weights: jax.Array) -> jax.Array:
        if chunk:
            return total_loss(hidden[None], output, targets[None], weights[None], chunk)
        return jnp.sum(reference_cross_entropy(hidden, output, targets) * weights)

    arguments = [
        ((tokens, embed), "bfloat16"),
        ((WORDS, embed), "float32"),
        ((tokens,), "int32"),
        ((tokens,), "float32"),
    ]
    shapes = [jax.ShapeDtypeStruct(*argument) for argument in arguments]
    memory = compile_for(chip, jax.value_and_grad(loss, argnums=(0, 1)), *shapes).memory_analysis()
    return memory.temp_size_in_bytes


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--chip", default="v5e")
    parser.add_argument("--tokens", type=int, default=8192)
    options = parser.parse_args()
    os.environ.update(ENVIRONMENT)
    print("| embed | chunk | temporary MiB |\n|---|---|---|")
    for embed in (3072, 6144):
        for chunk in (0, 512, 1024, 2048, 4096):
            size = temporary_bytes(options.chip, options.tokens, embed, chunk)
            print(f"| {embed} | {chunk or 'all at once'} | {size / 2**20:.0f} |", flush=True)


if __name__ == "__main__":
    main()
