"""Attention as the model uses it: one function that chooses among the kernels, and the one for a cached step.

Dimensions: B batch, T query position, S key position, N query heads, K key-value heads, G = N / K, H head size.
"""

import math
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
from jax.ad_checkpoint import checkpoint_name
from jax.sharding import Mesh

from sc2jax.errors import UserError
from sc2jax.kernels.blocked import blocked_attention
from sc2jax.kernels.cudnn import cudnn_attention, cudnn_refusal
from sc2jax.kernels.decode_attention import decode_attention, takes_cache
from sc2jax.kernels.reference import ATTENTION_OUTPUT, MASKED, reference_attention, rotate
from sc2jax.kernels.splash import splash_attention
from sc2jax.kernels.window_attention import takes_rows, window_attention
from sc2jax.model.config import ModelConfig
from sc2jax.parallel import rules
from sc2jax.parallel.halo import halo_size, outside_row, with_halo

Angles: TypeAlias = tuple[jax.Array, jax.Array]

BEFORE_ROW = -1
"""The segment of keys before the first position of a row; no query is in it."""

QUERIES = (rules.BATCH, rules.LENGTH, rules.HEADS, rules.HEAD_DIM)
KEYS = (rules.BATCH, rules.LENGTH, rules.KV_HEADS, rules.HEAD_DIM)


def attention(
    q_BTNH: jax.Array,
    k_BTKH: jax.Array,
    v_BTKH: jax.Array,
    angles: Angles,
    config: ModelConfig,
    *,
    segment_ids_BT: jax.Array | None = None,
    mesh: Mesh | None = None,
    dropout_key: jax.Array | None = None,
) -> jax.Array:
    """Rotates queries and keys by their positions' angles and mixes the values, by the kernel that the config names.

    Over several devices each computes its part of batch, length and heads. If the length is split, the window of keys
    before a device's positions, h = `halo_size` of them, travels in each layer. A device sends and receives
    h * B * (2 * K * H * bytes of an element + 4 of the segment id) bytes, where B and K are its own part; the backward
    pass sends the gradients of those keys and values back.

    Args:
        q_BTNH: queries as projected.
        k_BTKH: keys as projected.
        v_BTKH: values.
        angles: cosines and sines (B, T, H / 2).
        config: kernel, window and dropout.
        segment_ids_BT: not negative; a query sees only keys of its own segment. None if each row is one segment.
        mesh: where the arrays live, if sharded.
        dropout_key: for the dropout masks, which differ from mesh to mesh; without it there is no dropout.

    Returns:
        The mixed values (B, T, N, H).
    """
    if config.attention_dropout == 0.0:
        dropout_key = None
    device = jax.devices()[0] if mesh is None else mesh.devices.flat[0]
    split = mesh is not None and rules.shard_count(mesh, rules.LENGTH) > 1
    name = _chosen(q_BTNH, segment_ids_BT is not None, split, dropout_key is not None, device, config)
    turn: Angles | None = angles
    if name != "pallas" or split:  # that kernel rotates what it reads itself; between devices keys travel rotated
        q_BTNH, k_BTKH, turn = rotate(q_BTNH, *angles), rotate(k_BTKH, *angles), None
    if mesh is None or mesh.size == 1:
        return _compute(name, q_BTNH, k_BTKH, v_BTKH, turn, segment_ids_BT, dropout_key, device, config)
    return _over_devices(name, q_BTNH, k_BTKH, v_BTKH, turn, segment_ids_BT, dropout_key, mesh, config)


def _chosen(q_BTNH: jax.Array, segmented: bool, split: bool, drops: bool, device: Any, config: ModelConfig) -> str:
    refusal = cudnn_refusal(q_BTNH, segmented, split, device)
    if config.attention == "cudnn" and refusal:
        raise UserError(f"model.attention=cudnn {refusal}; use model.attention=auto, which then takes another kernel")
    if config.attention != "auto":
        return config.attention
    if drops:
        return "blocked"
    if device.platform == "tpu" and takes_rows(q_BTNH.shape[1], config.head_dim, config.window, q_BTNH.dtype):
        return "pallas"
    return "blocked" if refusal else "cudnn"


def _compute(
    name: str,
    q_BTNH: jax.Array,
    k_BSKH: jax.Array,
    v_BSKH: jax.Array,
    angles: Angles | None,
    segment_ids_BS: jax.Array | None,
    dropout_key: jax.Array | None,
    device: Any,
    config: ModelConfig,
) -> jax.Array:
    # The first two name their results themselves, together with what else their backward passes need.
    if name == "pallas":
        return window_attention(q_BTNH, k_BSKH, v_BSKH, segment_ids_BS, config.window, angles=angles)
    if name == "splash":
        interpret = device.platform != "tpu"
        return splash_attention(q_BTNH, k_BSKH, v_BSKH, segment_ids_BS, config.window, interpret=interpret)
    if name == "cudnn":
        return checkpoint_name(cudnn_attention(q_BTNH, k_BSKH, v_BSKH, config.window), ATTENTION_OUTPUT)
    if segment_ids_BS is None:
        segment_ids_BS = jnp.zeros(k_BSKH.shape[:2], jnp.int32)
    plain = {"reference": reference_attention, "blocked": blocked_attention}[name]
    out_BTNH = plain(q_BTNH, k_BSKH, v_BSKH, segment_ids_BS, config.window, config.attention_dropout, dropout_key)
    return checkpoint_name(out_BTNH, ATTENTION_OUTPUT)


