"""The git folder of a repository: where it lies, and the few files of it that are read.

Those are HEAD, the ref that it names, and of the config where the repository came from. Includes and all else that a
config may ask for are left alone. All of them lie in the source, over whatever `.git` files, links and `commondir` they
are reached. A working tree of `git worktree`, or a submodule, whose git folder lies outside of the source is taken if
that folder names the working tree as its own: nobody can make a stranger's git folder say so.
"""

import dataclasses
import functools
import io
import os
import re
import stat
from collections.abc import Callable

from dulwich import reftable
from dulwich.config import ConfigFile

from sc2jax.corpus.sources.git_objects import ObjectStore
from sc2jax.corpus.sources.left_out import SourceError, as_text
from sc2jax.corpus.sources.walk import lies_in, read_bytes

_LINE_BYTES = 1 << 16
_LARGE_BYTES = 1 << 30
"""Limits of files that hold a line, and of those that hold one for each ref or path."""

_SYMBOLIC_REFS = 5
_OBJECT_NAME = re.compile(rb"[0-9a-f]{40}|[0-9a-f]{64}")
_PACKED_LINE = re.compile(rb"#.*|\^?(?:[0-9a-f]{40}|[0-9a-f]{64})|((?:[0-9a-f]{40}|[0-9a-f]{64})) (refs/.+)")
_HASHES = {40: "sha1", 64: "sha256"}
"""Hexadecimal digits of an object's name -> the hash that it is."""

_SHA1_HEX_DIGITS = 40

_USUAL_BRANCHES = ("refs/heads/main", "refs/heads/master")
"""Taken where HEAD names a branch without a commit (The Stack v2's rule where a repository's default is unknown)."""

_PASSWORD = re.compile(r"(?<=://)[^/]*@")


@dataclasses.dataclass(frozen=True)
class GitFolder:
    """Where git keeps what it knows of a repository.

    Attributes:
        root: the working tree, or the repository that has none.
        own: the folder of its HEAD.
        common: the folder of the refs; the same, but for a `git worktree`.
        bound: nothing outside of this folder is read.
    """

    root: str
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
    if not lies_in(source, own):
        if not _names(own, working_tree):
            raise SourceError("git_elsewhere", working_tree, f"to {as_text(own)}")
        bound = _common_folder(own, "/", working_tree)
    return GitFolder(working_tree, own, _common_folder(own, bound, working_tree), bound)


def bare_git_folder(source: str, folder: str) -> GitFolder:
    """That of a repository without a working tree; both paths are free of links.

    Raises:
        SourceError: its refs lie where they may not be read.
    """
    return GitFolder(folder, folder, _common_folder(folder, source, folder), source)


@dataclasses.dataclass(frozen=True)
class Head:
    """What a repository has checked out: the name of the commit, in hexadecimal digits, and its branch, or ""."""

    commit: str
    branch: str

    @property
    def hash(self) -> str:
        """By which this repository names its objects."""
        return _HASHES[len(self.commit)]


def read_head(git: GitFolder) -> Head:
    """The commit that is checked out; where there is none yet, that of a branch with a usual name.

    Raises:
        SourceError: HEAD or a ref is damaged, or there is no commit.
    """
    read_ref = _reftable(git) or functools.partial(_ref, git)
    head = read_ref("HEAD")
    if not head:
        raise SourceError("unreadable_git", git.root, "it has no HEAD")
    for branch in (head[4:].strip(), *_USUAL_BRANCHES) if head.startswith("ref:") else ("",):
        commit = _followed(git, read_ref, branch) if branch else head
        if commit:
            return Head(commit, branch)
    raise SourceError("no_commit", git.root)


def object_store(git: GitFolder, hash_: str) -> ObjectStore:
    """Where its objects lie."""
    return ObjectStore(os.path.join(git.common, "objects"), git.bound, hash_)  # noqa: PTH118


def read_origin(git: GitFolder) -> str:
    """The address that a clone came from, without a password; "" where the config does not say it, or is damaged."""
    try:
        content = _content(git, git.common, "config", _LINE_BYTES)
        config = ConfigFile.from_file(io.BytesIO(content or b""), expand_includes=False)
        return _PASSWORD.sub("", as_text(os.fsdecode(config.get((b"remote", b"origin"), b"url"))))
    except Exception:
        # Whatever dulwich makes of a stranger's bytes, they name no origin.
        return ""


