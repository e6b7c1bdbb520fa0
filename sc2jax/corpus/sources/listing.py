"""The listing: which repositories and files the sources hold, by name and content, before anything is decided on them.

A repository is one of git, else a top-level folder, archive or file of a source. Of one of git the files are those of
the commit that is checked out. Symbolic links are never followed, but for that of a licence to a file of its
repository; nothing outside of a source is read but a git folder that names a working tree in it as its own. What is
broken does not keep the rest from being listed, and is counted.
"""

import contextlib
import dataclasses
import hashlib
import os
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path

import pyarrow as pa

from sc2jax.corpus.sources.archives import archive_repository, is_archive
from sc2jax.corpus.sources.contents import Content, begin_blob, blob_swhid, read_contents, reading_order
from sc2jax.corpus.sources.folders import SourceFolder, packages_of
from sc2jax.corpus.sources.git_trees import git_repository
from sc2jax.corpus.sources.left_out import LeftOut, SourceError, as_text, in_a_line
from sc2jax.corpus.sources.license_files import MAX_LICENSE_BYTES, licensed_folder, promises_license
from sc2jax.corpus.sources.walk import FoundFile, FoundRepository, folder_entries, is_git
from sc2jax.errors import UserError
from sc2jax.records.schemas import KEPT_OF_REPOSITORY, REPOSITORY
from sc2jax.storage import is_url

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
"""A file as found: `location` is that of its bytes (`contents.py`); `swhid` is "" where it is too large to be read."""

LICENSE_FILES = pa.schema(
    [
        pa.field("repository", pa.string()),
        pa.field("folder", pa.string()),
        pa.field("location", pa.binary()),
        pa.field("swhid", pa.string()),
        pa.field("promised", pa.bool_()),
    ]
)
"""A file that may tell the licence of the files in `folder` ("" is the root) and below; one that is not read has no
`swhid`, and one whose name promises a licence is `promised`."""


FOUND_REPOSITORIES = pa.schema([field for field in REPOSITORY if field.name not in KEPT_OF_REPOSITORY])
"""A repository as found; one of which nothing can be read has a reason."""


@dataclasses.dataclass(frozen=True)
class Listing:
    """What the sources hold, and a digest of it that does not name its place on disk.

    It is sorted by repository and path; files of a compressed archive are as they lie in it, to be read fast.
    """

    files: pa.Table
    licenses: pa.Table
    repositories: pa.Table
    digest: str
    left_out: LeftOut

    @property
    def account_digest(self) -> str:
        """A digest of the table of repositories."""
        return hashlib.sha256(repr(self.repositories.to_pylist()).encode()).hexdigest()


Archived = Callable[[str, LeftOut], contextlib.AbstractContextManager[Iterator[FoundRepository]] | None]
"""Opens a source that needs the engine, which this room does not know; None for one that is none of that kind."""


def _no_archive(source: str, left_out: LeftOut) -> None:
    del source, left_out


def list_sources(
    sources: Sequence[SourceFolder],
    max_file_bytes: int,
    output: str = "",
    damaged: str = "skip",
    sample: float = 1.0,
    archived: Archived = _no_archive,
) -> Listing:
    """Lists the files of all sources and digests their contents.

    Args:
        sources: folders or archives; one that is named twice counts once.
        max_file_bytes: files of this size and above are not read.
        output: a folder that must not lie among the files to list, for it would change them.
        damaged: `skip` leaves out what cannot be read, `stop` ends the work.
        sample: share of the repositories, by a hash of their names.
        archived: opens a source of Software Heritage.

    Raises:
        UserError: a source is missing, cannot be read or is empty; nothing of any can be read; something in one cannot
            be read, and that ends the work.
    """
    unique = {source.root if is_url(source.root) else os.path.realpath(source.root): source for source in sources}
    left_out = {root: LeftOut(root, damaged == "stop") for root in unique}
    repositories = [
        repository
        for root, source in unique.items()
        for repository in _repositories(source, root, output, left_out[root], archived)
    ]
    named, put_aside = _under_names_of_their_own(repositories, left_out)
    rows: list[tuple] = []
    license_rows: list[tuple] = []
    accounts = [_account(repository, []) for repository in put_aside]
    for repository in named:
        found, licenses = [], []
        if _in_sample(repository.name, sample):
            found, licenses = _files_and_licenses(repository, max_file_bytes, left_out[repository.source])
        else:
            repository.fault = SourceError("not_sampled", f"{repository.source}/{repository.name}")
            left_out[repository.source].add(repository.fault)
        rows += found
        license_rows += licenses
        accounts.append(_account(repository, found))
    license_rows.sort(key=lambda row: (row[0], reading_order(row[2]), row[1], row[3]))
    total = LeftOut()
    for part in left_out.values():
        total.absorb(part)
    if not rows:
        raise UserError(f"no file of the sources can be read: {in_a_line(total.statistics)}")
    digest, repositories = _digest(rows, license_rows), _table(sorted(accounts), FOUND_REPOSITORIES)
    return Listing(_table(rows, FILES), _table(license_rows, LICENSE_FILES), repositories, digest, total)


