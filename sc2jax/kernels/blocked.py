"""Attention block by block in plain JAX, for processors without a kernel of their own: CPUs and older GPUs.

Each block of queries attends only to the keys that its window can reach. As in flash attention (arXiv 2205.14135) the
backward pass recomputes the weights from the log-sum-exp of the scores, so that no matrix of scores outlives its block.
Dimensions: B batch, T query position, S key position, N query heads, K key-value heads, G = N / K, H head size; within
a block C queries, M = G * C rows of queries that share their keys, S keys.
"""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp

from sc2jax.kernels.reference import MASKED, attention_mask, dropout

LEAST_BLOCK = 64
MOST_BLOCKS = 8
"""Queries are cut into blocks of at least 64, so that products stay large, and into at most 8, so that programs stay
small."""


class _Block(NamedTuple):
    queries: slice
    keys: slice


def blocked_attention(
    q_BTNH: jax.Array,
    k_BSKH: jax.Array,
    v_BSKH: jax.Array,
    segment_ids_BS: jax.Array,
    window: int,
    dropout_rate: float = 0.0,
    dropout_key: jax.Array | None = None,
) -> jax.Array:
    """The same as `reference_attention` but for the order of summation; the work grows with the window."""
    return _attend(q_BTNH, k_BSKH, v_BSKH, segment_ids_BS, dropout_key, window, dropout_rate)


