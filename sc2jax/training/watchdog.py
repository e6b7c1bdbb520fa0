"""A watchdog over the training loop: where no step ends for long, it shows what each thread is at and ends the process.

A collective that waits for a host that is gone, a mount that answers no more: such a run would hold its devices for
ever and say nothing. What is allowed to take long (compiling, saving, restoring, evaluating) is not counted.
"""

import collections
import contextlib
import faulthandler
import os
import statistics
import threading
import time
from collections.abc import Callable, Iterator

STATUS = os.EX_TEMPFAIL
"""The status of a process that the watchdog ended: the same command may succeed when it is tried again."""

_MEDIANS = 10
"""How many times as long as usual a step may take."""

_REMEMBERED = 101
"""Steps whose times the median is taken of: enough to be steady, few enough to follow a run that changes."""

_LOOKS_EVERY = 1.0
"""Seconds between two looks at the clock."""

_STANDARD_ERROR = 2
"""The descriptor itself: Python's stream may be locked by a thread that hangs."""

_GRACE = 60.0
"""Seconds after which the interpreter's own watchdog acts in place of a thread that could not, for it got no turn."""


class Patience:
    """How long the loop may go on without a step: the longer of a minimum and ten medians of its steps' times."""

    def __init__(self, at_least: float, now: float) -> None:
        """Of at least so many seconds."""
        self._at_least, self._since = at_least, now
        self._times: collections.deque[float] = collections.deque(maxlen=_REMEMBERED)
        self._pauses = 0
        self._paused_at = now

    @property
    def limit(self) -> float:
        """Seconds that a step may take now."""
        return max(self._at_least, _MEDIANS * statistics.median(self._times) if self._times else 0.0)

    def ended(self, now: float) -> None:
        """Takes the end of a step."""
        self._times.append(now - self._since)
        self._since = now

    def pause(self, now: float) -> None:
        """Stops counting, until as many calls of `resume`."""
        if not self._pauses:
            self._paused_at = now
        self._pauses += 1

    def resume(self, now: float) -> None:
        """Goes on counting, as if no time had passed."""
        self._pauses -= 1
        if not self._pauses:
            self._since += now - self._paused_at

    def left(self, now: float) -> float | None:
        """Seconds until it is over, negative afterwards; None while time does not count."""
        return None if self._pauses else self._since + self.limit - now


class Watchdog:
    """Ends the process when patience is over. Use it as a context manager.

    The time during which the whole process was stopped, as by Ctrl-Z, counts as well: to other hosts it hangs.
    """

    def __init__(self, minutes: float, clock: Callable[[], float] = time.monotonic) -> None:
        """With patience of so many minutes at least; 0: it does nothing."""
        self._clock = clock
        self._patience = Patience(60 * minutes, clock())
        self._armed_at = clock()
        self._lock = threading.Lock()
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="sc2jax-watchdog", daemon=True) if minutes else None

    def step(self) -> None:
        """A step has ended."""
        with self._lock:
            now = self._clock()
            self._patience.ended(now)
            if now - self._armed_at >= _GRACE / 6:  # arming costs as much as a step of a tiny model
                self._arm()

    @contextlib.contextmanager
    def paused(self) -> Iterator[None]:
        """What runs inside may take as long as it takes."""
        with self._lock:
            self._patience.pause(self._clock())
            self._arm()
        try:
            yield
        finally:
            with self._lock:
                self._patience.resume(self._clock())
                self._arm()

    def __enter__(self) -> "Watchdog":
        if self._thread is not None:
            self._thread.start()
            self._arm()
        return self

    def __exit__(self, *_: object) -> None:
        if self._thread is not None:
            self._ending.set()
            self._thread.join()
            faulthandler.cancel_dump_traceback_later()

    def _arm(self) -> None:
        """Sets the interpreter's own watchdog, which needs no turn of any thread, to act later than ours would."""
        if self._thread is None:
            return
        self._armed_at = self._clock()
        left = self._patience.left(self._armed_at)
        if left is None:
            faulthandler.cancel_dump_traceback_later()
        else:
            faulthandler.dump_traceback_later(max(left, 0.0) + _GRACE, exit=True, file=_STANDARD_ERROR)

    def _watch(self) -> None:
        while not self._ending.wait(_LOOKS_EVERY):
            with self._lock:
                left, limit = self._patience.left(self._clock()), self._patience.limit
            if left is not None and left < 0:
                self._end(limit)

    def _end(self, limit: float) -> None:
        message = (
            f"no step has ended for {limit / 60:,.1f} minutes: the training hangs and is ended; what each thread was "
            "at stands below. The same command goes on from the newest checkpoint; training.watchdog_minutes is how "
            "long to wait\n"
        )
        os.write(_STANDARD_ERROR, message.encode())
        faulthandler.dump_traceback(file=_STANDARD_ERROR, all_threads=True)
        os._exit(STATUS)  # threads that hang would hold up any other way of ending
