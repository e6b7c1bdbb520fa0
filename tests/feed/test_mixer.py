"""Turns of the sources of a mixture, against the same rule worked out one turn at a time."""

from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sc2jax.feed.mixer import scheduled_source, turns_between

from sc2jax.feed.mixtures import read_mixture

PAPER = [share.share for share in read_mixture("starcoder2_15b")]


def one_at_a_time(shares: list[float], count: int) -> list[int]:
    """Each turn goes to the source whose next one is due first."""
    given_to = [0] * len(shares)
    turns = []
    for _ in range(count):
        due = [(taken + 0.5) / (share / sum(shares)) for taken, share in zip(given_to, shares, strict=True)]
        turns.append(due.index(min(due)))
        given_to[turns[-1]] += 1
    return turns


@given(shares=st.lists(st.integers(1, 1000).map(float), min_size=1, max_size=6), start=st.integers(0, 150))
def test_any_part_of_the_sequence_is_that_of_turns_one_at_a_time(shares: list[float], start: int) -> None:
    expected = one_at_a_time(shares, 200)
    np.testing.assert_array_equal(turns_between(shares, 0, 200), expected)
    np.testing.assert_array_equal(turns_between(shares, start, start + 50), expected[start : start + 50])


def test_a_source_without_a_share_has_no_turn() -> None:
    assert set(turns_between([1.0, 0.0, 3.0], 0, 100).tolist()) == {0, 2}


@pytest.mark.parametrize("streams", [1, 8, 640, 1008])
def test_the_paper_s_shares_hold_for_all_streams_together(streams: int) -> None:
    """After every round each source is within half a window of its share, and the largest within a few."""
    wanted = np.array(PAPER) / sum(PAPER)
    rounds = -(-10_000 // streams)
    found = np.zeros(len(PAPER))
    worst = np.zeros(len(PAPER))
    for window in range(rounds):
        sources = [scheduled_source(tuple(PAPER), streams, 0, stream, window) for stream in range(streams)]
        found += np.bincount(sources, minlength=len(PAPER))
        worst = np.maximum(worst, np.abs(found - wanted * streams * (window + 1)))
    bound = 0.5 + wanted * len(PAPER) / 2
    assert (worst <= bound).all()
    small = wanted < 0.05
    assert (bound[small] < 0.85).all()


@pytest.mark.parametrize("shares", [(1.0, 1.0), (7.0, 1.0), tuple(PAPER)])
@pytest.mark.parametrize("streams", [8, 12, 13])
def test_every_stream_has_its_part_of_each_source(shares: tuple[float, ...], streams: int) -> None:
    """Also where the number of streams and the shares would fall into step; within five standard deviations."""
    rounds = 2000
    for stream in range(streams):
        counted = Counter(scheduled_source(shares, streams, 3, stream, window) for window in range(rounds))
        for source, share in enumerate(shares):
            chance = share / sum(shares)
            assert abs(counted[source] - rounds * chance) <= 1 + 5 * (rounds * chance * (1 - chance)) ** 0.5


def test_turns_far_ahead_are_worked_out_by_themselves() -> None:
    """At the row of number 10^12 as exactly as at the first."""
    start = 10**12
    turns = turns_between(PAPER, start, start + 10_000)
    assert len(turns) == 10_000
    wanted = 10_000 * np.array(PAPER) / sum(PAPER)
    assert np.abs(np.bincount(turns) - wanted).max() < 1 + len(PAPER)
    np.testing.assert_array_equal(turns[5000:], turns_between(PAPER, start + 5000, start + 10_000))


def test_the_order_of_turns_never_changes() -> None:
    """A run goes on with another version of the program."""
    found = [scheduled_source((5.0, 2.0, 1.0), 4, 1, stream, window) for window in range(3) for stream in range(4)]
    assert found == [0, 1, 0, 0, 0, 2, 0, 1, 1, 0, 0, 0]