def _followed(git: GitFolder, read_ref: Callable[[str], str], name: str) -> str:
    """The commit that a ref leads to; "" where there is none."""
    for _ in range(_SYMBOLIC_REFS):
        if not name.startswith("refs/") or not _is_plain(name):
            raise SourceError("unreadable_git", git.root, f"its HEAD names {as_text(name)}")
        found = read_ref(name)
        if not found.startswith("ref:"):
            return found
        name = found[4:].strip()
    raise SourceError("unreadable_git", git.root, "its refs name each other without end")


def _ref(git: GitFolder, name: str) -> str:
    """What a ref says, in files: the name of a commit, `ref: ` and another ref, or ""."""
    content = _content(git, git.own if name == "HEAD" else git.common, name, _LINE_BYTES)
    if content is None:
        return "" if name == "HEAD" else _packed_ref(git, os.fsencode(name)).decode()
    if not content.startswith(b"ref:") and not _OBJECT_NAME.fullmatch(content.rstrip()):
        raise SourceError("unreadable_git", git.root, f"its {as_text(name)} holds no commit")
    return os.fsdecode(content.rstrip())


def _reftable(git: GitFolder) -> Callable[[str], str] | None:
    """The same, where refs are kept in tables (git's Documentation/technical/reftable); None where they are not."""
    tables = {folder: _table_refs(git, folder) for folder in (git.own, git.common)}
    if not any(tables.values()):
        return None

    def read(name: str) -> str:
        refs = tables[git.own if name == "HEAD" else git.common]
        kind, value = refs.get(os.fsencode(name), (reftable.REF_VALUE_DELETE, b""))
        if kind == reftable.REF_VALUE_DELETE:
            return ""
        if kind == reftable.REF_VALUE_SYMREF:
            return f"ref: {os.fsdecode(value)}"
        commit = value[:_SHA1_HEX_DIGITS] if kind == reftable.REF_VALUE_PEELED else value
        if not _OBJECT_NAME.fullmatch(commit):
            raise SourceError("unreadable_git", git.root, f"its {as_text(name)} holds no commit")
        return commit.decode()

    return read


def _table_refs(git: GitFolder, folder: str) -> dict[bytes, tuple[int, bytes]]:
    refs: dict[bytes, tuple[int, bytes]] = {}
    listed = _content(git, f"{folder}/reftable", "tables.list", _LINE_BYTES)
    for name in os.fsdecode(listed or b"").split():
        content = _content(git, f"{folder}/reftable", name, _LARGE_BYTES) if _is_plain(name) else None
        try:
            refs |= reftable.ReftableReader(io.BytesIO(content or b"")).all_refs()
        except Exception as error:
            # Whatever dulwich makes of a stranger's bytes, they are no table.
            raise SourceError("unreadable_git", git.root, f"its {as_text(name)}: {error}") from error
    return refs


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
    if not lies_in(bound, os.path.realpath(note)):
        raise SourceError("git_elsewhere", working_tree, f"to {as_text(os.path.realpath(note))}")
    return _resolve(own, _line(os.path.realpath(note), working_tree), working_tree)


def _content(git: GitFolder, folder: str, name: str, limit: int) -> bytes | None:
    """A file of a git folder, or None if there is none."""
    location = os.path.realpath(os.path.join(folder, name))  # noqa: PTH118
    if not lies_in(git.bound, location):
        raise SourceError("git_elsewhere", git.root, f"to {as_text(location)}")
    if not os.path.lexists(location):
        return None
    try:
        return read_bytes(location, limit)
    except SourceError as fault:
        raise SourceError("unreadable_git", git.root, f"its {as_text(name)}: {fault.detail}") from fault


def _packed_ref(git: GitFolder, name: bytes) -> bytes:
    """What the file of packed refs says of one; b"" where there is none."""
    found = b""
    for line in (_content(git, git.common, "packed-refs", _LARGE_BYTES) or b"").splitlines():
        packed = _PACKED_LINE.fullmatch(line)
        if packed is None:
            raise SourceError("unreadable_git", git.root, "its packed-refs are damaged")
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
