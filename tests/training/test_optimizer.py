"""The optimizers, against updates written out in numpy, one layer's matrix at a time, and against optax's own."""

import dataclasses
import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from sc2jax.model.adapters import adapter_table
from sc2jax.model.config import AdapterConfig
from sc2jax.model.loss import next_token_loss
from sc2jax.model.params import map_table, parameter_table
from sc2jax.parallel.config import MeshConfig
from sc2jax.parallel.mesh import create_mesh
from sc2jax.training.loop import train
from sc2jax.training.objective import Objective
from sc2jax.training.optimizer import create_optimizer
from sc2jax.training.step import TrainState, init_state, train_step

STEPS = 3
IN_MATRICES = {"q": 1, "k": 1, "v": 1, "o": 2, "up": 1, "down": 1}
"""The linear layers, and how many of a kernel's dimensions their inputs have."""


@pytest.fixture(scope="module")
def table(model):
    """With an output head of its own, and sides of matrices that all differ."""
    return parameter_table(dataclasses.replace(model, tie_embeddings=False, head_dim=6, mlp_dim=40))


@pytest.fixture(scope="module")
def muon(training):
    return dataclasses.replace(training, optimizer="muon", max_gradient_norm=3.0, weight_decay=0.25)


def drawn(table, seed) -> Any:
    draw = np.random.default_rng(seed)
    return map_table(table, lambda each: draw.normal(0, 0.3, each.shape).astype(np.float32))


def flat(tree) -> dict[tuple[str, ...], np.ndarray]:
    return {
        tuple(entry.key for entry in path): np.asarray(array)
        for path, array in jax.tree_util.tree_leaves_with_path(tree)
    }


def newton_schulz(matrix):
    """Five steps of X <- a X + (b A + c A A) X with A = X X', after division by the Frobenius norm."""
    wide = matrix if matrix.shape[0] <= matrix.shape[1] else matrix.T
    x = wide.astype(np.float64) / np.linalg.norm(wide)
    for _ in range(5):
        square = x @ x.T
        x = 3.4445 * x - 4.7750 * square @ x + 2.0315 * square @ square @ x
    return x if wide is matrix else x.T


def moonlight(direction, inputs):
    """The update of one layer's matrix, its sides flattened."""
    matrix = direction.reshape(math.prod(direction.shape[:inputs]), -1)
    return (0.2 * math.sqrt(max(matrix.shape)) * newton_schulz(matrix)).reshape(direction.shape)


def updates_by_hand(table, training, gradients, params):
    """Those of the last of some steps, by path; the parameters stay as they are."""
    first = {path: np.zeros(array.shape) for path, array in flat(params).items()}
    second = {path: np.zeros(array.shape) for path, array in flat(params).items()}
    found = {}
    for step, of_step in enumerate(gradients, start=1):
        of_step = flat(of_step)
        norm = math.sqrt(sum(float(np.square(array).sum()) for array in of_step.values()))
        for path, gradient in of_step.items():
            gradient = gradient.astype(np.float64) * min(1.0, training.max_gradient_norm / norm)
            kind = path[-2] if path[-1] == "kernel" else ""
            if kind:
                first[path] = 0.95 * first[path] + 0.05 * gradient
                ahead = 0.95 * first[path] / (1 - 0.95 ** (step + 1)) + 0.05 * gradient / (1 - 0.95**step)
                found[path] = np.stack([moonlight(layer, IN_MATRICES[kind]) for layer in ahead])
            else:
                first[path] = 0.9 * first[path] + 0.1 * gradient
                second[path] = 0.95 * second[path] + 0.05 * gradient**2
                corrected = first[path] / (1 - 0.9**step), second[path] / (1 - 0.95**step)
                found[path] = corrected[0] / (np.sqrt(corrected[1]) + 1e-8)
            if kind or path in (("embedding",), ("output",)):
                found[path] = found[path] + training.weight_decay * flat(params)[path]
    assert {each.path for each in table} == found.keys()
    return found


