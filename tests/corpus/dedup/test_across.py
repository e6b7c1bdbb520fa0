import tracemalloc
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sc2jax.corpus.dedup import across as across_module
from sc2jax.corpus.dedup import candidates
from sc2jax.corpus.dedup.across import across, resembling
from sc2jax.corpus.dedup.signatures import signatures


def test_across_finds_what_bands_of_ten_may_miss(program: Callable[..., str], edited: Callable[..., str]) -> None:
    """Pairs around the threshold, of which wide bands miss half."""
    training = [program(seed) for seed in range(80)]
    heldout = [edited(text, seed, 8) for seed, text in enumerate(training)]
    _, left = signatures(heldout, 5, 250, 0)
    _, right = signatures(training, 5, 250, 0)
    ids = np.arange(1000, 1080)
    found = across(left, iter([(ids[:30], right[:30]), (ids[30:], right[30:])]), 0.55)
    similar = np.flatnonzero((left == right).mean(axis=1) >= 0.55)
    assert len(similar) > 60
    assert {row: other for row, (other, _) in found.items()} == {row: 1000 + row for row in similar.tolist()}


def test_across_leaves_what_is_less_similar_than_the_threshold(program: Callable[..., str]) -> None:
    _, left = signatures([program(1)], 5, 250, 0)
    _, right = signatures([program(2)], 5, 250, 0)
    assert across(left, iter([(np.array([5]), right)]), 0.6) == {}
    assert across(left, iter([(np.array([5]), left)]), 0.6) == {0: (5, 1.0)}


def test_of_equally_similar_training_files_the_lowest_id_counts(program: Callable[..., str]) -> None:
    _, one = signatures([program(1)], 5, 250, 0)
    batches = [(np.array([9, 3]), np.concatenate([one, one])), (np.array([5]), one), (np.array([2]), one)]
    for order in (batches, batches[::-1]):
        assert across(one, iter(order), 0.6) == {0: (2, 1.0)}


def test_the_most_similar_training_file_counts(program: Callable[..., str], edited: Callable[..., str]) -> None:
    _, all_three = signatures([program(1), edited(program(1), 0, 1), edited(program(1), 0, 4)], 5, 250, 0)
    for order in ([1, 2], [2, 1]):
        found = across(all_three[:1], iter([(np.array(order), all_three[order])]), 0.2)
        assert found[0][0] == 1


def test_a_similarity_at_the_threshold_counts() -> None:
    left = np.arange(10, dtype=np.uint32)[None]
    right = left.copy()
    right[0, 5:] += 100
    assert across(left, iter([(np.array([0]), right)]), 0.5) == {0: (0, 0.5)}
    assert across(left, iter([(np.array([0]), right)]), 0.51) == {}
    both = np.concatenate([right, left])
    assert across(both, iter([(np.array([0]), left)]), 0.51) == {1: (0, 1.0)}


def of_numbers(*rows: list[int]) -> np.ndarray:
    """Signatures of ten numbers, two bands of five."""
    return np.array(rows, np.uint32)


def test_resembling_names_for_each_training_file_the_held_out_one_most_like_it() -> None:
    """Rows of ten numbers that agree in a band; by brute force over all pairs."""
    draw = np.random.default_rng(0)
    heldout = draw.integers(0, 2, (20, 10)).astype(np.uint32)
    training = np.concatenate([heldout[7:12], draw.integers(0, 2, (40, 10)).astype(np.uint32)])
    ids = draw.permutation(1000)[: len(training)]
    expected = {}
    for id_, row in zip(ids.tolist(), training, strict=True):
        shares = {
            number: float((other == row).mean())
            for number, other in enumerate(heldout)
            if (other[:5] == row[:5]).all() or (other[5:] == row[5:]).all()
        }
        similar = {number: share for number, share in shares.items() if share >= 0.6}
        if similar:
            expected[id_] = max(similar.items(), key=lambda item: (item[1], -item[0]))
    assert 5 <= len(expected) < len(training)
    assert sum(share < 1 for _, share in expected.values()) > 5
    for cut in (0, 13, 45):
        batches = [(ids[:cut], training[:cut]), (ids[cut:], training[cut:])]
        assert resembling(heldout, iter(batches), 0.6) == expected


def test_of_equally_similar_held_out_files_the_first_counts() -> None:
    row = list(range(10))
    heldout = of_numbers([9] * 10, row, row)
    assert resembling(heldout, iter([(np.array([4]), of_numbers(row))]), 0.5) == {4: (1, 1.0)}
    half = of_numbers([*row[:5], 0, 0, 0, 0, 0])
    assert resembling(heldout, iter([(np.array([4]), half)]), 0.5) == {4: (1, 0.5)}
    assert resembling(heldout, iter([(np.array([4]), half)]), 0.51) == {}


def test_nothing_resembles_where_one_side_is_empty() -> None:
    none = np.zeros((0, 10), np.uint32)
    assert resembling(none, iter([(np.array([1]), of_numbers([1] * 10))]), 0.1) == {}
    assert resembling(of_numbers([1] * 10), iter([(np.zeros(0, np.int64), none)]), 0.1) == {}


