"""What is said of a training without a terminal, by a clock that the test moves."""

import pytest

from sc2jax.training.spoken_progress import SpokenProgress, in_words


def said(seconds_a_step: list[float], first: int = 0, last: int = 0, tokens: float = 100.0) -> dict[int, str]:
    """The lines by their steps."""
    now = [50.0]
    spoken = SpokenProgress(first, last or first + len(seconds_a_step), lambda: now[0])
    lines: dict[int, str] = {}
    with pytest.MonkeyPatch.context() as patch:
        for step, seconds in enumerate(seconds_a_step, start=first + 1):
            now[0] += seconds
            patch.setattr("sc2jax.training.spoken_progress.print_text", lambda text, at=step: lines.update({at: text}))
            spoken.step(step, 5.0 / step, tokens)
    return lines


def test_a_line_at_every_tenth_but_the_last() -> None:
    assert list(said([1.0] * 200)) == [20, 40, 60, 80, 100, 120, 140, 160, 180]


def test_a_line_a_minute_where_a_tenth_takes_longer() -> None:
    assert list(said([30.0] * 100)) == [2 * line for line in range(1, 50)]
    assert list(said([90.0] * 4)) == [1, 2, 3]


def test_no_line_within_seconds_of_another() -> None:
    assert said([0.4] * 12) == {}
    assert list(said([0.5] * 20)) == [10]  # after 4.5 s a tenth is passed and not said, after 5 s it is
    assert list(said([1.0] * 20)) == [5, 10, 15]


def test_a_run_that_goes_on_counts_from_where_it_was() -> None:
    assert list(said([1.0] * 100, first=100)) == [120, 140, 160, 180]


def test_what_a_line_says() -> None:
    """Two steps a second, after one that was compiled for 7 s."""
    lines = said([7.0, *[0.5] * 99])
    # 9 steps of 100 tokens since the line of step 20 came 5 s earlier; 70 steps are left.
    assert lines[30] == "      step 30 of 100, loss 0.167, 200 tokens/s, about 35 s left"


def test_the_first_step_alone_can_be_slow() -> None:
    assert said([61.0, 1.0])[1] == "      step 1 of 2, loss 5.000, 2 tokens/s, about 61 s left"


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0.4, "0 s"), (29, "29 s"), (99, "99 s"), (100, "2 min"), (3540, "59 min"), (3600, "1 h 00 min"),
        (3900, "1 h 05 min"), (86340, "23 h 59 min"), (86400, "1 d 0 h"), (180_000, "2 d 2 h"),
    ],
)  # fmt: skip
def test_a_time_in_words(seconds: float, words: str) -> None:
    assert in_words(seconds) == words
