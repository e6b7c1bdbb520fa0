"""Datasets: Parquet parts with content-derived names, readable once a manifest lists them."""

import hashlib
import io
from collections.abc import Iterable, Iterator, Sequence

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq

from sc2jax.errors import UserError
from sc2jax.records.manifest import Manifest, Output, join, write_output


def write_part(folder: str, prefix: str, index: int, row_groups: Iterable[pa.Table], schema: pa.Schema) -> Output:
    """Writes one Parquet part, a row group for each table, named by its place and its content.

    Pages carry checksums, so that damage is found when they are read.
    """
    buffer = io.BytesIO()
    rows = 0
    with pq.ParquetWriter(buffer, schema, compression="zstd", write_page_checksum=True) as writer:
        for table in row_groups:
            writer.write_table(table.cast(schema), row_group_size=max(1, table.num_rows))
            rows += table.num_rows
    content = buffer.getvalue()
    name = f"part-{index:05d}-{hashlib.sha256(content).hexdigest()[:16]}.parquet"
    return write_output(folder, join(prefix, name) if prefix else name, content, rows)


def open_part(folder: str, output: Output) -> pq.ParquetFile:
    """Opens one part for reading by row group, with its page checksums verified.

    Raises:
        UserError: the file is missing, of another size than its manifest says, or no Parquet file.
    """
    path = join(folder, output.path)
    fs, local = fsspec.core.url_to_fs(path)
    try:
        size = fs.size(local)
        if size != output.bytes:
            raise damaged(path, f"it has {size} bytes instead of {output.bytes}")
        return pq.ParquetFile(fs.open(local, "rb"), page_checksum_verification=True)
    except FileNotFoundError as error:
        raise damaged(path, "it is missing") from error
    except pa.ArrowInvalid as error:
        raise damaged(path, str(error)) from error


def read_row_group(folder: str, output: Output, index: int, columns: Sequence[str] | None = None) -> pa.Table:
    """One row group of one part.

    Raises:
        UserError: the part is damaged.
    """
    with open_part(folder, output) as part:
        try:
            return part.read_row_group(index, columns=list(columns) if columns else None)
        except (pa.ArrowInvalid, OSError) as error:
            raise damaged(join(folder, output.path), str(error)) from error


def read_tables(
    folder: str, manifest: Manifest, prefix: str, columns: Sequence[str] | None = None
) -> Iterator[pa.Table]:
    """All row groups of the parts under `prefix`, in the order of their names."""
    for output in manifest.under(prefix):
        with open_part(folder, output) as part:
            for index in range(part.num_row_groups):
                try:
                    yield part.read_row_group(index, columns=list(columns) if columns else None)
                except (pa.ArrowInvalid, OSError) as error:
                    raise damaged(join(folder, output.path), str(error)) from error


def damaged(path: str, what: str) -> UserError:
    """The error of a part that is not what its manifest says."""
    return UserError(f"{path} is damaged: {what}; delete it and run the stage that wrote it again")
