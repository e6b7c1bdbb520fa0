# pyright: reportAttributeAccessIssue=false
# (pyarrow makes the functions of `compute` when it is imported)
"""Survivors: which files form a group of duplicates, and which one of them is kept.

Of several copies the one with the most welcome license type is kept, then the first by repository and path (the paper
also counts stars and forks, which local folders do not have).
"""

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from sc2jax.corpus.config import LICENSE_TYPES
from sc2jax.corpus.numbered_rows import NumberedRows


def license_ranks(files: NumberedRows) -> np.ndarray:
    """How welcome each file's license type is, 0 first."""
    order = pa.array(LICENSE_TYPES)
    found = [pc.index_in(table["license_type"], order).to_numpy() for _, table in files.groups(["license_type"])]
    return np.concatenate(found).astype(np.int8) if found else np.zeros(0, np.int8)


def first_copies(digests: np.ndarray, ranks: np.ndarray) -> np.ndarray:
    """For each text the row that is kept in its place: of all rows with its digest the one with the lowest rank.

    Args:
        digests: of the texts, any sortable type.
        ranks: preference, lowest first; rows of one rank are preferred in their order.

    Returns:
        For each row the row that is kept; kept rows point at themselves.
    """
    order = np.lexsort((np.arange(len(digests)), ranks, digests))
    sorted_digests = digests[order]
    opens = np.ones(len(order), bool)
    opens[1:] = sorted_digests[1:] != sorted_digests[:-1]
    kept = np.empty(len(order), np.int64)
    kept[order] = order[np.flatnonzero(opens)][np.cumsum(opens) - 1]
    return kept
