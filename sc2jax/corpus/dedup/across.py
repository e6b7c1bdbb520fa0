"""Near-duplicates across the split: which held-out files resemble a training file too much."""

from collections.abc import Iterator

import numpy as np

from sc2jax.corpus.config import CROSS_ROWS
from sc2jax.corpus.dedup.bands import band_keys
from sc2jax.corpus.dedup.signatures import similarity


def across(
    heldout: np.ndarray, training: Iterator[tuple[np.ndarray, np.ndarray]], threshold: float
) -> dict[int, tuple[int, float]]:
    """Held-out rows that resemble a training file, whatever languages the two are in.

    Unlike within one side, candidates come from narrow bands that practically no pair escapes, and are then verified
    by the similarity that the signatures estimate.

    Args:
        heldout: signatures, one row for each held-out file.
        training: batches of (ids, signatures).
        threshold: estimated similarity from which two files are near-duplicates.

    Returns:
        Row of `heldout` -> id of the training file that resembles it most, and how much; ties go to the lowest id.
    """
    found: dict[int, tuple[int, float]] = {}
    starts = range(0, heldout.shape[1] - CROSS_ROWS + 1, CROSS_ROWS)
    tables = []
    for start in starts:
        keys = band_keys(heldout[:, start : start + CROSS_ROWS])
        order = np.argsort(keys, kind="stable")
        tables.append((start, keys[order], order))
    for ids, signatures in training:
        for row, other in sorted(_candidates(tables, signatures)):
            score = float(similarity(heldout[row : row + 1], signatures[other : other + 1])[0])
            best = found.get(row)
            if score >= threshold and (best is None or (score, -int(ids[other])) > (best[1], -best[0])):
                found[row] = int(ids[other]), score
    return found


def _candidates(tables: list[tuple[int, np.ndarray, np.ndarray]], signatures: np.ndarray) -> set[tuple[int, int]]:
    """Pairs (held-out row, row of the batch) that agree in a band."""
    pairs: set[tuple[int, int]] = set()
    for start, sorted_keys, order in tables:
        keys = band_keys(signatures[:, start : start + CROSS_ROWS])
        low, high = np.searchsorted(sorted_keys, keys), np.searchsorted(sorted_keys, keys, side="right")
        for other in np.flatnonzero(low < high).tolist():
            pairs.update((int(row), other) for row in order[low[other] : high[other]])
    return pairs
