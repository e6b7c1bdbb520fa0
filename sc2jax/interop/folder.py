"""A folder in Hugging Face's format, which comes from elsewhere: which of its files are opened.

A name in it may stand for a link to any other file of the machine, or for a pipe that never ends.
"""

import errno
import os
import stat
from pathlib import Path

from sc2jax import storage
from sc2jax.errors import UserError

HUGGINGFACE = "huggingface"
"""Where the files that came with an imported model are kept for the way back, beside its checkpoint."""

_NO_FILE = (errno.ENOENT, errno.ENOTDIR, errno.ENAMETOOLONG, errno.ELOOP)
"""What the system says of a path at which no file can be."""


def path_in(folder: Path, name: str) -> Path:
    """The path of a file directly in the folder, by a name that may come out of another file.

    Raises:
        UserError: it is no plain name, or a link that leaves the folder.
    """
    if "/" in name:
        raise UserError(
            f"{folder} names a file {name!r}; its files lie directly in it, and no other is read or written"
        )
    if "\0" not in name and _is_cached(folder, name):
        return folder / name
    try:
        return Path(storage.inside(str(folder), name))
    except UserError as error:
        raise UserError(f"{error}; where links are meant, copy the folder with `cp -rL`") from error


def _is_cached(folder: Path, name: str) -> bool:
    """Whether a file is one of Hugging Face's cache, where a snapshot links to the blobs of the same repository."""
    snapshot, file = Path(os.path.realpath(folder)), Path(os.path.realpath(folder / name))
    return snapshot.parent.name == "snapshots" and file.parent == snapshot.parents[1] / "blobs"


def find_file(folder: Path, name: str) -> Path | None:
    """A file directly in the folder; None if there is none.

    Raises:
        UserError: it is no plain name, a link that leaves the folder, or no regular file.
    """
    path = path_in(folder, name)
    try:
        mode = path.stat().st_mode
    except OSError as error:
        if error.errno in _NO_FILE:
            return None
        raise
    if not stat.S_ISREG(mode) and not stat.S_ISDIR(mode):
        raise UserError(f"{path} is no regular file; nothing of {folder} was read")
    return path if stat.S_ISREG(mode) else None
