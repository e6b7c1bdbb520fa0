"""One device against eight virtual ones, on every kind of mesh: losses, gradient norms and parameters of some steps.

Parameters are random and biases among them, rows hold several segments, and their targets have unequal weights: where
those are zeros and ones, much that is wrong looks right.
"""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sc2jax.model.config import ModelConfig
from sc2jax.model.loss import next_token_loss
from sc2jax.model.params import Table, map_table, parameter_table
from sc2jax.parallel.config import MeshConfig
from sc2jax.parallel.mesh import create_mesh
from sc2jax.training.config import TrainingConfig
from sc2jax.training.global_batch import local_rows, place_batch
from sc2jax.training.step import batch_sharding, compile_train_step, init_state, state_shardings

MODEL = ModelConfig(
    vocab_size=48,
    context_length=16,
    embed_dim=16,
    num_layers=2,
    num_heads=8,
    num_kv_heads=2,
    head_dim=4,
    window=6,
    rope_theta=100.0,
    init_stddev=0.1,
    compute_dtype="float32",
)
TRAINING = TrainingConfig(
    steps=8, batch_size=8, warmup_tokens=0, peak_learning_rate=1e-2, epsilon=1e-3, max_gradient_norm=0.3, loss_chunk=0
)
STEPS = 3

MESHES: dict[str, tuple[dict[str, int], dict[str, Any], dict[str, Any]]] = {
    "data": ({"data": 8, "fsdp": 1}, {}, {}),
    "fsdp": ({"fsdp": 8}, {}, {}),
    "sequence": ({"fsdp": 1, "sequence": 8}, {}, {}),
    "tensor over more than kv heads": ({"fsdp": 1, "tensor": 8}, {}, {}),
    "tensor within kv heads": ({"data": 2, "fsdp": 2, "tensor": 2}, {}, {}),
    "kv heads that neither divides": ({"fsdp": 2, "tensor": 4}, {"num_heads": 12, "num_kv_heads": 6}, {}),
    "slices": ({"slices": 2, "data": 2, "fsdp": 2}, {}, {}),
    "slices x sequence x tensor": ({"slices": 2, "fsdp": 1, "sequence": 2, "tensor": 2}, {}, {"loss_chunk": 5}),
    "fsdp x sequence x tensor over kv heads": ({"fsdp": 1, "sequence": 2, "tensor": 4}, {}, {}),
    "accumulation": ({"fsdp": 8}, {"tie_embeddings": False}, {"batch_size": 16, "accumulation": 2}),
    "accumulation on a mixture": (
        {"slices": 2, "fsdp": 2, "tensor": 2},
        {},
        {"accumulation": 2, "loss_chunk": 3, "z_loss": 0.1},
    ),
    "chunked loss": ({"fsdp": 4, "tensor": 2}, {"tie_embeddings": False}, {"loss_chunk": 5, "z_loss": 0.1}),
    "rematerialisation": ({"fsdp": 4, "sequence": 2}, {"rematerialization": "full"}, {"skip_spikes": 6.0}),
    "muon": ({"slices": 2, "fsdp": 2, "tensor": 2}, {}, {"optimizer": "muon"}),
    "muon on slices of heads": ({"fsdp": 2, "tensor": 4}, {"num_heads": 12, "num_kv_heads": 6}, {"optimizer": "muon"}),
    "bfloat16": ({"data": 2, "fsdp": 2, "tensor": 2}, {"compute_dtype": "bfloat16"}, {}),
}
"""The mesh, what differs in the model, and in how it is trained; on one device nothing is accumulated or chunked."""

FIRST = ("tensor over more than kv heads", "slices x sequence x tensor", "accumulation on a mixture", "muon")
"""Run each time; the others where all are asked for."""


def random_params(table: Table) -> Any:
    """Of every parameter, biases and norms too."""
    draw = np.random.default_rng(0)
    return map_table(
        table,
        lambda each: np.float32((each.init == "ones") + draw.normal(0, 0.15, each.shape)),
    )


def random_batch(number: int, rows: int, model: ModelConfig) -> dict[str, np.ndarray]:
    draw = np.random.default_rng(number)
    T = model.context_length
    tokens = draw.integers(0, model.vocab_size, (rows, T + 1)).astype(np.int32)
    starts = draw.random((rows, T)) < 0.25
    starts[:, 0] = True
    first = np.maximum.accumulate(np.where(starts, np.arange(T), 0), axis=1)
    weights = draw.random((rows, T)) * (draw.random((rows, T)) < 0.7)
    return {
        "tokens": tokens[:, :-1],
        "targets": tokens[:, 1:],
        "segment_ids": np.cumsum(starts, axis=1).astype(np.int32),
        "positions": (np.arange(T) - first).astype(np.int32),
        "weights": weights.astype(np.float32),
    }


def trained(model: ModelConfig, training: TrainingConfig, mesh: Any) -> tuple[np.ndarray, Any]:
    """The losses and gradient norms of the steps, and the parameters after them."""
    table, length = parameter_table(model), model.context_length
    state = init_state(table, training, mesh, seed=0)
    params = jax.device_put(random_params(table), state_shardings(table, training, mesh).params)
    state = dataclasses.replace(state, params=params)
    loss = next_token_loss(model, training.loss_chunk, mesh, training.z_loss)
    step = compile_train_step(table, loss, training, mesh, row_length=length, seed=0)
    size = training.batch_size
    rows, placement = local_rows(mesh, size, length), batch_sharding(mesh, size, length)
    figures = []
    for number in range(STEPS):
        state, metrics = step(state, place_batch(random_batch(number, size, model), placement, rows, size))
        figures.append([float(metrics[name]) for name in ("loss", "gradient_norm", "tokens")])
    return np.array(figures), jax.device_get(state.params)


@pytest.mark.parametrize(
    "name", [name if name in FIRST else pytest.param(name, marks=pytest.mark.slow) for name in MESHES]
)
def test_every_mesh_computes_what_one_device_does(name):
    sizes, of_model, of_training = MESHES[name]
    model, training = dataclasses.replace(MODEL, **of_model), dataclasses.replace(TRAINING, **of_training)
    alone = create_mesh(MeshConfig(), jax.devices()[:1])
    plain = dataclasses.replace(training, accumulation=1, loss_chunk=0)
    expected, expected_params = trained(model, plain, alone)
    found, params = trained(model, training, create_mesh(MeshConfig(**sizes)))
    close, close_update = (1e-5, 1e-4) if model.compute_dtype == "float32" else (5e-3, 0.1)
    np.testing.assert_allclose(found, expected, rtol=close)
    before = random_params(parameter_table(model))
    for path, array in jax.tree_util.tree_leaves_with_path(params):
        theirs, first = (dict(jax.tree_util.tree_leaves_with_path(tree))[path] for tree in (expected_params, before))
        moved = np.abs(theirs - first).max()
        assert moved > 1e-3, path
        np.testing.assert_allclose(array, theirs, rtol=0, atol=close_update * moved, err_msg=str(path))
    assert np.abs(jnp.diff(expected[:, 2])).min() > 0  # no two batches weigh the same
