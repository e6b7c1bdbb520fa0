"""A call of a Pallas kernel: how often each of its branches runs and which blocks of its operands move.

The compiler's listing of a kernel says what a branch costs and not how often it is taken; that follows from the grid
and from the plan by which the kernel was written. `kernel_window.py` and `kernel_splash.py` describe the calls.
"""

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from sc2jax.parallel.chips import Tpu
from sc2jax.plan.kernel_schedule import Branch, Kernel, Operand, Region


@dataclasses.dataclass(frozen=True)
class Attention:
    """Causal attention of a device's rows.

    Attributes:
        query_heads: of a row.
        kv_heads: key-value heads of a row.
        queries: positions of a row that attend; they are the last of the keys.
        keys: positions of a row.
        window: keys that a query sees, itself included; 0: all before it.
        head_size: elements of a head.
        rows: of one call.
        dtype: of all tensors.
    """

    query_heads: int
    kv_heads: int
    queries: int
    keys: int
    window: int
    head_size: int
    rows: int = 1
    dtype: str = "bfloat16"

    @property
    def visible_pairs(self) -> int:
        """How many pairs of a query and a key are visible, over all query heads and rows."""
        before = np.arange(self.keys - self.queries, self.keys) + 1
        return self.rows * self.query_heads * int(np.minimum(before, self.window or self.keys).sum())

    def blocks_needed(self, block_q: int, block_kv: int) -> int:
        """Blocks of the score matrix that hold a visible pair, over all query heads and rows."""
        first = np.arange(self.keys - self.queries, self.keys, block_q)[:, None]
        keys = np.arange(0, self.keys, block_kv)[None, :]
        visible = (keys <= first + block_q - 1) & (keys + block_kv - 1 > first - (self.window or self.keys))
        return self.rows * self.query_heads * int(visible.sum())


Blocks = Sequence[np.ndarray | int]
"""The block of an operand that each grid step needs, by coordinate."""

STAYS: Blocks = (0,)


@dataclasses.dataclass(frozen=True)
class Launch:
    """A call of one Pallas kernel.

    Attributes:
        kernel: its name.
        grid: the grid, of which the first `parallel` dimensions may be split over the cores of a device.
        parallel: that many.
        branches: each `pl.when` and each loop in program order, with how often it is done on all cores.
        operands: inputs, then outputs, numbered as in the listing; those not named stay where they are.
        blocks: sides of a block of the score matrix -> visited and needed, over all heads.
        flops: products of the visited blocks.
        visible_flops: products of the visible pairs.
    """

    kernel: str
    grid: tuple[int, ...]
    parallel: int
    branches: Sequence[Branch]
    operands: Mapping[int, Blocks]
    blocks: Mapping[str, tuple[int, int]]
    flops: int
    visible_flops: int

    @property
    def steps(self) -> int:
        """Of the whole grid."""
        return math.prod(self.grid)

    def executions(self, kernel: Kernel) -> dict[Region, tuple[str, int]]:
        """What `Kernel.executions` says of this call."""
        steps, branches, copies, _ = self._on_busier_core(kernel.tpu)
        return kernel.executions(steps, branches, copies)

    def schedule(self, kernel: Kernel) -> dict[str, int]:
        """What `Kernel.schedule` says of this call, on the busier core."""
        steps, branches, copies, flops = self._on_busier_core(kernel.tpu)
        return kernel.schedule(steps, branches, flops, copies)

    def moved_bytes(self, kernel: Kernel) -> int:
        """What the call moves between HBM and VMEM on all cores: the pipeline copies a window when its block changes.

        An operand that XLA has put into VMEM counts as moved once.
        """

        def moved(operand: Operand, blocks: Blocks) -> int:
            return operand.bytes if operand.in_vmem else operand.window_bytes * self._moves(blocks)

        return sum(moved(operand, self.operands.get(number, STAYS)) for number, operand in kernel.operands.items())

    def _on_busier_core(self, tpu: Tpu) -> tuple[int, list[Branch], dict[int, int], int]:
        """Steps, branches, copies and FLOPs: the compiler flattens the parallel dimensions and halves what they make.

        All places along them cost the same.
        """
        places = math.prod(self.grid[: self.parallel])
        busier = -(-places // tpu.cores)
        branches = [dataclasses.replace(branch, times=branch.times * busier // places) for branch in self.branches]
        copies = {number: -(-self._moves(blocks) * busier // places) for number, blocks in self.operands.items()}
        return self.steps * busier // places, branches, copies, self.flops * busier // places

    def _moves(self, blocks: Blocks) -> int:
        """How often a window moves: whenever its block differs from that of the step before."""
        index = np.stack([np.broadcast_to(np.asarray(part), self.steps) for part in blocks])
        return 1 + int((index[:, 1:] != index[:, :-1]).any(axis=0).sum())


@dataclasses.dataclass(frozen=True)
class Subject:
    """A function to compile, its abstract arguments, and the kernels in it that are of interest."""

    function: Callable
    arguments: tuple[Any, ...]
    launches: Sequence[Launch]

    def launch(self, kernel: str) -> Launch:
        """The call of this kernel."""
        return next(launch for launch in self.launches if launch.kernel == kernel)


def grid_steps(grid: tuple[int, ...]) -> list[np.ndarray]:
    """Each step's place along each dimension of the grid, in the order of execution."""
    return [axis.reshape(-1) for axis in np.indices(grid)]
