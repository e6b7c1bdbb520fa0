"""The attention kernels that `tpu_kernels.py` compares, each with what its grid does.

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
        """Of a query and a key, over all query heads."""
        return self.query_heads * int(np.minimum(np.arange(self.sequence) + 1, self.window).sum())

    def blocks_needed(self, block_q: int, block_kv: int) -> int:
        """Blocks of the score matrix that hold a visible pair, over all query heads."""
        first = np.arange(0, self.sequence, block_q)[:, None]
        keys = np.arange(0, self.sequence, block_kv)[None, :]
        visible = (keys <= first + block_q - 1) & (keys + block_kv - 1 > first - self.window)
        return self.query_heads * int(visible.sum())

    def least_bytes(self, query_tensors: int, kv_tensors: int, statistics: int) -> int:
        """With each bfloat16 tensor of queries' or keys' shape and each float32 number a query moved once."""
        rows = query_tensors * self.query_heads + kv_tensors * self.kv_heads
        return self.sequence * (rows * self.head_size * 2 + statistics * self.query_heads * 4)


SHAPES = {
    f"{name} {sequence}": Shape(size.num_heads, size.num_kv_heads, sequence)
    for name, size in SIZES.items()
    for sequence in (4096, 16384)
}


# The block of an operand that a grid step needs, an array or number a coordinate; or the bytes a kernel copies itself.
Blocks = Sequence[np.ndarray | int] | int


@dataclasses.dataclass(frozen=True)
class Launch:
    """A call of one Pallas kernel."""

    kernel: str
    grid: tuple[int, ...]
    branches: Sequence[tuple[str, int]]  # each `pl.when` in program order, with how often it is taken
    operands: Mapping[
        int, Blocks
    ]  # inputs and then outputs, numbered as the listing does; one not named stays where it is
    visited: int  # blocks of the score matrix, over all query heads
    needed: int
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
    """JAX's splash attention's backward: one kernel for all gradients, or one for dk and dv and one for dq."""
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
    # q, do, dq; k, v, dk, dv; logsumexp and the row sums of out * do.
    return Subject(gradients, (queries, keys, keys, queries), launches, flops, shape.least_bytes(3, 4, 2))


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
        visited=visited,
        needed=shape.blocks_needed(block, block),
        flops=visited * products * 2 * block**2 * shape.head_size,
        split=split,
    )


@dataclasses.dataclass(frozen=True)
class Case:
    """A row of the table: a contender with its settings."""

    name: str
    contender: Callable[..., Subject]
    settings: Mapping[str, Any]

    def subject(self, shape: Shape) -> Subject:
        """What the case compiles at a shape."""
        return self.contender(shape, **self.settings)


CASES = {
    case.name: case
    for case in (
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
    """For `tpu_compiler.py`, which compiles in a process of its own."""
    chosen = CASES[case].subject(SHAPES[shape])
    return chosen.function, chosen.arguments
