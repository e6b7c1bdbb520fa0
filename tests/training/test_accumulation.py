"""Gradient accumulation: tokens count and not micro-batches, and no row moves between devices."""

import dataclasses
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sc2jax.errors import UserError
from sc2jax.model.params import Parameter
from sc2jax.parallel import rules
from sc2jax.parallel.config import MeshConfig
from sc2jax.parallel.mesh import create_mesh
from sc2jax.training.config import TrainingConfig
from sc2jax.training.step import batch_sharding, compile_train_step, init_state, refuse_indivisible

TABLE = (Parameter(("slope",), (4,), (rules.HEAD_DIM,), "ones", False),)
TRAINING = TrainingConfig(steps=4, batch_size=2, warmup_tokens=0, peak_learning_rate=0.1, epsilon=0.1, loss_chunk=0)
ROW = 12


def loss(params, frozen, batch, key):
    """Half the weighted squares of what a linear function is off."""
    features = jnp.stack([batch["x"] ** power for power in range(4)], axis=-1)
    off = features @ params["slope"] - batch["y"]
    return jnp.sum(jnp.square(off) * batch["weights"]) / 2, jnp.sum(batch["weights"])


def batch_of(tokens):
    """Rows with so many tokens that count."""
    draw = np.random.default_rng(1)
    x, y = draw.normal(size=(2, len(tokens), ROW)).astype(np.float32)
    weights = (np.arange(ROW) < np.array(tokens)[:, None]).astype(np.float32)
    return {"x": x, "y": y, "weights": weights}


def step_on(batch, devices=1, **changes):
    """The metrics of a step and the parameters after it."""
    mesh = create_mesh(MeshConfig(), jax.devices()[:devices])
    training = dataclasses.replace(TRAINING, batch_size=len(batch["x"]), **changes)
    state = init_state(TABLE, training, mesh, seed=0)
    placed = jax.device_put(batch, batch_sharding(mesh, training.batch_size, ROW))
    step = compile_train_step(TABLE, loss, training, mesh, row_length=ROW, seed=0)
    state, metrics = step(state, placed)
    return jax.device_get(metrics), np.asarray(state.params["slope"])


def test_one_token_and_nine_equal_ten():
    """Against the mean over the ten tokens by hand, from which the mean of both rows' means differs."""
    batch = batch_of([1, 9])
    kept = batch["weights"] > 0
    features = np.stack([batch["x"][kept] ** power for power in range(4)], axis=-1)
    off = features.sum(axis=-1) - batch["y"][kept]
    value, gradient = np.mean(off**2) / 2, features.T @ off / 10
    for parts in (1, 2):
        metrics, _ = step_on(batch, accumulation=parts)
        np.testing.assert_allclose(metrics["loss"], value, rtol=1e-5)
        np.testing.assert_allclose(metrics["gradient_norm"], np.linalg.norm(gradient), rtol=1e-5)
        assert metrics["tokens"] == 10
    one, two = (step_on(batch, accumulation=parts)[1] for parts in (1, 2))
    np.testing.assert_allclose(one, two, rtol=1e-6)
    ten = {
        name: np.concatenate([array[0, :1], array[1, :9], np.zeros(2, np.float32)])[None]
        for name, array in batch.items()
    }
    np.testing.assert_allclose(step_on(ten)[1], one, rtol=1e-6)


def test_a_part_without_tokens_and_a_batch_without_any_change_nothing():
    metrics, slope = step_on(batch_of([0, 9]), accumulation=2)
    expected, theirs = step_on(batch_of([0, 9]))
    np.testing.assert_allclose(slope, theirs, rtol=1e-6)
    np.testing.assert_allclose(metrics["loss"], expected["loss"], rtol=1e-6)
    metrics, slope = step_on(batch_of([0, 0]), accumulation=2)
    assert (metrics["loss"], metrics["gradient_norm"], metrics["tokens"]) == (0, 0, 0)
    np.testing.assert_array_equal(slope, 1)


