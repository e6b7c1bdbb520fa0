"""cuDNN's attention kernel for NVIDIA GPUs from Ampere on, behind the interface of ours.

Dimensions: B batch, T position, N query heads, K key-value heads, H head size.
"""

from typing import Any, Literal

import jax
import jax.numpy as jnp

LEAST_CAPABILITY = 8
"""The compute capability, by its first number, of the oldest GPUs that have this kernel: Ampere."""


def cudnn_refusal(q_BTNH: jax.Array, segmented: bool, split: bool, device: Any) -> str:
    """Why cuDNN cannot compute this attention on this device; empty where it can.

    It supports causal masks and windows but, through JAX's interface, no segments; heads of up to 128 elements work on
    every GPU that has it.

    Args:
        q_BTNH: the queries.
        segmented: whether the rows have segments.
        split: whether the length of rows is split over devices, so that there are more keys than queries.
        device: one of the devices that compute it.
    """
    H = q_BTNH.shape[3]
    if device.platform != "gpu" or int(str(device.compute_capability).split(".")[0]) < LEAST_CAPABILITY:
        return f"runs on NVIDIA GPUs from Ampere on, not on {device.device_kind}"
    if q_BTNH.dtype not in (jnp.bfloat16, jnp.float16):
        return f"computes in bfloat16 or float16, not {q_BTNH.dtype}"
    if segmented:
        return "does not support the segments of packed rows"
    if split:
        return "takes whole rows, not parts of them"
    if H > 128 or H % 8:
        return f"takes heads of up to 128 elements in multiples of 8, not {H}"
    return ""


def cudnn_attention(
    q_BTNH: jax.Array,
    k_BTKH: jax.Array,
    v_BTKH: jax.Array,
    window: int,
    *,
    implementation: Literal["cudnn", "xla"] = "cudnn",
) -> jax.Array:
    """The same as `reference_attention` of rows without segments; `xla` computes the same request on any device."""
    return jax.nn.dot_product_attention(
        q_BTNH,
        k_BTKH,
        v_BTKH,
        is_causal=True,
        local_window_size=(window - 1, 0) if window else None,
        implementation=implementation,
    )
