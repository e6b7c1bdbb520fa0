"""Near-duplicates across a split: which files of one side resemble a file of the other too much.

Unlike within one side, candidates come from narrow bands that practically no pair escapes, whatever languages the two
are in, and are then verified by the similarity that the signatures estimate.
"""

from collections.abc import Iterator

import numpy as np

from sc2jax.corpus.config import CROSS_ROWS
from sc2jax.corpus.dedup.bands import band_keys
from sc2jax.corpus.dedup.signatures import similarity


def across(
    heldout: np.ndarray, training: Iterator[tuple[np.ndarray, np.ndarray]], threshold: float
) -> dict[int, tuple[int, float]]:
    """Held-out rows that resemble a training file.

    Args:
        heldout: signatures, one row for each held-out file.
        training: batches of (ids, signatures).
        threshold: estimated similarity from which two files are near-duplicates.

    Returns:
        Row of `heldout` -> id of the training file that resembles it most, and how much; ties go to the lowest id.
    """
    found: dict[int, tuple[int, float]] = {}
    for id_, rows, scores in _similar(heldout, training, threshold):
        for row, score in zip(rows.tolist(), scores.tolist(), strict=True):
            best = found.get(row)
            if best is None or (score, -id_) > (best[1], -best[0]):
                found[row] = id_, score
    return found


def resembling(
    heldout: np.ndarray, training: Iterator[tuple[np.ndarray, np.ndarray]], threshold: float
) -> dict[int, tuple[int, float]]:
    """Training files that resemble a held-out file; the arguments are those of `across`.

    Returns:
        Id of the training file -> row of `heldout` that it resembles most, and how much; ties go to the lowest row.
    """
    found: dict[int, tuple[int, float]] = {}
    for id_, rows, scores in _similar(heldout, training, threshold):
        best = int(np.argmax(scores))  # the first of the highest, and rows are ascending
        found[id_] = int(rows[best]), float(scores[best])
    return found


def _similar(
    heldout: np.ndarray, training: Iterator[tuple[np.ndarray, np.ndarray]], threshold: float
) -> Iterator[tuple[int, np.ndarray, np.ndarray]]:
    """Each training file that resembles held-out ones: its id, their rows (ascending), and how much each does."""
    tables = []
    for start in range(0, heldout.shape[1] - CROSS_ROWS + 1, CROSS_ROWS):
        keys = band_keys(heldout[:, start : start + CROSS_ROWS])
        order = np.argsort(keys, kind="stable")
        tables.append((start, keys[order], order))
    for ids, signatures in training:
        for other, rows in _candidates(tables, signatures):
            scores = similarity(heldout[rows], signatures[other : other + 1])
            similar = scores >= threshold
            if similar.any():
                yield int(ids[other]), rows[similar], scores[similar]


def _candidates(
    tables: list[tuple[int, np.ndarray, np.ndarray]], signatures: np.ndarray
) -> Iterator[tuple[int, np.ndarray]]:
    """Rows of the batch, each with the held-out rows (ascending) that agree with it in a band.

    One row at a time: of files that are much alike, a batch and the held-out ones form more pairs than memory holds.
    """
    ranges = []
    for start, sorted_keys, _ in tables:
        keys = band_keys(signatures[:, start : start + CROSS_ROWS])
        ranges.append((np.searchsorted(sorted_keys, keys), np.searchsorted(sorted_keys, keys, side="right")))
    lows, highs = (np.array(bounds).reshape(len(tables), len(signatures)) for bounds in zip(*ranges, strict=True))
    for other in np.flatnonzero((lows < highs).any(axis=0)).tolist():
        bounds = zip(tables, lows[:, other], highs[:, other], strict=True)
        agreeing = [order[low:high] for (_, _, order), low, high in bounds]
        yield other, np.unique(np.concatenate(agreeing))
