"""Near-duplicates across a split: which files of one side resemble a file of the other too much.

Unlike within one side, candidates come from narrow bands that practically no pair escapes, whatever languages the two
are in, and are then verified by the similarity that the signatures estimate.

Equal signatures are compared once. Of a block of candidates (`candidates.py`) each pair is first bounded by what the
lowest bytes of the signatures agree in, which is an eighth of the work and needs a byte a pair; exact is only what may
change a result.
"""

import dataclasses
from collections.abc import Iterator

import numpy as np

from sc2jax.corpus.dedup.bands import band_keys
from sc2jax.corpus.dedup.candidates import BandIndex, cross_bands

_BATCH_ROWS = 8192
"""Training files that are compared at a time."""

_TILE = 64, 4096
"""Pairs that are bounded at a time."""

_EXACT_PAIRS = 4096
"""Pairs of whole signatures that are compared at a time."""


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
    held, first_of = _distinct(np.arange(len(heldout)), heldout)
    index, best = BandIndex(held.signatures), _Best(held, threshold)
    for ids, signatures in _batches(training):
        batch, _ = _distinct(ids, signatures)
        pairs, blocks = index.candidates(batch.signatures)
        for rows, others in pairs:
            best.compare(batch, rows, others)
        for rows, others in blocks:
            best.compare_all(batch, rows, others)
    found = best.found
    return {row: found[first] for row, first in enumerate(first_of.tolist()) if first in found}


def resembling(
    heldout: np.ndarray, training: Iterator[tuple[np.ndarray, np.ndarray]], threshold: float
) -> dict[int, tuple[int, float]]:
    """Training files that resemble a held-out file; the arguments are those of `across`.

    Returns:
        Id of the training file -> row of `heldout` that it resembles most, and how much; ties go to the lowest row.
    """
    held, _ = _distinct(np.arange(len(heldout)), heldout)
    index = BandIndex(held.signatures)
    resembled: dict[int, tuple[int, float]] = {}
    for ids, signatures in _batches(training):
        batch, first_of = _distinct(ids, signatures)
        best = _Best(batch, threshold)
        pairs, blocks = index.candidates(batch.signatures)
        for rows, others in pairs:
            best.compare(held, others, rows)
        for rows, others in blocks:
            best.compare_all(held, others, rows)
        found = best.found
        firsts = zip(ids.tolist(), first_of.tolist(), strict=True)
        resembled |= {id_: found[first] for id_, first in firsts if first in found}
    return resembled


@dataclasses.dataclass(frozen=True)
class _Side:
    """Signatures without repetition, and by what name each is known: ascending, the lowest of those that have it."""

    names: np.ndarray
    signatures: np.ndarray


class _Best:
    """For each file of a side what of the other side resembles it most; of equals the one of the lowest name."""

    def __init__(self, side: _Side, threshold: float):
        self._side, self._permutations = side, side.signatures.shape[1]
        least = int(np.argmax(np.append(np.arange(self._permutations + 1) / self._permutations >= threshold, True)))
        self._agreeing = np.full(len(side.names), least - 1)
        self._name = np.full(len(side.names), -1)

    @property
    def found(self) -> dict[int, tuple[int, float]]:
        """Row of the side -> the name of what resembles it most, and how much."""
        rows = np.flatnonzero(self._name >= 0)
        shares = self._agreeing[rows] / self._permutations
        return dict(zip(rows.tolist(), zip(self._name[rows].tolist(), shares.tolist(), strict=True), strict=True))

    def compare(self, other: _Side, rows: np.ndarray, others: np.ndarray) -> None:
        """Compares pairs of rows of both sides, of which only those count that agree in a band."""
        for start in range(0, len(rows), _EXACT_PAIRS):
            chosen = slice(start, start + _EXACT_PAIRS)
            equal = self._side.signatures[rows[chosen]] == other.signatures[others[chosen]]
            agreeing = equal.sum(axis=1)
            in_band = np.any([band.all(axis=1) for band in cross_bands(equal)], axis=0)
            self._improve(rows[chosen][in_band], other.names[others[chosen]][in_band], agreeing[in_band])

    def compare_all(self, other: _Side, rows: np.ndarray, others: np.ndarray) -> None:
        """Compares each of certain rows with each of certain rows, ascending, of the other side."""
        for start in range(0, len(others), _TILE[1]):
            right = others[start : start + _TILE[1]]
            right_bytes = _lowest_bytes(other.signatures[right])
            for first in range(0, len(rows), _TILE[0]):
                left = rows[first : first + _TILE[0]]
                most = _agreeing_at_most(_lowest_bytes(self._side.signatures[left]), right_bytes)
                likeliest = np.argmax(most, axis=1)  # the first of the highest, so that few others can be better
                promising = self._may_improve(left, other.names[right[likeliest]], most.max(axis=1))
                self.compare(other, left[promising], right[likeliest[promising]])
                row, column = np.nonzero(most >= self._agreeing[left][:, None])
                promising = self._may_improve(left[row], other.names[right[column]], most[row, column])
                self.compare(other, left[row[promising]], right[column[promising]])

    def _may_improve(self, rows: np.ndarray, names: np.ndarray, agreeing: np.ndarray) -> np.ndarray:
        known = self._agreeing[rows]
        return (agreeing > known) | ((agreeing == known) & (names < self._name[rows]))

    def _improve(self, rows: np.ndarray, names: np.ndarray, agreeing: np.ndarray) -> None:
        better = self._may_improve(rows, names, agreeing)
        rows, names, agreeing = rows[better], names[better], agreeing[better]
        order = np.lexsort((names, -agreeing, rows))
        chosen = order[np.diff(rows[order], prepend=-1) != 0]
        self._agreeing[rows[chosen]], self._name[rows[chosen]] = agreeing[chosen], names[chosen]


def _batches(training: Iterator[tuple[np.ndarray, np.ndarray]]) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """The training files, a bounded number at a time."""
    for ids, signatures in training:
        for start in range(0, len(ids), _BATCH_ROWS):
            yield ids[start : start + _BATCH_ROWS], signatures[start : start + _BATCH_ROWS]


def _distinct(names: np.ndarray, signatures: np.ndarray) -> tuple[_Side, np.ndarray]:
    """Each signature once, and for each row which one it has."""
    by_name = np.argsort(names, kind="stable")
    keys = band_keys(signatures)[by_name]
    _, firsts, inverse = np.unique(keys, return_index=True, return_inverse=True)
    ascending = np.argsort(firsts)
    chosen = by_name[firsts[ascending]]
    first_of = np.empty(len(names), np.int64)
    first_of[by_name] = np.argsort(ascending)[inverse]
    return _Side(names[chosen], signatures[chosen]), first_of


def _lowest_bytes(signatures: np.ndarray) -> np.ndarray:
    """The lowest byte of each number, (permutations, rows)."""
    return np.ascontiguousarray(signatures.astype(np.uint8).T)


def _agreeing_at_most(left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """In how many permutations each row of one side can agree with each of the other, by their lowest bytes."""
    shape = left.shape[1], right.shape[1]
    most = np.zeros(shape, np.uint8 if len(left) < 256 else np.uint16)
    equal = np.empty(shape, bool)
    for one, other in zip(left, right, strict=True):
        np.equal(one[:, None], other, out=equal)
        np.add(most, equal.view(np.uint8), out=most)
    return most
