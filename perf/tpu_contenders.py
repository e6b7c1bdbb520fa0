"""The attention kernels that `tpu_kernels.py` compares, each with a description of its grid.

A contender is a function of a shape and of its own settings that returns a `Subject`: what to compile, and for every
Pallas kernel in it the grid, how often each `pl.when` is taken and which block of which operand a step needs. A `Case`
added to `CASES` is a row of the table.
"""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from configs.starcoder2 import SIZES, WINDOW

HEAD_SIZE = 128


@dataclasses.dataclass(frozen=True)
class Shape:
    """Causal attention of one row: bfloat16, every query sees itself and the `window` - 1 positions before it."""

    query_heads: int
    kv_heads: int
    sequence: int
    window: int = WINDOW
    head_size: int = HEAD_SIZE

    @property
    def visible_pairs(self) -> int:
        """How many pairs of a query and a key are visible, over all query heads."""
        return self.query_heads * int(np.minimum(np.arange(self.sequence) + 1, self.window).sum())

    def blocks_needed(self, block_q: int, block_kv: int) -> int:
        """Blocks of the score matrix that hold a visible pair, over all query heads."""
        first = np.arange(0, self.sequence, block_q)[:, None]
        keys = np.arange(0, self.sequence, block_kv)[None, :]
        visible = (keys <= first + block_q - 1) & (keys + block_kv - 1 > first - self.window)
        return self.query_heads * int(visible.sum())

    def least_bytes(self, query_tensors: int, kv_tensors: int, statistics: int) -> int:
        """If each bfloat16 tensor of queries' or keys' shape and each float32 value per query is moved once."""
        rows = query_tensors * self.query_heads + kv_tensors * self.kv_heads
        return self.sequence * (rows * self.head_size * 2 + statistics * self.query_heads * 4)


SHAPES = {
    f"{name} {sequence}": Shape(size.num_heads, size.num_kv_heads, sequence)
    for name, size in SIZES.items()
    for sequence in (4096, 16384)
}


# The block of an operand that a grid step needs, by coordinate; or the bytes that a kernel copies itself.
Blocks = Sequence[np.ndarray | int] | int


@dataclasses.dataclass(frozen=True)
class Launch:
    """A call of one Pallas kernel."""

    kernel: str
    grid: tuple[int, ...]
    branches: Sequence[tuple[str, int]]  # each `pl.when` in program order, with how often it is taken
    operands: Mapping[
        int, Blocks
    ]  # inputs, then outputs, numbered as in the listing; those not named stay where they are
    blocks: Mapping[int, tuple[int, int]]  # side of a block of the score matrix -> visited and needed, over all heads
    flops: int  # of the visited blocks
    split: bool = False  # over the cores of a device: the grid has a parallel dimension


@dataclasses.dataclass(frozen=True)
class Subject:
    """A function to compile, its abstract arguments, and its kernels; kernels without a launch are not of interest."""

    function: Callable
    arguments: tuple[Any, ...]
    launches: Sequence[Launch]
    visible_flops: int
    least_bytes: int
    bytes_around: int = 0  # that XLA moves for the parts of the call that are outside the kernels


def _splash(shape: Shape, settings: Mapping[str, Any], heads: int, save_residuals: bool = False) -> Any:
    from jax.experimental.pallas.ops.tpu.splash_attention import splash_attention_kernel as kernel
    from jax.experimental.pallas.ops.tpu.splash_attention import splash_attention_mask as masks

    mask = masks.LocalMask((shape.sequence, shape.sequence), (shape.window - 1, 0), 0)
    return kernel.make_splash_mha(
        masks.MultiHeadMask([mask] * heads),
        block_sizes=kernel.BlockSizes(**settings),
        head_shards=1,
        q_seq_shards=1,
        save_residuals=save_residuals,
    )


def _tensors(shape: Shape) -> tuple[Any, Any]:
    import jax
    import jax.numpy as jnp

    def tensor(heads: int) -> Any:
        return jax.ShapeDtypeStruct((heads, shape.sequence, shape.head_size), jnp.bfloat16)

    return tensor(shape.query_heads), tensor(shape.kv_heads)


def _steps(grid: tuple[int, ...]) -> list[np.ndarray]:
    return [axis.reshape(-1) for axis in np.indices(grid)]


