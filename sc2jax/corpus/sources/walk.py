"""What the kinds of source share: walking through folders, reading files, and the repository that each kind finds."""

import dataclasses
import io
import os
import stat
from collections.abc import Iterable, Iterator, Sequence
from typing import Protocol

from sc2jax.corpus.sources.left_out import LeftOut, SourceError
from sc2jax.corpus.sources.license_files import promises_license

SKIPPED_FOLDERS = frozenset({"__pycache__", ".git", ".hg", ".svn", ".bzr", ".jj", "CVS", "_darcs"})

_OPEN_FLAGS = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
"""A link or a pipe that takes a file's place after it was looked at is not followed or waited for."""


class Entry(Protocol):
    """What is asked of an entry of a folder, such as `os.DirEntry`."""

    @property
    def name(self) -> str:
        """Without its folder."""
        ...

    @property
    def path(self) -> str:
        """With its folder."""
        ...

    def is_file(self, *, follow_symlinks: bool) -> bool:
        """Whether it is a regular file."""
        ...

    def is_dir(self, *, follow_symlinks: bool) -> bool:
        """Whether it is a folder."""
        ...

    def is_symlink(self) -> bool:
        """Whether it is a link."""
        ...


@dataclasses.dataclass(frozen=True, slots=True)
class FoundFile:
    """A file as a source holds it.

    Attributes:
        path: in its repository.
        location: of its bytes (see `contents.py`).
        size: in bytes; -1 where that is not known yet.
        swhid: the Software Heritage identifier of its content, or "" where that is not known yet.
    """

    path: str
    location: bytes
    size: int = -1
    swhid: str = ""


@dataclasses.dataclass(frozen=True)
class Origin:
    """Where a repository comes from, as far as it says so: texts, "" where it does not.

    Attributes:
        url: that it was cloned from.
        branch: that is checked out, such as `refs/heads/main`.
        directory: the Software Heritage identifier of the tree of its commit.
        revision_date: when its commit was written, in UTC, such as 2023-07-26T10:00:00Z.
        committer_date: when it was committed.
        snapshot: the Software Heritage identifier of what a visit found of the repository.
        visit_date: when that was.
        stars: events of GitHub that starred it; None where they are not known, as forks are.
        forks: events that forked it.
        gha_license: the SPDX identifier of its licence as GitHub had it.
        github_id: its number there, or None.
    """

    url: str = ""
    branch: str = ""
    directory: str = ""
    revision_date: str = ""
    committer_date: str = ""
    snapshot: str = ""
    visit_date: str = ""
    stars: int | None = None
    forks: int | None = None
    gha_license: str = ""
    github_id: int | None = None


@dataclasses.dataclass
class FoundRepository:
    """A repository as a source holds it.

    Attributes:
        source: the folder that was named as a source.
        name: unique within its source.
        revision: the Software Heritage identifier of its commit, or "".
        files: those that it holds.
        missing: the path of each thing whose name promises a licence, and that is no file which is taken, with the
            file that it leads to, if there is one.
        own_licenses: those of its files, in the metadata of a distribution, that speak for all of it.
        licenses: locations on disk, outside of the repository, that speak for all of it.
        licenses_unknown: whether there may be others, which cannot be read.
        origin: where it comes from.
        fault: why nothing of it can be read, or None.
        found: its name, before that of its source may be put before it.
    """

    source: str
    name: str
    revision: str
    files: list[FoundFile]
    missing: list[tuple[str, FoundFile | None]] = dataclasses.field(default_factory=list)
    own_licenses: list[FoundFile] = dataclasses.field(default_factory=list)
    licenses: list[str] = dataclasses.field(default_factory=list)
    licenses_unknown: bool = False
    origin: Origin = Origin()
    fault: SourceError | None = None
    found: str = ""

    def __post_init__(self) -> None:
        """Keeps the name within the source."""
        self.found = self.found or self.name


