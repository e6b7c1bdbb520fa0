"""Attention as the model uses it: one function that chooses among the kernels, and the one for a cached step.

Dimensions: B batch, T query position, S key position, N query heads, K key-value heads, G = N / K, H head size.
"""

import jax
import jax.numpy as jnp

from sc2jax.kernels.blocked import blocked_attention
from sc2jax.kernels.reference import MASKED, reference_attention

ATTENTIONS = {"reference": reference_attention, "blocked": blocked_attention}
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
