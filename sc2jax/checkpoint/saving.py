"""What Orbax is given to save, and the JSON that it writes when all else of a checkpoint is known."""

import asyncio
import dataclasses
import json
from collections.abc import Callable
from typing import Any

import jax
import orbax.checkpoint as ocp
from etils import epath
from orbax.checkpoint import future

from sc2jax import storage
from sc2jax.checkpoint.disk import CHUNK_BYTES, OPTIMIZER, PARAMS, PROGRESS, reason
from sc2jax.checkpoint.fingerprints import start_fingerprint
from sc2jax.checkpoint.progress import PROGRESS_FILE, Progress, describe
from sc2jax.checkpoint.together import Together

_MOST_ERRORS = 8
"""Of one save: of its commit, and of each description that was being written."""

TIMEOUT_SECONDS = 600
"""How long a process waits for the others to have written their parts."""


def atomicity(folder: str) -> ocp.options.AtomicityOptions:
    """How a checkpoint becomes whole: an object store has a last file, a disk renames the folder."""
    mode = ocp.options.AtomicityMode
    return ocp.options.AtomicityOptions(mode.COMMIT_FILE if storage.is_url(folder) else mode.ATOMIC_RENAME)


def background_checkpointer(folder: str, together: Together) -> ocp.AsyncCheckpointer:
    """Orbax's writer and reader of the parts of a checkpoint; what is saved is written on threads of its own."""
    handlers: dict[str, Any] = {
        PARAMS: ocp.StandardCheckpointHandler(),
        OPTIMIZER: ocp.StandardCheckpointHandler(),
        PROGRESS: _ProgressHandler(together),
    }
    how = atomicity(folder)
    place = _place(how, together)
    # Folders are made before anything else, so that all processes know whether they are there.
    behind = ocp.AsyncOptions(
        timeout_secs=TIMEOUT_SECONDS, barrier_sync_fn=together.wait, create_directories_asynchronously=False
    )
    options = ocp.CompositeOptions(temporary_path_class=place, atomicity_options=how, async_options=behind)
    return _Checkpointer(
        together,
        ocp.CompositeCheckpointHandler(composite_options=options, **handlers),
        async_options=behind,
        temporary_path_class=place,
        atomicity_options=how,
    )


class _Checkpointer(ocp.AsyncCheckpointer):
    """Writes nothing into a folder that could not be made."""

    def __init__(self, together: Together, handler: ocp.CompositeCheckpointHandler, **options: Any) -> None:
        super().__init__(handler, **options)
        self._together = together

    async def create_temporary_path(self, temporary_path: Any) -> None:
        """Makes the folder, between two barriers.

        Raises:
            SaveFailedElsewhereError: it could not be made, at all processes alike.
        """
        await super().create_temporary_path(temporary_path)
        self._together.refuse_failed()


def _place(how: ocp.options.AtomicityOptions, together: Together) -> type:
    """Where a checkpoint is written before it is whole, as Orbax makes it between two barriers.

    Those are collectives of JAX: were the one process that makes the folder to raise there, the others would stay in
    one, or meet its next collective. They come out of it, and hear from `together` that the save has failed.
    """
    paths, with_last_file = ocp.path.atomicity, how.mode == ocp.options.AtomicityMode.COMMIT_FILE
    kind: Any = paths.CommitFileTemporaryPath if with_last_file else paths.AtomicRenameTemporaryPath

    class Place(kind):
        async def create(self) -> epath.Path:
            try:
                return await super().create()
            except OSError as error:
                if jax.process_count() == 1:
                    raise
                together.fail(reason(error))
                return self.get()

    return Place


def drain(checkpointer: ocp.AsyncCheckpointer) -> None:
    """Takes the further errors of a save that has failed, which Orbax raises one at a time.

    In the next save they would come up again, in some processes alone and between two collectives of all.
    """
    for _ in range(_MOST_ERRORS):
        try:
            checkpointer.wait_until_finished()
        except Exception:  # the first one has been told
            continue
        return


def to_save(
    progress: Progress, params: Any, optimizer_state: Any, stacked: Any, before: Callable[[], None]
) -> ocp.args.Composite:
    """The parts of a checkpoint; their fingerprints are computed on the devices while they are copied."""
    fingerprints = {PARAMS: start_fingerprint(params), OPTIMIZER: start_fingerprint(optimizer_state)}

    def described() -> dict[str, Any]:
        before()
        return describe(progress, {part: known() for part, known in fingerprints.items()})

    args = {
        PARAMS: ocp.args.StandardSave(params, jax.tree.map(_save_args, stacked)),
        OPTIMIZER: ocp.args.StandardSave(optimizer_state),
        PROGRESS: _ProgressSave(described),
    }
    return ocp.args.Composite(**args)


def _save_args(stacked: bool) -> ocp.SaveArgs:
    return ocp.SaveArgs(chunk_byte_size=CHUNK_BYTES, shard_axes=(0,) if stacked else ())


class _ProgressHandler(ocp.AsyncCheckpointHandler):
    """Writes what a checkpoint says of itself, which is known only in the background."""

    def __init__(self, together: Together) -> None:
        self._together = together

    async def async_save(self, directory: epath.Path, args: "_ProgressSave") -> list[future.Future]:
        """Starts the writing.

        Raises:
            SaveFailedElsewhereError: the folders of the parts could not be made, at all processes alike.
        """
        self._together.refuse_failed()
        return [future.CommitFutureAwaitingContractedSignals(_write(directory, args.described), name="progress")]

    def save(self, directory: epath.Path, args: "_ProgressSave") -> None:
        """Writes it now."""
        asyncio.run(_write(directory, args.described))

    def restore(self, directory: epath.Path, args: Any = None) -> Any:
        """Nothing: it is read without Orbax."""


@ocp.args.register_with_handler(_ProgressHandler, for_save=True, for_restore=True)
@dataclasses.dataclass
class _ProgressSave(ocp.args.CheckpointArgs):
    described: Callable[[], dict[str, Any]]


async def _write(directory: epath.Path, described: Callable[[], dict[str, Any]]) -> None:
    content = json.dumps(described())
    if jax.process_index() == 0:
        (directory / PROGRESS_FILE).write_text(content)
