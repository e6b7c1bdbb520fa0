from collections.abc import Callable

import numpy as np

from sc2jax.corpus.dedup.across import across
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
