"""Attention in blocks against the reference, with its gradients and its dropout."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sc2jax.kernels.blocked import blocked_attention
from sc2jax.kernels.reference import reference_attention


@pytest.mark.parametrize(
    ("queries", "before", "window"),
    [
        *((length, 0, 0) for length in (1, 63, 64, 65, 200, 600)),
        *((200, 0, window) for window in (1, 63, 64, 65, 150, 1000)),
        *((600, 0, window) for window in (74, 75, 76)),
        *((130, before, window) for before, window in ((1, 0), (1, 65), (64, 65), (100, 0), (100, 150), (256, 256))),
    ],
)
def test_blocks_equal_the_whole_with_their_gradients(queries, before, window):
    q, k, v, cotangent = _inputs(queries, before + queries)
    segments = jnp.asarray(np.arange(before + queries)[None] // 90)

    def value_and_gradients(attend):
        out, pull = jax.vjp(lambda q, k, v: attend(q, k, v, segments, window), q, k, v)
        return out, *pull(cotangent)

    blocked = jax.jit(value_and_gradients, static_argnums=0)(blocked_attention)
    for found, expected in zip(blocked, value_and_gradients(reference_attention), strict=True):
        np.testing.assert_allclose(found, expected, atol=2e-5)


def _inputs(queries, keys):
    shapes = ((1, queries, 4, 4), (1, keys, 2, 4), (1, keys, 2, 4), (1, queries, 4, 4))
    return [
        jax.random.normal(key, shape)
        for key, shape in zip(jax.random.split(jax.random.key(queries), 4), shapes, strict=True)
    ]


def test_gradients_with_dropout_are_those_of_the_value():
    q, k, v, cotangent = _inputs(130, 130)
    segments, key = jnp.zeros((1, 130), jnp.int32), jax.random.key(5)

    def value(q, k, v):
        return jnp.vdot(blocked_attention(q, k, v, segments, 80, 0.3, key), cotangent)

    direction = jax.random.normal(jax.random.key(6), (3, 1, 130, 4, 4)) * 1e-2
    moves = [direction[0], direction[1][:, :, :2], direction[2][:, :, :2]]
    slope = sum(
        jnp.vdot(gradient, move) for gradient, move in zip(jax.grad(value, (0, 1, 2))(q, k, v), moves, strict=True)
    )
    ahead, behind = (value(*(x + sign * m for x, m in zip((q, k, v), moves, strict=True))) for sign in (1, -1))
    np.testing.assert_allclose(slope, (ahead - behind) / 2, rtol=2e-3)


def test_dropout_keeps_the_mean():
    q, k, v, _ = _inputs(64, 64)
    segments = jnp.zeros((1, 64), jnp.int32)
    draws = jax.vmap(lambda key: blocked_attention(q, k, v, segments, 0, 0.5, key))(
        jax.random.split(jax.random.key(0), 400)
    )
    np.testing.assert_allclose(draws.mean(0), blocked_attention(q, k, v, segments, 0), atol=0.25)
    assert float(jnp.abs(draws[0] - draws[1]).max()) > 0.1
