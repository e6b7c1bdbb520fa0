"""The plain loop: survivors chosen one file after the other, of as many as fit in memory.

It is what the rounds on partitions (`rounds.py`) must equal, and what they end with.
"""

import dataclasses

import numpy as np

from sc2jax.corpus.dedup.similar import ones

UNDECIDED = np.uint64(np.iinfo(np.uint64).max)
"""The bound of a file of which nobody knows yet whether it stays."""


@dataclasses.dataclass(frozen=True)
class Grouped:
    """Files in memory, each with the groups (what has the same key in a band) that it is in.

    Attributes:
        ids: (files,).
        orders: (files,), the lower is preferred.
        bounds: (files,), of a file that fell the order of the best survivor known to resemble it; else `UNDECIDED`.
        signatures: (files, permutations).
        lengths: (files,), in how many groups each file is.
        keys: of the groups, those of one file after those of the other.
        counts: of the groups, how many survivors were compared with their members before.
    """

    ids: np.ndarray
    orders: np.ndarray
    bounds: np.ndarray
    signatures: np.ndarray
    lengths: np.ndarray
    keys: np.ndarray
    counts: np.ndarray

    def __len__(self) -> int:
        """The number of files."""
        return len(self.ids)


def decide(files: Grouped, least: int, most: int) -> np.ndarray:
    """Decides on files of which all that is preferred is decided or among them.

    Args:
        files: the undecided, and those that fell and may resemble a better survivor than the known one.
        least: permutations in which files must agree to count as the same.
        most: survivors of a group that are compared with its other members.

    Returns:
        For each file the one that it falls in favour of; itself if it stays; -1 if it fell before, to a better one.
    """
    found = np.full(len(files), -1)
    distinct, group_of = np.unique(files.keys, return_inverse=True)
    room = np.zeros(len(distinct), np.int64)
    room[group_of] = most - files.counts.astype(np.int64)
    members: list[list[int]] = [[] for _ in range(len(distinct))]
    left = room.tolist()
    ends = np.cumsum(files.lengths)
    groups = group_of.tolist()
    bounds = files.bounds.tolist()
    orders = files.orders.tolist()
    for row in np.argsort(files.orders).tolist():
        mine = groups[ends[row] - files.lengths[row] : ends[row]]
        met = sorted({other for group in mine for other in members[group]}, key=orders.__getitem__)
        if bounds[row] != UNDECIDED:
            met = [other for other in met if orders[other] < bounds[row]]
        similar = ones(files.signatures[met] == files.signatures[row]) >= least if met else np.zeros(0, bool)
        if similar.any():
            found[row] = met[int(np.argmax(similar))]
        elif bounds[row] == UNDECIDED:
            found[row] = row
            for group in mine:
                if left[group] > 0:
                    members[group].append(row)
                    left[group] -= 1
    return found
