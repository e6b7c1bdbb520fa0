"""Git repositories: the files of the commit that is checked out, as git's objects have them.

No file is taken from a working tree: what lies there may be changed, converted, or not there at all.
"""

import dataclasses
import os
import posixpath
import stat
from collections.abc import Iterator
from datetime import UTC, datetime

from sc2jax.corpus.sources.contents import git_location
from sc2jax.corpus.sources.git_folder import (
    GitFolder,
    Head,
    bare_git_folder,
    find_git_folder,
    object_store,
    read_head,
    read_origin,
)
from sc2jax.corpus.sources.git_objects import GitObjects, opened
from sc2jax.corpus.sources.git_working_tree import count_differences
from sc2jax.corpus.sources.left_out import LeftOut, SourceError, as_text
from sc2jax.corpus.sources.license_files import promises_license
from sc2jax.corpus.sources.walk import FoundFile, FoundRepository, Origin

MOST_LEVELS = 64
"""Folders deeper than this are left out (The Stack v2 walks 64 levels)."""

MOST_IN_A_LEVEL = 1_000_000
"""Entries of one level of a repository (The Stack v2's guard); a few small trees can name each other in any number."""

_MOST_ENTRIES = 4 * MOST_IN_A_LEVEL
_TREE_BYTES = 256 << 20
_LINE_BYTES = 1 << 16
_COMMIT_BYTES = 16 << 20

_OF_FOLDERS = {"missing_object": "missing_folder"}
"""Why an object cannot be read -> the same of a tree; any other is damaged."""

_FILE, _LINK, _SUBMODULE = "file", "link", "submodule"
_KINDS = {stat.S_IFREG: _FILE, stat.S_IFLNK: _LINK, 0o160000: _SUBMODULE, stat.S_IFDIR: "folder"}


@dataclasses.dataclass(frozen=True, slots=True)
class _Entry:
    path: bytes
    kind: str
    name: str
    """Of the object."""


def git_repository(source: str, root: str, name: str, left_out: LeftOut) -> FoundRepository:
    """The files of a repository's commit; links, submodules and what cannot be read are left out.

    Args:
        source: the folder that was named as a source.
        root: the working tree, or a repository without one; a path without links.
        name: of the repository.
        left_out: counts what is left out.

    Returns:
        The repository, without files where git's own cannot be read.

    Raises:
        UserError: git is not installed.
    """
    try:
        git = _git_folder(source, root)
        head = read_head(git)
        with opened(object_store(git, head.hash)) as objects:
            return _at(source, git, head, objects, name, left_out)
    except SourceError as fault:
        at_root = SourceError(fault.reason, root, fault.detail)
        left_out.add(at_root)
        return FoundRepository(source, as_text(name), "", [], fault=at_root)


def _git_folder(source: str, root: str) -> GitFolder:
    marked = os.path.lexists(os.path.join(root, ".git"))  # noqa: PTH118
    return find_git_folder(source, root) if marked else bare_git_folder(source, root)


def _at(source: str, git: GitFolder, head: Head, objects: GitObjects, name: str, left_out: LeftOut) -> FoundRepository:
    commit = _only(objects.read([head.commit], _COMMIT_BYTES))
    tree = _tree_of(commit, git.root)
    entries = list(_walk(objects, tree, git.root, left_out))
    files = [entry for entry in entries if entry.kind == _FILE]
    found = _files(git, head, objects, files, left_out)
    identifiers = head.hash == "sha1"  # the scheme knows no other
    origin = Origin(
        url=read_origin(git),
        branch=head.branch,
        directory=f"swh:1:dir:{tree}" if identifiers else "",
        revision_date=_date(commit, b"author"),
        committer_date=_date(commit, b"committer"),
    )
    revision = f"swh:1:rev:{head.commit}" if identifiers else ""
    missing = _missing(entries, {entry.path: file for entry, file in found.items()}, objects)
    for entry in entries:
        if entry.kind != _FILE:
            left_out.add(SourceError(entry.kind, _place(git.root, entry.path)))
    if git.root != git.own:
        sizes = {file.path: file.size for file in found.values()}
        committed = {os.fsdecode(entry.path): (entry.name, sizes.get(_text(entry.path))) for entry in files}
        count_differences(git.root, committed, head.hash, left_out)
    return FoundRepository(source, as_text(name), revision, list(found.values()), missing, origin=origin)