def read_bytes(location: str, limit: int) -> bytes:
    """The content of a regular file of at most `limit` bytes.

    Raises:
        SourceError: it cannot be read, is a link, no regular file, or larger.
    """
    with open_regular(location) as file:
        try:
            content = file.readall() if os.fstat(file.fileno()).st_size <= limit else None
        except OSError as error:
            raise SourceError("unreadable_file", location, error.strerror or str(error)) from error
    if content is None or len(content) > limit:
        raise SourceError("unreadable_file", location, f"more than {limit:,} bytes")
    return content


def open_regular(location: str) -> io.FileIO:
    """A regular file, to read.

    Raises:
        SourceError: it cannot be read, is a link, or no regular file.
    """
    try:
        _require_regular(os.lstat(location), location)  # opening a device or a pipe may be felt at its other end
        file = io.FileIO(os.open(location, _OPEN_FLAGS), "rb")
    except (OSError, ValueError) as error:  # a NUL in a name is a ValueError
        raise SourceError("unreadable_file", location, getattr(error, "strerror", None) or str(error)) from error
    try:
        _require_regular(os.fstat(file.fileno()), location)
    except SourceError:
        file.close()
        raise
    return file


def _require_regular(found: os.stat_result, location: str) -> None:
    if not stat.S_ISREG(found.st_mode):
        raise SourceError("unreadable_file", location, "no regular file")


def walk_files(
    folder: str, left_out: LeftOut, nested: list[str] | None = None, missing: list[str] | None = None
) -> Iterator[str]:
    """The regular files below a folder.

    Git working trees are passed over and, where asked, listed in `nested`, and so is in `missing` what promises a
    licence and is neither a file nor a folder.

    Folders are kept on a list, not on Python's stack: they may lie deeper in each other than that allows.
    """
    waiting = [folder]
    while waiting:
        folder = waiting.pop()
        try:
            entries = folder_entries(folder)
            if is_git(entries):
                if nested is not None:
                    nested.append(folder)
                continue
        except SourceError as fault:
            left_out.add(fault)
            continue
        for entry in entries:
            kind = kind_of(entry, left_out)
            if kind == "file":
                yield entry.path
            elif kind == "folder" and entry.name not in SKIPPED_FOLDERS:
                waiting.append(entry.path)
            elif not kind and missing is not None and promises_license(entry.path):
                missing.append(entry.path)


def folder_entries(folder: str) -> list[os.DirEntry[str]]:
    """What lies directly in a folder, by name.

    Raises:
        SourceError: it cannot be read.
    """
    try:
        with os.scandir(folder) as entries:
            return sorted(entries, key=lambda entry: entry.name)
    except OSError as error:
        raise SourceError("unreadable_folder", folder, error.strerror or str(error)) from error


def kind_of(entry: Entry, left_out: LeftOut) -> str:
    """`file` or `folder`; "" for what is left out, which is counted."""
    try:
        if entry.is_file(follow_symlinks=False):
            return "file"
        if entry.is_dir(follow_symlinks=False):
            return "folder"
        left_out.add(SourceError("link" if entry.is_symlink() else "special_file", entry.path))
    except OSError as error:  # some file systems name entries without their kinds
        left_out.add(SourceError("unreadable_file", entry.path, error.strerror or str(error)))
    return ""


def is_git(entries: Sequence[os.DirEntry[str]]) -> bool:
    """Whether these are what lies in a working tree of git, or in a repository without one."""
    return any(entry.name == ".git" for entry in entries) or is_bare(entries)


def is_bare(entries: Iterable[os.DirEntry[str]]) -> bool:
    """Whether these are what lies in a git folder: a bare repository, without a working tree."""
    kinds = {entry.name: entry for entry in entries}
    return (
        {"HEAD", "objects", "refs"} <= kinds.keys()
        and kinds["HEAD"].is_file(follow_symlinks=False)
        and kinds["objects"].is_dir(follow_symlinks=False)
        and kinds["refs"].is_dir(follow_symlinks=False)
    )


def lies_in(folder: str, path: str) -> bool:
    """Whether a path without links is a folder or lies below it."""
    return os.path.commonpath([folder, path]) == folder
