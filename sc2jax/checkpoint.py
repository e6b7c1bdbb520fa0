"""Checkpoints with Orbax: saved in the background, restored exactly onto any mesh, parameters alone or everything.

A checkpoint has three parts: `params`, `optimizer` and `progress`, a small JSON with the position of the feed, the key
of the run, and fingerprints of the arrays. Orbax commits a checkpoint by renaming its finished folder, so a
half-written one is never taken for complete; the fingerprints find one that was damaged later. Parameters that do not
fit into memory are saved block by block (`save_streamed`) and read so (`open_array`).
"""

import contextlib
import dataclasses
import json
import logging
import math
import os
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
import tensorstore as ts
from etils import epath

from sc2jax.errors import UserError

# Orbax logs every failed write of every array with a traceback, itself and through asyncio, and then raises one:
# that one is reported.
for _name in ("absl", "asyncio"):
    logging.getLogger(_name).setLevel(logging.CRITICAL)

CHUNK_BYTES = 8 * 2**20
"""Arrays are stored in chunks of at most this size, each of one layer, so that a part can be read without the rest."""

STACKED = "layers"
"""Parameters below this name are stacked over the layers along their first dimension."""

Index: TypeAlias = tuple[slice, ...]


@dataclasses.dataclass(frozen=True)
class StreamedArray:
    """An array that is made block by block while it is saved.

    `blocks` is given the chunk's shape and yields each block with its place; blocks that end where chunks end are
    written once.
    """

    shape: tuple[int, ...]
    dtype: np.dtype
    blocks: Callable[[tuple[int, ...]], Iterator[tuple[Index, np.ndarray]]]


@dataclasses.dataclass(frozen=True)
class Progress:
    """What is saved beside the arrays: `key` names the run's config and inputs."""

    step: int
    key: str
    feed_position: np.ndarray


