"""Checkpoints with Orbax: saved in the background, restored exactly onto any mesh, parameters alone or everything.

A checkpoint has three parts: `params`, `optimizer` and `progress`, a small JSON with the position of the feed, the key
of the run, and fingerprints of the arrays. Orbax commits a checkpoint by renaming its finished folder, so a
half-written one is never taken for complete; the fingerprints find one that was damaged later. Parameters that do not
fit into memory are saved block by block (`streamed.py`) and read in parts (`open_array`).
"""

import contextlib
import logging
import threading
import time
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp
import tensorstore as ts
from etils import epath

from sc2jax import storage
from sc2jax.checkpoint.copies import CopiesBehind
from sc2jax.checkpoint.disk import (
    OPTIMIZER,
    PARAMS,
    disk_errors,
    key_value_store,
    reason,
    refuse_misread_path,
)
from sc2jax.checkpoint.fingerprints import Index, array_names, fingerprint
from sc2jax.checkpoint.one_by_one import StoredArrays
from sc2jax.checkpoint.ownership import (
    foreign_entries,
    own_steps,
    refuse_irregular,
    refuse_occupied,
    sweep,
)
from sc2jax.checkpoint.progress import Described, Progress
from sc2jax.checkpoint.progress import read_progress as read_described
from sc2jax.checkpoint.retention import Retention
from sc2jax.checkpoint.saving import background_checkpointer, drain, to_save
from sc2jax.checkpoint.together import Together
from sc2jax.display import name_foreign
from sc2jax.errors import UserError
from sc2jax.json_files import read_json
from sc2jax.storage import join
from sc2jax.stores import StoreError, reaching

_ARRAYS = "array_metadatas"
"""The folder, in that of a part, in which Orbax describes how each process wrote its arrays."""

# Orbax logs every failed write of every array with a traceback, itself and through asyncio, and then raises one:
# that one is reported.
for _name in ("absl", "asyncio"):
    logging.getLogger(_name).setLevel(logging.CRITICAL)


