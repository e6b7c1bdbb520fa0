"""How a git working tree differs from the commit that is taken of its repository: nobody should take one for the other.

What is not in the working tree, as in a sparse one or in a clone without a checkout, is no difference.
"""

import hashlib
import os
from collections.abc import Mapping

from sc2jax.corpus.sources.left_out import LeftOut, SourceError
from sc2jax.corpus.sources.walk import SKIPPED_FOLDERS, folder_entries, is_git, kind_of, read_bytes

_MOST_BYTES = 64 << 20
"""Larger files are compared by their sizes."""


def count_differences(
    root: str, committed: Mapping[str, tuple[str, int | None]], hash_: str, left_out: LeftOut
) -> None:
    """Counts files that are not as they were committed, and files and whole folders that are not committed at all.

    Args:
        root: the working tree.
        committed: path of each file -> the name of its object, and its size, if that can be told.
        hash_: `sha1` or `sha256`, by which objects are named.
        left_out: counts the differences.
    """
    tracked = _folders_of(committed)
    uncounted = LeftOut()  # links, pipes and what cannot be read are no files that could have been committed
    waiting = [""]
    while waiting:
        folder = waiting.pop()
        try:
            entries = folder_entries(f"{root}/{folder}")
        except SourceError as fault:
            left_out.add(fault)
            continue
        if folder and is_git(entries):
            continue  # a repository of its own
        for entry in entries:
            path = f"{folder}{entry.name}"
            kind = kind_of(entry, uncounted)
            if kind == "file" and path in committed:
                if not _is_same(entry.path, *committed[path], hash_):
                    left_out.add(SourceError("modified", entry.path))
            elif kind == "folder" and f"{path}/" in tracked:
                waiting.append(f"{path}/")
            elif (kind == "file" and entry.name != ".git") or (kind == "folder" and _is_loose(entry)):
                left_out.add(SourceError("untracked", entry.path))


def _folders_of(paths: Mapping[str, object]) -> set[str]:
    folders: set[str] = set()
    for path in paths:
        folder = path[: path.rfind("/") + 1]
        while folder and folder not in folders:
            folders.add(folder)
            folder = folder[: folder[:-1].rfind("/") + 1]
    return folders


def _is_loose(folder: os.DirEntry[str]) -> bool:
    """Whether a folder without a committed file holds something, and is no repository of its own."""
    try:
        entries = folder_entries(folder.path) if folder.name not in SKIPPED_FOLDERS else []
    except SourceError:
        return True
    return bool(entries) and not is_git(entries)


def _is_same(location: str, name: str, size: int | None, hash_: str) -> bool:
    """Whether a file is what was committed, or that with the line ends of Windows, as far as that can be told."""
    if size is None:
        return True
    try:
        found = os.lstat(location).st_size
        if max(found, size) > _MOST_BYTES:
            return found == size
        if found < size:
            return False
        content = read_bytes(location, _MOST_BYTES)
    except (SourceError, OSError):
        return False
    if len(content) != size:
        content = content.replace(b"\r\n", b"\n")
    return hashlib.new(hash_, b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest() == name
