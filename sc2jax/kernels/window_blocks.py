"""What the forward and the backward kernel share: rotation, segments and layouts within a block.

What exists once per query or key (a statistic, a segment id) is needed in two layouts: along rows (one value in each
sublane, copied over the lanes of a vector register) or along columns (one value in each lane). Segment ids are float32,
exact up to 2^24, because the compiler converts only floats from one layout to the other.
"""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.experimental import pallas as pl
from jax.experimental.pallas import tpu as pltpu

from sc2jax.kernels.window_plan import LANES, WindowPlan

LOG2_E = 1.4426950408889634
"""Scores are taken to base 2, the exponential that the hardware has."""

ROWS_BY_COLUMNS = (((1,), (0,)), ((), ()))  # dot_general's dimensions: a @ b
ROWS_BY_ROWS = (((1,), (1,)), ((), ()))  # a @ b.T
COLUMNS_BY_COLUMNS = (((0,), (0,)), ((), ()))  # a.T @ b


def product(a: jax.Array, b: jax.Array, dimensions: Any) -> jax.Array:
    """A matrix product summed in float32; float32 operands are multiplied at full precision."""
    precision = jax.lax.Precision.HIGHEST if a.dtype == jnp.float32 else None
    return jax.lax.dot_general(a, b, dimensions, precision=precision, preferred_element_type=jnp.float32)


def rotated(x_CH: jax.Array, angles_CH: jax.Array, backwards: bool = False) -> jax.Array:
    """A block of heads rotated by its positions' angles, float32; `backwards` rotates gradients.

    Each row of angles holds the cosines for half a head and then the sines, as it comes from memory.
    """
    half = LANES // 2
    swapped = pltpu.roll(angles_CH, half, 1)
    first = jax.lax.broadcasted_iota(jnp.int32, angles_CH.shape, 1) < half
    cosines = jnp.where(first, angles_CH, swapped)
    sines = jnp.where(first, -swapped, angles_CH)
    x_CH = x_CH.astype(jnp.float32)
    turned = pltpu.roll(x_CH, half, 1) * sines
    return x_CH * cosines - turned if backwards else x_CH * cosines + turned


def along_columns(packed: jax.Array) -> jax.Array:
    """From (C / 128, 128), as it comes from memory, to (1, C)."""
    return jnp.concatenate([packed[row : row + 1] for row in range(packed.shape[0])], axis=1)


def along_rows(packed: jax.Array) -> jax.Array:
    """From (C / 128, 128), as it comes from memory, to (C, 128): one value in each row, copied along it."""
    parts = []
    for row in range(packed.shape[0]):
        spread = jnp.broadcast_to(packed[row : row + 1], (LANES, LANES))
        column = jnp.sum(jnp.where(_diagonal(), spread, 0.0), axis=1, keepdims=True)
        parts.append(jnp.broadcast_to(column, (LANES, LANES)))
    return jnp.concatenate(parts, axis=0)


def packed_rows(rows: jax.Array) -> jax.Array:
    """The inverse of `along_rows` for 128 rows: from (128, 128) with one value in each row to (1, 128)."""
    return jnp.sum(jnp.where(_diagonal(), rows, 0.0), axis=0, keepdims=True)


def row_sums(x: jax.Array, exact: bool) -> jax.Array:
    """The sum of each row of a float32 matrix, laid along columns as (1, C); the matrix units compute it.

    Unless `exact`, each number is split into two of bfloat16, which together hold 16 of its 24 bits.
    """
    if exact:
        return product(jnp.ones((8, x.shape[1]), jnp.float32), x, ROWS_BY_ROWS)[:1]
    high = x.astype(jnp.bfloat16)
    low = (x - high.astype(jnp.float32)).astype(jnp.bfloat16)
    ones = jnp.ones((8, x.shape[1]), jnp.bfloat16)
    return (product(ones, high, ROWS_BY_ROWS) + product(ones, low, ROWS_BY_ROWS))[:1]


def _diagonal() -> jax.Array:
    shape = (LANES, LANES)
    return jax.lax.broadcasted_iota(jnp.int32, shape, 0) == jax.lax.broadcasted_iota(jnp.int32, shape, 1)


def by_segments(bounds: tuple[Any, Any] | None, i: Any, j: Any, attend: Callable[[bool], None]) -> None:
    """Calls `attend(compares)` for query block i and key block j, unless they have no segment in common.

    `compares` tells whether segments must be compared pair by pair: not if both blocks lie in one segment. `bounds`
    holds the smallest and the largest segment id of each key block; None if the row is one segment.
    """
    if bounds is None:
        attend(False)
        return
    least, greatest = bounds
    meet = (least[j] <= greatest[i]) & (greatest[j] >= least[i])
    one = (least[i] == greatest[i]) & (least[j] == greatest[j])
    pl.when(meet & one)(lambda: attend(False))
    pl.when(meet & jnp.logical_not(one))(lambda: attend(True))


def visit_blocks(
    plan: WindowPlan,
    bounds: tuple[Any, Any] | None,
    i: Any,
    edge: Callable[[Any, int, bool], None],
    full: Callable[[Any, bool], None],
) -> None:
    """Visits the key blocks that query block i attends to, the one on the diagonal first.

    `edge(slot, distance, compares)` and `full(slot, compares)` attend to the block in a slot of the ring; `compares`
    tells whether segments must be compared.
    """

    def slot(distance: Any) -> Any:
        return jax.lax.rem(i - distance + plan.slots, plan.slots)

    def at_edge(distance: int) -> None:
        place = slot(distance)
        by_segments(bounds, i, i - distance, lambda compares: edge(place, distance, compares))

    def in_full(distance: Any, carry: Any) -> Any:
        place = slot(distance)
        by_segments(bounds, i, i - distance, lambda compares: full(place, compares))
        return carry

    at_edge(0)
    if plan.full:
        jax.lax.fori_loop(1, jnp.minimum(plan.full, i) + 1, in_full, 0)
    for distance in plan.edges:
        pl.when(i >= distance)(functools.partial(at_edge, distance))
