"""Every kind of attention, window, output and dropout is an override of one model, and each learns.

That each converts is tested in tests/interop, that each decodes in tests/inference, and the gradients of most of them
are compared with transformers' in test_parity.py: those learn in the slow run only.
"""

import dataclasses
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sc2jax.model.config import ModelConfig
from sc2jax.model.loss import next_token_loss
from sc2jax.model.params import parameter_table
from sc2jax.parallel.config import MeshConfig
from sc2jax.parallel.mesh import create_mesh
from sc2jax.training.config import TrainingConfig
from sc2jax.training.step import init_state, train_step

BASE = ModelConfig(
    vocab_size=32,
    context_length=16,
    embed_dim=16,
    num_layers=1,
    num_heads=4,
    num_kv_heads=2,
    window=4,
    init_stddev=0.1,
    compute_dtype="float32",
)
TRAINING = TrainingConfig(steps=40, batch_size=4, peak_learning_rate=3e-2, warmup_tokens=2 * 4 * 16)


@pytest.mark.parametrize(
    "change",
    [
        pytest.param({"num_kv_heads": 4}, marks=pytest.mark.slow),
        {"num_kv_heads": 1},
        pytest.param({"window": 0}, marks=pytest.mark.slow),
        pytest.param({"window": 1}, marks=pytest.mark.slow),
        pytest.param({"tie_embeddings": False}, marks=pytest.mark.slow),
        {"embedding_dropout": 0.1, "attention_dropout": 0.1, "residual_dropout": 0.1},
        {"head_dim": 8, "mlp_dim": 24},
    ],
    ids=str,
)
def test_it_learns_to_count(change):
    model = dataclasses.replace(BASE, **change)
    mesh = create_mesh(MeshConfig(), jax.devices()[:1])
    table, loss = parameter_table(model), next_token_loss(model, TRAINING.loss_chunk)
    state = init_state(table, TRAINING, mesh, seed=0)
    rows = jnp.asarray((np.arange(4)[:, None] * 5 + np.arange(17)) % 32)
    ones = jnp.ones((4, 16), jnp.int32)
    batch = {
        "tokens": rows[:, :-1],
        "targets": rows[:, 1:],
        "segment_ids": ones,
        "positions": jnp.broadcast_to(jnp.arange(16), (4, 16)),
        "weights": ones.astype(jnp.float32),
    }
    step = jax.jit(partial(train_step, table=table, loss=loss, training=TRAINING, row_length=16, seed=0))
    losses = []
    for _ in range(TRAINING.steps):
        state, metrics = step(state, batch)
        losses.append(float(metrics["loss"]))
    assert losses[0] > 3.0
    assert losses[-1] < 0.5
