"""The watchdog: its patience by hand, and real processes that hang."""

import subprocess
import sys
import time

import pytest

from sc2jax.training.watchdog import STATUS, Patience, Watchdog


def test_the_minimum_holds_until_ten_medians_are_longer():
    patience = Patience(600.0, 0.0)
    assert patience.left(0.0) == 600
    assert patience.left(601.0) == -1
    now = 0.0
    for seconds in (100.0, 30.0, 90.0):
        now += seconds
        patience.ended(now)
    assert patience.limit == 900  # ten times 90
    assert patience.left(now + 890.0) == 10
    for seconds in (20.0, 20.0):
        now += seconds
        patience.ended(now)
    assert patience.limit == 600  # ten times 30 are less


def test_the_median_is_that_of_the_last_steps():
    patience, now = Patience(1.0, 0.0), 0.0
    for seconds in [50.0] * 200 + [3.0] * 101:
        now += seconds
        patience.ended(now)
    assert patience.limit == 30


def test_a_pause_takes_no_time():
    patience = Patience(600.0, 0.0)
    patience.pause(100.0)
    assert patience.left(5000.0) is None
    patience.pause(200.0)
    patience.resume(5000.0)
    assert patience.left(9000.0) is None
    patience.resume(10_100.0)
    assert patience.left(10_100.0) == 500
    patience.ended(10_200.0)  # 100 s before the pause and 100 s after
    assert patience.limit == 2000


def test_an_error_ends_a_pause():
    now = [0.0]
    with Watchdog(10, clock=lambda: now[0]) as watchdog:
        with pytest.raises(KeyError), watchdog.paused():
            raise KeyError
        assert watchdog._patience.left(0.0) == 600


def test_none_is_none():
    with Watchdog(0) as watchdog:
        watchdog.step()
        with watchdog.paused():
            pass
    assert watchdog._thread is None


PROGRAM = """
import ctypes, sys, threading, time
from sc2jax.training import watchdog
watchdog._LOOKS_EVERY, watchdog._GRACE = 0.05, 1.0

def a_thread_that_waits():
    threading.Event().wait()

threading.Thread(target=a_thread_that_waits, daemon=True).start()
with watchdog.Watchdog(0.3 / 60) as dog:
    for _ in range(3):
        time.sleep(0.02)
        dog.step()
    if sys.argv[1] == "goes on":
        for _ in range(50):
            time.sleep(0.04)
            dog.step()
    elif sys.argv[1] == "pauses":
        with dog.paused():
            time.sleep(1.6)
        dog.step()
    elif sys.argv[1] == "holds":
        ctypes.PyDLL(None).usleep(20_000_000)  # keeps every other thread of the interpreter from running
    else:
        time.sleep(20)
print("over")
"""


def program(what: str) -> tuple[subprocess.CompletedProcess[str], float]:
    started = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, what], capture_output=True, text=True, check=False, timeout=60
    )
    return done, time.monotonic() - started


def test_a_loop_that_hangs_is_shown_and_ended():
    done, seconds = program("hangs")
    assert done.returncode == STATUS != 0
    assert seconds < 15
    assert done.stderr.startswith("no step has ended for 0.0 minutes: the training hangs and is ended")
    assert "a_thread_that_waits" in done.stderr and 'File "<string>"' in done.stderr
    assert not done.stdout


@pytest.mark.parametrize("what", ["pauses", "goes on"])
def test_what_is_paused_and_what_goes_on_may_take_long(what):
    """Longer than either watchdog waits."""
    done, _ = program(what)
    assert (done.returncode, done.stdout, done.stderr) == (0, "over\n", "")


def test_a_call_that_lets_no_thread_run_is_ended_all_the_same():
    done, seconds = program("holds")
    assert done.returncode not in (0, STATUS)
    assert seconds < 15
    assert "Timeout" in done.stderr and 'File "<string>"' in done.stderr
