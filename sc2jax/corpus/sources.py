"""Sources: which repositories and files a local folder holds, by name and content, before anything is decided on them.

A repository is a git working tree (its tracked files, as they lie there now), else each top-level folder or file of
the source. Nothing below a working tree is looked at that git does not track; symbolic links are never followed.
"""

import csv
import dataclasses
import hashlib
import os
import stat
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import pyarrow as pa
from dulwich.errors import NotGitRepository
from dulwich.index import ConflictedIndexEntry, IndexEntry
from dulwich.repo import Repo

from sc2jax.corpus.licenses import is_license_file
from sc2jax.errors import UserError

FILES = pa.schema(
    [
        pa.field("repository", pa.string()),
        pa.field("path", pa.string()),
        pa.field("location", pa.binary()),
        pa.field("revision", pa.string()),
        pa.field("source_bytes", pa.int64()),
        pa.field("swhid", pa.string()),
    ]
)
"""A file as found: `location` is where its bytes lie; `swhid` is "" where it is too large to be read."""

LICENSE_FILES = pa.schema(
    [
        pa.field("repository", pa.string()),
        pa.field("folder", pa.string()),
        pa.field("location", pa.binary()),
        pa.field("swhid", pa.string()),
    ]
)
"""A file that may tell the licence of the files in `folder` ("" is the root) and below."""

_SKIPPED_FOLDERS = frozenset({"__pycache__", ".git", ".hg", ".svn", ".bzr", ".jj", "CVS", "_darcs"})
_DISTRIBUTION_SUFFIXES = (".dist-info", ".egg-info")
_SHA1_HEX_DIGITS = 40


@dataclasses.dataclass(frozen=True)
class Source:
    """A folder to curate: `only` these of its top-level entries (all where empty), `without` those."""

    root: str
    only: tuple[str, ...] = ()
    without: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True)
class Listing:
    """What the sources hold, sorted by repository and path, and a digest of it that does not name its place on disk."""

    files: pa.Table
    licenses: pa.Table
    digest: str


@dataclasses.dataclass
class _Repository:
    source: str
    name: str
    revision: str
    files: list[tuple[str, str]]  # path in the repository, location
    licenses: list[str] = dataclasses.field(default_factory=list)  # locations outside it that speak for its root


def list_sources(sources: Sequence[Source], max_file_bytes: int, output: str = "") -> Listing:
    """Lists the files of all sources and digests their contents.

    Args:
        sources: folders; one that is named twice counts once.
        max_file_bytes: files of this size and above are not read.
        output: a folder that must not lie among the files to list, for it would change them.

    Raises:
        UserError: a source is missing, holds no file, or something in it cannot be read.
    """
    unique = {os.path.realpath(source.root): source for source in sources}
    repositories = [repository for source in unique.values() for repository in _repositories(source, output)]
    _separate_names(repositories)
    repositories.sort(key=lambda repository: repository.name)
    rows: list[tuple] = []
    license_rows: list[tuple] = []
    for repository in repositories:
        for path, location in sorted(repository.files):
            size, swhid = _identify(location, max_file_bytes)
            rows.append((repository.name, path, os.fsencode(location), repository.revision, size, swhid))
            folder, _, name = path.rpartition("/")
            if swhid and is_license_file(name):
                license_rows.append((repository.name, folder, os.fsencode(location), swhid))
        for location in repository.licenses:
            _, swhid = _identify(location, max_file_bytes)
            if swhid:
                license_rows.append((repository.name, "", os.fsencode(location), swhid))
    license_rows.sort(key=lambda row: (row[0], row[1], row[3]))
    return Listing(_table(rows, FILES), _table(license_rows, LICENSE_FILES), _digest(rows, license_rows))


def git_blob_id(content: bytes) -> str:
    """The Software Heritage identifier of a content: git's own sha1 of it."""
    return "swh:1:cnt:" + hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest()


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
    entries = _entries(folder)
    if any(entry.name == ".git" for entry in entries):
        if nested is not None:
            nested.append(folder)
        return
    _refuse_bare(folder, entries)
    for entry in entries:
        if entry.is_dir(follow_symlinks=False):
            if entry.name not in _SKIPPED_FOLDERS:
                yield from walk_files(entry.path, nested)
        elif entry.is_file(follow_symlinks=False):
            yield entry.path


def top_level_entries(root: str) -> list[os.DirEntry[str]]:
    """What may be a package in a source: its folders and regular files, without the metadata of distributions."""
    return [
        entry
        for entry in _entries(root)
        if entry.name not in _SKIPPED_FOLDERS
        and not entry.name.endswith(_DISTRIBUTION_SUFFIXES)
        and (entry.is_dir(follow_symlinks=False) or entry.is_file(follow_symlinks=False))
    ]


def _repositories(source: Source, output: str) -> list[_Repository]:
    root = os.path.realpath(source.root)
    if not os.path.isdir(root):  # noqa: PTH112
        what = "is not a folder" if os.path.exists(root) else "does not exist"  # noqa: PTH110
        raise UserError(f"the source {source.root} {what}; name a folder of repositories or a git working tree")
    entries = _entries(root)
    if any(entry.name == ".git" for entry in entries):
        found = [_git_repository(root, root, os.path.basename(root))]  # noqa: PTH119
    else:
        _refuse_bare(root, entries)
        _refuse_output_inside(source.root, root, output)
        found = _packages(source, root)
    if not any(repository.files for repository in found):
        raise UserError(f"the source {source.root} holds no files; name a folder of repositories or a git working tree")
    return found