def _account(repository: FoundRepository, rows: Sequence[tuple]) -> tuple:
    """The row of a repository, given those of its files."""
    origin, fault = repository.origin, repository.fault
    return (
        repository.name,
        as_text(os.path.basename(repository.source)),  # noqa: PTH119
        repository.found,
        origin.url,
        origin.branch,
        repository.revision,
        origin.directory,
        origin.revision_date,
        origin.committer_date,
        len(rows),
        sum(size for *_, size, _ in rows),
        fault.reason if fault else "",
        fault.detail if fault and "/" not in fault.detail else "",  # no place on this disk
    )


def _in_sample(name: str, share: float) -> bool:
    """The same for a name whatever else there is, and independent of the split."""
    drawn = int.from_bytes(hashlib.sha256(f"sample\0{name}".encode()).digest()[:8], "big")
    return drawn < share * 2**64


def _files_and_licenses(
    repository: FoundRepository, max_file_bytes: int, left_out: LeftOut
) -> tuple[list[tuple], list[tuple]]:
    """The rows of a repository in both tables."""
    rows, license_rows = [], []
    taken = ""
    for file in sorted(repository.files, key=lambda file: (file.path, file.location)):
        place = _place(repository, file)
        try:
            if file.path == taken:
                raise SourceError("same_name", place)
            size, swhid = _identify(file, max_file_bytes)
        except SourceError as fault:
            left_out.add(SourceError(fault.reason, place, fault.detail))
        else:
            rows.append((repository.name, file.path, file.location, repository.revision, size, swhid))
            taken = file.path
        folder = licensed_folder(file.path)
        if folder is not None:
            license_rows += _license_rows(repository.name, folder, file.path, file, left_out)
    for path, target in sorted(repository.missing, key=lambda each: each[0]):
        license_rows += _license_rows(repository.name, path.rpartition("/")[0], path, target, left_out)
    for location in repository.licenses:
        file = FoundFile(location, os.fsencode(location)) if location else None
        license_rows += _license_rows(repository.name, "", location, file, left_out)
    for file in repository.own_licenses:
        license_rows += _license_rows(repository.name, "", file.path, file, left_out)
    if repository.licenses_unknown:
        license_rows.append((repository.name, "", b"", "", True))
    rows.sort(key=lambda row: reading_order(row[2]))
    return rows, license_rows


def _place(repository: FoundRepository, file: FoundFile) -> str:
    """Where a file lies on disk, or would lie if it were not in an archive or a repository's objects."""
    if b"\0" in file.location:
        return f"{repository.source}/{repository.name}/{file.path}"
    return os.fsdecode(file.location)


def _license_rows(repository: str, folder: str, path: str, file: FoundFile | None, left_out: LeftOut) -> list[tuple]:
    """The row of a file that may tell of a licence; none for one that does not promise to, and is too long to do so.

    Nothing is read where there is no file.
    """
    promised = promises_license(path)
    try:
        size, swhid = _identify(file, MAX_LICENSE_BYTES + 1) if file else (0, "")
    except SourceError as fault:
        left_out.add(fault)
        size, swhid = 0, ""
    if size > MAX_LICENSE_BYTES and not promised:
        return []
    return [(repository, folder, file.location if file else b"", swhid, promised)]


def git_blob_id(content: bytes) -> str:
    """The Software Heritage identifier of a content: git's own sha1 of it."""
    whole = begin_blob(len(content))
    whole.update(content)
    return blob_swhid(whole)


def read_listed(locations: Sequence[bytes], swhids: Sequence[str], limit: int) -> Iterator[Content]:
    """The content of files that were listed, in order; or why one cannot be read, as where it is another one by now."""
    for swhid, content in zip(swhids, read_contents(locations, limit), strict=True):
        if isinstance(content, SourceError):
            reason = "changed" if content.reason in _OF_DISKS else content.reason
            yield SourceError(reason, content.location, content.detail)
        elif git_blob_id(content) != swhid:
            yield SourceError("changed", "")
        else:
            yield content


_OF_DISKS = ("unreadable_file", "unreadable_folder")
"""What a file that could be read when it was listed has become."""


