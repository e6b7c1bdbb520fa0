"""Git working trees: the files that git tracks, as they lie in the working tree now."""

import os
import stat

from dulwich.errors import NotGitRepository
from dulwich.index import ConflictedIndexEntry, IndexEntry
from dulwich.repo import Repo

from sc2jax.corpus.sources.walk import FoundRepository, as_text
from sc2jax.errors import UserError

_SHA1_HEX_DIGITS = 40


def working_tree(source: str, root: str, name: str) -> FoundRepository:
    """The tracked files of a working tree; those that are deleted in it, links and submodules are left out.

    A file that a merge left in conflict is taken, once, as it lies in the working tree.
    """
    try:
        with Repo(root) as repository:
            # A missing folder reads like a repository without an index, that is, without files.
            for needed in (os.path.join(repository.controldir(), "HEAD"), repository.commondir()):  # noqa: PTH118
                if not os.path.lexists(needed):
                    raise NotGitRepository(f"{needed} does not exist")
            tracked = [path for path, entry in repository.open_index().items() if _may_be_file(entry)]
            try:
                revision = _revision(repository.head())
            except KeyError:
                revision = ""
    except (NotGitRepository, OSError, ValueError, AssertionError) as error:
        raise UserError(
            f"{root}/.git cannot be read as a git repository ({error}); repair it, or remove .git to take the folder "
            "as plain files"
        ) from error
    files = []
    folders: dict[str, bool] = {}
    for path in tracked:
        location = os.path.join(root, os.fsdecode(path))  # noqa: PTH118
        folder = os.path.dirname(location)  # noqa: PTH120
        if folder not in folders:
            folders[folder] = os.path.realpath(folder) == os.path.normpath(folder)
        if folders[folder] and _is_regular(location):
            files.append((as_text(os.fsdecode(path)), location))
    return FoundRepository(source, as_text(name), revision, files)


def _may_be_file(entry: IndexEntry | ConflictedIndexEntry) -> bool:
    """Whether the index knows a path as a regular file, on any side of a conflict."""
    if isinstance(entry, ConflictedIndexEntry):
        return any(side and stat.S_ISREG(side.mode) for side in (entry.this, entry.other, entry.ancestor))
    return stat.S_ISREG(entry.mode)


def _revision(commit: bytes) -> str:
    """The Software Heritage identifier of a commit; its scheme knows no commits of repositories in sha256."""
    return f"swh:1:rev:{commit.decode()}" if len(commit) == _SHA1_HEX_DIGITS else ""


def _is_regular(location: str) -> bool:
    try:
        return stat.S_ISREG(os.lstat(location).st_mode)
    except FileNotFoundError:
        return False
    except OSError as error:
        raise UserError(f"{location} cannot be read ({error.strerror}); make it readable or remove it") from error
