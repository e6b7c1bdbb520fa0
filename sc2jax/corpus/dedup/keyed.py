"""Work on rows that were dealt by a key, where a key may have more rows than fit in memory.

What a row needs to know of the others of its key is a summary of them: the best, how many. A bucket is read whole,
summarised, and then worked on; one that a large key makes larger than a partition is cut into some of its files at a
time, whose summaries are folded beforehand, so that each piece finds that of the whole.
"""

import contextlib
import dataclasses
import functools
import itertools
from collections.abc import Callable, Iterator

import numpy as np
import pyarrow as pa

from sc2jax.corpus.shuffle import Buckets, buckets_for, by_hash, dealt


@dataclasses.dataclass(frozen=True)
class Fold:
    """How rows of a key are summarised.

    Attributes:
        lift: some rows -> the summary of each by itself, or of those that matter.
        merge: summaries sorted by key -> one (or more, where that is needed) for each key, sorted; those of merged
            parts are those of the whole.
    """

    lift: Callable[[pa.Table], pa.Table]
    merge: Callable[[pa.Table], pa.Table]

    def __call__(self, rows: pa.Table) -> pa.Table:
        """The summaries of rows that are sorted by key."""
        return self.merge(self.lift(rows))


@dataclasses.dataclass(frozen=True)
class Keyed:
    """Rows by key, in pieces that fit in memory.

    Attributes:
        rows: dealt by the key.
        pieces: (bucket, first file, last file, whether it is all of the bucket) of each piece.
        fold: summarises rows of a key.
        summaries: of the keys of buckets that are cut, by bucket.
        alone: whether rows whose key no other row has are of use.
    """

    rows: Buckets
    pieces: pa.Table
    fold: Fold
    summaries: Buckets | None
    alone: bool

    def read(self, piece: pa.Table) -> tuple[pa.Table, pa.Table]:
        """The rows of a piece sorted by key, and the summaries of their keys."""
        table = self._sorted(piece)
        if piece["whole"][0].as_py() or self.summaries is None:
            return table, self.fold(table)
        summary = self.summaries.read(piece["bucket"][0].as_py())
        return table, summary.filter(pa.array(np.isin(summary["key"].to_numpy(), table["key"].to_numpy())))

    def _sorted(self, piece: pa.Table) -> pa.Table:
        bucket, first, last = (piece[name][0].as_py() for name in ("bucket", "first", "last"))
        part = dataclasses.replace(self.rows, names=self.rows.names[first:last], counts=self.rows.counts[first:last])
        table = part.read(bucket)
        if piece["whole"][0].as_py() and not self.alone:
            table = table.take(pa.array(_with_others(table["key"].to_numpy())))
        return table.take(pa.array(ascending(table["key"].to_numpy())))


@contextlib.contextmanager
def keyed(folder: str, rows: Buckets, fold: Fold, partition_bytes: int, *, alone: bool = True) -> Iterator[Keyed]:
    """Pieces of rows that were dealt by their column `key`.

    Args:
        folder: of the stage.
        rows: the rows.
        fold: summarises rows of a key.
        partition_bytes: of rows that are in memory at a time: a piece has at most twice as many, or those of one file.
        alone: whether rows whose key no other row has are of use.
    """
    pieces = _pieces(rows, partition_bytes)
    work = Keyed(rows, pieces, fold, None, alone)
    cut = pieces.filter(pa.array(~np.array(pieces["whole"], bool)))
    if not len(cut):
        yield work
        return
    summarise = functools.partial(_summarise, work=work)
    schema = fold(rows.schema.empty_table()).schema
    with (
        dealt(folder, cut, summarise, schema, len(rows)) as some,
        dealt(folder, some.units(), functools.partial(_fold, some=some, fold=fold), schema, len(rows)) as summaries,
    ):
        yield dataclasses.replace(work, summaries=summaries)


class Held:
    """Tables that lie on disk, each under a name; what is dropped or replaced is deleted."""

    def __init__(self) -> None:
        self._stacks: dict[str, contextlib.ExitStack] = {}

    def __enter__(self) -> "Held":
        """Left as a context, no table lies there any more."""
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def put(self, name: str, context: contextlib.AbstractContextManager[Buckets]) -> Buckets:
        """Makes a table, and drops the one of that name."""
        stack = contextlib.ExitStack()
        table = stack.enter_context(context)
        self.drop(name)
        self._stacks[name] = stack
        return table

    def drop(self, name: str) -> None:
        """Deletes the table of a name, if there is one."""
        if name in self._stacks:
            self._stacks.pop(name).close()

    def close(self) -> None:
        """Deletes all tables."""
        for name in list(self._stacks):
            self.drop(name)