def _over_devices(
    name: str,
    q_BTNH: jax.Array,
    k_BTKH: jax.Array,
    v_BTKH: jax.Array,
    angles: Angles | None,
    segment_ids_BT: jax.Array | None,
    dropout_key: jax.Array | None,
    mesh: Mesh,
    config: ModelConfig,
) -> jax.Array:
    """The same on each device's part, with the keys that its queries need of the others."""
    length_axes, shards = rules.mesh_axes(mesh, rules.LENGTH), rules.shard_count(mesh, rules.LENGTH)
    halo = halo_size(config.window, q_BTNH.shape[1] // shards, shards)
    if shards > 1 and segment_ids_BT is None:
        segment_ids_BT = jnp.zeros(q_BTNH.shape[:2], jnp.int32)

    def local(
        q_BTNH: jax.Array, k_BTKH: jax.Array, v_BTKH: jax.Array, others: dict[str, jax.Array]
    ) -> tuple[jax.Array]:
        k_BSKH, v_BSKH = (_own_kv_heads(x_BTKH, mesh, config) for x_BTKH in (k_BTKH, v_BTKH))
        segment_ids, key = others.get("segment_ids"), others.get("dropout_key")
        turn = (others["cosines"], others["sines"]) if "cosines" in others else None
        if halo:
            assert segment_ids is not None
            k_BSKH, v_BSKH, segment_ids = (
                with_halo(x, halo, length_axes, shards) for x in (k_BSKH, v_BSKH, segment_ids)
            )
            outside_S = outside_row(halo, q_BTNH.shape[1], length_axes)
            segment_ids = jnp.where(outside_S[None], BEFORE_ROW, segment_ids)
        if key is not None:
            key = jax.random.fold_in(key, jax.lax.axis_index(mesh.axis_names))
        return (_compute(name, q_BTNH, k_BSKH, v_BSKH, turn, segment_ids, key, mesh.devices.flat[0], config),)

    cosines, sines = angles or (None, None)
    others = {
        "segment_ids": ((rules.BATCH, rules.LENGTH), segment_ids_BT),
        "cosines": ((rules.BATCH, rules.LENGTH, rules.HEAD_DIM), cosines),
        "sines": ((rules.BATCH, rules.LENGTH, rules.HEAD_DIM), sines),
        "dropout_key": ((), dropout_key),
    }
    given = {other: pair for other, pair in others.items() if pair[1] is not None}
    mapped = rules.map_shards(
        lambda q, k, v, *rest: local(q, k, v, dict(zip(given, rest, strict=True))),
        mesh,
        [QUERIES, KEYS, KEYS, *(axes for axes, _ in given.values())],
        [(QUERIES, q_BTNH.shape)],
    )
    return mapped(q_BTNH, k_BTKH, v_BTKH, *(array for _, array in given.values()))[0]


def _own_kv_heads(x_BTKH: jax.Array, mesh: Mesh, config: ModelConfig) -> jax.Array:
    """Of key-value heads that the mesh does not divide, and each device therefore has, those of its query heads.

    Where a device's query heads end inside of a group, a head is repeated, so that all groups are equally large.
    """
    shards, axes = rules.shard_count(mesh, rules.HEADS), rules.mesh_axes(mesh, rules.HEADS)
    if config.num_kv_heads % shards == 0:
        return x_BTKH
    group, own = config.num_heads // config.num_kv_heads, config.num_heads // shards
    first = jax.lax.axis_index(axes) * own
    return jnp.take(x_BTKH, (first + jnp.arange(0, own, math.gcd(group, own))) // group, axis=2)


def cached_attention(
    q_BNH: jax.Array,
    k_BKH: jax.Array,
    v_BKH: jax.Array,
    cached_k_BKSH: jax.Array,
    cached_v_BKSH: jax.Array,
    visible_BS: jax.Array,
) -> jax.Array:
    """One query a sequence over its cached keys and its own, which is not yet in the cache; returns (B, N, H).

    On a TPU by a kernel, where it takes the cache's shape; elsewhere in plain JAX.
    """
    arrays = (q_BNH, k_BKH, v_BKH, cached_k_BKSH, cached_v_BKSH, visible_BS)
    if not takes_cache(cached_k_BKSH.shape[2], q_BNH.shape[2], q_BNH.dtype):
        return plain_cached_attention(*arrays)
    return jax.lax.platform_dependent(*arrays, tpu=decode_attention, default=plain_cached_attention)


def plain_cached_attention(
    q_BNH: jax.Array,
    k_BKH: jax.Array,
    v_BKH: jax.Array,
    cached_k_BKSH: jax.Array,
    cached_v_BKSH: jax.Array,
    visible_BS: jax.Array,
) -> jax.Array:
    """The same in plain JAX, on any device: what the kernel must equal."""
    B, N, H = q_BNH.shape
    K = k_BKH.shape[1]
    q_BKGH = q_BNH.reshape(B, K, N // K, H) * H**-0.5
    scores_BKGS = jnp.einsum("BKGH,BKSH->BKGS", q_BKGH, cached_k_BKSH, preferred_element_type=jnp.float32)
    scores_BKGS = jnp.where(visible_BS[:, None, None], scores_BKGS, MASKED)
    own_BKG1 = jnp.einsum("BKGH,BKH->BKG", q_BKGH, k_BKH, preferred_element_type=jnp.float32)[..., None]
    weights = jax.nn.softmax(jnp.concatenate([scores_BKGS, own_BKG1], axis=-1), axis=-1).astype(v_BKH.dtype)
    out_BKGH = jnp.einsum("BKGS,BKSH->BKGH", weights[..., :-1], cached_v_BKSH)
    return (out_BKGH + weights[..., -1:] * v_BKH[:, :, None]).reshape(B, N, H)
