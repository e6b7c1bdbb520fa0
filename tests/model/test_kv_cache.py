"""The ring buffer against the uncached forward, at and beyond the window's edges."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sc2jax.model.cache import cache_slots, decode_step, prefill
from sc2jax.model.config import ModelConfig
from sc2jax.model.params import init_params, parameter_table
from sc2jax.model.transformer import forward, output_logits

BASE = ModelConfig(
    vocab_size=40,
    context_length=32,
    embed_dim=16,
    num_layers=2,
    num_heads=4,
    num_kv_heads=2,
    window=5,
    rope_theta=100.0,
    init_stddev=0.3,
    compute_dtype="float32",
)


@pytest.mark.parametrize("window", [0, 1, 5])
@pytest.mark.parametrize("kv_heads", [1, 4])
def test_decoding_equals_the_forward_far_past_the_window(window, kv_heads):
    config = dataclasses.replace(BASE, window=window, num_kv_heads=kv_heads)
    params = init_params(parameter_table(config), jax.random.key(0))
    tokens = jax.random.randint(jax.random.key(1), (4, 24), 0, 40)
    expected = output_logits(params, forward(params, tokens, config), config)
    # Ragged prompts around the window's size, padded on the right with tokens that must not matter.
    lengths = jnp.array([1, 4, 5, 6])
    slots = cache_slots(config, 24)
    assert slots == (window or 24)
    logits, cache = prefill(params, tokens[:, :8], lengths, config, slots)
    assert cache.k_LBKSH.shape == (2, 4, kv_heads, slots, 4)
    rows = jnp.arange(4)
    step = jax.jit(decode_step, static_argnames="config")
    for offset in range(18):
        np.testing.assert_allclose(logits, expected[rows, lengths - 1 + offset], atol=2e-5)
        positions = lengths + offset
        logits, cache = step(params, tokens[rows, positions], positions, cache, config)