class Checkpoints:
    """The checkpoints of one run."""

    def __init__(
        self,
        folder: str,
        kept: int = 0,
        *,
        keep_every: int = 0,
        keep_best: int = 0,
        local: str = "",
        protected: int = 0,
    ) -> None:
        """Opens the folder to read, or where `kept` is not 0 to write too: the newest `kept` checkpoints then stay.

        So do all whose step is a multiple of `keep_every`, the `keep_best` with the lowest evaluation loss, and that of
        the step `protected`. With a `local` folder they are written there first, and copied behind the training; the
        newest of both is found.

        Reading changes nothing. Writing makes the folder if it is missing, and deletes what an interrupted save left.
        What is not ours stays, and is named.

        Raises:
            UserError: the folder's path means something else to Orbax, or something else than files is among them.
        """
        self.folder = local or folder
        self._writes, self._retention = bool(kept), Retention(kept, keep_every, keep_best, protected)
        refuse_misread_path(self.folder, merged=self._writes)
        refuse_irregular(self.folder)
        self._thread: threading.Thread | None = None
        self._failure: Exception | None = None
        self._untold: list[str] = []
        self._together = Together()
        self._copies: CopiesBehind | None = None
        if self._is_janitor:
            for place in {self.folder, folder}:
                storage.make_folder(place)
                sweep(place)
                name_foreign(place, foreign_entries(place))
            if local:
                self._copies = CopiesBehind(local, folder, self._retention)
                self._copies.fetch()
                self._copies.start()
        self._newest = self.latest_step() if kept else None
        self._checkpointer = background_checkpointer(self.folder, self._together)

    def latest_step(self) -> int | None:
        """The step of the newest complete checkpoint, or None."""
        return max(self.steps(), default=None)

    def steps(self) -> list[int]:
        """The steps of all complete checkpoints, oldest first."""
        return own_steps(self.folder)

    def refuse_occupied(self, is_saved: Callable[[int], bool]) -> None:
        """Makes sure that the checkpoints of the steps to be saved have their places.

        Of several processes one looks, for the others may see what it has begun to write there.

        Raises:
            UserError: something that is not ours lies in one.
        """
        if self._is_janitor:
            refuse_occupied(self.folder, is_saved)

    def read_key(self, step: int) -> str:
        """The key of the run that saved a checkpoint.

        Raises:
            UserError: the checkpoint is damaged.
        """
        return self._described(step).key

    def save(
        self,
        progress: Progress,
        params: Any,
        optimizer_state: Any,
        stacked: Any,
        before: Callable[[], None] = lambda: None,
    ) -> float:
        """Saves in the background, as soon as the save before it has ended; returns the seconds that took.

        The caller goes on when the arrays are copied to the host's memory, and may overwrite them then. What the disk
        refuses is told by `failed`, or raised by `wait`; the older checkpoints stay, and the next save tries again.

        Args:
            progress: where the run is.
            params: the parameters.
            optimizer_state: whatever else the run goes on with, in any tree.
            stacked: a tree like the parameters: whether each holds layers along its first dimension.
            before: is called in the background before the checkpoint is complete, for what has to be there with it.

        Raises:
            UserError: something that is not ours lies in its place.
        """
        waited = self.settle()
        self._together.begin()
        try:
            with reaching(self.folder), disk_errors(self.folder):
                if self._failure is not None and self._is_janitor:
                    sweep(self.folder)  # of all processes, which have ended that save
                self._failure = None
                self.refuse_occupied(lambda step: step == progress.step)
                args = to_save(progress, params, optimizer_state, stacked, before)
                self._checkpointer.save(self._path(progress.step), args=args)
        except (OSError, StoreError) as error:
            self._fail(progress.step, error)
            return waited
        self._thread = threading.Thread(target=self._finish, args=(progress.step,), name="sc2jax-save")
        self._thread.start()
        return waited

    def _finish(self, step: int) -> None:
        """Waits for a save, then makes sure that it is there, then deletes what it outdates."""
        try:
            with disk_errors(self.folder):
                self._checkpointer.wait_until_finished()
            if self._is_janitor:
                self.refuse_unreadable(step)
                if self._copies is None:
                    self._retention.delete_outdated(self.folder)
                else:
                    self._copies.delete_outdated()
                    self._copies.start()
            self._newest = step
        except Exception as error:  # of Orbax, of a disk or of an object store: told to whoever asks or waits
            self._fail(step, error)

    def _fail(self, step: int, error: Exception) -> None:
        self._failure = error
        self._together.fail(reason(error))
        drain(self._checkpointer)
        self._untold.append(
            f"the checkpoint of step {step:,} could not be saved ({reason(error)}); {self.standing()}, and the next "
            "save tries again"
        )
        if self._is_janitor and jax.process_count() == 1:  # others may still write there, and would wait without end
            with contextlib.suppress(OSError, StoreError):  # the next save sweeps again
                sweep(self.folder)

    def standing(self) -> str:
        """How far the run is saved, in words, known without a look at the disk."""
        return f"the checkpoint of step {self._newest:,} is good" if self._newest else "there is no checkpoint yet"

    def failed(self) -> str:
        """What a save or a copy failed of in the background, once for each; "" if there is nothing to tell."""
        if self._untold:
            return self._untold.pop(0)
        return self._copies.failed() if self._copies is not None else ""

    def settle(self) -> float:
        """Waits until no save is under way, for as many seconds as it returns."""
        started = time.monotonic()
        if self._thread is not None:
            self._thread.join()
            self._thread = None
        return time.monotonic() - started

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
                self._checkpointer.metadata(self._path(step))
                stored = StoredArrays(self._part(step, part))
            except Exception as error:  # Orbax raises whatever its readers do
                raise self._damaged(step, f"Orbax's own files of it cannot be read ({reason(error)})") from error
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

    def _refuse_other_kinds(self, step: int, part: str, abstract: Any) -> None:
        """Makes sure that a part holds arrays of the wanted shapes and types, which Orbax would convert in silence."""
        for name, wanted in zip(array_names(abstract), jax.tree_util.tree_leaves(abstract), strict=True):
            stored = self.open_array(step, tuple(name.split("/")), part)
            found = _kind(stored.dtype.numpy_dtype, stored.shape)
            if found != _kind(wanted.dtype, wanted.shape):
                raise UserError(
                    f"{self.folder}/{step} holds {part}/{name} as {found}, and {_kind(wanted.dtype, wanted.shape)} is "
                    "wanted: a run goes on with what it was begun with; set the types and sizes back, or give another "
                    "--workdir"
                )

    def _refuse_undescribed(self, step: int, part: str) -> None:
        """Makes sure that Orbax's own files of a part are there: from inside Orbax the error would be another one."""
        folder = str(self._part(step, part))
        described = [f"{_ARRAYS}/{name}" for name in storage.names(join(folder, _ARRAYS))]
        for name in ("_METADATA", *described):
            path = join(folder, name)
            try:
                read_json(path, dict[str, Any], f"delete {join(self.folder, str(step))}")
            except FileNotFoundError as error:
                raise self._damaged(step, f"{path} is missing") from error

    def _part(self, step: int, part: str) -> epath.Path:
        return self._path(step) / part

    def _path(self, step: int) -> epath.Path:
        return epath.Path(self.folder) / str(step)

    def read_fingerprints(self, step: int) -> dict[str, int]:
        """The fingerprints of a checkpoint's parameters, by path.

        Raises:
            UserError: the checkpoint is damaged.
        """
        return dict(self._described(step).fingerprints[PARAMS])

    def restore(self, step: int, abstract_params: Any, abstract_optimizer: Any) -> tuple[Progress, Any, Any]:
        """The checkpoint of a step, placed as the abstract arrays' shardings say, to go on with exactly what was saved.

        Raises:
            UserError: it is damaged, or holds arrays of another shape or type.
        """
        described = self._described(step)
        for name, abstract in ((PARAMS, abstract_params), (OPTIMIZER, abstract_optimizer)):
            self._refuse_undescribed(step, name)
            self._refuse_other_kinds(step, name, abstract)
        args = {
            PARAMS: ocp.args.StandardRestore(abstract_params),
            OPTIMIZER: ocp.args.StandardRestore(abstract_optimizer),
        }
        restored = self._restore(step, ocp.args.Composite(**args))
        for name in (PARAMS, OPTIMIZER):
            self._verify(step, name, restored[name], described)
        return described.progress, restored[PARAMS], restored[OPTIMIZER]

    def restore_params(self, step: int, abstract_params: Any) -> Any:
        """The parameters alone, in the abstract arrays' types, which may be wider than those that were saved.

        Raises:
            UserError: the checkpoint is damaged or has another shape.
        """
        described = self._described(step)
        self._refuse_undescribed(step, PARAMS)
        restored = self._restore(step, ocp.args.Composite(**{PARAMS: ocp.args.StandardRestore(abstract_params)}))
        self._verify(step, PARAMS, restored[PARAMS], described)
        return restored[PARAMS]

    def _described(self, step: int) -> Described:
        return read_described(self.folder, step)

    def _restore(self, step: int, args: ocp.args.Composite) -> Any:
        try:
            return self._checkpointer.restore(self._path(step), args=args)
        except Exception as error:  # Orbax raises a plain Exception for an array that cannot be read.
            raise self._damaged(step, reason(error)) from error

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
            return UserError(f"{self.folder} holds no checkpoint of step {step}; run the stage that wrote it again")
        if not self._writes:  # another run's, or a finished one's: it is not for its reader to go on
            return UserError(f"the checkpoint {self.folder}/{step} cannot be restored: {what}; bring it back")
        older = [other for other in steps if other < step]
        rest = f"to go on from step {max(older)}" if older else "to start anew"
        return UserError(f"the checkpoint {self.folder}/{step} cannot be restored: {what}; delete that folder {rest}")

    def wait(self) -> None:
        """Returns when all is on disk, and copied, and outdated checkpoints are gone; raises what the newest failed of.

        Raises:
            OSError: the disk is full, for example.
            UserError: what was saved is not found again; the older checkpoints then stay.
        """
        self.settle()
        failure, self._failure = self._failure, None
        if failure is not None:
            raise failure
        if self._copies is not None:
            self._copies.wait()

    @property
    def _is_janitor(self) -> bool:
        """Whether this is the process that deletes: one of those that write."""
        return self._writes and jax.process_index() == 0

    def close(self) -> None:
        """Waits, whatever comes of the save under way, then lets go of the folder."""
        self.settle()
        if self._copies is not None:
            self._copies.close()
        self._checkpointer.close()


def _kind(dtype: np.dtype, shape: tuple[int, ...]) -> str:
    return f"{dtype.name}[{','.join(map(str, shape))}]"
