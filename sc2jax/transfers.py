"""Files and folders that get another name or another place, between local disks and object stores."""

import shutil
from pathlib import Path

from fsspec.implementations.local import LocalFileSystem

from sc2jax import storage
from sc2jax.stores import file_system, reaches, reaching

_BLOCK_BYTES = 8 * 2**20


@reaches
def try_rename(folder: str, other: str) -> str:
    """Gives a local folder another name in one step, and returns it; its own, if there is something of that name.

    An object store renames a file at a time, so that nothing is renamed there.
    """
    fs, local = file_system(folder)
    if not isinstance(fs, LocalFileSystem) or storage.is_there(other):
        return folder
    Path(local).rename(file_system(other)[1])
    return other


def copy_file(source: str, target: str) -> None:
    """Copies a file between the local disk and an object store, of any size; a target that is there is written over.

    On the local disk, and in stores that show an object when its upload is complete, it is there whole or not at all.
    """
    if not storage.is_url(target):
        Path(target).parent.mkdir(parents=True, exist_ok=True)
        with storage.open_file(source) as file, storage.new_file(Path(target)) as copy:
            shutil.copyfileobj(file, copy, _BLOCK_BYTES)
        return
    storage.make_folder(target.rpartition("/")[0])
    with reaching(target):
        fs, remote = file_system(target)
        fs.put_file(source, remote)
