"""The shuffle: rows dealt into buckets on disk by a key, so that those of one key come together without being held.

Group-bys and joins of the corpus are made of two steps on the engine. The first runs a function over units of work,
each of which gives rows and the bucket that each belongs to; a unit's rows are written as one file, a stretch for each
bucket. The second works a bucket at a time, on the rows that all units have dealt to it. The process that drives both
knows how many rows each file has for each bucket, and no row.
"""

import contextlib
import dataclasses
import functools
import io
import secrets
from collections.abc import Callable, Iterator, Sequence

import numpy as np
import pyarrow as pa
import xxhash

from sc2jax import storage
from sc2jax.corpus.dedup.signatures import scramble
from sc2jax.corpus.engine import map_units
from sc2jax.progress import progress
from sc2jax.storage import join

Deal = Callable[[pa.Table], tuple[pa.Table, np.ndarray]]
"""Rows of a unit -> rows of any number, and the bucket of each."""

_SHORT = 1 << 16
"""Numbers of buckets below this fit 16 bits."""

_DEALT = pa.schema([pa.field("name", pa.string()), pa.field("counts", pa.list_(pa.int64()))])


@dataclasses.dataclass(frozen=True)
class Buckets:
    """Rows on disk by bucket.

    Attributes:
        folder: that the files lie in.
        schema: of the rows.
        names: of the files, in the order of the units.
        counts: (files, buckets), the rows that each file has for each bucket.
    """

    folder: str
    schema: pa.Schema
    names: tuple[str, ...]
    counts: np.ndarray

    def __len__(self) -> int:
        """The number of buckets."""
        return self.counts.shape[1]

    @property
    def rows(self) -> int:
        """The number of rows in all buckets."""
        return int(self.counts.sum())

    def units(self) -> pa.Table:
        """A row for each bucket: work for the engine."""
        return pa.table({"bucket": np.arange(len(self))})

    def read(self, bucket: int) -> pa.Table:
        """The rows of one bucket, in the order of the units that dealt them."""
        tables = [self.schema.empty_table(), *self.pieces(bucket)]
        return pa.concat_tables(tables).combine_chunks()

    def pieces(self, bucket: int) -> Iterator[pa.Table]:
        """The rows of one bucket, a file's at a time."""
        for index in np.flatnonzero(self.counts[:, bucket]).tolist():
            with storage.open_file(join(self.folder, self.names[index])) as file:
                batch = pa.ipc.open_file(pa.PythonFile(file, "r")).get_batch(bucket)
                yield pa.Table.from_batches([batch])


@contextlib.contextmanager
def dealt(
    folder: str, units: pa.Table, deal: Deal, schema: pa.Schema, buckets: int, desc: str = ""
) -> Iterator[Buckets]:
    """Runs a function over units and gives the rows that it deals, by bucket, until the context is left.

    Args:
        folder: of the stage that is at work; the files lie in a new folder in there, and are deleted in the end.
        units: a row for each unit.
        deal: picklable; is given the row of one unit.
        schema: of the rows that it deals.
        buckets: how many there are.
        desc: what the progress is called; "" shows none.
    """
    inside = join(folder, f"shuffle-{secrets.token_hex(8)}")
    work = functools.partial(_deal, folder=inside, deal=deal, schema=schema, buckets=buckets)
    names: list[str] = []
    counts: list[list[int]] = []
    try:
        with map_units(units, np.arange(len(units)), work, _DEALT) as results:
            for table in progress(results, total=len(units), desc=desc, unit="unit") if desc else results:
                names += table["name"].to_pylist()
                counts += table["counts"].to_pylist()
        yield Buckets(inside, schema, tuple(names), np.array(counts, np.int64).reshape(-1, buckets))
    finally:
        storage.delete_folder(inside)


def _deal(unit: pa.Table, folder: str, deal: Deal, schema: pa.Schema, buckets: int) -> pa.Table:
    rows, places = deal(unit)
    counts = np.bincount(places, minlength=buckets)
    if not len(places):
        return pa.table({"name": [""], "counts": [counts.tolist()]}, _DEALT)
    order = np.argsort(places.astype(np.uint16) if buckets <= _SHORT else places, kind="stable")  # by radix if short
    table = rows.cast(schema).take(pa.array(order)).combine_chunks()
    sink = io.BytesIO()
    with pa.ipc.new_file(sink, schema) as file:
        ends = np.cumsum(counts)
        for end, count in zip(ends.tolist(), counts.tolist(), strict=True):
            piece = table.slice(end - count, count)
            file.write_batch(pa.record_batch(_flat(piece), schema=schema))
    name = f"{secrets.token_hex(8)}.arrow"  # a unit that is done twice, since a worker was lost, has two files
    storage.write_whole(join(folder, name), sink.getvalue(), durable=False)
    return pa.table({"name": [name], "counts": [counts.tolist()]}, _DEALT)


def _flat(table: pa.Table) -> list[pa.Array]:
    """Each column without chunks."""
    columns = table.columns
    return [pa.concat_arrays(column.chunks) if column.num_chunks else pa.nulls(0, column.type) for column in columns]


def by_hash(keys: np.ndarray, buckets: int) -> np.ndarray:
    """The bucket of each key (64-bit integers), as good as drawn by chance."""
    return (scramble(keys.view(np.uint64)) % np.uint64(buckets)).astype(np.int64)


def text_keys(texts: Sequence[str]) -> np.ndarray:
    """64-bit integers for texts: equal for equal ones, for others practically never."""
    return np.array([xxhash.xxh3_64_intdigest(text.encode()) for text in texts], np.uint64)


def buckets_for(size: int, most: int) -> int:
    """How many buckets leave at most about `most` bytes to each, given the bytes of all."""
    return max(1, -(-size // most))
