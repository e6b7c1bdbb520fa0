"""The TPU's attention kernels, interpreted, against the plain reference: values and all three gradients."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jax.experimental.pallas import tpu as pltpu

from sc2jax.errors import UserError
from sc2jax.kernels.blocked import blocked_attention
from sc2jax.kernels.reference import reference_attention, rotary_angles, rotate
from sc2jax.kernels.window_attention import takes_rows, window_attention

B, N = 2, 4
SLOW = pytest.mark.slow


def _inputs(length, kv_heads, head_dim=128, dtype="float32", seed=0):
    keys = jax.random.split(jax.random.key(seed), 4)
    heads = (N, kv_heads, kv_heads, N)
    return [jax.random.normal(key, (B, length, n, head_dim)).astype(dtype) for key, n in zip(keys, heads, strict=True)]


def _segments(length, count, seed=0):
    """Packed rows: segments of random lengths, their borders anywhere in a block."""
    return jnp.asarray(np.sort(np.random.default_rng(seed).integers(0, count, (B, length)), axis=1), jnp.int32)


def _turned(function, angles):
    return lambda q, k, v: function(rotate(q, *angles), rotate(k, *angles), v)


def _value_and_gradients(function, q, k, v, cotangent):
    out, pull = jax.vjp(function, q, k, v)
    return out, *pull(cotangent)


def _assert_equal(found, expected, tolerance):
    for x, y in zip(found, expected, strict=True):
        scale = max(float(jnp.abs(y.astype(jnp.float32)).max()), 1.0)
        assert jnp.isfinite(x.astype(jnp.float32)).all()
        np.testing.assert_allclose(x.astype(jnp.float32) / scale, y.astype(jnp.float32) / scale, atol=tolerance, rtol=0)


def _compare(length, window, kv_heads, *, head_dim=128, segments=None, turns=False, dtype="float32", tolerance=3e-6):
    *inputs, cotangent = _inputs(length, kv_heads, head_dim, dtype)
    ids = jnp.zeros((B, length), jnp.int32) if segments is None else segments
    angles = rotary_angles(jnp.broadcast_to(jnp.arange(length), (B, length)), head_dim, 1e4)
    plain = functools.partial(reference_attention, segment_ids_BS=ids, window=window)

    def kernel(q, k, v):
        return window_attention(q, k, v, segments, window, angles=angles if turns else None)

    exact = [x.astype(jnp.float32) for x in (*inputs, cotangent)]
    expected = _value_and_gradients(_turned(plain, angles) if turns else plain, *exact)
    _assert_equal(jax.jit(functools.partial(_value_and_gradients, kernel))(*inputs, cotangent), expected, tolerance)


@pytest.mark.parametrize(
    "window", [1, 128, 129, 640, 0, *(pytest.param(w, marks=SLOW) for w in (127, 255, 256, 257, 5000))]
)
def test_edges_of_the_window(window):
    _compare(640, window, kv_heads=2)  # five blocks of 128


@pytest.mark.parametrize("window", [100, *(pytest.param(w, marks=SLOW) for w in (512, 700))])
def test_blocks_whose_edges_are_cut_in_pieces(window):
    _compare(1024 + 512, window, kv_heads=2, segments=_segments(1536, 5), turns=True)  # three blocks of 512


@pytest.mark.parametrize("kv_heads", [1, 2, 4])
def test_heads_share_keys(kv_heads):
    _compare(384, 200, kv_heads)


@pytest.mark.parametrize("window", [0, 130])
@pytest.mark.parametrize("count", [2, 40])
def test_segments_do_not_see_each_other(window, count):
    _compare(384, window, kv_heads=2, segments=_segments(384, count))


def test_no_segment_is_that_of_the_padding():
    """Padded before its keys and behind its queries, a row of any segments in any order sees none of it."""
    q, k, v, _ = _inputs(200, 2)
    ids = jnp.broadcast_to(jnp.asarray(np.repeat([-1, 1 - 2**24, 2**24 - 1, -1], 50), jnp.int32), (B, 200))
    plain = reference_attention(q, k, v, ids, 0)[:, 70:]
    np.testing.assert_allclose(window_attention(q[:, 70:], k, v, ids, 0), plain, atol=3e-6)


def test_a_row_that_sees_one_key_is_its_value():
    q, k, v, _ = _inputs(256, 2)
    everyone_alone = jnp.broadcast_to(jnp.arange(256), (B, 256))
    out = window_attention(q, k, v, everyone_alone, 0)
    np.testing.assert_allclose(out, jnp.repeat(v, 2, axis=2), atol=1e-6)
    np.testing.assert_allclose(window_attention(q, k, v, None, 1), jnp.repeat(v, 2, axis=2), atol=1e-6)


@pytest.mark.parametrize("head_dim", [16, 64])
def test_narrow_heads_and_uneven_lengths_are_padded(head_dim):
    _compare(200, 70, kv_heads=2, head_dim=head_dim, segments=_segments(200, 3), turns=True)


@pytest.mark.parametrize("window", [200, *(pytest.param(w, marks=SLOW) for w in (1, 128, 0))])
def test_bfloat16_is_as_close_as_its_rounding(window):
    _compare(384, window, kv_heads=2, segments=_segments(384, 3), turns=True, dtype="bfloat16", tolerance=2e-2)


@SLOW
@settings(max_examples=20)
@given(
    blocks=st.integers(1, 6),
    window=st.integers(0, 800),
    kv_heads=st.sampled_from([1, 2, 4]),
    count=st.integers(1, 12),
    turns=st.booleans(),
)
def test_any_shape(blocks, window, kv_heads, count, turns):
    length = 128 * blocks
    _compare(length, window, kv_heads, segments=_segments(length, count, seed=window), turns=turns)


@pytest.mark.parametrize("before", [256, 100])
@pytest.mark.parametrize("window", [129, 0])
def test_queries_may_stand_at_the_end_of_more_keys(window, before):
    """As with a sequence that is split over devices: the keys before the queries come from the neighbours."""
    q, k, v, cotangent = _inputs(512, 2)
    ids = _segments(512, 3)
    angles = rotary_angles(jnp.broadcast_to(jnp.arange(512), (B, 512)), 128, 1e4)
    plain = _turned(functools.partial(reference_attention, segment_ids_BS=ids, window=window), angles)

    def tail(q, k, v):
        return plain(jnp.concatenate([jnp.zeros((B, before, N, 128)), q], axis=1), k, v)[:, before:]

    def kernel(q, k, v):
        return window_attention(q, k, v, ids, window, angles=angles)

    inputs = (q[:, before:], k, v, cotangent[:, before:])
    _assert_equal(_value_and_gradients(kernel, *inputs), _value_and_gradients(tail, *inputs), 3e-6)


def test_no_race_and_no_read_of_unwritten_memory():
    """The TPU's own interpreter, with copies that arrive as late as they may and memory that begins as NaN."""
    q, k, v, cotangent = (x[:1] for x in _inputs(384, 2))
    ids = _segments(384, 3)[:1]
    angles = rotary_angles(jnp.arange(384)[None], 128, 1e4)
    interpret = pltpu.InterpretParams(detect_races=True, uninitialized_memory="nan", dma_execution_mode="on_wait")

    def kernel(q, k, v):
        return window_attention(q, k, v, ids, 150, angles=angles, interpret=interpret)

    plain = _turned(functools.partial(reference_attention, segment_ids_BS=ids, window=150), angles)
    found = _value_and_gradients(kernel, q, k, v, cotangent)
    _assert_equal(found, _value_and_gradients(plain, q, k, v, cotangent), 3e-6)
    from jax._src.pallas.mosaic.interpret import interpret_pallas_call as interpreter

    races: Any = interpreter.races
    assert not races.races_found


