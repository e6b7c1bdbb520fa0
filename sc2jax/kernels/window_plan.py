"""Which blocks of the score matrix a windowed kernel visits, and how it masks the ones at the edges.

All of it is known when the program is traced. Query block i attends to the key blocks i, i - 1, ... as far back as its
window reaches. The distance between two blocks alone says whether every query of one sees every key of the other, or an
edge crosses them: the diagonal, or the end of the window. Of an edge block only the pieces that hold a visible pair are
computed.
"""

import dataclasses
from collections.abc import Callable

import jax
import jax.numpy as jnp

from sc2jax.errors import UserError
from sc2jax.kernels.reference import MASKED

LANES = 128
"""The width of a TPU's vector register: the smallest block, and the size that narrower heads are padded to."""

TYPES = (jnp.bfloat16, jnp.float32)
"""Supported types of queries, keys and values; the TPU's compiler has no vectors of float16."""

WINDOW_BLOCKS = (1024, 512, 256, 128)
"""Block lengths, the fastest by the compiler's schedule first (docs/kernels.md)."""

VMEM_BYTES = 60 * 2**20
"""What a kernel may use of the chip's vector memory; the smallest of the chips from v5e on has 64 MiB."""


@dataclasses.dataclass(frozen=True)
class WindowPlan:
    """How a row is cut into blocks. Its queries belong to the last of its keys; both are cut to the same length.

    Attributes:
        block: queries or keys in a block.
        key_blocks: key blocks of a row.
        query_blocks: query blocks of a row.
        window: keys that a query sees, itself included; 0: all before it.
        edge: rows and columns of the pieces that an edge block is cut into, at most the block: smaller ones leave less
            to mask but make worse use of the matrix units (docs/kernels.md).
        chunk: columns of scores that exist at a time in a block that is all visible, at most the block; in an edge
            block one piece's exist at a time.
    """

    block: int
    key_blocks: int
    query_blocks: int
    window: int
    edge: int = 256
    chunk: int = 512

    def __post_init__(self) -> None:
        """Cuts small blocks no further."""
        object.__setattr__(self, "edge", min(self.edge, self.block))
        object.__setattr__(self, "chunk", min(self.chunk, self.block))

    @property
    def offset(self) -> int:
        """The key block of the first query block."""
        return self.key_blocks - self.query_blocks

    @property
    def reach(self) -> int:
        """The distance, in blocks, of the furthest key block that any query block attends to."""
        reach = self.key_blocks - 1
        return min(reach, -(-(self.window - 1) // self.block)) if self.window else reach

    @property
    def slots(self) -> int:
        """Key blocks that the ring holds."""
        return self.reach + 1

    @property
    def full(self) -> int:
        """The blocks at distances 1 to this are all visible."""
        distances = range(1, self.reach + 1)
        return sum(self.all_visible(d * self.block, self.block, 0, self.block) for d in distances)

    @property
    def edges(self) -> range:
        """The distances of the blocks, beyond the diagonal, at which the window ends: at most two."""
        return range(self.full + 1, self.reach + 1)

    def distances(self, query: int, queries: int, key: int, keys: int) -> tuple[int, int]:
        """The least and the greatest distance between a query and a key of two ranges."""
        return query - (key + keys - 1), query + queries - 1 - key

    def any_visible(self, query: int, queries: int, key: int, keys: int) -> bool:
        """Whether any query of the range sees any key of the other."""
        least, greatest = self.distances(query, queries, key, keys)
        return greatest >= 0 and (self.window == 0 or least < self.window)

    def all_visible(self, query: int, queries: int, key: int, keys: int) -> bool:
        """Whether every query of the range sees every key of the other."""
        least, greatest = self.distances(query, queries, key, keys)
        return least >= 0 and (self.window == 0 or greatest < self.window)

    def pieces(self, distance: int, by_query: bool) -> list[tuple[int, int, int]]:
        """An edge block in strips of `edge` queries (or keys): (start of the strip, first, last + 1 of the others).

        Of each strip the others from first to last hold every visible pair; strips without one are left out.
        """
        edge, starts = self.edge, range(0, self.block, self.edge)

        def meets(strip: int, other: int) -> bool:
            query, key = (strip, other) if by_query else (other, strip)
            return self.any_visible(distance * self.block + query, edge, key, edge)

        strips = [(strip, [other for other in starts if meets(strip, other)]) for strip in starts]
        return [(strip, others[0], others[-1] + edge) for strip, others in strips if others]

    def visited_pairs(self, by_query: bool = True) -> int:
        """Pairs of a query and a key that are computed for one head of one row."""
        size = dict.fromkeys(range(1, self.full + 1), self.block**2)
        for distance in (0, *self.edges):
            size[distance] = sum(self.edge * (last - first) for _, first, last in self.pieces(distance, by_query))
        blocks = range(self.offset, self.key_blocks)
        return sum(size[distance] for i in blocks for distance in range(min(i, self.reach) + 1))


def plan_window(queries: int, keys: int, window: int) -> WindowPlan:
    """The plan for rows of this many queries and keys, with the longest block that divides both.

    Raises:
        UserError: no block divides them.
    """
    for block in WINDOW_BLOCKS:
        if queries % block == 0 and keys % block == 0:
            return WindowPlan(block, keys // block, queries // block, window)
    raise UserError(
        f"rows of {queries} queries and {keys} keys cannot be cut into blocks; use multiples of {WINDOW_BLOCKS[-1]}"
    )


def mask_scores(
    scores: jax.Array,
    plan: WindowPlan,
    query: int,
    key: int,
    query_axis: int,
    same_segment: Callable[[int], jax.Array] | None = None,
) -> jax.Array:
    """The scores of a piece, MASKED where the key is not visible; columns that need no mask are left alone.

    Args:
        scores: queries along `query_axis`, keys along the other axis.
        plan: the plan, for its window.
        query: the position of the first query, counted from the start of the key block.
        key: the position of the first key, counted from the same place.
        query_axis: 0 or 1.
        same_segment: given the first of `LANES` columns, where query and key are in the same segment.
    """
    rows, columns = scores.shape
    parts = []
    for start in range(0, columns, LANES):
        part = scores[:, start : start + LANES]
        q, k = (query, key + start) if query_axis == 0 else (query + start, key)
        lengths = (rows, LANES) if query_axis == 0 else (LANES, rows)
        least, greatest = plan.distances(q, lengths[0], k, lengths[1])
        conditions = []
        if least < 0 or (plan.window and greatest >= plan.window):
            along = [jax.lax.broadcasted_iota(jnp.int32, part.shape, axis) for axis in (query_axis, 1 - query_axis)]
            distance = along[0] - along[1] + (q - k)
            if least < 0:
                conditions.append(distance >= 0)
            if plan.window and greatest >= plan.window:
                conditions.append(distance < plan.window)
        if same_segment is not None:
            conditions.append(same_segment(start))
        for condition in conditions:
            part = jnp.where(condition, part, MASKED)
        parts.append(part)
    return parts[0] if len(parts) == 1 else jnp.concatenate(parts, axis=1)
