# pyright: reportAttributeAccessIssue=false
# (pyarrow makes the functions of `compute` when it is imported)
"""The tables of a Software Heritage graph export, read a stripe and a few columns at a time.

An export holds a folder a table, and in it ORC files of any number, as the package swh.export writes them (names and
types of columns: its `relational.py`). Identifiers are texts of 40 hexadecimal digits there, and 20 bytes here. A
table that is damaged ends the work: which repositories have lost something by it, nothing would say.
"""

import re
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import orc

from sc2jax import storage
from sc2jax.errors import UserError
from sc2jax.storage import join

ID = pa.binary(20)

COLUMNS = {
    "origin_visit_status": ("origin", "visit", "date", "status", "snapshot"),
    "snapshot_branch": ("snapshot_id", "name", "target", "target_type"),
    "revision": ("id", "date", "committer_date", "directory", "type"),
    "directory_entry": ("directory_id", "name", "type", "target", "perms"),
    "content": ("sha1", "sha1_git", "length"),
}
"""The tables and columns that are read; exports hold others beside them."""

STRIPES = pa.schema(
    [pa.field("path", pa.string()), pa.field("stripe", pa.int64()), pa.field("rows", pa.int64())],
)
"""Work for the engine: a stripe of a file, with the rows of a file of its length on average."""

_SUFFIX = ".orc"
_OPENED_AT_ONCE = 16
_WILD = "out of range for nanosecond"
"""What pyarrow says of a date before 1677 or after 2262: commits may have any."""

_LETTERS = np.frombuffer(b"0123456789abcdef", np.uint8)
_DIGITS = np.full(256, 255, np.uint8)
_DIGITS[_LETTERS] = np.arange(16)


def export_folder(path: str) -> str:
    """The folder of the tables of an export: the one that is named, or `orc` in it; "" where there is none."""
    for folder in (path, join(path, "orc")):
        if COLUMNS.keys() <= set(storage.names(folder)):
            return folder
    return ""


