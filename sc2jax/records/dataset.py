"""Datasets: Parquet parts with content-derived names, readable once a manifest lists them.

Records are checked once when they are written and once when they are read (`checks.py`).
"""

import dataclasses
import hashlib
import io
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from sc2jax import storage
from sc2jax.errors import UserError
from sc2jax.records.checks import described, find_faults, identities, in_types_of, kind_of, refuse_other_columns
from sc2jax.records.manifest import Manifest, Output, write_output
from sc2jax.records.schemas import SCHEMAS, SOURCE_FILE
from sc2jax.records.source_texts import columns_to_check
from sc2jax.storage import join

CODEC = "zstd"
"""What the pages of all parts are compressed with."""


def write_part(folder: str, prefix: str, index: int, row_groups: Iterable[pa.Table], schema: pa.Schema) -> Output:
    """Writes one Parquet part, a row group for each table that has rows, named by its place and its content.

    Pages carry checksums, so that damage is found when they are read.

    Raises:
        UserError: a table is not of the schema, or one of its rows is no record of its kind; nothing is written.
    """
    return write_labelled_part(folder, prefix, f"{index:05d}", row_groups, schema)


def write_labelled_part(
    folder: str, prefix: str, label: str, row_groups: Iterable[pa.Table], schema: pa.Schema
) -> Output:
    """The same for a part whose place is a label of digits."""
    buffer = io.BytesIO()
    sizes = []
    with pq.ParquetWriter(buffer, schema, compression=CODEC, write_page_checksum=True) as writer:
        for table in row_groups:
            if table.num_rows:
                where = f"part {int(label)} of {join(folder, prefix)}, row group {len(sizes)}"
                writer.write_table(_to_write(table, schema, where), row_group_size=table.num_rows)
                sizes.append(table.num_rows)
    content = buffer.getvalue()
    name = f"part-{label}-{hashlib.sha256(content).hexdigest()[:16]}.parquet"
    output = write_output(folder, join(prefix, name) if prefix else name, content)
    footer = _footer(io.BytesIO(content), len(content))
    digest = hashlib.sha256(footer).hexdigest()
    return dataclasses.replace(output, rows=sum(sizes), row_groups=len(sizes), footer_sha256=digest)


def _to_write(table: pa.Table, schema: pa.Schema, where: str) -> pa.Table:
    """A table in its schema, as it is written."""
    refuse_other_columns(table.schema, schema, schema.names, where)
    table = in_types_of(table.select(schema.names), schema, where)
    faults = find_faults(table, schema, kind_of(schema))
    if faults:
        raise UserError(f"{where}: {described(faults[0], table)}; it was not written")
    return table.cast(schema)


class PartWriter:
    """Collects row groups and writes a part whenever they have grown to `part_bytes`.

    `label`, digits, comes before the number of the part in its name.
    """

    def __init__(self, folder: str, prefix: str, schema: pa.Schema, part_bytes: int, label: str = ""):
        self._folder, self._prefix, self._schema, self._limit = folder, prefix, schema, part_bytes
        self._label = label
        self._tables: list[pa.Table] = []
        self._bytes = 0
        self._outputs: list[Output] = []

    @property
    def part(self) -> str:
        """The label of the part that the next row group goes into."""
        return f"{self._label}{len(self._outputs):05d}"

    def add(self, table: pa.Table) -> None:
        """Adds a row group; an empty one is skipped."""
        if table.num_rows:
            self._tables.append(table)
            self._bytes += table.nbytes
            if self._bytes >= self._limit:
                self._flush()

    def finish(self) -> list[Output]:
        """Writes what is left and returns all parts."""
        if self._tables:
            self._flush()
        return self._outputs

    def _flush(self) -> None:
        output = write_labelled_part(self._folder, self._prefix, self.part, self._tables, self._schema)
        self._outputs.append(output)
        self._tables, self._bytes = [], 0


def refuse_missing(folder: str, outputs: Sequence[Output]) -> None:
    """Makes sure that all parts are there in their sizes, with one listing for each of their folders.

    Opening each of a hundred thousand parts to look at its footer takes minutes, on an object store hours.

    Raises:
        UserError: one is missing, or of another size than its manifest says.
    """
    parents = {output.path.rpartition("/")[0] for output in outputs}
    sizes = {parent: storage.file_sizes(join(folder, parent)) for parent in sorted(parents)}
    for output in outputs:
        parent, _, name = output.path.rpartition("/")
        size = sizes[parent].get(name)
        if size != output.bytes:
            raise _damaged_size(join(folder, output.path), size, output)


def open_part(folder: str, output: Output) -> pq.ParquetFile:
    """Opens one part for reading by row group, with its footer and the checksums of its pages verified.

    Raises:
        UserError: the file is missing, of another size than its manifest says, or no Parquet file.
    """
    path = join(folder, output.path)
    try:
        file = storage.open_file(path)
        size = file.seek(0, io.SEEK_END)
        if size != output.bytes:
            raise _damaged_size(path, size, output)
        if hashlib.sha256(_footer(file, size)).hexdigest() != output.footer_sha256:
            raise damaged(path, "its footer is not the one that was written")
        part = pq.ParquetFile(file, page_checksum_verification=True)
        _ = part.schema_arrow  # made when it is first asked for, of what the file says
        return part
    except FileNotFoundError as error:
        raise _damaged_size(path, None, output) from error
    except (pa.ArrowException, OSError) as error:
        raise damaged(path, str(error)) from error