@pytest.mark.slow
def test_long_rows():
    """16384 positions, blocks of 1024, the released models' window; one head.

    Values on a sample of queries against a direct computation, gradients against the blocks in plain JAX.
    """
    length, window = 16384, 4096
    q, k, v, cotangent = (x[:1, :, :1] for x in _inputs(length, 1))
    ids = _segments(length, 4)[:1]
    kernel = functools.partial(window_attention, segment_ids_BS=ids, window=window)
    out, *gradients = jax.jit(functools.partial(_value_and_gradients, kernel))(q, k, v, cotangent)
    plain = functools.partial(blocked_attention, segment_ids_BS=ids, window=window)
    # Sums of thousands of float32: on some processors one of two million is 4e-6 of the largest away.
    _assert_equal(gradients, jax.jit(functools.partial(_value_and_gradients, plain))(q, k, v, cotangent)[1:], 1e-5)
    position = np.random.default_rng(0).integers(0, length, 64)
    distance = position[:, None] - np.arange(length)[None]
    visible = (distance >= 0) & (distance < window) & (np.asarray(ids)[0, position][:, None] == np.asarray(ids))
    scores = np.where(visible, np.asarray(q[0, position, 0]) @ np.asarray(k[0, :, 0]).T / 128**0.5, -np.inf)
    weights = np.exp(scores - scores.max(axis=1, keepdims=True))
    np.testing.assert_allclose(out[0, position, 0], weights / weights.sum(1, keepdims=True) @ v[0, :, 0], atol=2e-6)


def test_what_does_not_fit_is_refused():
    wide = jnp.zeros((1, 128, 1, 256))
    with pytest.raises(UserError, match="heads of up to 128 elements, not 256"):
        window_attention(wide, wide, wide, None, 8)
    half = jnp.zeros((1, 128, 1, 128), jnp.float16)
    with pytest.raises(UserError, match="bfloat16 and float32, not float16"):
        window_attention(half, half, half, None, 8)
    long = jax.ShapeDtypeStruct((1, 2**17, 1, 128), jnp.bfloat16)
    with pytest.raises(UserError, match="vector memory"):
        jax.eval_shape(lambda q: window_attention(q, q, q, None, 0), long)


def test_segments_take_their_part_of_the_memory():
    """The compiler finds no room for 30720 keys with segments, and finds it without."""
    row = jax.ShapeDtypeStruct((1, 1024, 1, 128), jnp.bfloat16)
    keys = jax.ShapeDtypeStruct((1, 30720, 1, 128), jnp.bfloat16)
    ids = jax.ShapeDtypeStruct((1, 30720), jnp.int32)
    assert jax.eval_shape(lambda q, k: window_attention(q, k, k, None, 0), row, keys).shape == row.shape
    with pytest.raises(UserError, match="60 MiB of the chip's vector memory"):
        jax.eval_shape(lambda q, k, ids: window_attention(q, k, k, ids, 0), row, keys, ids)


def test_what_is_taken_fits():
    assert takes_rows(16384, 128, 4096, jnp.bfloat16)
    assert takes_rows(2**20, 64, 4096, jnp.float32)
    assert not takes_rows(2**17, 128, 0, jnp.bfloat16)  # refused with a message where it is asked for by name
    assert not takes_rows(128, 256, 8, jnp.bfloat16)
    assert not takes_rows(128, 128, 8, jnp.float16)
