"""Attention over the cache by the TPU's kernel, interpreted, against the model's own and a direct computation."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.experimental.pallas import tpu as pltpu

from sc2jax.kernels.decode_attention import decode_attention, takes_cache
from sc2jax.model.attention import plain_cached_attention


def _inputs(kv_heads, slots, dtype):
    q, own_k, own_v, k, v = (
        jax.random.normal(key, shape).astype(dtype)
        for key, shape in zip(
            jax.random.split(jax.random.key(slots), 5),
            [(4, 4, 128), *[(4, kv_heads, 128)] * 2, *[(4, kv_heads, slots, 128)] * 2],
            strict=True,
        )
    )
    # Nothing cached, one key, an uneven number of them, and a ring that has gone round: its oldest slot is hidden.
    filled = jnp.array([0, 1, slots * 2 // 3, slots])
    visible = jnp.arange(slots)[None] < filled[:, None]
    return q, own_k, own_v, k, v, visible.at[3, slots // 2].set(False)


@pytest.mark.parametrize(("dtype", "tolerance"), [("float32", 2e-6), ("bfloat16", 2e-2)])
@pytest.mark.parametrize(("kv_heads", "slots"), [(1, 128), (2, 384), (4, 4096)])
def test_equals_the_model(kv_heads, slots, dtype, tolerance):
    inputs = _inputs(kv_heads, slots, dtype)
    found = jax.jit(lambda *x: decode_attention(*x, interpret=True))(*inputs)
    assert found.dtype == dtype
    np.testing.assert_allclose(
        found.astype(jnp.float32), plain_cached_attention(*inputs).astype(jnp.float32), atol=tolerance, rtol=tolerance
    )


def test_does_not_read_behind_the_last_visible_key():
    """On a TPU, interpreted with memory that nobody wrote set to NaN, and with the race detector on."""
    q, own_k, own_v, k, v, visible = _inputs(2, 384, "float32")
    hidden = ~visible[:, None, :, None] & (jnp.arange(384)[None, None, :, None] >= 256)
    k, v = (jnp.where(hidden, jnp.nan, x) for x in (k, v))
    # The last of the three blocks is read by the fourth sequence alone, which sees all of it.
    interpret = pltpu.InterpretParams(detect_races=True, uninitialized_memory="nan")
    found = decode_attention(q, own_k, own_v, k, v, visible, interpret=interpret)
    assert np.isfinite(found).all()


def test_takes_whole_blocks_of_whole_registers():
    assert takes_cache(4096, 128, jnp.bfloat16)
    assert takes_cache(128, 128, jnp.zeros(1).dtype)
    assert not takes_cache(100, 128, jnp.bfloat16)
    assert not takes_cache(4096, 64, jnp.bfloat16)
    assert not takes_cache(4096, 128, jnp.float16)