def _footer(file: Any, size: int) -> bytes:
    """A Parquet file ends in its footer, the footer's length in 4 bytes, and the letters PAR1."""
    file.seek(size - 8)
    length = int.from_bytes(file.read(4), "little")
    file.seek(max(size - 8 - length, 0))
    return file.read(length + 8)


class Records(NamedTuple):
    """The records of a row group, and how many were left out for each of the reasons in `faults.py`."""

    table: pa.Table
    left_out: Mapping[str, int]


def read_row_group(
    folder: str, output: Output, index: int, columns: Sequence[str] | None = None, kind: str = ""
) -> pa.Table:
    """One row group of one part.

    Args:
        folder: that of the manifest.
        output: the part, as the manifest lists it.
        index: of the row group.
        columns: those to read; None means all.
        kind: of the records in there, which are checked; "" for a table of another sort.

    Raises:
        UserError: the part is damaged, or holds other records.
    """
    return read_records(folder, output, index, columns, kind, skip_faulty=False).table


def read_records(
    folder: str, output: Output, index: int, columns: Sequence[str] | None, kind: str, *, skip_faulty: bool
) -> Records:
    """The same; with `skip_faulty` records that are not of their kind are left out, as long as some are left.

    Raises:
        UserError: the part is damaged, holds other records, or nothing but faulty ones.
    """
    with open_part(folder, output) as part:
        return _row_group(part, index, columns, join(folder, output.path), kind, skip_faulty=skip_faulty)


def part_schema(folder: str, output: Output) -> pa.Schema:
    """The columns of one part, from its footer.

    Raises:
        UserError: the part is damaged.
    """
    with open_part(folder, output) as part:
        return part.schema_arrow


def read_tables(
    folder: str, manifest: Manifest, prefix: str, columns: Sequence[str] | None = None, kind: str = ""
) -> Iterator[pa.Table]:
    """All row groups of the parts under `prefix`, in the order of their names.

    Raises:
        UserError: a part is damaged, or holds other records.
    """
    for output in manifest.under(prefix):
        yield from read_part(folder, output, columns, kind)


def read_part(folder: str, output: Output, columns: Sequence[str] | None = None, kind: str = "") -> Iterator[pa.Table]:
    """The row groups of one part.

    Raises:
        UserError: the part is damaged, or holds other records.
    """
    with open_part(folder, output) as part:
        for index in range(part.num_row_groups):
            yield _row_group(part, index, columns, join(folder, output.path), kind, skip_faulty=False).table


def _row_group(
    part: pq.ParquetFile, index: int, columns: Sequence[str] | None, path: str, kind: str, *, skip_faulty: bool
) -> Records:
    found = part.schema_arrow
    schema = SCHEMAS[kind] if kind else found
    wanted = list(columns) if columns else schema.names
    checked = columns_to_check(found.names, columns, path)
    fields = {field.name: field for field in schema} | {name: SOURCE_FILE.field(name) for name in checked}
    names = list(dict.fromkeys([*wanted, *checked]))
    schema = pa.schema(fields.values())
    refuse_other_columns(found, schema, names, path)
    table = _read(part, index, names, path)
    table = in_types_of(table, schema, f"{path}, row group {index},")
    faults = find_faults(table, schema, kind)
    if faults and (not skip_faulty or len(faults) == table.num_rows):
        who = _read(part, index, identities(found.names), path)
        raise damaged(path, f"row group {index}, {described(faults[0], who)}")
    if faults:
        sound = np.setdiff1d(np.arange(table.num_rows), [fault.row for fault in faults])
        table = table.take(pa.array(sound))
    return Records(table.select(wanted), Counter(fault.reason for fault in faults))


def _read(part: pq.ParquetFile, index: int, columns: list[str], path: str) -> pa.Table:
    if index >= part.num_row_groups:
        raise damaged(path, f"it has {part.num_row_groups} row groups, and not a row group {index}")
    try:
        table = part.read_row_group(index, columns=columns)
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        raise damaged(path, str(error)) from error
    # The checksum of a page does not cover its header, which says how many values it holds.
    expected = part.metadata.row_group(index).num_rows
    if table.num_rows != expected:
        raise damaged(path, f"row group {index} has {table.num_rows} rows instead of {expected}")
    return table


def _damaged_size(path: str, size: int | None, output: Output) -> UserError:
    if size is None:
        return UserError(f"{path} is missing; run the stage that wrote it again")
    return damaged(path, f"it has {size} bytes instead of {output.bytes}")


def damaged(path: str, what: str) -> UserError:
    """The error of a part that is not what its manifest says."""
    return UserError(f"{path} is damaged: {what}; delete it and run the stage that wrote it again")
