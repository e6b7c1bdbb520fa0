from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sc2jax.feed.keyed_random import KeyedPermutation, keyed_fraction, keyed_generator


@given(size=st.integers(1, 300), seed=st.integers(0, 5))
def test_a_keyed_permutation_is_a_permutation(size: int, seed: int) -> None:
    order = KeyedPermutation(size, "units", seed)
    assert len(order) == size
    assert sorted(order) == list(range(size))


def test_keyed_permutations_are_as_different_as_shuffles() -> None:
    """Over many keys all orders of four occur equally often: chi-squared with 23 degrees of freedom, at 1 in 1000."""
    counts = Counter(tuple(KeyedPermutation(4, "units", key)) for key in range(2400))
    assert len(counts) == 24
    assert sum((count - 100) ** 2 / 100 for count in counts.values()) < 49.7
    # Of a large one neighbours end far apart, and the elements asked for are distinct.
    vast = KeyedPermutation(10**12, "units", 0)
    found = [vast[index] for index in range(200)]
    assert len(set(found)) == 200
    assert np.std(found) == pytest.approx(10**12 / 12**0.5, rel=0.15)
    with pytest.raises(IndexError):
        vast[10**12]
    # The order must never change: a run goes on with another version of the program.
    assert list(KeyedPermutation(8, "units", 0, "source_code", 0)) == [3, 4, 5, 6, 0, 7, 2, 1]


def test_random_numbers_depend_on_their_key_alone() -> None:
    def number(*key: int | str) -> float:
        return keyed_generator("purpose", *key).random()

    assert number(1, "a") == number(1, "a")
    keys = [(1, "a"), (1, "b"), (2, "a"), ("1", "a"), (1, 11), (11, 1)]
    assert len({number(*key) for key in keys}) == len(keys)
    assert keyed_generator("other", 1, "a").random() != number(1, "a")
    # The value itself must never change: a run goes on with another version of the program.
    assert number(1, "a") == pytest.approx(0.7689764834684432, abs=0)
    fractions = [keyed_fraction("lead", index) for index in range(2000)]
    assert 0 <= min(fractions) < 0.01 < 0.99 < max(fractions) < 1
    assert np.mean(fractions) == pytest.approx(0.5, abs=0.02)
