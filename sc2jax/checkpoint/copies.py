"""Checkpoints copied behind the training, from a local disk to where the run lies, such as an object store.

A save has ended when the local disk has it, and another may begin while the copy goes on.
"""

import threading
from concurrent.futures import Future, ThreadPoolExecutor

from sc2jax import storage
from sc2jax.checkpoint.disk import COMMITTED, reason
from sc2jax.checkpoint.ownership import HALF, own_files, own_steps, refuse_occupied, sweep
from sc2jax.checkpoint.progress import progress_path
from sc2jax.checkpoint.retention import Retention
from sc2jax.storage import join
from sc2jax.transfers import copy_file, try_rename


def copy_checkpoint(source: str, target: str, step: int) -> None:
    """Copies a checkpoint from one folder to another, whole or not at all.

    Raises:
        OSError: the disk is full, for example.
        UserError: a store cannot be reached, or something that is not ours lies in its place.
    """
    refuse_occupied(target, lambda other: other == step)
    half = join(target, str(step) if storage.is_url(target) else f"{step}{HALF}")
    whole = join(source, str(step))
    last = (progress_path(source, step).removeprefix(f"{whole}/"), COMMITTED)
    files = [file for file in own_files(source, step) if file not in last]
    for file in (*files, *last):
        copy_file(join(whole, file), join(half, file))
    if not storage.is_url(target):
        try_rename(half, join(target, str(step)))


class CopiesBehind:
    """Copies what comes into a folder of checkpoints to another, the newest first, on a thread of its own."""

    def __init__(self, source: str, target: str, retention: Retention) -> None:
        self._source, self._target, self._retention = source, target, retention
        self._thread = ThreadPoolExecutor(1, "sc2jax-copy")
        self._newest: Future[None] | None = None
        self._untold: list[str] = []
        self._choosing = threading.Lock()
        self._copying: int | None = None

    def fetch(self) -> None:
        """Copies the newest checkpoint of the other folder back, if it is newer than all that are here."""
        newest = max(own_steps(self._target), default=None)
        if newest is not None and newest > max(own_steps(self._source), default=-1):
            copy_checkpoint(self._target, self._source, newest)

    def start(self) -> None:
        """Copies what is not there yet; returns at once."""
        self._newest = self._thread.submit(self._copy_all)

    def _copy_all(self) -> None:
        while (step := self._choose()) is not None:
            try:
                sweep(self._target)  # what a copy left that was cut off
                copy_checkpoint(self._source, self._target, step)
            except Exception as error:  # of a disk or of an object store: told, and raised to whoever waits
                self._untold.append(
                    f"the checkpoint of step {step} could not be copied to {self._target} ({reason(error)}); it lies "
                    f"in {self._source}, and is copied with the next one"
                )
                raise
            finally:
                self._copying = None
            self._retention.delete_outdated(self._target)

    def _choose(self) -> int | None:
        """The newest step that is not there yet and will stay there."""
        with self._choosing:
            here, there = self._retention.saved(self._source), self._retention.saved(self._target)
            stays = (here | there).keys() - self._retention.outdated(here | there)
            self._copying = max(stays - there.keys(), default=None)
            return self._copying

    def delete_outdated(self) -> None:
        """Deletes what does not stay in the folder that is copied from, but not what is being copied."""
        with self._choosing:
            self._retention.delete_outdated(self._source, spared=self._copying)

    def failed(self) -> str:
        """What a copy failed of, once for each; "" if there is nothing to tell."""
        return self._untold.pop(0) if self._untold else ""

    def wait(self) -> None:
        """Returns when all is copied; raises what the newest copy failed of.

        Raises:
            OSError: the disk is full, for example.
            UserError: a store cannot be reached, or something that is not ours lies in a place.
        """
        if self._newest is not None:
            self._newest.result()

    def close(self) -> None:
        """Waits, whatever comes of the copy under way."""
        self._thread.shutdown()
