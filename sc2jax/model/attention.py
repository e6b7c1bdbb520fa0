"""Attention: the mask, the rotary embedding, and the plain reference that kernels and cache must equal.

Dimensions: B batch, T query position, S key position, N query heads, K key-value heads, G = N / K, H head size.
"""

import jax
import jax.numpy as jnp

MASKED = -1e30
"""Score of a key that is not visible: far below any real score, finite so that no row can become NaN."""


LEAST_BLOCK = 64
MOST_BLOCKS = 8
"""Queries are cut in blocks of at least 64, so that products stay large, and at most 8, so that programs stay small."""


def rotary_angles(positions_BT: jax.Array, head_dim: int, theta: float) -> tuple[jax.Array, jax.Array]:
    """Cosines and sines of the rotary embedding for each position, float32, (B, T, H / 2)."""
    exponents = jnp.arange(0, head_dim, 2, dtype=jnp.float32) / head_dim
    angles_BTH = positions_BT[..., None].astype(jnp.float32) * (theta**-exponents)[None, None]
    return jnp.cos(angles_BTH), jnp.sin(angles_BTH)


def rotate(x_BTNH: jax.Array, cos_BTH: jax.Array, sin_BTH: jax.Array) -> jax.Array:
    """Turns each head by its position's angles: the first half of a head against the second (not interleaved).

    That is the convention of the released weights (Hugging Face's `rotate_half`).
    """
    first, second = jnp.split(x_BTNH.astype(jnp.float32), 2, axis=-1)
    cos, sin = cos_BTH[:, :, None, :], sin_BTH[:, :, None, :]
    rotated = jnp.concatenate([first * cos - second * sin, second * cos + first * sin], axis=-1)
    return rotated.astype(x_BTNH.dtype)


def attention_mask(segment_ids_BT: jax.Array, window: int) -> jax.Array:
    """Which keys each query sees, (B, T, S): those before it and itself, of its own segment, within the window.

    The window counts the query itself: with window 1 a token sees only itself. 0 means no window.
    """
    index = jnp.arange(segment_ids_BT.shape[1])
    distance_TS = index[:, None] - index[None, :]
    visible_TS = distance_TS >= 0
    if window:
        visible_TS &= distance_TS < window
    return visible_TS[None, :, :] & (segment_ids_BT[:, :, None] == segment_ids_BT[:, None, :])


def reference_attention(
    q_BTNH: jax.Array,
    k_BSKH: jax.Array,
    v_BSKH: jax.Array,
    mask_BTS: jax.Array,
    dropout_rate: float = 0.0,
    dropout_key: jax.Array | None = None,
) -> jax.Array:
    """Softmax attention with grouped heads, scores and softmax in float32; returns (B, T, N, H).

    The query heads of a group are rows of one product with the keys that they share.
    """
    B, T, N, H = q_BTNH.shape
    S, K = k_BSKH.shape[1:3]
    G = N // K
    q_BKMH = q_BTNH.reshape(B, T, K, G, H).transpose(0, 2, 3, 1, 4).reshape(B, K, G * T, H) * H**-0.5
    scores_BKMS = jnp.einsum(
        "BKMH,BKSH->BKMS", q_BKMH, k_BSKH.transpose(0, 2, 1, 3), preferred_element_type=jnp.float32
    )
    scores_BKGTS = jnp.where(mask_BTS[:, None, None], scores_BKMS.reshape(B, K, G, T, S), MASKED)
    weights_BKGTS = dropout(jax.nn.softmax(scores_BKGTS, axis=-1), dropout_rate, dropout_key)
    weights_BKMS = weights_BKGTS.reshape(B, K, G * T, S).astype(v_BSKH.dtype)
    out_BKMH = jnp.einsum("BKMS,BKSH->BKMH", weights_BKMS, v_BSKH.transpose(0, 2, 1, 3))
    return out_BKMH.reshape(B, K, G, T, H).transpose(0, 3, 1, 2, 4).reshape(B, T, N, H)


def blocked_attention(
    q_BTNH: jax.Array,
    k_BTKH: jax.Array,
    v_BTKH: jax.Array,
    segment_ids_BT: jax.Array,
    window: int,
    dropout_rate: float = 0.0,
    dropout_key: jax.Array | None = None,
) -> jax.Array:
    """The reference over one block of queries at a time, with the keys that the block's window can reach.

    Neither the whole mask nor the whole score matrix ever exists, and the work grows with the window, not with the
    length; for full attention half of it falls away.
    """
    T = q_BTNH.shape[1]
    block = max(LEAST_BLOCK, -(-T // MOST_BLOCKS))
    outs = []
    for start in range(0, T, block):
        stop = min(start + block, T)
        first = max(start - window + 1, 0) // block * block if window else 0
        queries, keys = slice(start, stop), slice(first, stop)
        mask_BTS = attention_mask(segment_ids_BT[:, keys], window)[:, start - first :]
        key = None if dropout_key is None else jax.random.fold_in(dropout_key, start)
        outs.append(
            reference_attention(q_BTNH[:, queries], k_BTKH[:, keys], v_BTKH[:, keys], mask_BTS, dropout_rate, key)
        )
    return jnp.concatenate(outs, axis=1)


def whole_attention(
    q_BTNH: jax.Array,
    k_BTKH: jax.Array,
    v_BTKH: jax.Array,
    segment_ids_BT: jax.Array,
    window: int,
    dropout_rate: float = 0.0,
    dropout_key: jax.Array | None = None,
) -> jax.Array:
    """The reference over all queries and keys at once."""
    mask_BTS = attention_mask(segment_ids_BT, window)
    return reference_attention(q_BTNH, k_BTKH, v_BTKH, mask_BTS, dropout_rate, dropout_key)


ATTENTIONS = {"reference": whole_attention, "blocked": blocked_attention}
"""The names that `model.attention` may have."""


def cached_attention(
    q_BNH: jax.Array,
    k_BKH: jax.Array,
    v_BKH: jax.Array,
    cached_k_BKSH: jax.Array,
    cached_v_BKSH: jax.Array,
    visible_BS: jax.Array,
) -> jax.Array:
    """One query a sequence over its cached keys and its own, which is not yet in the cache; returns (B, N, H)."""
    B, N, H = q_BNH.shape
    K = k_BKH.shape[1]
    q_BKGH = q_BNH.reshape(B, K, N // K, H) * H**-0.5
    scores_BKGS = jnp.einsum("BKGH,BKSH->BKGS", q_BKGH, cached_k_BKSH, preferred_element_type=jnp.float32)
    scores_BKGS = jnp.where(visible_BS[:, None, None], scores_BKGS, MASKED)
    own_BKG1 = jnp.einsum("BKGH,BKH->BKG", q_BKGH, k_BKH, preferred_element_type=jnp.float32)[..., None]
    weights = jax.nn.softmax(jnp.concatenate([scores_BKGS, own_BKG1], axis=-1), axis=-1).astype(v_BKH.dtype)
    out_BKGH = jnp.einsum("BKGS,BKSH->BKGH", weights[..., :-1], cached_v_BKSH)
    return (out_BKGH + weights[..., -1:] * v_BKH[:, :, None]).reshape(B, N, H)


def dropout(x: jax.Array, rate: float, key: jax.Array | None) -> jax.Array:
    """Zeroes elements with this probability and scales the others up; without a key it changes nothing."""
    if key is None or rate == 0.0:
        return x
    kept = jax.random.bernoulli(key, 1.0 - rate, x.shape)
    return jnp.where(kept, x / (1.0 - rate), 0.0).astype(x.dtype)
