"""Properties of the whole model: what a token can depend on, and that ways of computing it agree."""

import dataclasses
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sc2jax.model.config import ModelConfig
from sc2jax.model.params import abstract_params, init_params, parameter_table
from sc2jax.model.transformer import cast_params, forward, layer_norm, linear, output_logits
from sc2jax.parallel.config import MeshConfig
from sc2jax.parallel.mesh import create_mesh

TINY = ModelConfig(
    vocab_size=40,
    context_length=12,
    embed_dim=16,
    num_layers=2,
    num_heads=4,
    num_kv_heads=2,
    window=3,
    rope_theta=100.0,
    init_stddev=0.3,
    compute_dtype="float32",
)
TOKENS = jax.random.randint(jax.random.key(7), (2, 12), 0, 40)


def logits(params, tokens=TOKENS, config=TINY, **options):
    return output_logits(params, forward(params, tokens, config, **options), config)


@pytest.fixture(scope="module")
def params():
    return init_params(parameter_table(TINY), jax.random.key(0))


def test_a_token_reaches_just_the_positions_that_its_window_and_depth_allow(params):
    changed = TOKENS.at[0, 4].set((TOKENS[0, 4] + 1) % 40)
    moved = np.abs(logits(params) - logits(params, changed)).max(axis=-1)[0] > 1e-6
    # Each layer hands information on by at most window - 1 = 2 positions: from 4 it reaches 4..8 in two layers.
    assert moved.tolist() == [False] * 4 + [True] * 5 + [False] * 3


def test_full_attention_reaches_all_that_follow(params):
    config = dataclasses.replace(TINY, window=0)
    changed = TOKENS.at[0, 4].set((TOKENS[0, 4] + 1) % 40)
    moved = np.abs(logits(params, config=config) - logits(params, changed, config)).max(axis=-1)[0] > 1e-6
    assert moved.tolist() == [False] * 4 + [True] * 8


def test_packed_documents_are_computed_as_if_alone(params):
    segments = jnp.array([[1] * 5 + [2] * 7] * 2)
    positions = jnp.array([[*range(5), *range(7)]] * 2)
    packed = logits(params, segment_ids_BT=segments, positions_BT=positions)
    np.testing.assert_allclose(packed[:, :5], logits(params, TOKENS[:, :5]), atol=1e-5)
    np.testing.assert_allclose(packed[:, 5:], logits(params, TOKENS[:, 5:]), atol=1e-5)


@pytest.mark.parametrize(
    "change",
    [
        {"rematerialization": "full"},
        {"rematerialization": "dots"},
        {"scan_unroll": 2},
        {"attention": "reference"},
        {"attention": "blocked"},
    ],
    ids=lambda change: next(iter(change)) + "=" + str(next(iter(change.values()))),
)
def test_ways_of_computing_give_the_same_gradients(params, change):
    def loss(params, config):
        return jnp.mean(logits(params, config=config) ** 2)

    expected = jax.grad(loss)(params, TINY)
    found = jax.grad(loss)(params, dataclasses.replace(TINY, **change))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6), found, expected)


def test_bfloat16_is_close_and_its_logits_are_float32(params):
    low = logits(params, config=dataclasses.replace(TINY, compute_dtype="bfloat16"))
    assert low.dtype == jnp.float32
    assert np.corrcoef(low.ravel(), logits(params).ravel())[0, 1] > 0.999


def test_norms_are_computed_in_float32_with_float32_parameters(params):
    """In bfloat16 numbers around 100 are 0.5 apart, and a mean of them is off by as much as they differ."""
    x = (100 + jax.random.normal(jax.random.key(1), (3, 256))).astype(jnp.bfloat16)
    scale, bias = 1 + jax.random.uniform(jax.random.key(2), (256,)) / 300, jnp.full(256, 0.501)
    wide = np.asarray(x, np.float64)
    normed = (wide - wide.mean(1, keepdims=True)) / np.sqrt(wide.var(1, keepdims=True) + 1e-5)
    found = layer_norm(x, {"scale": scale, "bias": bias}, 1e-5)
    expected = (normed * np.asarray(scale, np.float64) + np.asarray(bias, np.float64)).astype(jnp.bfloat16)
    assert found.dtype == jnp.bfloat16
    assert np.mean(found == expected) > 0.98  # the rest is rounded the other way


def test_all_parameters_but_those_of_norms_are_cast(params):
    cast = cast_params(params, dataclasses.replace(TINY, compute_dtype="bfloat16"))
    wide = {path[-2].key for path, x in jax.tree_util.tree_leaves_with_path(cast) if x.dtype == jnp.float32}
    narrow = [path for path, x in jax.tree_util.tree_leaves_with_path(cast) if x.dtype == jnp.bfloat16]
    assert wide == {"attention_norm", "mlp_norm", "final_norm"}
    assert len(narrow) == len(jax.tree.leaves(params)) - 6


def test_dropout_needs_a_key_and_follows_it(params):
    config = dataclasses.replace(TINY, embedding_dropout=0.2, attention_dropout=0.2, residual_dropout=0.2)
    np.testing.assert_array_equal(logits(params, config=config), logits(params))
    one, same, other = (logits(params, config=config, dropout_key=jax.random.key(seed)) for seed in (1, 1, 2))
    np.testing.assert_array_equal(one, same)
    assert np.abs(one - other).max() > 0.01


def test_devices_gather_parameters_and_no_activations():
    mesh = create_mesh(MeshConfig(fsdp=2, sequence=2, tensor=2))
    rows, length = 6, 28  # sizes that no parameter has, nor have their halves
    program = jax.jit(lambda params, tokens: forward(params, tokens, TINY, mesh=mesh)).lower(
        abstract_params(parameter_table(TINY), mesh), jax.ShapeDtypeStruct((rows, length), jnp.int32)
    )
    gathered = re.findall(r"\w+\[([\d,]+)\]\S* all-gather", program.compile().as_text() or "")
    assert gathered
    for shape in gathered:
        assert not {"3", "6", "14", "28"} & set(shape.split(","))


@pytest.mark.parametrize(
    ("inputs", "outputs", "barriers"), [((8,), (2, 4), 1), ((2, 4), (8,), 1), ((8,), (6,), 0)], ids=["q", "o", "mlp"]
)
def test_changes_of_a_heads_layout_stay_out_of_products_on_tpus(inputs, outputs, barriers):
    """One barrier between heads and the product, and one for the gradient on its way back; on CPUs none."""

    def total(x: jax.Array, kernel: jax.Array, flat: bool) -> jax.Array:
        return jnp.sum(linear(x, {"kernel": kernel, "bias": jnp.zeros(outputs)}, "q", len(inputs), flat=flat) ** 2)

    x, kernel = jnp.ones((1, 3, *inputs)), jnp.ones((*inputs, *outputs))
    for flat, expected in ((False, 2 * barriers), (True, 0)):
        traced = jax.make_jaxpr(jax.grad(total), static_argnums=2)(x, kernel, flat)
        assert str(traced).count("= optimization_barrier") == expected
