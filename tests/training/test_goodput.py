"""Goodput by clocks that the tests move: no second counts twice, and what is done again is lost."""

import json
import math
import random
from pathlib import Path

import pytest

from sc2jax.errors import UserError
from sc2jax.training.goodput import GOODPUT, Bucket, GoodputLog, Stopwatch, in_a_line, read_totals, shares
from sc2jax.training.log_files import LogFiles


class Clock:
    def __init__(self, now: float = 1000.0) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


def test_a_moment_belongs_to_the_innermost_bucket():
    clock = Clock()
    watch = Stopwatch(clock)
    clock.now += 1
    with watch.spent(Bucket.STEP):
        clock.now += 2
        with watch.spent(Bucket.SAVE):
            clock.now += 4
            with watch.spent(Bucket.DATA):
                clock.now += 8
            clock.now += 16
        clock.now += 32
        assert watch.take() == {"other": 1, "step": 34, "save": 20, "data": 8}
        clock.now += 64
    clock.now += 128
    assert watch.take() == {"step": 64, "other": 128}
    assert watch.take() == {"other": 0}


def test_an_error_ends_its_bucket():
    clock = Clock()
    watch = Stopwatch(clock)
    with pytest.raises(KeyError), watch.spent(Bucket.RESTORE):
        clock.now += 3
        raise KeyError
    clock.now += 5
    assert watch.take() == {"restore": 3, "other": 5}


def test_buckets_come_to_the_time_that_passed():
    """However they are nested."""
    draw, clock = random.Random(1), Clock(0.0)
    watch = Stopwatch(clock)

    def nest(depth: int) -> None:
        clock.now += draw.randrange(8)
        for _ in range(draw.randrange(1, 4) if depth else 0):
            with watch.spent(draw.choice(list(Bucket))):
                nest(depth - 1)
            clock.now += draw.randrange(8)

    nest(5)
    taken = watch.take()
    assert sum(taken.values()) == clock.now > 100
    assert len(taken) > 4


def log_of(folder: Path, starts: list[tuple[int, list[tuple[int, float]], float]], *, ends: bool) -> GoodputLog:
    """The log of starts, each with the step it goes on from, (step reached, seconds) of its lines, and the time after.

    Of each line's seconds a quarter is waiting for data.
    """
    clock = Clock(5000.0)
    log = None
    for step, lines, away in starts:
        log = GoodputLog(LogFiles(str(folder)), "key", step, clock)
        for reached, seconds in lines:
            clock.now += seconds
            log.add(reached, {"step": 0.75 * seconds, "data": 0.25 * seconds})
        clock.now += away
    assert log is not None
    if ends:
        log.end(starts[-1][1][-1][0], {"save": 7.0})
    return log


def test_a_run_without_interruptions_loses_nothing(tmp_path):
    log = log_of(tmp_path, [(0, [(10, 40.0), (20, 60.0)], 0.0)], ends=True)
    assert log.totals() == {"step": 75, "data": 25, "save": 7}
    assert shares(log.totals())["step"] == pytest.approx(75 / 107)


def test_steps_after_the_checkpoint_are_lost_and_so_is_the_time_until_the_next_start(tmp_path):
    starts = [
        (0, [(10, 40.0), (20, 60.0)], 300.0),
        (10, [(20, 44.0), (30, 48.0), (40, 52.0)], 100.0),  # steps 11 to 20 were lost
        (30, [(40, 80.0)], 0.0),  # and 31 to 40
    ]
    found = log_of(tmp_path, starts, ends=True).totals()
    assert found == {
        "step": 0.75 * (40 + 44 + 48 + 80),
        "lost": 0.75 * (60 + 52),
        "data": 0.25 * (40 + 60 + 44 + 48 + 52 + 80),
        "away": 400,
        "save": 7,
    }
    assert math.fsum(shares(found).values()) == pytest.approx(1)


def test_a_line_across_the_checkpoint_is_lost_in_part(tmp_path):
    """An emergency save at step 13, in the middle of a line of 10 steps; later starts may go back further."""
    starts = [(0, [(10, 40.0), (20, 80.0)], 0.0), (13, [(20, 56.0)], 0.0), (5, [(6, 4.0)], 0.0)]
    found = log_of(tmp_path, starts[:2], ends=False).totals()
    assert found["lost"] == pytest.approx(0.75 * 80 * 7 / 10)
    assert found["step"] == pytest.approx(0.75 * (40 + 80 * 3 / 10 + 56))
    found = log_of(tmp_path / "further", starts, ends=False).totals()
    assert found["step"] == pytest.approx(0.75 * (20 + 4))
    assert found["step"] + found["lost"] == pytest.approx(0.75 * (40 + 80 + 56 + 4))


def test_time_after_the_last_step_of_a_line_goes_with_it(tmp_path):
    """A line may reach no further than the one before, where a run ended between two steps."""
    starts = [(0, [(20, 40.0), (20, 4.0)], 0.0), (20, [(30, 8.0)], 0.0)]
    assert "lost" not in log_of(tmp_path, starts, ends=False).totals()
    starts.append((10, [(20, 1.0)], 0.0))
    found = log_of(tmp_path / "further", starts, ends=False).totals()
    assert found["lost"] == 0.75 * (20 + 4 + 8)


