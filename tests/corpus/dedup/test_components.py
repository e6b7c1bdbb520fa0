"""Connected components on partitions against scipy, and the rule that keeps one file of each."""

import contextlib
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import scipy.sparse
from scipy.sparse.csgraph import connected_components
from signed_tables import InMemory, in_memory, kept_of

from sc2jax.corpus.dedup import components
from sc2jax.corpus.dedup.bands import optimal_bands
from sc2jax.corpus.dedup.components import EDGES, connected, transitive
from sc2jax.corpus.dedup.keyed import Held, key_buckets, place
from sc2jax.corpus.shuffle import dealt


def lowest_of(size: int, edges: np.ndarray) -> dict[int, int]:
    """For each node that is not the lowest of its component, that."""
    graph = scipy.sparse.coo_matrix((np.ones(len(edges)), edges.T), shape=(size, size))
    labels = connected_components(graph, directed=False)[1]
    first: dict[int, int] = {}
    for node, label in enumerate(labels.tolist()):
        first.setdefault(label, node)
    return {node: first[label] for node, label in enumerate(labels.tolist()) if first[label] != node}


def by_stars(edges: np.ndarray, folder: Path, partition_bytes: int) -> dict[int, int]:
    """The same by the algorithm; numbers of files are their orders plus a thousand."""
    ends = np.concatenate([edges, edges[:, ::-1]])
    orders = [ends[:, column].astype(np.uint64) for column in (0, 1)]
    table = pa.table([orders[0], ends[:, 1] + 1000, orders[1], ends[:, 0] + 1000], schema=EDGES)
    buckets = key_buckets(EDGES, len(table), partition_bytes)

    def deal(unit: pa.Table) -> tuple[pa.Table, np.ndarray]:
        some = table.slice(unit["unit"][0].as_py() * step, step)
        return some, place(some["key"].to_numpy(), buckets)

    step = max(50, len(table) // 10)
    units = pa.table({"unit": np.arange(-(-len(table) // step))})
    found: dict[int, int] = {}
    with Held() as held:
        dealt_edges = held.put("edges", dealt(str(folder), units, deal, EDGES, buckets))
        stars = connected(str(folder), held, dealt_edges, partition_bytes)
        for bucket in range(len(stars)):
            rows = stars.read(bucket)
            for key, id_, order, own in zip(*(column.to_pylist() for column in rows.columns), strict=True):
                assert (id_, own) == (order + 1000, key + 1000)
                if order < key:
                    assert found.setdefault(key, order) == order
    assert list(folder.iterdir()) == []
    return found


def many_graphs(seed: int, graphs: int) -> tuple[int, np.ndarray]:
    """Some graphs side by side, nodes in any order: paths, stars, cycles, cliques, grids, trees, sparse ones."""
    draw, at, found = np.random.default_rng(seed), 0, [np.zeros((0, 2), np.int64)]
    for _ in range(graphs):
        size = int(draw.integers(1, 30))
        nodes = np.arange(size)
        kind = draw.integers(7)
        side = int(size**0.5)
        edges = {
            0: np.stack([nodes[:-1], nodes[1:]], 1),
            1: np.stack([np.zeros(size - 1, np.int64), nodes[1:]], 1),
            2: np.stack([nodes, (nodes + 1) % size], 1),
            3: np.argwhere(np.ones((size, size))),
            4: np.array([(a, b) for a in range(side**2) for b in (a + 1, a + side) if b < side**2], np.int64),
            5: np.stack([nodes[1:], nodes[1:] // 2], 1),
            6: draw.integers(0, size, (int(draw.integers(0, 2 * size)), 2)),
        }[int(kind)].reshape(-1, 2)
        found.append(edges[edges[:, 0] != edges[:, 1]] + at)
        at += size
    return at, draw.permutation(at)[np.concatenate(found)]


@pytest.mark.parametrize(("partition_bytes", "graphs"), [(2000, 12), (60_000, 200), (1 << 26, 3000)])
def test_components_are_those_of_scipy(tmp_path: Path, partition_bytes: int, graphs: int) -> None:
    size, edges = many_graphs(graphs, graphs)
    assert by_stars(edges, tmp_path, partition_bytes) == lowest_of(size, edges)


@pytest.mark.parametrize("kind", ["path", "star", "star of the highest", "two stars"])
def test_one_large_component(tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """In few steps, and though one node's edges fill many partitions."""
    steps = []
    step = components._step
    monkeypatch.setattr(components, "_step", lambda *given: steps.append(1) or step(*given))
    size = 600
    nodes = np.arange(size)
    edges = {
        "path": np.random.default_rng(0).permutation(size)[np.stack([nodes[:-1], nodes[1:]], 1)],
        "star": np.stack([np.zeros(size - 1, np.int64), nodes[1:]], 1),
        "star of the highest": np.stack([np.full(size - 1, size - 1), nodes[:-1]], 1),
        "two stars": np.concatenate([np.stack([nodes % 2, nodes], 1)[2:], [[size - 2, size - 1]]]),
    }[kind]
    assert by_stars(edges, tmp_path, 4000) == dict.fromkeys(range(1, size), 0)
    assert len(steps) <= 2 * (2 + np.log2(size))


def by_bands(files: InMemory, threshold: float) -> dict[int, int]:
    """Who falls in favour of whom, by the components of the files that share a band."""
    bands, rows = optimal_bands(threshold, files.permutations)
    first: dict[tuple, int] = {}
    edges = [np.zeros(2, np.int64)]
    ranked = np.argsort(files.orders)
    for place_, file in enumerate(ranked.tolist()):
        for band in range(bands) if files.signed[file] else ():
            content = files.signatures[file, band * rows : band * rows + rows].tobytes()
            edges.append(np.array([first.setdefault((files.languages[file], band, content), place_), place_]))
    return {int(ranked[node]): int(ranked[low]) for node, low in lowest_of(len(ranked), np.array(edges)).items()}


@pytest.mark.parametrize("partition_bytes", [3000, 40_000, 1 << 26])
def test_one_file_of_each_component_is_kept(tmp_path: Path, partition_bytes: int) -> None:
    draw = np.random.default_rng(1)
    size = 200
    rows = draw.integers(0, 2**32, (30, 20))[draw.integers(0, 30, size)]
    rows = np.where(draw.random(rows.shape) < 0.3, draw.integers(0, 2**32, rows.shape), rows)
    rows[draw.random(size) < 0.1, :4] = 5
    files = in_memory(rows, draw.permutation(size), draw.integers(0, 2, size), 13, draw.random(size) < 0.9)
    expected = by_bands(files, 0.6)
    assert 50 < len(expected) < 180
    with transitive(str(tmp_path), files, 0.6, partition_bytes) as found:
        kept = kept_of(found, files, tmp_path)
    assert kept == expected
    assert not set(kept.values()) & set(kept)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("size", [0, 9])
def test_without_files_nothing_falls(tmp_path: Path, size: int) -> None:
    files = in_memory(np.zeros((size, 10)), signed=np.zeros(size, bool))
    with transitive(str(tmp_path), files, 0.6) as found:
        assert kept_of(found, files, tmp_path) == {}


def test_tables_are_gone_where_it_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise RuntimeError("no room")

    monkeypatch.setattr(components, "_small_star", broken)
    files = in_memory(np.zeros((30, 10)))
    with contextlib.suppress(RuntimeError), transitive(str(tmp_path), files, 0.6):
        pytest.fail("it went on")
    assert list(tmp_path.iterdir()) == []
