# pyright: reportAttributeAccessIssue=false
# (pyarrow makes the functions of `compute` when it is imported)
"""Signatures: the MinHash signature of every text, on which near-deduplication and the split decide.

All texts that the filters keep are signed, a unit at a time, whether or not they have copies elsewhere: so what a unit
comes to depends on nothing else. Texts that are too short for an n-gram have no signature.
"""

import dataclasses
import functools
from collections.abc import Callable, Iterator

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from sc2jax.corpus.config import MIB, SignatureConfig
from sc2jax.corpus.dedup.preference import numbers_within, orders, type_ranks
from sc2jax.corpus.dedup.signatures import signatures
from sc2jax.corpus.dedup.signed import signed_schema
from sc2jax.corpus.numbered_rows import Committed, NumberedRows
from sc2jax.corpus.outcomes import Fallen
from sc2jax.corpus.shuffle import text_keys
from sc2jax.corpus.stages.places import Places
from sc2jax.corpus.units import UnitResult, Units, do_units
from sc2jax.records.dataset import write_labelled_part
from sc2jax.records.manifest import Manifest, sha256_of
from sc2jax.records.stage import Written
from sc2jax.settings import decisive
from sc2jax.storage import join

_ROW_GROUP_BYTES = 8 * MIB
"""Signatures that are read at a time."""

_BATCH_CHARACTERS = MIB
"""Characters that are signed at a time."""

_READ = ["repository", "language", "license_type", "text_sha256", "content"]


def write_signatures(
    folder: str, notes: str, earlier: Units | None, files: Units, signature_config: SignatureConfig, seed: int
) -> Written:
    """Signs the texts."""
    work = functools.partial(_sign_unit, files=files, config=signature_config, seed=seed)
    outputs, _ = do_units(
        folder, notes, earlier, _keys(files, "kept", signature_config, seed), files.contents, work, "signatures"
    )
    return outputs, {}


def _keys(files: Units, prefix: str, config: SignatureConfig, seed: int) -> list[str]:
    parts = ([output.sha256 for output in files.parts(unit, prefix)] for unit in range(len(files)))
    signing = [decisive(config), seed]
    return [sha256_of([content, found, signing]) for content, found in zip(files.contents, parts, strict=True)]


def sign_units(folder: str, files: Units, config: SignatureConfig, seed: int, prefix: str) -> Units:
    """Signs the rows of units below a prefix into a folder, for as long as that is there."""
    below, keys = join(folder, "signed"), _keys(files, prefix, config, seed)
    work = functools.partial(_sign_unit, files=files, config=config, seed=seed, prefix=prefix)
    outputs, results = do_units(below, join(folder, "signed-notes"), None, keys, files.contents, work, "signatures")
    stage = Committed(below, Manifest("signatures", {}, {}, tuple(outputs), {}))
    return Units(
        stage, tuple(keys), files.contents, tuple(result.outputs for result in results), files.starts, (), (), ()
    )


def _schema(permutations: int) -> pa.Schema:
    return pa.schema(
        [
            pa.field("row", pa.int64(), nullable=False),
            pa.field("repository", pa.string(), nullable=False),
            pa.field("within", pa.int64(), nullable=False),
            pa.field("rank", pa.int8(), nullable=False),
            pa.field("language", pa.uint64(), nullable=False),
            pa.field("signature", pa.binary(4 * permutations), nullable=False),
        ]
    )


