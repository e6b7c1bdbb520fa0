"""The paper's rule of near-deduplication: of files that a chain of candidates joins, one is kept, on partitions.

Files that share a band are joined, unverified, and so are those that another joins (StarCoder2 paper, section 3); of
each connected component the most preferred file stays. Components are found by the iterated star algorithm of Kiveris,
Lattanzi, Mirrokni, Rastogi and Vassilvitskii (2014), "Connected Components in MapReduce and Beyond", section 3: in turns
each file joins its neighbours that are less preferred (large star), or those that are more preferred and itself (small
star), to the most preferred file that it knows, until every component is a star around its most preferred file. A step
reads each edge once; in practice the number of steps is logarithmic in the longest path.
"""

import contextlib
import functools
from collections.abc import Iterator

import numpy as np
import pyarrow as pa

from sc2jax.corpus.dedup.bands import band_hashes, optimal_bands
from sc2jax.corpus.dedup.keyed import Fold, Held, Keyed, key_buckets, keyed, numbered, openings, place
from sc2jax.corpus.dedup.signed import KEPT, PARTITION_BYTES, Signed, Stretches, each_unit, no_results
from sc2jax.corpus.shuffle import Buckets, dealt

_FILES = [pa.field("key", pa.uint64()), pa.field("id", pa.int64()), pa.field("order", pa.uint64())]
_ROWS = pa.schema(_FILES)
"""A file and a group that it is in."""

_EDGES = pa.schema([*_FILES, pa.field("own", pa.int64())])
"""An edge at one of its ends, whose order (`key`) and number (`own`) it holds, and the order and number of the other."""


@contextlib.contextmanager
def transitive(
    folder: str, signed: Signed, threshold: float, partition_bytes: int = PARTITION_BYTES
) -> Iterator[Buckets]:
    """The files that fall, and for each the one of its component that is kept.

    Args:
        folder: of the stage; tables lie in there until they are of no more use.
        signed: the files; those of one language are joined.
        threshold: similarity that the bands are chosen for.
        partition_bytes: what a partition of a table may take in memory.

    Yields:
        Rows of `KEPT` by `Stretches.of_results`; each file at most once.
    """
    if not len(signed.units()):
        yield no_results(folder)
        return
    results = Stretches.of_results(signed)
    with contextlib.ExitStack() as stack, Held() as held:
        edges = _candidates(folder, held, signed, threshold, partition_bytes)
        stars = connected(folder, held, edges, partition_bytes)
        fall = functools.partial(_fall, stars=stars, results=results)
        yield stack.enter_context(dealt(folder, stars.units(), fall, KEPT, len(results)))


def connected(folder: str, held: Held, edges: Buckets, partition_bytes: int) -> Buckets:
    """Turns a graph into stars: an edge from each node but the lowest of a component to that.

    Args:
        folder: of the stage.
        held: what holds the tables.
        edges: of `_EDGES`, each at both ends, dealt by `key`.
        partition_bytes: what a partition of a table may take in memory.

    Returns:
        Of `_EDGES`, each at its higher end.
    """
    while True:
        edges, changed = _star(folder, held, "small", edges, _large, partition_bytes)
        edges, more = _star(folder, held, "large", edges, _small, partition_bytes)
        if not (changed or more):
            # Both ends of each edge are there.
            return edges
"""Placeholder"""