@pytest.fixture
def small_bounds(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that few rows make every kind of block, of batch, and of list."""
    for name, value in {"_BATCH_ROWS": 7, "_TILE": (2, 3), "_EXACT_PAIRS": 5}.items():
        monkeypatch.setattr(across_module, name, value)
    for name, value in {"_BLOCK_PAIRS": 4, "_LISTED_PAIRS": 6}.items():
        monkeypatch.setattr(candidates, name, value)


@st.composite
def alike(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Held-out and training signatures of 12 numbers, the last two in no band, many equal and nearly equal; and ids.

    Some numbers differ in what their lowest bytes do not tell.
    """
    random = np.random.default_rng(draw(st.integers(0, 2**32)))
    bases = random.integers(0, 2**32, (draw(st.integers(1, 3)), 12))
    size, heldout = draw(st.integers(0, 60)), draw(st.integers(0, 30))
    rows = bases[random.integers(0, len(bases), size + heldout)]
    changed = random.random(rows.shape) < draw(st.sampled_from([0, 0.02, 0.1, 0.3]))
    rows = rows + changed * random.choice([1, 256, 2**31], rows.shape)
    rows = (rows % 2**32).astype(np.uint32)
    return rows[:heldout], rows[heldout:], random.permutation(1000)[:size]


def by_brute_force(files: np.ndarray, others: np.ndarray, names: list[int], least: int) -> dict[int, tuple[int, float]]:
    """Row of `files` -> what of the others agrees most with it, of at least so many numbers, in a band of five."""
    best = {}
    for row, file in enumerate(files.tolist()):
        found = []
        for name, other in zip(names, others.tolist(), strict=True):
            agreeing = sum(one == two for one, two in zip(file, other, strict=True))
            if agreeing >= least and (file[:5] == other[:5] or file[5:10] == other[5:10]):
                found.append((-agreeing, name))
        if found:
            best[row] = min(found)[1], -min(found)[0] / 12
    return best


@given(alike(), st.integers(5, 12), st.integers(0, 60))
@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_both_ways_find_what_brute_force_finds(
    small_bounds: None, drawn: tuple[np.ndarray, np.ndarray, np.ndarray], least: int, cut: int
) -> None:
    heldout, training, ids = drawn
    batches = [(ids[cut:], training[cut:]), (ids[:cut], training[:cut])]
    expected = by_brute_force(heldout, training, ids.tolist(), least)
    assert across(heldout, iter(batches), least / 12) == expected
    expected = by_brute_force(training, heldout, list(range(len(heldout))), least)
    found = resembling(heldout, iter(batches), least / 12)
    assert found == {int(ids[row]): best for row, best in expected.items()}


def test_files_of_one_block_that_agree_in_no_band_are_no_candidates(small_bounds: None) -> None:
    """One held-out file has the second band of its block alone, one training file the first; they agree in 10 of 12."""
    base = np.zeros((3, 12), np.uint32)
    heldout, training = base + [[0] * 10 + [n, n] for n in (1, 2, 3)], base + [[0] * 10 + [n, n] for n in (4, 5, 6)]
    heldout = np.vstack([heldout, [9] + [0] * 11]).astype(np.uint32)
    training = np.vstack([training, [0] * 5 + [9] + [0] * 6]).astype(np.uint32)
    batches = [(np.arange(4), training)]
    expected = dict.fromkeys(range(3), (0, 10 / 12))
    assert by_brute_force(heldout, training, [0, 1, 2, 3], 10) == expected
    assert across(heldout, iter(batches), 10 / 12) == expected


def test_the_ways_agree_at_the_sizes_of_real_blocks() -> None:
    """Three families of files; in each all pairs agree in six of ten numbers on average, in some band or in none."""
    random = np.random.default_rng(0)
    bases = random.integers(0, 2**32, (3, 50), np.uint32)
    rows = bases[random.integers(0, 3, 2300)]
    own = random.integers(0, 2**32, rows.shape, np.uint32)
    rows = np.where(random.random(rows.shape) < 0.22, own, rows)
    heldout, training, ids = rows[:300], rows[300:], random.permutation(5000)[:2000]
    agreeing = np.array([(row == training).sum(axis=1) for row in heldout])
    in_band = np.array([(row == training).reshape(-1, 10, 5).all(axis=2).any(axis=1) for row in heldout])
    agreeing[~in_band] = 0
    assert not in_band.all()
    expected = {}
    for row, counts in enumerate(agreeing.tolist()):
        best = min((-count, id_) for count, id_ in zip(counts, ids.tolist(), strict=True))
        if -best[0] >= 40:
            expected[row] = best[1], -best[0] / 50
    assert 10 < len(expected) < 300
    assert across(heldout, iter([(ids, training)]), 0.8) == expected


def test_a_million_pairs_of_equal_files_are_one_comparison(monkeypatch: pytest.MonkeyPatch) -> None:
    compared = []
    monkeypatch.setattr(
        across_module, "cross_bands", lambda equal: compared.append(len(equal)) or candidates.cross_bands(equal)
    )
    same = np.tile(np.arange(250, dtype=np.uint32), (1000, 1))
    assert across(same, iter([(np.arange(1000), same)]), 0.6) == dict.fromkeys(range(1000), (0, 1.0))
    assert sum(compared) == 1


def test_few_pairs_of_a_block_are_compared_exactly_and_memory_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two million pairs share a band; listed they would be 16 MB, with what they agree in 500 MB."""
    compared = []
    monkeypatch.setattr(
        across_module, "cross_bands", lambda equal: compared.append(len(equal)) or candidates.cross_bands(equal)
    )
    random = np.random.default_rng(0)
    rows = random.integers(0, 2**32, (5000, 250), np.uint32)
    rows[:, :165] = np.where(random.random((5000, 165)) < 0.05, rows[:, :165], np.arange(165, dtype=np.uint32))
    tracemalloc.start()
    try:
        across(rows[:500], iter([(np.arange(4500), rows[500:])]), 0.55)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert sum(compared) < 2_250_000 / 50
    assert peak < 40e6