class Checkpoints:
    """The checkpoints of one run, in folders named by their steps."""

    def __init__(self, folder: str, kept: int) -> None:
        """Opens the folder, which is made if it is missing; the newest `kept` checkpoints stay."""
        self._folder = folder
        self._manager = ocp.CheckpointManager(
            folder,
            options=ocp.CheckpointManagerOptions(max_to_keep=kept, cleanup_tmp_directories=True),
            item_names=("params", "optimizer", "progress"),
        )

    def latest_step(self) -> int | None:
        """The step of the newest complete checkpoint, or None."""
        return self._manager.latest_step()

    def read_key(self, step: int) -> str:
        """The key of the run that saved a checkpoint.

        Raises:
            UserError: the checkpoint is damaged.
        """
        return self._restore(step, ocp.args.Composite(progress=ocp.args.JsonRestore()))["progress"]["key"]

    def save(self, progress: Progress, params: Any, optimizer_state: Any) -> None:
        """Saves in the background; waits first for the save before it.

        Raises:
            OSError: the disk is full, for example; the checkpoint is then not committed.
        """
        described = {
            "step": progress.step,
            "key": progress.key,
            "feed_position": progress.feed_position.tolist(),
            "fingerprints": {"params": fingerprint(params), "optimizer": fingerprint(optimizer_state)},
        }
        args = ocp.args.Composite(
            params=ocp.args.StandardSave(params, jax.tree_util.tree_map_with_path(_save_args, params)),
            optimizer=ocp.args.StandardSave(optimizer_state),
            progress=ocp.args.JsonSave(described),
        )
        with _disk_errors(self._folder):
            self._manager.save(progress.step, args=args)

    def save_streamed(self, step: int, key: str, params: Mapping[tuple[str, ...], StreamedArray]) -> dict[str, int]:
        """Saves parameters alone, each written block by block at its path; returns their fingerprints.

        Raises:
            OSError: the disk is full, for example; the checkpoint is then not committed.
        """
        fingerprints: dict[str, int] = {}
        described = {"step": step, "key": key, "feed_position": [], "fingerprints": {"params": fingerprints}}
        # Orbax is done with items that are saved in the foreground before it begins with those saved in the background:
        # the fingerprints are complete when the JSON is written.
        params_args = _StreamedSave(params, fingerprints)
        args = ocp.args.Composite(params=params_args, progress=ocp.args.JsonSave(described))
        with _disk_errors(self._folder):
            self._manager.save(step, args=args)
            self._manager.wait_until_finished()
        return fingerprints

    def open_array(self, step: int, path: tuple[str, ...]) -> ts.TensorStore:
        """One parameter of a checkpoint as it is stored, to be read in parts.

        Raises:
            UserError: the checkpoint is damaged or has no such parameter.
        """
        folder = epath.Path(self._folder) / str(step) / "params"
        if (folder / "manifest.ocdbt").exists():
            store: Any = {"driver": "ocdbt", "base": _kvstore(folder), "path": ".".join(path) + "/"}
        else:
            store = _kvstore(folder / ".".join(path))
        try:
            return ts.open({"driver": "zarr", "kvstore": store, "fill_missing_data_reads": False}, read=True).result()
        except ValueError as error:
            raise self._damaged(step, f"{'/'.join(path)} cannot be opened") from error

    def read_block(self, step: int, path: tuple[str, ...], store: ts.TensorStore, index: Index) -> np.ndarray:
        """A part of a parameter that `open_array` opened.

        Raises:
            UserError: the checkpoint is damaged: a chunk is missing or cut off.
        """
        try:
            return np.asarray(store[index].read().result())
        except ValueError as error:
            raise self._damaged(step, f"{'/'.join(path)} cannot be read") from error

    def read_fingerprints(self, step: int) -> dict[str, int]:
        """The fingerprints of a checkpoint's parameters, by path.

        Raises:
            UserError: the checkpoint is damaged.
        """
        restored = self._restore(step, ocp.args.Composite(progress=ocp.args.JsonRestore()))
        return restored["progress"]["fingerprints"]["params"]

    def restore(self, step: int, abstract_params: Any, abstract_optimizer: Any) -> tuple[Progress, Any, Any]:
        """The checkpoint of a step, placed as the abstract arrays' shardings say.

        Raises:
            UserError: it is damaged or has another shape.
        """
        args = ocp.args.Composite(
            params=ocp.args.StandardRestore(abstract_params),
            optimizer=ocp.args.StandardRestore(abstract_optimizer),
            progress=ocp.args.JsonRestore(),
        )
        restored = self._restore(step, args)
        described = restored["progress"]
        for name in ("params", "optimizer"):
            self._verify(step, name, restored[name], described)
        position = np.asarray(described["feed_position"], np.int64)
        return Progress(described["step"], described["key"], position), restored["params"], restored["optimizer"]

    def restore_params(self, step: int, abstract_params: Any) -> Any:
        """The parameters alone.

        Raises:
            UserError: the checkpoint is damaged or has another shape.
        """
        args = ocp.args.Composite(params=ocp.args.StandardRestore(abstract_params), progress=ocp.args.JsonRestore())
        restored = self._restore(step, args)
        self._verify(step, "params", restored["params"], restored["progress"])
        return restored["params"]

    def _restore(self, step: int, args: ocp.args.Composite) -> Any:
        try:
            return self._manager.restore(step, args=args)
        except Exception as error:  # Orbax raises this very class for an array that cannot be read.
            raise self._damaged(step, (str(error).strip() or repr(error)).splitlines()[0][:300]) from error

    def _verify(self, step: int, name: str, tree: Any, described: Any) -> None:
        found, expected = fingerprint(tree), described["fingerprints"][name]
        wrong = sorted(path for path in expected if found.get(path) != expected[path])
        if wrong:
            raise self._damaged(
                step, f"{len(wrong)} arrays of its {name} are not what was saved, {wrong[0]} among them"
            )

    def _damaged(self, step: int, what: str) -> UserError:
        older = [other for other in self._manager.all_steps() if other < step]
        rest = f"to go on from step {max(older)}" if older else "to start anew"
        return UserError(f"the checkpoint {self._folder}/{step} cannot be restored: {what}; delete that folder {rest}")

    def wait(self) -> None:
        """Returns when everything is on disk; raises what went wrong in the background."""
        with _disk_errors(self._folder):
            self._manager.wait_until_finished()

    def close(self) -> None:
        """Waits, then lets go of the folder."""
        with _disk_errors(self._folder):
            self._manager.close()


@contextlib.contextmanager
def _disk_errors(folder: str) -> Iterator[None]:
    """Raises what the disk refused as an `OSError`: TensorStore has one class for all that goes wrong."""
    try:
        yield
    except (ValueError, RuntimeError) as error:
        code = re.search(r"os_error_code='(\d+)'", str(error))
        if code is None:
            raise
        raise OSError(int(code[1]), os.strerror(int(code[1])), folder) from error


class _StreamedHandler(ocp.CheckpointHandler):
    """Writes arrays block by block in the layout that Orbax's own handler reads: a folder an array, and the tree."""

    def save(self, directory: epath.Path, args: "_StreamedSave") -> None:
        for path, array in args.arrays.items():
            chunk = chunk_shape(array.shape, array.dtype.itemsize, stacked=path[0] == STACKED)
            store = ts.open(
                {
                    "driver": "zarr",
                    "kvstore": _kvstore(directory / ".".join(path)),
                    # Real weights hardly compress, and Orbax takes a missing chunk for a damaged checkpoint.
                    "metadata": {"compressor": None},
                    "store_data_equal_to_fill_value": True,
                },
                create=True,
                dtype=ts.dtype(array.dtype),
                shape=array.shape,
                chunk_layout=ts.ChunkLayout(chunk_shape=chunk),
            ).result()
            total, pending = 0, None
            for index, block in array.blocks(chunk):
                written = store[index].write(block)
                total += block_sum(block, index, array.shape)
                if pending is not None:
                    pending.result()
                pending = written
            if pending is not None:
                pending.result()
            args.fingerprints["/".join(path)] = total % 2**32
        (directory / "_METADATA").write_text(json.dumps(_tree_metadata(args.arrays)))

    def restore(self, directory: epath.Path, args: Any = None) -> Any:
        raise NotImplementedError("streamed arrays are restored as standard ones")


