# pyright: reportAttributeAccessIssue=false
# (pyarrow makes the functions of `compute` when it is imported)
"""The stages of deduplication: exact copies anywhere, then near-duplicates within a language.

Files are known by their row number; what is kept is a list of numbers, and no text is copied. Of several copies the
one with the most welcome license type is kept, then the first by repository and path (the paper also counts stars and
forks, which local folders do not have).
"""

import functools
from collections import defaultdict
from collections.abc import Iterator
from urllib.parse import quote, unquote

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from tqdm import tqdm

from sc2jax.corpus.config import LICENSE_TYPES, MIB, CorpusConfig
from sc2jax.corpus.dedup.exact import first_copies
from sc2jax.corpus.dedup.near import Groups, band_keys, optimal_bands, signatures
from sc2jax.corpus.engine import map_units
from sc2jax.corpus.stages import Rows, Written, funnel_line, write_ids, write_twins
from sc2jax.records.dataset import write_part
from sc2jax.records.manifest import Manifest, Output

_PASS_ROWS = 4_000_000
"""Rows whose digests are in memory at a time."""

_HELD_BYTES = 64 * MIB
"""Signatures in memory at a time, while they are sorted by language and while they are compared."""

_BATCH_CHARACTERS = MIB


def write_exact(folder: str, files: Rows, config: CorpusConfig) -> Written:
    """Keeps one of the files with one text."""
    ranks, size = license_ranks(files), files.column("source_bytes").astype(np.int64)
    passes = -(-max(len(files), 1) // _PASS_ROWS)
    kept_by = np.arange(len(files))
    for turn in range(passes):
        ids, digests = _digests(files, turn, passes)
        kept_by[ids] = ids[first_copies(digests, ranks[ids])]
    return _write_decision(folder, files, np.arange(len(files)), kept_by, size, "exact_duplicate", config)


def write_signatures(folder: str, files: Rows, ids: np.ndarray, config: CorpusConfig, seed: int) -> Written:
    """Signs the texts `ids`; the parts are sorted by language and hold a column for each band."""
    schema = signature_schema(config)
    units, cuts = files.units(ids)
    sign = functools.partial(_sign, files=files, config=config, seed=seed)
    outputs: list[Output] = []
    held: dict[str, list[pa.Table]] = defaultdict(list)
    held_bytes = 0

    def flush() -> None:
        for language in sorted(held):
            table = pa.concat_tables(held[language]).combine_chunks()
            outputs.append(write_part(folder, signature_prefix(language), len(outputs), [table], schema))
        held.clear()

    signed_schema = schema.append(pa.field("language", pa.string()))
    with map_units(units, cuts, sign, signed_schema) as signed:
        for table in tqdm(signed, total=len(cuts), desc="near-duplicates", unit="batch", disable=None):
            languages = table["language"].to_numpy()
            for language in sorted(set(languages)):
                held[language].append(table.drop_columns("language").filter(pa.array(languages == language)))
            held_bytes += table.nbytes
            if held_bytes > _HELD_BYTES:
                flush()
                held_bytes = 0
    flush()
    return outputs, {}


def write_near(
    folder: str, files: Rows, ids: np.ndarray, signed: str, manifest: Manifest, config: CorpusConfig
) -> Written:
    """Keeps one of each group of near-duplicates in one language."""
    ranks, size = license_ranks(files), files.column("source_bytes").astype(np.int64)
    kept_by = np.arange(len(files))
    for language in signed_languages(manifest):
        rows = Rows.of(signed, manifest, signature_prefix(language))
        members = rows.column("id").astype(np.int64)
        order = np.argsort(members)
        groups = Groups(len(members))
        for bands in _bands_at_a_time(rows, config):
            for band in bands:
                groups.add_band(band_keys(band[order]))
        members = members[order]
        kept_by[members] = members[groups.representatives(ranks[members])]
    return _write_decision(folder, files, ids, kept_by[ids], size, "near_duplicate", config)


def license_ranks(files: Rows) -> np.ndarray:
    """How welcome each file's license type is, 0 first."""
    places = pa.array(LICENSE_TYPES)
    found = [pc.index_in(table["license_type"], places).to_numpy() for _, table in files.groups(["license_type"])]
    return np.concatenate(found).astype(np.int8) if found else np.zeros(0, np.int8)


def signature_schema(config: CorpusConfig) -> pa.Schema:
    """The row number of a file and its signature, band by band."""
    bands, rows = optimal_bands(config.near_threshold, config.near_permutations)
    width = pa.binary(4 * rows)
    return pa.schema([pa.field("id", pa.int64()), *(pa.field(f"band_{band:03d}", width) for band in range(bands))])


def signature_prefix(language: str) -> str:
    """The folder of a language's signatures."""
    return f"signatures/{quote(language, safe='')}"


def signed_languages(manifest: Manifest) -> list[str]:
    """The languages that have signatures."""
    return sorted({unquote(output.path.split("/")[1]) for output in manifest.outputs})


def signature_batches(rows: Rows, config: CorpusConfig) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Row numbers and signatures, a row group at a time."""
    schema = signature_schema(config)
    for _, table in rows.groups(schema.names):
        bands = [_as_integers(table[name]) for name in schema.names[1:]]
        yield table["id"].to_numpy(), np.concatenate(bands, axis=1)


def _digests(files: Rows, turn: int, passes: int) -> tuple[np.ndarray, np.ndarray]:
    """Rows whose digest falls to this pass, and the digests: 64 hexadecimal digits each."""
    ids, digests = [np.zeros(0, np.int64)], [np.zeros(0, "S64")]
    for at, table in files.groups(["text_sha256"]):
        found = np.frombuffer("".join(table.column(0).to_pylist()).encode(), "S64")
        bucket = np.array([int(digest[:8], 16) % passes for digest in found.tolist()]) if passes > 1 else 0
        mine = np.flatnonzero(np.broadcast_to(bucket == turn, len(found)))
        ids.append(at + mine)
        digests.append(found[mine])
    return np.concatenate(ids), np.concatenate(digests)


def _write_decision(
    folder: str,
    files: Rows,
    ids: np.ndarray,
    kept_by: np.ndarray,
    size: np.ndarray,
    reason: str,
    config: CorpusConfig,
) -> Written:
    """Writes what is kept of `ids` and what falls in favour of `kept_by`, with its line of the funnel."""
    dropped = ids != kept_by
    stage = {"exact_duplicate": "exact_dedup", "near_duplicate": "near_dedup"}[reason]
    outputs = write_ids(folder, "kept", ids[~dropped])
    outputs += write_twins(folder, files, ids[dropped], kept_by[dropped], stage, reason, config.part_bytes)
    lost = {reason: (int(dropped.sum()), int(size[ids[dropped]].sum()))} if dropped.any() else {}
    return outputs, {"funnel": [funnel_line(stage, len(ids), int(size[ids].sum()), lost)]}


def _sign(unit: pa.Table, files: Rows, config: CorpusConfig, seed: int) -> pa.Table:
    """The signatures of the texts of a unit that have n-grams."""
    ids = unit["id"].to_numpy()
    table = files.take_unit(ids, ["language", "content"])
    schema = signature_schema(config)
    texts = table["content"].to_pylist()
    ends = np.cumsum([len(text) for text in texts])
    cuts = np.flatnonzero(np.diff(ends // _BATCH_CHARACTERS, prepend=-1))
    found, parts = [np.zeros(0, np.int64)], [np.zeros((0, config.near_permutations), np.uint32)]
    for low, high in zip(cuts, [*cuts[1:], len(texts)], strict=True):
        rows, signed = signatures(texts[low:high], config.near_ngram, config.near_permutations, seed)
        found.append(low + rows)
        parts.append(signed)
    rows, signed = np.concatenate(found), np.concatenate(parts)
    width = schema.field("band_000").type.byte_width // 4
    columns = [pa.array(ids[rows])]
    for band in range(len(schema) - 1):
        values = np.ascontiguousarray(signed[:, band * width : (band + 1) * width])
        columns.append(pa.Array.from_buffers(pa.binary(4 * width), len(rows), [None, pa.py_buffer(values)]))
    return pa.table(columns, schema).append_column("language", table["language"].take(pa.array(rows)))


def _bands_at_a_time(rows: Rows, config: CorpusConfig) -> Iterator[list[np.ndarray]]:
    """All texts' bands, as many at a time as fit in memory."""
    schema = signature_schema(config)
    width = schema.field("band_000").type.byte_width
    step = max(1, _HELD_BYTES // (width * max(len(rows), 1)))
    names = schema.names[1:]
    for first in range(0, len(names), step):
        chosen = names[first : first + step]
        tables = [table for _, table in rows.groups(chosen)]
        yield [np.concatenate([_as_integers(table[name]) for table in tables]) for name in chosen]


def _as_integers(column: pa.ChunkedArray) -> np.ndarray:
    """A column of fixed-width bytes as rows of uint32."""
    width = column.type.byte_width
    chunks = [
        np.frombuffer(chunk.buffers()[1], np.uint8)[chunk.offset * width :][: len(chunk) * width]
        for chunk in column.chunks
    ]
    return np.concatenate(chunks).view(np.uint32).reshape(-1, width // 4)
