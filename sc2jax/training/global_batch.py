"""The batch of all processes: which rows each reads, and how their arrays and counts become those of the whole."""

from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import Mesh, NamedSharding

from sc2jax.model.loss import BATCH
from sc2jax.training.step import batch_sharding


def local_rows(mesh: Mesh, batch_size: int, row_length: int) -> list[int]:
    """The rows of the global batch that this process's devices hold, and that it therefore reads.

    Raises:
        UserError: the mesh does not divide the batch.
    """
    shape = (batch_size, row_length)
    placement = batch_sharding(mesh, *shape)
    slices = [index[0] for index in placement.addressable_devices_indices_map(shape).values() if index is not None]
    return sorted({row for rows in slices for row in range(*rows.indices(batch_size))})


def place_batch(
    batch: Mapping[str, np.ndarray], placement: NamedSharding, rows: Sequence[int], batch_size: int
) -> dict[str, jax.Array]:
    """Global arrays from the rows that this process read: its row i is row `rows[i]` of the global batch."""
    local = {row: index for index, row in enumerate(rows)}

    def place(array: np.ndarray) -> jax.Array:
        def part(index: Any) -> np.ndarray:
            return array[[local[row] for row in range(*index[0].indices(batch_size))]][:, index[1]]

        return jax.make_array_from_callback((batch_size, *array.shape[1:]), placement, part)

    return {name: place(array) for name, array in batch.items()}


def abstract_batch(mesh: Mesh, batch_size: int, row_length: int) -> dict[str, jax.ShapeDtypeStruct]:
    """Shapes, types and placement of a language model's batch; nothing is allocated.

    Raises:
        UserError: the mesh does not divide the batch.
    """
    shape, placement = (batch_size, row_length), batch_sharding(mesh, batch_size, row_length)
    return {name: jax.ShapeDtypeStruct(shape, np.dtype(kind), sharding=placement) for name, kind in BATCH.items()}


def whole_counts(counts: np.ndarray) -> tuple[int, ...]:
    """What is counted of the rows of the whole batch, by kind, put together from each process's part (rows, kinds)."""
    if jax.process_count() > 1:
        # Rows of other processes are zero, so the maximum over all processes is the whole, even where two of them hold
        # the same row. The integers travel as pairs of 32-bit words, because JAX without x64 mode would truncate them.
        gathered: Any = multihost_utils.process_allgather(np.ascontiguousarray(counts).view(np.uint32))
        counts = np.asarray(gathered).view(np.int64).max(axis=0)
    return tuple(counts.sum(axis=0).tolist())
