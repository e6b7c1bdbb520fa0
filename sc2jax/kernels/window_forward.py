"""The forward kernel of windowed attention for TPUs; see docs/kernels.md.

The grid is (row, key-value head, key block, query head of the group), executed in this order. The first head of a group
copies the block of keys and values into a ring, which holds as many blocks as the window reaches. Then every head
attends with its query block to the ring. So each key is read from memory once, whatever the group and the window.
"""

import functools
from typing import Any

import jax
import jax.numpy as jnp
from jax.experimental import pallas as pl
from jax.experimental.pallas import tpu as pltpu

from sc2jax.kernels.window_blocks import (
    LOG2_E,
    ROWS_BY_COLUMNS,
    ROWS_BY_ROWS,
    along_columns,
    along_rows,
    packed_rows,
    product,
    rotated,
    visit_blocks,
)
from sc2jax.kernels.window_plan import LANES, VMEM_BYTES, WindowPlan, mask_scores


def window_forward(
    q_BTM: jax.Array,
    k_BSM: jax.Array,
    v_BSM: jax.Array,
    angles_BSH: jax.Array | None,
    segments: tuple[jax.Array, jax.Array, jax.Array] | None,
    plan: WindowPlan,
    kv_heads: int,
    scale: float,
    interpret: Any,
) -> tuple[jax.Array, jax.Array]:
    """Attention over rows whose heads, each 128 wide, lie side by side in M.

    Args:
        q_BTM: queries, not yet rotated if angles are given.
        k_BSM: keys; the queries belong to the last T of the S positions.
        v_BSM: values.
        angles_BSH: the cosines and then the sines of each position.
        segments: for each key block its segment ids (B, blocks, C / 128, 128), float32, and the smallest and the
            largest of them (B, blocks), int32.
        plan: the blocks.
        kv_heads: key-value heads of a row.
        scale: what scores are multiplied by.
        interpret: as `pallas_call` takes it.

    Returns:
        The output (B, T, M) and the base-2 logarithm of each query's sum of weights (B, N, blocks, C / 128, 128).
    """
    B, T, M = q_BTM.shape
    C, N = plan.block, M // LANES
    group = N // kv_heads

    def head(k: Any, i: Any, g: Any) -> Any:
        # The key blocks before the first query only fill the ring; meanwhile the query block stays the first one.
        return k * group + jnp.where(i >= plan.offset, g, 0)

    def at_query(b: Any, k: Any, i: Any, g: Any, *_: Any) -> Any:
        return b, jnp.maximum(i - plan.offset, 0), head(k, i, g)

    queries = pl.BlockSpec((1, C, LANES), at_query)
    keys = pl.BlockSpec((1, C, LANES), lambda b, k, i, g, *_: (b, i, k))
    sums = pl.BlockSpec(
        (1, 1, 1, C // LANES, LANES),
        lambda b, k, i, g, *_: (b, head(k, i, g), jnp.maximum(i - plan.offset, 0), 0, 0),
    )
    inputs, specs = [q_BTM, k_BSM, v_BSM], [queries, keys, keys]
    scratch = [pltpu.VMEM((plan.slots, C, LANES), x.dtype) for x in (k_BSM, v_BSM)]
    scratch += [pltpu.VMEM((C, LANES), q_BTM.dtype), *(pltpu.VMEM((C, LANES), jnp.float32),) * 3]
    if angles_BSH is not None:
        inputs.append(angles_BSH)
        specs.append(pl.BlockSpec((1, C, LANES), lambda b, k, i, g, *_: (b, i, 0)))
    bounds: tuple[jax.Array, ...] = ()
    if segments is not None:
        inputs.append(segments[0])
        specs.append(pl.BlockSpec((1, 1, C // LANES, LANES), lambda b, k, i, g, *_: (b, i, 0, 0)))
        scratch += [pltpu.VMEM((plan.slots, 1, C), jnp.float32), pltpu.VMEM((C, LANES), jnp.float32)]
        bounds = segments[1:]
    kernel = functools.partial(
        _kernel, plan=plan, scale=scale, rotates=angles_BSH is not None, segmented=segments is not None
    )
    return pl.pallas_call(
        kernel,
        grid_spec=pltpu.PrefetchScalarGridSpec(
            num_scalar_prefetch=len(bounds),
            grid=(B, kv_heads, plan.key_blocks, group),
            in_specs=specs,
            out_specs=[queries, sums],
            scratch_shapes=scratch,
        ),
        out_shape=[
            jax.ShapeDtypeStruct((B, T, M), q_BTM.dtype),
            jax.ShapeDtypeStruct((B, N, plan.query_blocks, C // LANES, LANES), jnp.float32),
        ],
        compiler_params=pltpu.CompilerParams(
            dimension_semantics=("parallel", "parallel", "arbitrary", "arbitrary"), vmem_limit_bytes=VMEM_BYTES
        ),
        name="window_attention_forward",
        interpret=interpret,
    )(*bounds, *inputs)


def _kernel(*references: Any, plan: WindowPlan, scale: float, rotates: bool, segmented: bool) -> None:
    refs: list[Any] = list(references)
    bounds: Any = (refs.pop(0), refs.pop(0)) if segmented else None
    q_ref, k_ref, v_ref = refs[:3]
    del refs[:3]
    angles_ref: Any = refs.pop(0) if rotates else None
    ids_ref: Any = refs.pop(0) if segmented else None
    out_ref, sums_ref, k_ring, v_ring, q_scaled, *rest = refs
    greatest, total, mixed = rest[:3]
    ids: Any = rest[3:] if segmented else (None, None)
    ids_ring, ids_rows = ids
    b, i = pl.program_id(0), pl.program_id(2)
    if bounds is not None:
        bounds = (bounds[0].at[b], bounds[1].at[b])
    here = jax.lax.rem(i, plan.slots)

    @pl.when(pl.program_id(3) == 0)
    def _() -> None:
        k = rotated(k_ref[0], angles_ref[0]) if rotates else k_ref[0]
        k_ring[here] = k.astype(k_ring.dtype)
        v_ring[here] = v_ref[0]
        if segmented:
            ids_ring[here] = along_columns(ids_ref[0, 0])
            ids_rows[...] = along_rows(ids_ref[0, 0])

    def attend(
        slot: Any, strip: int, queries: int, first: int, last: int, distance: int | None, compares: bool
    ) -> None:
        """A strip of queries with the keys `first` to `last` of a block, all visible where `distance` is None."""
        rows = pl.ds(strip, queries)
        chunk = plan.chunk if distance is None else plan.edge
        for start in range(first, last, chunk):
            stop = min(start + chunk, last)
            scores = product(q_scaled[rows], k_ring[slot, start:stop], ROWS_BY_ROWS)
            if distance is not None or compares:

                def same(column: int, slot: Any = slot, start: int = start) -> jax.Array:
                    lanes = ids_ring[slot, :, start + column : start + column + LANES]
                    return ids_rows[rows] == jnp.broadcast_to(lanes, (queries, LANES))

                query = strip + (plan.full if distance is None else distance) * plan.block
                scores = mask_scores(scores, plan, query, start, 0, same if compares else None)
            # The diagonal block comes first and starts the sums. A query that sees no key in its first piece starts
            # with a meaningless sum over masked scores; its own key, later in the same block, scales it down to 0.
            fresh = distance == 0 and start == first
            _accumulate(scores, v_ring[slot, start:stop], rows, greatest, total, mixed, fresh)

    @pl.when(i >= plan.offset)
    def _() -> None:
        q = rotated(q_ref[0], angles_ref[0]) if rotates else q_ref[0].astype(jnp.float32)
        q_scaled[...] = (q * (scale * LOG2_E)).astype(q_scaled.dtype)

        def edge(slot: Any, distance: int, compares: bool) -> None:
            for strip, first, last in plan.pieces(distance, by_query=True):
                attend(slot, strip, plan.edge, first, last, distance, compares)

        def full(slot: Any, compares: bool) -> None:
            attend(slot, 0, plan.block, 0, plan.block, None, compares)

        visit_blocks(plan, bounds, i, edge, full)
        for start in range(0, plan.block, LANES):
            rows = pl.ds(start, LANES)
            sums = jnp.broadcast_to(jnp.sum(total[rows], axis=1, keepdims=True), (LANES, LANES))
            out_ref[0, rows] = (mixed[rows] / sums).astype(out_ref.dtype)
            sums_ref[0, 0, 0, pl.ds(start // LANES, 1)] = packed_rows(greatest[rows] + jnp.log2(sums))


def _accumulate(scores: jax.Array, v: jax.Array, rows: Any, greatest: Any, total: Any, mixed: Any, fresh: bool) -> None:
    """Flash attention's running softmax: greatest score, sum of weights (lane by lane) and weighted values."""
    columns = scores.shape[1]
    most = jnp.broadcast_to(jnp.max(scores, axis=1, keepdims=True), (scores.shape[0], LANES))
    if not fresh:
        most = jnp.maximum(greatest[rows], most)
    weights = jnp.exp2(scores - jnp.concatenate([most] * (columns // LANES), axis=1))
    sums = sum(weights[:, start : start + LANES] for start in range(LANES, columns, LANES)) + weights[:, :LANES]
    values = product(weights.astype(v.dtype), v, ROWS_BY_COLUMNS)
    if not fresh:
        shrink = jnp.exp2(greatest[rows] - most)
        sums += shrink * total[rows]
        values += shrink * mixed[rows]
    greatest[rows], total[rows], mixed[rows] = most, sums, values