def _packages(source: Source, root: str) -> list[_Repository]:
    """Each top-level entry is a repository of its own, and so is every working tree below."""
    repositories, trees = [], []
    for entry in top_level_entries(root):
        if (source.only and entry.name not in source.only) or entry.name in source.without:
            continue
        if entry.is_file(follow_symlinks=False):
            files = [(_text(entry.name), entry.path)]
        else:
            files = [(_text(os.path.relpath(path, entry.path)), path) for path in walk_files(entry.path, trees)]
        if files:
            repositories.append(_Repository(root, _text(entry.name), "", files))
    _attach_licenses(root, repositories)
    repositories += [_git_repository(root, tree, os.path.relpath(tree, root)) for tree in trees]
    return repositories


def _attach_licenses(root: str, packages: list[_Repository]) -> None:
    """Licences that lie beside the packages: in the metadata of a distribution, else loose in the source."""
    by_name = {package.name: package for package in packages}
    distributions = [
        entry.path
        for entry in _entries(root)
        if entry.name.endswith(_DISTRIBUTION_SUFFIXES) and entry.is_dir(follow_symlinks=False)
    ]
    if not distributions:
        loose = [
            e.path for e in top_level_entries(root) if e.is_file(follow_symlinks=False) and is_license_file(e.name)
        ]
        for package in packages:
            package.licenses += [path for path in loose if path != package.files[0][1]]
    for folder in distributions:
        texts = [path for path in walk_files(folder) if is_license_file(os.path.basename(path))]  # noqa: PTH119
        for name in _installed_names(folder):
            if name in by_name:
                by_name[name].licenses += texts


def _installed_names(distribution: str) -> set[str]:
    """The top-level entries that a distribution installed, by its RECORD, or top_level.txt where there is none."""
    record = os.path.join(distribution, "RECORD")  # noqa: PTH118
    if os.path.exists(record):  # noqa: PTH110
        lines = read_bytes(record).decode("utf-8", "replace").splitlines()
        return {row[0].split("/", 1)[0] for row in csv.reader(lines) if row}
    names = os.path.join(distribution, "top_level.txt")  # noqa: PTH118
    if os.path.exists(names):  # noqa: PTH110
        return {name for line in read_bytes(names).decode().split() for name in (line, f"{line}.py")}
    return set()


def _git_repository(source: str, root: str, name: str) -> _Repository:
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
            files.append((_text(os.fsdecode(path)), location))
    return _Repository(source, _text(name), revision, files)


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


def _separate_names(repositories: Iterable[_Repository]) -> None:
    """Repositories of one name in several sources get as much of their source's path in front as tells them apart."""
    by_name: dict[str, list[_Repository]] = defaultdict(list)
    for repository in repositories:
        by_name[repository.name].append(repository)
    for group in by_name.values():
        if len(group) == 1:
            continue
        parts = [Path(repository.source).parts for repository in group]
        depth = 1
        while len({part[-depth:] for part in parts}) < len(group):
            depth += 1
        for repository, part in zip(group, parts, strict=True):
            repository.name = "/".join([*(_text(name).strip("/") for name in part[-depth:]), repository.name]).lstrip(
                "/"
            )


def _refuse_bare(folder: str, entries: Iterable[os.DirEntry[str]]) -> None:
    """A repository without a working tree holds its files packed: taken as they lie, they would be lost unseen."""
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


def _refuse_output_inside(name: str, root: str, output: str) -> None:
    target = os.path.realpath(output) if output and "://" not in output else ""
    if target and os.path.commonpath([root, target]) == root:
        raise UserError(
            f"the output {output} would lie inside the source {name} and become part of it; choose a folder elsewhere"
        )


def _identify(location: str, max_file_bytes: int) -> tuple[int, str]:
    try:
        size = os.lstat(location).st_size
    except OSError as error:
        raise UserError(f"{location} cannot be read ({error.strerror}); make it readable or remove it") from error
    if size >= max_file_bytes:
        return size, ""
    content = read_bytes(location)
    return len(content), git_blob_id(content)


def _entries(folder: str) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            return sorted(entries, key=lambda entry: entry.name)
    except OSError as error:
        raise UserError(
            f"{folder} cannot be read ({error.strerror}); make it readable, remove it, or name another source"
        ) from error


def _text(path: str) -> str:
    """A path as text; bytes that are not UTF-8 are written `\\xNN`."""
    return os.fsencode(path).decode("utf-8", "backslashreplace")


def _table(rows: list[tuple], schema: pa.Schema) -> pa.Table:
    columns = list(zip(*rows, strict=True)) or [()] * len(schema)
    return pa.table([pa.array(column, field.type) for column, field in zip(columns, schema, strict=True)], schema)


def _digest(rows: list[tuple], license_rows: list[tuple]) -> str:
    digest = hashlib.sha256()
    for repository, path, _, revision, size, swhid in rows:
        digest.update(f"{repository}\0{path}\0{revision}\0{size}\0{swhid}\n".encode())
    for repository, folder, _, swhid in license_rows:
        digest.update(f"license\0{repository}\0{folder}\0{swhid}\n".encode())
    return digest.hexdigest()
