"""The listing: which repositories and files the sources hold, by name and content, before anything is decided on them.

A repository is one of git, else a top-level folder, archive or file of a source. Of one of git the files are those of
the commit that is checked out. Symbolic links are never followed, but for that of a licence to a file of its
repository; nothing outside of a source is read but a git folder that names a working tree in it as its own. What is
broken does not keep the rest from being listed, and is counted.
"""

import dataclasses
import hashlib
import os
from collections.abc import Iterator, Sequence

import pyarrow as pa

from sc2jax.corpus.sources.archives import archive_repository, is_archive
from sc2jax.corpus.sources.contents import Content, begin_blob, blob_swhid, read_contents, reading_order
from sc2jax.corpus.sources.folders import Beside, SourceFolder, packages_of, texts_beside
from sc2jax.corpus.sources.git_trees import git_repository
from sc2jax.corpus.sources.left_out import LeftOut, SourceError, as_text
from sc2jax.corpus.sources.license_files import MAX_LICENSE_BYTES, licensed_folder, promises_license
from sc2jax.corpus.sources.walk import FoundFile, FoundRepository, folder_entries, is_git
from sc2jax.errors import UserError
from sc2jax.records.schemas import KEPT_OF_REPOSITORY, ORIGIN, REPOSITORY
from sc2jax.storage import is_url

FILES = pa.schema(
    [
        pa.field("number", pa.int32()),
        pa.field("path", pa.string()),
        pa.field("location", pa.binary()),
        pa.field("source_bytes", pa.int64()),
        pa.field("swhid", pa.string()),
    ]
)
"""A file as found: `number` is that of its repository, `location` that of its bytes (`contents.py`); `swhid` is ""
where it is too large to be read."""

LICENSE_FILES = pa.schema(
    [
        pa.field("number", pa.int32()),
        pa.field("folder", pa.string()),
        pa.field("location", pa.binary()),
        pa.field("swhid", pa.string()),
        pa.field("promised", pa.bool_()),
    ]
)
"""A file that may tell the licence of a repository's files in `folder` ("" is the root) and below; one that is not read
has no `swhid`, and one whose name promises a licence is `promised`."""


FOUND_REPOSITORIES = pa.schema([field for field in REPOSITORY if field.name not in KEPT_OF_REPOSITORY])
"""A repository as found; one of which nothing can be read has a reason."""


@dataclasses.dataclass(frozen=True)
class Batch:
    """Some of what a source holds, to be listed at once: top-level entries of a folder, or without names all of it.

    Attributes:
        root: the source.
        names: of the entries.
        beside: what says of their licences.
    """

    root: str
    names: tuple[str, ...] = ()
    beside: Beside | None = None

    def repositories(self, left_out: LeftOut) -> Iterator[FoundRepository]:
        """The repositories of the batch, one after the other."""
        if self.beside is not None:
            yield from packages_of(self.root, self.names, self.beside, left_out)
        elif os.path.isdir(self.root):  # noqa: PTH112
            yield git_repository(self.root, self.root, os.path.basename(self.root), left_out)  # noqa: PTH119
        else:
            yield archive_repository(self.root, self.root, left_out)


def batches_of(source: SourceFolder, output: str, left_out: LeftOut) -> list[Batch]:
    """Cuts a source into batches, at names that are drawn by a hash: one that comes or goes changes its own alone.

    Args:
        source: a folder or an archive.
        output: a folder that must not lie among the files to list, for it would change them.
        left_out: counts what cannot be read.

    Raises:
        UserError: the source is missing or cannot be read.
    """
    root = source.root if is_url(source.root) else os.path.realpath(source.root)
    if is_url(root):
        raise UserError(f"the source {root} is no export of Software Heritage, nor The Stack v2; name {SOURCES}")
    if not os.path.isdir(root):  # noqa: PTH112
        if is_archive(root):
            return [Batch(root)]
        what = "is not a folder, nor an archive" if os.path.exists(root) else "does not exist"  # noqa: PTH110
        raise UserError(f"the source {source.root} {what}; name {SOURCES}")
    try:
        entries = folder_entries(root)
    except SourceError as fault:
        raise fault.as_user_error() from fault
    if is_git(entries):
        return [Batch(root)]
    refuse_output_inside(source.root, root, output)
    beside = texts_beside(source, entries, left_out)
    names = [entry.name for entry in entries if source.holds(entry.name)]
    return [Batch(root, part, beside.of(part)) for part in _cut(names)]


SOURCES = "a folder of repositories or archives, an archive, or a git working tree"
"""What can be named as a source, in words."""


