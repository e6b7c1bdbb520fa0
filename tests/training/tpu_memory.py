"""Prints what the TPU compiler says a step of a small model needs with each choice of kept and offloaded activations.

Run by test_tpu_rematerialization.py, in an environment without the eight virtual devices of the tests.
"""

import dataclasses
import json
import sys

from jax.experimental import topologies
from quick_compilation import QUICK

from sc2jax.model.config import ModelConfig
from sc2jax.model.loss import next_token_loss
from sc2jax.model.params import parameter_table
from sc2jax.parallel.config import MeshConfig
from sc2jax.parallel.mesh import create_mesh
from sc2jax.training.config import TrainingConfig
from sc2jax.training.global_batch import abstract_batch
from sc2jax.training.step import abstract_state, compile_train_step

MODEL = ModelConfig(
    vocab_size=1024,
    context_length=2048,
    embed_dim=512,
    num_layers=8,
    num_heads=4,
    num_kv_heads=2,
    window=1024,
    rematerialization="named",
)
CHOICES = {
    "none": {},
    "kept": {"kept_activations": ("mlp_up",)},
    "offloaded": {"offloaded_activations": ("mlp_up",)},
    "dots": {"rematerialization": "dots"},
    "attention kept": {"kept_activations": ("attention_output",)},
}


def main() -> None:
    """One JSON object: for each choice bytes on the device and on the host, and runs of the attention kernel."""
    mesh = create_mesh(MeshConfig(), topologies.get_topology_desc("v5e:2x2", "tpu").devices[:4])
    training = TrainingConfig(batch_size=8, steps=2, warmup_tokens=0, loss_chunk=512, compiler_options=QUICK)
    found = {}
    for name, changes in CHOICES.items():
        model = dataclasses.replace(MODEL, **changes)
        table, loss = parameter_table(model), next_token_loss(model, training.loss_chunk, mesh)
        batch = abstract_batch(mesh, training.batch_size, model.context_length)
        step = compile_train_step(table, loss, training, mesh, row_length=model.context_length, seed=0)
        state = abstract_state(table, training, mesh)
        compiled = step.lower(state, batch).compile()  # pyright: ignore[reportFunctionMemberAccess]
        memory = compiled.memory_analysis()
        found[name] = {
            "device": memory.temp_size_in_bytes,
            "host": memory.host_temp_size_in_bytes,
            "kernels": compiled.as_text().count('custom_call_target="tpu_custom_call"'),
        }
    sys.stdout.write(json.dumps(found))


if __name__ == "__main__":
    main()