def _blocks(queries: int, keys: int, window: int) -> list[_Block]:
    size = max(LEAST_BLOCK, -(-queries // MOST_BLOCKS))
    before = keys - queries
    blocks = []
    for start in range(0, queries, size):
        stop = min(start + size, queries)
        # Rounded down, so that blocks have the same sizes and compile once.
        first = max(before + start - window + 1, 0) // size * size if window else 0
        blocks.append(_Block(slice(start, stop), slice(first, before + stop)))
    return blocks


@partial(jax.custom_vjp, nondiff_argnums=(5, 6))
def _attend(q, k, v, segment_ids, key, window: int, rate: float) -> jax.Array:
    return _forward(q, k, v, segment_ids, key, window, rate)[0]


def _forward(q_BTNH, k_BSKH, v_BSKH, segment_ids_BS, key, window: int, rate: float):
    k_BKSH, v_BKSH = k_BSKH.swapaxes(1, 2), v_BSKH.swapaxes(1, 2)
    outs, log_sums = [], []
    for block in _blocks(q_BTNH.shape[1], k_BSKH.shape[1], window):
        q_BKMH = _rows(q_BTNH[:, block.queries], k_BSKH.shape[2])
        scores_BKMS = _scores(q_BKMH, k_BKSH[:, :, block.keys], segment_ids_BS, block, window)
        greatest_BKM1 = jnp.max(scores_BKMS, axis=-1, keepdims=True)
        weights_BKMS = jnp.exp(scores_BKMS - greatest_BKM1)
        sum_BKM1 = jnp.sum(weights_BKMS, axis=-1, keepdims=True)
        dropped_BKMS = dropout(weights_BKMS, rate, _fold(key, block)).astype(v_BSKH.dtype)
        out_BKMH = jnp.einsum(
            "BKMS,BKSH->BKMH", dropped_BKMS, v_BKSH[:, :, block.keys], preferred_element_type=jnp.float32
        )
        outs.append(_heads((out_BKMH / sum_BKM1).astype(q_BTNH.dtype), q_BTNH.shape[2]))
        log_sums.append(greatest_BKM1 + jnp.log(sum_BKM1))
    out_BTNH = jnp.concatenate(outs, axis=1)
    return out_BTNH, (q_BTNH, k_BSKH, v_BSKH, segment_ids_BS, key, out_BTNH, log_sums)


def _backward(window: int, rate: float, saved, d_out_BTNH):
    q_BTNH, k_BSKH, v_BSKH, segment_ids_BS, key, out_BTNH, log_sums = saved
    B, S, K, H = k_BSKH.shape
    k_BKSH, v_BKSH = k_BSKH.swapaxes(1, 2), v_BSKH.swapaxes(1, 2)
    # Summed with the head size first: XLA's CPU backend takes three times as long for a product whose larger operand
    # is the transposed one.
    d_k_BKHS, d_v_BKHS = jnp.zeros((B, K, H, S), jnp.float32), jnp.zeros((B, K, H, S), jnp.float32)
    d_qs = []
    for block, log_sum_BKM1 in zip(_blocks(q_BTNH.shape[1], S, window), log_sums, strict=True):
        q_BKMH = _rows(q_BTNH[:, block.queries], K)
        d_out_BKMH = _rows(d_out_BTNH[:, block.queries], K)
        inner_BKM1 = jnp.sum(
            d_out_BKMH.astype(jnp.float32) * _rows(out_BTNH[:, block.queries], K).astype(jnp.float32),
            axis=-1,
            keepdims=True,
        )
        scores_BKMS = _scores(q_BKMH, k_BKSH[:, :, block.keys], segment_ids_BS, block, window)
        weights_BKMS = jnp.exp(scores_BKMS - log_sum_BKM1)
        d_weights_BKMS = jnp.einsum(
            "BKMH,BKSH->BKMS", d_out_BKMH, v_BKSH[:, :, block.keys], preferred_element_type=jnp.float32
        )
        d_weights_BKMS = dropout(d_weights_BKMS, rate, _fold(key, block))
        dropped_BKMS = dropout(weights_BKMS, rate, _fold(key, block)).astype(v_BSKH.dtype)
        d_scores_BKMS = (weights_BKMS * (d_weights_BKMS - inner_BKM1) * H**-0.5).astype(q_BTNH.dtype)
        d_q_BKMH = jnp.einsum("BKMS,BKSH->BKMH", d_scores_BKMS, k_BKSH[:, :, block.keys])
        d_qs.append(_heads(d_q_BKMH, q_BTNH.shape[2]))
        q_BKHM, d_out_BKHM = jax.lax.optimization_barrier((q_BKMH.swapaxes(2, 3), d_out_BKMH.swapaxes(2, 3)))
        products = partial(jnp.einsum, "BKHM,BKMS->BKHS", preferred_element_type=jnp.float32)
        d_k_BKHS = d_k_BKHS.at[:, :, :, block.keys].add(products(q_BKHM, d_scores_BKMS))
        d_v_BKHS = d_v_BKHS.at[:, :, :, block.keys].add(products(d_out_BKHM, dropped_BKMS))
    d_k_BSKH, d_v_BSKH = (array.transpose(0, 3, 1, 2).astype(k_BSKH.dtype) for array in (d_k_BKHS, d_v_BKHS))
    return jnp.concatenate(d_qs, axis=1), d_k_BSKH, d_v_BSKH, None, None


_attend.defvjp(_forward, _backward)


def _scores(q_BKMH: jax.Array, k_BKSH: jax.Array, segment_ids_BS: jax.Array, block: _Block, window: int) -> jax.Array:
    """Scaled scores of a block, float32, MASKED where a key is not visible."""
    mask_BCS = attention_mask(segment_ids_BS[:, block.keys], window, queries=block.queries.stop - block.queries.start)
    B, K, M, H = q_BKMH.shape
    C, S = mask_BCS.shape[1:]
    scores_BKMS = jnp.einsum("BKMH,BKSH->BKMS", q_BKMH * H**-0.5, k_BKSH, preferred_element_type=jnp.float32)
    scores_BKGCS = scores_BKMS.reshape(B, K, M // C, C, S)
    return jnp.where(mask_BCS[:, None, None], scores_BKGCS, MASKED).reshape(B, K, M, S)


def _rows(x_BCNH: jax.Array, kv_heads: int) -> jax.Array:
    """The heads that share keys as rows of one matrix, (B, K, G * C, H)."""
    B, C, N, H = x_BCNH.shape
    return x_BCNH.reshape(B, C, kv_heads, N // kv_heads, H).transpose(0, 2, 3, 1, 4).reshape(B, kv_heads, -1, H)


def _heads(x_BKMH: jax.Array, heads: int) -> jax.Array:
    """The inverse of `_rows`, (B, C, N, H)."""
    B, K, _, H = x_BKMH.shape
    return x_BKMH.reshape(B, K, heads // K, -1, H).transpose(0, 3, 1, 2, 4).reshape(B, -1, heads, H)


def _fold(key: jax.Array | None, block: _Block) -> jax.Array | None:
    return None if key is None else jax.random.fold_in(key, block.queries.start)