def _cut(names: Sequence[str]) -> Iterator[tuple[str, ...]]:
    """The names, ascending, in stretches: of a few each where there are few, of some hundred where there are many."""
    mean = next((mean for most, mean in _BATCH_NAMES if len(names) < most), _MANY_NAMES)
    begin = 0
    for at, name in enumerate(names, 1):
        if at == len(names) or at - begin == 4 * mean or draw("batch", as_text(name)) * mean < 1:
            yield tuple(names[begin:at])
            begin = at


_BATCH_NAMES = ((256, 8), (4096, 16))
"""Of so many names at most, how many are listed at once in the mean."""
_MANY_NAMES = 256


def draw(purpose: str, name: str) -> float:
    """A number from 0 to 1 that depends on a name alone."""
    return int.from_bytes(hashlib.sha256(f"{purpose}\0{name}".encode()).digest()[:8], "big") / 2**64


@dataclasses.dataclass(frozen=True)
class Listed:
    """A repository's rows: of FOUND_REPOSITORIES, and without its number of FILES and LICENSE_FILES."""

    account: tuple
    files: list[tuple]
    licenses: list[tuple]

    @property
    def size(self) -> int:
        """Bytes of its files."""
        return sum(row[_SIZE] for row in self.files)

    @property
    def digest(self) -> str:
        """A digest of what is read of it, that does not name its place on disk; "" where it is nothing."""
        if not self.files and not self.licenses:
            return ""
        digest = hashlib.sha256(repr(self.account[2:_OF_FILES]).encode())
        for path, _, size, swhid in self.files:
            digest.update(f"{path}\0{size}\0{swhid}\n".encode())
        for folder, _, swhid, promised in self.licenses:
            digest.update(f"license\0{folder}\0{swhid}\0{promised}\n".encode())
        return digest.hexdigest()


_SIZE = FILES.get_field_index("source_bytes") - 1
_OF_FILES = FOUND_REPOSITORIES.get_field_index("files")


def list_repository(repository: FoundRepository, max_file_bytes: int, sample: float, left_out: LeftOut) -> Listed:
    """Lists the files of a repository and digests their contents.

    Args:
        repository: as it was found.
        max_file_bytes: files of this size and above are not read.
        sample: share of the repositories, by a hash of their names, whose files are listed.
        left_out: counts what cannot be read.
    """
    files, licenses = [], []
    if not repository.fault and draw("sample", repository.name) >= sample:
        repository.fault = SourceError("not_sampled", f"{repository.source}/{repository.name}")
        left_out.add(repository.fault)
    elif not repository.fault:
        files, licenses = _files_and_licenses(repository, max_file_bytes, left_out)
        licenses.sort(key=lambda row: (reading_order(row[1]), row[0], row[2]))
    return Listed(_account(repository, files), files, licenses)


def _account(repository: FoundRepository, rows: Sequence[tuple]) -> tuple:
    """The row of a repository, given those of its files."""
    fault = repository.fault
    origin = dataclasses.asdict(repository.origin) | {"revision": repository.revision}
    return (
        repository.name,
        as_text(os.path.basename(repository.source)),  # noqa: PTH119
        repository.found,
        *(None if origin[name] == "" else origin[name] for name in ORIGIN.names),
        len(rows),
        sum(row[_SIZE] for row in rows),
        fault.reason if fault else "",
        fault.detail if fault and "/" not in fault.detail else "",  # no place on this disk
    )


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
            rows.append((file.path, file.location, size, swhid))
            taken = file.path
        folder = licensed_folder(file.path)
        if folder is not None:
            license_rows += _license_rows(folder, file.path, file, left_out)
    for path, target in sorted(repository.missing, key=lambda each: each[0]):
        license_rows += _license_rows(path.rpartition("/")[0], path, target, left_out)
    for location in repository.licenses:
        file = FoundFile(location, os.fsencode(location)) if location else None
        license_rows += _license_rows("", location, file, left_out)
    for file in repository.own_licenses:
        license_rows += _license_rows("", file.path, file, left_out)
    if repository.licenses_unknown:
        license_rows.append(("", b"", "", True))
    rows.sort(key=lambda row: reading_order(row[1]))
    return rows, license_rows


def _place(repository: FoundRepository, file: FoundFile) -> str:
    """Where a file lies on disk, or would lie if it were not in an archive or a repository's objects."""
    if b"\0" in file.location:
        return f"{repository.source}/{repository.name}/{file.path}"
    return os.fsdecode(file.location)


def _license_rows(folder: str, path: str, file: FoundFile | None, left_out: LeftOut) -> list[tuple]:
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
    return [(folder, file.location if file else b"", swhid, promised)]


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


def refuse_output_inside(name: str, root: str, output: str) -> None:
    """Makes sure that what is written does not become part of a source.

    Raises:
        UserError: it would.
    """
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