def _walk(objects: GitObjects, tree: str, root: str, left_out: LeftOut) -> Iterator[_Entry]:
    """All that lies below a tree but folders, level by level."""
    level, total = [(b"", tree)], 0
    for _ in range(MOST_LEVELS):
        deeper: list[tuple[bytes, str]] = []
        count = 0
        for (folder, _), content in zip(level, objects.read([name for _, name in level], _TREE_BYTES), strict=True):
            place = _place(root, folder)
            if isinstance(content, SourceError):
                if not folder:
                    raise SourceError("unreadable_git", root, "its tree is damaged, or not there")
                left_out.add(SourceError(_OF_FOLDERS.get(content.reason, "damaged_folder"), place))
                continue
            try:
                entries = list(_entries(content, folder, len(tree)))
            except ValueError:
                left_out.add(SourceError("damaged_folder", place))
                continue
            count += len(entries)
            if count > MOST_IN_A_LEVEL or total + count > _MOST_ENTRIES:
                left_out.add(SourceError("too_many_paths", root))
                return
            for entry in entries:
                if _is_unsafe(entry.path[len(folder) + bool(folder) :]):
                    left_out.add(SourceError("unsafe_path", _place(root, entry.path)))
                elif entry.kind == "folder":
                    deeper.append((entry.path, entry.name))
                else:
                    yield entry
        level, total = deeper, total + count
        if not level:
            return
    for folder, _ in level:
        left_out.add(SourceError("too_deep", _place(root, folder)))


def _entries(tree: bytes, folder: bytes, digits: int) -> Iterator[_Entry]:
    """The entries of a tree: mode, space, name, NUL, and the bytes of an object's name.

    Raises:
        ValueError: it is none.
    """
    at, length = 0, digits // 2
    while at < len(tree):
        space = tree.index(b" ", at)
        nul = tree.index(b"\0", space)
        name = tree[nul + 1 : nul + 1 + length]
        if len(name) < length:
            raise ValueError("a tree that ends early")
        kind = _KINDS.get(stat.S_IFMT(int(tree[at:space], 8)), "special_file")
        path = tree[space + 1 : nul]
        yield _Entry(b"/".join([folder, path]) if folder else path, kind, name.hex())
        at = nul + 1 + length


def _files(
    git: GitFolder, head: Head, objects: GitObjects, entries: list[_Entry], left_out: LeftOut
) -> dict[_Entry, FoundFile]:
    """Each file with its size and identifier, but for those whose content is not there."""
    prefix = git_location(object_store(git, head.hash))
    found = {}
    for entry, size in zip(entries, objects.sizes([entry.name for entry in entries]), strict=True):
        fault = size if isinstance(size, SourceError) else None
        if fault is None and size[0] != "blob":  # pyright: ignore[reportIndexIssue]
            fault = SourceError("damaged_object", git.root)
        if fault is not None:
            left_out.add(SourceError(fault.reason, _place(git.root, entry.path)))
            continue
        swhid = f"swh:1:cnt:{entry.name}" if head.hash == "sha1" else ""
        location = prefix + entry.name.encode()
        found[entry] = FoundFile(_text(entry.path), location, size[1], swhid)  # pyright: ignore[reportIndexIssue]
    return found


def _missing(
    entries: list[_Entry], files: dict[bytes, FoundFile], objects: GitObjects
) -> list[tuple[str, FoundFile | None]]:
    """What promises a licence and is no file that can be read, with the file that a link of that kind leads to."""
    promised = [entry for entry in entries if entry.path not in files and promises_license(_text(entry.path))]
    links = [entry for entry in promised if entry.kind == _LINK]
    targets = dict(zip(links, objects.read([entry.name for entry in links], _LINE_BYTES), strict=True))
    found = []
    for entry in promised:
        target = targets.get(entry)
        path = posixpath.join(posixpath.dirname(entry.path), target) if isinstance(target, bytes) else b""
        found.append((_text(entry.path), files.get(posixpath.normpath(path))))
    return found


def _only(contents: Iterator[bytes | SourceError]) -> bytes:
    (content,) = contents
    if isinstance(content, SourceError):
        raise SourceError("unreadable_git", content.location, "its commit is damaged, or not there")
    return content


def _tree_of(commit: bytes, root: str) -> str:
    word, _, name = commit.partition(b"\n")[0].partition(b" ")
    if word != b"tree":
        raise SourceError("unreadable_git", root, "its HEAD holds no commit")
    return name.decode("ascii", "replace")


def _date(commit: bytes, whose: bytes) -> str:
    """When a commit was written, in UTC, such as 2023-07-26T10:00:00Z; "" where it does not say."""
    for line in commit.partition(b"\n\n")[0].split(b"\n"):
        words = line.split()
        if words and words[0] == whose:
            try:
                return datetime.fromtimestamp(int(words[-2]), UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
            except (ValueError, IndexError, OverflowError, OSError):
                return ""
    return ""


def _is_unsafe(name: bytes) -> bool:
    """Whether a name is one that git itself refuses to check out: it would lead elsewhere, or into git's own folder."""
    return name in (b"", b".", b"..") or b"/" in name or name.lower() == b".git"


def _text(path: bytes) -> str:
    return as_text(os.fsdecode(path))


def _place(root: str, path: bytes) -> str:
    return f"{root}/{os.fsdecode(path)}" if path else root
