"""Attention of one query per sequence over its cached keys, for TPUs: each key is read once, and no more than needed.

A step of decoding takes as long as reading the keys and values. By the compiler's own estimate, XLA's program for it
mostly reads them at a third to two thirds of the memory's speed (docs/kernels.md). Here the heads of a group share each
block that is read, and blocks past a short sequence's last key are never fetched. Dimensions: B sequence, N query
heads, K key-value heads, G = N / K, S slots of the cache, H head size.
"""

import functools
from typing import Any

import jax
import jax.numpy as jnp
from jax.experimental import pallas as pl
from jax.experimental.pallas import tpu as pltpu

from sc2jax.kernels.reference import MASKED
from sc2jax.kernels.window_blocks import ROWS_BY_COLUMNS, ROWS_BY_ROWS, product
from sc2jax.kernels.window_plan import LANES, TYPES

CACHE_BLOCKS = (2048, 1024, 512, 256, 128)
"""How many slots are read at a time: the most that divides the cache, since fewer steps are faster."""


def takes_cache(slots: int, head_dim: int, dtype: Any) -> bool:
    """Whether a cache can be cut into the kernel's blocks and is of a type that it computes in."""
    return slots % CACHE_BLOCKS[-1] == 0 and head_dim == LANES and dtype in TYPES


def decode_attention(
    q_BNH: jax.Array,
    k_BKH: jax.Array,
    v_BKH: jax.Array,
    cached_k_BKSH: jax.Array,
    cached_v_BKSH: jax.Array,
    visible_BS: jax.Array,
    interpret: Any = False,
) -> jax.Array:
    """One query per sequence over its visible cached keys and its own, not yet cached key; returns (B, N, H).

    It equals the model's `plain_cached_attention`, for caches that `takes_cache` accepts.
    """
    B, N, H = q_BNH.shape
    K, S = cached_k_BKSH.shape[1:3]
    G = N // K
    block = next(size for size in CACHE_BLOCKS if S % size == 0)
    # How many blocks there are up to the last one with a visible slot. Past it the same block is named again, so that
    # nothing more is fetched.
    needed_B = jnp.max(jnp.where(visible_BS, jnp.arange(S)[None] // block + 1, 0), axis=1).astype(jnp.int32)
    hidden_B1S = jnp.where(visible_BS, 0.0, MASKED).astype(jnp.float32)[:, None]

    def cached(b: Any, k: Any, c: Any, needed: Any) -> Any:
        return b, k, jnp.minimum(c, jnp.maximum(needed[b] - 1, 0)), 0

    def hidden(b: Any, k: Any, c: Any, needed: Any) -> Any:
        return b, 0, jnp.minimum(c, jnp.maximum(needed[b] - 1, 0))

    group = pl.BlockSpec((1, 1, G, H), lambda b, k, c, needed: (b, k, 0, 0))
    own = pl.BlockSpec((1, 1, 1, H), lambda b, k, c, needed: (b, k, 0, 0))
    keys = pl.BlockSpec((1, 1, block, H), cached)
    out_BKGH = pl.pallas_call(
        functools.partial(_kernel, scale=H**-0.5),
        grid_spec=pltpu.PrefetchScalarGridSpec(
            num_scalar_prefetch=1,
            grid=(B, K, S // block),
            in_specs=[group, own, own, keys, keys, pl.BlockSpec((1, 1, block), hidden)],
            out_specs=group,
            scratch_shapes=[pltpu.VMEM((G, LANES), jnp.float32)] * 2 + [pltpu.VMEM((G, H), jnp.float32)],
        ),
        out_shape=jax.ShapeDtypeStruct((B, K, G, H), q_BNH.dtype),
        compiler_params=pltpu.CompilerParams(dimension_semantics=("parallel", "parallel", "arbitrary")),
        name="decode_attention",
        interpret=interpret,
    )(
        needed_B,
        q_BNH.reshape(B, K, G, H),
        k_BKH[:, :, None],
        v_BKH[:, :, None],
        cached_k_BKSH,
        cached_v_BKSH,
        hidden_B1S,
    )
    return out_BKGH.reshape(B, N, H)


def _kernel(
    needed: Any,
    q_ref: Any,
    own_k_ref: Any,
    own_v_ref: Any,
    k_ref: Any,
    v_ref: Any,
    hidden_ref: Any,
    out_ref: Any,
    greatest: Any,
    total: Any,
    mixed: Any,
    *,
    scale: float,
) -> None:
    b, c = pl.program_id(0), pl.program_id(2)
    q_GH = (q_ref[0, 0].astype(jnp.float32) * scale).astype(q_ref.dtype)

    @pl.when(c == 0)
    def _() -> None:
        own_G1 = jnp.sum(q_GH.astype(jnp.float32) * own_k_ref[0, 0].astype(jnp.float32), axis=1, keepdims=True)
        greatest[...] = jnp.broadcast_to(own_G1, greatest.shape)
        total[...] = jnp.ones_like(total)
        mixed[...] = jnp.broadcast_to(own_v_ref[0, 0].astype(jnp.float32), mixed.shape)

    @pl.when(c < needed[b])
    def _() -> None:
        scores_GS = product(q_GH, k_ref[0, 0], ROWS_BY_ROWS) + hidden_ref[0]
        most = jnp.maximum(greatest[...], jnp.max(scores_GS, axis=1, keepdims=True))
        weights_GS = jnp.exp(scores_GS - most[:, :1])
        shrink = jnp.exp(greatest[...] - most)
        greatest[...] = most
        total[...] = shrink * total[...] + jnp.sum(weights_GS, axis=1, keepdims=True)
        mixed[...] = shrink[:, :1] * mixed[...] + product(weights_GS.astype(v_ref.dtype), v_ref[0, 0], ROWS_BY_COLUMNS)

    @pl.when(c == pl.num_programs(2) - 1)
    def _() -> None:
        out_ref[0, 0] = (mixed[...] / total[:, :1]).astype(out_ref.dtype)
