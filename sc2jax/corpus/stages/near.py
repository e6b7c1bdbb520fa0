"""Near-deduplication: of the files of one language that a chain of candidates joins, one is kept."""

from collections.abc import Iterator

import numpy as np

from sc2jax.corpus.config import MIB, PartsConfig
from sc2jax.corpus.dedup.bands import band_keys
from sc2jax.corpus.dedup.survivors import Groups, license_ranks
from sc2jax.corpus.numbered_rows import Committed, NumberedRows, read_ids
from sc2jax.corpus.outcomes import write_decision
from sc2jax.corpus.stages.signatures import as_integers, band_columns, signed_languages, signed_rows
from sc2jax.records.stage import Written

_HELD_BYTES = 64 * MIB
"""Signatures that are compared at a time."""


def write_near(
    folder: str, files: Committed, exact: Committed, signatures: Committed, parts_config: PartsConfig
) -> Written:
    """Keeps one of each group of near-duplicates in one language.

    What counts as a near-duplicate follows from the bands, which the signatures hold; without bands nothing does.
    """
    rows, ids = NumberedRows.of(files, "kept"), read_ids(exact, "kept")
    ranks = license_ranks(rows)
    kept_by = np.arange(len(rows))
    for language in signed_languages(signatures):
        members, kept = _representatives(signed_rows(signatures, language), ranks)
        kept_by[members] = kept
    return write_decision(folder, rows, ids, kept_by[ids], "near_dedup", "near_duplicate", parts_config.part_bytes)


def _representatives(signed: NumberedRows, ranks: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The files of one language, ascending, and for each the one that is kept in its place."""
    members = signed.column("id").astype(np.int64)
    order = np.argsort(members)
    groups = Groups(len(members))
    for bands in _bands_at_a_time(signed):
        for band in bands:
            groups.add_band(band_keys(band[order]))
    members = members[order]
    return members, members[groups.representatives(ranks[members])]


def _bands_at_a_time(signed: NumberedRows) -> Iterator[list[np.ndarray]]:
    """All texts' bands, as many at a time as fit in memory."""
    names = band_columns(signed)
    width = signed.schema.field(1).type.byte_width
    step = max(1, _HELD_BYTES // (width * max(len(signed), 1)))
    for first in range(0, len(names), step):
        chosen = names[first : first + step]
        tables = [table for _, table in signed.groups(chosen)]
        yield [np.concatenate([as_integers(table[name]) for table in tables]) for name in chosen]
