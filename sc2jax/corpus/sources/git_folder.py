"""The git folder of a working tree: where it lies, and the few files of it that are read.

Those are HEAD, the ref that it names, and the index. No object is read, and no config, which may include any other
file. All of them lie in the source, over whatever `.git` files, links and `commondir` they are reached. A working tree
of `git worktree`, or a submodule, whose git folder lies outside of the source is taken if that folder names the working
tree as its own: nobody can make a stranger's git folder say so.
"""

import dataclasses
import io
import os
import re
import stat

from dulwich.config import ConfigFile

from sc2jax.corpus.sources.git_index import DamagedIndexError, tracked_paths
from sc2jax.corpus.sources.left_out import SourceError, as_text
from sc2jax.corpus.sources.walk import read_bytes

_LINE_BYTES = 1 << 16
_LARGE_BYTES = 1 << 30
"""Limits of files that hold a line, and of those that hold one for each ref or path."""

_SYMBOLIC_REFS = 5
_OBJECT_NAME = re.compile(rb"[0-9a-f]{40}|[0-9a-f]{64}")
_PACKED_LINE = re.compile(rb"#.*|\^?(?:[0-9a-f]{40}|[0-9a-f]{64})|((?:[0-9a-f]{40}|[0-9a-f]{64})) (refs/.+)")
_SHA1_HEX_DIGITS = 40


@dataclasses.dataclass(frozen=True)
class GitFolder:
    """Where git keeps what it knows of a working tree.

    Attributes:
        working_tree: the folder with its files.
        own: the folder of its HEAD and index.
        common: the folder of the refs; the same, but for a `git worktree`.
        bound: nothing outside of this folder is read.
    """

    working_tree: str
    own: str
    common: str
    bound: str


def find_git_folder(source: str, working_tree: str) -> GitFolder:
    """The git folder of a working tree in a source; both paths are free of links.

    Raises:
        SourceError: there is none, or it lies where it may not be read.
    """
    own = _own_folder(working_tree)
    bound = source
    if not _lies_in(source, own):
        if not _names(own, working_tree):
            raise SourceError("git_elsewhere", working_tree, f"to {as_text(own)}")
        bound = _common_folder(own, "/", working_tree)
    return GitFolder(working_tree, own, _common_folder(own, bound, working_tree), bound)


def read_index(git: GitFolder) -> dict[bytes, str]:
    """The tracked paths and what each is; see `tracked_paths`.

    Raises:
        SourceError: there is no index, or it is damaged.
    """
    content = _content(git, git.own, "index", _LARGE_BYTES)
    if content is None:
        raise SourceError("no_index", git.working_tree)
    try:
        return tracked_paths(content)
    except DamagedIndexError as error:
        raise SourceError("unreadable_git", git.working_tree, f"its index: {error}") from error


def read_revision(git: GitFolder) -> str:
    """The Software Heritage identifier of the commit that is checked out.

    It is "" before the first commit, in repositories in sha256, which the scheme does not know, and where the refs are
    kept in a reftable.

    Raises:
        SourceError: HEAD or the ref that it names is damaged.
    """
    folder, name = git.own, "HEAD"
    for _ in range(_SYMBOLIC_REFS):
        content = _content(git, folder, name, _LINE_BYTES)
        if content is None and name != "HEAD":
            commit = _packed_ref(git, os.fsencode(name))
        elif content is None:
            raise SourceError("unreadable_git", git.working_tree, "it has no HEAD")
        elif content.startswith(b"ref:"):
            folder, name = git.common, os.fsdecode(content[4:].strip())
            if not name.startswith("refs/") or not _is_plain(name):
                raise SourceError("unreadable_git", git.working_tree, f"its HEAD names {as_text(name)}")
            continue
        elif not _OBJECT_NAME.fullmatch(content.rstrip()):
            raise SourceError("unreadable_git", git.working_tree, f"its {as_text(name)} holds no commit")
        else:
            commit = content.rstrip()
        return f"swh:1:rev:{commit.decode()}" if len(commit) == _SHA1_HEX_DIGITS else ""
    raise SourceError("unreadable_git", git.working_tree, "its refs name each other without end")


