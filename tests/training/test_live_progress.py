"""What is shown of a training while it runs, by a clock that the test moves."""

import io
import warnings

import pytest
from tqdm import tqdm

from sc2jax.training.live_progress import LiveProgress, Step, in_words
from sc2jax.training.utilisation import Utilisation

UNKNOWN = Utilisation(1.0, 1, 0.0)


def run(
    seconds_a_step: list[float], first: int = 0, last: int = 0, utilisation: Utilisation = UNKNOWN, waited: float = 0.0
) -> None:
    """Steps of 100 tokens in rows of 125 positions."""
    now = [50.0]
    last = last or first + len(seconds_a_step)
    with LiveProgress(first, last, utilisation, shows=True, clock=lambda: now[0]) as live:
        for number, seconds in enumerate(seconds_a_step, start=first + 1):
            now[0] += seconds
            live.step(Step(number, 5.0 / number, 100.0, 125, waited))


@pytest.fixture
def said(capsys):
    def said(*steps, **about) -> dict[int, str]:
        """The lines of a run without a terminal, by their steps."""
        run(*steps, **about)
        lines = capsys.readouterr().out.splitlines()
        return {int(line.split()[1].replace(",", "")): line for line in lines}

    return said


@pytest.fixture
def bar(monkeypatch):
    """What a bar shows on a terminal."""
    shown = io.StringIO()
    monkeypatch.setattr(
        "sc2jax.training.live_progress.progress", lambda **how: tqdm(**how, file=shown, mininterval=0, ncols=150)
    )
    return shown


def test_a_line_at_every_tenth_but_the_last(said):
    assert list(said([1.0] * 200)) == [20, 40, 60, 80, 100, 120, 140, 160, 180]


def test_a_line_a_minute_where_a_tenth_takes_longer(said):
    assert list(said([30.0] * 100)) == [2 * line for line in range(1, 50)]
    assert list(said([90.0] * 4)) == [1, 2, 3]


def test_no_line_within_seconds_of_another(said):
    assert said([0.4] * 12) == {}
    assert list(said([0.5] * 20)) == [10]  # after 4.5 s a tenth is passed and not said, after 5 s it is
    assert list(said([1.0] * 20)) == [5, 10, 15]


def test_a_run_that_goes_on_counts_from_where_it_was(said):
    assert list(said([1.0] * 100, first=100)) == [120, 140, 160, 180]


def test_what_a_line_says(said):
    """After one step that was compiled for 7 s, 29 of 0.5 and 0.6 s by turns; 70 are left."""
    lines = said([7.0, *[0.5, 0.6] * 50][:100], waited=0.04)
    assert lines[30] == ("      step 30 of 100, loss 0.167, 182 tokens/s, waiting for data 7%, about 38 s left")


def test_the_first_step_alone_can_be_slow(said):
    line = "      step 1 of 2, loss 5.000, 2 tokens/s, waiting for data 0%, about 61 s left"
    assert said([61.0, 1.0])[1] == line


def test_utilisation_is_that_of_all_positions(said):
    """4e9 FLOPs for each of 125 positions in 0.5 s: 1e12 of 2e12 a second."""
    lines = said([7.0, *[0.5] * 99], utilisation=Utilisation(4e9, 2, 1e12))
    assert "200 tokens/s, MFU 50.0%, waiting" in lines[30]


def test_figures_are_those_of_the_last_steps(said):
    """Of 32 steps, of which the last four took twice as long."""
    lines = said([1.0] * 66 + [2.0] * 34, utilisation=Utilisation(4e9, 1, 1e12))
    assert "step 70 of 100, loss 0.071, 89 tokens/s, MFU 44.4%" in lines[70]


def test_few_steps_have_no_utilisation(said):
    """A step that is noticed too late makes the next one look too short."""
    lines = said([60.0, 119.9, 0.1, 60.0, 60.0, 60.0, 60.0], utilisation=Utilisation(4e9, 1, 10e9))
    assert ["MFU" in line for line in lines.values()] == [False, False, False, True, True]


def test_more_than_the_peak_fails_whatever_is_tested():
    """For pytest turns warnings that come from the package into errors."""
    with pytest.raises(UserWarning, match="took 200% of the devices' peak"):
        run([7.0, *[0.5] * 99], utilisation=Utilisation(4e9, 1, 5e11))


def test_a_bar_says_the_same_once_a_second(bar):
    run([7.0, *[0.25] * 8], utilisation=Utilisation(2e9, 2, 1e12), waited=0.03)
    shown = bar.getvalue().split("\r")
    texts = list(dict.fromkeys(line.rpartition("step/s, ")[2].rpartition("]")[0] for line in shown if "loss" in line))
    assert [text.split(",")[0] for text in texts[-2:]] == ["loss 1.000", "loss 0.556"]
    assert texts[-2] == "loss 1.000, 400 tokens/s, MFU 50.0%, waiting for data 12%"
    assert "9/9" in shown[-1]


def test_the_other_processes_show_nothing(bar, capsys):
    now = [0.0]
    with LiveProgress(0, 4, UNKNOWN, shows=False, clock=lambda: now[0]) as live:
        for number in range(1, 5):
            now[0] += 100.0
            live.step(Step(number, 1.0, 1.0, 1, 0.0))
    assert not bar.getvalue() and not capsys.readouterr().out


def test_no_time_is_no_error(said):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        run([0.0] * 9, utilisation=UNKNOWN)
    assert said([0.0] * 9) == {}


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0.4, "0 s"), (99, "99 s"), (99.5, "2 min"), (100, "2 min"), (3540, "59 min"), (3600, "1 h 00 min"),
        (3900, "1 h 05 min"), (86340, "23 h 59 min"), (86400, "1 d 0 h"), (180_000, "2 d 2 h"),
    ],
)  # fmt: skip
def test_a_time_in_words(seconds, words):
    assert in_words(seconds) == words
