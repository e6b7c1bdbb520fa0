"""Near-deduplication: of files of one language that are alike, those that are preferred are kept."""

import numpy as np
import pyarrow as pa

from sc2jax.corpus.config import NearConfig, PartsConfig
from sc2jax.corpus.dedup.components import transitive
from sc2jax.corpus.dedup.rounds import greedy
from sc2jax.corpus.numbered_rows import Committed, NumberedRows, read_ids
from sc2jax.corpus.outcomes import write_decision
from sc2jax.corpus.shuffle import Buckets
from sc2jax.corpus.stages.signatures import SignedFiles
from sc2jax.records.stage import Written

_RULES = {"greedy": greedy, "transitive": transitive}


def write_near(
    folder: str,
    files: Committed,
    exact: Committed,
    signatures: Committed,
    near_config: NearConfig,
    parts_config: PartsConfig,
) -> Written:
    """Keeps the files that near_rule chooses; with a threshold of 0 all are kept."""
    rows, ids = NumberedRows.of(files, "kept"), read_ids(exact, "kept")
    kept_by = np.arange(len(rows))
    if near_config.near_threshold:
        signed = SignedFiles.of(signatures, ids, near_config)
        with _RULES[near_config.near_rule](folder, signed, near_config.near_threshold) as found:
            fallen, kept = kept_of(found)
        kept_by[fallen] = kept
    return write_decision(folder, rows, ids, kept_by[ids], "near_dedup", "near_duplicate", parts_config.part_bytes)


def kept_of(found: Buckets) -> tuple[np.ndarray, np.ndarray]:
    """Who falls, ascending, and what is kept in the place of each."""
    table = pa.concat_tables([found.schema.empty_table(), *map(found.read, range(len(found)))])
    order = np.argsort(table["id"].to_numpy())
    return table["id"].to_numpy()[order], table["kept"].to_numpy()[order]
