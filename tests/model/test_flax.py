"""The nnx view gives the numbers of the functional model."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

from sc2jax.inference.generate import generate
from sc2jax.model.config import ModelConfig
from sc2jax.model.flax import StarCoder2
from sc2jax.model.params import count_params, init_params, parameter_table
from sc2jax.model.transformer import forward, output_logits

TINY = ModelConfig(
    vocab_size=40,
    context_length=12,
    embed_dim=16,
    num_layers=2,
    num_heads=4,
    num_kv_heads=2,
    window=3,
    init_stddev=0.3,
    compute_dtype="float32",
)
TOKENS = jax.random.randint(jax.random.key(7), (2, 12), 0, 40)


@pytest.mark.parametrize("change", [{}, {"num_kv_heads": 1, "tie_embeddings": False}, {"window": 0}], ids=str)
def test_same_logits(change):
    config = dataclasses.replace(TINY, **change)
    params = init_params(parameter_table(config), jax.random.key(0))
    module = StarCoder2(config, rngs=nnx.Rngs(0), params=params)
    segments = jnp.array([[1] * 5 + [2] * 7] * 2)
    positions = jnp.array([[*range(5), *range(7)]] * 2)
    found = nnx.jit(module)(TOKENS, segment_ids_BT=segments, positions_BT=positions)

    @jax.jit
    def functional(params, tokens, segments, positions):
        hidden = forward(params, tokens, config, segment_ids_BT=segments, positions_BT=positions)
        return output_logits(params, hidden, config)

    np.testing.assert_allclose(found, functional(params, TOKENS, segments, positions), atol=1e-6)


def test_same_gradients_and_an_optimizer_step():
    module = StarCoder2(TINY, rngs=nnx.Rngs(1))

    def loss(logits):
        return jnp.mean(optax.softmax_cross_entropy_with_integer_labels(logits[:, :-1], TOKENS[:, 1:]))

    found = nnx.jit(nnx.grad(lambda module: loss(module(TOKENS))))(module)
    params = module.arrays()
    expected = jax.jit(jax.grad(lambda params: loss(output_logits(params, forward(params, TOKENS, TINY), TINY))))(
        params
    )
    jax.tree.map(
        lambda one, other: np.testing.assert_allclose(one, other, atol=1e-6),
        nnx.to_pure_dict(found)["params"],
        expected,
    )
    optimizer = nnx.Optimizer(module, optax.sgd(0.1), wrt=nnx.Param)
    optimizer.update(module, found)
    moved = jax.tree.map(lambda before, gradient: before - 0.1 * gradient, params, expected)
    jax.tree.map(lambda one, other: np.testing.assert_allclose(one, other, atol=1e-6), module.arrays(), moved)


def test_parameters_lie_at_the_paths_of_the_table():
    module = StarCoder2(TINY, rngs=nnx.Rngs(0))
    state = nnx.state(module, nnx.Param)
    assert sum(leaf.size for leaf in jax.tree.leaves(state)) == count_params(parameter_table(TINY))
    for parameter in parameter_table(TINY):
        node = module.params
        for name in parameter.path:
            node = node[name]
        assert node.shape == parameter.shape
        assert node.get_metadata("axes") == parameter.axes
    assert module.params.layers.mlp.up.kernel.shape == (2, 16, 64)


def test_its_parameters_generate():
    module = StarCoder2(TINY, rngs=nnx.Rngs(2))
    (completion,) = generate(module.arrays(), TINY, [[1, 2, 3]], max_new_tokens=5, stop_ids=frozenset())
    tokens = [1, 2, 3]
    for _ in range(5):
        tokens.append(int(jnp.argmax(module(jnp.array([tokens]))[0, -1])))
    assert completion.ids == tokens[3:]


def test_dropout_follows_its_stream():
    config = dataclasses.replace(TINY, residual_dropout=0.5)
    module = StarCoder2(config, rngs=nnx.Rngs(0))
    plain = module(TOKENS)
    one, same, other = (module(TOKENS, rngs=nnx.Rngs(dropout=seed)) for seed in (1, 1, 2))
    np.testing.assert_array_equal(one, same)
    assert np.abs(one - other).max() > 0.01
    assert np.abs(one - plain).max() > 0.01