@pytest.mark.parametrize("devices", [2, 4])
def test_devices_keep_their_rows(devices):
    batch = batch_of(range(8))
    expected, theirs = step_on(batch)
    metrics, slope = step_on(batch, devices, accumulation=8 // devices)
    np.testing.assert_allclose(slope, theirs, rtol=1e-5)
    np.testing.assert_allclose(metrics["loss"], expected["loss"], rtol=1e-5)


def test_nothing_but_gradients_is_communicated():
    mesh = create_mesh(MeshConfig(slices=2, data=2, fsdp=2))
    training = dataclasses.replace(TRAINING, batch_size=32, accumulation=4)
    state = init_state(TABLE, training, mesh, seed=0)
    batch = jax.device_put(batch_of([3] * 32), batch_sharding(mesh, 32, ROW))
    step = compile_train_step(TABLE, loss, training, mesh, row_length=ROW, seed=0)
    program = step.lower(state, batch).compile().as_text()  # pyright: ignore[reportFunctionMemberAccess]
    assert set(re.findall(r"all-gather|all-to-all|collective-permute|all-reduce|reduce-scatter", program)) == {
        "all-reduce"
    }


def test_parts_draw_different_numbers():
    def drawn(params, frozen, batch, key):
        del frozen
        return jnp.sum(params["slope"]) * jax.random.uniform(key) * jnp.sum(batch["weights"]), jnp.sum(batch["weights"])

    mesh = create_mesh(MeshConfig(), jax.devices()[:1])
    training = dataclasses.replace(TRAINING, accumulation=2)
    step = compile_train_step(TABLE, drawn, training, mesh, row_length=ROW, seed=0)

    def value(tokens):
        state = init_state(TABLE, training, mesh, seed=0)
        return float(step(state, batch_of(tokens))[1]["loss"])

    assert value([5, 0]) != value([0, 5])


@pytest.mark.parametrize(
    ("sizes", "changes", "hint"),
    [
        (
            {"data": 4, "fsdp": 2},
            {"batch_size": 12},
            "training.batch_size 12 cannot be shared out equally over mesh.data 4 x mesh.fsdp 2; use 8 "
            "(training.steps 6 for as many tokens) or 16 (training.steps 3 for as many tokens), or another mesh",
        ),
        (
            {"slices": 2, "fsdp": 1, "tensor": 4},
            {"batch_size": 8, "accumulation": 3},
            "training.batch_size 8 cannot be shared out equally over mesh.slices 2 and training.accumulation 3; use 6 "
            "(training.steps 6 for as many tokens) or 12 (training.steps 3 for as many tokens), or another mesh",
        ),
        (
            {"fsdp": 1, "sequence": 8},
            {"batch_size": 9, "accumulation": 12},
            "over training.accumulation 12; use 12 (training.steps 3 for as many tokens), or",
        ),
        (
            {"fsdp": 8},
            {"batch_size": 8, "accumulation": 1 << 20},
            "and training.accumulation 1048576; use a lower training.accumulation, or another mesh",
        ),
        (
            {"fsdp": 1, "sequence": 8},
            {},
            "model.context_length 12 cannot be shared out equally over mesh.sequence 8; use 8 or 16, or "
            "mesh.sequence 6 or 12",
        ),
    ],
    ids=str,
)
def test_what_cannot_be_shared_out_is_refused_with_the_nearest_that_can(sizes, changes, hint):
    with pytest.raises(UserError) as error:
        refuse_indivisible(dataclasses.replace(TRAINING, **changes), create_mesh(MeshConfig(**sizes)), ROW)
    assert hint in str(error.value)


def test_a_step_is_not_compiled_for_a_batch_that_cannot_be_shared_out():
    with pytest.raises(UserError, match=r"over mesh\.fsdp 2 and training.accumulation 3"):
        step_on(batch_of([1] * 8), 2, accumulation=3)