def row_bytes(schema: pa.Schema) -> int:
    """Of a row whose fields are all of fixed width."""
    return sum(-(-field.type.bit_width // 8) for field in schema)


def key_buckets(schema: pa.Schema, rows: int, partition_bytes: int) -> int:
    """How many buckets so many rows are dealt into."""
    return min(buckets_for(rows * row_bytes(schema), partition_bytes), np.iinfo(np.uint16).max // 2)


def place(keys: np.ndarray, buckets: int) -> np.ndarray:
    """The bucket of each key, in a type that is quickly sorted by."""
    return by_hash(keys, buckets).astype(np.uint16)


def ascending(values: np.ndarray) -> np.ndarray:
    """The stable order of 64-bit integers, three times as fast as `np.argsort`: values and places are sorted as one."""
    values = values.view(np.uint64) if values.dtype == np.int64 else values
    if len(values) < 2:
        return np.arange(len(values))
    values = values - values.min()
    bits = (len(values) - 1).bit_length()
    shift = max(0, int(values.max()).bit_length() + bits - 64)
    mixed = ((values >> np.uint64(shift)) << np.uint64(bits)) | np.arange(len(values), dtype=np.uint64)
    mixed.sort()
    order = (mixed & np.uint64((1 << bits) - 1)).astype(np.int64)
    if shift:  # values that differ in their lowest bits alone are not in order yet
        found = values[order]
        if (found[1:] < found[:-1]).any():
            order = order[np.argsort(found, kind="stable")]
    return order


def openings(keys: np.ndarray) -> np.ndarray:
    """Where each stretch of equal keys begins."""
    return np.flatnonzero(np.concatenate([[True], keys[1:] != keys[:-1]])) if len(keys) else np.zeros(0, np.int64)


def numbered(keys: np.ndarray) -> np.ndarray:
    """For each of sorted keys the number of its stretch of equal ones."""
    return np.cumsum(np.concatenate([[True], keys[1:] != keys[:-1]])) - 1 if len(keys) else np.zeros(0, np.int64)


def _with_others(keys: np.ndarray) -> np.ndarray:
    """Rows whose key another row has, and some few others: most keys are alone, and sorting by rows is dear."""
    values = np.sort(keys)
    shared = values[1:][values[1:] == values[:-1]]
    mask = np.uint64((1 << max(10, (4 * len(shared)).bit_length())) - 1)
    marked = np.zeros(int(mask) + 1, bool)
    marked[(shared & mask).astype(np.int64)] = True
    return np.flatnonzero(marked[(keys & mask).astype(np.int64)])


def _pieces(rows: Buckets, partition_bytes: int) -> pa.Table:
    most = max(1, partition_bytes // row_bytes(rows.schema))
    found = []
    for bucket, total in enumerate(rows.counts.sum(axis=0).tolist()):
        if not total:
            continue
        if total <= 2 * most:
            found.append((bucket, 0, len(rows.names), True))
            continue
        ends = np.cumsum(rows.counts[:, bucket])
        cuts = [0]
        while cuts[-1] < len(ends):
            before = ends[cuts[-1] - 1] if cuts[-1] else 0
            cuts.append(max(cuts[-1] + 1, int(np.searchsorted(ends, before + most, side="right"))))
        found += [(bucket, low, high, False) for low, high in itertools.pairwise(cuts)]
    columns = zip(*found, strict=True) if found else ([], [], [], [])
    names = ("bucket", "first", "last", "whole")
    types = (pa.int64(), pa.int64(), pa.int64(), pa.bool_())
    return pa.table({name: pa.array(column, type_) for name, column, type_ in zip(names, columns, types, strict=True)})


def _summarise(piece: pa.Table, work: Keyed) -> tuple[pa.Table, np.ndarray]:
    summary = work.fold(work._sorted(piece))
    return summary, np.full(len(summary), piece["bucket"][0].as_py(), np.uint16)


def _fold(unit: pa.Table, some: Buckets, fold: Fold) -> tuple[pa.Table, np.ndarray]:
    bucket = unit["bucket"][0].as_py()
    table = some.read(bucket)
    summary = fold.merge(table.take(pa.array(ascending(table["key"].to_numpy()))))
    return summary, np.full(len(summary), bucket, np.uint16)
