"""The calls of JAX's splash attention, which peers use: grids, branches and operands of its kernels.

Described is `make_splash_mha` of `jax/experimental/pallas/ops/tpu/splash_attention/splash_attention_kernel.py` with a
mask that a function computes, mapped over the rows of a batch, as sc2jax's `splash_attention` and MaxText call it. The
rows become a parallel dimension of the grid; the query heads are one in the forward kernel alone.
"""

import dataclasses
import math
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from sc2jax.plan.kernel_call import ELEMENT_TYPES, Array, KernelCall, SplashSettings, UnknownKernelError
from sc2jax.plan.kernel_launch import Attention, Blocks, Launch, Subject, grid_steps
from sc2jax.plan.kernel_schedule import Branch

FORWARD, D_KEYS, D_QUERIES = "fwd", "dkv", "dq"
HEAD_SIZE_LAST = 1
"""`QKVLayout.HEAD_DIM_MINOR`."""


def kernel_name(kernel: str, segmented: bool, saves: bool = False) -> str:
    """What splash calls its kernel; `saves` where it keeps the statistics for a backward pass."""
    return f"splash_mha_{kernel}{'_segmented' if segmented else ''}{'' if saves else '_no'}_residuals"


_NAME = re.compile(r"splash_mha_(?P<kernel>fwd|dkv|dq)(?P<segmented>_segmented)?(?P<without>_no)?_residuals")
_NOTED = {
    FORWARD: ("block_q", "block_kv", "block_kv_compute"),
    D_KEYS: ("block_q_dkv", "block_kv_dkv", "block_kv_dkv_compute"),
    D_QUERIES: ("block_q_dq", "block_kv_dq", "block_kv_dq"),
}
"""What the kernels note of their blocks: queries, keys, keys computed at a time."""


def read_call(
    kernel: str, operands: Sequence[Array], results: Sequence[Array], window: int, metadata: str
) -> KernelCall:
    """The call with these operands: which blocks are visited, queries, keys, values, the rest.

    Raises:
        UnknownKernelError: the kernels as they are described would not have these operands.
    """
    name = _NAME.fullmatch(kernel)
    if name is None:
        raise UnknownKernelError("of splash attention the kernels of make_splash_mha alone are known")
    q, k = operands[2:4]
    if len(q.shape) not in (3, 4) or len(k.shape) != len(q.shape):
        raise UnknownKernelError("queries and keys are not (rows, heads, positions, head size), without rows if one")
    rows = math.prod(q.shape[:-3])  # jax.vmap over a single row leaves none
    query_heads, queries, head_size = q.shape[-3:]
    kv_heads, keys = k.shape[-3:-1]
    shape = Attention(query_heads, kv_heads, queries, keys, window, head_size, rows, ELEMENT_TYPES[q.element_type])
    fused = name["kernel"] == D_KEYS and any(len(array.shape) == len(q.shape) + 1 for array in results)
    block_q, block_kv, block_kv_compute = (_noted(metadata, size) for size in _NOTED[name["kernel"]])
    settings = SplashSettings(block_q, block_kv, block_kv_compute, fused)
    if any(_noted(metadata, f"{operand}_layout") != HEAD_SIZE_LAST for operand in "qkv"):
        raise UnknownKernelError("heads do not lie along the last dimension")
    call = KernelCall(kernel, shape, segmented=name["segmented"] is not None, splash=settings)
    launch = describe(call).launch(kernel)
    blocks = (launch.grid[3], launch.grid[1]) if name["kernel"] == D_KEYS else launch.grid[2:]
    if operands[0].shape != (1, *blocks):
        raise UnknownKernelError(f"its mask has {operands[0].shape} blocks, and a window of {window} makes {blocks}")
    if len(operands) + len(results) != 2 + len(launch.operands):
        raise UnknownKernelError(f"it has {len(operands)} operands and {len(results)} results")
    return call


def _noted(metadata: str, name: str) -> int:
    """A number that splash attention noted for profilers, in JSON within JSON."""
    found = re.search(rf'\\?"{name}\\?": (\d+)', metadata)
    if found is None:
        raise UnknownKernelError(f"its metadata say nothing of {name}")
    return int(found[1])