@ocp.args.register_with_handler(_StreamedHandler, for_save=True, for_restore=True)
@dataclasses.dataclass
class _StreamedSave(ocp.args.CheckpointArgs):
    arrays: Mapping[tuple[str, ...], StreamedArray]
    fingerprints: dict[str, int]  # filled in by the handler


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


def _kvstore(folder: epath.Path) -> Any:
    name = str(folder)
    return f"{name}/" if "://" in name else {"driver": "file", "path": f"{Path(name).absolute()}/"}


def _save_args(path: tuple[Any, ...], _: jax.Array) -> ocp.SaveArgs:
    stacked = path[0].key == STACKED
    return ocp.SaveArgs(chunk_byte_size=CHUNK_BYTES, shard_axes=(0,) if stacked else ())


def chunk_shape(shape: tuple[int, ...], itemsize: int, *, stacked: bool) -> tuple[int, ...]:
    """The chunks that an array is stored in: of one layer if it is stacked, their longest side halved until small.

    Chunks that are about square serve a mesh that splits either dimension.
    """
    chunk = [1, *shape[1:]] if stacked else list(shape)
    while math.prod(chunk) * itemsize > CHUNK_BYTES:
        longest = chunk.index(max(chunk))
        chunk[longest] = -(-chunk[longest] // 2)
    return tuple(chunk)


def fingerprint(tree: Any) -> dict[str, int]:
    """A 32-bit sum of each array's bits, weighted by place: exact, and the same on any mesh.

    Integer sums do not depend on the order of addition, so no gathering is needed however the array is sharded.
    """
    paths = [
        jax.tree_util.keystr(path, simple=True, separator="/") for path, _ in jax.tree_util.tree_leaves_with_path(tree)
    ]
    sums = jax.device_get(_weighted_sums(jax.tree_util.tree_leaves(tree)))
    return dict(zip(paths, (int(value) for value in sums), strict=True))


@jax.jit
def _weighted_sums(leaves: list[jax.Array]) -> list[jax.Array]:
    return [_weighted_sum(leaf) for leaf in leaves]


def _weighted_sum(array: jax.Array) -> jax.Array:
    if jnp.issubdtype(array.dtype, jnp.floating) and array.dtype.itemsize < 4:
        array = array.astype(jnp.float32)  # The same sum whether a parameter is stored or restored narrow or wide.
    unsigned = jnp.dtype(f"uint{array.dtype.itemsize * 8}")
    bits = jax.lax.bitcast_convert_type(array, unsigned).astype(jnp.uint32)
    place = jnp.zeros(array.shape, jnp.uint32)
    for dimension, size in enumerate(array.shape):
        place = place * jnp.uint32(size % 2**32) + jax.lax.broadcasted_iota(jnp.uint32, array.shape, dimension)
    # Odd multipliers: every bit of every element reaches the sum.
    return jnp.sum(bits * (place * jnp.uint32(_PLACE_WEIGHT) + jnp.uint32(1)), dtype=jnp.uint32)


_PLACE_WEIGHT = 2654435762


def block_sum(block: np.ndarray, index: Index, shape: tuple[int, ...]) -> int:
    """What a block of an array adds to the array's fingerprint, modulo 2**32.

    An element's weight is linear in its place, so that the sums over all dimensions but one suffice.
    """
    bits = widen(block).view(np.uint32)
    total = bits.sum(dtype=np.uint32)
    weighted = int(total)
    for dimension, part in enumerate(index):
        first, last, _ = part.indices(shape[dimension])
        others = tuple(other for other in range(block.ndim) if other != dimension)
        marginal = bits.sum(axis=others, dtype=np.uint32) if last - first > 1 else total.reshape(1)
        weight = _PLACE_WEIGHT * math.prod(shape[dimension + 1 :]) % 2**32
        weights = np.arange(first, last, dtype=np.uint64) * np.uint64(weight)
        weighted += int((marginal * weights.astype(np.uint32)).sum(dtype=np.uint32))
    return weighted % 2**32


def widen(array: np.ndarray) -> np.ndarray:
    """Floating-point numbers as float32, exactly."""
    if array.dtype == jnp.bfloat16:
        return (array.view(np.uint16).astype(np.uint32) << np.uint32(16)).view(np.float32)
    return array.astype(np.float32, copy=False)
