"""The train step of the 15B model, compiled by the real TPU compiler for chips that are not there, runs the kernels."""

import importlib.util
import os
import subprocess
import sys
from typing import Any

import pytest
from quick_compilation import QUICK

from sc2jax.plan.environment import ENVIRONMENT


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.skipif(
    importlib.util.find_spec("libtpu") is None, reason="needs the TPU compiler: pip install 'sc2jax[tpu]'"
)
def test_the_step_for_tpus_contains_the_kernels():
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("JAX_", "XLA_"))}
    environment = inherited | ENVIRONMENT | {"PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run([sys.executable, __file__], capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 0, done.stderr[-4000:]


def compiled_step(layers: int, topology: str, sizes: dict[str, int], **options: object) -> str:
    """The program of a step of the 15B model with this many of its layers, a row of 16384 tokens a device."""
    import dataclasses

    from jax.experimental import topologies

    from configs.starcoder2 import get_config
    from sc2jax.config import to_settings
    from sc2jax.model.loss import next_token_loss
    from sc2jax.model.params import parameter_table
    from sc2jax.parallel.config import MeshConfig
    from sc2jax.parallel.mesh import create_mesh
    from sc2jax.training.config import TrainingConfig
    from sc2jax.training.global_batch import abstract_batch
    from sc2jax.training.step import abstract_state, compile_train_step

    devices = topologies.get_topology_desc(topology, "tpu", **options).devices
    mesh = create_mesh(MeshConfig(**sizes), devices)
    model: Any = to_settings(get_config("15b")).model
    model = dataclasses.replace(model, num_layers=layers, vocab_size=49152, rematerialization="full")
    training = TrainingConfig(batch_size=len(devices) // sizes.get("tensor", 1), compiler_options=QUICK)
    table, loss = parameter_table(model), next_token_loss(model, training.loss_chunk, mesh)
    state = abstract_state(table, training, mesh)
    batch = abstract_batch(mesh, training.batch_size, model.context_length)
    step = compile_train_step(table, loss, training, mesh, row_length=model.context_length, seed=0)
    compiled = step.lower(state, batch).compile()  # pyright: ignore[reportFunctionMemberAccess]
    memory = compiled.memory_analysis()
    sys.stderr.write(f"{memory}\n")
    return compiled.as_text()


if __name__ == "__main__":
    program = compiled_step(2, "v5:2x2x2", {"data": 1, "fsdp": 8}, chip_config_name="megacore")
    for kernel in ("window_attention_forward", "window_attention_backward"):
        assert kernel in program, f"no {kernel} in the step"
