"""The calls of sc2jax's own attention kernels (docs/kernels.md): their grids, branches and operands.

Rows of one segment are assumed: with segment ids each block has two programs, and such a row takes the one that
compares nothing. Rows of several segments compare ids where one ends, and skip blocks that have none in common.
"""

import functools
import math
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from sc2jax.kernels.window_backward import window_backward
from sc2jax.kernels.window_forward import window_forward
from sc2jax.kernels.window_plan import LANES, WindowPlan, plan_window
from sc2jax.plan.kernel_call import ELEMENT_TYPES, Array, KernelCall, UnknownKernelError
from sc2jax.plan.kernel_launch import Attention, Blocks, Launch, Subject, grid_steps
from sc2jax.plan.kernel_schedule import Branch

FORWARD, BACKWARD = "window_attention_forward", "window_attention_backward"
PRODUCTS = {FORWARD: 2, BACKWARD: 5}
"""Matrix products of a pair of blocks."""


def read_call(
    kernel: str, operands: Sequence[Array], results: Sequence[Array], window: int, head_size: int
) -> KernelCall:
    """The call with these operands: bounds of segments, queries, keys, values, what else a kernel takes, angles, ids.

    Raises:
        UnknownKernelError: the kernels as they are now would not have these operands.
    """
    segmented = operands[0].element_type == "s32"
    tensors = operands[2:] if segmented else operands
    (rows, queries, width), (_, keys, kv_width) = tensors[0].shape, tensors[1].shape
    dtype = ELEMENT_TYPES[tensors[0].element_type]
    shape = Attention(width // LANES, kv_width // LANES, queries, keys, window, head_size, rows, dtype)
    rotates = len(tensors) - segmented > {FORWARD: 3, BACKWARD: 6}[kernel]
    call = KernelCall(kernel, shape, segmented, rotates)
    described = describe(call)
    expected = {(leaf.dtype.name, leaf.shape) for leaf in jax.tree.leaves(described.arguments)}
    found = {(ELEMENT_TYPES.get(array.element_type), array.shape) for array in operands}
    number = len(tensors) + len(results)
    if found != expected or number != len(described.launch(kernel).operands):
        raise UnknownKernelError(f"{call} would have {sorted(expected)}")
    return call


def describe(call: KernelCall) -> Subject:
    """The call as `window_attention` makes it."""
    shape = call.attention
    plan = plan_window(shape.queries, shape.keys, shape.window)
    kernel = {FORWARD: forward_call, BACKWARD: backward_call}[call.kernel]
    return kernel(shape, plan, call.rotates, call.segmented)


def forward_call(shape: Attention, plan: WindowPlan, rotates: bool, segmented: bool) -> Subject:
    """The forward kernel, with the statistics that training keeps."""
    group = shape.query_heads // shape.kv_heads
    grid = (shape.rows, shape.kv_heads, plan.key_blocks, group)
    b, k, i, g = grid_steps(grid)
    query = np.maximum(i - plan.offset, 0)
    head = k * group + np.where(i >= plan.offset, g, 0)
    operands: list[Blocks] = [(b, query, head), (b, i, k), (b, i, k), *[(b, i)] * (rotates + segmented)]
    operands += [(b, query, head), (b, head, query)]
    fills, steps = shape.rows * shape.kv_heads * plan.key_blocks, math.prod(grid)
    branches = [_when("fill", fills, steps), *_branches(shape, plan, segmented, steps)]
    launch = _launch(shape, plan, FORWARD, grid, branches, operands, segmented)
    queries, keys, angles, segments, _ = _arrays(shape, plan, rotates, segmented)
    return Subject(_kernel(window_forward, shape, plan), (queries, keys, keys, angles, segments), [launch])


def backward_call(shape: Attention, plan: WindowPlan, rotates: bool, segmented: bool) -> Subject:
    """The backward kernel: all gradients at once, with the row sums of out * d_out."""
    group, last = shape.query_heads // shape.kv_heads, plan.key_blocks - 1
    grid = (shape.rows, shape.kv_heads, plan.key_blocks + plan.reach, group)
    b, k, i, g = grid_steps(grid)
    entering, leaving = np.minimum(i, last), np.maximum(i - plan.reach, 0)
    head = k * group + np.where(i < plan.offset, 0, np.where(i > last, group - 1, g))
    query = (b, np.clip(i - plan.offset, 0, plan.query_blocks - 1), head)
    keys_in, keys_out = (b, entering, k), (b, leaving, k)
    operands: list[Blocks] = [query, keys_in, keys_in, query, query, query]
    operands += [(b, entering), (b, leaving)] if rotates else []
    operands += [(b, entering)] if segmented else []
    operands += [query, keys_out, keys_out]
    ends, steps = shape.rows * shape.kv_heads * plan.key_blocks, math.prod(grid)
    branches = [_when("fill", ends, steps), *_branches(shape, plan, segmented, steps), _when("leave", ends, steps)]
    launch = _launch(shape, plan, BACKWARD, grid, branches, operands, segmented)
    queries, keys, angles, segments, sums = _arrays(shape, plan, rotates, segmented)
    arguments = (queries, keys, keys, queries, queries, sums, angles, segments)
    return Subject(_kernel(window_backward, shape, plan), arguments, [launch])


def _kernel(kernel: Callable, shape: Attention, plan: WindowPlan) -> Callable:
    scale = shape.head_size**-0.5
    return functools.partial(kernel, plan=plan, kv_heads=shape.kv_heads, scale=scale, interpret=False)


def _arrays(shape: Attention, plan: WindowPlan, rotates: bool, segmented: bool) -> tuple[Any, Any, Any, Any, Any]:
    """Queries and keys, heads side by side; angles and segments or None; the statistics of each query."""
    array = jax.ShapeDtypeStruct
    queries = array((shape.rows, shape.queries, shape.query_heads * LANES), shape.dtype)
    keys = array((shape.rows, shape.keys, shape.kv_heads * LANES), shape.dtype)
    angles = array((shape.rows, shape.keys, LANES), jnp.float32) if rotates else None
    ids = array((shape.rows, plan.key_blocks, plan.block // LANES, LANES), jnp.float32)
    bounds = array((shape.rows, plan.key_blocks), jnp.int32)
    sums = array((shape.rows, shape.query_heads, plan.query_blocks, plan.block // LANES, LANES), jnp.float32)
    return queries, keys, angles, (ids, bounds, bounds) if segmented else None, sums


def _branches(shape: Attention, plan: WindowPlan, segmented: bool, steps: int) -> list[Branch]:
    """What both kernels do for a query block of a head: the diagonal, the loop over full blocks, the edges."""
    heads, blocks = shape.rows * shape.query_heads, range(plan.offset, plan.key_blocks)

    def block(name: str, times: int) -> list[Branch]:
        return [Branch(name, times), Branch(f"{name}, segments", 0)] if segmented else []

    body = heads * plan.query_blocks
    branches = [_when("query block", body, steps), *block("diagonal", body)]
    if plan.full:
        turns = heads * sum(min(plan.full, i) for i in blocks)
        branches += [_when("any full block", heads * sum(i > 0 for i in blocks), body)]
        branches += [Branch("full blocks", turns, loop=True), *block("full block", turns)]
    for distance in plan.edges:
        times = heads * sum(i >= distance for i in blocks)
        branches += [_when(f"edge {distance}", times, body), *block(f"edge {distance}", times)]
    return branches


def _when(name: str, times: int, around: int) -> Branch:
    """A branch that the place in the grid decides; `around` says how often what it is in is executed."""
    return Branch(name, times, certain=times == around)


def _launch(
    shape: Attention,
    plan: WindowPlan,
    name: str,
    grid: tuple[int, ...],
    branches: Sequence[Branch],
    operands: Sequence[Blocks],
    segmented: bool,
) -> Launch:
    """A launch over (row, key-value head, key block, query head of the group)."""
    heads, edge, products = shape.rows * shape.query_heads, plan.edge, PRODUCTS[name]
    pairs = heads * plan.visited_pairs(by_query=name == FORWARD)
    visited = heads * sum(min(i, plan.reach) + 1 for i in range(plan.offset, plan.key_blocks))
    return Launch(
        kernel=name,
        grid=grid,
        parallel=2,
        branches=branches,
        operands=dict(enumerate(operands, start=2 if segmented else 0)),  # the bounds of the segments come first
        blocks={
            str(plan.block): (visited, shape.blocks_needed(plan.block, plan.block)),
            str(edge): (pairs // edge**2, shape.blocks_needed(edge, edge)),
        },
        flops=pairs * products * 2 * LANES,
        visible_flops=shape.visible_pairs * products * 2 * shape.head_size,
    )
