"""What deduplication by signatures is given, and what it gives: tables of units on disk, of which few are in memory."""

import dataclasses
from collections.abc import Iterator
from typing import Protocol

import numpy as np
import pyarrow as pa

from sc2jax.corpus.config import MIB
from sc2jax.corpus.shuffle import Buckets

PARTITION_BYTES = 64 * MIB
"""What a partition of a table may take, unless told otherwise; one that is worked on takes a few times as much."""

KEPT = pa.schema([pa.field("id", pa.int64()), pa.field("kept", pa.int64())])
"""What comes out: the number of a file that falls, and of the one that is kept in its place."""

_MOST_BUCKETS = 1024


def signed_schema(permutations: int) -> pa.Schema:
    """The columns of a signed file: its number, its preference, a hash of its language, and its signature."""
    fields = [pa.field("id", pa.int64()), pa.field("order", pa.uint64()), pa.field("language", pa.uint64())]
    return pa.schema([*fields, pa.field("signature", pa.binary(4 * permutations))])


class Signed(Protocol):
    """Signed files in units on disk; picklable.

    `order` is unique to a file: of two the one with the lower is preferred. Files without n-grams, and those that fell
    before, are in none.
    """

    @property
    def starts(self) -> np.ndarray:
        """The lowest number that a file of each unit may have, and a number above all at the end."""
        ...

    @property
    def permutations(self) -> int:
        """The length of a signature."""
        ...

    def units(self) -> pa.Table:
        """A row for each unit, with its number in the column `unit`."""
        ...

    def read(self, unit: int) -> pa.Table:
        """The files of a unit, of `signed_schema`, by ascending number."""
        ...


@dataclasses.dataclass(frozen=True)
class Stretches:
    """Stretches of consecutive units, and so of numbers of files: the buckets of tables that are dealt by file.

    Attributes:
        units: the first unit of each stretch, and the number of units at the end.
        starts: the first number of each stretch.
    """

    units: np.ndarray
    starts: np.ndarray

    @classmethod
    def of_bytes(cls, signed: Signed, row_bytes: int, most: int) -> "Stretches":
        """As many units a stretch as hold at most so many bytes, given those of a row; at least one."""
        limit = max(1, most // row_bytes)
        cuts, starts = [0], signed.starts
        while cuts[-1] < len(starts) - 1:
            end = int(np.searchsorted(starts, starts[cuts[-1]] + limit, side="right")) - 1
            cuts.append(max(end, cuts[-1] + 1))
        return cls(np.array(cuts, np.int64), starts[cuts[:-1]])

    @classmethod
    def of_results(cls, signed: Signed) -> "Stretches":
        """A stretch for each unit; where there are more than 1,024, for so many that there are at most 1,024."""
        count = len(signed.starts) - 1
        cuts = [*range(0, count, max(1, -(-count // _MOST_BUCKETS))), count]
        return cls(np.array(cuts, np.int64), signed.starts[cuts[:-1]])

    def __len__(self) -> int:
        """How many there are."""
        return len(self.starts)

    def table(self) -> pa.Table:
        """A row for each stretch: work for the engine."""
        return pa.table({"stretch": np.arange(len(self))})

    def of(self, ids: np.ndarray) -> np.ndarray:
        """The stretch of each number."""
        return (np.searchsorted(self.starts, ids, side="right") - 1).astype(np.uint16)

    def units_of(self, stretch: int) -> range:
        """The units of a stretch."""
        return range(int(self.units[stretch]), int(self.units[stretch + 1]))


@dataclasses.dataclass(frozen=True)
class Files:
    """Signed files in memory: numbers (files,), preferences, languages and signatures (files, permutations)."""

    ids: np.ndarray
    orders: np.ndarray
    languages: np.ndarray
    signatures: np.ndarray

    def __len__(self) -> int:
        """How many there are."""
        return len(self.ids)

    def column(self) -> pa.Array:
        """The signatures as a column."""
        return signature_column(self.signatures)


def no_results(folder: str) -> Buckets:
    """What comes out of no unit: no bucket."""
    return Buckets(folder, KEPT, (), np.zeros((0, 0), np.int64))


def files_of(table: pa.Table) -> Files:
    """The columns of a table of `signed_schema`."""
    ids, orders, languages = (table[name].to_numpy() for name in ("id", "order", "language"))
    return Files(ids, orders, languages, matrix(table["signature"]))


def matrix(column: pa.ChunkedArray) -> np.ndarray:
    """Signatures as rows of uint32; of one chunk without a copy."""
    width = column.type.byte_width
    chunks = [
        np.frombuffer(chunk.buffers()[1], np.uint8)[chunk.offset * width :][: len(chunk) * width]
        for chunk in column.chunks
        if len(chunk)
    ]
    flat = chunks[0] if len(chunks) == 1 else np.concatenate([np.zeros(0, np.uint8), *chunks])
    return flat.view(np.uint32).reshape(-1, width // 4)


def signature_column(signatures: np.ndarray) -> pa.Array:
    """Rows of uint32 as a column."""
    count, permutations = signatures.shape
    buffer = pa.py_buffer(np.ascontiguousarray(signatures))
    return pa.Array.from_buffers(pa.binary(4 * permutations), count, [None, buffer])


def each_unit(signed: Signed, units: range) -> Iterator[Files]:
    """The files of some units, a unit's at a time; empty ones are left out."""
    for unit in units:
        table = signed.read(unit)
        if len(table):
            yield files_of(table)


def chosen_files(signed: Signed, units: range, ids: np.ndarray) -> Files:
    """Certain files (ascending) of some units; units that hold none are not read."""
    schema = signed_schema(signed.permutations)
    found = [schema.empty_table()]
    for unit in units:
        low, high = np.searchsorted(ids, signed.starts[unit : unit + 2])
        if low < high:
            table = signed.read(unit)
            found.append(table.take(pa.array(np.flatnonzero(np.isin(table["id"].to_numpy(), ids[low:high])))))
    return files_of(pa.concat_tables(found))
