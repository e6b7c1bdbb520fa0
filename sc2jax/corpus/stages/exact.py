"""Exact deduplication: of the files with one text, one is kept."""

import numpy as np

from sc2jax.corpus.config import PartsConfig
from sc2jax.corpus.dedup.survivors import first_copies, license_ranks
from sc2jax.corpus.numbered_rows import Committed, NumberedRows
from sc2jax.corpus.outcomes import write_decision
from sc2jax.records.stage import Written

_PASS_ROWS = 4_000_000
"""Rows whose digests are in memory at a time."""


def write_exact(folder: str, files: Committed, parts_config: PartsConfig) -> Written:
    """Keeps one of the files with one text, whatever their languages."""
    rows = NumberedRows.of(files, "kept")
    ranks = license_ranks(rows)
    passes = -(-max(len(rows), 1) // _PASS_ROWS)
    kept_by = np.arange(len(rows))
    for turn in range(passes):
        ids, digests = _digests(rows, turn, passes)
        kept_by[ids] = ids[first_copies(digests, ranks[ids])]
    everything = np.arange(len(rows))
    return write_decision(folder, rows, everything, kept_by, "exact_dedup", "exact_duplicate", parts_config.part_bytes)


def _digests(files: NumberedRows, turn: int, passes: int) -> tuple[np.ndarray, np.ndarray]:
    """Rows whose digest falls to this pass, and the digests: 64 hexadecimal digits each."""
    ids, digests = [np.zeros(0, np.int64)], [np.zeros(0, "S64")]
    for at, table in files.groups(["text_sha256"]):
        found = np.frombuffer("".join(table.column(0).to_pylist()).encode(), "S64")
        bucket = np.array([int(digest[:8], 16) % passes for digest in found.tolist()]) if passes > 1 else 0
        mine = np.flatnonzero(np.broadcast_to(bucket == turn, len(found)))
        ids.append(at + mine)
        digests.append(found[mine])
    return np.concatenate(ids), np.concatenate(digests)
