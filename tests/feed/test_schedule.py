"""Which source each row is of, against the same rule worked out one row at a time in fractions."""

import random
from collections.abc import Sequence
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sc2jax.feed.mixtures import read_mixture
from sc2jax.feed.schedule import ENDLESS, Schedule, Turns

PAPER = [share.share for share in read_mixture("starcoder2_15b")]


def one_at_a_time(shares: Sequence[float], limits: Sequence[int], count: int) -> list[tuple[int, int]]:
    """The source of each row, and how many of it came before: whoever's middle of its next row is due first.

    From where a source has ended on, the others are dealt with as if there had never been others.
    """
    exact = [Fraction(str(share)) for share in shares]
    given_to, in_phase = [0] * len(shares), [0] * len(shares)
    rows = []
    while len(rows) < count:
        left = [source for source in range(len(shares)) if given_to[source] < limits[source]]
        if not left:
            break
        source = min(left, key=lambda source: ((2 * in_phase[source] + 1) / exact[source], source))
        rows.append((source, given_to[source]))
        given_to[source] += 1
        in_phase[source] += 1
        if given_to[source] == limits[source]:
            in_phase = [0] * len(shares)
    return rows


def pairs(schedule: Schedule, start: int, stop: int) -> list[tuple[int, int]]:
    return list(zip(*(part.tolist() for part in schedule.sequence(start, stop)), strict=True))


def mixtures(count: int) -> list[tuple[list[float], list[int]]]:
    """Mixtures by chance: shares alike, far apart, or whole numbers that fall together; caps tight, wide or none."""
    rng = random.Random(5)
    found = []
    for _ in range(count):
        sources = rng.randint(1, 7)
        draw = rng.choice(
            [
                lambda: float(rng.randint(1, 6)),
                lambda: rng.random() + 1e-3,
                lambda: 10 ** rng.uniform(-2, 2),
                lambda: 1.0,
                lambda: rng.choice(PAPER),
            ]
        )
        limits = [rng.choice([ENDLESS, rng.randint(1, 9), rng.randint(1, 90)]) for _ in range(sources)]
        found.append(([draw() for _ in range(sources)], limits))
    return found


def test_rows_are_dealt_out_as_one_at_a_time() -> None:
    """Hundreds of mixtures: every row, what came before it, the counts after any number of rows, ends, any stretch."""
    rng = random.Random(6)
    for shares, limits in mixtures(300):
        expected = one_at_a_time(shares, limits, 250)
        schedule = Schedule(shares, limits)
        assert schedule.rows == (ENDLESS if ENDLESS in limits else sum(limits))
        assert pairs(schedule, 0, len(expected)) == expected, (shares, limits)
        for _ in range(5):
            start, stop = sorted(rng.randint(0, len(expected)) for _ in range(2))
            assert pairs(schedule, start, stop) == expected[start:stop]
            of = [source for source, _ in expected[:stop]]
            assert schedule.counts(stop) == [of.count(source) for source in range(len(shares))]
        last = {row: number + 1 for number, row in enumerate(expected)}
        for source, end in enumerate(schedule.ends()):
            if limits[source] == ENDLESS:
                assert end == ENDLESS
            elif end <= len(expected):
                assert end == last[source, limits[source] - 1]
            else:
                assert (source, limits[source] - 1) not in last


@given(
    shares=st.lists(st.integers(1, 12).map(float), min_size=1, max_size=6),
    start=st.integers(0, 60),
    length=st.integers(0, 60),
)
def test_whole_shares_that_fall_together_are_dealt_out_in_their_order(
    shares: list[float], start: int, length: int
) -> None:
    expected = one_at_a_time(shares, [ENDLESS] * len(shares), start + length)
    assert pairs(Schedule(shares, [ENDLESS] * len(shares)), start, start + length) == expected[start:]


def test_shares_are_what_was_written() -> None:
    """As binary fractions 0.1, 0.2 and 0.3 do not fall together."""
    for scale in (0.1, 1e-8, 7.0):
        shares = [round(scale * whole, 9) for whole in (1, 2, 3)]
        assert pairs(Schedule(shares, [ENDLESS] * 3), 0, 600) == pairs(Schedule([1.0, 2.0, 3.0], [ENDLESS] * 3), 0, 600)


def test_of_rows_due_at_the_same_time_the_earlier_source_has_the_first() -> None:
    assert Schedule([1.0] * 3, [ENDLESS] * 3).sequence(0, 6)[0].tolist() == [0, 1, 2, 0, 1, 2]
    assert Schedule([1.0, 3.0], [ENDLESS] * 2).sequence(0, 4)[0].tolist() == [1, 0, 1, 1]
    # Both would give their last row at once: one ends after it, and the other a row later.
    both = Schedule([1.0, 1.0], [3, 3])
    assert both.sequence(0, 6)[0].tolist() == [0, 1, 0, 1, 0, 1]
    assert both.ends() == [5, 6]
    assert both.rows == 6


def test_the_first_turns_are_those_of_the_sequence() -> None:
    for shares, _ in mixtures(60):
        turns = Turns(shares)
        sources, _ = turns.sequence(0, 120)
        for count in (0, 1, 2, 7, 63, 120):
            assert turns.first(count) == np.bincount(sources[:count], minlength=len(shares)).tolist()


