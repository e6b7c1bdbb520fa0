"""The train step: the same on one device and on eight, and equal to an optimizer written out by hand."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sc2jax.errors import UserError
from sc2jax.model.loss import next_token_loss, token_losses
from sc2jax.model.params import Parameter, init_params, parameter_table
from sc2jax.model.transformer import forward, output_logits
from sc2jax.parallel import rules
from sc2jax.parallel.config import MeshConfig
from sc2jax.parallel.mesh import create_mesh
from sc2jax.training.global_batch import abstract_batch, local_rows, place_batch
from sc2jax.training.optimizer import create_optimizer
from sc2jax.training.step import (
    abstract_state,
    batch_sharding,
    compile_train_step,
    init_state,
    state_shardings,
    train_step,
)

MESHES = {
    "data": (MeshConfig(data=8, fsdp=1), 8),
    "fsdp": (MeshConfig(fsdp=8), 8),
    "tensor": (MeshConfig(fsdp=2, tensor=4), 8),
    "data x fsdp x tensor": (MeshConfig(data=2, fsdp=2, tensor=2), 8),
    "sequence": (MeshConfig(fsdp=1, sequence=8), 8),
    "fsdp x sequence x tensor": (MeshConfig(fsdp=2, sequence=2, tensor=2), 8),
}


def compiled(model, training, mesh) -> Any:
    loss = next_token_loss(model, training.loss_chunk, mesh)
    return compile_train_step(parameter_table(model), loss, training, mesh, row_length=model.context_length, seed=3)


def run_steps(model, training, mesh, feed, count):
    state = init_state(parameter_table(model), training, mesh, seed=3)
    step = compiled(model, training, mesh)
    rows = local_rows(mesh, training.batch_size, model.context_length)
    placement = batch_sharding(mesh, training.batch_size, model.context_length)
    losses = []
    for _ in range(count):
        state, metrics = step(state, place_batch(next(feed), placement, rows, training.batch_size))
        losses.append(float(metrics["loss"]))
    return state, losses


@pytest.fixture(scope="module")
def single(model, training, make_feed):
    """What four steps on one device give."""
    return run_steps(model, training, create_mesh(MeshConfig(), jax.devices()[:1]), make_feed(), 4)


# Meshes of several axes first; each axis alone is what to look at when one of them fails.
@pytest.mark.parametrize(
    "name",
    [
        "data x fsdp x tensor",
        "fsdp x sequence x tensor",
        *(pytest.param(name, marks=pytest.mark.slow) for name in ("data", "fsdp", "tensor", "sequence")),
    ],
)
def test_every_mesh_trains_to_the_same_losses(name, model, training, single, make_feed):
    config, devices = MESHES[name]
    state, losses = run_steps(model, training, create_mesh(config, jax.devices()[:devices]), make_feed(), 4)
    np.testing.assert_allclose(losses, single[1], rtol=2e-5)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, atol=2e-4),
        jax.device_get(state.params),
        jax.device_get(single[0].params),
    )


@pytest.mark.parametrize("chunk", [0, 5])
def test_the_loss_in_chunks_trains_like_the_whole(chunk, model, training, single, make_feed):
    """On one device; tests/model/test_loss.py has the meshes."""
    training = dataclasses.replace(training, loss_chunk=chunk)
    _, losses = run_steps(model, training, create_mesh(MeshConfig(), jax.devices()[:1]), make_feed(), 4)
    np.testing.assert_allclose(losses, single[1], rtol=2e-5)


def test_the_kernels_for_tpus_train_like_plain_jax(model, training, single, make_feed):
    """With the interpreted kernels on eight devices, beside plain JAX on one."""
    kernels = dataclasses.replace(model, attention="pallas")
    mesh = create_mesh(MeshConfig(data=1, fsdp=2, sequence=2, tensor=2))
    _, losses = run_steps(kernels, training, mesh, make_feed(), 4)
    np.testing.assert_allclose(losses, single[1], rtol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("sizes", [{"fsdp": 8}, {"fsdp": 2, "sequence": 2, "tensor": 2}], ids=str)
def test_twenty_steps_with_the_kernels_for_tpus_equal_the_reference(sizes, model, training, make_feed):
    plain = dataclasses.replace(model, attention="reference")
    _, expected = run_steps(plain, training, create_mesh(MeshConfig(), jax.devices()[:1]), make_feed(), 20)
    kernels = dataclasses.replace(model, attention="pallas")
    _, losses = run_steps(kernels, training, create_mesh(MeshConfig(data=1, **sizes)), make_feed(), 20)
    np.testing.assert_allclose(losses, expected, rtol=1e-4)


def test_no_device_gathers_the_rows_that_are_split(model, training):
    mesh = create_mesh(MeshConfig(data=2, fsdp=1, sequence=4))
    state = abstract_state(parameter_table(model), training, mesh)
    batch = abstract_batch(mesh, training.batch_size, model.context_length)
    program = compiled(model, training, mesh).lower(state, batch).compile().as_text()
    assert "collective-permute" in program
    assert "all-gather" not in program
    assert "all-to-all" not in program


def test_each_device_holds_its_part_of_parameters_and_moments(model, training):
    mesh = create_mesh(MeshConfig(data=1, fsdp=4, tensor=2))
    state = init_state(parameter_table(model), training, mesh, seed=0)
    whole = sum(array.size for array in jax.tree.leaves((state.params, state.optimizer_state)))
    device = mesh.devices.flat[0]
    held = sum(
        shard.data.size
        for array in jax.tree.leaves((state.params, state.optimizer_state))
        for shard in array.addressable_shards
        if shard.device == device
    )
    assert held < whole / 3  # kernels in eighths; norms and key-value heads less


def test_the_first_update_is_adamw_by_hand(model, training, make_feed):
    """Of every parameter; none is 0 before it, so that decaying one that should not be would show."""
    mesh = create_mesh(MeshConfig(), jax.devices()[:1])
    training = dataclasses.replace(training, warmup_tokens=0, max_gradient_norm=0.5)
    state = init_state(parameter_table(model), training, mesh, seed=3)
    state = dataclasses.replace(state, params=jax.tree.map(lambda array: array + 0.2, state.params))
    before = jax.device_get(state.params)
    batch = next(make_feed())

    @jax.jit
    def mean_loss(params):
        losses = token_losses(params, batch, model, None, jax.random.key(0))
        return jnp.sum(losses * batch["weights"]) / batch["weights"].sum()

    gradients = jax.device_get(jax.grad(mean_loss)(before))
    norm = np.sqrt(sum(float(np.sum(np.square(gradient))) for gradient in jax.tree.leaves(gradients)))
    assert norm > 0.5
    state, _ = compiled(model, training, mesh)(state, batch)

    def check(path, old, gradient, new):
        decayed = path[-1].key in ("kernel", "embedding")
        clipped = gradient * 0.5 / norm
        # After one step the corrected moments are the gradient and its square.
        update = clipped / (np.abs(clipped) + training.epsilon) + training.weight_decay * decayed * old
        large = np.abs(clipped) > 1e-5  # where rounding does not decide the sign
        np.testing.assert_allclose(new[large], (old - training.peak_learning_rate * update)[large], atol=1e-5)
        return decayed, large.mean()

    checked = jax.tree.leaves(jax.tree_util.tree_map_with_path(check, before, gradients, jax.device_get(state.params)))
    assert set(checked[::2]) == {True, False}
    assert np.mean(checked[1::2]) > 0.8


def test_the_z_loss_is_the_same_with_all_logits_at_once(model, training, make_feed):
    """Its gradient by hand; what is reported is the cross-entropy alone."""
    params = init_params(parameter_table(model), jax.random.key(1))
    batch = next(make_feed())

    def by_hand(params):
        logits = output_logits(
            params,
            forward(
                params, batch["tokens"], model, segment_ids_BT=batch["segment_ids"], positions_BT=batch["positions"]
            ),
            model,
        )
        log_z = jnp.log(jnp.sum(jnp.exp(logits), axis=-1))
        losses = log_z - jnp.take_along_axis(logits, batch["targets"][..., None], axis=-1)[..., 0]
        return jnp.sum((losses + 0.1 * log_z**2) * batch["weights"])

    expected = jax.jit(jax.grad(by_hand))(params)
    plain, _ = next_token_loss(model, 0)(params, {}, batch, jax.random.key(0))
    for chunk in (0, 5):
        loss = next_token_loss(model, chunk, z_loss=0.1)
        value, gradients = jax.jit(
            jax.value_and_grad(lambda params, loss=loss: loss(params, {}, batch, jax.random.key(0))[0])
        )(params)
        np.testing.assert_allclose(value, plain, rtol=1e-6)
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-4), gradients, expected)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_moments_are_computed_in_float32_and_held_narrow(dtype, training):
    """Three updates of one parameter, with moments rounded after each, written out in numpy."""
    table = (Parameter(("scale",), (3,), (rules.EMBED,), "ones", True),)
    training = dataclasses.replace(training, moments_dtype=dtype, max_gradient_norm=1e6, warmup_tokens=0)
    optimizer = create_optimizer(training, table)
    params = {"scale": jnp.array([1.0, -2.0, 3.0])}
    state = optimizer.init(params)
    assert {leaf.dtype.name for leaf in jax.tree.leaves(state)} == {"int32", dtype}
    first, second = np.zeros(3, np.float32), np.zeros(3, np.float32)
    for step in range(1, 4):
        gradient = np.array([0.1, -0.37, 1.3], np.float32) * step
        updates: Any
        updates, state = optimizer.update({"scale": jnp.asarray(gradient)}, state, params)
        first = 0.9 * first + 0.1 * gradient
        second = 0.95 * second + 0.05 * gradient**2
        expected = (first / (1 - 0.9**step)) / (np.sqrt(second / (1 - 0.95**step)) + 1e-8)
        expected += 0.1 * np.asarray(params["scale"])
        np.testing.assert_allclose(updates["scale"], expected, rtol=1e-5)
        first, second = (np.asarray(jnp.asarray(moment).astype(dtype).astype("float32")) for moment in (first, second))


def test_the_memory_of_a_state_is_used_again(model, training, make_feed):
    mesh = create_mesh(MeshConfig(fsdp=8))
    state = init_state(parameter_table(model), training, mesh, seed=3)
    given = jax.tree.leaves(state)
    after, _ = compiled(model, training, mesh)(state, next(make_feed()))
    assert all(array.is_deleted() for array in given)
    placed = jax.tree.leaves(state_shardings(parameter_table(model), training, mesh))
    assert [array.sharding for array in jax.tree.leaves(after)] == placed


def test_weights_select_targets(model, training, make_feed):
    mesh = create_mesh(MeshConfig(), jax.devices()[:1])
    untouched, state = (init_state(parameter_table(model), training, mesh, seed=3) for _ in range(2))
    batch = next(make_feed())
    _, metrics = compiled(model, training, mesh)(state, batch)
    losses = token_losses(untouched.params, batch, model, None, jax.random.key(0))[:, :-1]
    np.testing.assert_allclose(metrics["loss"], losses.mean(), rtol=1e-5)
    assert metrics["tokens"] == losses.size


def test_a_batch_that_the_mesh_does_not_divide_is_refused(model, training):
    mesh = create_mesh(MeshConfig(data=8, fsdp=1))
    with pytest.raises(UserError, match="12 elements"):
        local_rows(mesh, 12, model.context_length)


def test_the_loss_draws_anew_in_each_step_and_follows_the_seed(training):
    table = (Parameter(("scale",), (1,), (rules.EMBED,), "ones", False),)

    def drawn(step, seed):
        state = init_state(table, training, create_mesh(MeshConfig(), jax.devices()[:1]), seed=0)
        state = dataclasses.replace(state, step=jnp.int32(step))

        def loss(params, frozen, batch, key):
            return jnp.sum(params["scale"]) * jax.random.uniform(key), jnp.ones(())

        return float(train_step(state, {}, table, loss, training, row_length=16, seed=seed)[1]["loss"])

    assert drawn(3, 1) == drawn(3, 1)
    assert len({drawn(3, 1), drawn(4, 1), drawn(3, 2)}) == 3
