"""The loss in chunks: value and gradients of the plain one, on every mesh, in a fraction of its memory."""

import math
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sc2jax.kernels.cross_entropy import _chunked, chunked_cross_entropy, reference_cross_entropy
from sc2jax.model.loss import total_loss
from sc2jax.parallel.config import MeshConfig
from sc2jax.parallel.mesh import create_mesh

B, T, D, V = 8, 8, 16, 24
Z_LOSS = 0.1


def inputs(dtype=jnp.float32):
    keys = jax.random.split(jax.random.key(0), 4)
    hidden = jax.random.normal(keys[0], (B, T, D)).astype(dtype)
    output = jax.random.normal(keys[1], (V, D))
    targets = jax.random.randint(keys[2], (B, T), 0, V)
    weights = jax.random.uniform(keys[3], (B, T)).at[:, ::3].set(0.0)
    return hidden, output, targets, weights


def plain(hidden, output, targets, weights):
    losses = reference_cross_entropy(hidden.reshape(-1, hidden.shape[-1]), output, targets.reshape(-1))
    return jnp.sum(losses * weights.reshape(-1))


def plain_with_z(hidden, output, targets, weights):
    """As the formula is written."""
    logits = jnp.einsum("btd,vd->btv", hidden, output)
    log_z = jnp.log(jnp.sum(jnp.exp(logits), axis=-1))
    losses = log_z - jnp.take_along_axis(logits, targets[..., None], axis=-1)[..., 0]
    return jnp.sum((losses + Z_LOSS * log_z**2) * weights)


def mean_with_gradients(loss, hidden, output, targets, weights):
    """As the train step takes them: of the mean over the weights."""
    return jax.value_and_grad(lambda h, o: loss(h, o, targets, weights) / jnp.sum(weights), argnums=(0, 1))(
        hidden, output
    )


def test_the_reference_is_minus_the_log_of_the_softmax():
    hidden, output, targets, _ = inputs()
    logits = np.asarray(hidden, np.float64).reshape(-1, D) @ np.asarray(output, np.float64).T
    shares = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    losses = -np.log(shares[np.arange(B * T), np.asarray(targets).reshape(-1)])
    np.testing.assert_allclose(
        reference_cross_entropy(hidden.reshape(-1, D), output, targets.reshape(-1)), losses, 1e-5
    )


@pytest.mark.parametrize("chunk", [1, 7, 32, 64, 1000])
def test_chunks_equal_the_whole(chunk):
    given = inputs()
    found = mean_with_gradients(lambda *arrays: total_loss(*arrays, chunk), *given)
    expected = mean_with_gradients(plain, *given)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6), found, expected)


def test_every_token_has_its_loss_and_none_counts_where_all_weights_are_0():
    hidden, output, targets, weights = inputs()
    flat = hidden.reshape(-1, D), output, targets.reshape(-1)
    found = chunked_cross_entropy(*flat, weights.reshape(-1), chunk=7)
    np.testing.assert_allclose(found.losses_M, reference_cross_entropy(*flat), rtol=1e-5)
    nothing = chunked_cross_entropy(*flat, jnp.zeros(B * T), chunk=7)
    assert float(nothing.total) == 0.0
    assert not np.any(nothing.d_hidden_MD)
    assert not np.any(nothing.d_output_VD)


def test_either_order_of_the_gradient_is_the_same():
    hidden, output, targets, weights = inputs()
    found = [
        _chunked(
            hidden.reshape(-1, D),
            output,
            targets.reshape(-1),
            weights.reshape(-1),
            chunk=7,
            vocab_axes=(),
            z_loss=0.0,
            embed_first=embed_first,
        )
        for embed_first in (True, False)
    ]
    np.testing.assert_allclose(found[0].d_output_VD, found[1].d_output_VD, rtol=1e-5, atol=1e-6)


def test_bfloat16_stays_close():
    exact, low = (mean_with_gradients(lambda *a: total_loss(*a, 16), *inputs(kind)) for kind in ("float32", "bfloat16"))
    assert low[1][0].dtype == jnp.bfloat16
    assert low[1][1].dtype == jnp.float32
    np.testing.assert_allclose(low[0], exact[0], rtol=1e-2)
    for one, other in zip(low[1], exact[1], strict=True):
        assert np.corrcoef(np.float32(one).ravel(), other.ravel())[0, 1] > 0.999


@pytest.mark.parametrize(
    "sizes",
    [
        {"data": 8, "fsdp": 1},
        {"fsdp": 8},
        {"data": 1, "fsdp": 1, "tensor": 8},
        {"data": 2, "fsdp": 2, "tensor": 2},
        {"data": 1, "fsdp": 2, "sequence": 2, "tensor": 2},
        {"data": 1, "fsdp": 1, "sequence": 8},
    ],
    ids=str,
)
def test_every_mesh_computes_the_same(sizes):
    given, mesh = inputs(), create_mesh(MeshConfig(**sizes))
    found = jax.jit(lambda *arrays: mean_with_gradients(lambda *a: total_loss(*a, 3, mesh), *arrays))(*given)
    expected = mean_with_gradients(plain, *given)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6), found, expected)


@pytest.mark.parametrize("sizes", [None, {"fsdp": 2, "sequence": 2, "tensor": 2}], ids=str)
def test_the_z_loss_has_its_gradient_and_no_value(sizes):
    given = inputs()
    mesh = None if sizes is None else create_mesh(MeshConfig(**sizes))
    value, gradients = jax.jit(
        lambda *arrays: mean_with_gradients(lambda *a: total_loss(*a, 7, mesh, Z_LOSS), *arrays)
    )(*given)
    np.testing.assert_allclose(value, mean_with_gradients(plain, *given)[0], rtol=1e-5)
    expected = mean_with_gradients(plain_with_z, *given)[1]
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6), gradients, expected)
    without = mean_with_gradients(plain, *given)[1]
    assert max(float(jnp.abs(a - b).max()) for a, b in zip(without, expected, strict=True)) > 0.01


def test_the_logits_of_a_batch_never_exist():
    rows, length, embed, vocab, chunk = 4, 512, 32, 4096, 128
    shapes = [((rows, length, embed), "float32"), ((vocab, embed), "float32")]
    shapes += [((rows, length), "int32"), ((rows, length), "float32")]
    given = [jax.ShapeDtypeStruct(*shape) for shape in shapes]

    def compiled(loss):
        program = jax.jit(lambda *arrays: mean_with_gradients(loss, *arrays)).lower(*given).compile()
        sizes = [math.prod(map(int, s.split(","))) for s in re.findall(r"f32\[([\d,]+)\]", program.as_text() or "")]
        memory = program.memory_analysis()
        assert memory is not None
        return memory.temp_size_in_bytes, max(sizes)

    whole_memory, whole_array = compiled(plain)
    memory, array = compiled(lambda *arrays: total_loss(*arrays, chunk))
    assert whole_array == rows * length * vocab
    assert array <= chunk * vocab
    assert whole_memory > 4 * rows * length * vocab
    assert memory < whole_memory / 4
