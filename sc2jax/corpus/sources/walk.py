"""What the kinds of source share: walking through folders, reading files, and the repository that each kind finds."""

import dataclasses
import os
from collections.abc import Iterable, Iterator
from pathlib import Path

from sc2jax.errors import UserError

SKIPPED_FOLDERS = frozenset({"__pycache__", ".git", ".hg", ".svn", ".bzr", ".jj", "CVS", "_darcs"})


@dataclasses.dataclass
class FoundRepository:
    """A repository as a source holds it.

    Attributes:
        source: the folder that was named as a source.
        name: unique within its source.
        revision: the Software Heritage identifier of its commit, or "".
        files: the path of each in the repository, and its location on disk.
        licenses: locations outside of the repository that speak for all of it.
    """

    source: str
    name: str
    revision: str
    files: list[tuple[str, str]]
    licenses: list[str] = dataclasses.field(default_factory=list)


def read_bytes(location: str) -> bytes:
    """The content of a source file.

    Raises:
        UserError: it cannot be read.
    """
    try:
        return Path(location).read_bytes()
    except OSError as error:
        raise UserError(
            f"{location} cannot be read ({error.strerror}); make it readable, remove it, or name another source"
        ) from error


def walk_files(folder: str, nested: list[str] | None = None) -> Iterator[str]:
    """The regular files below a folder, sorted; git working trees are left out and, where asked, listed in `nested`.

    Raises:
        UserError: a folder cannot be read, or is a git repository without a working tree.
    """
    entries = folder_entries(folder)
    if any(entry.name == ".git" for entry in entries):
        if nested is not None:
            nested.append(folder)
        return
    refuse_bare(folder, entries)
    for entry in entries:
        if entry.is_dir(follow_symlinks=False):
            if entry.name not in SKIPPED_FOLDERS:
                yield from walk_files(entry.path, nested)
        elif entry.is_file(follow_symlinks=False):
            yield entry.path


def folder_entries(folder: str) -> list[os.DirEntry[str]]:
    """What lies directly in a folder, by name.

    Raises:
        UserError: it cannot be read.
    """
    try:
        with os.scandir(folder) as entries:
            return sorted(entries, key=lambda entry: entry.name)
    except OSError as error:
        raise UserError(
            f"{folder} cannot be read ({error.strerror}); make it readable, remove it, or name another source"
        ) from error


def as_text(path: str) -> str:
    """A path as text; bytes that are not UTF-8 are written `\\xNN`."""
    return os.fsencode(path).decode("utf-8", "backslashreplace")


def refuse_bare(folder: str, entries: Iterable[os.DirEntry[str]]) -> None:
    """Refuses a repository without a working tree: its files are packed, and would be missed without a word."""
    kinds = {entry.name: entry for entry in entries}
    if (
        {"HEAD", "objects", "refs"} <= kinds.keys()
        and kinds["HEAD"].is_file(follow_symlinks=False)
        and kinds["objects"].is_dir(follow_symlinks=False)
        and kinds["refs"].is_dir(follow_symlinks=False)
    ):
        raise UserError(
            f"{folder} is a bare git repository, which has no files to read; name a clone of it with a working tree "
            f"(`git clone {folder}`) and move the bare one out of the source"
        )