def test_steps_are_counted_from_the_first(tmp_path):
    """Also where the first line of the file is gone."""
    Path(tmp_path, GOODPUT).write_text('{"at": 10.0, "seconds": {"step": 20.0}, "step": 10}\n')
    assert GoodputLog(LogFiles(str(tmp_path)), "key", 5, Clock(10.0)).totals() == {"step": 10, "lost": 10}


def test_before_the_first_checkpoint_all_is_lost(tmp_path):
    found = log_of(tmp_path, [(0, [(10, 40.0)], 0.0), (0, [(10, 40.0)], 0.0)], ends=False).totals()
    assert (found["lost"], found["step"]) == (30, 30)


def test_the_time_after_a_run_ended_is_not_its_time(tmp_path):
    """A complete run goes on later to more steps."""
    log_of(tmp_path, [(0, [(10, 40.0)], 0.0)], ends=True)
    log = GoodputLog(LogFiles(str(tmp_path)), "key", 10, Clock(1e9))
    log.add(20, {"step": 5.0})
    assert log.totals() == {"step": 35, "data": 10, "save": 7}


def test_a_clock_that_was_set_back_takes_no_time_away(tmp_path):
    GoodputLog(LogFiles(str(tmp_path)), "key", 0, Clock(5000.0)).add(1, {"step": 5.0})
    assert GoodputLog(LogFiles(str(tmp_path)), "key", 1, Clock(100.0)).totals() == {"step": 5}


def test_what_the_file_says_is_what_was_taken_down(tmp_path):
    log = log_of(tmp_path, [(0, [(10, 40.0)], 5.0), (0, [(10, 40.0)], 0.0)], ends=True)
    content = Path(tmp_path, GOODPUT).read_bytes()
    assert read_totals(str(tmp_path)) == log.totals()
    assert read_totals(str(tmp_path / "elsewhere")) == {}
    assert [sorted(json.loads(line)) for line in content.splitlines()] == [
        ["at", "key", "start"], ["at", "seconds", "step"],
        ["at", "key", "start"], ["at", "seconds", "step"], ["at", "seconds", "step"], ["at", "end"],
    ]  # fmt: skip


def test_another_run_in_the_same_folder_begins_anew(tmp_path):
    log_of(tmp_path, [(0, [(10, 40.0)], 5.0)], ends=False)
    log = GoodputLog(LogFiles(str(tmp_path)), "another key", 0, Clock())
    log.add(1, {"step": 1.0})
    assert log.totals() == {"step": 1}
    assert len(Path(tmp_path, GOODPUT).read_bytes().splitlines()) == 2


def test_a_line_that_was_cut_off_is_dropped(tmp_path):
    log_of(tmp_path, [(0, [(10, 40.0)], 5.0)], ends=False)
    path = Path(tmp_path, GOODPUT)
    path.write_bytes(path.read_bytes() + b'{"at": 6000.0, "seco')
    log = GoodputLog(LogFiles(str(tmp_path)), "key", 10, Clock(5045.0))
    assert log.totals() == {"step": 30, "data": 10, "away": 5}
    assert len(path.read_bytes().splitlines()) == 3


@pytest.mark.parametrize(
    "line",
    [b"{}", b"[]", b"nonsense", b'{"at": 1, "seconds": {"sleep": 1}, "step": 2}', b'{"at": 1, "key": 3, "start": 0}',
     b'{"at": 1, "seconds": {"step": -1}, "step": 2}', b'{"at": 1, "end": false}', b'{"at": 1, "end": true, "x": 1}'],
)  # fmt: skip
def test_a_damaged_line_is_named(tmp_path, line):
    Path(tmp_path, GOODPUT).write_bytes(line + b"\n")
    with pytest.raises(UserError, match=r"goodput\.jsonl, line 1, is damaged.*delete that file"):
        GoodputLog(LogFiles(str(tmp_path)), "key", 0)


def test_only_a_file_is_written_to(tmp_path):
    (tmp_path / "outside").write_text("mine\n")
    folder = tmp_path / "train"
    folder.mkdir()
    (folder / GOODPUT).symlink_to(tmp_path / "outside")
    with pytest.raises(UserError, match="link"):
        GoodputLog(LogFiles(str(folder)), "key", 0)
    assert (tmp_path / "outside").read_text() == "mine\n"


def test_a_line_for_readers():
    assert in_a_line({"step": 897.0, "lost": 3.0, "data": 100.0, "save": 0.1}) == (
        "goodput 89.7% (data 10.0%, lost 0.3%)"
    )
    assert in_a_line({"step": 9990.0, "save": 10.0, "data": 0.0}) == "goodput 99.9% (save 0.1%)"
    assert in_a_line({"step": 5.0}) == "goodput 100.0%"
    assert in_a_line({}) == "goodput 0.0%"
    assert shares({}) == {}
