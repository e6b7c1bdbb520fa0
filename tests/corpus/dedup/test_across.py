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