def test_muon_makes_each_layers_matrix_orthogonal_and_leaves_the_rest_to_adamw(table, muon):
    params, gradients = drawn(table, 0), [drawn(table, seed) for seed in range(1, 1 + STEPS)]
    gradients[1] = jax.tree.map(lambda array: array * np.float32(1e-3), gradients[1])  # below the norm of clipping
    optimizer = create_optimizer(muon, table)
    state, updates = optimizer.init(params), None
    for of_step in gradients:
        updates, state = jax.jit(optimizer.update)(of_step, state, params)
    for path, expected in updates_by_hand(table, muon, gradients, params).items():
        np.testing.assert_allclose(flat(updates)[path], expected, atol=2e-4, err_msg=str(path))


def test_muon_is_optaxs_on_matrices_that_are_not_stacked(table, muon):
    """Of every kernel and layer, by the learning rate that optax multiplies with."""
    params, gradients = drawn(table, 0), [drawn(table, seed) for seed in range(1, 1 + STEPS)]
    muon = dataclasses.replace(muon, max_gradient_norm=1e6)

    def unstacked(tree):
        return {
            f"{path[-2]} {layer}": array.reshape(math.prod(array.shape[: IN_MATRICES[path[-2]]]), -1)
            for path, arrays in flat(tree).items()
            if path[-1] == "kernel"
            for layer, array in enumerate(arrays)
        }

    theirs = optax.contrib.muon(1.0, weight_decay=muon.weight_decay, consistent_rms=0.2)
    ours = create_optimizer(muon, table)
    states: list[Any] = [theirs.init(unstacked(params)), ours.init(params)]
    updates: list[Any] = [None, None]
    for of_step in gradients:
        updates[0], states[0] = jax.jit(theirs.update)(unstacked(of_step), states[0], unstacked(params))
        updates[1], states[1] = jax.jit(ours.update)(of_step, states[1], params)
    found = unstacked(updates[1])
    assert len(found) == 12
    for name, expected in updates[0].items():
        np.testing.assert_allclose(found[name], -expected, atol=1e-4, err_msg=name)


def test_the_updates_of_muon_are_as_large_as_those_of_adamw(table, muon):
    """A root mean square near 0.2 at any shape, decay left out (Moonlight, section 2.2)."""
    training = dataclasses.replace(muon, weight_decay=0.0)
    optimizer, params = create_optimizer(training, table), drawn(table, 0)
    updates, _ = jax.jit(optimizer.update)(drawn(table, 1), optimizer.init(params), params)
    for path, update in flat(updates).items():
        if path[-1] == "kernel":
            assert 0.1 < np.sqrt(np.mean(np.square(update))) < 0.25, path


def test_adapters_are_matrices_too(model, muon):
    """Their gradients are 0 at first on one side, and an update of 0 follows."""
    table = adapter_table(parameter_table(model), AdapterConfig(rank=2))
    optimizer, params = create_optimizer(muon, table), drawn(table, 0)
    gradients = {path: array * (path[-1] == "lora_b") for path, array in flat(drawn(table, 1)).items()}
    given = map_table(table, lambda each: gradients[each.path])
    updates, _ = jax.jit(optimizer.update)(given, optimizer.init(params), params)
    for each in table:
        decay = muon.weight_decay * flat(params)[each.path]
        found = flat(updates)[each.path] - decay
        inputs = 2 if each.path[-2] == "o" and each.path[-1] == "lora_a" else 1
        expected = [moonlight(layer, inputs) if layer.any() else layer for layer in gradients[each.path]]
        np.testing.assert_allclose(found, expected, atol=2e-4, err_msg=str(each.path))


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_muons_momentum_is_computed_in_float32_and_held_narrow(dtype, table, muon):
    training = dataclasses.replace(muon, moments_dtype=dtype, max_gradient_norm=1e6)
    optimizer, params = create_optimizer(training, table), drawn(table, 0)
    state, momentum, updates = optimizer.init(params), 0.0, None
    coefficients = [leaf for leaf in jax.tree.leaves(state) if leaf.shape == (3,)]
    assert [leaf.dtype.name for leaf in coefficients] == ["float32"]
    path = ("layers", "mlp", "up", "kernel")
    for step in range(1, 1 + STEPS):
        gradients = drawn(table, step)
        gradient = flat(gradients)[path]
        updates, state = jax.jit(optimizer.update)(gradients, state, params)
        momentum = np.float32(0.95) * momentum + np.float32(0.05) * gradient
        ahead = 0.95 * momentum / (1 - 0.95 ** (step + 1)) + 0.05 * gradient / (1 - 0.95**step)
        expected = np.stack([moonlight(layer, 1) for layer in ahead]) + muon.weight_decay * flat(params)[path]
        np.testing.assert_allclose(flat(updates)[path], expected, atol=2e-4)
        momentum = np.asarray(jnp.asarray(momentum).astype(dtype).astype("float32"))
    moments = {leaf.dtype.name for leaf in jax.tree.leaves(state) if leaf.shape not in ((), (3,))}
    assert moments == {dtype}