def _by_query_block(
    shape: Shape, kernel: str, block: int, products: int, mask: Any, others: Sequence[int], split: bool = False
) -> Launch:
    """A launch over (query head, query block, key block); each of `others` gives a step its query block."""
    active, following = np.asarray(mask.block_mask)[0], np.asarray(mask.data_next)[0].astype(int)
    grid = (shape.query_heads, *active.shape)
    head, i, j = _steps(grid)
    kv = (head // (shape.query_heads // shape.kv_heads), following[i, j])
    operands = {2: (head, i), 3: kv, 4: kv} | dict.fromkeys(others, (head, i))
    return _launch(shape, kernel, block, products, active, grid, grid[0] * grid[1], operands, split)


def splash_forward(shape: Shape, block: int, compute: int) -> Subject:
    """JAX's splash attention as training calls it: with the logsumexp, which it writes 128 times over."""
    settings = {"block_q": block, "block_kv": block, "block_kv_compute": compute}
    mask = _splash(shape, settings, heads=1).fwd_mask_info
    launch = _by_query_block(shape, "splash_mha_fwd_residuals", block, 2, mask, (5, 9, 10), split=True)
    queries, keys = _tensors(shape)
    function = _splash(shape, settings, shape.query_heads, save_residuals=True)
    flops = 2 * 2 * shape.head_size * shape.visible_pairs
    return Subject(function, (queries, keys, keys), [launch], flops, shape.least_bytes(2, 2, 1))


def splash_backward(shape: Shape, block: int, compute: int, fused: bool) -> Subject:
    """JAX's splash attention's backward: one kernel for all gradients, or one for dk and dv and one for dq.

    Before it, XLA computes the row sums of out * d_out, one float32 per query; after it, it adds up the fused kernel's
    gradients of the queries, one tensor per key block. The traffic of both counts; the output of the forward pass
    counts among the least bytes of any backward pass.
    """
    settings = {"block_q": block, "block_kv": block, "block_q_dkv": block, "block_kv_dkv": block}
    settings |= {"block_kv_dkv_compute": compute, "use_fused_bwd_kernel": fused}
    settings |= {} if fused else {"block_q_dq": block, "block_kv_dq": block}
    masks = _splash(shape, settings, heads=1)
    launches = [_splash_dkv(shape, block, masks.dkv_mask_info, 11 + (compute != block) if fused else None)]
    if not fused:
        launches.append(
            _by_query_block(shape, "splash_mha_dq_no_residuals", block, 3, masks.dq_mask_info, (5, 6, 7, 8, 10))
        )
    attention = _splash(shape, settings, shape.query_heads)

    def gradients(q: Any, k: Any, v: Any, cotangent: Any) -> Any:
        import jax

        return jax.vjp(attention, q, k, v)[1](cotangent)

    queries, keys = _tensors(shape)
    flops = 5 * 2 * shape.head_size * shape.visible_pairs
    around = shape.least_bytes(2, 0, 1)
    if fused:
        around += shape.least_bytes(shape.sequence // block + 1, 0, 0)
    return Subject(gradients, (queries, keys, keys, queries), launches, flops, _least_backward(shape), around)


def _least_backward(shape: Shape) -> int:
    """The bytes of q, out, d_out and d_q; k, v, d_k and d_v; one statistic per query."""
    return shape.least_bytes(4, 4, 1)


def _splash_dkv(shape: Shape, block: int, mask: Any, dq: int | None) -> Launch:
    """The launch over (key block, query head, query block), whose output `dq` is a tensor for each key block."""
    active, following = np.asarray(mask.block_mask)[0], np.asarray(mask.data_next)[0].astype(int)
    grid = (active.shape[1], shape.query_heads, active.shape[0])
    j, head, i = _steps(grid)
    kv, query = (head // (shape.query_heads // shape.kv_heads), j), (head, following[i, j])
    operands: dict[int, Blocks] = {2: query, 3: kv, 4: kv, 5: query, 6: query, 7: query, 8: (following[i, j],)}
    dk = 11
    if dq is not None:
        operands[dq] = (j, head, i)
        dk = dq + 1
    operands |= {dk: kv, dk + 1: kv}
    products = 4 if dq is None else 5
    name = "splash_mha_dkv_no_residuals"
    return _launch(shape, name, block, products, active, grid, grid[0] * shape.kv_heads, operands, split=False)


def _launch(
    shape: Shape,
    kernel: str,
    block: int,
    products: int,
    active: np.ndarray,
    grid: tuple[int, ...],
    ends: int,
    operands: Mapping[int, Blocks],
    split: bool,
) -> Launch:
    visited = shape.query_heads * int((active > 0).sum())
    return Launch(
        kernel=kernel,
        grid=grid,
        branches=[("first", ends), ("block", visited), ("last", ends)],
        operands=operands,
        blocks={block: (visited, shape.blocks_needed(block, block))},
        flops=visited * products * 2 * block**2 * shape.head_size,
        split=split,
    )


def _plan(shape: Shape, block: int, **pieces: int) -> Any:
    """The plan of sc2jax's kernels, with the pieces asked for."""
    from sc2jax.kernels.window_plan import WindowPlan

    blocks = shape.sequence // block
    return WindowPlan(block, blocks, blocks, shape.window, **pieces)


def _window_arguments(shape: Shape, rotates: bool, segmented: bool) -> tuple[Any, Any, Any, Any]:
    """Queries and keys with their heads side by side, as projections leave them; angles and segment ids or None."""
    import jax
    import jax.numpy as jnp

    def tensor(width: int, kind: Any) -> Any:
        return jax.ShapeDtypeStruct((1, shape.sequence, width), kind)

    queries = tensor(shape.query_heads * shape.head_size, jnp.bfloat16)
    keys = tensor(shape.kv_heads * shape.head_size, jnp.bfloat16)
    angles = tensor(shape.head_size, jnp.float32) if rotates else None
    ids = jax.ShapeDtypeStruct((1, shape.sequence), jnp.int32) if segmented else None
    return queries, keys, angles, ids


def _window_branches(shape: Shape, plan: Any, segmented: bool) -> list[tuple[str, int]]:
    """What both kernels do for a query block of a head: the diagonal, the loop over full blocks, the edges.

    With segments each block has two programs; a row of one segment takes the one that compares nothing.
    """
    heads, blocks = shape.query_heads, range(plan.query_blocks)

    def block(name: str, times: int) -> list[tuple[str, int]]:
        return [(name, times), (f"{name}, segments", 0)] if segmented else [(name, times)]

    body = heads * plan.query_blocks
    branches = [("query block", body), *(block("diagonal", body) if segmented else [])]
    if plan.full:
        turns = heads * sum(min(plan.full, i) for i in blocks)
        branches += [("any full block", heads * sum(i > 0 for i in blocks)), ("full block", turns)]
        branches += block("full block", turns) if segmented else []
    for distance in plan.edges:
        times = heads * sum(i >= distance for i in blocks)
        branches += [(f"edge {distance}", times), *(block(f"edge {distance}", times) if segmented else [])]
    return branches


def _window_launch(
    shape: Shape,
    plan: Any,
    name: str,
    steps: int,
    branches: Sequence[tuple[str, int]],
    operands: Sequence[Blocks],
    products: int,
    segmented: bool,
) -> Launch:
    """A launch over (row, key-value head, key block, query head of the group)."""
    heads, edge = shape.query_heads, plan.edge
    pairs = heads * plan.visited_pairs(by_query=products == 2)
    visited = heads * sum(min(i, plan.reach) + 1 for i in range(plan.query_blocks))
    return Launch(
        kernel=name,
        grid=(1, shape.kv_heads, steps, heads // shape.kv_heads),
        branches=branches,
        operands=dict(enumerate(operands, start=2 if segmented else 0)),  # the bounds of the segments come first
        blocks={
            plan.block: (visited, shape.blocks_needed(plan.block, plan.block)),
            edge: (pairs // edge**2, shape.blocks_needed(edge, edge)),
        },
        flops=pairs * products * 2 * shape.head_size,
        split=True,
    )


def window_forward(shape: Shape, rotates: bool, segmented: bool, block: int = 1024, **pieces: int) -> Subject:
    """sc2jax's forward kernel, with the statistics that training keeps."""
    from sc2jax.kernels.window_attention import _forward

    plan = _plan(shape, block, **pieces)
    group = shape.query_heads // shape.kv_heads
    _, k, i, g = _steps((1, shape.kv_heads, plan.key_blocks, group))
    head = k * group + g
    operands: list[Blocks] = [(i, head), (i, k), (i, k), *[(i,)] * (rotates + segmented), (i, head), (head, i)]
    fills = shape.kv_heads * plan.key_blocks
    branches = [("fill", fills), *_window_branches(shape, plan, segmented)]
    launch = _window_launch(shape, plan, "window_attention_forward", plan.key_blocks, branches, operands, 2, segmented)
    queries, keys, angles, ids = _window_arguments(shape, rotates, segmented)

    def forward(q: Any, k: Any, v: Any, angles: Any, ids: Any) -> Any:
        out, saved = _forward(q, k, v, angles, ids, plan, shape.kv_heads, shape.head_size**-0.5, False)
        return out, saved[-1]

    flops = 2 * 2 * shape.head_size * shape.visible_pairs
    return Subject(forward, (queries, keys, keys, angles, ids), [launch], flops, shape.least_bytes(2, 2, 1))


def window_backward(shape: Shape, rotates: bool, segmented: bool, block: int = 1024, **pieces: int) -> Subject:
    """sc2jax's backward kernel: all gradients at once, with the row sums of out * d_out."""
    import jax
    import jax.numpy as jnp

    from sc2jax.kernels.window_attention import _backward, _segments

    plan = _plan(shape, block, **pieces)
    group, last = shape.query_heads // shape.kv_heads, plan.key_blocks - 1
    steps = plan.key_blocks + plan.reach
    _, k, i, g = _steps((1, shape.kv_heads, steps, group))
    entering, leaving = np.minimum(i, last), np.maximum(i - plan.reach, 0)
    head = k * group + np.where(i > last, group - 1, g)
    query, keys_in, keys_out = (entering, head), (entering, k), (leaving, k)
    operands: list[Blocks] = [query, keys_in, keys_in, query, query, query]
    operands += [(entering,), (leaving,)] if rotates else []
    operands += [(entering,)] if segmented else []
    operands += [query, keys_out, keys_out]
    ends = shape.kv_heads * plan.key_blocks
    branches = [("fill", ends), *_window_branches(shape, plan, segmented), ("leave", ends)]
    launch = _window_launch(shape, plan, "window_attention_backward", steps, branches, operands, 5, segmented)
    queries, keys, angles, ids = _window_arguments(shape, rotates, segmented)
    sums = jax.ShapeDtypeStruct((1, shape.query_heads, plan.query_blocks, block // 128, 128), jnp.float32)

    def backward(q: Any, k: Any, v: Any, angles: Any, ids: Any, out: Any, sums: Any, d_out: Any) -> Any:
        saved = (q, k, v, angles, _segments(ids, plan), out, sums)
        return _backward(plan, shape.kv_heads, shape.head_size**-0.5, False, saved, d_out)

    flops = 5 * 2 * shape.head_size * shape.visible_pairs
    arguments = (queries, keys, keys, angles, ids, queries, sums, queries)
    return Subject(backward, arguments, [launch], flops, _least_backward(shape))


@dataclasses.dataclass(frozen=True)
class Case:
    """A row of the table: a contender with its settings."""

    name: str
    contender: Callable[..., Subject]
    settings: Mapping[str, Any]

    def subject(self, shape: Shape) -> Subject:
        """What the case compiles at a shape."""
        return self.contender(shape, **self.settings)


WINDOW_SIZES = (
    {"block": 512},
    {"edge": 128},
    {"edge": 512},
    {"chunk": 128},
    {"chunk": 256},
    {"chunk": 1024},
    {"edge": 512, "chunk": 256},
)
"""What the sizes in a window plan were chosen among."""


def _window_cases() -> list[Case]:
    variants = {
        "": {},
        " rotation": {"rotates": True},
        " segments": {"segmented": True},
        " rotation and segments": {"rotates": True, "segmented": True},
    }
    sizes = {" with " + ", ".join(f"{name} {size}" for name, size in given.items()): given for given in WINDOW_SIZES}
    return [
        Case(f"window {way}{variant}", contender, {"rotates": False, "segmented": False} | settings)
        for way, contender in (("forward", window_forward), ("backward", window_backward))
        for variant, settings in (variants | sizes).items()
    ]


CASES = {
    case.name: case
    for case in (
        *_window_cases(),
        *(
            Case(f"splash forward {block}/{compute}", splash_forward, {"block": block, "compute": compute})
            for block, compute in ((1024, 1024), (1024, 512), (512, 512))
        ),
        *(
            Case(
                f"splash {'fused' if fused else 'split'} backward {block}/{compute}",
                splash_backward,
                {"block": block, "compute": compute, "fused": fused},
            )
            for fused in (True, False)
            for block, compute in ((1024, 1024), (1024, 512), (512, 512))
        ),
    )
}


def subject(case: str, shape: str) -> tuple[Callable, tuple[Any, ...]]:
    """For `tpu_compiler.py`, which compiles in its own process."""
    chosen = CASES[case].subject(SHAPES[shape])
    return chosen.function, chosen.arguments
