"""JAX's own attention kernel for TPUs behind the interface of ours, for comparison.

Dimensions: B batch, T query position, S key position, N query heads, K key-value heads, H head size.
"""

from typing import Any

import jax

from sc2jax.errors import UserError
from sc2jax.kernels.reference import ATTENTION_OUTPUT

SPLASH_BLOCKS = (1024, 512, 256, 128)
"""Queries and keys of a block: the largest that divides both, which takes the fewest instructions per score."""


def splash_attention(
    q_BTNH: jax.Array,
    k_BSKH: jax.Array,
    v_BSKH: jax.Array,
    segment_ids_BS: jax.Array | None,
    window: int,
    *,
    interpret: bool = False,
) -> jax.Array:
    """The same as `reference_attention`; the queries belong to the last T of the S positions.

    Raises:
        UserError: the lengths are no multiples of its smallest block.
    """
    # Imported here: it takes a while, and few programs use it.
    from jax.experimental.pallas.ops.tpu.splash_attention import splash_attention_kernel as splash
    from jax.experimental.pallas.ops.tpu.splash_attention import splash_attention_mask as masks

    T, N, H = q_BTNH.shape[1:]
    S = k_BSKH.shape[1]
    block = next((block for block in SPLASH_BLOCKS if T % block == 0 and S % block == 0), None)
    if block is None:
        raise UserError(
            f"model.attention=splash takes multiples of {SPLASH_BLOCKS[-1]} positions, not {T} queries and {S} keys; "
            "use model.attention=blocked"
        )
    mask = masks.LocalMask((T, S), (window - 1 if window else None, 0), offset=S - T)
    sizes = splash.BlockSizes(
        block_q=block,
        block_kv=block,
        block_q_dkv=block,
        block_kv_dkv=block,
        use_fused_bwd_kernel=True,
    )
    kernel = splash.make_splash_mha_single_device(
        masks.MultiHeadMask([mask] * N),
        block_sizes=sizes,
        interpret=interpret,
        residual_checkpoint_name=ATTENTION_OUTPUT,
    )
    kernel_of_rows: Any = jax.vmap(kernel)
    heads_first = [x.swapaxes(1, 2) for x in (q_BTNH * H**-0.5, k_BSKH, v_BSKH)]
    if segment_ids_BS is None:
        return kernel_of_rows(*heads_first).swapaxes(1, 2)
    segments = splash.SegmentIds(q=segment_ids_BS[:, S - T :], kv=segment_ids_BS)
    return kernel_of_rows(*heads_first, segments).swapaxes(1, 2)
