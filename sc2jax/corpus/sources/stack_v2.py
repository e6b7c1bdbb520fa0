# pyright: reportAttributeAccessIssue=false
# (pyarrow makes the functions of `compute` when it is imported)
"""The Stack v2 as it is published: Parquet files with a row a file, their texts inside or in Software Heritage's store.

The columns are those that bigcode-project/the-stack-v2 writes (`3_file_dataset/`) and Hugging Face shows of
bigcode/the-stack-v2, which calls `length` `length_bytes` and has no texts. What was judged of a file before (language,
licences, whether it is vendored) is not read: it is judged here.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from sc2jax import storage
from sc2jax.corpus.sources.heritage_graph import ROOTS, first_of_each
from sc2jax.corpus.sources.heritage_tables import packed
from sc2jax.corpus.sources.heritage_trees import FILE, FOUND, NOT_ARCHIVED, UNSAFE
from sc2jax.corpus.sources.left_out import as_text
from sc2jax.corpus.sources.stack_v2_texts import row_location
from sc2jax.errors import UserError
from sc2jax.storage import join

SUFFIX = ".parquet"

_NEEDED = ("repo_name", "path", "blob_id", "content_id", "directory_id", "revision_id")
_ABOUT = ("src_encoding", "repo_url", "snapshot_id", "branch_name", "visit_date", "revision_date", "committer_date")
_COUNTS = ("star_events_count", "fork_events_count", "github_id")
_LENGTHS = ("length", "length_bytes")
_LICENSES = ("gha_license_id", "license_spdx_id")

ROWS = pa.schema([*ROOTS, *list(FOUND)[1:], ("location", pa.binary())])
"""A file with what is known of its repository; `location` is that of its text, null where that is not in the table."""

ROW_GROUPS = pa.schema([("path", pa.string()), ("group", pa.int64()), ("rows", pa.int64())])
"""Work for the engine."""


def published_files(path: str) -> list[str]:
    """The Parquet files in a folder, at any depth, or the one that is named; none if they are not The Stack v2's.

    To tell, the folder, `data` in it, and the first folder in either are looked into: a source may hold millions more.
    """
    if path.endswith(SUFFIX):
        return [path] if _is_published(path) else []
    for folder in (path, join(path, "data")):
        names = storage.names(folder)
        for place in (folder, join(folder, names[0])) if names else ():
            first = next((name for name in storage.names(place) if name.endswith(SUFFIX)), "")
            if first and _is_published(join(place, first)):
                return [join(path, name) for name in storage.files_below(path) if name.endswith(SUFFIX)]
    return []


def _is_published(path: str) -> bool:
    return (storage.is_url(path) or Path(path).is_file()) and set(_NEEDED) <= set(_columns(path))


def _columns(path: str) -> list[str]:
    try:
        with storage.open_file(path) as file:
            return pq.ParquetFile(file).schema_arrow.names
    except (pa.ArrowException, OSError):
        return []


def row_groups(files: Sequence[str]) -> pa.Table:
    """The row groups of Parquet files (schema ROW_GROUPS).

    Raises:
        UserError: one of them cannot be read, or lacks a column.
    """
    rows = []
    for path in files:
        lacking = [name for name in _NEEDED if name not in _columns(path)]
        if lacking:
            raise UserError(f"{path} has no column {lacking[0]}, as The Stack v2 has; take it out, or fetch it anew")
        with storage.open_file(path) as file:
            about = pq.ParquetFile(file).metadata
        rows += [(path, group, about.row_group(group).num_rows) for group in range(about.num_row_groups)]
    columns = list(zip(*rows, strict=True)) or [()] * len(ROW_GROUPS)
    return pa.table(
        [pa.array(column, field.type) for column, field in zip(columns, ROW_GROUPS, strict=True)], ROW_GROUPS
    )


def published_rows(path: str, group: int) -> pa.Table:
    """The files of a row group (schema ROWS).

    Raises:
        UserError: it cannot be read, or an identifier in it is none.
    """
    try:
        with storage.open_file(path) as file:
            part = pq.ParquetFile(file)
            present = part.schema_arrow.names
            names = [*_NEEDED, *_ABOUT, *_COUNTS, *_LENGTHS, *_LICENSES]
            table = part.read_row_group(group, columns=[name for name in names if name in present])
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path} cannot be read ({' '.join(str(error).split())}); fetch it anew") from error
    table = table.append_column("row", pa.array(np.arange(len(table))))
    table = table.filter(pc.and_(pc.is_valid(table["repo_name"]), pc.is_valid(table["path"])))
    inside = "content" in present
    paths, kinds = _paths(_column(table, pa.string(), "path").to_pylist())
    values = {
        "name": _column(table, pa.string(), "repo_name"),
        "url": _column(table, pa.string(), "repo_url"),
        "visit_date": _date(table, "visit_date"),
        "snapshot": packed(_column(table, pa.string(), "snapshot_id"), path),
        "stars": _column(table, pa.int64(), "star_events_count"),
        "forks": _column(table, pa.int64(), "fork_events_count"),
        "license": _column(table, pa.string(), *_LICENSES),
        "github_id": _column(table, pa.int64(), "github_id"),
        "branch": pc.fill_null(_column(table, pa.string(), "branch_name"), "").cast(pa.binary()),
        "revision": packed(_column(table, pa.string(), "revision_id"), path),
        "date": _date(table, "revision_date"),
        "committer_date": _date(table, "committer_date"),
        "directory": packed(_column(table, pa.string(), "directory_id"), path),
        "path": paths,
        "kind": pc.if_else(_is_stored(table, inside=inside), kinds, NOT_ARCHIVED),
        "node": packed(_column(table, pa.string(), "content_id"), path),
        "sha1": packed(_column(table, pa.string(), "blob_id"), path),
        "size": _column(table, pa.int64(), *_LENGTHS),
        "location": _locations(table, path, group) if inside else pa.nulls(len(table), pa.binary()),
    }
    return pa.table([values[field.name] for field in ROWS], ROWS.names).cast(ROWS)


def _column(table: pa.Table, kind: pa.DataType, *names: str) -> pa.ChunkedArray:
    """The first of these columns that is there; nulls where none is."""
    found = next((name for name in names if name in table.column_names), "")
    return table[found].cast(kind) if found else pa.chunked_array([pa.nulls(len(table), kind)])


def _date(table: pa.Table, name: str) -> pa.ChunkedArray:
    return _column(table, pa.timestamp("us"), name).cast(pa.int64())


def _paths(paths: Sequence[str]) -> tuple[pa.Array, pa.Array]:
    """Paths as sc2jax writes them, without the slash at the beginning, and whether they lead elsewhere."""
    below = [path.removeprefix("/") for path in paths]
    unsafe = [any(_is_unsafe(name) for name in path.split("/")) for path in below]
    kinds = np.where(np.array(unsafe, bool), UNSAFE, FILE).astype(np.int8)
    return pa.array([as_text(path) for path in below], pa.string()), pa.array(kinds)


def _is_stored(table: pa.Table, *, inside: bool) -> pa.ChunkedArray:
    """Whether it is known which content a file is, and where that lies."""
    known = pc.and_(pc.is_valid(table["content_id"]), pc.is_valid(_column(table, pa.int64(), *_LENGTHS)))
    return known if inside else pc.and_(known, pc.is_valid(table["blob_id"]))


def _is_unsafe(name: str) -> bool:
    return name in ("", ".", "..") or name.lower() == ".git"


def _locations(table: pa.Table, path: str, group: int) -> pa.Array:
    columns = (
        table["row"],
        _column(table, pa.int64(), *_LENGTHS),
        pc.fill_null(_column(table, pa.string(), "src_encoding"), ""),
        _column(table, pa.string(), "content_id"),
    )
    rows = zip(*(column.to_pylist() for column in columns), strict=True)
    return pa.array([row_location(path, group, *row) for row in rows], pa.binary())


def published_roots(rows: pa.Table) -> pa.Table:
    """The repositories of files (schema ROOTS): one for each name, commit and directory."""
    order = [(name, "ascending") for name in ("name", "directory", "revision", "branch", "url", "snapshot")]
    return first_of_each(rows.select(ROOTS.names).sort_by(order), ["name", "directory"])
