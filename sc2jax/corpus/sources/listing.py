"""The listing: which repositories and files the sources hold, by name and content, before anything is decided on them.

A repository is a git working tree, else a top-level folder or file of a source. Nothing below a working tree is looked
at that git does not track; symbolic links are never followed.
"""

import dataclasses
import hashlib
import os
from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path

import pyarrow as pa

from sc2jax.corpus.sources.folders import SourceFolder, packages_of
from sc2jax.corpus.sources.git_trees import working_tree
from sc2jax.corpus.sources.license_files import is_license_file
from sc2jax.corpus.sources.walk import FoundRepository, as_text, folder_entries, read_bytes, refuse_bare
from sc2jax.errors import UserError
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


@dataclasses.dataclass(frozen=True)
class Listing:
    """What the sources hold, sorted by repository and path, and a digest of it that does not name its place on disk."""

    files: pa.Table
    licenses: pa.Table
    digest: str


def list_sources(sources: Sequence[SourceFolder], max_file_bytes: int, output: str = "") -> Listing:
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


def _repositories(source: SourceFolder, output: str) -> list[FoundRepository]:
    root = os.path.realpath(source.root)
    if not os.path.isdir(root):  # noqa: PTH112
        what = "is not a folder" if os.path.exists(root) else "does not exist"  # noqa: PTH110
        raise UserError(f"the source {source.root} {what}; name a folder of repositories or a git working tree")
    entries = folder_entries(root)
    if any(entry.name == ".git" for entry in entries):
        found = [working_tree(root, root, os.path.basename(root))]  # noqa: PTH119
    else:
        refuse_bare(root, entries)
        _refuse_output_inside(source.root, root, output)
        found = packages_of(source, root)
    if not any(repository.files for repository in found):
        raise UserError(f"the source {source.root} holds no files; name a folder of repositories or a git working tree")
    return found


def _separate_names(repositories: Iterable[FoundRepository]) -> None:
    """Puts as much of the source's path before names that several repositories share as tells them apart."""
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


def _identify(location: str, max_file_bytes: int) -> tuple[int, str]:
    try:
        size = os.lstat(location).st_size
    except OSError as error:
        raise UserError(f"{location} cannot be read ({error.strerror}); make it readable or remove it") from error
    if size >= max_file_bytes:
        return size, ""
    content = read_bytes(location)
    return len(content), git_blob_id(content)


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
