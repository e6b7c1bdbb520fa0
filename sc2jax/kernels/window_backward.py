"""The backward kernel of windowed attention for TPUs: all three gradients in one pass; see docs/kernels.md.

The grid is the forward kernel's. The gradients of keys and values are summed in rings beside those that hold the keys
and values, over all heads of the group and all query blocks that see them. They are written out when the window has
passed; the grid goes on past the last query block until all of them are. Scores stand transposed, with keys along rows,
so that what exists once per query (its sum of weights, its output's inner product with the gradient) lies along columns
and needs no copies.
"""

import functools
from typing import Any

import jax
import jax.numpy as jnp
from jax.experimental import pallas as pl
from jax.experimental.pallas import tpu as pltpu

from sc2jax.kernels.window_blocks import (
    COLUMNS_BY_COLUMNS,
    LOG2_E,
    ROWS_BY_COLUMNS,
    ROWS_BY_ROWS,
    along_columns,
    along_rows,
    product,
    rotated,
    row_sums,
    visit_blocks,
)
from sc2jax.kernels.window_plan import LANES, VMEM_BYTES, WindowPlan, mask_scores


def window_backward(
    q_BTM: jax.Array,
    k_BSM: jax.Array,
    v_BSM: jax.Array,
    d_out_BTM: jax.Array,
    out_BTM: jax.Array,
    sums: jax.Array,
    angles_BSH: jax.Array | None,
    segments: tuple[jax.Array, jax.Array, jax.Array] | None,
    plan: WindowPlan,
    kv_heads: int,
    scale: float,
    interpret: Any,
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Gradients of queries, keys and values, in their shapes and types.

    Args:
        q_BTM: queries; all arguments of the forward kernel are as they were there.
        k_BSM: keys.
        v_BSM: values.
        d_out_BTM: the gradient of the output.
        out_BTM: the output.
        sums: the forward kernel's second result.
        angles_BSH: cosines and sines.
        segments: segment ids and their bounds.
        plan: the blocks.
        kv_heads: key-value heads of a row.
        scale: what scores are multiplied by.
        interpret: as `pallas_call` takes it.
    """
    B, _, M = q_BTM.shape
    C, last = plan.block, plan.key_blocks - 1
    group = M // LANES // kv_heads

    # Before the first query block and after the last one there is none: the grid then names the nearest one.
    def query(i: Any) -> Any:
        return jnp.clip(i - plan.offset, 0, plan.query_blocks - 1)

    def head(k: Any, i: Any, g: Any) -> Any:
        return k * group + jnp.where(i < plan.offset, 0, jnp.where(i > last, group - 1, g))

    def leaving(i: Any) -> Any:
        return jnp.maximum(i - plan.reach, 0)

    queries = pl.BlockSpec((1, C, LANES), lambda b, k, i, g, *_: (b, query(i), head(k, i, g)))
    keys = pl.BlockSpec((1, C, LANES), lambda b, k, i, g, *_: (b, jnp.minimum(i, last), k))
    d_keys = pl.BlockSpec((1, C, LANES), lambda b, k, i, g, *_: (b, leaving(i), k))
    numbers = pl.BlockSpec((1, 1, 1, C // LANES, LANES), lambda b, k, i, g, *_: (b, head(k, i, g), query(i), 0, 0))
    inputs = [q_BTM, k_BSM, v_BSM, d_out_BTM, out_BTM, sums]
    specs = [queries, keys, keys, queries, queries, numbers]
    ring = (plan.slots, C, LANES)
    scratch = [pltpu.VMEM(ring, k_BSM.dtype), pltpu.VMEM(ring, v_BSM.dtype), *(pltpu.VMEM(ring, jnp.float32),) * 2]
    scratch += [pltpu.VMEM((C, LANES), q_BTM.dtype), pltpu.VMEM((C, LANES), jnp.float32)]
    scratch += [pltpu.VMEM((1, C), jnp.float32)] * 2
    if angles_BSH is not None:
        inputs += [angles_BSH, angles_BSH]
        specs += [
            pl.BlockSpec((1, C, LANES), lambda b, k, i, g, *_: (b, jnp.minimum(i, last), 0)),
            pl.BlockSpec((1, C, LANES), lambda b, k, i, g, *_: (b, leaving(i), 0)),
        ]
    bounds: tuple[jax.Array, ...] = ()
    if segments is not None:
        inputs.append(segments[0])
        specs.append(pl.BlockSpec((1, 1, C // LANES, LANES), lambda b, k, i, g, *_: (b, jnp.minimum(i, last), 0, 0)))
        scratch += [pltpu.VMEM(ring, jnp.float32), pltpu.VMEM((1, C), jnp.float32)]
        bounds = segments[1:]
    kernel = functools.partial(
        _kernel, plan=plan, scale=scale, rotates=angles_BSH is not None, segmented=segments is not None
    )
    gradients = [(queries, q_BTM), (d_keys, k_BSM), (d_keys, v_BSM)]
    return pl.pallas_call(
        kernel,
        grid_spec=pltpu.PrefetchScalarGridSpec(
            num_scalar_prefetch=len(bounds),
            grid=(B, kv_heads, plan.key_blocks + plan.reach, group),
            in_specs=specs,
            out_specs=[spec for spec, _ in gradients],
            scratch_shapes=scratch,
        ),
        out_shape=[jax.ShapeDtypeStruct(x.shape, x.dtype) for _, x in gradients],
        compiler_params=pltpu.CompilerParams(
            dimension_semantics=("parallel", "parallel", "arbitrary", "arbitrary"), vmem_limit_bytes=VMEM_BYTES
        ),
        name="window_attention_backward",
        interpret=interpret,
    )(*bounds, *inputs)


def _kernel(*references: Any, plan: WindowPlan, scale: float, rotates: bool, segmented: bool) -> None:
    refs: list[Any] = list(references)
    bounds: Any = (refs.pop(0), refs.pop(0)) if segmented else None
    q_ref, k_ref, v_ref, d_out_ref, out_ref, sums_ref = refs[:6]
    del refs[:6]
    angles: Any = (refs.pop(0), refs.pop(0)) if rotates else (None, None)
    angles_ref, leaving_angles_ref = angles
    ids_ref: Any = refs.pop(0) if segmented else None
    d_q_ref, d_k_ref, d_v_ref, k_ring, v_ring, d_k_ring, d_v_ring, q_scaled, d_q, sums, inner, *rest = refs
    ids: Any = rest if segmented else (None, None)
    ids_ring, ids_columns = ids
    b, i, g = pl.program_id(0), pl.program_id(2), pl.program_id(3)
    if bounds is not None:
        bounds = (bounds[0].at[b], bounds[1].at[b])
    here = jax.lax.rem(i, plan.slots)

    @pl.when((g == 0) & (i < plan.key_blocks))
    def _() -> None:
        k = rotated(k_ref[0], angles_ref[0]) if rotates else k_ref[0]
        k_ring[here] = k.astype(k_ring.dtype)
        v_ring[here] = v_ref[0]
        d_k_ring[here] = jnp.zeros_like(d_k_ring[here])
        d_v_ring[here] = jnp.zeros_like(d_v_ring[here])
        if segmented:
            ids_ring[here] = along_rows(ids_ref[0, 0])
            ids_columns[...] = along_columns(ids_ref[0, 0])

    def attend(slot: Any, start: int, keys: int, first: int, last: int, distance: int | None, compares: bool) -> None:
        """A strip of keys with the queries from `first` to `last`; a block without distance is all visible."""
        rows, columns = pl.ds(start, keys), pl.ds(first, last - first)
        k, v, q, d_out = k_ring[slot, rows], v_ring[slot, rows], q_scaled[columns], d_out_ref[0, columns]
        scores = product(k, q, ROWS_BY_ROWS)
        if distance is not None or compares:

            def same(column: int) -> jax.Array:
                lanes = ids_columns[:, first + column : first + column + LANES]
                return ids_ring[slot, rows] == jnp.broadcast_to(lanes, (keys, LANES))

            query = first + (plan.full if distance is None else distance) * plan.block
            scores = mask_scores(scores, plan, query, start, 1, same if compares else None)
        weights = jnp.exp2(scores - sums[:, columns])
        d_scores = (weights * (product(v, d_out, ROWS_BY_ROWS) - inner[:, columns])).astype(q.dtype)
        d_v_ring[slot, rows] += product(weights.astype(d_out.dtype), d_out, ROWS_BY_COLUMNS)
        d_k_ring[slot, rows] += product(d_scores, q, ROWS_BY_COLUMNS)
        d_q[columns] += product(d_scores, k, COLUMNS_BY_COLUMNS)

    @pl.when((i >= plan.offset) & (i < plan.key_blocks))
    def _() -> None:
        q = rotated(q_ref[0], angles_ref[0]) if rotates else q_ref[0].astype(jnp.float32)
        q_scaled[...] = (q * (scale * LOG2_E)).astype(q_scaled.dtype)
        sums[...] = along_columns(sums_ref[0, 0, 0])
        products = d_out_ref[0].astype(jnp.float32) * out_ref[0].astype(jnp.float32)
        inner[...] = row_sums(products, exact=out_ref.dtype == jnp.float32)
        d_q[...] = jnp.zeros_like(d_q)

        def edge(slot: Any, distance: int, compares: bool) -> None:
            for strip, first, last in plan.pieces(distance, by_query=False):
                attend(slot, strip, plan.edge, first, last, distance, compares)

        def full(slot: Any, compares: bool) -> None:
            for start in range(0, plan.block, plan.chunk):
                attend(slot, start, plan.chunk, 0, plan.block, None, compares)

        visit_blocks(plan, bounds, i, edge, full)

        d_q_turned = rotated(d_q[...], angles_ref[0], backwards=True) if rotates else d_q[...]
        d_q_ref[0] = (d_q_turned * scale).astype(d_q_ref.dtype)

    @pl.when((g == pl.num_programs(3) - 1) & (i >= plan.reach))
    def _() -> None:
        slot = jax.lax.rem(i - plan.reach, plan.slots)
        # The queries were multiplied by the scale and by log2 e; the keys' gradient wants the scale alone.
        d_k = d_k_ring[slot] * (1 / LOG2_E)
        d_k = rotated(d_k, leaving_angles_ref[0], backwards=True) if rotates else d_k
        d_k_ref[0] = d_k.astype(d_k_ref.dtype)
        d_v_ref[0] = d_v_ring[slot].astype(d_v_ref.dtype)
