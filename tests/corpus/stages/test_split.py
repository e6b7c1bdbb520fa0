import pytest
from hypothesis import given
from hypothesis import strategies as st
from split_sides import heldout_repositories

from sc2jax.corpus.stages import sides

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


@pytest.mark.parametrize(("place", "expected"), [(0.4, {"a", "b"}), (0.5, {"a"}), (0.6, {"a"})])
def test_of_equal_hashes_the_first_names_are_held_out(
    monkeypatch: pytest.MonkeyPatch, place: float, expected: set[str]
) -> None:
    """A hash at the limit is not below it."""
    monkeypatch.setattr(sides, "_hash", lambda _: place)
    assert heldout_repositories(["c", "a", "b"], 0.5) == expected
