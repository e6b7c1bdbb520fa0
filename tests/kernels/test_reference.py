"""Mask, rotary embedding and attention against hand-worked cases and a direct computation."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sc2jax.kernels.reference import attention_mask, reference_attention, rotary_angles, rotate


def test_window_counts_the_query_itself():
    segments = jnp.zeros((1, 4), jnp.int32)
    assert (attention_mask(segments, 1)[0] == jnp.eye(4, dtype=bool)).all()
    assert (attention_mask(segments, 2)[0] == jnp.tril(jnp.triu(jnp.ones((4, 4), bool), -1))).all()
    for window in (0, 4, 9):
        assert (attention_mask(segments, window)[0] == jnp.tril(jnp.ones((4, 4), bool))).all()


def test_segments_do_not_see_each_other():
    mask = attention_mask(jnp.array([[1, 1, 2, 2, 0]]), 0)[0]
    assert mask.astype(int).tolist() == [
        [1, 0, 0, 0, 0],
        [1, 1, 0, 0, 0],
        [0, 0, 1, 0, 0],
        [0, 0, 1, 1, 0],
        [0, 0, 0, 0, 1],
    ]


def test_queries_are_the_last_positions():
    segments = jnp.array([[-1, 1, 1, 1, 2]])
    assert attention_mask(segments, 3, queries=2)[0].astype(int).tolist() == [[0, 1, 1, 1, 0], [0, 0, 0, 0, 1]]


def test_rotation_keeps_lengths_and_depends_on_distance_only():
    q, k = jax.random.normal(jax.random.key(0), (2, 1, 1, 1, 8))

    def score(q_position: int, k_position: int) -> jax.Array:
        turned_q = rotate(q, *rotary_angles(jnp.array([[q_position]]), 8, 100.0))
        turned_k = rotate(k, *rotary_angles(jnp.array([[k_position]]), 8, 100.0))
        return jnp.sum(turned_q * turned_k)

    np.testing.assert_allclose(score(3, 1), score(12, 10), rtol=1e-5)
    assert abs(score(3, 1) - score(3, 2)) > 1e-4
    turned = rotate(q, *rotary_angles(jnp.array([[5]]), 8, 100.0))
    np.testing.assert_allclose(jnp.sum(turned**2), jnp.sum(q**2), rtol=1e-5)


def test_rotation_pairs_the_halves_of_a_head():
    x = jnp.zeros((1, 1, 1, 4)).at[..., 1].set(1.0)
    turned = rotate(x, *rotary_angles(jnp.array([[1]]), 4, 10000.0))[0, 0, 0]
    # The second pair turns by position * theta^(-2/4) = 0.01 and couples elements 1 and 3.
    np.testing.assert_allclose(turned, [0, np.cos(0.01), 0, np.sin(0.01)], atol=1e-7)


def direct_attention(q, k, v, mask):
    """One query head at a time, in float64."""
    out = np.zeros(q.shape)
    group = q.shape[2] // k.shape[2]
    for b, t, n in np.ndindex(*q.shape[:3]):
        scores = (k[b, :, n // group] @ q[b, t, n]) / np.sqrt(q.shape[3])
        weights = np.where(mask[b, t], np.exp(scores - scores[mask[b, t]].max()), 0.0)
        out[b, t, n] = weights @ v[b, :, n // group] / weights.sum()
    return out


@settings(max_examples=12)  # each draws a shape, and each shape compiles
@given(
    kv_heads=st.sampled_from([1, 2, 4]),
    length=st.integers(1, 9),
    before=st.integers(0, 5),
    window=st.integers(0, 10),
    seed=st.integers(0, 2**16),
)
def test_reference_equals_a_direct_computation(kv_heads, length, before, window, seed):
    rng = np.random.default_rng(seed)
    q = rng.normal(size=(2, length, 4, 6))
    k, v = rng.normal(size=(2, 2, before + length, kv_heads, 6))
    segments = jnp.asarray(np.sort(rng.integers(0, 3, (2, before + length)), axis=1))
    mask = attention_mask(segments, window)[:, before:]
    out = reference_attention(jnp.float32(q), jnp.float32(k), jnp.float32(v), segments, window)
    np.testing.assert_allclose(out, direct_attention(q, k, v, np.asarray(mask)), atol=2e-5)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_low_precision_stays_close_and_finite(dtype):
    q, k, v = jax.random.normal(jax.random.key(1), (3, 1, 16, 2, 8))
    segments = jnp.zeros((1, 16), jnp.int32)
    exact = reference_attention(q, k, v, segments, 4)
    low = reference_attention(q.astype(dtype), k.astype(dtype), v.astype(dtype), segments, 4)
    assert low.dtype == dtype
    np.testing.assert_allclose(low.astype(jnp.float32), exact, atol=0.05)
