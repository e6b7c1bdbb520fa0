"""Parameters that do not fit into memory, saved block by block as a checkpoint that is restored like any other."""

import asyncio
import dataclasses
import json
import math
from collections.abc import Callable, Coroutine, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import orbax.checkpoint as ocp
import tensorstore as ts
from etils import epath

from sc2jax import storage
from sc2jax.checkpoint.disk import (
    PARAMS,
    PROGRESS,
    chunk_shape,
    disk_errors,
    key_value_store,
    refuse_misread_path,
)
from sc2jax.checkpoint.fingerprints import Index, block_sum
from sc2jax.checkpoint.ownership import make_room
from sc2jax.checkpoint.progress import Progress, describe
from sc2jax.checkpoint.saving import atomicity
from sc2jax.errors import UserError


@dataclasses.dataclass(frozen=True)
class StreamedArray:
    """An array that is made block by block while it is saved.

    `blocks` is given the chunk's shape and yields each block with its place; blocks that end where chunks end are
    written once. A `stacked` one holds layers along its first dimension.
    """

    shape: tuple[int, ...]
    dtype: np.dtype
    stacked: bool
    blocks: Callable[[tuple[int, ...]], Iterator[tuple[Index, np.ndarray]]]


def save_streamed(folder: str, step: int, key: str, arrays: Mapping[tuple[str, ...], StreamedArray]) -> dict[str, int]:
    """Saves parameters alone as the checkpoint of a step, each at its path; returns their fingerprints.

    What lies there of that step, whole or half-written, is deleted first. They are written to a temporary folder of
    Orbax, which takes the step's name when all is there: nobody finds half a checkpoint.

    Raises:
        OSError: the disk is full, for example.
        UserError: something that is not ours lies where the checkpoint has to go, or nothing can be saved there.
    """
    refuse_misread_path(folder, merged=False)
    final = epath.Path(folder) / str(step)
    temporary = ocp.path.atomicity_defaults.get_default_temporary_path_class(
        final, atomicity_options=atomicity(folder)
    ).from_final(final)
    with disk_errors(folder):
        make_room(folder, step)
        _finish(temporary.create())
        try:
            fingerprints = _write_parameters(temporary.get() / PARAMS, arrays)
            described = describe(Progress(step, key), {PARAMS: fingerprints})
            (temporary.get() / PROGRESS).mkdir()
            ocp.JsonCheckpointHandler().save(temporary.get() / PROGRESS, args=ocp.args.JsonSave(described))
            _finish(temporary.finalize())
        except BaseException:
            temporary.get().rmtree(missing_ok=True)
            storage.delete_if_empty(folder)
            raise
    return fingerprints


def _finish(coroutine: Coroutine[Any, Any, Any]) -> None:
    """Runs a coroutine to its end, on a thread of its own: a notebook's thread already runs an event loop."""
    with ThreadPoolExecutor(max_workers=1) as thread:
        thread.submit(asyncio.run, coroutine).result()


def _write_parameters(folder: epath.Path, arrays: Mapping[tuple[str, ...], StreamedArray]) -> dict[str, int]:
    folder.mkdir()
    fingerprints = {"/".join(path): _write(folder, path, array) for path, array in arrays.items()}
    (folder / "_METADATA").write_text(json.dumps(_tree_metadata(arrays)))
    return fingerprints


def _write(folder: epath.Path, path: tuple[str, ...], array: StreamedArray) -> int:
    """Writes an array's blocks in the layout of Orbax; returns the fingerprint."""
    chunk = chunk_shape(array.shape, array.dtype.itemsize, stacked=array.stacked)
    store = ts.open(
        {
            "driver": "zarr",
            "kvstore": key_value_store(folder / ".".join(path)),
            # Real weights hardly compress, and Orbax takes a missing chunk for a damaged checkpoint.
            "metadata": {"compressor": None},
            "store_data_equal_to_fill_value": True,
        },
        create=True,
        dtype=ts.dtype(array.dtype),
        shape=array.shape,
        chunk_layout=ts.ChunkLayout(chunk_shape=chunk),
    ).result()
    total = 0
    pending: list[Any] = []
    try:
        for index, block in array.blocks(chunk):
            pending.append(store[index].write(block))
            total += block_sum(block, index, array.shape)
            if len(pending) > 1:
                pending.pop(0).result()
    finally:
        # Also after a failure: a write under way would come back into a folder that is being deleted.
        for written in pending:
            written.result()
    _refuse_incomplete(
        folder / ".".join(path), math.prod(-(-size // part) for size, part in zip(array.shape, chunk, strict=True))
    )
    return total % 2**32


def _refuse_incomplete(folder: epath.Path, chunks: int) -> None:
    """Makes sure that an array's chunks lie where they will be looked for.

    Raises:
        UserError: they do not.
    """
    found = len(storage.file_sizes(str(folder)))
    if found != chunks + 1:  # and what describes them
        raise UserError(f"{folder} holds {found} files of {chunks + 1} that were written there; save it elsewhere")


def _tree_metadata(paths: Mapping[tuple[str, ...], Any]) -> dict[str, Any]:
    """Orbax's description of a tree of nested dicts of arrays."""
    dict_key = 2
    tree = {
        str(path): {
            "key_metadata": [{"key": name, "key_type": dict_key} for name in path],
            "value_metadata": {"value_type": "jax.Array", "skip_deserialize": False},
        }
        for path in paths
    }
    return {
        "tree_metadata": tree,
        "use_ocdbt": False,
        "use_zarr3": False,
        "store_array_data_equal_to_fill_value": True,
        "custom_metadata": None,
    }