def _sign_unit(
    folder: str, label: str, unit: int, files: Units, config: SignatureConfig, seed: int, prefix: str = "kept"
) -> UnitResult:
    schema = _schema(config.near_permutations)
    step = max(1, _ROW_GROUP_BYTES // (4 * config.near_permutations))
    rows = 0

    def groups() -> Iterator[pa.Table]:
        nonlocal rows
        for table in _signed_groups(files.rows(unit, prefix), config, seed, schema):
            rows += len(table)
            yield from (table.slice(start, step) for start in range(0, len(table), step))

    output = write_labelled_part(folder, "signatures", label, groups(), schema)
    return UnitResult((output,), rows, {})


def _signed_groups(files: NumberedRows, config: SignatureConfig, seed: int, schema: pa.Schema) -> Iterator[pa.Table]:
    """The signatures of files, a row group at a time."""
    before: dict[str, int] = {}
    for at, table in files.groups(_READ):
        repositories = pa.concat_arrays(table["repository"].chunks)
        within = numbers_within(repositories)
        first = repositories[0].as_py()
        opening = np.cumsum(within == 0) == 1
        within[opening] += before.get(first, 0)
        before = {repositories[-1].as_py(): int(within[-1]) + 1}
        rows, signed = _sign(table, config, seed)
        taken = pa.array(rows)
        columns = {
            "row": at + rows,
            "repository": repositories.take(taken),
            "within": within[rows],
            "rank": type_ranks(table["license_type"])[rows],
            "language": text_keys(table["language"].take(taken).to_pylist()),
            "signature": pa.Array.from_buffers(
                pa.binary(4 * config.near_permutations), len(rows), [None, pa.py_buffer(np.ascontiguousarray(signed))]
            ),
        }
        yield pa.table(columns).cast(schema)


def _sign(table: pa.Table, config: SignatureConfig, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """The rows of some files that have n-grams, and their signatures; equal texts are signed once."""
    _, first, text_of = np.unique(
        np.array(table["text_sha256"].to_pylist(), "S64"), return_index=True, return_inverse=True
    )
    texts = table["content"].take(pa.array(first)).to_pylist()
    ends = np.cumsum([len(text) for text in texts])
    cuts = np.flatnonzero(np.diff(ends // _BATCH_CHARACTERS, prepend=-1))
    found, parts = [np.zeros(0, np.int64)], [np.zeros((0, config.near_permutations), np.uint32)]
    for low, high in zip(cuts, [*cuts[1:], len(texts)], strict=True):
        rows, signed = signatures(texts[low:high], config.near_ngram, config.near_permutations, seed)
        found.append(low + rows)
        parts.append(signed)
    has, signed = np.concatenate(found), np.concatenate(parts)
    place = np.full(len(texts), -1)
    place[has] = np.arange(len(has))
    rows = np.flatnonzero(place[text_of] >= 0)
    return rows, signed[place[text_of[rows]]]


def unit_signatures(signatures: Units, unit: int, permutations: int) -> Iterator[pa.Table]:
    """What was written of a unit."""
    for _, table in signatures.rows(unit, "signatures").groups(_schema(permutations).names):
        yield table


@dataclasses.dataclass(frozen=True)
class SignedFiles:
    """The signatures of the files that are left after some stages, as `dedup` takes them.

    Attributes:
        files: the files.
        signatures: their signatures.
        places: of their repositories.
        fallen: the files that are not among them.
        permutations: the length of a signature.
        holds: says of a repository whether its files are among them.
    """

    files: Units
    signatures: Units
    places: Places
    fallen: Fallen
    permutations: int
    holds: Callable[[str], bool] = lambda _: True

    @property
    def starts(self) -> np.ndarray:
        """The first number of each unit's files, and the number of all."""
        return self.files.starts

    def units(self) -> pa.Table:
        """A row for each unit."""
        return self.files.table()

    def read(self, unit: int) -> pa.Table:
        """The signatures of a unit (`signed_schema`)."""
        schema = signed_schema(self.permutations)
        places, left = self.places.of(unit), self.fallen.kept(unit)
        held = pa.array([name for name in places if self.holds(name)], pa.string())
        tables = [schema.empty_table()]
        for table in unit_signatures(self.signatures, unit, self.permutations):
            mine = np.isin(table["row"].to_numpy(), left) & pc.is_in(table["repository"], held).to_numpy()
            table = table.filter(pa.array(mine)).combine_chunks()
            columns = {
                "id": self.starts[unit] + table["row"].to_numpy(),
                "order": orders(table["repository"], table["within"].to_numpy(), table["rank"].to_numpy(), places),
                "language": table["language"],
                "signature": table["signature"],
            }
            tables.append(pa.table(columns).cast(schema))
        return pa.concat_tables(tables)
