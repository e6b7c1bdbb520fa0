"""Sliding-window grouped-query attention for TPUs: flash attention whose work and traffic grow with the window.

`docs/kernels.md` explains it. Dimensions: B row, T query position, S key position, N query heads, K key-value heads, H
head size, M = N (or K) heads side by side.
"""

import functools
from typing import Any

import jax
import jax.numpy as jnp
from jax.ad_checkpoint import checkpoint_name

from sc2jax.errors import UserError
from sc2jax.kernels.reference import ATTENTION_OUTPUT, rotate
from sc2jax.kernels.window_backward import window_backward
from sc2jax.kernels.window_forward import window_forward
from sc2jax.kernels.window_plan import LANES, TYPES, VMEM_BYTES, WINDOW_BLOCKS, WindowPlan, plan_window

RING_BYTES = VMEM_BYTES * 3 // 4
"""Vector memory for the rings, which hold what is kept of the window's keys; queries and scores need the rest."""

PADDING_SEGMENT = -(2**24)
"""The segment of padding, in which no query is: the least integer that float32 still tells from its neighbours."""


def window_attention(
    q_BTNH: jax.Array,
    k_BSKH: jax.Array,
    v_BSKH: jax.Array,
    segment_ids_BS: jax.Array | None,
    window: int,
    *,
    angles: tuple[jax.Array, jax.Array] | None = None,
    interpret: Any = None,
) -> jax.Array:
    """Softmax attention (B, T, N, H), the same as `reference_attention`; bfloat16 or float32, sums in float32.

    Args:
        q_BTNH: queries; they belong to the last T of the S positions.
        k_BSKH: keys.
        v_BSKH: values.
        segment_ids_BS: a query sees only keys of its own segment; None if each row is one segment. Their magnitude is
            less than 2^24.
        window: keys that a query sees, itself included; 0: all before it.
        angles: cosines and sines (B, S, H / 2) by which the kernel rotates queries and keys, so that rotated ones are
            never written to memory; None if they are rotated already.
        interpret: how to run without a TPU, as `pallas_call` takes it; None compiles on a TPU and interprets
            elsewhere.

    Raises:
        UserError: heads wider than 128, another type, or rows whose window does not fit in the chip's vector memory.
    """
    B, T, N, H = q_BTNH.shape
    S, K = k_BSKH.shape[1:3]
    if H > LANES:
        raise UserError(f"the kernel takes heads of up to {LANES} elements, not {H}; use model.attention=blocked")
    if q_BTNH.dtype not in TYPES:
        raise UserError(f"the kernel takes bfloat16 and float32, not {q_BTNH.dtype}; use model.attention=blocked")
    if angles is not None and H != LANES:  # the kernel rotates whole registers only
        q_BTNH = rotate(q_BTNH, *(part[:, S - T :] for part in angles))
        k_BSKH = rotate(k_BSKH, *angles)
        angles = None
    # The queries are padded to whole blocks, and so are the keys before them.
    before, behind = -(S - T) % LANES, -T % LANES
    if (before or behind) and segment_ids_BS is None:
        segment_ids_BS = jnp.zeros((B, S), jnp.int32)

    def heads_side_by_side(x: jax.Array, before: int = before) -> jax.Array:
        x = jnp.pad(x, [(0, 0), (before, behind), (0, 0), (0, LANES - H)])
        return x.reshape(B, x.shape[1], -1)

    plan = plan_window(T + behind, S + before + behind, window)
    _check_memory(plan, q_BTNH.dtype.itemsize, segmented=segment_ids_BS is not None)
    angles_BSH = None if angles is None else jnp.pad(jnp.concatenate(angles, -1), [(0, 0), (before, behind), (0, 0)])
    if segment_ids_BS is not None:
        segment_ids_BS = jnp.pad(segment_ids_BS, [(0, 0), (before, behind)], constant_values=PADDING_SEGMENT)
    out_BTM: jax.Array = _attend(  # pyright: ignore[reportAssignmentType]
        heads_side_by_side(q_BTNH, before=0),
        heads_side_by_side(k_BSKH),
        heads_side_by_side(v_BSKH),
        angles_BSH,
        segment_ids_BS,
        plan,
        K,
        H**-0.5,
        interpret,
    )
    return out_BTM.reshape(B, T + behind, N, LANES)[:, :T, :, :H]


