"""The KV cache: a ring buffer of the attention window, so that its memory does not grow with the context.

Position p of a sequence lies in slot p % S. Each slot remembers its position, and a query sees the slots whose
positions lie in its window; the slot that the newest key is about to overwrite has just left it. Dimensions: L layers,
B batch, T position, K key-value heads, S slots, H head size, V vocabulary, D embed.
"""

from operator import itemgetter
from typing import Any

import flax.struct
import jax
import jax.numpy as jnp

from sc2jax.kernels.reference import rotary_angles, rotate
from sc2jax.model.attention import cached_attention
from sc2jax.model.config import ModelConfig
from sc2jax.model.params import Params
from sc2jax.model.transformer import (
    cast_params,
    forward_with_keys,
    layer_norm,
    output_logits,
    output_projection,
    transformer_layer,
)

EMPTY = -1


@flax.struct.dataclass
class Cache:
    """Rotated keys and values of the last S positions of each sequence, and the position that each slot holds.

    Layers are stacked along the first dimension, or, after `unstack`, a list of arrays (B, K, S, H).
    """

    k_LBKSH: Any
    v_LBKSH: Any
    positions_BS: jax.Array  # EMPTY where nothing was written yet


@flax.struct.dataclass
class UnstackedParams:
    """The parameters as `unstack` lays them out: a list of layers, and the output projection transposed beside them."""

    params: Params
    output_DV: jax.Array


def cache_slots(config: ModelConfig, total_length: int) -> int:
    """How many slots sequences of this many tokens need: never more than the window."""
    return min(config.window, total_length) if config.window else total_length


def prefill(
    params: Params, tokens_BT: jax.Array, lengths_B: jax.Array, config: ModelConfig, slots: int
) -> tuple[jax.Array, Cache]:
    """Reads prompts, padded on the right to one length, in one pass.

    Returns the logits after each prompt's last token (B, V) and the cache of its last `slots` positions. Padding comes
    after every real token and is therefore never seen. Each layer drops the keys that have no slot before the next one
    runs, so that a long prompt needs memory for one layer's keys beside the cache, not for all layers'.
    """
    # The newest position of the prompt that falls into each slot.
    slot_1S = jnp.arange(slots)[None]
    positions_BS = slot_1S + (lengths_B[:, None] - 1 - slot_1S) // slots * slots
    source_BS = jnp.clip(positions_BS, 0)

    def to_slots(x_BTKH: jax.Array) -> jax.Array:
        return jnp.take_along_axis(x_BTKH, source_BS[:, :, None, None], axis=1).swapaxes(1, 2)

    hidden_BTD, keys = forward_with_keys(params, tokens_BT, config, keep=to_slots)
    last_BD = jnp.take_along_axis(hidden_BTD, (lengths_B - 1)[:, None, None], axis=1)[:, 0]
    assert keys is not None
    return output_logits(params, last_BD, config), Cache(*keys, jnp.where(positions_BS < 0, EMPTY, positions_BS))


def unstack(params: Params, cache: Cache, config: ModelConfig) -> tuple[UnstackedParams, Cache]:
    """The same parameters and cache, laid out for a loop over decode steps on a CPU.

    XLA's CPU backend copies a layer's weights and keys out of the stacked arrays in every iteration of a scan, and
    reads the output projection twice as fast with the vocabulary last. So layers are taken apart and the projection is
    transposed, once, before the loop.
    """
    layers = [jax.tree.map(itemgetter(layer), params["layers"]) for layer in range(config.num_layers)]
    unstacked = UnstackedParams({**params, "layers": layers}, output_projection(params, config).T)
    return unstacked, Cache(list(cache.k_LBKSH), list(cache.v_LBKSH), cache.positions_BS)


def decode_step(
    params: Params | UnstackedParams, tokens_B: jax.Array, positions_B: jax.Array, cache: Cache, config: ModelConfig
) -> tuple[jax.Array, Cache]:
    """Reads one more token of each sequence, at its position; returns the logits after it (B, V) and the new cache.

    Parameters and cache are either both stacked, and the layers scanned, or both from `unstack`.
    """
    unstacked = isinstance(params, UnstackedParams)
    weights = cast_params(params.params if unstacked else params, config)
    angles = rotary_angles(positions_B[:, None], config.head_dim, config.rope_theta)
    visible_BS = _visible(cache.positions_BS, positions_B, config.window)
    batch = jnp.arange(tokens_B.shape[0])
    slot_B = positions_B % cache.positions_BS.shape[1]

    def body(x_BTD: jax.Array, scanned: tuple[Params, jax.Array, jax.Array]):
        layer_params, k_BKSH, v_BKSH = scanned

        def attend(q_BTNH: jax.Array, k_BTKH: jax.Array, v_BTKH: jax.Array):
            q_BTNH, k_BTKH = rotate(q_BTNH, *angles), rotate(k_BTKH, *angles)
            out_BNH = cached_attention(q_BTNH[:, 0], k_BTKH[:, 0], v_BTKH[:, 0], k_BKSH, v_BKSH, visible_BS)
            return out_BNH[:, None], (k_BTKH, v_BTKH)

        return transformer_layer(layer_params, x_BTD, config, attend)

    x_BTD = weights["embedding"][tokens_B][:, None]
    if unstacked:
        k_LBKSH, v_LBKSH = [], []
        for scanned in zip(weights["layers"], cache.k_LBKSH, cache.v_LBKSH, strict=True):
            x_BTD, (k_BTKH, v_BTKH) = body(x_BTD, scanned)
            k_LBKSH.append(scanned[1].at[batch, :, slot_B].set(k_BTKH[:, 0]))
            v_LBKSH.append(scanned[2].at[batch, :, slot_B].set(v_BTKH[:, 0]))
    else:
        x_BTD, (k_LBTKH, v_LBTKH) = jax.lax.scan(body, x_BTD, (weights["layers"], cache.k_LBKSH, cache.v_LBKSH))
        # Written once for all layers, after the scan: within it each iteration would copy the whole cache.
        k_LBKSH = cache.k_LBKSH.at[:, batch, :, slot_B].set(k_LBTKH[:, :, 0].swapaxes(0, 1))
        v_LBKSH = cache.v_LBKSH.at[:, batch, :, slot_B].set(v_LBTKH[:, :, 0].swapaxes(0, 1))
    cache = Cache(k_LBKSH, v_LBKSH, cache.positions_BS.at[batch, slot_B].set(positions_B))
    hidden_BD = layer_norm(x_BTD[:, 0], weights["final_norm"], config.norm_epsilon)
    if unstacked:
        output_DV = params.output_DV.astype(hidden_BD.dtype)
        return jnp.einsum("BD,DV->BV", hidden_BD, output_DV, preferred_element_type=jnp.float32), cache
    return output_logits(weights, hidden_BD, config), cache


def _visible(cached_positions_BS: jax.Array, positions_B: jax.Array, window: int) -> jax.Array:
    distance_BS = positions_B[:, None] - cached_positions_BS
    visible_BS = cached_positions_BS != EMPTY
    return visible_BS & (distance_BS < window) if window else visible_BS
