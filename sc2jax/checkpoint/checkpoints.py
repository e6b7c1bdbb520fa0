"""Checkpoints with Orbax: saved in the background, restored exactly onto any mesh, parameters alone or everything.

A checkpoint has three parts: `params`, `optimizer` and `progress`, a small JSON with the position of the feed, the key
of the run, and fingerprints of the arrays. Orbax commits a checkpoint by renaming its finished folder, so a
half-written one is never taken for complete; the fingerprints find one that was damaged later. Parameters that do not
fit into memory are saved block by block (`streamed.py`) and read in parts (`open_array`).
"""

import logging
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp
import tensorstore as ts
from etils import epath

from sc2jax import storage
from sc2jax.checkpoint.disk import (
    CHUNK_BYTES,
    OPTIMIZER,
    PARAMS,
    PROGRESS,
    disk_errors,
    key_value_store,
    refuse_misread_path,
)
from sc2jax.checkpoint.fingerprints import Index, fingerprint
from sc2jax.checkpoint.one_by_one import StoredArrays
from sc2jax.checkpoint.ownership import (
    delete_checkpoint,
    foreign_entries,
    own_steps,
    refuse_irregular,
    refuse_occupied,
    sweep,
)
from sc2jax.checkpoint.progress import Described, Progress, describe
from sc2jax.checkpoint.progress import read_progress as read_described
from sc2jax.display import name_foreign
from sc2jax.errors import UserError
from sc2jax.json_files import read_json
from sc2jax.storage import join

_ARRAYS = "array_metadatas"
"""The folder, in that of a part, in which Orbax describes how each process wrote its arrays."""

# Orbax logs every failed write of every array with a traceback, itself and through asyncio, and then raises one:
# that one is reported.
for _name in ("absl", "asyncio"):
    logging.getLogger(_name).setLevel(logging.CRITICAL)


