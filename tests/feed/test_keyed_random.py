import itertools
from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sc2jax.feed.keyed_random import KeyedPermutation, keyed_generator


def whole(size: int, *key: int | str) -> list[int]:
    return KeyedPermutation(size, "windows", *key)[np.arange(size)].tolist()


@given(size=st.integers(1, 1500), seed=st.integers(0, 5))
def test_a_keyed_permutation_is_a_permutation(size: int, seed: int) -> None:
    assert len(KeyedPermutation(size, "windows", seed)) == size
    assert sorted(whole(size, seed)) == list(range(size))


@pytest.mark.parametrize("size", [1, 2, 3, 4, 5, 255, 256, 257, 10_007])
def test_also_of_sizes_at_which_something_might_begin_or_end(size: int) -> None:
    for key in range(3):
        assert sorted(whole(size, key)) == list(range(size))


@pytest.mark.parametrize(("size", "limit"), [(2, 10.8), (3, 20.5), (4, 49.7)])
def test_all_orders_of_a_few_are_as_frequent_as_of_shuffles(size: int, limit: float) -> None:
    """Chi-squared with size! - 1 degrees of freedom, at 1 in 1000."""
    orders = list(itertools.permutations(range(size)))
    counts = Counter(tuple(whole(size, key)) for key in range(100 * len(orders)))
    assert sum((counts[order] - 100) ** 2 / 100 for order in orders) < limit


def test_every_element_goes_everywhere() -> None:
    """Which element comes where, and which pair follows one another, over 1000 keys of twelve: five deviations."""
    size, keys = 12, 1000
    places, pairs = np.zeros((size, size)), np.zeros((size, size))
    for key in range(keys):
        order = KeyedPermutation(size, "windows", key)[np.arange(size)]
        places[np.arange(size), order] += 1
        pairs[order[:-1], order[1:]] += 1
    assert np.abs(places - keys / size).max() < 5 * (keys / size) ** 0.5
    off_diagonal = ~np.eye(size, dtype=bool)
    assert np.abs(pairs[off_diagonal] - keys / size).max() < 5 * (keys / size) ** 0.5
    assert not pairs[~off_diagonal].any()


def test_orders_of_different_keys_and_purposes_have_nothing_to_do_with_each_other() -> None:
    """Fixed points of one order in another are as many as chance has, one on average."""
    size = 500
    orders = [
        KeyedPermutation(size, "windows", *key)[np.arange(size)] for key in itertools.product(range(20), range(3))
    ]
    orders.append(KeyedPermutation(size, "files", 0, 0)[np.arange(size)])
    shared = [int((one == other).sum()) for one, other in itertools.combinations(orders, 2)]
    assert max(shared) < 9
    assert np.mean(shared) == pytest.approx(1, abs=0.1)


def test_elements_are_computed_on_demand_and_in_any_order() -> None:
    vast = KeyedPermutation(10**12, "windows", 0)
    found = vast[np.arange(2000)]
    assert found.dtype == np.int64
    assert len(set(found.tolist())) == 2000
    assert np.std(found) == pytest.approx(10**12 / 12**0.5, rel=0.05)
    assert abs(np.corrcoef(found[:-1], found[1:])[0, 1]) < 0.1
    np.testing.assert_array_equal(vast[np.array([7, 3, 3, 1999])], found[[7, 3, 3, 1999]])
    assert vast[np.array([], np.int64)].tolist() == []
    for index in (10**12, -1):
        with pytest.raises(IndexError, match=f"{index} is not below {10**12}"):
            vast[np.array([0, index])]


def test_orders_and_numbers_never_change() -> None:
    """A run goes on with another version of the program."""
    assert whole(8, 0, "source_code", 0) == [3, 5, 6, 4, 1, 7, 2, 0]
    vast = KeyedPermutation(10**12, "windows", 1, "a", 2)
    assert vast[np.array([0, 1, 10**12 - 1])].tolist() == [359936384316, 250234010334, 334147435850]
    assert keyed_generator("purpose", 1, "a").random() == pytest.approx(0.7689764834684432, abs=0)


def test_random_numbers_depend_on_their_key_alone() -> None:
    def number(*key: int | str) -> float:
        return keyed_generator("purpose", *key).random()

    assert number(1, "a") == number(1, "a")
    keys = [(1, "a"), (1, "b"), (2, "a"), ("1", "a"), (1, 11), (11, 1), (1, "a", 0), ("a", 1), ("\ud800",)]
    assert len({number(*key) for key in keys}) == len(keys)
    assert keyed_generator("other", 1, "a").random() != number(1, "a")
