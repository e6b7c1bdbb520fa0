"""Signatures: the MinHash signature of every text, on which near-deduplication and the split decide.

A row is the number of a file, its preference (the most welcome license type first, then the first by repository and
path; the paper also counts stars and forks, which local folders do not have), a hash of its language, its signature.
"""

import contextlib
import dataclasses
import functools
import itertools
from collections.abc import Iterable, Iterator

import numpy as np
import pyarrow as pa

from sc2jax.corpus.config import LICENSE_TYPES, MIB, SignatureConfig
from sc2jax.corpus.dedup.signatures import signatures
from sc2jax.corpus.dedup.signed import signature_column, signed_schema
from sc2jax.corpus.engine import map_units
from sc2jax.corpus.numbered_rows import Committed, NumberedRows, among, read_ids
from sc2jax.corpus.shuffle import text_keys
from sc2jax.progress import progress
from sc2jax.records.dataset import PartWriter, read_row_group
from sc2jax.records.stage import Written

_ROW_GROUP_BYTES = 8 * MIB
"""Signatures that are read at a time."""

_PART_BYTES = 64 * MIB
"""Signatures of a part."""

_UNIT_ROWS = 4096
"""Texts that are signed by one worker at a time: of tiny ones the signatures are many times their size."""

_BATCH_CHARACTERS = MIB
"""Characters that are signed at a time."""

_RANK_SHIFT = 56
"""Bits of a preference that the number of a file takes; above it is the rank of its license type."""


def write_signatures(
    folder: str, files: Committed, exact: Committed, signature_config: SignatureConfig, seed: int
) -> Written:
    """Signs the texts that exact deduplication kept."""
    writer = PartWriter(folder, "signatures", signed_schema(signature_config.near_permutations), _PART_BYTES)
    with _signed(NumberedRows.of(files, "kept"), read_ids(exact, "kept"), signature_config, seed) as signed:
        for group in _row_groups(signed):
            writer.add(group)
    return writer.finish(), {}


@dataclasses.dataclass(frozen=True)
class SignedFiles:
    """The signatures of certain files of the stage: a unit is a row group."""

    rows: NumberedRows
    chosen: np.ndarray
    starts: np.ndarray
    permutations: int

    @classmethod
    def of(cls, stage: Committed, chosen: np.ndarray, config: SignatureConfig) -> "SignedFiles":
        """Those of the files `chosen`, ascending."""
        rows = NumberedRows.of(stage, "signatures")
        found = [table["id"].to_numpy() for _, table in rows.groups(["id"])]
        ends = [int(found[-1][-1]) + 1] if found else [0]
        return cls(rows, chosen, np.array([*(int(ids[0]) for ids in found), *ends]), config.near_permutations)

    def units(self) -> pa.Table:
        """A row for each row group."""
        return pa.table({"unit": np.arange(len(self.starts) - 1)})

    def read(self, unit: int) -> pa.Table:
        """The chosen files of a row group."""
        rows = self.rows
        part = rows.parts[int(rows.part_of_group[unit])]
        table = read_row_group(rows.folder, part, int(rows.group_in_part[unit]), rows.schema.names)
        return table.filter(pa.array(among(table["id"].to_numpy(), self.chosen)))


@dataclasses.dataclass(frozen=True)
class SignedTables:
    """Signatures in memory; a unit is a table."""

    tables: tuple[pa.Table, ...]
    starts: np.ndarray
    permutations: int

    def units(self) -> pa.Table:
        """A row for each table."""
        return pa.table({"unit": np.arange(len(self.tables))})

    def read(self, unit: int) -> pa.Table:
        """One table."""
        return self.tables[unit]


def signatures_of(files: NumberedRows, config: SignatureConfig, seed: int) -> SignedTables:
    """The signatures of all rows that have n-grams, in memory."""
    with _signed(files, np.arange(len(files)), config, seed) as signed:
        tables = tuple(_row_groups(signed))
    starts = [int(table["id"][0].as_py()) for table in tables]
    return SignedTables(tables, np.array([*starts, len(files)]), config.near_permutations)


def _row_groups(tables: Iterable[pa.Table]) -> Iterator[pa.Table]:
    """The rows of tables, as many at a time as are read at once."""
    held: list[pa.Table] = []
    for table in tables:
        if len(table):
            held.append(table)
        if sum(some.nbytes for some in held) >= _ROW_GROUP_BYTES:
            yield pa.concat_tables(held)
            held = []
    if held:
        yield pa.concat_tables(held)


@contextlib.contextmanager
def _signed(files: NumberedRows, ids: np.ndarray, config: SignatureConfig, seed: int) -> Iterator[Iterable[pa.Table]]:
    """The signatures of certain rows (ascending), a table for each row group that holds some."""
    units, groups = files.units(ids)
    bounds = itertools.pairwise([*groups.tolist(), len(ids)])
    cuts = [start for low, high in bounds for start in range(low, high, _UNIT_ROWS)]
    sign = functools.partial(_sign, files=files, config=config, seed=seed)
    with map_units(units, cuts, sign, signed_schema(config.near_permutations)) as signed:
        yield progress(signed, total=len(cuts), desc="near-duplicates", unit="batch")


def _sign(unit: pa.Table, files: NumberedRows, config: SignatureConfig, seed: int) -> pa.Table:
    """The signatures of the texts of a unit that have n-grams."""
    ids = unit["id"].to_numpy()
    table = files.take_unit(ids, ["language", "license_type", "content"])
    texts = table["content"].to_pylist()
    ends = np.cumsum([len(text) for text in texts])
    cuts = np.flatnonzero(np.diff(ends // _BATCH_CHARACTERS, prepend=-1))
    found, parts = [np.zeros(0, np.int64)], [np.zeros((0, config.near_permutations), np.uint32)]
    for low, high in zip(cuts, [*cuts[1:], len(texts)], strict=True):
        rows, signed = signatures(texts[low:high], config.near_ngram, config.near_permutations, seed)
        found.append(low + rows)
        parts.append(signed)
    rows = np.concatenate(found)
    ranks = np.array([LICENSE_TYPES.index(name) for name in table["license_type"].to_pylist()], np.uint64)
    orders = (ranks << np.uint64(_RANK_SHIFT)) | ids.astype(np.uint64)
    languages = text_keys(table["language"].to_pylist())
    columns = [pa.array(ids[rows]), pa.array(orders[rows]), pa.array(languages[rows])]
    schema = signed_schema(config.near_permutations)
    return pa.Table.from_arrays([*columns, signature_column(np.concatenate(parts))], schema=schema)
