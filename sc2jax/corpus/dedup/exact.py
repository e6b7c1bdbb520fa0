"""Exact deduplication: of the files with one text, one is kept."""

import numpy as np


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