def _own_folder(working_tree: str) -> str:
    """Where `.git` leads to: a folder, a file that names one, or a link to one."""
    marker = os.path.join(working_tree, ".git")  # noqa: PTH118
    try:
        mode = os.lstat(marker).st_mode
    except OSError as error:
        raise SourceError("unreadable_git", working_tree, error.strerror or str(error)) from error
    if stat.S_ISREG(mode):
        line = _line(marker, working_tree)
        if not line.startswith(b"gitdir:"):
            raise SourceError("unreadable_git", working_tree, "the file .git names no folder")
        folder = _resolve(working_tree, line.removeprefix(b"gitdir:").strip(), working_tree)
    elif stat.S_ISDIR(mode) or stat.S_ISLNK(mode):
        folder = os.path.realpath(marker)
    else:
        raise SourceError("unreadable_git", working_tree, ".git is neither a folder nor a file")
    if not os.path.isdir(folder):  # noqa: PTH112
        raise SourceError("unreadable_git", working_tree, f"it leads to {as_text(folder)}, where there is no folder")
    return folder


def _names(own: str, working_tree: str) -> bool:
    """Whether a git folder says that this is its working tree: git notes that for worktrees and for submodules."""
    try:
        note = os.path.join(own, "gitdir")  # noqa: PTH118
        if os.path.lexists(note):
            marker = os.path.join(working_tree, ".git")  # noqa: PTH118
            return _resolve(own, _line(note, working_tree), working_tree) == marker
        content = read_bytes(os.path.join(own, "config"), _LINE_BYTES)  # noqa: PTH118
        config = ConfigFile.from_file(io.BytesIO(content), expand_includes=False)
        return _resolve(own, config.get((b"core",), b"worktree"), working_tree) == working_tree
    except Exception:
        # Whatever dulwich makes of a stranger's bytes, they do not name the working tree.
        return False


def _common_folder(own: str, bound: str, working_tree: str) -> str:
    note = os.path.join(own, "commondir")  # noqa: PTH118
    if not os.path.lexists(note):
        return own
    if not _lies_in(bound, os.path.realpath(note)):
        raise SourceError("git_elsewhere", working_tree, f"to {as_text(os.path.realpath(note))}")
    return _resolve(own, _line(os.path.realpath(note), working_tree), working_tree)


def _content(git: GitFolder, folder: str, name: str, limit: int) -> bytes | None:
    """A file of a git folder, or None if there is none."""
    location = os.path.realpath(os.path.join(folder, name))  # noqa: PTH118
    if not _lies_in(git.bound, location):
        raise SourceError("git_elsewhere", git.working_tree, f"to {as_text(location)}")
    if not os.path.lexists(location):
        return None
    try:
        return read_bytes(location, limit)
    except SourceError as fault:
        raise SourceError("unreadable_git", git.working_tree, f"its {as_text(name)}: {fault.detail}") from fault


def _packed_ref(git: GitFolder, name: bytes) -> bytes:
    """What the file of packed refs says of one; b"" where there is none."""
    found = b""
    for line in (_content(git, git.common, "packed-refs", _LARGE_BYTES) or b"").splitlines():
        packed = _PACKED_LINE.fullmatch(line)
        if packed is None:
            raise SourceError("unreadable_git", git.working_tree, "its packed-refs are damaged")
        if packed[2] == name:
            found = packed[1]
    return found


def _line(location: str, working_tree: str) -> bytes:
    """The only line of a file."""
    try:
        return read_bytes(location, _LINE_BYTES).rstrip(b"\r\n")
    except SourceError as fault:
        name = os.path.basename(location)  # noqa: PTH119
        raise SourceError("unreadable_git", working_tree, f"its {name}: {fault.detail}") from fault


def _resolve(folder: str, path: bytes, working_tree: str) -> str:
    """A path that a file names, absolute or relative to a folder, without links."""
    if not path or b"\0" in path:
        raise SourceError("unreadable_git", working_tree, "a file of it names no path")
    return os.path.realpath(os.path.join(folder, os.fsdecode(path)))  # noqa: PTH118


def _is_plain(path: str) -> bool:
    return "\0" not in path and not any(part in ("", ".", "..") for part in path.split("/"))


def _lies_in(folder: str, path: str) -> bool:
    """Whether a path without links is a folder or lies below it."""
    return os.path.commonpath([folder, path]) == folder
