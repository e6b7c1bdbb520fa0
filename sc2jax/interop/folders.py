"""Folders that appear whole or not at all."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import fsspec
from fsspec.implementations.local import LocalFileSystem

from sc2jax.errors import UserError


@contextmanager
def new_folder(folder: str) -> Iterator[str]:
    """A folder to write into, which takes the name `folder` at the end, and is deleted if anything goes wrong.

    On an object store nothing can be renamed: there it is written in place, and its manifest, written last, is what
    makes it count.

    Raises:
        UserError: there is a folder of that name with something in it.
    """
    fs, root = fsspec.core.url_to_fs(folder)
    if fs.exists(root) and fs.ls(root):
        raise UserError(f"{folder} exists and is not empty; name another folder, or delete it")
    is_local = isinstance(fs, LocalFileSystem)
    unfinished = f"{root}.unfinished" if is_local else folder
    parents = [parent for parent in Path(root).parents if is_local and not parent.exists()]
    if is_local and fs.exists(unfinished):
        fs.rm(unfinished, recursive=True)
    fs.makedirs(unfinished, exist_ok=True)
    try:
        yield unfinished
        if is_local:
            Path(unfinished).replace(root)
    except BaseException:
        if fs.exists(unfinished):
            fs.rm(unfinished, recursive=True)
        for parent in parents:
            if parent.exists() and not any(parent.iterdir()):
                parent.rmdir()
        raise