def stripes(folder: str, table: str) -> pa.Table:
    """The stripes of a table, in the order of its files' names (schema STRIPES).

    Raises:
        UserError: there is no such table, or a file of it is none, or has not the columns that are read.
    """
    paths = [join(join(folder, table), name) for name in storage.names(join(folder, table)) if name.endswith(_SUFFIX)]
    if not paths:
        raise UserError(f"{join(folder, table)} holds no {_SUFFIX} files; fetch that table of the export")
    with ThreadPoolExecutor(_OPENED_AT_ONCE) as threads:
        counts = list(threads.map(lambda path: _stripes_of(path, COLUMNS[table]), paths))
    rows = [
        (path, stripe, -(-total // count))
        for path, (count, total) in zip(paths, counts, strict=True)
        for stripe in range(count)
    ]
    columns = list(zip(*rows, strict=True)) or [()] * len(STRIPES)
    return pa.table([pa.array(column, field.type) for column, field in zip(columns, STRIPES, strict=True)], STRIPES)


def _stripes_of(path: str, columns: Sequence[str]) -> tuple[int, int]:
    """How many stripes and rows a file has."""
    file = _opened(path)
    lacking = [column for column in columns if column not in file.schema.names]
    if lacking:
        raise UserError(
            f"{path} has no column {lacking[0]} (but {', '.join(file.schema.names)}); "
            "name a graph export of Software Heritage, in ORC"
        )
    return file.nstripes, file.nrows


def read_stripe(path: str, stripe: int, columns: Sequence[str]) -> pa.Table:
    """Some columns of a stripe; dates become microseconds since 1970, as integers.

    Raises:
        UserError: it cannot be read.
    """
    try:
        found = _opened(path).read_stripe(stripe, columns=list(columns))
        found.validate(full=True)  # texts are UTF-8 from here on
    except pa.ArrowInvalid as error:
        if _WILD not in str(error):
            raise _damaged(path, error) from error
        return _with_wild_dates(path, stripe, columns)
    except (pa.ArrowException, OSError) as error:
        raise _damaged(path, error) from error
    table = pa.Table.from_batches([found]).select(list(columns))
    for place, field in enumerate(table.schema):
        if pa.types.is_timestamp(field.type):
            dates = table.column(place).cast(pa.timestamp("us"), safe=False).cast(pa.int64())
            table = table.set_column(place, field.name, dates)
    return table


def _with_wild_dates(path: str, stripe: int, columns: Sequence[str]) -> pa.Table:
    """The same by the library that swh.export writes with, which is slow, and knows any date."""
    try:
        import pyorc  # pyright: ignore[reportMissingImports]
    except ImportError as error:
        raise UserError(
            f"{path} holds dates before 1677 or after 2262, for which the package pyorc is needed; "
            "install sc2jax[heritage]"
        ) from error
    with storage.open_file(path) as file:
        converters: dict[Any, Any] = {pyorc.TypeKind.TIMESTAMP: _Microseconds}
        reader = pyorc.Reader(file, column_names=list(columns), converters=converters)
        names = [name for name in reader.schema.fields if name in columns]
        found = list(zip(*reader.read_stripe(stripe), strict=True))
    return pa.table(dict(zip(names, found, strict=True))).select(list(columns))


class _Microseconds:
    """Makes an integer of a date, as pyorc asks for it."""

    @staticmethod
    def from_orc(seconds: int, nanoseconds: int, timezone: Any) -> int:
        """Microseconds since 1970."""
        del timezone
        return seconds * 1_000_000 + nanoseconds // 1000

    @staticmethod
    def to_orc(obj: int, timezone: Any) -> tuple[int, int]:
        """The same the other way."""
        del timezone
        return obj // 1_000_000, obj % 1_000_000 * 1000


def _opened(path: str) -> orc.ORCFile:
    try:
        return orc.ORCFile(storage.open_file(path))
    except (pa.ArrowException, OSError) as error:
        raise _damaged(path, error) from error


def _damaged(path: str, error: Exception) -> UserError:
    said = " ".join(str(error).split())
    return UserError(f"{path} cannot be read as a table in ORC ({said}); fetch that file of the export anew")


def packed(texts: pa.ChunkedArray, where: str) -> pa.Array:
    """Identifiers as bytes, given as hexadecimal digits; null becomes `NOTHING`.

    Raises:
        UserError: one of them is none.
    """
    flat = pc.fill_null(texts, NOTHING.hex()).combine_chunks()
    digits = np.zeros((0, 40), np.uint8)
    if len(flat):
        lengths = pc.min_max(pc.binary_length(flat))
        if (lengths["min"].as_py(), lengths["max"].as_py()) != (40, 40):
            raise _no_identifier(flat, where)
        _, offsets, data = flat.buffers()
        first = int(np.frombuffer(offsets, np.int32)[flat.offset])
        digits = _DIGITS[np.frombuffer(data, np.uint8)[first : first + 40 * len(flat)].reshape(-1, 40)]
    if digits.size and digits.max() > 15:
        raise _no_identifier(flat, where)
    return ids_of(digits[:, 0::2] << 4 | digits[:, 1::2])


def _no_identifier(texts: pa.Array, where: str) -> UserError:
    bad = next(text for text in texts.to_pylist() if not re.fullmatch("[0-9a-f]{40}", text))
    return UserError(f"{where} holds {bad[:60]!r} where an identifier should be; fetch that file of the export anew")


NOTHING = bytes(20)
"""Stands for no identifier."""


def ids_of(bytes_: np.ndarray) -> pa.Array:
    """Identifiers, given their bytes (n, 20)."""
    return pa.FixedSizeBinaryArray.from_buffers(ID, len(bytes_), [None, pa.py_buffer(bytes_.tobytes())])


def bytes_of(ids: pa.ChunkedArray | pa.Array) -> np.ndarray:
    """The bytes (n, 20) of identifiers without nulls."""
    flat = ids.combine_chunks() if isinstance(ids, pa.ChunkedArray) else ids
    found = np.frombuffer(flat.buffers()[1] or b"", np.uint8)[20 * flat.offset :][: 20 * len(flat)]
    return found.reshape(-1, 20)


def hexed(ids: pa.ChunkedArray | pa.Array) -> pa.Array:
    """Identifiers without nulls as hexadecimal digits."""
    found = bytes_of(ids)
    digits = np.empty((len(found), 40), np.uint8)
    digits[:, 0::2], digits[:, 1::2] = _LETTERS[found >> 4], _LETTERS[found & 15]
    offsets = (np.arange(len(found) + 1) * 40).astype(np.int32)
    return pa.StringArray.from_buffers(len(found), pa.py_buffer(offsets), pa.py_buffer(digits))


def id_keys(ids: pa.ChunkedArray | pa.Array) -> np.ndarray:
    """64-bit integers for identifiers, to deal them by."""
    return np.ascontiguousarray(bytes_of(ids)[:, :8]).view(np.uint64).ravel()