def describe(call: KernelCall) -> Subject:
    """The call as `jax.vmap` of `make_splash_mha` makes it."""
    name = _NAME.fullmatch(call.kernel)
    assert name is not None and call.splash is not None
    if name["kernel"] == FORWARD:
        return forward_call(call.attention, call.splash, call.segmented, saves=name["without"] is None)
    return backward_call(call.attention, call.splash, call.segmented)


def forward_call(shape: Attention, settings: SplashSettings, segmented: bool, saves: bool) -> Subject:
    """The forward kernel; with the statistics for a backward pass it writes each 128 times over."""
    sizes = {"block_q": settings.block_q, "block_kv": settings.block_kv, "block_kv_compute": settings.block_kv_compute}
    mask = _splash(dataclasses.replace(shape, query_heads=1), sizes).fwd_mask_info
    launch = _by_query_block(shape, FORWARD, settings, mask, segmented, saves)
    q, kv = _tensors(shape)
    function = _over_rows(_splash(shape, sizes, save_residuals=saves))
    return Subject(function, (q, kv, kv, *_segments(shape, segmented)), [launch])


def backward_call(shape: Attention, settings: SplashSettings, segmented: bool) -> Subject:
    """One kernel for all gradients, or one for those of keys and values and one for those of the queries.

    The function runs the forward kernel too, in the same blocks. Around the kernels XLA computes the row sums of
    out * d_out and, after the fused one, adds up its gradients of the queries, one for each key block.
    """
    sizes = {"block_q": settings.block_q, "block_kv": settings.block_kv}
    sizes |= {"block_q_dkv": settings.block_q, "block_kv_dkv": settings.block_kv}
    sizes |= {"block_kv_dkv_compute": settings.block_kv_compute, "use_fused_bwd_kernel": settings.fused}
    sizes |= {} if settings.fused else {"block_q_dq": settings.block_q, "block_kv_dq": settings.block_kv}
    masks = _splash(dataclasses.replace(shape, query_heads=1), sizes)
    launches = [_by_key_block(shape, settings, masks.dkv_mask_info, segmented)]
    if not settings.fused:
        launches.append(_by_query_block(shape, D_QUERIES, settings, masks.dq_mask_info, segmented))
    attention = _over_rows(_splash(shape, sizes))

    def gradients(q: Any, k: Any, v: Any, d_out: Any, *segments: Any) -> Any:
        return jax.vjp(lambda q, k, v: attention(q, k, v, *segments), q, k, v)[1](d_out)

    q, kv = _tensors(shape)
    return Subject(gradients, (q, kv, kv, q, *_segments(shape, segmented)), launches)


def _splash(shape: Attention, sizes: Mapping[str, Any], save_residuals: bool = False) -> Any:
    # Imported here: it takes a while, and few programs use it.
    from jax.experimental.pallas.ops.tpu.splash_attention import splash_attention_kernel as splash
    from jax.experimental.pallas.ops.tpu.splash_attention import splash_attention_mask as masks

    window = (shape.window - 1 if shape.window else None, 0)
    mask = masks.LocalMask((shape.queries, shape.keys), window, offset=shape.keys - shape.queries)
    return splash.make_splash_mha_single_device(
        masks.MultiHeadMask([mask] * shape.query_heads),
        block_sizes=splash.BlockSizes(**sizes),
        save_residuals=save_residuals,
    )


def _over_rows(attention: Any) -> Callable:
    from jax.experimental.pallas.ops.tpu.splash_attention import splash_attention_kernel as splash

    def attend(q: Any, k: Any, v: Any, *segments: Any) -> Any:
        return attention(q, k, v, splash.SegmentIds(*segments)) if segments else attention(q, k, v)

    return jax.vmap(attend)


def _tensors(shape: Attention) -> tuple[jax.ShapeDtypeStruct, jax.ShapeDtypeStruct]:
    """Queries and keys, heads before positions."""

    def tensor(heads: int, positions: int) -> jax.ShapeDtypeStruct:
        return jax.ShapeDtypeStruct((shape.rows, heads, positions, shape.head_size), shape.dtype)

    return tensor(shape.query_heads, shape.queries), tensor(shape.kv_heads, shape.keys)


