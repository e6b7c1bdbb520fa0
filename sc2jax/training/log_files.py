"""The files of a run's log, to which lines are added as the run goes.

Nothing can be added to a file in an object store. There the files lie on a local disk, from where they are copied whole
with each checkpoint: what a restart needs of them is what was written up to that.
"""

import functools
import shutil
import tempfile
import weakref

from sc2jax import storage
from sc2jax.storage import inside, join
from sc2jax.transfers import copy_file


def read_log(folder: str, name: str) -> bytes:
    """The content of a file of a run's log as it was published; b"" where there is none.

    Raises:
        UserError: it is a link that leaves the folder, or no regular file.
    """
    path = inside(folder, name)
    is_there = storage.exists(path) if storage.is_url(path) else storage.is_there(path)
    return storage.read_bytes(path) if is_there else b""


class LogFiles:
    """Local files that stand for those of a folder, which may be one in an object store."""

    def __init__(self, folder: str) -> None:
        self.folder = folder
        self._opened: dict[str, str] = {}
        self._folders: dict[str, str] = {}
        self._published: dict[str, list[str]] = {}

    def open(self, name: str) -> str:
        """Where a file can be added to, with what it held before; on a local disk in its place, and not made.

        Raises:
            UserError: it is a link that leaves the folder.
        """
        path = inside(self.folder, name)
        if not storage.is_url(self.folder):
            return path
        local = join(self._scratch, name)
        storage.write_whole(local, storage.read_bytes(path) if storage.exists(path) else b"")
        self._opened[local] = path
        return local

    def open_folder(self, name: str) -> str:
        """The same of a folder, of which all files may change, come and go."""
        if not storage.is_url(self.folder):
            return join(self.folder, name)
        local, there = join(self._scratch, name), join(self.folder, name)
        storage.make_folder(local)
        for file in storage.names(there):
            copy_file(join(there, file), join(local, file))
        self._folders[local] = there
        self._published[local] = storage.names(local)
        return local

    @functools.cached_property
    def _scratch(self) -> str:
        folder = tempfile.mkdtemp(prefix="sc2jax-")
        weakref.finalize(self, shutil.rmtree, folder, ignore_errors=True)
        return folder

    def publish(self) -> None:
        """Copies the files to their places in an object store; any thread may do it while lines are added."""
        for local, path in self._opened.items():
            copy_file(local, path)
        for local, there in self._folders.items():
            here = storage.names(local)
            for file in here:
                copy_file(join(local, file), join(there, file))
            for file in set(self._published[local]).difference(here):
                storage.delete_file(join(there, file))
            self._published[local] = here
