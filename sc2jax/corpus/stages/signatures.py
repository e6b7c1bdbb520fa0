"""Signatures: the MinHash signature of every text, on which near-deduplication and the split decide.

The parts are sorted by language; a row is the number of a file and its signature, a column for each band. Without
near-deduplication there are no bands, and a signature is one column, which the split compares.
"""

import contextlib
import functools
import itertools
from collections import defaultdict
from collections.abc import Iterable, Iterator
from urllib.parse import quote, unquote

import numpy as np
import pyarrow as pa

from sc2jax.corpus.config import MIB, NearConfig
from sc2jax.corpus.dedup.bands import optimal_bands
from sc2jax.corpus.dedup.signatures import signatures
from sc2jax.corpus.engine import map_units
from sc2jax.corpus.numbered_rows import Committed, NumberedRows, read_ids
from sc2jax.progress import progress
from sc2jax.records.dataset import write_part
from sc2jax.records.manifest import Output
from sc2jax.records.stage import Written

_HELD_BYTES = 32 * MIB
"""Signatures in memory while they are sorted by language."""

_ROW_GROUP_BYTES = 8 * MIB
"""Signatures that are read at a time."""

_UNIT_ROWS = 4096
"""Texts that are signed by one worker at a time: of tiny ones the signatures are many times their size."""

_BATCH_CHARACTERS = MIB
"""Characters that are signed at a time."""


def write_signatures(folder: str, files: Committed, exact: Committed, near_config: NearConfig, seed: int) -> Written:
    """Signs the texts that exact deduplication kept."""
    schema = _schema(near_config)
    outputs: list[Output] = []
    held: dict[str, list[pa.Table]] = defaultdict(list)
    held_bytes = 0

    def flush() -> None:
        for language in sorted(held):
            table = pa.concat_tables(held[language]).combine_chunks()
            step = max(1, _ROW_GROUP_BYTES * len(table) // table.nbytes)
            groups = (table.slice(start, step) for start in range(0, len(table), step))
            outputs.append(write_part(folder, _prefix(language), len(outputs), groups, schema))
        held.clear()

    with _signed(NumberedRows.of(files, "kept"), read_ids(exact, "kept"), near_config, seed) as signed:
        for table in signed:
            languages = table["language"].to_numpy()
            for language in sorted(set(languages)):
                held[language].append(table.drop_columns("language").filter(pa.array(languages == language)))
            held_bytes += table.nbytes
            if held_bytes > _HELD_BYTES:
                flush()
                held_bytes = 0
    flush()
    return outputs, {}


def signatures_of(files: NumberedRows, config: NearConfig, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """The numbers of the rows that have n-grams, ascending, and their signatures, all in memory."""
    schema = _schema(config)
    tables = [schema.empty_table()]
    with _signed(files, np.arange(len(files)), config, seed) as signed:
        tables += [table.select(schema.names) for table in signed]
    table = pa.concat_tables(tables)
    return table["id"].to_numpy(), _whole(table)


@contextlib.contextmanager
def _signed(files: NumberedRows, ids: np.ndarray, config: NearConfig, seed: int) -> Iterator[Iterable[pa.Table]]:
    """The signatures of certain rows (ascending) and their languages, a table for each row group that holds some."""
    units, groups = files.units(ids)
    bounds = itertools.pairwise([*groups.tolist(), len(ids)])
    cuts = [start for low, high in bounds for start in range(low, high, _UNIT_ROWS)]
    sign = functools.partial(_sign, files=files, config=config, seed=seed)
    schema = _schema(config).append(pa.field("language", pa.string()))
    with map_units(units, cuts, sign, schema) as signed:
        yield progress(signed, total=len(cuts), desc="near-duplicates", unit="batch")


def signed_languages(stage: Committed) -> list[str]:
    """The languages that have signatures."""
    return sorted({unquote(output.path.split("/")[1]) for output in stage.manifest.outputs})


def signed_rows(stage: Committed, language: str) -> NumberedRows:
    """The signatures of one language."""
    return NumberedRows.of(stage, _prefix(language))


def band_columns(signed: NumberedRows) -> list[str]:
    """The columns that hold the bands of a signature, in their order."""
    return [name for name in signed.schema.names if name.startswith("band_")]


def signature_batches(stage: Committed) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Row numbers and whole signatures of all languages, a row group at a time."""
    for language in signed_languages(stage):
        signed = signed_rows(stage, language)
        for _, table in signed.groups(signed.schema.names):
            yield table["id"].to_numpy(), _whole(table)


def _whole(table: pa.Table) -> np.ndarray:
    """Whole signatures, of the columns that hold their parts."""
    return np.concatenate([as_integers(column) for column in table.columns[1:]], axis=1)


def as_integers(column: pa.ChunkedArray) -> np.ndarray:
    """A column of fixed-width bytes as rows of uint32."""
    width = column.type.byte_width
    chunks = [
        np.frombuffer(chunk.buffers()[1], np.uint8)[chunk.offset * width :][: len(chunk) * width]
        for chunk in column.chunks
    ]
    return np.concatenate(chunks).view(np.uint32).reshape(-1, width // 4)


def _schema(config: NearConfig) -> pa.Schema:
    if config.near_threshold:
        bands, rows = optimal_bands(config.near_threshold, config.near_permutations)
        columns = [pa.field(f"band_{band:03d}", pa.binary(4 * rows)) for band in range(bands)]
    else:
        columns = [pa.field("signature", pa.binary(4 * config.near_permutations))]
    return pa.schema([pa.field("id", pa.int64()), *columns])


def _prefix(language: str) -> str:
    return f"signatures/{quote(language, safe='')}"


def _sign(unit: pa.Table, files: NumberedRows, config: NearConfig, seed: int) -> pa.Table:
    """The signatures of the texts of a unit that have n-grams."""
    ids = unit["id"].to_numpy()
    table = files.take_unit(ids, ["language", "content"])
    schema = _schema(config)
    texts = table["content"].to_pylist()
    ends = np.cumsum([len(text) for text in texts])
    cuts = np.flatnonzero(np.diff(ends // _BATCH_CHARACTERS, prepend=-1))
    found, parts = [np.zeros(0, np.int64)], [np.zeros((0, config.near_permutations), np.uint32)]
    for low, high in zip(cuts, [*cuts[1:], len(texts)], strict=True):
        rows, signed = signatures(texts[low:high], config.near_ngram, config.near_permutations, seed)
        found.append(low + rows)
        parts.append(signed)
    rows, signed = np.concatenate(found), np.concatenate(parts)
    width = schema.field(1).type.byte_width // 4
    columns = [pa.array(ids[rows])]
    for band in range(len(schema) - 1):
        values = np.ascontiguousarray(signed[:, band * width : (band + 1) * width])
        columns.append(pa.Array.from_buffers(pa.binary(4 * width), len(rows), [None, pa.py_buffer(values)]))
    return pa.table(columns, schema).append_column("language", table["language"].take(pa.array(rows)))
