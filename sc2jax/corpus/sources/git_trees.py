"""Git working trees: the files that git tracks, as they lie in the working tree now."""

import os
import stat

from sc2jax.corpus.sources.git_folder import find_git_folder, read_index, read_revision
from sc2jax.corpus.sources.left_out import LeftOut, SourceError, as_text
from sc2jax.corpus.sources.license_files import promises_license
from sc2jax.corpus.sources.walk import FoundRepository
from sc2jax.errors import UserError
from sc2jax.storage import inside

_LEFT_OUT = {"link": "link", "submodule": "submodule", "folder": "not_in_working_tree"}
"""What an index tracks beside files -> why that is left out."""


def working_tree(source: str, root: str, name: str, left_out: LeftOut) -> FoundRepository | None:
    """The tracked files of a working tree; those that are deleted in it, links and submodules are left out.

    A file that a merge left in conflict is taken, once, as it lies in the working tree. None if git's own files cannot
    be read.
    """
    try:
        git = find_git_folder(source, root)
        revision, tracked = read_revision(git), read_index(git)
    except SourceError as fault:
        left_out.add(fault)
        return None
    files, missing = [], []
    folders: dict[str, str] = {}
    for path, kind in tracked.items():
        relative = os.fsdecode(path)
        name_at = relative.rfind("/") + 1
        folder = relative[:name_at]
        if folder not in folders:
            folders[folder] = _why_not_below(root, folder)
        location = f"{root}/{relative}"
        reason = folders[folder] or _LEFT_OUT.get(kind) or _why_not(location, relative[name_at:])
        if reason:
            left_out.add(SourceError(reason, location))
            if promises_license(relative):
                missing.append((as_text(relative), location))
        else:
            files.append((as_text(relative), location))
    return FoundRepository(source, as_text(name), revision, files, missing)


def _why_not_below(root: str, folder: str) -> str:
    """Why nothing in a folder that an index names, with a slash at its end, is taken; "" if it is."""
    if not folder:
        return ""
    try:
        location = inside(root, folder[:-1])
    except UserError:
        return "unsafe_path"
    if any(map(_is_gits, folder.split("/"))):
        return "unsafe_path"
    return "" if os.path.realpath(location) == location else "link"


def _why_not(location: str, name: str) -> str:
    """Why a file that an index names is not taken; "" if it is."""
    if _is_gits(name):
        return "unsafe_path"
    try:
        mode = os.lstat(location).st_mode
    except (FileNotFoundError, NotADirectoryError):
        return "not_in_working_tree"
    except OSError:
        return "unreadable_file"
    if stat.S_ISREG(mode):
        return ""
    return "link" if stat.S_ISLNK(mode) else "not_in_working_tree" if stat.S_ISDIR(mode) else "special_file"


def _is_gits(name: str) -> bool:
    """Whether a name is that of git's own folder or file, in any case, as git itself refuses to track it."""
    return name.lower() == ".git"
