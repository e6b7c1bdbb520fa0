"""The rounds on partitions against the loop that they stand for."""

from pathlib import Path

import numpy as np
import pytest
from signed_tables import InMemory, in_memory, kept_of

from sc2jax.corpus.dedup import meeting, round_steps, rounds
from sc2jax.corpus.dedup.bands import optimal_bands
from sc2jax.corpus.dedup.rounds import MOST_SURVIVORS, greedy

PERMUTATIONS, THRESHOLD = 20, 0.6
BANDS, ROWS = optimal_bands(THRESHOLD, PERMUTATIONS)


def by_the_loop(files: InMemory, threshold: float = THRESHOLD, most: int = MOST_SURVIVORS) -> dict[int, int]:
    """Who falls in favour of whom: one file after the other, each compared with survivors of its groups."""
    bands, rows = optimal_bands(threshold, files.permutations)
    groups: dict[tuple, list[int]] = {}
    kept: dict[int, int] = {}
    for file in np.argsort(files.orders).tolist():
        if not files.signed[file]:
            continue
        signature = files.signatures[file]
        bands_of = [signature[band * rows : band * rows + rows].tobytes() for band in range(bands)]
        keys = [(files.languages[file], band, content) for band, content in enumerate(bands_of)]
        met = sorted({other for key in keys for other in groups.get(key, [])}, key=lambda other: files.orders[other])
        similar = [other for other in met if (files.signatures[other] == signature).mean() >= threshold]
        if similar:
            kept[file] = similar[0]
            continue
        for key in keys:
            if len(groups.setdefault(key, [])) < most:
                groups[key].append(file)
    return kept


def in_rounds(files: InMemory, folder: Path, partition_bytes: int, threshold: float = THRESHOLD, **chosen: int):
    with greedy(str(folder), files, threshold, partition_bytes, **chosen) as found:
        kept = kept_of(found, files, folder)
    assert list(folder.iterdir()) == []
    return kept


def small_graphs(seed: int, graphs: int) -> InMemory:
    """Some hundred families of files, each in a language of its own: some all alike, some chains, some hardly alike."""
    draw = np.random.default_rng(seed)
    found, languages = [], []
    for graph in range(graphs):
        size, changed = int(draw.integers(2, 12)), draw.choice([0.0, 0.05, 0.15, 0.3, 0.5])
        values = int(draw.choice([2, 3, 1000]))
        rows = np.tile(draw.integers(0, values, PERMUTATIONS), (size, 1))
        if draw.random() < 0.5:  # each of the one before
            for row in range(1, size):
                other = draw.integers(0, values, PERMUTATIONS)
                rows[row] = np.where(draw.random(PERMUTATIONS) < changed, other, rows[row - 1])
        else:
            other = draw.integers(0, values, rows.shape)
            rows = np.where(draw.random(rows.shape) < changed, other, rows)
        found.append(rows)
        languages += [graph] * size
    order = draw.permutation(len(languages))
    signatures, language = np.concatenate(found)[order], np.array(languages)[order]
    signed = draw.random(len(order)) < 0.95
    return in_memory(signatures, draw.permutation(len(order)), language, int(draw.integers(5, 90)), signed)


@pytest.mark.parametrize(
    ("partition_bytes", "graphs"), [(700, 8), (2000, 25), (20_000, 200), (100_000, 300), (1 << 26, 500)]
)
def test_rounds_equal_the_loop_on_many_small_graphs(tmp_path: Path, partition_bytes: int, graphs: int) -> None:
    files = small_graphs(partition_bytes, graphs)
    expected = by_the_loop(files)
    assert graphs < len(expected) < len(files.orders) - graphs
    assert in_rounds(files, tmp_path, partition_bytes) == expected


@pytest.mark.parametrize(("partition_bytes", "graphs"), [(2000, 25), (50_000, 200)])
def test_rounds_equal_the_loop_where_groups_are_full(tmp_path: Path, partition_bytes: int, graphs: int) -> None:
    files = small_graphs(7, graphs)
    expected = by_the_loop(files, most=1)
    assert expected != by_the_loop(files)
    assert in_rounds(files, tmp_path, partition_bytes, most_survivors=1) == expected