def takes_rows(length: int, head_dim: int, window: int, dtype: Any) -> bool:
    """Whether the kernels support rows of this many positions, in segments, with heads of this size and type."""
    reach = min(length, window + WINDOW_BLOCKS[0]) if window else length
    fits = reach * _ring_bytes(jnp.dtype(dtype).itemsize, segmented=True) <= RING_BYTES
    return head_dim <= LANES and dtype in TYPES and fits


def _ring_bytes(itemsize: int, segmented: bool) -> int:
    """Bytes per key in the backward pass: key, value, both gradients in float32, and the segment over all lanes."""
    return LANES * (2 * itemsize + 2 * 4 + 4 * segmented)


def _check_memory(plan: WindowPlan, itemsize: int, segmented: bool) -> None:
    ring = plan.slots * plan.block * _ring_bytes(itemsize, segmented)
    if ring > RING_BYTES:
        raise UserError(
            f"the keys that a query sees, {plan.slots * plan.block} with their gradients, take "
            f"{ring / 2**20:.0f} MiB of the chip's vector memory, more than a kernel has; use a window, or "
            "model.attention=splash"
        )


@functools.partial(jax.custom_vjp, nondiff_argnums=(5, 6, 7, 8))
def _attend(
    q_BTM: jax.Array,
    k_BSM: jax.Array,
    v_BSM: jax.Array,
    angles_BSH: jax.Array | None,
    segment_ids_BS: jax.Array | None,
    plan: WindowPlan,
    kv_heads: int,
    scale: float,
    interpret: Any,
) -> jax.Array:
    return _forward(q_BTM, k_BSM, v_BSM, angles_BSH, segment_ids_BS, plan, kv_heads, scale, interpret)[0]


def _forward(
    q_BTM: jax.Array,
    k_BSM: jax.Array,
    v_BSM: jax.Array,
    angles_BSH: jax.Array | None,
    segment_ids_BS: jax.Array | None,
    plan: WindowPlan,
    kv_heads: int,
    scale: float,
    interpret: Any,
) -> tuple[jax.Array, Any]:
    segments = _segments(segment_ids_BS, plan)
    kernel = functools.partial(window_forward, plan=plan, kv_heads=kv_heads, scale=scale)
    # Both, for whoever keeps one of them alone has the kernel run again for the other.
    out_BTM, sums = checkpoint_name(
        _on_platform(kernel, interpret, q_BTM, k_BSM, v_BSM, angles_BSH, segments), ATTENTION_OUTPUT
    )
    return out_BTM, (q_BTM, k_BSM, v_BSM, angles_BSH, segments, out_BTM, sums)


def _backward(plan: WindowPlan, kv_heads: int, scale: float, interpret: Any, saved: Any, d_out_BTM: jax.Array) -> Any:
    q_BTM, k_BSM, v_BSM, angles_BSH, segments, out_BTM, sums = saved
    kernel = functools.partial(window_backward, plan=plan, kv_heads=kv_heads, scale=scale)
    gradients = _on_platform(kernel, interpret, q_BTM, k_BSM, v_BSM, d_out_BTM, out_BTM, sums, angles_BSH, segments)
    return *gradients, None, None


_attend.defvjp(_forward, _backward)


def _segments(segment_ids_BS: jax.Array | None, plan: WindowPlan) -> tuple[jax.Array, jax.Array, jax.Array] | None:
    if segment_ids_BS is None:
        return None
    blocks = segment_ids_BS.reshape(segment_ids_BS.shape[0], plan.key_blocks, plan.block // LANES, LANES)
    return blocks.astype(jnp.float32), jnp.min(blocks, axis=(2, 3)), jnp.max(blocks, axis=(2, 3))


def _on_platform(kernel: Any, interpret: Any, *arrays: Any) -> Any:
    if interpret is not None:
        return kernel(*arrays, interpret=interpret)
    return jax.lax.platform_dependent(
        *arrays, tpu=functools.partial(kernel, interpret=False), default=functools.partial(kernel, interpret=True)
    )
