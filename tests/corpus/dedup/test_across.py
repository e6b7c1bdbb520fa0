from collections.abc import Callable

import numpy as np

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
