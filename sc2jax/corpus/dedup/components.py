"""The paper's rule of near-deduplication: of files that a chain of candidates joins, one is kept, on partitions.

Files that share a band are joined, unverified, and so are those that another joins (StarCoder2 paper, section 3); of
each connected component the most preferred file stays. They are found by the iterated star algorithm of Kiveris,
Lattanzi, Mirrokni, Rastogi and Vassilvitskii (2014), "Connected Components in MapReduce and Beyond", section 3: in
turns each file joins its neighbours that are less preferred (large star), or those that are more preferred and itself
(small star), to the most preferred file that it knows, until every component is a star around its most preferred file.
A step reads each edge once; in practice their number is logarithmic in the size of the largest component.
"""

import contextlib
import dataclasses
import functools
from collections.abc import Callable, Iterator

import numpy as np
import pyarrow as pa

from sc2jax.corpus.dedup.bands import band_hashes, optimal_bands
from sc2jax.corpus.dedup.keyed import Fold, Held, Keyed, key_buckets, keyed, numbered, openings, place
from sc2jax.corpus.dedup.signed import KEPT, PARTITION_BYTES, Signed, Stretches, each_unit, no_results
from sc2jax.corpus.shuffle import Buckets, dealt

_FILES = [pa.field("key", pa.uint64()), pa.field("id", pa.int64()), pa.field("order", pa.uint64())]
_ROWS = pa.schema(_FILES)
"""A file and a group that it is in."""

