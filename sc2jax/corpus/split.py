"""The split: which repositories are held out, and which held-out files resemble a training file too much."""

import hashlib
from collections.abc import Iterable, Iterator

import numpy as np

from sc2jax.corpus.dedup.near import band_keys, similarity

CROSS_ROWS = 5
"""Rows per band when the two sides are compared: 50 bands of 5 find more than 999 of 1,000 pairs at 0.7."""


def heldout_repositories(names: Iterable[str], fraction: float) -> set[str]:
    """The repositories whose hash falls below `fraction`: the same ones in any corpus, whatever else it holds.

    Of two or more repositories at least one is held out and at least one is not: where the hashes leave a side empty,
    the repository nearest to the limit changes sides. A fraction of 0 holds nothing out; nor does a single repository.
    """
    hashes = {name: _unit_hash(name) for name in names}
    if len(hashes) < 2 or fraction == 0:
        return set()
    ranked = sorted(hashes, key=lambda name: (hashes[name], name))
    count = sum(hashes[name] < fraction for name in ranked)
    return set(ranked[: min(max(count, 1), len(ranked) - 1)])


def across(
    heldout: np.ndarray, training: Iterator[tuple[np.ndarray, np.ndarray]], threshold: float
) -> dict[int, tuple[int, float]]:
    """Held-out rows that resemble a training file, whatever the language of the two.

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


def _unit_hash(name: str) -> float:
    """A number in [0, 1) that depends on the name alone."""
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big") / 2**64