def a_large_band(size: int, alike: int, seed: int = 0) -> InMemory:
    """Files that share a band, and are unlike else, but for some that are like another."""
    draw = np.random.default_rng(seed)
    rows = draw.integers(0, 2**32, (size, PERMUTATIONS))
    rows[:, :ROWS] = 5
    for row in draw.choice(size, alike, replace=False).tolist():
        other = int(draw.integers(size))
        rows[row] = np.where(draw.random(PERMUTATIONS) < 0.15, rows[row], rows[other])
    return in_memory(rows, draw.permutation(size), unit=50)


@pytest.mark.parametrize("most", [1, 5, MOST_SURVIVORS])
def test_a_band_of_all_files_is_worked_on_in_pieces(tmp_path: Path, most: int) -> None:
    files = a_large_band(200, 40)
    expected = by_the_loop(files, most=most)
    assert len(expected) > 10
    assert in_rounds(files, tmp_path, 4000, most_survivors=most) == expected


def test_a_chain_of_files_each_like_the_one_before(tmp_path: Path) -> None:
    """Of which every other one would stay, were it not for those that are alike over one between them."""
    draw = np.random.default_rng(1)
    rows = [draw.integers(0, 2**32, PERMUTATIONS)]
    for _ in range(70):
        rows.append(np.where(draw.random(PERMUTATIONS) < 0.25, draw.integers(0, 2**32, PERMUTATIONS), rows[-1]))
    for orders in (np.arange(71), np.arange(71)[::-1], draw.permutation(71)):
        files = in_memory(np.array(rows), orders)
        expected = by_the_loop(files)
        assert len(expected) > 10
        assert in_rounds(files, tmp_path, 1500) == expected


def test_of_equal_files_one_stays_and_all_name_it(tmp_path: Path) -> None:
    files = in_memory(np.tile(np.arange(PERMUTATIONS), (300, 1)), (np.arange(300) + 150) % 300, unit=40)
    assert in_rounds(files, tmp_path, 3000) == {file: 150 for file in range(300) if file != 150}


def test_files_of_two_languages_are_not_compared(tmp_path: Path) -> None:
    signatures = np.tile(np.arange(PERMUTATIONS), (40, 1))
    files = in_memory(signatures, languages=np.arange(40) % 2)
    for partition_bytes in (500, 1 << 20):
        assert in_rounds(files, tmp_path, partition_bytes) == {file: file % 2 for file in range(2, 40)}


def test_a_file_names_the_best_survivor_though_another_is_known_first(tmp_path: Path) -> None:
    """File 3 is like 1 and 2; 1 waits for 0, which it is unlike, while 2 leads all its groups from the start."""
    fresh = iter(np.random.default_rng(0).integers(0, 2**32, 1000).tolist())
    rows = np.array([[next(fresh) for _ in range(PERMUTATIONS)] for _ in range(4)])
    half = PERMUTATIONS // 2
    rows[3, :half] = rows[1, :half]
    rows[3, half:] = rows[2, half:]
    rows[1, -ROWS:] = rows[0, -ROWS:]
    files = in_memory(rows, unit=1)
    expected = by_the_loop(files, 0.5)
    assert expected == {3: 1}
    assert in_rounds(files, tmp_path, 300, 0.5) == expected


def test_the_smallest_pieces_change_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Few pairs at a time, few signatures on disk at a time, few rows sampled."""
    monkeypatch.setattr(meeting, "_PAIRS", 3)
    monkeypatch.setattr(meeting, "_PARTITIONS_SENT", 1)
    monkeypatch.setattr(rounds, "_SAMPLED", 100)
    files = small_graphs(3, 60)
    assert in_rounds(files, tmp_path, 3000) == by_the_loop(files)


def test_nothing_falls_where_there_is_nothing(tmp_path: Path) -> None:
    none = in_memory(np.zeros((0, PERMUTATIONS)))
    assert in_rounds(none, tmp_path, 100) == {}
    unsigned = in_memory(np.zeros((30, PERMUTATIONS)), signed=np.zeros(30, bool))
    for partition_bytes in (100, 1 << 20):
        assert in_rounds(unsigned, tmp_path, partition_bytes) == {}


def test_tables_are_gone_where_it_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> np.ndarray:
        raise RuntimeError("no room")

    monkeypatch.setattr(round_steps, "decide", broken)
    with pytest.raises(RuntimeError, match="no room"):
        in_rounds(small_graphs(0, 30), tmp_path, 2000)
    assert list(tmp_path.iterdir()) == []
