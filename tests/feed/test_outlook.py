"""What a run is told before its first step is what it then reads."""

import re
from collections import Counter
from collections.abc import Callable

import pytest
from feed_corpora import numbered

from sc2jax.errors import UserError
from sc2jax.feed.outlook import outlook
from sc2jax.feed.rows import Rows
from sc2jax.feed.sources import FeedInputs

Flat = Callable[..., FeedInputs]
TOKENS = {"a": [numbered(16 * 40 + 3)], "b": [numbered(16 * 30), numbered(16 * 31)], "c": [numbered(16 * 5)]}


@pytest.mark.parametrize("steps", [10, 17, 40, 100])
@pytest.mark.parametrize("batch_size", [1, 3, 8])
@pytest.mark.parametrize("caps", [[0, 1, 2], [0, 0, 0], [9, 20, 4]])
def test_rows_epochs_and_ends_are_as_foretold(flat: Flat, caps: list[int], batch_size: int, steps: int) -> None:
    rows = Rows(flat(TOKENS, [5.0, 3.0, 1.0], caps, row_length=16))
    try:
        lines = outlook(rows, steps, batch_size)
    except UserError as error:
        assert steps * batch_size > rows.schedule.rows or steps * batch_size < 5, error
        return
    places = rows.places(0, steps * batch_size)
    counts = Counter(place.source for place in places)
    assert len(lines) == 3
    for number, (name, line) in enumerate(zip(TOKENS, lines, strict=True)):
        windows = [len(laid) // 16 for laid in TOKENS[name]]
        last = [place for place in places if place.source == number][-1]
        read = (
            last.epoch
            + sum(place.source == number and place.epoch == last.epoch for place in places)
            / (windows[last.epoch % len(windows)])
        )
        told = f"{name}: {counts[number]:,} rows in {steps} steps, {read:.2f} epochs of {', '.join(map(str, windows))}"
        limit = sum(windows[epoch % len(windows)] for epoch in range(caps[number]))
        if caps[number] and counts[number] == limit:
            final = max(row for row, place in enumerate(places) if place.source == number)
            told += f"; it ends in step {final // batch_size + 1}, read {caps[number]} times"
        assert line == told


def test_the_step_of_an_end_is_told_at_the_very_edge(flat: Flat) -> None:
    """Five rows of its own and as many of the other: the last is row 9, counted from 0, or row 8."""
    rows = Rows(flat({"a": TOKENS["a"], "c": TOKENS["c"]}, [1.0, 1.0], [0, 1], row_length=16))
    assert outlook(rows, 10, 1)[1].endswith("; it ends in step 10, read 1 times")
    assert "ends" not in outlook(rows, 9, 1)[1]
    assert outlook(rows, 2, 5)[1].endswith("it ends in step 2, read 1 times")
    assert outlook(rows, 1, 11)[1].endswith("it ends in step 1, read 1 times")


def test_more_steps_than_the_caps_allow_are_refused_and_what_is_said_works(flat: Flat) -> None:
    inputs = flat(TOKENS, [5.0, 3.0, 1.0], [2, 1, 1], row_length=16)
    rows = Rows(inputs)
    assert rows.schedule.rows == 80 + 30 + 5
    with pytest.raises(UserError) as caught:
        outlook(rows, 15, 8)
    message = str(caught.value)
    assert message.startswith("training.steps 15 of 8 rows are 120 rows; there are 115 rows to train on and no more: ")
    assert "a 2 times, b 1 times, c 1 times is as often as the mixture lets sources be read" in message
    assert "raise max_epochs there (0: without end), train for fewer steps, or add to the corpus" in message
    possible = re.search(r"; (\d+) steps are possible", message)
    assert possible
    assert outlook(rows, int(possible[1]), 8)
    with pytest.raises(UserError, match="rows to train on and no more"):
        outlook(rows, int(possible[1]) + 1, 8)
    assert outlook(rows, 115, 1)
    assert outlook(Rows(flat(TOKENS, [5.0, 3.0, 1.0], [0, 1, 1], row_length=16)), 15, 8)


def test_a_source_without_a_whole_row_is_refused(flat: Flat) -> None:
    rows = Rows(flat(TOKENS, [500.0, 3.0, 1.0], row_length=16))
    with pytest.raises(UserError, match=r"the shares of b, c in the mixture come to no whole row of the run's 40; "):
        outlook(rows, 5, 8)
    with pytest.raises(UserError, match=r"the shares of c in the mixture come to no whole row of the run's 160; "):
        outlook(rows, 20, 8)
    first = next(row for row, place in enumerate(rows.places(0, 1000)) if place.source == 2)
    assert outlook(rows, first + 1, 1)
    with pytest.raises(UserError, match="no whole row"):
        outlook(rows, first, 1)