def _repositories(
    source: SourceFolder, root: str, output: str, left_out: LeftOut, archived: Archived
) -> list[FoundRepository]:
    if opened := archived(root, left_out):
        if not is_url(root):
            _refuse_output_inside(source.root, root, output)
        with opened as repositories:
            found = list(repositories)
    elif is_url(root):
        raise UserError(f"the source {root} is no export of Software Heritage, nor The Stack v2; name {_SOURCES}")
    elif os.path.isdir(root):  # noqa: PTH112
        found = _in_folder(source, root, output, left_out)
    elif is_archive(root):
        found = [archive_repository(root, root, left_out)]
    else:
        what = "is not a folder, nor an archive" if os.path.exists(root) else "does not exist"  # noqa: PTH110
        raise UserError(f"the source {source.root} {what}; name {_SOURCES}")
    if not any(repository.files for repository in found) and not left_out:
        raise UserError(f"the source {source.root} holds no files; name {_SOURCES}")
    return found


_SOURCES = "a folder of repositories or archives, an archive, or a git working tree"


def _in_folder(source: SourceFolder, root: str, output: str, left_out: LeftOut) -> list[FoundRepository]:
    try:
        entries = folder_entries(root)
    except SourceError as fault:
        raise fault.as_user_error() from fault
    if is_git(entries):
        return [git_repository(root, root, os.path.basename(root), left_out)]  # noqa: PTH119
    _refuse_output_inside(source.root, root, output)
    return packages_of(source, root, entries, left_out)


def _under_names_of_their_own(
    repositories: Iterable[FoundRepository], left_out: Mapping[str, LeftOut]
) -> tuple[list[FoundRepository], list[FoundRepository]]:
    """The repositories by name, and those put aside: of several that have the same after all, the first is taken."""
    within: dict[tuple[str, str], FoundRepository] = {}
    put_aside: list[FoundRepository] = []

    def put(repository: FoundRepository) -> None:
        repository.fault = SourceError("same_name", f"{repository.source}/{repository.name}")
        left_out[repository.source].add(repository.fault)
        put_aside.append(repository)

    for repository in repositories:
        if repository.fault:
            put_aside.append(repository)
        elif within.setdefault((repository.source, repository.name), repository) is not repository:
            put(repository)
    _separate_names(within.values())
    named: dict[str, FoundRepository] = {}
    for repository in sorted(within.values(), key=lambda repository: (repository.name, repository.source)):
        if named.setdefault(repository.name, repository) is not repository:
            put(repository)
    return list(named.values()), put_aside


def _separate_names(repositories: Iterable[FoundRepository]) -> None:
    """Puts as much of the source's path before names that several sources share as tells them apart."""
    by_name: dict[str, list[FoundRepository]] = defaultdict(list)
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
            repository.name = "/".join([*(as_text(name).strip("/") for name in part[-depth:]), repository.name]).lstrip(
                "/"
            )


def _refuse_output_inside(name: str, root: str, output: str) -> None:
    target = os.path.realpath(output) if output and not is_url(output) else ""
    if target and os.path.commonpath([root, target]) == root:
        raise UserError(
            f"the output {output} would lie inside the source {name} and become part of it; choose a folder elsewhere"
        )


def _identify(file: FoundFile, max_file_bytes: int) -> tuple[int, str]:
    """The number of bytes of a file and the identifier of its content; "" for one that is too large to be read."""
    size = file.size
    if size < 0:
        try:
            size = os.lstat(file.location).st_size
        except OSError as error:
            raise SourceError("unreadable_file", os.fsdecode(file.location), error.strerror or str(error)) from error
    if size >= max_file_bytes:
        return size, ""
    if file.swhid:
        return size, file.swhid
    (content,) = read_contents([file.location], max_file_bytes)
    if isinstance(content, SourceError):
        raise content
    return len(content), git_blob_id(content)


def _table(rows: list[tuple], schema: pa.Schema) -> pa.Table:
    columns = list(zip(*rows, strict=True)) or [()] * len(schema)
    return pa.table([pa.array(column, field.type) for column, field in zip(columns, schema, strict=True)], schema)


def _digest(rows: list[tuple], license_rows: list[tuple]) -> str:
    digest = hashlib.sha256()
    for repository, path, _, revision, size, swhid in rows:
        digest.update(f"{repository}\0{path}\0{revision}\0{size}\0{swhid}\n".encode())
    for repository, folder, _, swhid, promised in license_rows:
        digest.update(f"license\0{repository}\0{folder}\0{swhid}\0{promised}\n".encode())
    return digest.hexdigest()
