"""What a shard of a row needs from the shards before it: a halo of positions, passed from neighbour to neighbour.

Nothing but the halo travels, and only between neighbours: ring attention (arXiv 2310.01889), stopped where the window
ends. Dimensions: B batch, T position of a shard, S positions of halo and shard together.
"""

import jax
import jax.numpy as jnp

ALIGNMENT = 128
"""Halos are multiples of a TPU's lanes, so that kernels get whole blocks."""


def halo_size(window: int, length: int, shards: int) -> int:
    """How many positions before its own a shard of `length` positions needs, for a window that counts the query.

    That is window - 1, rounded up, but never more than all shards before the last; without a window (0) it is all of
    those.
    """
    before = (shards - 1) * length
    return min(-(-(window - 1) // ALIGNMENT) * ALIGNMENT, before) if window else before


def with_halo(x_BT: jax.Array, halo: int, axis: tuple[str, ...], shards: int) -> jax.Array:
    """The last `halo` positions before this shard, and then its own, along dimension 1 of an array of any rank.

    There are zeros where the row has not begun. Each step passes on what the step before brought, so that no link
    carries anything twice: a device sends `halo` positions in ceil(halo / T) steps, and only the remainder in the last.
    """
    pieces = [x_BT]
    while halo:
        sent_BT = pieces[0][:, -min(halo, x_BT.shape[1]) :]
        halo -= sent_BT.shape[1]
        pieces.insert(0, jax.lax.ppermute(sent_BT, axis, [(left, left + 1) for left in range(shards - 1)]))
    return jnp.concatenate(pieces, axis=1)


def outside_row(halo: int, length: int, axis: tuple[str, ...]) -> jax.Array:
    """Which positions of halo and shard lie before the start of the row, (S,)."""
    return jax.lax.axis_index(axis) * length + jnp.arange(-halo, length) < 0