class Checkpoints:
    """The checkpoints of one run."""

    def __init__(self, folder: str, kept: int = 0) -> None:
        """Opens the folder to read, or where `kept` is not 0 to write too: the newest `kept` checkpoints then stay.

        Reading changes nothing. Writing makes the folder if it is missing, and deletes what an interrupted save left.
        What is not ours stays, and is named.

        Raises:
            UserError: the folder's path means something else to Orbax, or something else than files is among them.
        """
        refuse_misread_path(folder, merged=bool(kept))
        refuse_irregular(folder)
        self._folder, self._kept = folder, kept
        self._saved: set[int] = set()
        if self._is_janitor:
            sweep(folder)
            name_foreign(folder, foreign_entries(folder))
        # What Orbax would keep or delete it judges by the names of folders alone.
        options = ocp.CheckpointManagerOptions(max_to_keep=None, read_only=not kept)
        self._manager = ocp.CheckpointManager(folder, options=options, item_names=(PARAMS, OPTIMIZER, PROGRESS))

    def latest_step(self) -> int | None:
        """The step of the newest complete checkpoint, or None."""
        return max(self.steps(), default=None)

    def steps(self) -> list[int]:
        """The steps of all complete checkpoints, oldest first."""
        return own_steps(self._folder)

    def refuse_occupied(self, is_saved: Callable[[int], bool]) -> None:
        """Makes sure that the checkpoints of the steps to be saved have their places.

        Raises:
            UserError: something that is not ours lies in one.
        """
        refuse_occupied(self._folder, is_saved)

    def read_key(self, step: int) -> str:
        """The key of the run that saved a checkpoint.

        Raises:
            UserError: the checkpoint is damaged.
        """
        return self._described(step).key

    def save(self, progress: Progress, params: Any, optimizer_state: Any, stacked: Any) -> None:
        """Saves in the background; waits first for the save before it.

        `stacked` is a tree like the parameters: whether each holds layers along its first dimension.

        Raises:
            OSError: the disk is full, for example; the checkpoint is then not committed.
            UserError: something that is not ours lies in its place.
        """
        self.wait()
        self.refuse_occupied(lambda step: step == progress.step)
        fingerprints = {PARAMS: fingerprint(params), OPTIMIZER: fingerprint(optimizer_state)}
        args = {
            PARAMS: ocp.args.StandardSave(params, jax.tree.map(_save_args, stacked)),
            OPTIMIZER: ocp.args.StandardSave(optimizer_state),
            PROGRESS: ocp.args.JsonSave(describe(progress, fingerprints)),
        }
        with disk_errors(self._folder):
            # Orbax would not save a step below one that it takes another folder for.
            self._manager.save(progress.step, args=ocp.args.Composite(**args), force=True)
        self._saved.add(progress.step)

    def open_array(self, step: int, path: tuple[str, ...], part: str = PARAMS) -> ts.TensorStore:
        """One array of a part of a checkpoint as it is stored, to be read in parts.

        Raises:
            UserError: the checkpoint is damaged or has no such array.
        """
        folder = self._part(step, part)
        if (folder / "manifest.ocdbt").exists():
            store: Any = {"driver": "ocdbt", "base": key_value_store(folder), "path": ".".join(path) + "/"}
        else:
            store = key_value_store(folder / ".".join(path))
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

    def verify_stored(self, step: int) -> None:
        """Restores all arrays of a checkpoint as those who use it do, but one at a time, and compares fingerprints.

        Raises:
            UserError: one is not what was saved, or cannot be restored.
        """
        described = self._described(step)
        self.refuse_unreadable(step)
        for part, expected in described.fingerprints.items():
            try:
                self._manager.metadata(step)
                stored = StoredArrays(self._part(step, part))
            except Exception as error:  # Orbax raises whatever its readers do
                raise self._damaged(step, f"Orbax's own files of it cannot be read ({_first_line(error)})") from error
            if set(stored.names) != expected.keys():
                raise self._damaged(step, f"its {part} hold other arrays than were saved")
            for name in stored.names:
                try:
                    found = fingerprint(stored.restore(name))[""]
                except Exception as error:
                    raise self._damaged(step, f"{part}/{name} cannot be read") from error
                if found != expected[name]:
                    raise self._damaged(step, f"{part}/{name} is not what was saved")

    def refuse_unreadable(self, step: int) -> None:
        """Makes sure that all arrays of a checkpoint are found and can be opened; reads none of them.

        Raises:
            UserError: one cannot, or the checkpoint is damaged otherwise.
        """
        for part, fingerprints in self._described(step).fingerprints.items():
            self._refuse_undescribed(step, part)
            for name in fingerprints:
                self.open_array(step, tuple(name.split("/")), part)

    def _refuse_undescribed(self, step: int, part: str) -> None:
        """Makes sure that Orbax's own files of a part are there: from inside Orbax the error would be another one."""
        folder = str(self._part(step, part))
        described = [f"{_ARRAYS}/{name}" for name in storage.names(join(folder, _ARRAYS))]
        for name in ("_METADATA", *described):
            path = join(folder, name)
            try:
                read_json(path, dict[str, Any], f"delete {join(self._folder, str(step))}")
            except FileNotFoundError as error:
                raise self._damaged(step, f"{path} is missing") from error

    def _part(self, step: int, part: str) -> epath.Path:
        return epath.Path(self._folder) / str(step) / part

    def read_fingerprints(self, step: int) -> dict[str, int]:
        """The fingerprints of a checkpoint's parameters, by path.

        Raises:
            UserError: the checkpoint is damaged.
        """
        return dict(self._described(step).fingerprints[PARAMS])

    def restore(self, step: int, abstract_params: Any, abstract_optimizer: Any) -> tuple[Progress, Any, Any]:
        """The checkpoint of a step, placed as the abstract arrays' shardings say.

        Raises:
            UserError: it is damaged or has another shape.
        """
        described = self._described(step)
        for name in (PARAMS, OPTIMIZER):
            self._refuse_undescribed(step, name)
        args = {
            PARAMS: ocp.args.StandardRestore(abstract_params),
            OPTIMIZER: ocp.args.StandardRestore(abstract_optimizer),
        }
        restored = self._restore(step, ocp.args.Composite(**args))
        for name in (PARAMS, OPTIMIZER):
            self._verify(step, name, restored[name], described)
        return described.progress, restored[PARAMS], restored[OPTIMIZER]

    def restore_params(self, step: int, abstract_params: Any) -> Any:
        """The parameters alone.

        Raises:
            UserError: the checkpoint is damaged or has another shape.
        """
        described = self._described(step)
        self._refuse_undescribed(step, PARAMS)
        restored = self._restore(step, ocp.args.Composite(**{PARAMS: ocp.args.StandardRestore(abstract_params)}))
        self._verify(step, PARAMS, restored[PARAMS], described)
        return restored[PARAMS]

    def _described(self, step: int) -> Described:
        return read_described(self._folder, step)

    def _restore(self, step: int, args: ocp.args.Composite) -> Any:
        try:
            return self._manager.restore(step, args=args)
        except Exception as error:  # Orbax raises a plain Exception for an array that cannot be read.
            raise self._damaged(step, _first_line(error)) from error

    def _verify(self, step: int, name: str, tree: Any, described: Described) -> None:
        found, expected = fingerprint(tree), described.fingerprints.get(name, {})
        wrong = sorted(path for path in expected if found.get(path) != expected[path])
        if wrong:
            raise self._damaged(
                step, f"{len(wrong)} arrays of its {name} are not what was saved, {wrong[0]} among them"
            )

    def _damaged(self, step: int, what: str) -> UserError:
        steps = self.steps()
        if step not in steps:
            return UserError(f"{self._folder} holds no checkpoint of step {step}; run the stage that wrote it again")
        older = [other for other in steps if other < step]
        rest = f"to go on from step {max(older)}" if older else "to start anew"
        return UserError(f"the checkpoint {self._folder}/{step} cannot be restored: {what}; delete that folder {rest}")

    def wait(self) -> None:
        """Returns when everything is on disk and older checkpoints are gone; raises what failed in the background.

        Raises:
            OSError: the disk is full, for example.
            UserError: what was saved is not found again; the older checkpoints then stay.
        """
        with disk_errors(self._folder):
            self._manager.wait_until_finished()
        if self._is_janitor:
            for step in sorted(self._saved):
                self.refuse_unreadable(step)
            self._saved.clear()
            for step in self.steps()[: -self._kept]:
                delete_checkpoint(self._folder, str(step))

    @property
    def _is_janitor(self) -> bool:
        """Whether this is the process that deletes: one of those that write."""
        return bool(self._kept) and jax.process_index() == 0

    def close(self) -> None:
        """Waits, then lets go of the folder."""
        with disk_errors(self._folder):
            self._manager.close()


def _first_line(error: Exception) -> str:
    return (str(error).strip() or repr(error)).splitlines()[0][:300]


def _save_args(stacked: bool) -> ocp.SaveArgs:
    return ocp.SaveArgs(chunk_byte_size=CHUNK_BYTES, shard_axes=(0,) if stacked else ())
