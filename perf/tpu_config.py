"""The memory that a training step of a config takes on one TPU v5e, without one, as the TPU's own compiler lays it out.

    python perf/tpu_config.py [--config=colab] [none dots full]

Prints for each rematerialization the sizes of the state with the batch, and of what is needed beside them, or what the
compiler says where they do not fit. Nothing runs on a chip.
"""

import argparse
import dataclasses
import os
from typing import Any

from sc2jax.plan.environment import ENVIRONMENT
from sc2jax.plan.kernel_compilation import one_device


def step_memory(config: str, rematerialization: str) -> tuple[int, int]:
    """Bytes of the arguments of a step, and of what it needs beside them.

    Raises:
        jax.errors.JaxRuntimeError: they do not fit.
    """

    from sc2jax.config import load_config, to_settings
    from sc2jax.model.loss import next_token_loss
    from sc2jax.model.params import parameter_table
    from sc2jax.parallel.config import MeshConfig
    from sc2jax.parallel.mesh import create_mesh
    from sc2jax.training.global_batch import abstract_batch
    from sc2jax.training.schedule import fitted_training
    from sc2jax.training.step import abstract_state, compile_train_step

    mesh = create_mesh(MeshConfig(), [one_device("v5e")])
    settings = to_settings(load_config(config))
    vocabulary = settings.model.vocab_size or settings.tokenizer.vocab_size
    model = dataclasses.replace(settings.model, vocab_size=vocabulary, rematerialization=rematerialization)
    training = fitted_training(settings.training, model.context_length)
    table, batch = parameter_table(model), abstract_batch(mesh, training.batch_size, model.context_length)
    loss = next_token_loss(model, training.loss_chunk, mesh)
    step: Any = compile_train_step(table, loss, training, mesh, row_length=model.context_length, seed=settings.seed)
    memory = step.lower(abstract_state(table, training, mesh), batch).compile().memory_analysis()
    return memory.argument_size_in_bytes, memory.temp_size_in_bytes


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--config", default="colab")
    parser.add_argument("rematerializations", nargs="*", default=["none", "dots"])
    arguments = parser.parse_args()
    print("| rematerialization | state and batch, GiB | beside them, GiB |\n|---|---|---|", flush=True)
    for rematerialization in arguments.rematerializations:
        try:
            sizes = [f"{size / 2**30:.2f}" for size in step_memory(arguments.config, rematerialization)]
        except RuntimeError as error:  # the compiler's word, with what is missing
            sizes = ["", str(error).splitlines()[0][:160]]
        print(f"| {rematerialization} | {' | '.join(sizes)} |", flush=True)


if __name__ == "__main__":
    os.environ.update(ENVIRONMENT)
    main()
