"""The memory that fine-tuning takes on one TPU chip, without one: a step as the TPU's own compiler lays it out.

    python perf/tpu_finetune.py [--chip=v5e] [--size=3b] [--layers=0] [--rank=16] [4096 16384]

One row of each length a step, adapters on every linear layer, frozen weights in bfloat16, all of a layer computed again
in the backward pass. Prints the sizes of arguments (parameters, moments, frozen weights and the batch; results take
their place), of what is needed beside them, and of both, and that of the state by hand: 2 bytes a frozen parameter but
4 in norms, 12 a trained one.
"""

import argparse
import dataclasses
import os
from typing import Any

from sc2jax.plan.environment import ENVIRONMENT
from sc2jax.plan.kernel_compilation import one_device


def step_memory(chip: str, size: str, layers: int, rank: int, length: int) -> tuple[int, int, int]:
    """Bytes of the arguments of a step, of what it needs beside them, and of its state by hand."""
    import numpy as np

    from configs.starcoder2 import get_config
    from sc2jax.config import to_settings
    from sc2jax.model.adapters import adapted, adapter_table
    from sc2jax.model.config import AdapterConfig
    from sc2jax.model.loss import next_token_loss
    from sc2jax.model.params import count_params, frozen_table, parameter_table
    from sc2jax.parallel.config import MeshConfig
    from sc2jax.parallel.mesh import create_mesh
    from sc2jax.training.config import TrainingConfig
    from sc2jax.training.global_batch import abstract_batch
    from sc2jax.training.step import abstract_state, compile_train_step

    mesh = create_mesh(MeshConfig(), [one_device(chip)])
    model: Any = to_settings(get_config(size)).model
    model = dataclasses.replace(model, num_layers=layers or model.num_layers, context_length=length)
    adapters = AdapterConfig(rank=rank)
    whole = parameter_table(model)
    table, frozen = adapter_table(whole, adapters), frozen_table(whole, model.compute_dtype)
    # With more VMEM for products the compiler takes several times as long, and the step as much memory.
    small_tiles = ("xla_tpu_scoped_vmem_limit_kib=",)
    training = TrainingConfig(batch_size=1, steps=1000, warmup_tokens=0, compiler_options=small_tiles)
    loss = adapted(next_token_loss(model, training.loss_chunk, mesh), adapters)
    batch = abstract_batch(mesh, training.batch_size, length)
    step: Any = compile_train_step(table, loss, training, mesh, row_length=length, seed=0, frozen=frozen)
    memory = step.lower(abstract_state(table, training, mesh, frozen), batch).compile().memory_analysis()
    by_hand = 12 * count_params(table)
    by_hand += sum(np.dtype(entry.dtype).itemsize * count_params((entry,)) for entry in frozen)
    return memory.argument_size_in_bytes, memory.temp_size_in_bytes, by_hand


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--chip", default="v5e")
    parser.add_argument("--size", default="3b")
    parser.add_argument("--layers", type=int, default=0, help="0: as many as the size has")
    parser.add_argument("--rank", type=int, default=16)
    parser.add_argument("lengths", type=int, nargs="*", default=[4096, 16384])
    options = parser.parse_args()
    os.environ.update(ENVIRONMENT)
    print("| row | arguments, GiB | beside them, GiB | together, GiB | state by hand, GiB |\n|---|---|---|---|---|")
    for length in options.lengths:
        sizes = step_memory(options.chip, options.size, options.layers, options.rank, length)
        arguments, beside, by_hand = (size / 2**30 for size in sizes)
        print(f"| {length} | {arguments:.2f} | {beside:.2f} | {arguments + beside:.2f} | {by_hand:.2f} |", flush=True)


if __name__ == "__main__":
    main()