@pytest.mark.parametrize("start", [10**9, 10**12, 1_000_950_195_312])
def test_rows_far_ahead_are_worked_out_by_themselves(start: int) -> None:
    """4.1 x 10^15 tokens in rows of 4096 are 10^12 of them."""
    schedule = Schedule(PAPER, [ENDLESS] * len(PAPER))
    sources, before = schedule.sequence(start, start + 4000)
    counts = np.array(schedule.counts(start))
    assert counts.sum() == start
    for row, (source, came) in enumerate(zip(sources.tolist(), before.tolist(), strict=True)):
        assert counts[source] == came, row
        counts[source] += 1
    assert counts.tolist() == schedule.counts(start + 4000)
    exact = [Fraction(str(share)) for share in PAPER]
    wanted = [share / sum(exact) * (start + 4000) for share in exact]
    off = [abs(float(int(count) - share)) for count, share in zip(counts, wanted, strict=True)]
    assert off[0] < 3.4
    assert max(off[1:]) < 1
    np.testing.assert_array_equal(schedule.sequence(start + 3000, start + 3010)[0], sources[3000:3010])


def test_caps_far_ahead_end_where_they_should() -> None:
    """A source of a tenth, with 10^12 rows, ends when it has given them; from there the others are 2 to 1."""
    schedule = Schedule([6.0, 3.0, 1.0], [ENDLESS, ENDLESS, 10**12])
    end = schedule.ends()[2]
    assert abs(end - 10**13) <= 10
    assert schedule.counts(end)[2] == 10**12
    assert schedule.counts(end - 1)[2] == 10**12 - 1
    sources, _ = schedule.sequence(end, end + 3000)
    assert np.bincount(sources, minlength=3).tolist() == [2000, 1000, 0]


@pytest.mark.parametrize("size", ["3b", "7b", "15b"])
def test_every_fifth_of_a_run_has_its_shares_to_a_row(size: str) -> None:
    """After any number of rows half a row, and a source's own share of the halves of all of them."""
    shares = [share.share for share in read_mixture(f"starcoder2_{size}")]
    wanted = np.array(shares) / sum(shares)
    bound = 0.5 + wanted * len(shares) / 2
    assert (bound < 1).sum() == len(shares) - 1
    schedule, counts = Schedule(shares, [ENDLESS] * len(shares)), np.zeros(len(shares))
    for row, source in enumerate(schedule.sequence(0, 30_000)[0].tolist(), start=1):
        counts[source] += 1
        off = np.abs(counts - wanted * row)
        assert (off <= bound + 1e-6).all(), row
        assert off.max() < 3.4
        if row % 6000 == 0:
            assert schedule.counts(row) == counts.tolist()


def test_shares_are_kept_up_to_the_cap_and_then_by_the_others() -> None:
    shares, limits = [70.0, 20.0, 10.0], [ENDLESS, ENDLESS, 100]
    schedule = Schedule(shares, limits)
    for rows in range(0, schedule.ends()[2] + 1, 7):
        assert abs(schedule.counts(rows)[2] - rows / 10) < 1
    end = schedule.ends()[2]
    assert 990 < end < 1010
    at_end = np.array(schedule.counts(end))
    for more in (1, 10, 333, 5000):
        grown = np.array(schedule.counts(end + more)) - at_end
        assert grown[2] == 0
        assert abs(grown[0] - more * 7 / 9) < 1


def test_any_proportions_are_taken() -> None:
    """From the least share that a mixture takes to the greatest, and many of them."""
    schedule = Schedule([1e-9, 1e12], [5, ENDLESS])
    assert schedule.sequence(0, 100)[0].tolist() == [1] * 100
    assert schedule.ends()[1] == ENDLESS
    assert schedule.counts(10**15) == [0, 10**15]
    # After the great one has ended the small one goes on alone.
    schedule = Schedule([1e-9, 1e12], [5, 10])
    assert schedule.sequence(0, 15)[0].tolist() == [1] * 10 + [0] * 5
    assert schedule.ends() == [15, 10]
    many = Schedule([1.0] * 200, [2] * 200)
    assert sorted(many.sequence(0, 400)[0].tolist()) == sorted(list(range(200)) * 2)


@pytest.mark.parametrize(("start", "stop"), [(-1, 2), (3, 2), (0, 8), (8, 8)])
def test_rows_that_there_are_not(start: int, stop: int) -> None:
    with pytest.raises(ValueError, match=rf"rows {start} to {stop} are not among the 7 "):
        Schedule([1.0, 2.0], [3, 4]).sequence(start, stop)
    assert [part.tolist() for part in Schedule([1.0, 2.0], [3, 4]).sequence(7, 7)] == [[], []]


def test_the_order_never_changes() -> None:
    """A run goes on with another version of the program."""
    schedule = Schedule([5.0, 2.0, 1.0], [ENDLESS, 3, 2])
    assert schedule.sequence(0, 20)[0].tolist() == [0, 1, 0, 0, 2, 0, 1, 0, 0, 1, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0]
    assert schedule.ends() == [ENDLESS, 10, 14]
