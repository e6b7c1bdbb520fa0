"""Attention in plain JAX: the mask, the rotary embedding and the softmax that every kernel and the cache must equal.

Dimensions: B batch, T query position, S key position, N query heads, K key-value heads, G = N / K, H head size.
"""

import jax
import jax.numpy as jnp

ATTENTION_OUTPUT = "attention_output"
"""What results of attention, and whatever else its backward pass needs of them, are called for rematerialisation."""

MASKED = -1e30
"""The score of a key that is not visible: far below any real score, and finite, so that no row can become NaN."""


def rotary_angles(positions_BT: jax.Array, head_dim: int, theta: float) -> tuple[jax.Array, jax.Array]:
    """Cosines and sines of the rotary embedding for each position, float32, (B, T, H / 2)."""
    exponents = jnp.arange(0, head_dim, 2, dtype=jnp.float32) / head_dim
    angles_BTH = positions_BT[..., None].astype(jnp.float32) * (theta**-exponents)[None, None]
    return jnp.cos(angles_BTH), jnp.sin(angles_BTH)


def rotate(x_BTNH: jax.Array, cos_BTH: jax.Array, sin_BTH: jax.Array) -> jax.Array:
    """Rotates each head by its position's angles: the first half of a head with the second (not interleaved).

    That is the convention of the released weights (Hugging Face's `rotate_half`).
    """
    first, second = jnp.split(x_BTNH.astype(jnp.float32), 2, axis=-1)
    cos, sin = cos_BTH[:, :, None, :], sin_BTH[:, :, None, :]
    rotated = jnp.concatenate([first * cos - second * sin, second * cos + first * sin], axis=-1)
    return rotated.astype(x_BTNH.dtype)


def attention_mask(segment_ids_BS: jax.Array, window: int, queries: int | None = None) -> jax.Array:
    """Which keys each query sees, (B, T, S): those before it and itself, of its own segment, within the window.

    The queries are the last `queries` of the S positions, by default all of them. The window counts the query itself:
    with window 1 a token sees only itself. 0 means no window.
    """
    S = segment_ids_BS.shape[1]
    first = 0 if queries is None else S - queries
    distance_TS = jnp.arange(first, S)[:, None] - jnp.arange(S)[None, :]
    visible_TS = distance_TS >= 0
    if window:
        visible_TS &= distance_TS < window
    return visible_TS[None, :, :] & (segment_ids_BS[:, first:, None] == segment_ids_BS[:, None, :])


def reference_attention(
    q_BTNH: jax.Array,
    k_BSKH: jax.Array,
    v_BSKH: jax.Array,
    segment_ids_BS: jax.Array,
    window: int,
    dropout_rate: float = 0.0,
    dropout_key: jax.Array | None = None,
) -> jax.Array:
    """Softmax attention over all queries and keys at once, scores and softmax in float32; returns (B, T, N, H).

    The queries belong to the last T of the S positions: query t has the position of key t + S - T. The query heads of a
    group are rows of one product with the keys that they share.
    """
    B, T, N, H = q_BTNH.shape
    S, K = k_BSKH.shape[1:3]
    G = N // K
    mask_BTS = attention_mask(segment_ids_BS, window, queries=T)
    q_BKMH = q_BTNH.reshape(B, T, K, G, H).transpose(0, 2, 3, 1, 4).reshape(B, K, G * T, H) * H**-0.5
    k_BKSH, v_BKSH = k_BSKH.transpose(0, 2, 1, 3), v_BSKH.transpose(0, 2, 1, 3)
    scores_BKMS = jnp.einsum("BKMH,BKSH->BKMS", q_BKMH, k_BKSH, preferred_element_type=jnp.float32)
    scores_BKGTS = jnp.where(mask_BTS[:, None, None], scores_BKMS.reshape(B, K, G, T, S), MASKED)
    weights_BKGTS = dropout(jax.nn.softmax(scores_BKGTS, axis=-1), dropout_rate, dropout_key)
    weights_BKMS = weights_BKGTS.reshape(B, K, G * T, S).astype(v_BSKH.dtype)
    out_BKMH = jnp.einsum("BKMS,BKSH->BKMH", weights_BKMS, v_BKSH)
    return out_BKMH.reshape(B, K, G, T, -1).transpose(0, 3, 1, 2, 4).reshape(B, T, N, -1)


def dropout(x: jax.Array, rate: float, key: jax.Array | None) -> jax.Array:
    """Zeroes elements with this probability and scales the others up; without a key it changes nothing."""
    if key is None or rate == 0.0:
        return x
    kept = jax.random.bernoulli(key, 1.0 - rate, x.shape)
    return jnp.where(kept, x / (1.0 - rate), 0.0).astype(x.dtype)
