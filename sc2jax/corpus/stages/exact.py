"""Exact deduplication: of the files with one text, one is kept."""

import functools
from collections.abc import Iterator

import numpy as np
import pyarrow as pa

from sc2jax.corpus.config import EngineConfig, PartsConfig
from sc2jax.corpus.dedup.preference import numbers_within, orders, permissive_ranks
from sc2jax.corpus.outcomes import DECIDED, write_duplicates
from sc2jax.corpus.shuffle import Buckets, buckets_for, by_hash, dealt
from sc2jax.corpus.stages.licenses import permissive
from sc2jax.corpus.stages.places import Places
from sc2jax.corpus.units import Units
from sc2jax.records.stage import Written

_TEXTS = pa.schema(
    [("high", pa.uint64()), ("low", pa.uint64()), ("order", pa.uint64()), ("id", pa.int64())],
)
"""A text by half of its digest, which no two share by chance; where it comes in the order of preference."""

_READ = ["repository", "gha_license", "license_type", "text_sha256"]

TEXT_BYTES = 32
"""Of a row of such a table."""


def write_exact(
    folder: str, files: Units, places: Places, parts_config: PartsConfig, engine_config: EngineConfig
) -> Written:
    """Keeps one of the files with one text, whatever their languages.

    Of several the one is kept whose repository GHArchive calls permissive, then the one of the repository with the
    most stars, forks, the latest commit and visit (bigcode-project/the-stack-v2, deduplication per blob).
    """
    buckets = buckets_for(TEXT_BYTES * int(files.starts[-1]), engine_config.partition_bytes)
    deal = functools.partial(_deal_texts, files=files, places=places, buckets=buckets)
    before = files.stage.manifest.statistics["funnel"][-1]
    with dealt(folder, files.table(), deal, _TEXTS, buckets, "exact duplicates") as texts:
        decide = functools.partial(_decide, texts=texts, files=files)
        with dealt(folder, texts.units(), decide, DECIDED, files.groups) as decided:
            part_bytes = parts_config.part_bytes
            return write_duplicates(folder, files, decided, "exact_dedup", "exact_duplicate", before, part_bytes)


def _deal_texts(unit: pa.Table, files: Units, places: Places, buckets: int) -> tuple[pa.Table, np.ndarray]:
    number = unit["unit"][0].as_py()
    tables = [_TEXTS.empty_table(), *_texts(files, places, number)]
    table = pa.concat_tables(tables)
    return table, by_hash(table["high"].to_numpy(), buckets)


def _texts(files: Units, places: Places, unit: int) -> Iterator[pa.Table]:
    rows = [table for _, table in files.rows(unit, "kept").groups(_READ)]
    if rows:
        table = pa.concat_tables(rows).combine_chunks()
        high, low = halves(table["text_sha256"])
        repositories = table["repository"].chunk(0)
        ranks = permissive_ranks(table["gha_license"], permissive(), table["license_type"])
        order = orders(repositories, numbers_within(repositories), ranks, places.of(unit))
        ids = files.starts[unit] + np.arange(len(table))
        yield pa.table({"high": high, "low": low, "order": order, "id": ids}, _TEXTS)


def halves(sha256: pa.ChunkedArray) -> tuple[np.ndarray, np.ndarray]:
    """The first 128 bits of digests in hexadecimal, as two integers each."""
    digests = np.frombuffer(bytes.fromhex("".join(sha256.to_pylist())), ">u8").reshape(-1, 4)
    return digests[:, 0].astype(np.uint64), digests[:, 1].astype(np.uint64)


def _decide(bucket: pa.Table, texts: Buckets, files: Units) -> tuple[pa.Table, np.ndarray]:
    """Of a bucket's texts, those that another one with the same text is preferred to."""
    rows = texts.read(bucket["bucket"][0].as_py())
    high, low, order, ids = (column.to_numpy() for column in rows.columns)
    by_text = np.lexsort((order, low, high))
    high, low, ids = high[by_text], low[by_text], ids[by_text]
    opens = np.ones(len(ids), bool)
    opens[1:] = (high[1:] != high[:-1]) | (low[1:] != low[:-1])
    first = ids[np.flatnonzero(opens)][np.cumsum(opens) - 1] if len(ids) else ids
    return pa.table({"id": ids[~opens], "kept": first[~opens]}, DECIDED), files.group_of(ids[~opens])