def _segments(shape: Attention, segmented: bool) -> list[jax.ShapeDtypeStruct]:
    return [jax.ShapeDtypeStruct((shape.rows, n), jnp.int32) for n in (shape.queries, shape.keys) if segmented]


def _by_query_block(
    shape: Attention, kernel: str, settings: SplashSettings, mask: Any, segmented: bool, saves: bool = False
) -> Launch:
    """A launch over (row, query head, query block, key block): the forward kernel, or that of the queries' gradient."""
    active, following = np.asarray(mask.block_mask)[0], np.asarray(mask.data_next)[0].astype(int)
    grid = (shape.rows, shape.query_heads, *active.shape)
    b, head, i, j = grid_steps(grid)
    query = (b, head, i)
    key = (b, head // (shape.query_heads // shape.kv_heads), following[i, j])
    inputs: list[Blocks] = [query, key, key]
    inputs += [(b, i), (b, following[i, j])] if segmented else []
    if kernel == FORWARD:
        inputs += [(i,)]  # the positions of the queries
        outputs = [(b,)] * 3 + [query] * (1 + saves)  # sums in float32, then the results
    else:
        inputs += [query, query, query, (i,)]  # statistics, d_out, the row sums of out * d_out, positions
        outputs = [(b,), query]
    products, parallel = (2, 2) if kernel == FORWARD else (3, 1)
    operands = [*inputs, *outputs]
    ends = shape.rows * shape.query_heads * active.shape[0]
    name = kernel_name(kernel, segmented, saves)
    return _launch(shape, name, settings, products, active, grid, parallel, ends, operands)


def _by_key_block(shape: Attention, settings: SplashSettings, mask: Any, segmented: bool) -> Launch:
    """The launch over (row, key block, query head, query block); fused, it has a d_q for each key block."""
    active, following = np.asarray(mask.block_mask)[0], np.asarray(mask.data_next)[0].astype(int)
    grid = (shape.rows, active.shape[1], shape.query_heads, active.shape[0])
    b, j, head, i = grid_steps(grid)
    key, query = (b, head // (shape.query_heads // shape.kv_heads), j), (b, head, following[i, j])
    inputs: list[Blocks] = [query, key, key]
    inputs += [(b, following[i, j]), (b, j)] if segmented else []
    inputs += [query, query, query, (following[i, j],)]  # statistics, d_out, the row sums of out * d_out, positions
    outputs: list[Blocks] = [(b,)] * (2 + (settings.fused and settings.block_kv_compute != settings.block_kv))
    outputs += [(b, j, head, i)] if settings.fused else []
    outputs += [key, key]
    ends = shape.rows * active.shape[1] * shape.kv_heads
    name = kernel_name(D_KEYS, segmented)
    return _launch(shape, name, settings, 5 if settings.fused else 4, active, grid, 1, ends, [*inputs, *outputs])


def _launch(
    shape: Attention,
    name: str,
    settings: SplashSettings,
    products: int,
    active: np.ndarray,
    grid: tuple[int, ...],
    parallel: int,
    ends: int,
    operands: Sequence[Blocks],
) -> Launch:
    visited = shape.rows * shape.query_heads * int((active > 0).sum())
    needed = shape.blocks_needed(settings.block_q, settings.block_kv)
    sides = "x".join(dict.fromkeys([str(settings.block_q), str(settings.block_kv)]))
    certain = ends == math.prod(grid)
    return Launch(
        kernel=name,
        grid=grid,
        parallel=parallel,
        branches=[
            Branch("first", ends, certain=certain),
            Branch("block", visited),
            Branch("last", ends, certain=certain),
        ],
        operands=dict(enumerate(operands, start=2)),  # which blocks are visited comes first
        blocks={sides: (visited, needed)},
        flops=visited * products * 2 * settings.block_q * settings.block_kv * shape.head_size,
        visible_flops=shape.visible_pairs * products * 2 * shape.head_size,
    )
