"""Candidates across a split: which pairs of files agree in a narrow band, as pairs and as blocks.

Where many files are much alike, a band is shared by thousands of both sides, and they form more pairs than can be
written down. Such a group is handed on as a block, all rows of one side with all of the other; blocks that share rows
are joined, so that a pair is compared once and not in every band that it agrees in.
"""

import dataclasses
from collections.abc import Iterator

import numpy as np
import scipy.sparse
from scipy.sparse.csgraph import connected_components

from sc2jax.corpus.config import CROSS_ROWS
from sc2jax.corpus.dedup.bands import band_keys

_BLOCK_PAIRS = 4096
"""Pairs from which on a group of equal keys is a block."""

_LISTED_PAIRS = 1 << 20
"""Pairs that are listed at a time; more only where one file has them."""

Pairs = tuple[np.ndarray, np.ndarray]
"""Rows of the index and rows of a batch."""


@dataclasses.dataclass(frozen=True)
class _Group:
    """A block: rows of both sides, ascending, that have one key in a band."""

    rows: np.ndarray
    others: np.ndarray

    @property
    def pairs(self) -> int:
        return len(self.rows) * len(self.others)


class BandIndex:
    """The rows of some signatures by what they hold in each band."""

    def __init__(self, signatures: np.ndarray):
        self._size = len(signatures)
        found = [band_keys(band) for band in cross_bands(signatures)]
        orders = [np.argsort(keys, kind="stable") for keys in found]
        self._keys = [keys[order] for keys, order in zip(found, orders, strict=True)]
        self._order = np.array(orders, np.int64).reshape(-1)

    def candidates(self, signatures: np.ndarray) -> tuple[Iterator[Pairs], Iterator[Pairs]]:
        """What agrees in a band with rows of a batch.

        Args:
            signatures: the batch.

        Returns:
            Pairs, each list without repetition; and blocks (rows of the index, rows of the batch; both ascending), of
            which each row is to be compared with each. All that agree in a band is in the one or the other, and what
            is in a block need not.
        """
        shape = len(self._keys), len(signatures)
        lows, counts, groups = np.zeros(shape, np.int64), np.zeros(shape, np.int64), []
        for band, values in enumerate(cross_bands(signatures)):
            keys, inverse, others = np.unique(band_keys(values), return_inverse=True, return_counts=True)
            low = np.searchsorted(self._keys[band], keys)
            found = np.searchsorted(self._keys[band], keys, side="right") - low
            large = found * others >= _BLOCK_PAIRS
            lows[band] = (band * self._size + low)[inverse]
            counts[band] = np.where(large, 0, found)[inverse]
            groups += self._groups(band * self._size + low, found, inverse, np.flatnonzero(large))
        return self._pairs(lows, counts), _blocks(groups, self._size, len(signatures))

    def _groups(self, low: np.ndarray, found: np.ndarray, inverse: np.ndarray, large: np.ndarray) -> list[_Group]:
        order = np.argsort(inverse, kind="stable")
        bounds = np.searchsorted(inverse[order], [large, large + 1])
        return [
            _Group(self._order[low[key] : low[key] + found[key]], order[begin:end])
            for key, begin, end in zip(large.tolist(), *bounds.tolist(), strict=True)
        ]

    def _pairs(self, lows: np.ndarray, counts: np.ndarray) -> Iterator[Pairs]:
        total = np.cumsum(counts.sum(axis=0))
        begin = 0
        while begin < len(total):
            before = total[begin - 1] if begin else 0
            end = max(begin + 1, int(np.searchsorted(total, before + _LISTED_PAIRS, side="right")))
            low, count = lows[:, begin:end].reshape(-1), counts[:, begin:end].reshape(-1)
            others = np.tile(np.arange(begin, end), len(lows))
            place = np.arange(count.sum()) + np.repeat(low - (np.cumsum(count) - count), count)
            both = np.unique(np.repeat(others, count) * self._size + self._order[place])
            if len(both):
                yield both % self._size, both // self._size
            begin = end


def cross_bands(signatures: np.ndarray) -> list[np.ndarray]:
    """The narrow bands of signatures; columns that fill none are in none."""
    starts = range(0, signatures.shape[1] - CROSS_ROWS + 1, CROSS_ROWS)
    return [signatures[:, start : start + CROSS_ROWS] for start in starts]


def _blocks(groups: list[_Group], size: int, others: int) -> Iterator[Pairs]:
    """The groups, those that share rows as one block where that is less work than each by itself."""
    if not groups:
        return
    nodes = size + others + np.arange(len(groups))
    ends = [np.concatenate([group.rows, size + group.others]) for group in groups]
    starts = np.repeat(nodes, [len(end) for end in ends])
    total = size + others + len(groups)
    edges = np.ones(len(starts), np.int8), (starts, np.concatenate(ends))
    labels = connected_components(scipy.sparse.coo_matrix(edges, shape=(total, total)), directed=False)[1][nodes]
    order = np.argsort(labels, kind="stable")
    for members in np.split(order, np.flatnonzero(np.diff(labels[order])) + 1):
        joined = [groups[member] for member in members.tolist()]
        whole = _Group(
            np.unique(np.concatenate([group.rows for group in joined])),
            np.unique(np.concatenate([group.others for group in joined])),
        )
        for group in [whole] if whole.pairs <= sum(group.pairs for group in joined) else joined:
            yield group.rows, group.others