EDGES = pa.schema([*_FILES, pa.field("own", pa.int64())])
"""An edge at one of its ends: order (`key`) and number (`own`) of that, and order and number of the other."""


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
        held: holds the tables; the edges are its "edges", and are dropped.
        edges: of `EDGES`, each at both ends, dealt by `key`.
        partition_bytes: what a partition of a table may take in memory.

    Returns:
        The table "edges": of `EDGES`, each at both ends.
    """
    while True:
        edges, larger_changed = _step(folder, held, edges, _large_star, partition_bytes)
        edges, smaller_changed = _step(folder, held, edges, _small_star, partition_bytes)
        if not (larger_changed or smaller_changed):
            return edges


def _step(
    folder: str, held: Held, edges: Buckets, star: Callable[..., tuple[pa.Table, bool]], partition_bytes: int
) -> tuple[Buckets, bool]:
    """The edges after a step, and whether it changed any."""
    buckets = key_buckets(EDGES, edges.rows, partition_bytes)
    with keyed(folder, edges, _NEIGHBOURS, partition_bytes) as nodes:
        join = functools.partial(_join, nodes=nodes, star=star, buckets=buckets)
        found = held.put("edges", dealt(folder, nodes.pieces, join, EDGES, buckets + 1))
    counts = found.counts
    return dataclasses.replace(found, counts=counts[:, :buckets]), bool(counts[:, buckets].any())


def _join(
    piece: pa.Table, nodes: Keyed, star: Callable[..., tuple[pa.Table, bool]], buckets: int
) -> tuple[pa.Table, np.ndarray]:
    """The edges that a step makes of those at some nodes; one more row, in a bucket of its own, if they are others."""
    rows, summary = nodes.read(piece)
    if not len(rows):
        return rows, np.zeros(0, np.uint16)
    node = numbered(rows["key"].to_numpy())
    lowest = [summary[name].to_numpy()[node] for name in ("order", "id")]
    edges, changed = star(rows, *lowest, summary["highest"].to_numpy()[node])
    edges = _distinct(edges)
    places = place(edges["key"].to_numpy(), buckets)
    if changed:
        edges, places = pa.concat_tables([edges, rows.slice(0, 1)]), np.append(places, np.uint16(buckets))
    return edges, places


def _large_star(rows: pa.Table, order: np.ndarray, id_: np.ndarray, highest: np.ndarray) -> tuple[pa.Table, bool]:
    """Joins the higher neighbours of each node to its lowest, or to itself if it is lower; at their higher ends."""
    del highest
    keys, others, ids, own = (rows[name].to_numpy() for name in ("key", "order", "id", "own"))
    higher = np.flatnonzero(others > keys)
    lower = order[higher] < keys[higher]
    lowest = np.where(lower, order[higher], keys[higher]), np.where(lower, id_[higher], own[higher])
    return _edges(others[higher], ids[higher], *lowest), bool(lower.any())


def _small_star(rows: pa.Table, order: np.ndarray, id_: np.ndarray, highest: np.ndarray) -> tuple[pa.Table, bool]:
    """Joins each node and its neighbours, which are all lower, to the lowest of them; at both ends."""
    keys, others, ids, own = (rows[name].to_numpy() for name in ("key", "order", "id", "own"))
    not_lowest = np.flatnonzero(others != order)
    ends = np.concatenate([keys, others[not_lowest]]), np.concatenate([own, ids[not_lowest]])
    lowest = np.concatenate([order, order[not_lowest]]), np.concatenate([id_, id_[not_lowest]])
    there, back = _edges(*ends, *lowest), _edges(*lowest, *ends)
    return pa.concat_tables([there, back]), bool((order != highest).any())


def _lift(rows: pa.Table) -> pa.Table:
    return pa.table({"key": rows["key"], "order": rows["order"], "id": rows["id"], "highest": rows["order"]})


def _merge(summaries: pa.Table) -> pa.Table:
    keys = summaries["key"].to_numpy()
    first = openings(keys)
    if not len(first):
        return summaries
    orders = summaries["order"].to_numpy()
    lowest = np.minimum.reduceat(orders, first)
    node = numbered(keys)
    at = np.flatnonzero(orders == lowest[node])
    at = at[openings(node[at])]
    highest = np.maximum.reduceat(summaries["highest"].to_numpy(), first)
    return pa.table({"key": keys[first], "order": lowest, "id": summaries["id"].to_numpy()[at], "highest": highest})


_NEIGHBOURS = Fold(_lift, _merge)
"""Of each key the lowest order and whose it is, and the highest."""


def _candidates(folder: str, held: Held, signed: Signed, threshold: float, partition_bytes: int) -> Buckets:
    """An edge between each file of a group and the most preferred one there, at both ends."""
    bands, rows = optimal_bands(threshold, signed.permutations)
    stretches = Stretches.of_bytes(signed, 4 * signed.permutations, partition_bytes)
    buckets = key_buckets(_ROWS, int(signed.starts[-1]) * bands, partition_bytes)
    deal = functools.partial(_band_rows, signed=signed, stretches=stretches, bands=(bands, rows), buckets=buckets)
    table = held.put("rows", dealt(folder, stretches.table(), deal, _ROWS, buckets, "near-duplicates"))
    buckets = key_buckets(EDGES, int(signed.starts[-1]), partition_bytes)
    with keyed(folder, table, _NEIGHBOURS, partition_bytes, alone=False) as groups:
        join = functools.partial(_to_the_best, groups=groups, buckets=buckets)
        edges = held.put("edges", dealt(folder, groups.pieces, join, EDGES, buckets))
    held.drop("rows")
    return edges


def _band_rows(
    unit: pa.Table, signed: Signed, stretches: Stretches, bands: tuple[int, int], buckets: int
) -> tuple[pa.Table, np.ndarray]:
    """A row for each band of each file of a stretch."""
    tables, places = [_ROWS.empty_table()], [np.zeros(0, np.uint16)]
    for files in each_unit(signed, stretches.units_of(unit["stretch"][0].as_py())):
        keys = band_hashes(files.signatures, *bands, files.languages).reshape(-1)
        columns = [keys, np.tile(files.ids, bands[0]), np.tile(files.orders, bands[0])]
        tables.append(pa.Table.from_arrays([pa.array(column) for column in columns], schema=_ROWS))
        places.append(place(keys, buckets))
    return pa.concat_tables(tables), np.concatenate(places)


def _to_the_best(piece: pa.Table, groups: Keyed, buckets: int) -> tuple[pa.Table, np.ndarray]:
    rows, summary = groups.read(piece)
    orders, ids = rows["order"].to_numpy(), rows["id"].to_numpy()
    group = numbered(rows["key"].to_numpy())
    best, best_ids = (summary[name].to_numpy()[group] for name in ("order", "id"))
    others = np.flatnonzero(orders != best)
    ends, to = (orders[others], ids[others]), (best[others], best_ids[others])
    edges = _distinct(pa.concat_tables([_edges(*ends, *to), _edges(*to, *ends)]))
    return edges, place(edges["key"].to_numpy(), buckets)


def _edges(keys: np.ndarray, own: np.ndarray, orders: np.ndarray, ids: np.ndarray) -> pa.Table:
    """Edges from files of certain orders and numbers to others."""
    return pa.Table.from_arrays([pa.array(column) for column in (keys, ids, orders, own)], schema=EDGES)


def _distinct(edges: pa.Table) -> pa.Table:
    """Each edge once."""
    keys, orders = edges["key"].to_numpy(), edges["order"].to_numpy()
    order = np.lexsort((orders, keys))
    keys, orders = keys[order], orders[order]
    new = np.concatenate([[True], (keys[1:] != keys[:-1]) | (orders[1:] != orders[:-1])])[: len(keys)]
    return edges.take(pa.array(order[new]))


def _fall(unit: pa.Table, stars: Buckets, results: Stretches) -> tuple[pa.Table, np.ndarray]:
    """Who falls, of a bucket of stars."""
    edges = stars.read(unit["bucket"][0].as_py())
    edges = _distinct(edges.filter(pa.array(edges["order"].to_numpy() < edges["key"].to_numpy())))
    fallen = pa.Table.from_arrays([edges["own"], edges["id"]], schema=KEPT)
    return fallen, results.of(edges["own"].to_numpy())
