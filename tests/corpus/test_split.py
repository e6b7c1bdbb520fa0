from collections.abc import Callable

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from sc2jax.corpus.dedup.near import signatures
from sc2jax.corpus.split import across, heldout_repositories

NAMES = st.sets(st.text(min_size=1, max_size=6), max_size=12)


def test_about_the_fraction_is_held_out() -> None:
    names = {f"owner/repository-{number}" for number in range(4000)}
    assert 150 < len(heldout_repositories(names, 0.05)) < 250


@given(NAMES, st.floats(0.01, 1))
def test_both_sides_hold_something_where_they_can(names: set[str], fraction: float) -> None:
    heldout = heldout_repositories(names, fraction)
    assert heldout <= names
    if len(names) < 2:
        assert not heldout
    else:
        assert 0 < len(heldout) < len(names)


@given(NAMES, NAMES, st.floats(0.3, 0.7))
def test_a_repository_keeps_its_side_in_a_larger_corpus(some: set[str], more: set[str], fraction: float) -> None:
    few, many = heldout_repositories(some, fraction), heldout_repositories(some | more, fraction)
    if few and {n for n in some if n not in few}:
        changed = (few ^ many) & some
        # only where the hashes leave a side empty does a repository change sides
        assert len(changed) <= 1


def test_fraction_zero_holds_nothing_out() -> None:
    assert heldout_repositories({"a", "b", "c"}, 0) == set()


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
