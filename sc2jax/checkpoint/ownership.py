"""Which files among a run's checkpoints are ours, for nothing else is deleted, and nothing is written over.

A checkpoint of ours says of itself what it is, and of what lies in it Orbax's own files alone are ours, each known by
its whole path. Other folders may have numbers for names too: they are no checkpoints, and stay.
"""

import contextlib
import re
from collections.abc import Callable

from sc2jax import storage, transfers
from sc2jax.checkpoint.disk import COMMITTED, OPTIMIZER, PARAMS, PROGRESS
from sc2jax.checkpoint.progress import progress_path
from sc2jax.errors import UserError
from sc2jax.storage import join

HALF = ".orbax-checkpoint-tmp"
"""How the name of a folder ends in which Orbax has not finished."""
_TEMPORARY = re.escape(HALF)
_NAME = re.compile(rf"(0|[1-9]\d*)({_TEMPORARY}(?:-\d+)?)?", re.ASCII)
_ARRAYS = rf"(?:{PARAMS}|{OPTIMIZER})(?:{_TEMPORARY})?"
_OCDBT = r"(?:ocdbt\.process_\d+/)?(?:manifest\.ocdbt|d/[0-9a-f]{32})"
_LOCK = r"(?:\.__lock)?"
_OURS = re.compile(
    rf"_CHECKPOINT_METADATA|commit_success\.txt"
    rf"|{PROGRESS}(?:{_TEMPORARY})?/(?:metadata|commit_success\.txt)"
    rf"|{_ARRAYS}/(?:_METADATA|_sharding|commit_success\.txt|array_metadatas/process_\d+|{_OCDBT}{_LOCK})",
    re.ASCII,
)
_ZARR = re.compile(rf"({PARAMS}/[^/]+)/(?:\.zarray|\d+(?:\.\d+)*){_LOCK}", re.ASCII)
"""A file of an array that is no part of an OCDBT database, and its folder, which holds a `.zarray`."""


def own_steps(folder: str) -> list[int]:
    """The steps of the complete checkpoints in a folder, oldest first."""
    named = [_NAME.fullmatch(name) for name in storage.names(folder)]
    steps = [int(found[1]) for found in named if found and not found[2]]
    return sorted(step for step in steps if _is_complete(folder, step))


def _is_complete(folder: str, step: int) -> bool:
    committed = not storage.is_url(folder) or storage.exists(join(folder, f"{step}/{COMMITTED}"))
    return committed and storage.exists(progress_path(folder, step))


def sweep(folder: str) -> None:
    """Deletes half-written checkpoints.

    Orbax would do it on a thread of its own that nobody waits for: opened twice, it trips over itself.
    """
    for name in storage.names(folder):
        if _is_half_written(folder, name):
            delete_checkpoint(folder, name)


def delete_checkpoint(folder: str, name: str) -> None:
    """Deletes the files of a checkpoint, whole or half-written, and all of it if nothing else lies in it.

    It is made a half-written one first where that takes one step, so that what an interrupted deletion leaves is swept.
    In an object store the file that makes it whole goes first. Where something else lies in it, what it says of itself
    goes last: a checkpoint is left, which is deleted again.
    """
    path = join(folder, name)
    if not storage.is_folder(path):
        return
    files = storage.files_below(path)
    foreign = _foreign_among(files)
    if not _is_half_written(folder, name) and not foreign:
        path = transfers.try_rename(path, f"{path}{HALF}")
    ours = set(files).difference(foreign)
    for file in sorted(ours, key=lambda file: (file != COMMITTED, file.startswith(PROGRESS), file)):
        with contextlib.suppress(FileNotFoundError):  # a lock of a save that failed, whose last writes have ended now
            storage.delete_file(join(path, file))
    storage.delete_empty_folders(path)


def own_files(folder: str, step: int) -> list[str]:
    """The files of a checkpoint, relative to its folder, without what else lies there."""
    files = storage.files_below(join(folder, str(step)))
    return sorted(set(files).difference(_foreign_among(files)))


def make_room(folder: str, step: int) -> None:
    """Deletes a checkpoint of a step, whole or half-written, that is to be written anew.

    Raises:
        UserError: something that is not ours lies in it or in its place; nothing whole is then deleted.
    """
    sweep(folder)
    if not any(entry.partition("/")[0] == str(step) for entry in foreign_entries(folder)):
        delete_checkpoint(folder, str(step))
    refuse_occupied(folder, lambda other: other == step)


def foreign_entries(folder: str) -> list[str]:
    """What lies in a folder of checkpoints and is not ours, relative to it."""
    steps = set(map(str, own_steps(folder)))
    foreign = []
    for name in storage.names(folder):
        path = join(folder, name)
        if (name in steps or _is_half_written(folder, name)) and storage.is_folder(path):
            foreign += [join(name, file) for file in _foreign_among(storage.files_below(path))]
        else:
            foreign.append(name)
    return foreign


def refuse_irregular(folder: str) -> None:
    """Makes sure that Orbax finds regular files alone where it looks when it opens a folder: in those with numbers.

    Raises:
        UserError: something else is there: a pipe would be waited for without end.
    """
    for name in storage.names(folder):
        if name.isdecimal():
            storage.refuse_irregular(join(folder, name))


def refuse_occupied(folder: str, is_saved: Callable[[int], bool]) -> None:
    """Makes sure that nothing lies where checkpoints are going to be written, given which steps are saved.

    Raises:
        UserError: something does, which is not touched.
    """
    for name in storage.names(folder):
        found = _NAME.fullmatch(name)
        if found and is_saved(int(found[1])):
            raise UserError(
                f"{join(folder, name)} is not ours and lies where the checkpoint of step {found[1]} has to go; move it "
                "away and run again"
            )


def _is_half_written(folder: str, name: str) -> bool:
    """Whether a name is that of a save that did not end; in an object store it has none of its own."""
    found = _NAME.fullmatch(name)
    if found is None or not storage.is_url(folder):
        return found is not None and found[2] is not None
    return found[2] is not None or not _is_complete(folder, int(found[1]))


def _foreign_among(files: list[str]) -> list[str]:
    """Those of the files below a checkpoint that are not ours."""
    arrays = {file.removesuffix("/.zarray") for file in files if file.endswith("/.zarray")}
    chunks = {file for file in files if (found := _ZARR.fullmatch(file)) and found[1] in arrays}
    return [file for file in files if not _OURS.fullmatch(file) and file not in chunks]
