"""Signed files for tests: in memory, in units of a few."""

import dataclasses
from pathlib import Path

import numpy as np
import pyarrow as pa

from sc2jax.corpus.dedup.signed import signature_column, signed_schema
from sc2jax.corpus.shuffle import Buckets


@dataclasses.dataclass(frozen=True)
class InMemory:
    """Files whose numbers are those of the rows, but for rows that are left out."""

    signatures: np.ndarray
    orders: np.ndarray
    languages: np.ndarray
    starts: np.ndarray
    signed: np.ndarray

    @property
    def permutations(self) -> int:
        return self.signatures.shape[1]

    def units(self) -> pa.Table:
        return pa.table({"unit": np.arange(len(self.starts) - 1)})

    def read(self, unit: int) -> pa.Table:
        rows = np.arange(self.starts[unit], self.starts[unit + 1])
        rows = rows[self.signed[rows]]
        columns = [rows, self.orders[rows], self.languages[rows], signature_column(self.signatures[rows])]
        return pa.Table.from_arrays([pa.array(column) for column in columns], schema=signed_schema(self.permutations))


def in_memory(
    signatures: np.ndarray,
    orders: np.ndarray | None = None,
    languages: np.ndarray | None = None,
    unit: int = 7,
    signed: np.ndarray | None = None,
) -> InMemory:
    """Files in units of `unit` rows; the orders are those of the rows, and there is one language, unless given."""
    size = len(signatures)
    starts = np.array([*range(0, size, unit), size], np.int64)
    orders = np.arange(size) if orders is None else orders
    languages = np.zeros(size) if languages is None else languages
    signed = np.ones(size, bool) if signed is None else signed
    return InMemory(
        np.ascontiguousarray(signatures, np.uint32),
        orders.astype(np.uint64),
        languages.astype(np.uint64),
        starts,
        signed,
    )


def kept_of(found: Buckets, files: InMemory, folder: Path) -> dict[int, int]:
    """Who falls in favour of whom; checks that each is in the bucket of its unit, and in one only."""
    kept: dict[int, int] = {}
    assert len(found) == len(files.starts) - 1 or len(files.starts) > 1025
    for bucket in range(len(found)):
        table = found.read(bucket)
        assert table.column_names == ["id", "kept"]
        for id_, other in zip(*(table[name].to_pylist() for name in ("id", "kept")), strict=True):
            assert id_ not in kept
            if len(found) == len(files.starts) - 1:
                assert files.starts[bucket] <= id_ < files.starts[bucket + 1]
            kept[id_] = other
    assert folder.exists()
    return kept