def test_muon_holds_one_moment_of_a_matrix_and_two_of_the_rest(table, muon):
    mesh = create_mesh(MeshConfig(data=1, fsdp=4, tensor=2))
    state = init_state(table, muon, mesh, seed=0)
    sizes = {each.path: math.prod(each.shape) for each in table}
    matrices = sum(size for path, size in sizes.items() if path[-1] == "kernel")
    moments = [leaf for leaf in jax.tree.leaves(state.optimizer_state) if leaf.shape not in ((), (3,))]
    assert sum(leaf.size for leaf in moments) == 2 * sum(sizes.values()) - matrices
    placed = {leaf.shape: leaf.sharding.spec for leaf in jax.tree.leaves(state.params)}
    assert all(leaf.sharding.spec == placed[leaf.shape] for leaf in moments)
    assert any(leaf.addressable_shards[0].data.size == leaf.size // 8 for leaf in moments)


def test_a_step_that_is_skipped_leaves_muon_as_it_was(table, muon):
    mesh = create_mesh(MeshConfig(), jax.devices()[:1])
    state = init_state(table, muon, mesh, seed=0, scaled=True)
    before = jax.device_get((state.params, state.optimizer_state))

    def loss(params: Any, frozen: Any, batch: Any, key: jax.Array) -> tuple[jax.Array, jax.Array]:
        return optax.tree_utils.tree_sum(params) * batch["slope"][0, 0], jnp.ones(())

    def stepped(slope: float) -> tuple[TrainState, Any]:
        batch = {"slope": jnp.full((1, 1), slope)}
        return train_step(state, batch, table, loss, muon, row_length=16, seed=0, scaled=True)

    after, metrics = stepped(1.0)
    assert not metrics["overflowed"]
    assert int(optax.tree_utils.tree_get(after.optimizer_state, "count", filtering=is_muons)) == 1
    state = dataclasses.replace(state, health=dataclasses.replace(state.health, loss_scale=jnp.float32(2.0**100)))
    after, metrics = stepped(1e12)
    assert metrics["overflowed"]
    jax.tree.map(np.testing.assert_array_equal, (after.params, after.optimizer_state), before)


def is_muons(path, value):
    return any(getattr(entry, "tuple_name", "") == "MuonState" for entry in path)


def test_a_run_with_muon_goes_on_from_its_checkpoint(tmp_path, table, model, muon, make_feed):
    shape = dataclasses.replace(model, tie_embeddings=False, head_dim=6, mlp_dim=40)
    objective = Objective(table, next_token_loss(shape, 0), seed=3)
    mesh, training = create_mesh(MeshConfig(fsdp=2), jax.devices()[:2]), dataclasses.replace(muon, steps=4)

    def run(name: str, steps: int) -> dict[str, int]:
        told = dataclasses.replace(training, steps=steps, horizon_tokens=4 * training.batch_size * 16)
        folder = str(tmp_path / name)
        return train(make_feed(), objective, told, mesh, row_length=16, folder=folder, key="key").fingerprints

    whole = run("whole", 4)
    assert run("halves", 2) != whole
    assert run("halves", 4) == whole
